"""Imported once by the engine's fork server: the slow imports of a training, and nothing that starts a thread
or touches CUDA, since neither survives a fork."""

import pytorch_lightning  # noqa: F401
import torchvision  # noqa: F401

import model.actions.train
import model.lightning  # noqa: F401
from model.ops import live

live("cpu")  # builds or loads the attention kernel, so that no trial has to

"""The seed of a training whose spec leaves it open: one number for all that draws, told and recorded."""

from __future__ import annotations

import copy
import os
import secrets
from pathlib import Path

from model import checkpoint as ckpt
from model.distributed import launched
from model.errors import UserError
from model.spec import Spec, get, put

DRAWN_BELOW = 2**31


def seeded(spec: Spec) -> Spec:
    """A full train spec with `train.seed` -1 replaced: by the seed of the training that it resumes, else by a new one,
    which is printed. Raises `UserError` where a launcher has started several processes: each would draw its own."""
    if spec["train"]["seed"] >= 0:
        return spec
    if _several(spec):
        raise UserError(
            "train.seed must be a number from 0 for several processes that a launcher has started, as each would draw "
            "its own, but got -1; draw one and give it to all"
        )
    seed, why = secrets.randbelow(DRAWN_BELOW), "drawn"
    resumed = spec["train"]["resume_training_checkpoint_path"]
    if resumed and Path(resumed).is_file():
        recorded = get(ckpt.load(resumed, spec["encryption_key"])["spec"], "train.seed", -1)
        seed, why = (recorded, "that of the checkpoint") if recorded >= 0 else (seed, why)
    print(f"train.seed: {seed} ({why})")
    changed = copy.deepcopy(spec)
    put(changed, "train.seed", seed)
    return changed


def _several(spec: Spec) -> bool:
    """Whether this process is, or will start, one of several that no common one precedes."""
    world = int(os.environ.get("WORLD_SIZE") or 1)
    return spec["train"]["num_nodes"] > 1 or (launched() and world > 1)

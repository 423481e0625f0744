"""How long a network will take from image file to boxes, batch 1, without building it: a sum over its parts of their
multiply-adds times what each part takes for one on this machine, and of its layers times what each takes however little
it has to do, learned from a few networks that were timed (`deploy/first_timing.py`).

Parts do not run at one speed (an encoder layer waits for memory, a convolution does not), so each has a rate of its
own; none is negative, and where the few timings leave one open (every network has the same backbone, say) it stays near
the rate of all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from model.spec import Spec, overlaid

PARTS = ("backbone", "encoder", "decoder")
STEPS = (
    1.5  # operators of a decoder layer in the exported graph, with its box head, for each of an encoder layer
)
TRUST = 0.05  # how firmly a rate stays near that of all, against one timing without error
POINT = 5  # multiply-adds of a sampled value: four neighbours and its weight


def predict(spec: Mapping[str, Any], timed: Mapping[str, Any]) -> float:
    """Milliseconds of a train spec's network; `timed`: see `first_timing.measure`."""
    full = overlaid("train", spec)
    return float(np.dot(timed["rates"], costs(full, size_of(full, timed["images"]), timed["projected"])))


def costs(full: Spec, size: tuple[int, int], projected: Mapping[str, float]) -> list[float]:
    """What the rates are of: once (reading, resizing and the rest), each layer, each billion multiply-adds of PARTS."""
    layers = full["model"]["enc_layers"] + STEPS * full["model"]["dec_layers"]
    return [1.0, layers, *multiply_adds(full, size, projected)]


def size_of(full: Spec, images: Sequence[Sequence[int]]) -> tuple[int, int]:
    """(H, W) px of the network's input, as `export` chooses it for images of these (H, W)."""
    from model.actions.export import FALLBACK
    from model.data.transforms import exact_size, usual_size

    return exact_size(full, "train") or usual_size(full, [(h, w) for h, w in images]) or FALLBACK


def multiply_adds(full: Spec, size: tuple[int, int], projected: Mapping[str, float]) -> tuple[float, ...]:
    """Billions of multiply-adds in each of PARTS. `projected`: those of the backbone known before, by `key_of`."""
    model, classes = full["model"], full["dataset"]["num_classes"]
    width, feed, queries = model["hidden_dim"], model["dim_feedforward"], model["num_queries"]
    cells = cells_of(model, size)
    samples = model["nheads"] * model["num_feature_levels"]
    heads = width * classes + 2 * width**2 + 4 * width
    layer = 2 * width**2 + 2 * width * feed
    encoder = cells * (layer + _sampled(width, samples * model["enc_n_points"], model["nheads"]))
    decoder = queries * (
        layer + 3 * width**2 + _sampled(width, samples * model["dec_n_points"], model["nheads"])
    )
    decoder += queries * heads + 2 * width * queries**2 + cells * width**2
    once = cells * (width**2 + heads) if model["two_stage"] else 0
    key = key_of(full, size)
    backbone = projected[key] if key in projected else projected_of(key)
    return backbone + once / 1e9, model["enc_layers"] * encoder / 1e9, model["dec_layers"] * decoder / 1e9


def _sampled(width: int, points: int, heads: int) -> float:
    """Of one query's deformable attention: where and how much it looks, and the look."""
    return 3 * width * points + POINT * points * width / heads


def cells_of(model: Mapping[str, Any], size: tuple[int, int]) -> int:
    """Cells of all levels of the feature maps of an input (H, W)."""
    halved = {stage: int(model["dilation"] and stage >= 3) for stage in model["return_interm_indices"]}
    strides = [4 * 2 ** (stage - halved[stage]) for stage in halved]
    return sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in strides)


def key_of(full: Spec, size: tuple[int, int]) -> str:
    """What the multiply-adds of the backbone and the projections follow from."""
    model = full["model"]
    names = ("backbone", "return_interm_indices", "num_feature_levels", "dilation", "hidden_dim")
    return json.dumps([*(model[name] for name in names), *size])


@lru_cache
def projected_of(key: str) -> float:
    """Billions of multiply-adds of backbone and projections by `key_of`, counted on tensors without values."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from model.detector import DeformableDETR

    backbone, stages, levels, dilation, width, *size = json.loads(key)
    model = {
        "backbone": backbone,
        "return_interm_indices": stages,
        "num_feature_levels": levels,
        "dilation": dilation,
    }
    small = {"hidden_dim": width, "nheads": 1, "enc_layers": 1, "dec_layers": 1}
    full = overlaid("train", {"model": model | small | {"backbone_norm": "batch"}})
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counted:
        DeformableDETR(full).eval().project(torch.empty(1, 3, *size))
    return counted.get_total_flops() / 2e9


def rates_of(each: Sequence[Sequence[float]], ms: Sequence[float]) -> list[float]:
    """Milliseconds for each of the `costs`, none below 0, of networks with those of `each` and what each took. The
    error in per cent is made least."""
    from scipy.optimize import nnls

    known, taken = np.array(each), np.array(ms)
    parts = known[:, -len(PARTS) :]
    of_all = float(np.median(taken / parts.sum(1)))
    towards = np.c_[np.zeros((len(PARTS), known.shape[1] - len(PARTS))), TRUST * np.eye(len(PARTS)) / of_all]
    wanted = np.r_[np.ones(len(taken)), np.full(len(PARTS), TRUST)]
    return [float(rate) for rate in nnls(np.concatenate([known / taken[:, None], towards]), wanted)[0]]

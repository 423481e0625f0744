"""Checkpoint files: what is inside, how one is written whole, read safely and checked against a spec.

The file is Lightning's own (so that a training can go on from it) with three entries of ours beside it:
`spec` (the full train spec), `classes` ([{"id", "name"}]) and `metrics` (of the epoch that wrote it).
Only tensors and plain Python values are in it: `torch.load(weights_only=True)` reads all of it. With
`encryption_key` the whole file is encrypted (`model/encryption.py`).
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.spec import architecture_differences, get

LATEST = "dd_model_latest.pth"
PREFIX = "model."  # the LightningModule holds the detector under this name
AVERAGE = "ema.module."  # and its moving average under this one


def file_name(epoch: int, step: int) -> str:
    """`model_epoch_007_step_00420.pth` for 0-based epoch 7 and 420 optimizer steps."""
    return f"model_epoch_{epoch:03d}_step_{step:05d}.pth"


def load(path: str | Path, key: str = "") -> dict[str, Any]:
    """Read a checkpoint of ours onto the CPU; `key` is the `encryption_key` it was written with, if any.

    Returns its entries with `state_dict` holding the detector's own parameter names (no `model.` prefix).
    Raises `UserError` when the file is missing, unreadable, encrypted or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        checkpoint = read(path, key)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: not a readable checkpoint ({_first_line(error)})") from None
    if not isinstance(checkpoint, dict) or not {"state_dict", "spec"} <= set(checkpoint):
        raise UserError(f"{path}: holds no spec; load foreign weights through train.pretrained_model_path")
    return checkpoint | {"state_dict": of_detector(checkpoint["state_dict"])}


def read(path: str | Path, key: str = "", map_location: Any = "cpu") -> Any:
    """What torch finds in a file, encrypted or not; tensors and plain values only."""
    import torch

    from model.encryption import decrypt, is_encrypted

    source: Any = io.BytesIO(decrypt(path, key)) if is_encrypted(path) else path
    return torch.load(source, map_location=map_location, weights_only=True)


def of_detector(state: Mapping[str, Any]) -> dict[str, Any]:
    """The detector's own weights in the LightningModule's: their moving average where there is one."""
    prefix = AVERAGE if any(key.startswith(AVERAGE) for key in state) else PREFIX
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def check_spec(checkpoint: Mapping[str, Any], spec: Mapping[str, Any], where: str = "checkpoint") -> None:
    """Raise `UserError` listing the architecture-shaping leaves in which the recorded spec and `spec` differ."""
    differences = architecture_differences(checkpoint["spec"], spec)
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise UserError(
            f"{where} was trained with another architecture (leaf: in checkpoint, in spec):\n{lines}"
        )


def build_from(path: str | Path, spec: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(detector in eval mode with the checkpoint's weights, checkpoint), after `check_spec`."""
    from model.backbone import norm_of
    from model.build import build_model

    checkpoint = load(path, spec.get("encryption_key", ""))
    check_spec(checkpoint, spec, str(path))
    recorded = copy.deepcopy(checkpoint["spec"])
    # Its norm layers were settled by the pretrained files of that time, which need not be here any more.
    recorded["model"]["backbone_norm"] = norm_of(recorded)
    recorded["model"]["pretrained_backbone_path"] = ""
    recorded["model"]["exact_padding"] = get(spec, "model.exact_padding", False)  # no matter of the weights
    detector = build_model(recorded)
    detector.load_state_dict(checkpoint["state_dict"], strict=True)
    return detector.eval(), checkpoint


def link_latest(path: Path) -> None:
    """Point `dd_model_latest.pth` beside `path` at it, never leaving a moment without a link."""
    temporary = path.parent / f".{LATEST}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(path.name)
    temporary.replace(path.parent / LATEST)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

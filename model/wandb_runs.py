"""Weights & Biases for a training by itself, as the `wandb` section of a spec asks for it."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

TAKEN = ("project", "entity", "group", "name", "tags", "reinit", "save_code", "sync_tensorboard")


def lacking(spec: Mapping[str, Any]) -> str:
    """Why a spec that asks for it will log nothing there; "" where it will, or does not ask."""
    if not spec["wandb"]["enable"]:
        return ""
    if not find_spec("wandb"):
        what = "wandb is not installed (pip install wandb)"
    elif _has_key():
        return ""
    else:
        what = "nobody is logged in (wandb login, WANDB_API_KEY, or WANDB_MODE=offline)"
    return f"wandb.enable is true, but {what}: nothing is logged there"


def _has_key() -> bool:
    """`wandb login` keeps its key in netrc; offline none is needed."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def logger(spec: Mapping[str, Any], folder: str) -> Any:
    """Lightning's W&B logger, which keeps its files in `folder`; False where nothing is logged, which is said."""
    if why := lacking(spec):
        print(f"warning: {why}")
    if why or not spec["wandb"]["enable"]:
        return False
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    options: dict[str, Any] = {name: spec["wandb"][name] or None for name in TAKEN}
    options["settings"] = wandb.Settings(
        x_disable_meta=True
    )  # else the command line goes there, with what it holds
    return WandbLogger(save_dir=folder, id=spec["wandb"]["run_id"] or None, **options)

"""Checkpoint files: what is inside, how one is written whole, read safely and checked against a spec.

The file is Lightning's own (so that a training can go on from it) with five entries of ours beside it:
`spec` (the full train spec), `classes` ([{"id", "name"}]), `metrics` (of the epoch that wrote it),
`validated_size` ([H, W] px that most validation images had, or None) and `mid_epoch` (see `model/mid_epoch.py`).
Only tensors and plain Python values are in it: `torch.load(weights_only=True)` reads all of it. With
`encryption_key` the whole file is encrypted (`model/encryption.py`).
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import os
import re
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.errors import FULL, DamagedCheckpoint, ModelError, UserError
from model.parameters import MANDATORY, MODEL_FILES, of_action
from model.spec import Spec, architecture_differences, get, leaves, put
from model.status import write_whole

LATEST = "dd_model_latest.pth"
PREFIX = "model."  # the LightningModule holds the detector under this name
AVERAGE = "ema.module."  # and its moving average under this one


def file_name(epoch: int, step: int) -> str:
    """`model_epoch_007_step_00420.pth` for 0-based epoch 7 and 420 optimizer steps."""
    return f"model_epoch_{epoch:03d}_step_{step:05d}.pth"


class Foreign(UserError):
    """A file of weights that says nothing of its network, as TAO's and the published ones are."""


def load(path: str | Path, key: str = "") -> dict[str, Any]:
    """Read a checkpoint of ours onto the CPU; `key` is the `encryption_key` it was written with, if any.

    Returns its entries with `state_dict` holding the detector's own parameter names (no `model.` prefix).
    Raises `UserError` when the file is missing, unreadable or encrypted, and `Foreign` when it is not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    checkpoint = read(path, key)
    if not isinstance(checkpoint, dict) or not {"state_dict", "spec"} <= set(checkpoint):
        raise Foreign(f"{path}: holds no spec; load foreign weights through train.pretrained_model_path")
    refuse_damaged(path)
    return checkpoint | {"state_dict": of_detector(checkpoint["state_dict"])}


def read(path: str | Path, key: str = "", map_location: Any = "cpu") -> Any:
    """What torch finds in a file, encrypted or not; tensors and plain values only. Raises `UserError` for a file that
    it cannot read so, or not without its key."""
    import torch

    from model.encryption import decrypt, is_encrypted

    source: Any = io.BytesIO(decrypt(path, key)) if is_encrypted(path) else path
    try:
        return torch.load(source, map_location=map_location, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):  # no word on the file
        raise
    except Exception as error:
        raise DamagedCheckpoint.of(Path(path), f"not a readable weights file ({said(error)})") from None


def said(error: Exception) -> str:
    """An error of reading in words; torch's own advise to load what may run code, and some are a number."""
    text = textwrap.shorten((str(error).splitlines() or [""])[0], 200, placeholder=" ...")
    if "weights_only" in text or "Weights only" in text or not re.search("[a-z]", text):
        return "it holds something else than tensors, or is damaged"
    return text


def damaged_record(path: Path) -> str | None:
    """What in a file of torch's does not fit its checksum; None where all does, and of other kinds of files."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except Exception:  # of a head that is no head, zipfile raises many kinds
        return "a head"


def refuse_damaged(path: Path) -> None:
    """Raise `DamagedCheckpoint` where one of ours is not what was written, byte by byte: torch compares no checksums.
    An encrypted one cannot be read damaged."""
    if record := damaged_record(path):
        raise DamagedCheckpoint.of(
            path,
            f"is damaged ({record} in it does not fit its checksum); copy it again from where it was trained",
        )


@contextlib.contextmanager
def setting_aside(folder: Path) -> Iterator[None]:
    """Take a damaged checkpoint out of the way where it is one of the training's own, in its `folder`: started again,
    as automl does once, it goes on from an earlier one or begins anew. Raises `ModelError` then."""
    try:
        yield
    except DamagedCheckpoint as error:
        if error.path is None or error.path.parent.resolve() != folder.resolve():
            raise
        aside = error.path.with_name(f"{error.path.name}.damaged")
        with contextlib.suppress(OSError):
            error.path.rename(aside)
        raise ModelError(f"{error}; it is called {aside.name} now") from None


def of_detector(state: Mapping[str, Any]) -> dict[str, Any]:
    """The detector's own weights in the LightningModule's: their moving average where there is one."""
    prefix = AVERAGE if any(key.startswith(AVERAGE) for key in state) else PREFIX
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def check_spec(checkpoint: Mapping[str, Any], spec: Mapping[str, Any], where: str = "checkpoint") -> None:
    """Raise `UserError` listing the architecture-shaping leaves in which the recorded spec and `spec` differ."""
    differences = architecture_differences(checkpoint["spec"], spec)
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        theirs = get(checkpoint["spec"], "train.recipe", "default")
        recipe = f"\nit was trained with train.recipe={theirs}, which sets many of these; set that too"
        told = "" if theirs in ("default", get(spec, "train.recipe", theirs)) else recipe
        raise UserError(
            f"{where} was trained with another architecture (leaf: in checkpoint, in spec):\n{lines}{told}"
        )


def complete(action: str, partial: Mapping[str, Any]) -> Spec:
    """A partial spec with the `model.*` and `dataset.*` leaves, and the input size, of the checkpoint that it names,
    under what it says itself; a foreign one says none. A folder in place of the checkpoint becomes the best one in it,
    which is printed. Raises `UserError` for a folder without one and a file that cannot be read."""
    full = copy.deepcopy(dict(partial))
    key = f"{action}.{MODEL_FILES[action][-1]}"
    text = get(partial, key)
    if not isinstance(text, str) or text in ("", MANDATORY):
        return full
    if Path(text).is_dir():
        path, what = best_in(Path(text))
        print(f"{key}: {text} -> {path} ({what})")
        put(full, key, str(path))
    if Path(str(get(full, key))).suffix != ".pth" or not Path(str(get(full, key))).is_file():
        return full  # what is missing is left to the action to tell
    try:
        recorded = load(get(full, key), get(partial, "encryption_key", "") or "")["spec"]
    except Foreign:
        return full
    params = {p.name: p for p in of_action(action)}
    given = dict(leaves(partial, params))
    said = {n: v for n, v in leaves(recorded, params) if n in params and n.startswith(("model.", "dataset."))}
    said = {n: v for n, v in said.items() if not params[n].dead}  # which earlier versions let pass
    sides = ("input_height", "input_width")
    if not any(get(partial, f"{action}.{side}") for side in sides):  # half of another's size is none
        for side in sides:
            if f"{action}.{side}" in params and get(recorded, f"train.{side}"):
                said[f"{action}.{side}"] = get(recorded, f"train.{side}")
    for name, value in said.items():
        if name not in given:
            put(full, name, copy.deepcopy(value))
    return full


def best_in(folder: Path) -> tuple[Path, str]:
    """(the checkpoint that scored best, what it scored) in the folder of a run, a trial or a training. Raises
    `UserError` when there is none."""
    winner = folder / "best" / "model.pth"
    # A trial's folder is its number; what else lies there (copies, what was set aside) is of none.
    trials = [path for path in sorted(folder.glob("trials/*/metrics.jsonl")) if path.parent.name.isdecimal()]
    if winner.is_file() and all(t.stat().st_mtime <= winner.stat().st_mtime for t in trials):
        return winner, "the winner of the run"
    if (folder / "model.pth").is_file():
        return folder / "model.pth", "the winner of the run"
    metric, maximize = _metric_of(folder)
    found = [
        (float(record[metric]), path.parent / record["checkpoint"], record["epoch"])
        for path in (folder / "metrics.jsonl", folder / "train" / "metrics.jsonl", *trials)
        for record in records(path)
        if isinstance(record.get(metric), (int, float)) and record.get("checkpoint")
    ]
    there = [row for row in found if row[1].is_file()]
    if not there:
        raise UserError(
            f"{folder}: holds no checkpoint that was validated; name the folder of a run, a trial or a training"
        )
    value, path, epoch = max(there, key=lambda row: row[0] if maximize else -row[0])  # of equals the first
    best = max(value for value, *_ in found) if maximize else min(value for value, *_ in found)
    gone = "" if value == best else f"; {metric} {best:.4f} was reached, but its checkpoint is gone"
    return path, f"epoch {int(epoch) + 1}, {metric} {value:.4f}{gone}"


def _metric_of(folder: Path) -> tuple[str, bool]:
    """(what the run was searched by, whether more is better); a training's own is val_mAP."""
    for place in (folder, folder.parent.parent):
        if (place / "run.json").is_file():
            document = json.loads((place / "run.json").read_text())
            earlier = {"name": document.get("request", {}).get("metric") or "val_mAP", "maximize": True}
            metric = document.get("metric") or earlier
            return str(metric["name"]), bool(metric["maximize"])
    return "val_mAP", True


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl that belong to one training, by rising epochs: where a later line has an epoch once
    more, the training was resumed before it or begun anew, and what stood from there on is no more."""
    found: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:  # the last may be half written
            continue
        if not isinstance(record, dict) or not isinstance(record.get("epoch"), (int, float)):
            continue
        while found and found[-1]["epoch"] >= record["epoch"]:
            found.pop()
        found.append(record)
    return found


def make_room(folder: Path, resumed: str | Path | None) -> Path | None:
    """Move what an earlier training has recorded in a folder into one below it, for the checkpoints and lines of two
    cannot be told apart; not where the one that begins is `resumed` from a checkpoint of that folder. Returns where
    they are now, None where there was nothing to move. A folder without a line is left as it is: what the engine
    restarts has none, and it looks after the checkpoints itself."""
    if not records(folder / "metrics.jsonl"):
        return None
    if resumed and any(p.parent.samefile(folder) for p in (Path(resumed), Path(resumed).resolve())):
        return None
    places = (folder / f"earlier_{n}" for n in itertools.count(1))
    place = next(place for place in places if not place.exists())
    place.mkdir()
    for path in [*folder.glob("model_epoch_*.pth"), folder / LATEST, folder / "metrics.jsonl"]:
        if os.path.lexists(path):
            path.rename(place / path.name)
    return place


def write(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all. Raises `ModelError` where its disk has no room for it."""
    try:
        write_whole(path, data)
    except OSError as error:
        if error.errno not in FULL:
            raise
        megabytes = len(data) / 1e6
        raise ModelError(f"no space left for {path}, which needs {megabytes:.0f} MB") from None


def link_latest(path: Path) -> None:
    """Point `dd_model_latest.pth` beside `path` at it, never leaving a moment without a link."""
    temporary = path.parent / f".{LATEST}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(path.name)
    temporary.replace(path.parent / LATEST)

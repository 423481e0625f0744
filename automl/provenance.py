"""What a result came from: versions, commit, checksums."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import __version__
from automl.errors import UserError
from automl.forms import COUNT, COUNT_OR_NULL, TEXT_OR_NULL, fits

if TYPE_CHECKING:
    from automl.study import TrialResult

FILE, LARGEST = "provenance.json", 1 << 20  # bytes
MEASURED = "measured"

PACKAGES = ("optuna", "ray")

_FORM = {
    "type": "object",
    "properties": {
        "trial": COUNT,
        "epoch": COUNT,
        "value": {"type": "number"},
        "checkpoint": TEXT_OR_NULL,
        "checkpoint_epoch": COUNT_OR_NULL,
        "checkpoint_sha256": TEXT_OR_NULL,
        "later": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        MEASURED: {"type": "object"},
    },
}

UNKNOWN = "unknown"  # a commit that git could not tell


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Python, the engine, the packages that matter to it and to the model, and the git commit of a checkout."""
    found = {"python": platform.python_version(), "automl": __version__}
    for package in (*PACKAGES, *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    commit = git_commit(Path(__file__).resolve().parent.parent)
    return found | ({"git": commit} if commit else {})


def git_commit(here: Path) -> str | None:
    """`<sha>` or `<sha>-dirty` of the checkout at `here`; None where there is none, as of an installed package;
    `UNKNOWN` where git cannot say."""
    if not (here / ".git").exists():
        return None
    words = ("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    try:  # also of a checkout of another owner, as a container mounts one: nothing of it is run
        done = subprocess.run(
            ["git", "-c", f"safe.directory={here}", "-C", str(here), *words],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN


def read(folder: Path) -> dict[str, Any]:
    """What the provenance.json of a handed-over folder says; empty where there is none of its form."""
    from automl.documents import load_json  # brings YAML, which studies that ask only `versions` may lack

    try:
        found = load_json(folder / FILE, LARGEST)
    except (OSError, UserError):
        return {}
    return found if fits(_FORM, found) else {}


def is_whole(found: Mapping[str, Any]) -> bool:
    """Whether the hand-over came to its end: what the stages measured is written last."""
    return MEASURED in found


def is_of(found: Mapping[str, Any], result: TrialResult) -> bool:
    """Whether it speaks of this trial at this epoch."""
    return (found.get("trial"), found.get("epoch")) == (result.number, result.epoch)


def sha256(path: Path) -> str:
    """Of a file's bytes; of a folder's files, each with its name, in order."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            if file != path:
                digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def held(best: Path) -> dict[tuple[int, int, float], tuple[Path, int | None]]:
    """(trial, epoch, value) -> (the checkpoint that `best` holds of it, the epoch that is in the file, None where
    nobody knows), if that is what was handed over: what lies in the trial's folder may have been tidied up or damaged
    since. Earlier versions did not tell the file's epoch."""
    before = read(best)
    try:
        path = best / before["checkpoint"]
        whole = before["checkpoint_sha256"] == sha256(path)
        told = before.get("checkpoint_epoch", before["epoch"])
        return {(before["trial"], before["epoch"], before["value"]): (path, told)} if whole else {}
    except (OSError, KeyError, TypeError):
        return {}

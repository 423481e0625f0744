"""What a result came from: versions, commit, checksums."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "detr-automl",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "optuna",
    "ray",
    "onnx",
    "onnxruntime",
)


def versions() -> dict[str, str]:
    """Python, the packages that matter, and the git commit of a checkout."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    commit = git_commit()
    return found | ({"git": commit} if commit else {})


def git_commit() -> str | None:
    """`<sha>` or `<sha>-dirty` of the checkout this package lives in; None for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""Image sources: a folder stays where it is, an archive is unpacked once into a private cache shared by all runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from filelock import FileLock

from model.errors import UserError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
MAX_FILES = 5_000_000
MAX_BYTES = 2 << 40  # unpacked


def is_archive(path: str | Path) -> bool:
    return str(path).lower().endswith(ARCHIVES)


def cache_dir() -> Path:
    """`$DETR_CACHE_DIR`, else `~/.cache/deformable_detr`; readable by its owner alone."""
    root = Path(os.environ.get("DETR_CACHE_DIR") or Path.home() / ".cache" / "deformable_detr")
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


def stage(path: str | Path) -> Path:
    """The folder that holds a source's images; an archive is unpacked under its content's SHA-256, by one process
    while others wait. Raises `UserError` when the source is missing, broken or tries to leave its folder."""
    path = Path(path)
    if path.is_dir():
        return path
    if not path.is_file():
        raise UserError(f"{path}: no such image folder or archive{_what_is_there(path)}")
    if not is_archive(path):
        raise UserError(f"{path}: an image source must be a folder or one of {', '.join(ARCHIVES)}")
    target = cache_dir() / _digest(path)
    if target.is_dir():
        return target
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
            try:
                _unpack(path, partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


def _unpack(path: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                _check_size(path, [info.file_size for info in archive.infolist()])
                archive.extractall(folder)  # zipfile drops absolute paths and `..` itself
        else:
            with tarfile.open(path) as archive:
                members = archive.getmembers()
                _check_size(path, [member.size for member in members])
                archive.extractall(folder, members, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{path}: cannot be unpacked ({error})") from None


def _check_size(path: Path, sizes: list[int]) -> None:
    if len(sizes) > MAX_FILES or sum(sizes) > MAX_BYTES:
        raise UserError(f"{path}: {len(sizes)} files of {sum(sizes)} bytes are more than is unpacked")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def _what_is_there(path: Path) -> str:
    if not path.parent.is_dir():
        return f" ({path.parent} does not exist)"
    names = sorted(p.name for p in path.parent.iterdir())[:8]
    return f" ({path.parent} has {', '.join(names) or 'nothing'})"

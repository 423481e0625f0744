"""Where data lie: a folder stays where it is; an archive is unpacked, and what a URL names is fetched, once, into a
private cache that all trials and runs share."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from model.data.cache import LARGER, cache_dir, came_from, is_full, once
from model.errors import NotRunnable, UserError

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
THREADS = 8
SINGLE = (".json", ".yaml", ".yml")  # files that describe a dataset
MAX_FILES = 5_000_000
MAX_BYTES = 2 << 40  # unpacked
UNITS = {1 << 30: "GiB", 1 << 20: "MiB", 1 << 10: "KiB"}


def is_archive(path: str | Path) -> bool:
    return str(path).lower().endswith(ARCHIVES)


def is_url(path: str | Path) -> bool:
    """Whether fsspec must fetch it, such as s3://bucket/images."""
    return "://" in str(path)


def stage(source: str | Path) -> Path:
    """The local folder of a source: a folder, an archive, or the URL of either. An archive is unpacked under its
    content's SHA-256, by one process while others wait. Raises `UserError` when the source is missing, broken or
    tries to leave its folder."""
    path = fetch(str(source)) if is_url(source) else Path(source)
    if path.is_dir():
        return path
    if not path.is_file():
        raise UserError(f"{path}: no such image folder or archive{_what_is_there(path)}")
    if not is_archive(path):
        raise UserError(f"{source}: an image source must be a folder or one of {', '.join(ARCHIVES)}")
    return unpacked(path)


def unpacked(path: Path) -> Path:
    """The folder of an archive's content, unpacked once. Raises `UserError` when it is broken or unsafe."""
    target = once(cache_dir() / digest(path)[:32], lambda partial: _unpack(path, partial))
    return came_from(target, path)


def stage_dataset(source: str | Path) -> Path:
    """A whole dataset as a local folder, or as a single file in its folder; given as either, as an archive (told by
    its content where its name does not say so), or as the URL of any. Raises `UserError`."""
    if is_url(source):
        url = str(source).rstrip("/")
        if urlsplit(url).path.lower().endswith(SINGLE):  # what it names lies around it
            return fetch(url.partition("?")[0].rpartition("/")[0]) / _last(url)
        path = fetch(url)
    else:
        path = Path(source)
    if not path.exists():
        raise UserError(f"{without_secrets(source)}: no such folder or file{_what_is_there(path)}")
    if not path.is_dir() and not path.is_file():
        raise UserError(
            f"{without_secrets(source)}: a dataset must be a folder or a regular file, no pipe or device"
        )
    if path.is_dir() or path.suffix.lower() in SINGLE:
        return path
    if is_archive(path) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return unpacked(path)
    raise UserError(
        f"{without_secrets(source)}: a dataset must be a folder, an archive ({', '.join(ARCHIVES)}), a COCO file "
        "or a data.yaml"
    )


def stage_file(source: str | Path) -> Path:
    """A single file as a local path, fetched where it is a URL."""
    return fetch(str(source)) if is_url(source) else Path(source)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return _digest(path, "sha256")


def _digest(path: Path, algorithm: str) -> str:
    found = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


# ---- archives -------------------------------------------------------------------------------------------------


def _unpack(path: Path, folder: Path) -> None:
    try:
        if path.name.lower().endswith(".zip") or zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
                _check_size(path, [info.file_size for info in infos], folder)
                for info in infos:
                    _check_name(path, info.filename)
                    info.filename = info.filename.replace("\\", "/")  # as some programs of Windows write it
                    archive.extract(info, folder)
        else:
            with tarfile.open(path) as archive:
                members = archive.getmembers()
                _check_size(path, [member.size for member in members], folder)
                archive.extractall(folder, members, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        if is_full(error):
            raise
        raise UserError(
            f"{path}: cannot be unpacked ({error}); is it whole? Copy or download it again"
        ) from None


def _check_name(source: str | Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"{source}: cannot be unpacked ('{name}' would leave its folder)")


def _check_size(source: str | Path, sizes: list[int], folder: Path) -> None:
    total, free = sum(sizes), shutil.disk_usage(folder).free
    if len(sizes) > MAX_FILES or total > MAX_BYTES:
        raise UserError(f"{source}: {len(sizes)} files of {total} bytes are more than is unpacked")
    if total > free:
        needed, left = _apart(total, free)
        raise UserError(f"{source}: needs {needed}, but {folder.parent} has {left} free; {LARGER}")


def _apart(*sizes: int) -> list[str]:
    """Two numbers of bytes that differ, in the largest unit in which they look so."""
    for bytes_each, unit in UNITS.items():
        texts = [f"{size / bytes_each:.1f} {unit}" for size in sizes]
        if len({*texts}) == len(sizes):
            return texts
    return [f"{size} bytes" for size in sizes]


def _what_is_there(path: Path) -> str:
    if not path.parent.is_dir():
        return f" ({path.parent} does not exist)"
    names = sorted(p.name for p in path.parent.iterdir())[:8]
    return f" ({path.parent} has {', '.join(names) or 'nothing'})"


# ---- URLs -------------------------------------------------------------------------------------------------------


def fetch(url: str) -> Path:
    """The local copy of a file or folder that fsspec can reach, such as s3://bucket/train.

    Kept under a digest of the listing (names, sizes, checksums or times), so that changed data are fetched anew and
    the same data never twice. Raises `UserError` when there is nothing, or when a file arrives damaged.
    """
    files, system = _listing(url)
    name = hashlib.sha256(json.dumps([url, files], sort_keys=True).encode()).hexdigest()[:32]
    target = once(cache_dir() / "remote" / name, lambda partial: _download(url, files, system, partial))
    came_from(target, without_secrets(url).rstrip("/"))
    return target / _last(url) if set(files) == {""} else target


def without_secrets(url: str | Path) -> str:
    """A URL as it may be shown: without user, password and query, where keys stand."""
    if not is_url(url):
        return str(url)
    parts = urlsplit(str(url))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _last(url: str) -> str:
    """The name of the file that a URL leads to."""
    return unquote(PurePosixPath(urlsplit(url).path).name) or "download"


def _listing(url: str) -> tuple[dict[str, dict[str, Any]], Any]:
    """({path below the URL, "" for the URL itself: {"size", "tag"}}, the file system)."""
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(url)
        if hasattr(system, "invalidate_cache"):
            system.invalidate_cache()
        web = url.startswith(("http://", "https://"))
        found = _web_listing(root, system) if web else system.find(root, detail=True)
    except ImportError as error:
        protocol = url.partition("://")[0]
        hint = {"s3": ": pip install 'detr-automl[s3]'"}.get(protocol, "")
        raise NotRunnable(
            f"{without_secrets(url)}: {protocol}:// needs a package that is not here{hint} ({error})"
        ) from None
    except Exception as error:  # every protocol has errors of its own
        # Of a server that does not answer fsspec says that the file is not there.
        told = error.__cause__ if isinstance(error.__cause__, OSError) else error
        reason = str(told).replace(url, without_secrets(url))
        raise UserError(
            f"{without_secrets(url)}: cannot be read; see that the address is right and its server answers "
            f"({type(told).__name__}: {reason})"
        ) from None
    files = {}
    for path, info in found.items():
        below = path.removeprefix(root).lstrip("/")
        below = unquote(below) if web else below
        if info.get("type") == "file" and not path.endswith("/"):
            tag = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified")
            size = info.get("size")  # None where a server does not tell
            files[below] = {
                "size": None if size is None else int(size),
                "tag": str(tag).strip('"'),
                "path": path,
            }
    if not files:
        raise UserError(f"{without_secrets(url)}: nothing is there")
    return files, system


def _web_listing(root: str, system: Any) -> dict[str, dict[str, Any]]:
    """What a web server tells of a file, or of every file of a folder for which it writes a page of links."""
    info = system.info(root)
    if info.get("mimetype") != "text/html":
        return {root: info | {"type": "file"}}
    paths = [path for path in system.find(root) if "?" not in path]
    with ThreadPoolExecutor(THREADS) as pool:
        return {
            path: info | {"type": "file"}
            for path, info in zip(paths, pool.map(system.info, paths), strict=True)
        }


def _download(url: str, files: dict[str, dict[str, Any]], system: Any, folder: Path) -> None:
    _check_size(without_secrets(url), [info["size"] or 0 for info in files.values()], folder)
    for below in files:
        _check_name(without_secrets(url), below)
    targets = [folder / (below or _last(url)) for below in files]
    for parent in {target.parent for target in targets}:
        parent.mkdir(parents=True, exist_ok=True)
    try:
        system.get([info["path"] for info in files.values()], [str(target) for target in targets])
        for target, info in zip(targets, files.values(), strict=True):
            _check_arrived(without_secrets(url), target, info, system)
    except UserError:
        raise
    except Exception as error:
        if is_full(error):
            raise
        reason = str(error).replace(url, without_secrets(url))
        raise UserError(
            f"{without_secrets(url)}: cannot be fetched ({type(error).__name__}: {reason})"
        ) from None


def _check_arrived(url: str, path: Path, info: dict[str, Any], system: Any) -> None:
    """Size, and content where the tag is an MD5. It need not be one (multipart, encrypted buckets), so a file that
    differs is fetched again: damage would hardly strike twice in the same way."""
    if info["size"] is not None and path.stat().st_size != info["size"]:
        raise UserError(f"{url}: {path.name} arrived with {path.stat().st_size} of {info['size']} bytes")
    tag = info["tag"].lower()
    if len(tag) != 32 or not set(tag) <= set("0123456789abcdef"):
        return
    if _digest(path, "md5") == tag:
        return
    first = digest(path)
    system.get_file(info["path"], str(path))
    if digest(path) != first:
        raise UserError(f"{url}: {path.name} arrives damaged")

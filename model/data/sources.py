"""Where data lie: a folder stays where it is; an archive is unpacked, and what a URL names is fetched, once, into a
private cache that all trials and runs share."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from model.data.archives import (
    ARCHIVES,
    Damaged,
    check_name,
    check_size,
    has_content_of_one,
    is_archive,
    unpack,
)
from model.data.cache import cache_dir, came_from, is_full, once
from model.errors import NotRunnable, UserError
from model.told import at

THREADS = 8
# What changes with a file's content.
TAGS = ("ETag", "etag", "mtime", "LastModified", "Content-MD5", "Last-Modified")
CONNECT_S, SILENT_S = 30.0, 120.0  # for a web server to answer, and from one part of an answer to the next
REFUSED = {401: "it wants to know who asks", 403: "it does not let this machine have it"}
TURNS = 3  # of a download that breaks off
PAGE = "must be a file, but is a page of the web, as a login is; give the address of the file itself"
PAUSE_S = 2.0  # before the second; twice that before the third
SINGLE = (".json", ".yaml", ".yml", ".data")  # files that describe a dataset


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
    return _opened(source, path)


def _opened(source: str | Path, path: Path) -> Path:
    """The archive `path` unpacked; one that was fetched and is damaged is fetched again the next time."""
    try:
        return unpacked(path)
    except Damaged:
        if is_url(source):
            shutil.rmtree(path.parent, ignore_errors=True)
        raise


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1000).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def unpacked(path: Path) -> Path:
    """The folder of an archive's content, unpacked once. Raises `UserError` when it is broken or unsafe."""
    target = once(cache_dir() / digest(path)[:32], lambda partial: unpack(path, partial))
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
    if is_archive(path) or has_content_of_one(path):
        return _opened(source, path)
    raise UserError(
        f"{without_secrets(source)}: a dataset must be a folder, an archive ({', '.join(ARCHIVES)}), a COCO file, "
        "a data.yaml or an obj.data"
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
    named, alone = without_secrets(url).rstrip("/"), set(files) == {""}
    came_from(target, named.rpartition("/")[0] if alone else named)
    if alone and _is_page(target / _last(url)):
        shutil.rmtree(target, ignore_errors=True)
        raise UserError(f"{named}: {PAGE}")
    return target / _last(url) if alone else target


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

        web = url.startswith(("http://", "https://"))
        system, root = fsspec.core.url_to_fs(url, **(_patience() if web else {}))
        if hasattr(system, "invalidate_cache"):
            system.invalidate_cache()
        found = _web_listing(root, system) if web else system.find(root, detail=True)
    except ImportError as error:
        protocol = url.partition("://")[0]
        hint = {"s3": ": pip install 'detr-automl[s3]'"}.get(protocol, "")
        raise NotRunnable(
            f"{without_secrets(url)}: {protocol}:// needs a package that is not here{hint} ({error})"
        ) from None
    except UserError:
        raise
    except Exception as error:  # every protocol has errors of its own
        raise UserError(f"{without_secrets(url)}: cannot be read; {_why(error, url)}") from None
    files = {}
    for path, info in found.items():
        below = path.removeprefix(root).lstrip("/")
        below = unquote(below) if web else below
        if info.get("type") == "file" and not path.endswith("/"):
            tag = next((info[name] for name in TAGS if info.get(name)), None)
            size = info.get("size")  # None where a server does not tell
            files[below] = {
                "size": None if size is None else int(size),
                "tag": str(tag).strip('"'),
                "path": path,
            }
    if not files:
        raise UserError(f"{without_secrets(url)}: nothing is there")
    return files, system


def _patience() -> dict[str, Any]:
    """Options of fsspec's file system of the web. Its own end every download after five minutes, however it goes on."""
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
    return {"client_kwargs": {"timeout": timeout}}


def _why(error: Exception, url: str) -> str:
    """What a server, or the way to it, says; without the URL, in which keys may stand."""
    cause = error.__cause__
    told = cause if isinstance(cause, Exception) else error  # fsspec's own says "not found" to all
    if status := getattr(told, "status", None):  # of aiohttp
        advice = REFUSED.get(status, "try again later" if status >= 500 else "see that the address is right")
        return f"the server answers {status} {getattr(told, 'message', '')}".rstrip() + f"; {advice}"
    reason = str(told).replace(url, without_secrets(url))
    return f"see that the address is right and its server answers ({type(told).__name__}: {reason})"


def _web_listing(root: str, system: Any) -> dict[str, dict[str, Any]]:
    """What a web server tells of a file, or of every file of a folder for which it writes a page of links."""
    info = system.info(root)
    if info.get("mimetype") != "text/html":
        return {root: info | {"type": "file"}}
    paths = [path for path in system.find(root) if "?" not in path]
    if not paths or is_archive(urlsplit(root).path):
        raise UserError(f"{without_secrets(root)}: {PAGE}")
    with ThreadPoolExecutor(THREADS) as pool:
        return {
            path: info | {"type": "file"}
            for path, info in zip(paths, pool.map(system.info, paths), strict=True)
        }


def _download(url: str, files: dict[str, dict[str, Any]], system: Any, folder: Path) -> None:
    check_size(without_secrets(url), [info["size"] or 0 for info in files.values()], folder)
    for below in files:
        check_name(without_secrets(url), below)
    targets = {folder / (below or _last(url)): info for below, info in files.items()}
    for parent in {target.parent for target in targets}:
        parent.mkdir(parents=True, exist_ok=True)
    at(lambda: f"{sum(map(_arrived, targets)) / 1e6:.0f} MB fetched of {without_secrets(url)}")
    try:
        _get(targets, system)
        for target, info in targets.items():
            _check_arrived(without_secrets(url), target, info, system)
    except UserError:
        raise
    except Exception as error:
        if is_full(error):
            raise
        raise UserError(f"{without_secrets(url)}: cannot be fetched; {_why(error, url)}") from None
    finally:
        at("")


def _get(targets: Mapping[Path, dict[str, Any]], system: Any) -> None:
    """Fetch files; those that do not arrive whole again, some times. Raises what the last time did."""
    left = dict(targets)
    for turn in range(TURNS):
        time.sleep(PAUSE_S * turn)
        try:
            system.get([info["path"] for info in left.values()], list(map(str, left)))
            failed = False
        except Exception as error:
            if is_full(error) or turn == TURNS - 1:
                raise
            failed = True
        left = {t: i for t, i in left.items() if (failed if i["size"] is None else _arrived(t) != i["size"])}
        if not left:
            return


def _arrived(target: Path) -> int:
    """Bytes of a file that are there."""
    return target.stat().st_size if target.is_file() else 0


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

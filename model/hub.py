"""Published weights as files of this machine: found in the caches that other tools share, fetched once.

Hugging Face's files lie where `HF_HOME` or `HF_HUB_CACHE` says, all others where `TORCH_HOME` says. `HF_ENDPOINT` names
a mirror, and `HF_HUB_OFFLINE=1` forbids the network altogether. Needs no torch.
"""

from __future__ import annotations

import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from filelock import FileLock

from model.data.sources import digest
from model.errors import UserError

Say = Callable[[str], None]

PATIENCE_S = 3.0  # for the first answer of a server; who has none is treated as out of reach
ATTEMPTS = 5  # of a download that breaks, each going on where the last one stopped
BLOCK = 1 << 20


class Unreachable(UserError):
    """The file is neither here nor to be had."""


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub: the first of `names` that the repository has. `revision`: a commit or branch."""

    repo: str
    revision: str
    names: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")

    @property
    def where(self) -> str:
        return f"{endpoint()}/{self.repo}"


@dataclass(frozen=True)
class WebFile:
    """A file at an http(s) address. Its name may end in the first digits of its SHA-256, as torch's files do:
    resnet18-f37072fd.pth. `folder`: where it is kept, by default torch's; `size`: bytes where known."""

    url: str
    folder: str = ""
    size: int | None = None

    @property
    def where(self) -> str:
        return self.url.partition("?")[0]  # what follows may be a key

    @property
    def path(self) -> Path:
        return Path(self.folder or torch_folder()) / Path(urlparse(self.url).path).name


PublishedFile = HubFile | WebFile


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_folder() -> Path:
    """Where Hugging Face's own tools keep files."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def torch_folder() -> Path:
    """Where torch.hub, torchvision and timm keep files."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def cached(file: PublishedFile) -> Path | None:
    """The file where it is on this machine already; asks no server."""
    if isinstance(file, WebFile):
        return file.path if file.path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for name in file.names:
        found = try_to_load_from_cache(file.repo, name, hub_folder(), file.revision)
        if isinstance(found, str):
            return Path(found)
    return None


def size_of(file: PublishedFile) -> int | None:
    """Bytes, as the server says, None when it does not. Raises `Unreachable` when it is out of reach or has no such
    file, after a few seconds."""
    if offline():
        raise Unreachable(f"{file.where}: HF_HUB_OFFLINE forbids the network")
    if isinstance(file, WebFile):
        return _head(file.url)
    missing: Unreachable | None = None
    for name in file.names:
        try:
            return _head(f"{endpoint()}/{file.repo}/resolve/{file.revision}/{name}")
        except _NoSuchFile as error:
            missing = error
    raise missing or Unreachable(f"{file.where}: names no file")


def fetch(file: PublishedFile, say: Say = print) -> Path:
    """The file on this machine, fetched unless it is here, by one process while others wait. What arrives is compared
    with the server's SHA-256 where it gives one. Raises `Unreachable`."""
    path = cached(file)
    if path is not None:
        return path
    size = size_of(file)
    say(f"fetching {file.where} ({megabytes(size)})")
    path = _fetch_web(file, say) if isinstance(file, WebFile) else _fetch_hub(file)
    say(f"fetched {path}")
    return path


def megabytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size / 1e6:.0f} MB"


# ---- Hugging Face's hub -----------------------------------------------------------------------------------------


def _fetch_hub(file: HubFile) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in file.names:
        try:
            path = hf_hub_download(
                file.repo, name, revision=file.revision, cache_dir=hub_folder(), endpoint=endpoint()
            )
        except EntryNotFoundError:
            continue
        except Exception as error:  # of the hub's own library, of its HTTP client, of the disk
            raise Unreachable(f"{file.where}/{name}: cannot be fetched ({_first_line(error)})") from None
        return _checked_blob(Path(path))
    raise Unreachable(f"{file.where}: has none of {', '.join(file.names)} at {file.revision}")


def _checked_blob(path: Path) -> Path:
    """The cache names a large file after its SHA-256."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and digest(blob) != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise Unreachable(f"{path}: arrived damaged, so it was removed; try again")
    return path


# ---- the web ----------------------------------------------------------------------------------------------------


def _fetch_web(file: WebFile, say: Say) -> Path:
    path = file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            partial = path.with_name(f"{path.name}.partial")
            _download(file.url, partial, say)
            wanted = re.search(r"-([0-9a-f]{8,})\.[a-z]+$", path.name)
            if wanted and not digest(partial).startswith(wanted[1]):
                partial.unlink()
                raise Unreachable(f"{file.where}: arrived damaged, so it was removed; try again")
            partial.replace(path)
    return path


def _download(url: str, partial: Path, say: Say) -> None:
    """Into `partial`, going on behind what is there already."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _download_rest(url, partial, say)
        except (OSError, ValueError, EOFError) as error:
            if attempt == ATTEMPTS or isinstance(error, urllib.error.HTTPError):
                raise Unreachable(
                    f"{url.partition('?')[0]}: cannot be fetched ({_first_line(error)})"
                ) from None


def _download_rest(url: str, partial: Path, say: Say) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        have = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with partial.open("ab" if have else "wb") as out:
            told = have
            while block := answer.read(BLOCK):
                out.write(block)
                have += len(block)
                if total and have - told > total / 4:
                    told = have
                    say(f"  {megabytes(have)} of {megabytes(total)}")
    if total is not None and have < total:
        raise EOFError(f"the connection broke after {have} of {total} bytes")


class _NoSuchFile(Unreachable):
    """The server is there and has no such file."""


def _head(url: str) -> int | None:
    """Content-Length. In a thread: looking up a name knows no time limit of its own."""
    found: list[int | Unreachable | None] = []
    asking = threading.Thread(target=lambda: found.append(_ask(url)), daemon=True)
    asking.start()
    asking.join(PATIENCE_S + 1)
    answer = (
        found[0]
        if found
        else Unreachable(f"{urlparse(url).netloc} does not answer within {PATIENCE_S:.0f} s")
    )
    if isinstance(answer, Unreachable):
        raise answer
    return answer


def _ask(url: str) -> int | Unreachable | None:
    """By HEAD; by GET, of which only the headers are read, where the server wants no HEAD (signed addresses)."""
    found = _headers(url, "HEAD")
    if isinstance(found, urllib.error.HTTPError) and found.code in (403, 405, 501):
        found = _headers(url, "GET")
    if isinstance(found, urllib.error.HTTPError):
        kind = _NoSuchFile if found.code in (401, 403, 404, 410) else Unreachable
        return kind(f"{url.partition('?')[0]}: {found.code} {found.reason}")
    if isinstance(found, Exception):
        reason = _first_line(getattr(found, "reason", found))
        return Unreachable(f"{urlparse(url).netloc} is out of reach: {reason}")
    return found


def _headers(url: str, method: str) -> int | Exception | None:
    request = urllib.request.Request(url, method=method)
    for name, value in _authorization(url).items():
        request.add_unredirected_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            length = answer.headers.get("X-Linked-Size") or answer.headers.get("Content-Length")
            return int(length) if length else None
    except (OSError, ValueError) as error:  # HTTPError is an OSError
        return error


def _authorization(url: str) -> dict[str, str]:
    """The token of a mirror that asks for one; only its own server sees it."""
    from huggingface_hub import get_token

    token = get_token() if url.startswith(f"{endpoint()}/") else None
    return {"Authorization": f"Bearer {token}"} if token else {}


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

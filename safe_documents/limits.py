"""What a document may hold, and how its bytes become text."""

from __future__ import annotations

from pathlib import Path

MAX_BYTES = 4 << 20
MAX_DEPTH = 64
MAX_VALUES = 200_000


class DocumentError(ValueError):
    """A document that cannot be read: where, what must hold, what was found; one line."""


def text_of(path: Path, max_bytes: int) -> str:
    """A file's text: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises `DocumentError` when it is too large, no file or no text; `FileNotFoundError` and other `OSError`s pass.
    """
    if path.exists() and not path.is_file():
        raise DocumentError(f"{path}: must be a file")
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise DocumentError(f"{path}: must have at most {max_bytes >> 20} MiB")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: must be UTF-8 text, but byte {error.start} is none") from None

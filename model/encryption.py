"""Checkpoints under a passphrase (`encryption_key`): AES-256-GCM, in pieces, so that size does not matter.

A file is MAGIC, a salt of 16 bytes, then pieces of at most PIECE plain bytes, each with its tag of 16. The key comes
from the passphrase by scrypt with the file's own salt; a piece's number is its nonce, and whether it is the last is
authenticated with it, so that a file that was changed, cut or lengthened is refused.

The salt comes from content and passphrase, again by scrypt: the same under the same passphrase is the same file, so
that what follows from it need not be made anew, and another content never meets a key twice.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from model.errors import UserError

ENVIRONMENT = "DETR_ENCRYPTION_KEY"
REFERENCE = "@"
MAGIC = b"detr-automl aes-gcm 1\n"
AS_TEXT = "as text in UTF-8, but has other bytes; openssl rand -base64 32, say, writes one as text"
SALT, TAG, PIECE = 16, 16, 64 << 20
TRIED = 3  # one of them may be damaged


def passphrase(key: str) -> str:
    """What an `encryption_key` means, or, where it is empty, what the environment variable DETR_ENCRYPTION_KEY holds:
    for `@FILE` what is in that file, else itself. Raises `UserError` when the file cannot be read, is empty, or what it
    means is no text."""
    where = "encryption_key" if key else f"encryption_key: the environment variable {ENVIRONMENT}"
    value = key or os.environ.get(ENVIRONMENT, "")
    if not value.startswith(REFERENCE):
        return _encodable(value, where)
    path = Path(value.removeprefix(REFERENCE)).expanduser()
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserError(f"{where}: {path} must hold the passphrase {AS_TEXT}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise UserError(
            f"{where}: {path} must be a readable file that holds the passphrase ({error}); give "
            f"encryption_key=@FILE, or @FILE or the passphrase itself in the environment variable {ENVIRONMENT}"
        ) from None
    if not secret:
        raise UserError(f"{where}: {path} must hold the passphrase, but is empty")
    return secret


def _encodable(secret: str, where: str) -> str:
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where} must be the passphrase {AS_TEXT}") from None
    return secret


def is_encrypted(path: str | Path) -> bool:
    """Whether a file was written by `encrypt`."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def encrypt(data: bytes, key: str) -> bytes:
    """The whole file that holds `data`, the same for the same two; `key` as in `passphrase`."""
    secret = passphrase(key)
    salt = _scrypt(secret, hashlib.sha256(data).digest(), SALT)
    cipher = _cipher(secret, salt)
    pieces = [data[start : start + PIECE] for start in range(0, max(1, len(data)), PIECE)]
    last = len(pieces) - 1
    sealed = [cipher.encrypt(_nonce(i), piece, _place(i == last)) for i, piece in enumerate(pieces)]
    return b"".join([MAGIC, salt, *sealed])


def decrypt(path: str | Path, key: str) -> bytes:
    """What `encrypt` was given. Raises `UserError` without or with another passphrase, or when the file was changed."""
    secret = passphrase(opening(key))
    if not secret:
        raise UserError(f"{path}: is encrypted; give its encryption_key")
    return _opened(path, secret)


def opening(key: str) -> str:
    """The key that opens what was written with `key`: the environment's, where that names a file that is not there, as
    in a copied folder's specs."""
    named = key.startswith(REFERENCE) and bool(os.environ.get(ENVIRONMENT))
    return "" if named and not Path(key.removeprefix(REFERENCE)).expanduser().exists() else key


def check_secret(leaf: str, secret: str, folder: Path) -> None:
    """Raises `UserError` where none of the smallest checkpoints below a folder opens with a passphrase; where none is
    encrypted, any will do."""
    sealed = [path for path in Path(folder).rglob("*.pth") if path.is_file() and is_encrypted(path)]
    wrong: UserError | None = None
    for path in sorted(sealed, key=lambda path: (path.stat().st_size, path))[:TRIED]:
        try:
            _opened(path, secret)
            return
        except UserError as error:
            wrong = wrong or error
    if wrong:
        raise wrong


def _opened(path: str | Path, secret: str) -> bytes:
    whole = Path(path).read_bytes()
    start = len(MAGIC) + SALT
    cipher = _cipher(secret, whole[len(MAGIC) : start])
    body = memoryview(whole)[start:]
    pieces = [body[at : at + PIECE + TAG] for at in range(0, max(1, len(body)), PIECE + TAG)]
    last = len(pieces) - 1
    try:
        opened = [cipher.decrypt(_nonce(i), piece, _place(i == last)) for i, piece in enumerate(pieces)]
    except (InvalidTag, ValueError):
        raise UserError(
            f"{path}: encryption_key is not the one it was written with, or the file is damaged"
        ) from None
    return b"".join(opened)


def _cipher(secret: str, salt: bytes) -> AESGCM:
    return AESGCM(_scrypt(secret, salt, 32))


def _scrypt(secret: str, salt: bytes, length: int) -> bytes:
    return Scrypt(salt=salt, length=length, n=2**14, r=8, p=1).derive(secret.encode())


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _place(last: bool) -> bytes:
    return MAGIC + (b"last" if last else b"more")

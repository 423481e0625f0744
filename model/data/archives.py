"""Archives of data, unpacked whole or refused: what is damaged, locked, too large or would leave its folder."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from model.data.cache import LARGER, is_full
from model.errors import UserError, number_of

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
MAX_FILES = 5_000_000
MAX_BYTES = 2 << 40  # unpacked
UNITS = {1 << 30: "GiB", 1 << 20: "MiB", 1 << 10: "KiB"}
DAMAGED = (tarfile.ReadError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)
LOCKED, IN_UTF8 = 0x1, 0x800  # flags of a member of a zip
AGAIN = "is it whole? Copy or download it again"
VOLUME = b"V"  # a member that only names the archive (GNU)
BY_HAND = "unpack it yourself and give the folder"
WITHOUT_LINKS = "pack it anew with the files that its links lead to, by `tar -h` or `zip -r`"


class Damaged(UserError):
    """An archive that is not whole: another copy of it may be."""


def is_archive(path: str | Path) -> bool:
    """By its name."""
    return str(path).lower().endswith(ARCHIVES)


def has_content_of_one(path: Path) -> bool:
    """Whether a file of any name is an archive."""
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def unpack(path: Path, folder: Path) -> None:
    """The content of an archive into an empty folder. Raises `Damaged`, another `UserError`, or `OSError` where a disk
    is full."""
    try:
        if path.name.lower().endswith(".zip") or zipfile.is_zipfile(path):
            _unzip(path, folder)
        else:
            _untar(path, folder)
    except Exception as error:  # a damaged file makes readers raise all kinds
        if is_full(error) or isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        if isinstance(error, DAMAGED) or str(error) == "Invalid data stream":  # of bz2
            raise Damaged(f"{path}: cannot be unpacked ({reason}); {AGAIN}") from None
        linked = isinstance(error, tarfile.AbsoluteLinkError | tarfile.LinkOutsideDestinationError)
        advice = "" if isinstance(error, tarfile.FilterError) else f"; {BY_HAND}"
        advice = f"; {WITHOUT_LINKS}" if linked else advice
        raise UserError(f"{path}: cannot be unpacked ({reason}){advice}") from None


def check_name(source: str | Path, name: str) -> None:
    """Raises `UserError` for the name of a member that would lie outside."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(f"{source}: cannot be unpacked ('{name}' would leave its folder)")


def check_size(source: str | Path, sizes: list[int], folder: Path) -> None:
    """Raises `UserError` for files of these numbers of bytes that are too many, or for which `folder` has no room."""
    total, free = sum(sizes), shutil.disk_usage(folder).free
    if len(sizes) > MAX_FILES or total > MAX_BYTES:
        raise UserError(f"{source}: {number_of(len(sizes), 'file')} of {total} bytes: more than is unpacked")
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


# ---- zip --------------------------------------------------------------------------------------------------------


def _unzip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if any(info.flag_bits & LOCKED for info in infos):
            raise UserError(f"{path}: is locked with a password; {BY_HAND}")
        check_size(path, [info.file_size for info in infos], folder)
        for info in infos:
            info.filename = _name(info)
            check_name(path, info.filename)
            archive.extract(info, folder)
        links = {folder / info.filename for info in infos if stat.S_ISLNK(info.external_attr >> 16)}
    for link in links:  # now that all files are there, and none is written through one
        target = link.read_bytes()
        link.unlink()
        os.symlink(target, os.fsencode(link))
    for link in links:
        if not Path(os.path.realpath(link)).is_relative_to(os.path.realpath(folder)):
            name = link.relative_to(folder)
            raise UserError(
                f"{path}: cannot be unpacked (the link '{name}' would leave its folder); {WITHOUT_LINKS}"
            )


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name: in UTF-8 also where the archive does not say so, as macOS writes it, and with /, where some
    programs of Windows write a backslash."""
    name = info.filename
    if not info.flag_bits & IN_UTF8 and not name.isascii():
        try:
            name = name.encode("cp437").decode()  # cp437 is what zipfile takes it for
        except UnicodeError:
            pass  # in another one: `paths.explain` tells
    return name.replace("\\", "/")


# ---- tar --------------------------------------------------------------------------------------------------------


class _Member(tarfile.TarInfo):
    """Python takes a damaged header, and the end of the file, for the end of the archive; what is missing behind would
    be lost unsaid. A whole archive has an end of its own, of zeros (`tarfile.EOFHeaderError`)."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} where a member or the archive's own end should be") from None


def _untar(path: Path, folder: Path) -> None:
    with tarfile.open(path, tarinfo=_Member) as archive:
        members = [member for member in archive.getmembers() if member.type != VOLUME]
        _check_end(path, archive)
        check_size(path, [member.size for member in members], folder)
        archive.extractall(folder, members, filter="data")


def _check_end(path: Path, archive: tarfile.TarFile) -> None:
    """Read on behind the last member, to where gzip has its checksum. Raises `UserError` for what lies there, as in two
    archives that were put one behind the other: readers end at the end of the first."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    while block := archive.fileobj.read(1 << 20):
        if any(block):
            raise UserError(
                f"{path}: cannot be unpacked (more lies behind its end, as of a second one); {BY_HAND}"
            )

"""Whether text files hold lines of YOLO."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

from model.data.kitti_lines import is_number, is_of_numbers

LOOKED_AT = 20  # label files that tell


def hold_labels(files: Iterable[Path]) -> bool:
    """Whether the first file that holds something has numbers alone, or most of the first few have them, or lines of
    YOLO but for a class's name in place of its number: what is wrong in the others is told where they are read. Those
    of KITTI with numbers for types are none."""
    filled = islice((lines for file in files if any(lines := _fields_of_lines(file))), LOOKED_AT)
    good = [
        (all(map(is_number, chain(*lines))) and not all(map(is_of_numbers, filter(None, lines))))
        or all(map(_is_named, filter(None, lines)))
        for lines in filled
    ]
    return bool(good) and (good[0] or 2 * sum(good) > len(good))


def _fields_of_lines(label: Path) -> list[list[bytes]]:
    return [line.split() for line in label.read_bytes().removeprefix(BOM_UTF8).splitlines()]


def _is_named(fields: list[bytes]) -> bool:
    """Whether a line is a word and a box in shares of the image."""
    box = fields[1:]
    return len(box) == 4 and all(is_number(v) and 0 <= float(v) <= 1 for v in box)

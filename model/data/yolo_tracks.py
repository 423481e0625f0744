"""Lines of YOLO that end in a track's number, "class cx cy w h id", as CVAT exports Ultralytics YOLO Detection Track; a
sixth field may also be a confidence, or an angle, with which the boxes would be others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ENOUGH = 5.0  # numbers that chance would have put into a file twice; none, for all that, in one of 150 sets of angles


def are_tracked(labels: Iterable[Path]) -> bool:
    """Whether the sixth fields of a dataset's lines, where there are some, are whole numbers from 0, not all 0 or 1,
    of which no file has one twice although many would if they were drawn by chance, as angles are."""
    times: Counter[bytes] = Counter()
    pairs = 0
    for label in labels:
        found = _sixth_fields(label)
        if len(set(found)) < len(found) or not all(map(bytes.isdigit, found)):
            return False
        times.update(found)
        pairs += len(found) * (len(found) - 1) // 2
    total = times.total()
    alike = sum(n * (n - 1) for n in times.values()) / max(1, total * (total - 1))
    return not times.keys() <= {b"0", b"1"} and pairs * alike >= ENOUGH


def _sixth_fields(label: Path) -> list[bytes]:
    """Of the lines that have six; none of a file that cannot be read, which is told where it is."""
    try:
        lines = map(bytes.split, label.read_bytes().splitlines())
    except OSError:
        return []
    return [fields[5] for fields in lines if len(fields) == 6]

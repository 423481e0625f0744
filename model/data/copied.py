"""Names of images by absolute paths that lead out of the folder that holds them: it was copied with its annotations,
and the original is still there."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

Names = Mapping[str, str]  # an absolute path -> a file below the folder


def own_copies(folder: Path, names: Sequence[str], known: Collection[str]) -> Names:
    """The file, of those `known` below a folder, that each absolute name of a file outside means, by the one ending at
    which most of the names are found; none unless half of them are, byte by byte. Another file of such a name, a drawn
    preview or another camera's, is not what the annotations are of."""
    outside = _outside(folder, names)
    if not outside:
        return {}
    above = os.path.commonpath([os.path.dirname(name) for name in outside]).split("/")
    best: dict[str, str] = {}
    for n in range(1, len(above) + 1):
        start = "/".join(above[:n]).rstrip("/") + "/"
        found = {name: below for name in outside if (below := name.removeprefix(start)) in known}
        best = found if len(found) > len(best) else best  # of two alike the longer ending
    best = {name: below for name, below in best.items() if filecmp.cmp(name, folder / below, shallow=False)}
    return best if 2 * len(best) >= len(outside) else {}


def count_copies(names: Sequence[str], paths: Sequence[Path]) -> int:
    """How many of the paths found for names are others than the files that the names lead to."""
    return sum(
        name.startswith("/") and os.path.basename(name) == path.name and _leads_elsewhere(name, path)
        for name, path in zip(names, paths, strict=True)
    )


def _leads_elsewhere(name: str, path: Path) -> bool:
    return name != str(path) and _is_file(name) and _is_file(str(path)) and not os.path.samefile(name, path)


def _outside(folder: Path, names: Sequence[str]) -> list[str]:
    """Absolute names of files that are there and do not lie in the folder."""
    home = f"{os.path.realpath(folder)}/"
    absolute = [name for name in names if name.startswith("/") and "\0" not in name]
    places = {place: f"{os.path.realpath(place)}/" for place in set(map(os.path.dirname, absolute))}
    away = {place for place, real in places.items() if not real.startswith(home)}
    return [name for name in absolute if os.path.dirname(name) in away and _is_file(name)]


def _is_file(name: str) -> bool:
    try:
        return os.path.isfile(name)
    except ValueError:  # a null byte
        return False

"""What the text of an XML file shows without being parsed: whether it holds labels of Pascal VOC, and from where its
data set counts pixels.

Tools of maps leave t0.tif.aux.xml (<PAMDataset>) beside pictures. A box is counted from 1 where the file is of the VOC
challenge or from Roboflow, by its <database>; a data set in which edges at 0 stand where those at 1 should
disproves it.
"""

from __future__ import annotations

import html
import re
from codecs import BOM_UTF8 as BOM
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model.data.problems import shown
from model.errors import number_of

# A word of its own, or with what is usual around it: no avocado and no vocabulary.
FROM_ONE = re.compile(
    r"(?<![^\W\d_])(pascal)?[\W_]*voc(?![^\W\d_])|vocdevkit|(?<![^\W\d_])roboflow(?![^\W\d_])"
)
BEFORE = re.compile(rb"\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>", re.DOTALL)
ROOT = re.compile(rb"<(?:[\w.-]+:)?([\w.-]+)[\s/>]")
NAMED = rb"<(?:[\w.-]+:)?%s"  # an element in any namespace
BOX, OUTLINE = (re.compile(NAMED % name, re.IGNORECASE) for name in (rb"(?:ro)?bndbox", b"polygon"))
DATABASE = re.compile(NAMED % rb"database>([^<]*)<", re.IGNORECASE)
SEVERAL, SHARE = 3, 0.01  # edges at 0, also of the boxes, that are more than slips
EDGE = re.compile(NAMED % rb"[xy]min>\s*([01])(?:\.\d*)?\s*</", re.IGNORECASE)


@dataclass(frozen=True)
class Glance:
    root: str = "annotation"  # also where it cannot be told
    boxes: int = 0
    database: str = ""
    outlines: int = 0  # polygons, as LabelMe's web tool writes them without a box
    zeros: int = 0  # left and upper edges at 0, and at 1
    ones: int = 0

    @classmethod
    def at(cls, path: Path) -> Glance:
        try:
            data = path.read_bytes()
        except OSError:
            return cls()  # told when it is read
        root, said = root_of(data), DATABASE.search(data)
        edges = Counter(EDGE.findall(data))
        return cls(
            root or "annotation",
            len(BOX.findall(data)),
            database_of(html.unescape(said[1].decode(errors="replace")) if said else ""),
            len(OUTLINE.findall(data)),
            edges[b"0"],
            edges[b"1"],
        )

    @property
    def is_label(self) -> bool:
        return self.boxes > 0 or self.root.casefold() == "annotation"


def root_of(data: bytes) -> str:
    """The name of an XML file's root, "" where there is none to see. What stands before it is passed one by one: as one
    pattern, a comment could as well end where a later one does, and each would double the ways to fail."""
    at = len(BOM) if data.startswith(BOM) else 0
    while part := BEFORE.match(data, at):
        at = part.end()
    root = ROOT.match(data, at)
    return root[1].decode() if root else ""


def database_of(text: str) -> str:
    return text.strip().casefold()


def counts_from_one(database: str) -> bool:
    return bool(FROM_ONE.search(database.casefold()))


def from_zero(glances: Iterable[Glance]) -> frozenset[str]:
    """The databases said to count from 1 of which more edges lie at 0 than at 1, and so many that these are no slips:
    there is no pixel 0 to begin at."""
    return frozenset(
        database
        for database, (zeros, ones, boxes) in _edges(glances).items()
        if counts_from_one(database) and zeros > ones and zeros >= max(SEVERAL, SHARE * boxes)
    )


def _edges(glances: Iterable[Glance]) -> dict[str, tuple[int, int, int]]:
    """(left and upper edges at 0, at 1, boxes) of each database."""
    found: dict[str, tuple[int, int, int]] = {}
    for glance in glances:
        zeros, ones, boxes = found.get(glance.database, (0, 0, 0))
        found[glance.database] = zeros + glance.zeros, ones + glance.ones, boxes + glance.boxes
    return found


def notes_of(glances: Mapping[str, Glance], zero: Collection[str]) -> tuple[str, ...]:
    """On XML files that hold no labels, and on databases whose pixels turn out to be counted from 0."""
    others = [path for path, glance in glances.items() if not glance.is_label]
    edges = _edges(glances.values()) if zero else {}
    shown_first = f"{others[0]} (<{glances[others[0]].root}>)" if others else ""
    return (
        *(
            [f"{number_of(len(others), 'XML file')} without labels, such as {shown_first}, not read"]
            if others
            else []
        ),
        *(
            f"boxes of the database {shown(d)} are counted from 0, as {edges[d][0]} left and upper edges "
            f"lie at 0, and {edges[d][1]} at 1"
            for d in sorted(zero)
        ),
    )

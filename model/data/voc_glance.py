"""What the text of an XML file shows without being parsed: whether it holds labels of Pascal VOC, and from where its
data set counts pixels.

Tools of maps leave t0.tif.aux.xml (<PAMDataset>) beside pictures. A box is counted from 1 where the file is of the VOC
challenge or from Roboflow, by its <database>; a data set in which edges at 0 stand where those at 1 should
disproves it.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model.data.problems import shown
from model.data.tree import counted

# A word of its own, or with what is usual around it: no avocado and no vocabulary.
FROM_ONE = re.compile(
    r"(?<![^\W\d_])(pascal)?[\W_]*voc(?![^\W\d_])|vocdevkit|(?<![^\W\d_])roboflow(?![^\W\d_])"
)
ROOT = re.compile(
    rb"\A(?:\xef\xbb\xbf)?(?:\s|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\])?\s*>)*<(?:[\w.-]+:)?([\w.-]+)[\s/>]",
    re.DOTALL,
)
DATABASE = re.compile(rb"<database>([^<]*)</database>")
EDGE = re.compile(rb"<[xy]min>\s*([01])(?:\.\d*)?\s*</")


@dataclass(frozen=True)
class Glance:
    root: str = "annotation"  # also where it cannot be told
    boxed: bool = False
    database: str = ""
    zeros: int = 0  # left and upper edges at 0, and at 1
    ones: int = 0

    @classmethod
    def at(cls, path: Path) -> Glance:
        try:
            data = path.read_bytes()
        except OSError:
            return cls()  # told when it is read
        root, said = ROOT.match(data), DATABASE.search(data)
        edges = Counter(EDGE.findall(data))
        return cls(
            root[1].decode() if root else "annotation",
            b"<bndbox" in data,
            database_of(html.unescape(said[1].decode(errors="replace")) if said else ""),
            edges[b"0"],
            edges[b"1"],
        )

    @property
    def is_label(self) -> bool:
        return self.boxed or self.root.casefold() == "annotation"


def database_of(text: str) -> str:
    return text.strip().casefold()


def counts_from_one(database: str) -> bool:
    return bool(FROM_ONE.search(database.casefold()))


def from_zero(glances: Iterable[Glance]) -> frozenset[str]:
    """The databases said to count from 1 of which more edges lie at 0 than at 1: there is no pixel 0 to begin at."""
    zeros, ones = Counter[str](), Counter[str]()
    for glance in glances:
        if counts_from_one(glance.database):
            zeros[glance.database] += glance.zeros
            ones[glance.database] += glance.ones
    return frozenset(database for database, count in zeros.items() if count > ones[database])


def notes_of(glances: Mapping[str, Glance], zero: Iterable[str]) -> tuple[str, ...]:
    """On XML files that hold no labels, and on databases whose pixels turn out to be counted from 0."""
    others = [path for path, glance in glances.items() if not glance.is_label]
    shown_first = f"{others[0]} (<{glances[others[0]].root}>)" if others else ""
    return (
        *(
            [f"{counted(len(others), 'XML file')} without labels, such as {shown_first}, not read"]
            if others
            else []
        ),
        *(f"boxes of the database {shown(d)} are counted from 0, as many begin there" for d in sorted(zero)),
    )

"""What a look at the data brings: problems, which end a run before it starts, and notes."""

from __future__ import annotations

import re
import reprlib
from typing import Any

from model.errors import UserError

FIRST_NOUN = re.compile(
    r"((?:image |category |empty |turned )?)(boxes|images|categories|ids|sizes|rows|objects)\b"
)
SHOWN = 5  # of one kind that are spelled out

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 90
_short.maxlevel, _short.maxlist = 2, 6


class Problems:
    """Problems by kind, so that ten thousand of one kind do not hide one of another."""

    def __init__(self) -> None:
        self.problems: dict[str, list[str]] = {}
        self.notes: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.problems)

    def add(self, kind: str, message: str) -> None:
        self.problems.setdefault(kind, []).append(message)

    def note(self, message: str) -> None:
        if message not in self.notes:
            self.notes.append(message)

    def lines(self) -> list[str]:
        """Every kind's first few problems, and how many more there are."""
        found = []
        for messages in self.problems.values():
            found += messages[:SHOWN]
            if len(messages) > SHOWN:
                found.append(f"... and {len(messages) - SHOWN} more of this kind")
        return found

    def refuse(self) -> None:
        """Raise `UserError` with all of them, if there are any."""
        if self.problems:
            raise UserError("\n".join(self.lines()))


def shown(value: Any) -> str:
    """A value from a file as a message shows it: short, whatever it is."""
    try:
        return _short.repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list of lists of lists
        return f"a {type(value).__name__} that is too long to show"


def listed(values: list[Any], limit: int = SHOWN) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(str(v) for v in values[:limit]) + more


def times_of(count: int, kind: str) -> str:
    """`24 boxes made of masks`, `1 box made of masks`: a kind begins with its noun in the plural."""
    found = FIRST_NOUN.match(kind)
    if count != 1 or not found:
        return f"{count} {kind}"
    rest = re.sub("^ that are ", " that is ", kind[found.end() :]).replace(" their image", " its image", 1)
    noun = {"boxes": "box", "categories": "category"}.get(found[2], found[2].removesuffix("s"))
    return f"1 {found[1]}{noun}{rest}"

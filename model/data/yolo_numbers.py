"""Whether the classes' numbers in YOLO labels count from 1 where the names count from 0, as some tools write them. Of
such labels those of the last class are refused; where it does not occur, every box has the name of its neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from model.data.label_files import lines_of
from model.data.yolo_names import Names
from model.errors import UserError

MAY = (
    "no label has the number 0 ({}); if the numbers in the labels count from 1, each box has its neighbour's name: "
    "look at some (automl data), and subtract 1 from each number, or export again"
)
SURELY = (
    "no label has the number 0, and the highest is {}, one more than the last name's: all numbers seem to count from "
    "1, and must count from 0; export again so, or subtract 1 from the number that begins each line"
)


def counted_from_one(names: Names) -> tuple[str, str]:
    """(what to add to a refusal where the numbers surely count from 1, what to note where they may, as each up to the
    highest occurs); two empty texts where a label has the number 0, or no name has it."""
    highest: list[tuple[float, int]] = []  # (the highest number less the first without a name, that)
    seen: set[float] = set()
    for label, numbers in names.of_label.items():
        used = set(_numbers_in(label))
        if used and (0 in used or 0 not in numbers):
            return "", ""
        seen |= used
        free = max(numbers) + 1
        highest += [(max(used) - free, free)] if used else []
    beyond, free = max(highest, default=(1, 0))
    if beyond == 0:
        return SURELY.format(free), ""
    first = next((names.ids[numbers[0]] for numbers in names.of_label.values() if 0 in numbers), "")
    # Neither the few of COCO's names that somebody labels, nor those beside a name for what is no object.
    from_one = bool(seen) and seen == set(range(1, len(seen) + 1)) and "background" not in first.lower()
    return "", MAY.format(first) if beyond < 0 and from_one else ""


def _numbers_in(label: Path) -> Iterator[float]:
    """The number that begins a line, of each that one begins."""
    with suppress(UserError):
        for line in filter(None, lines_of(label)):
            with suppress(ValueError):
                yield float(line.split()[0])

"""Which fields of a KITTI line are its type, and which are the numbers behind it.

Those are 14, and 15 where a detector's score ends the line. A type may have blanks, may be a number and may end in one:
`grade 1 0 0 0 10 10 60 60 ...` is of grade 1, or of grade with a score. All such lines of a dataset are read alike, as
most of them make sense.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from model.errors import UserError

NUMBERS = 14  # behind the type: truncated, occluded, alpha, four of the box, seven in space
MAX_ALPHA = 10.0  # radians are below, and -10 says unknown; another column's pixels are beyond
MAX_HEIGHT_M = 50.0  # of an object
FEW = 0.1  # the share of lines that may speak against the others: they are broken


def is_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers_behind(fields: Sequence[str | bytes]) -> int:
    """How many numbers end a line."""
    return next((n for n, field in enumerate(reversed(fields)) if not is_number(field)), len(fields))


def may_be_scored(fields: Sequence[str | bytes]) -> bool:
    """Whether a line can be read with a score, and then without one too."""
    return len(fields) > NUMBERS + 1 and numbers_behind(fields) > NUMBERS


def type_and_numbers(fields: Sequence[str], scored: bool) -> tuple[str, list[float]]:
    """(type, the 14 numbers behind it) of a line, `scored` where the last of 15 is a score. Raises `ValueError` for
    fewer, and for more than two numbers in the type, as two lines in one have."""
    behind = numbers_behind(fields)
    if behind < NUMBERS and len(fields) in (NUMBERS + 1, NUMBERS + 2):
        raise ValueError(f"14 fields behind the type must be numbers, but got '{fields[-behind - 1]}'")
    end = len(fields) - (scored and may_be_scored(fields))
    kind = fields[: max(0, end - NUMBERS)]
    if behind < NUMBERS or not kind or sum(map(is_number, kind)) > 2:
        raise ValueError(f"a KITTI line must have 15 fields, but got {len(fields)}")
    return " ".join(kind), list(map(float, fields[end - NUMBERS : end]))


def is_line(fields: Sequence[str | bytes]) -> bool:
    """Whether a line may be KITTI's: a type of words before the numbers, or a number for one and columns that make
    sense, with a box in pixels. Of KITTI's tracks the third field is the first word."""
    if len(fields) <= NUMBERS or not is_number(fields[0]):
        return len(fields) > NUMBERS
    return is_of_numbers(fields) or not is_number(fields[1])


def is_of_numbers(fields: Sequence[str | bytes]) -> bool:
    """Whether a line of numbers alone is KITTI's, its type a number too; a polygon of YOLO has shares, no pixels."""
    if len(fields) not in (NUMBERS + 1, NUMBERS + 2) or numbers_behind(fields) < len(fields):
        return False
    values = list(map(float, fields))
    tries = [values[n : n + NUMBERS] for n in {1, len(values) - NUMBERS}]
    return any(not _oddities(numbers) and max(numbers[3:7]) > 2 for numbers in tries)


def are_scored(labels: Iterable[Path]) -> bool:
    """Whether a score ends those lines of a dataset that may have one. Raises `UserError` where they do not tell."""
    plain = scored = 0
    first: dict[bool, tuple[str, list[str]]] = {}  # whether it tells -> a line
    for place, fields in _lines(labels):
        if may_be_scored(fields):
            values = list(map(float, fields[-NUMBERS - 1 :]))
            with_score, without = _oddities(values[:-1]), _oddities(values[1:])
            plain += without < with_score
            scored += with_score < without
            first.setdefault(with_score != without, (place, fields))
    if first and min(plain, scored) >= FEW * max(plain, scored):
        raise UserError(_untold(*first[min(first)], scored, plain))
    return scored > plain


def _lines(labels: Iterable[Path]) -> Iterator[tuple[str, list[str]]]:
    """(its place, its fields) of each line; nothing of a file that its reader will tell to be broken."""
    for path in labels:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for number, line in enumerate(lines, 1):
            yield f"{path}:{number}", line.split()


def _oddities(numbers: Sequence[float]) -> int:
    """How many columns hold what they cannot mean; a box without extent counts twice."""
    truncated, occluded, alpha, left, top, right, bottom, height, *_ = numbers
    return (
        (not (0 <= truncated <= 1 or truncated == -1))
        + (occluded not in (-1, 0, 1, 2, 3))
        + (not abs(alpha) <= MAX_ALPHA)
        + 2 * (not (left <= right and top <= bottom))
        + (not height <= MAX_HEIGHT_M)
    )


def _untold(place: str, fields: Sequence[str], scored: int, plain: int) -> str:
    long, short = (" ".join(fields[:end]) for end in (-NUMBERS, -NUMBERS - 1))
    said = (
        f"{scored} such lines speak for a score, {plain} against it" if scored or plain else "no line tells"
    )
    return (
        f"{place}: is it of the class '{long}', or of '{short}', with a score as its last number? {said}; write names "
        f"without blanks, as in {long.replace(' ', '_')}, or take the score from the end of each line"
    )

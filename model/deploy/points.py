"""Operating points of one trained network: what each costs and brings, which are worth having, which one is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from model.errors import UserError, number_of

# What the point chosen without any wish may cost: so much mAP below the best, and no more than this share of it, for of
# a network that has learnt little a hundredth is all.
WITHIN, SHARE = 0.01, 0.1
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6, "kb": 1e-3, "mb": 1.0, "gb": 1e3}


@dataclass(frozen=True)
class Form:
    """A smaller form of a network: decoder layers, queries, input (H, W) px, number format."""

    layers: int
    queries: int
    height: int
    width: int
    precision: str

    @staticmethod
    def of(row: Mapping[str, Any]) -> Form:
        """Of the plain values among others."""
        return Form(**{each.name: row[each.name] for each in fields(Form)})

    def __str__(self) -> str:
        return (
            f"{number_of(self.layers, 'layer')}, {number_of(self.queries, 'query')}, "
            f"{self.width}x{self.height}, {self.precision}"
        )


@dataclass(frozen=True)
class Point:
    """What a form measured. mAP on validation and on test (None: there is none), the score `threshold` with the best F1
    on validation, and that F1; ms an image, batch 1: the median from image file to boxes and of the network alone, the
    tenth and ninetieth hundredths of the former, and the median when it was measured again, alone (None: it was not);
    the file's bytes."""

    form: Form
    val_mAP: float
    test_mAP: float | None
    threshold: float | None
    latency_ms: float
    low_ms: float
    high_ms: float
    network_ms: float
    bytes: int
    val_f1: float | None = None
    again_ms: float | None = None

    @property
    def ms(self) -> float:
        """The latency that counts: measured again where it was, alone and on the very file that is handed over."""
        return self.latency_ms if self.again_ms is None else self.again_ms

    def row(self) -> dict[str, Any]:
        """As plain values, the form's beside the others."""
        values = asdict(self)
        return values.pop("form") | values

    @staticmethod
    def of(row: Mapping[str, Any]) -> Point:
        """The reverse."""
        return Point(
            Form.of(row), **{each.name: row[each.name] for each in fields(Point) if each.name != "form"}
        )


@dataclass(frozen=True)
class Wish:
    """Limits: None where nothing is asked."""

    latency_ms: float | None = None
    mAP: float | None = None
    megabytes: float | None = None

    @staticmethod
    def of(section: Mapping[str, Any]) -> Wish:
        """Of the leaves of `deploy`. Raises `UserError`."""
        latency = amount(section["max_latency"], "deploy.max_latency", ("us", "ms", "s"))
        size = amount(section["max_size"], "deploy.max_size", ("kb", "mb", "gb"))
        return Wish(latency, section["min_map"], size)

    def fits(self, point: Point) -> bool:
        return (
            (self.latency_ms is None or point.ms <= self.latency_ms)
            and (self.mAP is None or point.val_mAP >= self.mAP)
            and (self.megabytes is None or point.bytes <= self.megabytes * 1e6)
        )


def limits(section: Mapping[str, Any] | None) -> tuple[Wish, float | None]:
    """(what is wished, the limit of time in ms) of `deploy`'s leaves. Raises `UserError`."""
    if section is None:
        return Wish(), None
    return Wish.of(section), amount(section["max_time"], "deploy.max_time", ("s", "min", "h"))


def amount(text: str, leaf: str, units: Sequence[str]) -> float | None:
    """`15ms` -> 15.0, `0.5s` -> 500.0, `1GB` -> 1000.0; the unit must be told. None for nothing. Raises `UserError`."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]+)", text.strip())
    if not match or match[2].lower() not in units or float(match[1]) <= 0:
        near = f"; say {text.strip()}{units[1]}" if re.fullmatch(r"\s*0*[1-9]\d*(\.\d+)?\s*", text) else ""
        raise UserError(f"{leaf} must be a number above 0 with {' or '.join(units)}, but got '{text}'{near}")
    return float(match[1]) * UNITS[match[2].lower()]


def told_ms(point: Point, asked: float | None = None) -> str:
    """The latency that counts, apart from one `asked` for, and the other one."""
    first = f" measured again, {point.latency_ms:.1f} ms first" if point.again_ms is not None else ""
    return f"{_apart(point.ms, asked, 1)} ms{first}"


def slower(point: Point, again_ms: float) -> float:
    """How many times what was measured first a point took when it was measured again."""
    return again_ms / point.latency_ms


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats: fastest first, each with a higher mAP than all that are as fast."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.val_mAP)):
        if not found or point.val_mAP > found[-1].val_mAP:
            found.append(point)
    return found


def ranked(points: Sequence[Point], wish: Wish) -> list[Point]:
    """Those that fit, the one that is meant first: the most accurate within a latency or size, the fastest for a mAP
    alone; without a wish the fastest within WITHIN, and SHARE, of the most accurate. Raises `UserError` when none fits,
    saying how near they come."""
    fitting = [p for p in points if wish.fits(p)]
    if not fitting:
        raise UserError(_nearest(points, wish))
    if wish.latency_ms is not None or wish.megabytes is not None:
        return sorted(fitting, key=lambda p: (-p.val_mAP, p.ms))
    if wish.mAP is None:
        top = max(p.val_mAP for p in fitting)
        fitting = [p for p in fitting if p.val_mAP >= top - min(WITHIN, SHARE * abs(top))]
    return sorted(fitting, key=lambda p: (p.ms, -p.val_mAP))


def _nearest(points: Sequence[Point], wish: Wish) -> str:
    """Why none fits, in digits enough to tell what there is from what was asked for."""
    asked = [
        f"a latency of at most {wish.latency_ms:g} ms" if wish.latency_ms is not None else "",
        f"a mAP of at least {wish.mAP:g}" if wish.mAP is not None else "",
        f"a file of at most {wish.megabytes:g} MB" if wish.megabytes is not None else "",
    ]
    fastest, best = min(points, key=lambda p: p.ms), max(points, key=lambda p: p.val_mAP)
    small = min(points, key=lambda p: p.bytes)
    mAP, megabytes = _apart(best.val_mAP, wish.mAP, 4), _apart(small.bytes / 1e6, wish.megabytes, 1)
    return (
        f"none of {number_of(len(points), 'point')} has {' and '.join(filter(None, asked))}: the fastest takes "
        f"{told_ms(fastest, wish.latency_ms)}, the best has a mAP of {mAP}, the smallest {megabytes} MB"
    )


def _apart(value: float, asked: float | None, digits: int) -> str:
    """A figure with as many decimals as it takes not to look like what was asked for, `digits` at least."""
    texts = (f"{value:.{n}f}" for n in range(digits, digits + 9))
    return next((text for text in texts if asked is None or float(text) != asked), repr(value))

"""The set of valid numbers of one parameter, and the grammar in which schemas write it.

    math_cond  := clause { [","] clause }            "> 0.0 <= 1.0", ">=1", "^ 2", "/ 8", "> depends_on", "!= 0"
    clause     := OP operand | "^" number | "/" number
    OP         := ">" | ">=" | "<" | "<=" | "==" | "!="
    operand    := number | "depends_on" | the dotted name of another parameter
    depends_on := target { "," target }              "a.b", "> a.b", "a.b, c.d"; or a list of such texts
    target     := [OP] dotted name

`^ N` asks for a power of N, `/ N` for a multiple of N.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from automl.errors import SpaceError

HUGE = 1e300  # beyond it a bound is no bound, and a value no number
NEARLY = 1e-9  # relative: what counts as being a multiple or a power, in floating point
NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)"
NAME = r"[A-Za-z_][\w.\-\[\]]*"
_CLAUSE = re.compile(
    rf"\s*(?:(?:,|;|&&?|and\b)\s*)?(>=|<=|!=|==|>|<|=|\^|/)\s*({NUMBER}(?![\w.])|{NAME})", re.IGNORECASE
)
_TARGET = re.compile(rf"\s*(>=|<=|!=|==|>|<|=)?\s*({NAME})\s*")
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
            "==": operator.eq, "!=": operator.ne}  # fmt: skip
FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}
LOWER, UPPER = (">", ">=", "=="), ("<", "<=", "==")  # what bounds the left side from below, and from above

Clauses = tuple[tuple[str, float | str], ...]  # of a math_cond: (operator, number or name)


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int or float; True and False are not numbers here, nor is what overflows as soon as it is doubled."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= HUGE


def twelve(value: float) -> float:
    """The value with 12 significant digits."""
    return float(f"{value:.12g}")


@dataclass(frozen=True)
class Domain:
    """`whole` asks for integers, and then `low` and `high` are the first and last integer, never open."""

    whole: bool = False
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    multiple: float | None = None
    power: float | None = None
    excluded: tuple[float, ...] = ()

    @property
    def empty(self) -> bool:
        if self.low > self.high or math.inf in (self.low, -self.high):
            return True
        if self.low == self.high and (self.low_open or self.high_open or self.low in self.excluded):
            return True
        return bool(self.stepped and self.bounded and not self.steps(self.low, self.high, limit=1))

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def stepped(self) -> bool:
        return bool(self.multiple or self.power)

    @property
    def single(self) -> bool:
        """Whether exactly one number is valid."""
        if self.stepped and self.bounded:
            return len(self.steps(self.low, self.high, limit=2)) == 1
        return self.low == self.high

    def narrowed(
        self, low: float = -math.inf, high: float = math.inf, low_open: bool = False, high_open: bool = False
    ) -> Domain:
        """The part of the domain between two further ends."""
        if low < self.low or (low == self.low and not low_open):
            low, low_open = self.low, self.low_open
        if high > self.high or (high == self.high and not high_open):
            high, high_open = self.high, self.high_open
        return replace(self, low=low, high=high, low_open=low_open, high_open=high_open).tidy()

    def tidy(self) -> Domain:
        """For integers, ends that are integers and closed; an infinite end is open."""
        low, high = self.low, self.high
        if not self.whole:
            return self
        if math.isfinite(low):
            low = math.floor(low) + 1 if self.low_open else math.ceil(low)
        if math.isfinite(high):
            high = math.ceil(high) - 1 if self.high_open else math.floor(high)
        while low in self.excluded:
            low += 1
        while high in self.excluded:
            high -= 1
        low_open, high_open = self.low_open and low == -math.inf, self.high_open and high == math.inf
        return replace(self, low=low, high=high, low_open=low_open, high_open=high_open)

    def where(self, op: str, right: float) -> Domain:
        """The part of the domain that is `op right`; `^` and `/` ask for powers and multiples."""
        if op == "!=":
            return self if right in self.excluded else replace(self, excluded=(*self.excluded, right)).tidy()
        if op == "^":
            return replace(self, power=right)
        if op == "/":
            return replace(self, multiple=common_multiple(right, self.multiple or right))
        low = right if op in LOWER else -math.inf
        high = right if op in UPPER else math.inf
        return self.narrowed(low, high, op == ">", op == "<")

    def problem(self, value: Any) -> str | None:
        """Why a value is not in the domain, in words that follow the parameter's name; None when it is."""
        return None if self._holds(value) else f"must be {self}, but got {value!r}"

    def _holds(self, value: Any) -> bool:
        if not is_number(value) or (self.whole and value != int(value)) or value in self.excluded:
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and self._on_step(value)

    def _on_step(self, value: float) -> bool:
        if self.multiple:
            count = value / self.multiple
            if abs(count - round(count)) > NEARLY * max(1.0, abs(count)):
                return False
        if self.power:
            return value > 0 and abs(self.power ** round(math.log(value, self.power)) / value - 1) <= NEARLY
        return True

    def steps(self, low: float, high: float, limit: int = 4096) -> tuple[float, ...]:
        """The valid powers or multiples in [low, high], ascending, at most `limit`."""
        low, high = max(low, self.low, -HUGE), min(high, self.high, HUGE)
        found: list[float] = []
        for value in self._powers(low, high) if self.power else self._multiples(low, high, limit):
            near = self.whole and abs(value - round(value)) <= NEARLY * max(1.0, abs(value))
            value = round(value) if near else value if self.whole else twelve(value)
            if low <= value <= high and self._holds(value):
                found.append(value)
            if len(found) == limit:
                break
        return tuple(found)

    def _powers(self, low: float, high: float) -> list[float]:
        power = self.power or 1.0
        if high <= 0 or low > high:
            return []
        ends = sorted((math.log(max(low, 1e-12), power), math.log(high, power)))
        return sorted(power**k for k in range(math.floor(ends[0]), math.ceil(ends[1]) + 1))

    def _multiples(self, low: float, high: float, limit: int) -> list[float]:
        step = self.multiple or 1.0
        first, last = math.ceil(low / step - NEARLY), math.floor(high / step + NEARLY)
        return [k * step for k in range(first, min(last, first + 2 * limit) + 1)]

    def nearest(self, value: float) -> float | None:
        """The valid number closest to `value`, or None when the domain has none; open ends are left by a hair."""
        if self.empty:
            return None
        value = min(max(value, self.low), self.high)
        if self.stepped:
            reach = max(1.0, abs(value)) * 2 + 2 * (self.multiple or self.power or 1)
            near = self.steps(value - reach, value + reach)
            return min(near, key=lambda v: (abs(v - value), v), default=None)
        hair = 1e-3 * (self.high - self.low if self.bounded else max(1.0, abs(value)))
        options: list[float] = [value, value + hair, value - hair]
        if self.whole:
            value = round(value)
            options = [value, *(value + s * k for k in range(1, len(self.excluded) + 2) for s in (1, -1))]
        return next((v for v in options if self._holds(v)), None)

    def __str__(self) -> str:
        opening = "(" if self.low_open or self.low == -math.inf else "["
        closing = ")" if self.high_open or self.high == math.inf else "]"
        text = "an integer" if self.whole else "a number"
        if math.isfinite(self.low) or math.isfinite(self.high):
            text += f" in {opening}{self.low:g}, {self.high:g}{closing}"
        text += f", a power of {self.power:g}" if self.power else ""
        text += f", a multiple of {self.multiple:g}" if self.multiple else ""
        return text + (f", not {', '.join(f'{v:g}' for v in self.excluded)}" if self.excluded else "")


def common_multiple(a: float, b: float) -> float:
    """The least common multiple; of non-integers the larger when it is a multiple of the smaller, else a * b."""
    if a == b:
        return a
    if a == int(a) and b == int(b):
        return float(math.lcm(int(a), int(b)))
    low, high = sorted((a, b))
    return high if abs(high / low - round(high / low)) < NEARLY else a * b


@dataclass(frozen=True)
class Relation:
    """`x OP product of the named parameters`."""

    op: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.op} {' * '.join(self.names)}"

    def right(self, values: dict[str, Any]) -> float:
        """The right-hand side, given the values of the named parameters."""
        result = values[self.names[0]]
        for name in self.names[1:]:
            result = result * values[name]
        return result

    def holds(self, left: float, values: dict[str, Any]) -> bool:
        return self.op not in _COMPARE or bool(_COMPARE[self.op](left, self.right(values)))


def parse_math_cond(text: Any, where: str) -> Clauses:
    """Parse a `math_cond`. Raises `SpaceError` naming the parameter and the place that cannot be read."""
    if text is None:
        return ()
    if not isinstance(text, str):
        raise SpaceError(f"{where}: math_cond must be text such as '> 0.0', but got {text!r}")
    clauses: list[tuple[str, float | str]] = []
    position = 0
    while text[position:].strip():
        clause = _CLAUSE.match(text, position)
        if clause is None:
            raise SpaceError(
                f"{where}: math_cond '{text}' cannot be read from '{text[position:].strip()}' on; it must be a chain "
                "of OP NUMBER, OP depends_on, ^ NUMBER (powers) or / NUMBER (multiples)"
            )
        position = clause.end()
        operand = float(clause[2]) if re.fullmatch(NUMBER, clause[2], re.IGNORECASE) else clause[2]
        clauses.append(("==" if clause[1] == "=" else clause[1], operand))
        _check_step(*clauses[-1], f"{where}: math_cond '{text}'")
    return tuple(clauses)


def _check_step(op: str, operand: float | str, where: str) -> None:
    good = isinstance(operand, float) and math.isfinite(operand) and operand > 0
    if op == "^" and (not good or operand == 1):
        raise SpaceError(f"{where}: '^' needs a positive number other than 1 (powers)")
    if op == "/" and not good:
        raise SpaceError(f"{where}: '/' needs a positive number (multiples)")


def parse_depends_on(raw: Any, where: str) -> tuple[tuple[str | None, str], ...]:
    """(operator or None, dotted name) of every target. Raises `SpaceError` naming the parameter."""
    targets = []
    for text in raw if isinstance(raw, (list, tuple)) else [] if raw in (None, "") else [raw]:
        if not isinstance(text, str):
            raise SpaceError(f"{where}: depends_on must be a parameter's name, but got {raw!r}")
        for part in text.split(","):
            target = _TARGET.fullmatch(part)
            if target is None:
                raise SpaceError(f"{where}: depends_on must be '[OP] NAME', but got '{part.strip()}'")
            targets.append(("==" if target[1] == "=" else target[1], target[2]))
    return tuple(targets)

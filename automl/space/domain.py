"""The set of valid numbers of one parameter: an interval with open or closed ends, steps, and single exclusions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from automl.space.conditions import MathCond

HUGE = 1e300  # beyond it a bound is no bound, and a value no number
NEARLY = 1e-9  # relative: what counts as being a multiple or a power, in floating point


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int or float; True and False are not numbers here, nor is what overflows as soon as it is doubled."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= HUGE


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
        if self.low == self.high and (self.low_open or self.high_open):
            return True
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return False
        if self.multiple or self.power:
            return not self.steps(self.low, self.high, limit=1)
        return self.low == self.high and self.low in self.excluded

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
        low, high, low_open, high_open = self.low, self.high, self.low_open, self.high_open
        if self.whole:
            if math.isfinite(low):
                low, low_open = (math.floor(low) + 1 if low_open else math.ceil(low)), False
            if math.isfinite(high):
                high, high_open = (math.ceil(high) - 1 if high_open else math.floor(high)), False
            while low in self.excluded:
                low += 1
            while high in self.excluded:
                high -= 1
        return replace(self, low=low, high=high, low_open=low_open, high_open=high_open)

    def with_conditions(self, cond: MathCond) -> Domain:
        """The domain with the numeric clauses of a `math_cond` in force."""
        domain = self
        for op, number in cond.numbers:
            if op in (">", ">="):
                domain = domain.narrowed(low=number, low_open=op == ">")
            elif op in ("<", "<="):
                domain = domain.narrowed(high=number, high_open=op == "<")
            elif op == "==":
                domain = domain.narrowed(low=number, high=number)
            else:
                domain = replace(domain, excluded=(*domain.excluded, number))
        multiple = cond.multiples_of if cond.multiples_of is not None else domain.multiple
        if cond.multiples_of and domain.multiple and domain.multiple != cond.multiples_of:
            multiple = common_multiple(cond.multiples_of, domain.multiple)
        return replace(domain, multiple=multiple, power=cond.powers_of or domain.power).tidy()

    def problem(self, value: Any) -> str | None:
        """Why a value is not in the domain, in words that follow the parameter's name; None when it is."""
        if not is_number(value) or (self.whole and value != int(value)):
            return f"must be {self}, but got {value!r}"
        inside = (value > self.low if self.low_open else value >= self.low) and (
            value < self.high if self.high_open else value <= self.high
        )
        if not inside or value in self.excluded or not self._on_step(value):
            return f"must be {self}, but got {value!r}"
        return None

    def _on_step(self, value: float) -> bool:
        if self.multiple and abs(value / self.multiple - round(value / self.multiple)) > NEARLY * max(
            1.0, abs(value / self.multiple)
        ):
            return False
        if self.power:
            return value > 0 and abs(self.power ** round(math.log(value, self.power)) / value - 1) <= NEARLY
        return True

    @property
    def stepped(self) -> bool:
        return bool(self.multiple or self.power)

    def steps(self, low: float, high: float, limit: int = 4096) -> tuple[float, ...]:
        """The valid powers or multiples in [low, high], ascending, at most `limit`."""
        low, high = max(low, self.low, -HUGE), min(high, self.high, HUGE)
        if low > high:
            return ()
        found: list[float] = []
        if self.power:
            top = min(max(high, 0.0), 1e300)
            if top <= 0:
                return ()
            bottom = max(low, 1e-12)
            ends = sorted((math.log(bottom, self.power), math.log(top, self.power)))
            exponents = range(math.floor(ends[0]), math.ceil(ends[1]) + 1)
            candidates = sorted(self.power**k for k in exponents)
        else:
            step = self.multiple or 1.0
            first = math.ceil(low / step - NEARLY)
            last = math.floor(high / step + NEARLY)
            candidates = [k * step for k in range(first, min(last, first + 2 * limit) + 1)]
        for value in candidates:
            if not self.whole:
                value = float(f"{value:.12g}")
            elif abs(value - round(value)) <= NEARLY * max(1.0, abs(value)):
                value = round(value)
            if low <= value <= high and self.problem(value) is None:
                found.append(value)
            if len(found) == limit:
                break
        return tuple(found)

    def nearest(self, value: float) -> float | None:
        """The valid number closest to `value`, or None when the domain has none; open ends are left by a hair."""
        if self.empty:
            return None
        value = min(max(value, self.low), self.high)
        if self.stepped:
            reach = max(1.0, abs(value)) * 2 + 2 * (self.multiple or self.power or 1)
            near = self.steps(value - reach, value + reach)
            return min(near, key=lambda v: (abs(v - value), v)) if near else None
        if self.whole:
            value = round(value)
            options = [value, *(value + s * k for k in range(1, len(self.excluded) + 2) for s in (1, -1))]
            return next((v for v in options if self.problem(v) is None), None)
        span = self.high - self.low if math.isfinite(self.high - self.low) else max(1.0, abs(value))
        if self.problem(value) is None:
            return value
        hair = span * 1e-3
        return next((v for v in (value + hair, value - hair) if self.problem(v) is None), None)

    def __str__(self) -> str:
        opening = "(" if self.low_open or self.low == -math.inf else "["
        closing = ")" if self.high_open or self.high == math.inf else "]"
        noun = "an integer" if self.whole else "a number"
        bounded = math.isfinite(self.low) or math.isfinite(self.high)
        text = f"{noun} in {opening}{self.low:g}, {self.high:g}{closing}" if bounded else noun
        if self.power:
            text += f", a power of {self.power:g}"
        if self.multiple:
            text += f", a multiple of {self.multiple:g}"
        if self.excluded:
            text += f", not {', '.join(f'{v:g}' for v in self.excluded)}"
        return text


def common_multiple(a: float, b: float) -> float:
    """The least common multiple; of non-integers the larger when it is a multiple of the smaller, else a * b."""
    if a == int(a) and b == int(b):
        return float(math.lcm(int(a), int(b)))
    low, high = sorted((a, b))
    return high if abs(high / low - round(high / low)) < NEARLY else a * b

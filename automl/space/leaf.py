"""One parameter as its schema describes it, and which values are valid for it: the validator of specs and of draws."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import Any, TypeGuard

from safe_documents import no_text

HUGE = 1e300  # beyond it a value is no number
EXACT = 2**53  # to it a double counts integers exactly; beyond it an integer's bound is no bound
NEARLY = 1e-9  # relative: what counts as being a multiple or a power, in floating point
UNSET = "???"  # OmegaConf's mark for "must be given"
OPEN_SHARE = 1e-3  # an open end is left by this share of what is searched
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
            "==": operator.eq, "!=": operator.ne}  # fmt: skip
FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}
LOWER, UPPER = (">", ">=", "=="), ("<", "<=", "==")  # what bounds the left side from below, and from above


# ---- numbers and words ---------------------------------------------------------------------------------------------


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int or float; True and False are not numbers here, nor is what overflows as soon as it is doubled."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= HUGE


def twelve(value: float) -> float:
    """The value with 12 significant digits."""
    return float(f"{value:.12g}")


def short(value: Any) -> str:
    """A value as a person writes it: 0.0002, true, [90, 180]; a long list by its ends."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)) and len(value) > 6:
        return f"[{short(value[0])}, {short(value[1])}, ..., {short(value[-1])}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def change(before: Any, after: Any) -> tuple[str, str]:
    """Two values as a person writes them, with as many digits, four at least, as tell them apart."""
    for digits in (4, 6, 9, 17):
        texts = [short(v) if not isinstance(v, float) else f"{v:.{digits}g}" for v in (before, after)]
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def same(a: Any, b: Any) -> bool:
    """Equality that tells True from 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def among(value: Any, choices: Sequence[Any]) -> bool:
    return any(same(value, choice) for choice in choices)


def coerced(value: Any, kind: str, choices: Sequence[Any] = ()) -> Any:
    """A value in a parameter's own type where that loses nothing; otherwise the value as it is."""
    if value is None or among(value, choices):
        return value
    plain = str(value).strip().lower()
    if choices and kind in ("choice", "ordered"):
        return next((c for c in choices if str(c).strip().lower() == plain), value)
    if kind == "bool" and isinstance(value, str):
        return {"true": True, "false": False}.get(plain, value)
    if kind in ("int", "float") and isinstance(value, (int, float, str)):
        try:
            number = float(value) if isinstance(value, str) else value
        except ValueError:
            return value
        if is_number(number):
            return float(number) if kind == "float" else int(number) if number == int(number) else number
    return list(value) if isinstance(value, tuple) else value


# ---- which numbers are valid ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Domain:
    """The set of valid numbers of one parameter. `whole` asks for integers, and then `low` and `high` are the first
    and last integer, never open. `values`, where there are some, are the only ones, ascending."""

    whole: bool = False
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    multiple: float | None = None
    power: float | None = None
    excluded: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def stepped(self) -> bool:
        return bool(self.multiple or self.power)

    def count(self, most: int) -> int:
        """How many numbers are valid; `most` for that many, or for more."""
        if self.low > self.high or math.inf in (self.low, -self.high):
            return 0
        if self.values or (self.stepped and self.bounded):
            return len(self.steps(limit=most))
        if self.low == self.high:
            return 0 if self.low_open or self.high_open or self.low in self.excluded else 1
        return most

    @property
    def empty(self) -> bool:
        return self.count(1) == 0

    @property
    def only(self) -> float | None:
        """The one valid number; None when there are more."""
        return self.nearest(self.low) if self.count(2) == 1 else None

    def narrowed(
        self, low: float = -math.inf, high: float = math.inf, low_open: bool = False, high_open: bool = False
    ) -> Domain:
        """The part of the domain between two further ends; the finite ends of integers are integers and closed."""
        if low < self.low or (low == self.low and not low_open):
            low, low_open = self.low, self.low_open
        if high > self.high or (high == self.high and not high_open):
            high, high_open = self.high, self.high_open
        if self.whole:
            low, high = (math.copysign(math.inf, end) if abs(end) > EXACT else end for end in (low, high))
        if self.whole and math.isfinite(low):
            low, low_open = math.floor(low) + 1 if low_open else math.ceil(low), False
        if self.whole and math.isfinite(high):
            high, high_open = math.ceil(high) - 1 if high_open else math.floor(high), False
        while self.whole and low in self.excluded:
            low += 1
        while self.whole and high in self.excluded:
            high -= 1
        steps = (self.multiple, self.power, self.excluded, self.values)
        return Domain(self.whole, low, high, low_open, high_open, *steps)

    def where(self, op: str, right: float) -> Domain:
        """The part of the domain that is `op right`; `^` and `/` ask for powers and multiples."""
        if op == "!=":
            return replace(self, excluded=tuple(dict.fromkeys((*self.excluded, right)))).narrowed()
        if op == "^":
            return replace(self, power=right)
        if op == "/":
            return replace(self, multiple=common_multiple(right, self.multiple or right))
        low = right if op in LOWER else -math.inf
        high = right if op in UPPER else math.inf
        return self.narrowed(low, high, op == ">", op == "<")

    def holds(self, value: Any) -> bool:
        if not is_number(value) or (self.whole and value != int(value)) or value in self.excluded:
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        if not (above and below) or (self.values and value not in self.values):
            return False
        count, power = value / (self.multiple or 1.0), self.power
        if self.multiple and abs(count - round(count)) > NEARLY * max(1.0, abs(count)):
            return False
        return not power or (value > 0 and abs(power ** round(math.log(value, power)) / value - 1) <= NEARLY)

    def steps(self, low: float = -math.inf, high: float = math.inf, limit: int = 4096) -> tuple[float, ...]:
        """The valid values, powers or multiples in [low, high], ascending, at most `limit`."""
        low, high, power = max(low, self.low, -HUGE), min(high, self.high, HUGE), self.power
        near: Iterable[float] = self.values
        if not near and low <= high and power and high > 0:
            ends = sorted((math.log(max(low, 1e-12), power), math.log(high, power)))
            near = sorted(power**k for k in range(math.floor(ends[0]), math.ceil(ends[1]) + 1))
        elif not near and low <= high and not power:
            step = self.multiple or 1.0
            first, last = math.ceil(low / step - NEARLY), math.floor(high / step + NEARLY)
            near = (k * step for k in range(first, min(last, first + 2 * limit) + 1))
        if self.whole:  # without the noise of floating point
            near = (round(v) if abs(v - round(v)) <= NEARLY * max(1.0, abs(v)) else v for v in near)
        elif not self.values:
            near = map(twelve, near)
        return tuple(islice((v for v in near if low <= v <= high and self.holds(v)), limit))

    def nearest(self, value: float) -> float | None:
        """The valid number closest to `value`, or None when the domain has none; open ends are left by a hair."""
        if self.empty:
            return None
        value = min(max(value, self.low), self.high)
        if self.values or self.stepped:
            reach = (
                math.inf if self.values else 2 * max(1.0, abs(value)) + 2 * (self.multiple or self.power or 1)
            )
            near = self.steps(value - reach, value + reach)
            return min(near, key=lambda v: (abs(v - value), v), default=None)
        hair = OPEN_SHARE * (self.high - self.low if self.bounded else max(1.0, abs(value)))
        options: list[float] = [value, value + hair, value - hair]
        if self.whole:
            value = round(value)
            options = [value, *(value + s * k for k in range(1, len(self.excluded) + 2) for s in (1, -1))]
        return next((v for v in options if self.holds(v)), None)

    def far(self, above: bool) -> tuple[float, bool]:
        """(the highest or lowest valid number, whether that end is open)."""
        if self.values:
            return self.steps()[-1 if above else 0], False
        end, is_open = (self.high, self.high_open) if above else (self.low, self.low_open)
        if self.power and not above:
            end = self.steps(high=self.nearest(1.0) or HUGE, limit=1)[0]
        elif self.stepped and math.isfinite(end):
            end = self.nearest(end) or 0.0
        return end, (is_open or end in self.excluded) and not self.stepped

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
    """The least common multiple of two positive numbers, as they are written: 7.5 of 1.5 and 2.5."""
    if a == b:
        return a
    one, other = (Fraction(repr(number)) for number in (a, b))
    top, bottom = math.lcm(one.numerator, other.numerator), math.gcd(one.denominator, other.denominator)
    return float(top / Fraction(bottom)) if top < HUGE * bottom else HUGE


@dataclass(frozen=True)
class Relation:
    """`left OP right`, two parameters; OP "after" says nothing but which of them is drawn first."""

    left: str
    op: str
    right: str

    @property
    def sides(self) -> tuple[str, str]:
        return self.left, self.right

    @property
    def text(self) -> str:
        return f"{self.left} {self}"

    def __str__(self) -> str:
        return f"{self.op} {self.right}"

    def broken(self, values: Mapping[str, Any]) -> str | None:
        """The two values where they are numbers of which it does not hold, in words; else None."""
        left, right = values.get(self.left), values.get(self.right)
        if self.op == "after" or not (is_number(left) and is_number(right)) or _COMPARE[self.op](left, right):
            return None
        return f"{self.left} is {short(left)}, {self.right} is {short(right)}"


@dataclass(frozen=True)
class Condition:
    """The parameter matters only while `name` has one of `values`."""

    name: str
    values: tuple[Any, ...]

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        return among(drawn.get(self.name), self.values)

    def __str__(self) -> str:
        values = " or ".join("null" if v is None else short(v) for v in self.values)
        return f"{self.name} is {values}"


# ---- which values are valid ----------------------------------------------------------------------------------------

_TYPES: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"), "text": (str, "text"), "mapping": (Mapping, "a mapping"),
}  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """One parameter as its schema describes it. `kind` is int, float, bool, text, choice, ordered, list, subset,
    mapping or null; `domain` is there for int and float, `choices` wherever an enum is."""

    name: str
    path: tuple[str, ...]
    kind: str
    word: str = ""  # the schema's own word for the type
    default: Any = None
    nullable: bool = False
    domain: Domain | None = None
    choices: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    cond: tuple[tuple[str, float | str], ...] = ()  # of its math_cond: (operator, number or name)
    depends_on: tuple[tuple[str | None, str], ...] = ()
    hint: tuple[tuple[str, Any], ...] = ()  # our own search hint: low, high, log
    active_when: tuple[Condition, ...] = ()
    items: Leaf | None = None
    bounds_by_item: tuple[Domain, ...] = ()  # of a list whose minimum or maximum is a list
    min_items: int = 0
    max_items: int | None = None
    unique: bool = False
    pattern: str | None = None
    min_length: int = 0  # characters of a text
    max_length: int | None = None
    branches: tuple[Leaf, ...] = ()  # anyOf: what else is valid, though not searched
    unread: tuple[str, ...] = ()  # keywords that restrict it in ways we do not model
    forbidden: tuple[Any, ...] = ()  # of its enum, by its own type and bounds
    overlaps: bool = False  # a value may be valid in several of its oneOf, and so not valid

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know who searches it, in words that follow its name."""
        gone = f"its type and bounds forbid {', '.join(map(short, self.forbidden))} of its enum"
        several = "its oneOf is not modelled: what is drawn may fit several of them, which the schema forbids"
        return (*([gone] if self.forbidden else []), *([several] if self.overlaps else []))

    @property
    def options(self) -> tuple[Any, ...]:
        """What it can become, where that can be listed."""
        return self.choices or ((False, True) if self.kind == "bool" else ())

    def typed(self, value: Any) -> Any:
        """A value in the parameter's own type where that loses nothing: "1e-4" of a float is a number."""
        if self.kind == "list" and isinstance(value, (list, tuple)):
            kind = self.items.kind if self.items else "float"
            return [coerced(element, kind) for element in value]
        return coerced(value, self.kind, self.choices)

    def problem(self, value: Any) -> str | None:
        """Why the value is not valid here, in words that follow the name; None when it is."""
        if value is None and self.nullable:
            return None
        own = self._own_problem(value)
        return None if own and any(branch.problem(value) is None for branch in self.branches) else own

    def _own_problem(self, value: Any) -> str | None:
        if self.kind in ("subset", "list"):
            return self._list_problem(value)
        wanted, noun = _TYPES.get(self.kind, (object, ""))
        if self.choices:
            good, must = among(value, self.choices), f"be one of {', '.join(map(short, self.choices))}"
        elif self.domain:
            good, must = self.domain.holds(value), f"be {self.domain}"
        else:
            good, must = isinstance(value, wanted), f"be {noun}"
            if self.kind == "text" and not good:
                return f"must be text, but got {no_text(value)}"
            if isinstance(value, str) and not self.min_length <= len(value) <= (
                math.inf if self.max_length is None else self.max_length
            ):
                most = "" if self.max_length is None else f" and at most {self.max_length}"
                return f"must have at least {self.min_length}{most} characters, but got {value!r}"
            if good and self.pattern and isinstance(value, str):
                with suppress(re.error):
                    good, must = bool(re.search(self.pattern, value)), f"match {self.pattern}"
        return None if good else f"must {must}, but got {value!r}"

    def _list_problem(self, value: Any) -> str | None:
        if not isinstance(value, (list, tuple)):
            return f"must be a list, but got {value!r}"
        if len(value) < self.min_items or (self.max_items is not None and len(value) > self.max_items):
            most = "" if self.max_items is None else f" and at most {self.max_items}"
            return f"must have at least {self.min_items}{most} elements, but got {value!r}"
        options = self.choices if self.kind == "subset" else ()
        if (self.unique or options) and any(among(a, value[:i]) for i, a in enumerate(value)):
            return f"must not repeat an element, but got {value!r}"
        each = Leaf(self.name, (), "choice", choices=options) if options else self.items
        for i, element in enumerate(value):
            wrong, domain = each.problem(element) if each else None, self.item_domain(i)
            if not wrong and domain and is_number(element) and not domain.holds(element):
                wrong = f"must be {domain}, but got {element!r}"
            if wrong:
                return f"[{i}] {wrong}"
        return None

    def item_domain(self, index: int) -> Domain | None:
        """The bounds of one element of a list of numbers, when the list has bounds."""
        if self.bounds_by_item:
            return self.bounds_by_item[min(index, len(self.bounds_by_item) - 1)]
        return self.items.domain if self.items else None

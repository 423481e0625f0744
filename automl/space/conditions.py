"""The grammar of `math_cond` and `depends_on`.

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
import re
from dataclasses import dataclass
from typing import Any

from automl.errors import SpaceError

NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?)"
NAME = r"[A-Za-z_][\w.\-\[\]]*"
_CLAUSE = re.compile(
    rf"\s*(?:(?:,|;|&&?|and\b)\s*)?(>=|<=|!=|==|>|<|=|\^|/)\s*({NUMBER}(?![\w.])|{NAME})", re.IGNORECASE
)
_TARGET = re.compile(rf"\s*(>=|<=|!=|==|>|<|=)?\s*({NAME})\s*")
FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}


@dataclass(frozen=True)
class MathCond:
    """A parsed `math_cond`: comparisons with numbers, with other parameters ("depends_on" stays as it is), steps."""

    numbers: tuple[tuple[str, float], ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    powers_of: float | None = None
    multiples_of: float | None = None


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
        return compare(left, self.op, self.right(values))


def compare(left: float, op: str, right: float) -> bool:
    """`left OP right`."""
    if op == ">":
        return left > right
    if op == ">=":
        return left >= right
    if op == "<":
        return left < right
    if op == "<=":
        return left <= right
    return left == right if op == "==" else left != right


def parse_math_cond(text: Any, where: str) -> MathCond:
    """Parse a `math_cond`. Raises `SpaceError` naming the parameter and the place that cannot be read."""
    if text is None:
        return MathCond()
    if not isinstance(text, str):
        raise SpaceError(f"{where}: math_cond must be text such as '> 0.0', but got {text!r}")
    numbers: list[tuple[str, float]] = []
    names: list[tuple[str, str]] = []
    steps: dict[str, float] = {}
    position = 0
    while text[position:].strip():
        clause = _CLAUSE.match(text, position)
        if clause is None:
            raise SpaceError(
                f"{where}: math_cond '{text}' cannot be read from '{text[position:].strip()}' on; it must be a chain "
                "of OP NUMBER, OP depends_on, ^ NUMBER (powers) or / NUMBER (multiples)"
            )
        position = clause.end()
        op, operand = clause[1].replace("=", "==") if clause[1] == "=" else clause[1], clause[2]
        number = _number(operand)
        if op in ("^", "/"):
            steps[op] = _step(op, number, text, where)
        elif number is not None:
            numbers.append((op, number))
        else:
            names.append((op, operand))
    return MathCond(tuple(numbers), tuple(names), steps.get("^"), steps.get("/"))


def _number(operand: str) -> float | None:
    return float(operand) if re.fullmatch(NUMBER, operand, re.IGNORECASE) else None


def _step(op: str, number: float | None, text: str, where: str) -> float:
    good = number is not None and math.isfinite(number) and number > 0 and not (op == "^" and number == 1)
    if not good or number is None:
        what = "a positive number other than 1 (powers)" if op == "^" else "a positive number (multiples)"
        raise SpaceError(f"{where}: math_cond '{text}': '{op}' needs {what}")
    return number


def parse_depends_on(raw: Any, where: str) -> tuple[tuple[str | None, str], ...]:
    """(operator or None, dotted name) of every target. Raises `SpaceError` naming the parameter."""
    if raw is None or raw == "":
        return ()
    texts = raw if isinstance(raw, (list, tuple)) else [raw]
    targets = []
    for text in texts:
        if not isinstance(text, str):
            raise SpaceError(f"{where}: depends_on must be a parameter's name, but got {raw!r}")
        for part in text.split(","):
            target = _TARGET.fullmatch(part)
            if target is None:
                raise SpaceError(f"{where}: depends_on must be '[OP] NAME', but got '{part.strip()}'")
            targets.append(("==" if target[1] == "=" else target[1], target[2]))
    return tuple(targets)

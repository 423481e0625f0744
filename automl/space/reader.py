"""One node of a schema, in either dialect -> a `Leaf`. What contradicts itself raises `SpaceError`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl.errors import SpaceError
from automl.space import references
from automl.space.domain import Domain, is_number, parse_depends_on, parse_math_cond
from automl.space.leaf import Leaf, checked_weights, coerced, same
from automl.space.references import Node
from automl.space.words import as_bool, as_number

KINDS = {
    **dict.fromkeys(("int", "integer", "long"), "int"),
    **dict.fromkeys(("float", "number", "double"), "float"),
    **dict.fromkeys(("bool", "boolean"), "bool"),
    **dict.fromkeys(("string", "str", "text"), "text"),
    **dict.fromkeys(("categorical", "enum"), "choice"),
    **dict.fromkeys(("ordered", "ordered_int", "ordered_float"), "ordered"),
    **dict.fromkeys(("list", "array", "tuple", "list_1_backbone", "list_1_normal", "list_2", "list_3"), "list"),
    **dict.fromkeys(("subset_list", "optional_list"), "subset"),
    **dict.fromkeys(("collection", "dict", "object", "mapping"), "mapping"),
}  # fmt: skip
TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "text": str, "list": (list, tuple)}
_ITEM_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "math_cond")
UNREAD = (
    "not",
    "if",
    "dependentSchemas",
    "dependentRequired",
    "patternProperties",
    "contains",
    "prefixItems",
)


def read_leaf(root: Node, node: Node, path: tuple[str, ...], has_default: bool, default: Any) -> Leaf:
    """The record of a flat node of the schema `root`. Raises `SpaceError` naming the parameter."""
    reader = _Reader(root, ".".join(path), path, has_default, default)
    branch, others = reader.pick(node)
    return reader.record(branch, others, node)


@dataclass(frozen=True)
class _Reader:
    root: Node
    name: str
    path: tuple[str, ...]
    has_default: bool
    default: Any

    def pick(self, node: Node) -> tuple[Node, list[Node]]:
        """The branch of anyOf/oneOf or of a list of types that the default belongs to, and the others."""
        branches = references.branches(self.root, node, self.name)
        scalar = next((b for b in branches if KINDS.get(str(b.get("type"))) != "list"), branches[0])
        chosen = next((b for b in branches if self.has_default and self._fits(b)), scalar)
        return chosen, [b for b in branches if b is not chosen]

    def _fits(self, branch: Node) -> bool:
        if isinstance(branch.get("enum"), (list, tuple)):
            return any(same(self.default, choice) for choice in branch["enum"])
        kind = KINDS.get(str(branch.get("type")), "")
        numeric = kind in ("int", "float") and isinstance(self.default, bool)
        return kind in TYPES and isinstance(self.default, TYPES[kind]) and not numeric

    def record(self, node: Node, others: list[Node], outer: Node) -> Leaf:
        word, null_type = references.type_of(outer if outer.get("type") else node, self.name)
        if node is not outer:
            word = references.type_of(node, self.name)[0] or word
        choices, null_choice = self._choices(node)
        kind = self._kind(word, choices, node)
        default = coerced(self.default, kind, choices) if self.has_default else None
        cond = parse_math_cond(node.get("math_cond"), self.name)
        by_item = any(isinstance(node.get(k), (list, tuple)) for k in ("minimum", "maximum"))
        items = self._items(node, default) if kind == "list" else None
        return Leaf(
            self.name, self.path, kind, word, default,
            nullable=null_type or null_choice or references.nullable(outer),
            domain=self.domain(node, kind == "int") if kind in ("int", "float") and not by_item else None,
            choices=choices, weights=self._weights(node, choices), cond=cond,
            depends_on=parse_depends_on(node.get("depends_on"), self.name), hint=self._hint(node),
            active_when=self._active_when(node), items=items,
            bounds_by_item=self._list_bounds(node, items) if by_item and kind == "list" else (),
            min_items=self._count(node, "minItems") or (1 if word == "subset_list" else 0),
            max_items=self._count(node, "maxItems"), unique=bool(node.get("uniqueItems")),
            pattern=node["pattern"] if isinstance(node.get("pattern"), str) else None,
            branches=tuple(self.record(b, [], b) for b in others),
            unread=tuple(key for key in UNREAD if key in node),
        )  # fmt: skip

    def _choices(self, node: Node) -> tuple[tuple[Any, ...], bool]:
        """(the enum without repetitions, whether null is in it)."""
        raw = [node["const"]] if "const" in node else node.get("enum")
        if raw is None:
            return (), False
        raw = [word.strip() for word in raw.split(",")] if isinstance(raw, str) else raw
        if not isinstance(raw, (list, tuple)) or not raw:
            raise SpaceError(f"{self.name}: enum must be a list of values, but got {raw!r}")
        found: list[Any] = []
        for value in raw:
            if isinstance(value, float) and not is_number(value):
                raise SpaceError(f"{self.name}: enum must hold finite values, but got {value!r}")
            found += [] if any(same(value, other) for other in found) else [value]
        if str(node.get("type", "")).startswith("list_1") and not any(isinstance(c, list) for c in found):
            found = [[value] for value in found]  # its value is a list of one option
        return self._within(tuple(found), node), None in raw

    def _within(self, choices: tuple[Any, ...], node: Node) -> tuple[Any, ...]:
        """The numbers of an enum that keep its own minimum, maximum and math_cond; "true" beside a boolean default."""
        if isinstance(self.default, bool):
            words = {"true": True, "false": False}
            choices = tuple(words.get(c.lower(), c) if isinstance(c, str) else c for c in choices)
        if not choices or not all(is_number(c) for c in choices):
            return choices
        domain = self.domain(node, False)
        kept = tuple(c for c in choices if domain.problem(c) is None)
        if not kept:
            raise SpaceError(f"{self.name}: no value of its enum {list(choices)} is {domain}")
        return kept

    def _kind(self, word: str, choices: tuple[Any, ...], node: Node) -> str:
        kind = KINDS.get(word.lower(), "")
        if choices and kind in ("list", "subset") and not all(isinstance(c, list) for c in choices):
            return "subset"
        if choices:
            numeric = all(is_number(c) for c in choices)
            return "ordered" if kind == "ordered" or (numeric and kind != "choice") else "choice"
        if kind == "subset":
            raise SpaceError(f"{self.name}: a {word} needs an enum of its options")
        if kind in ("choice", "ordered"):
            return "text" if isinstance(self.default, str) or not self.has_default else self._guess()
        return kind or self._guess()

    def _guess(self) -> str:
        """The kind of a default, for a type word that says nothing."""
        value = self.default
        if is_number(value):
            return "int" if isinstance(value, int) else "float"
        kinds = {bool: "bool", str: "text", list: "list", tuple: "list", dict: "mapping"}
        return kinds.get(type(value), "null")

    def domain(self, node: Node, whole: bool) -> Domain:
        """Bounds, multipleOf and the numeric part of math_cond. Raises `SpaceError` when nothing is left."""
        domain = self._between(node, Domain(whole), ">", "minimum", "exclusiveMinimum")
        domain = self._between(node, domain, "<", "maximum", "exclusiveMaximum")
        multiple = as_number(node.get("multipleOf"), self.name, "multipleOf")
        if multiple is not None and not (is_number(multiple) and multiple > 0):
            raise SpaceError(
                f"{self.name}: multipleOf must be a positive number, but got {node['multipleOf']!r}"
            )
        if multiple is not None and not (whole and multiple == 1):
            domain = domain.where("/", multiple)
        for op, operand in parse_math_cond(node.get("math_cond"), self.name):
            domain = domain if isinstance(operand, str) else domain.where(op, operand)
        if domain.empty:
            text = ", ".join(f"{k} {node[k]!r}" for k in _ITEM_BOUNDS if node.get(k) is not None)
            raise SpaceError(f"{self.name}: no {'integer' if whole else 'number'} satisfies {text}")
        return domain

    def _between(self, node: Node, domain: Domain, sign: str, key: str, exclusive: str) -> Domain:
        bound, raw = as_number(node.get(key), self.name, key), node.get(exclusive)
        end = None if isinstance(raw, bool) else as_number(raw, self.name, exclusive)
        if bound is not None:  # draft 4 wrote a boolean beside minimum
            domain = domain.where(sign if raw is True else sign + "=", bound)
        return domain if end is None else domain.where(sign, end)

    def _items(self, node: Node, default: Any) -> Leaf | None:
        """What the elements must be: the schema's `items`, else what the default's elements and the bounds show."""
        raw = node.get("items")
        inner = references.flat(self.root, raw, self.name) if isinstance(raw, Mapping) else {}
        if inner.get("type") or "enum" in inner:
            kind = KINDS.get(references.type_of(inner, self.name)[0].lower(), "mapping")
            choices = tuple(inner["enum"]) if isinstance(inner.get("enum"), (list, tuple)) else ()
            domain = self.domain(inner, kind == "int") if kind in ("int", "float") else None
            return Leaf(self.name, (), kind, choices=choices, domain=domain)
        elements = default if isinstance(default, (list, tuple)) else []
        if elements and all(is_number(e) for e in elements):
            whole = all(isinstance(e, int) for e in elements)
            bounds = {k: v for k, v in node.items() if k in _ITEM_BOUNDS and not isinstance(v, (list, tuple))}
            return Leaf(self.name, (), "int" if whole else "float", domain=self.domain(bounds, whole))
        return Leaf(self.name, (), "text") if elements and all(isinstance(e, str) for e in elements) else None

    def _list_bounds(self, node: Node, items: Leaf | None) -> tuple[Domain, ...]:
        """One domain per element, of bounds that are lists ([.8, .9] and [.95, .999])."""
        raws = {key: node.get(key) for key in ("minimum", "maximum")}
        ends = {key: list(raw) if isinstance(raw, (list, tuple)) else [raw] for key, raw in raws.items()}
        count = max(map(len, ends.values()))
        for key, end in ends.items():
            if len(end) not in (1, count):
                raise SpaceError(f"{self.name}: {key} must have {count} elements, but got {end!r}")
        domains = []
        for i in range(count):
            bounds = {k: e[min(i, len(e) - 1)] for k, e in ends.items()}
            domain = self.domain(
                {**bounds, "math_cond": node.get("math_cond")}, bool(items and items.kind == "int")
            )
            if items and items.domain:
                domain = items.domain.narrowed(domain.low, domain.high, domain.low_open, domain.high_open)
            if domain.empty:
                raise SpaceError(f"{self.name}: no number is within the bounds of element {i} and of `items`")
            domains.append(domain)
        return tuple(domains)

    def _weights(self, node: Node, choices: tuple[Any, ...]) -> tuple[float, ...]:
        raw = node.get("option_weights")
        if raw is None or not choices:
            return ()
        options = list(node.get("enum", choices))
        weights = checked_weights(raw, len(options), self.name)
        kept = [sum(w for w, o in zip(weights, options, strict=True) if same(o, c)) for c in choices]
        return checked_weights(kept, len(choices), self.name)

    def _hint(self, node: Node) -> tuple[tuple[str, Any], ...]:
        raw = node.get("search")
        if raw is None:
            return ()
        if not isinstance(raw, Mapping):
            raise SpaceError(f"{self.name}: search must be {{low, high, log}}, but got {raw!r}")
        ends = tuple((key, as_number(raw.get(key), self.name, f"search.{key}")) for key in ("low", "high"))
        return (*ends, ("log", as_bool(raw.get("log"), self.name, "search.log")))

    def _active_when(self, node: Node) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        raw = node.get("active_when")
        if raw is not None and not isinstance(raw, Mapping):
            raise SpaceError(f"{self.name}: active_when must be {{name: [values]}}, but got {raw!r}")
        return tuple(
            (str(other), tuple(values) if isinstance(values, (list, tuple)) else (values,))
            for other, values in (raw or {}).items()
        )

    def _count(self, node: Node, key: str) -> int | None:
        number = as_number(node.get(key), self.name, key)
        if number is None:
            return None
        if not is_number(number) or number < 0 or number != int(number):
            raise SpaceError(f"{self.name}: {key} must be a count, but got {node[key]!r}")
        return int(number)

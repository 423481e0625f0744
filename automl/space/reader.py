"""One node of a schema, in either dialect -> a `Leaf`. What contradicts itself raises `SpaceError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl.errors import SpaceError
from automl.space.conditions import MathCond, parse_depends_on, parse_math_cond
from automl.space.domain import Domain, is_number
from automl.space.leaf import Leaf, checked_weights, coerced, same
from automl.space.words import as_bool, as_number

if TYPE_CHECKING:
    from automl.space.schema import Schema

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
UNREAD = (
    "not",
    "if",
    "dependentSchemas",
    "dependentRequired",
    "patternProperties",
    "contains",
    "prefixItems",
)


class LeafReader:
    """Turns one schema node into a `Leaf`."""

    def __init__(self, schema: Schema, name: str) -> None:
        self.schema, self.name = schema, name
        self.has_default, self.default = schema.default(name)

    def read(self) -> Leaf:
        node = self.schema.resolver.flat(self.schema.nodes[self.name], self.name)
        leaf, others = self._pick(node)
        return self._record(leaf, others, node)

    def _pick(self, node: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        """The branch of anyOf/oneOf or of a list of types that the default belongs to, and the others."""
        branches = self.schema.resolver.branches(node, self.name)
        if len(branches) <= 1:
            return (branches[0] if branches else node), []
        for i, branch in enumerate(branches):
            if self.has_default and self._fits(branch):
                return branch, branches[:i] + branches[i + 1 :]
        scalar = next((b for b in branches if KINDS.get(str(b.get("type"))) != "list"), branches[0])
        return scalar, [b for b in branches if b is not scalar]

    def _fits(self, branch: Mapping[str, Any]) -> bool:
        if "enum" in branch and isinstance(branch["enum"], (list, tuple)):
            return any(same(self.default, choice) for choice in branch["enum"])
        kind = KINDS.get(str(branch.get("type")), "")
        kinds: dict[str, Any] = {
            "int": int,
            "float": (int, float),
            "bool": bool,
            "text": str,
            "list": (list, tuple),
        }
        numeric = kind in ("int", "float") and isinstance(self.default, bool)
        return kind in kinds and isinstance(self.default, kinds[kind]) and not numeric

    def _record(
        self, node: Mapping[str, Any], others: list[Mapping[str, Any]], outer: Mapping[str, Any]
    ) -> Leaf:
        name = self.name
        word, nullable = self.schema.resolver.type_of(outer if outer.get("type") else node, name)
        if node is not outer:
            word = self.schema.resolver.type_of(node, name)[0] or word
        choices, null_choice = self._choices(node)
        kind = self._kind(word, choices, node)
        default = self._default(kind, choices)
        cond = parse_math_cond(node.get("math_cond"), name)
        lists = [k for k in ("minimum", "maximum") if isinstance(node.get(k), (list, tuple))]
        domain = None if lists or kind not in ("int", "float") else self.domain(node, kind == "int", cond)
        items = self._items(node, default, cond) if kind == "list" else None
        return Leaf(
            name, self.schema.paths[name], kind, word, default, self.has_default,
            nullable=nullable or null_choice or self.schema.resolver.nullable(outer),
            domain=domain, choices=choices, weights=self._weights(node, choices), cond=cond,
            depends_on=parse_depends_on(node.get("depends_on"), name), hint=self._hint(node),
            active_when=self._active_when(node), items=items,
            bounds_by_item=self._list_bounds(node, items, cond) if lists and kind == "list" else (),
            min_items=self._count(node, "minItems") or (1 if word == "subset_list" else 0),
            max_items=self._count(node, "maxItems"), unique=bool(node.get("uniqueItems")),
            pattern=node["pattern"] if isinstance(node.get("pattern"), str) else None,
            branches=tuple(LeafReader(self.schema, name)._record(b, [], b) for b in others),
            unread=tuple(key for key in UNREAD if key in node),
        )  # fmt: skip

    def _choices(self, node: Mapping[str, Any]) -> tuple[tuple[Any, ...], bool]:
        """(the enum without repetitions, whether null is in it)."""
        raw = [node["const"]] if "const" in node else node.get("enum")
        if raw is None:
            return (), False
        if isinstance(raw, str):
            raw = [word.strip() for word in raw.split(",")]
        if not isinstance(raw, (list, tuple)) or not raw:
            raise SpaceError(f"{self.name}: enum must be a list of values, but got {raw!r}")
        found: list[Any] = []
        for value in raw:
            if isinstance(value, float) and not is_number(value):
                raise SpaceError(f"{self.name}: enum must hold finite values, but got {value!r}")
            if not any(same(value, other) for other in found):
                found.append(value)
        if str(node.get("type", "")).startswith("list_1") and not any(isinstance(c, list) for c in found):
            found = [[value] for value in found]  # its value is a list of one option
        return self._within(tuple(found), node), None in raw

    def _within(self, choices: tuple[Any, ...], node: Mapping[str, Any]) -> tuple[Any, ...]:
        """The numbers of an enum that keep its own minimum, maximum and math_cond; "true" beside a boolean default."""
        if isinstance(self.default, bool):
            words = {"true": True, "false": False}
            choices = tuple(words.get(c.lower(), c) if isinstance(c, str) else c for c in choices)
        if not choices or not all(is_number(c) for c in choices):
            return choices
        domain = self.domain(node, False, parse_math_cond(node.get("math_cond"), self.name))
        kept = tuple(c for c in choices if domain.problem(c) is None)
        if not kept:
            raise SpaceError(f"{self.name}: no value of its enum {list(choices)} is {domain}")
        return kept

    def _kind(self, word: str, choices: tuple[Any, ...], node: Mapping[str, Any]) -> str:
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
        if isinstance(value, bool):
            return "bool"
        if is_number(value):
            return "int" if isinstance(value, int) else "float"
        kinds: dict[type, str] = {str: "text", list: "list", tuple: "list", dict: "mapping"}
        return kinds.get(type(value), "null")

    def _default(self, kind: str, choices: tuple[Any, ...]) -> Any:
        """The default in the leaf's own type: "0.001" of a float is 0.001, 4.0 of an int is 4."""
        return coerced(self.default, kind, choices) if self.has_default else None

    def domain(self, node: Mapping[str, Any], whole: bool, cond: MathCond) -> Domain:
        """Bounds, multipleOf and the numeric part of math_cond. Raises `SpaceError` when nothing is left."""
        name = self.name
        low, high = (
            as_number(node.get("minimum"), name, "minimum"),
            as_number(node.get("maximum"), name, "maximum"),
        )
        domain = Domain(whole)
        for key, bound in (("exclusiveMinimum", low), ("exclusiveMaximum", high)):
            raw = node.get(key)
            is_open = raw is True  # draft 4 wrote a boolean beside minimum
            number = None if isinstance(raw, bool) else as_number(raw, name, key)
            if key == "exclusiveMinimum":
                domain = domain if bound is None else domain.narrowed(low=bound, low_open=is_open)
                domain = domain if number is None else domain.narrowed(low=number, low_open=True)
            else:
                domain = domain if bound is None else domain.narrowed(high=bound, high_open=is_open)
                domain = domain if number is None else domain.narrowed(high=number, high_open=True)
        multiple = as_number(node.get("multipleOf"), name, "multipleOf")
        if multiple is not None and not (is_number(multiple) and multiple > 0):
            raise SpaceError(f"{name}: multipleOf must be a positive number, but got {node['multipleOf']!r}")
        if multiple is not None and not (whole and multiple == 1):
            domain = Domain(**{**domain.__dict__, "multiple": multiple})
        domain = domain.with_conditions(cond)
        if domain.empty:
            parts = {k: node[k] for k in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
                                          "math_cond") if node.get(k) is not None}  # fmt: skip
            text = ", ".join(f"{k} {v!r}" for k, v in parts.items())
            raise SpaceError(f"{name}: no {'integer' if whole else 'number'} satisfies {text}")
        return domain

    def _items(self, node: Mapping[str, Any], default: Any, cond: MathCond) -> Leaf | None:
        """What the elements must be: the schema's `items`, else what the default's elements and the bounds show."""
        raw = node.get("items")
        if isinstance(raw, Mapping):
            flat = self.schema.resolver.flat(raw, self.name)
            if flat.get("type") or "enum" in flat:
                return self._item_leaf(flat)
        elements = default if isinstance(default, (list, tuple)) else []
        if elements and all(is_number(e) for e in elements):
            whole = all(isinstance(e, int) for e in elements)
            bounds = {k: v for k, v in node.items() if not isinstance(v, (list, tuple))}
            free = not any(k in bounds for k in ("minimum", "maximum")) and not cond.numbers
            domain = Domain(whole) if free else self.domain(bounds, whole, cond)
            return Leaf(self.name, (), "int" if whole else "float", domain=domain)
        if elements and all(isinstance(e, str) for e in elements):
            return Leaf(self.name, (), "text")
        return None

    def _item_leaf(self, node: Mapping[str, Any]) -> Leaf:
        word = self.schema.resolver.type_of(node, self.name)[0]
        kind = KINDS.get(word.lower(), "mapping")
        choices = tuple(node["enum"]) if isinstance(node.get("enum"), (list, tuple)) else ()
        cond = parse_math_cond(node.get("math_cond"), self.name)
        domain = self.domain(node, kind == "int", cond) if kind in ("int", "float") else None
        return Leaf(self.name, (), kind, word, choices=choices, domain=domain)

    def _list_bounds(self, node: Mapping[str, Any], items: Leaf | None, cond: MathCond) -> tuple[Domain, ...]:
        """One domain per element, of bounds that are lists ([.8, .9] and [.95, .999])."""
        ends: dict[str, list[Any]] = {}
        for key in ("minimum", "maximum"):
            raw = node.get(key)
            ends[key] = list(raw) if isinstance(raw, (list, tuple)) else [raw]
        count = max(len(e) for e in ends.values())
        for key, end in ends.items():
            if len(end) not in (1, count):
                raise SpaceError(f"{self.name}: {key} must have {count} elements, but got {end!r}")
        whole = bool(items and items.kind == "int")
        domains = []
        for i in range(count):
            bounds = {k: e[min(i, len(e) - 1)] for k, e in ends.items() if e}
            domain = self.domain({k: v for k, v in bounds.items() if v is not None}, whole, cond)
            if items and items.domain:
                domain = items.domain.narrowed(domain.low, domain.high, domain.low_open, domain.high_open)
            if domain.empty:
                raise SpaceError(f"{self.name}: no number is within the bounds of element {i} and of `items`")
            domains.append(domain)
        return tuple(domains)

    def _weights(self, node: Mapping[str, Any], choices: tuple[Any, ...]) -> tuple[float, ...]:
        raw = node.get("option_weights")
        if raw is None or not choices:
            return ()
        options = list(node.get("enum", choices))
        weights = checked_weights(raw, len(options), self.name)
        kept = [sum(w for w, o in zip(weights, options, strict=True) if same(o, c)) for c in choices]
        return checked_weights(kept, len(choices), self.name)

    def _hint(self, node: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        raw = node.get("search")
        if raw is None:
            return ()
        if not isinstance(raw, Mapping):
            raise SpaceError(f"{self.name}: search must be {{low, high, log}}, but got {raw!r}")
        low, high = (
            as_number(raw.get("low"), self.name, "search.low"),
            as_number(raw.get("high"), self.name, "search.high"),
        )
        log = as_bool(raw.get("log"), self.name, "search.log")
        return (("low", low), ("high", high), ("log", log))

    def _active_when(self, node: Mapping[str, Any]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        raw = node.get("active_when")
        if raw is None:
            return ()
        if not isinstance(raw, Mapping):
            raise SpaceError(f"{self.name}: active_when must be {{name: [values]}}, but got {raw!r}")
        return tuple(
            (str(other), tuple(values) if isinstance(values, (list, tuple)) else (values,))
            for other, values in raw.items()
        )

    def _count(self, node: Mapping[str, Any], key: str) -> int | None:
        number = as_number(node.get(key), self.name, key)
        if number is None:
            return None
        if not is_number(number) or number < 0 or number != int(number):
            raise SpaceError(f"{self.name}: {key} must be a count, but got {node[key]!r}")
        return int(number)

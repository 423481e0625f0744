"""A train schema, in TAO's dialect or standard JSON Schema, as one kind of record: `Leaf`.

Both dialects are read leniently in form (numbers as text, bare Infinity, "TRUE") and strictly in meaning: what
contradicts itself raises `SpaceError` naming the parameter. A leaf is parsed when somebody asks for it, so that a
slip in one parameter stands in nobody's way who does not use that parameter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.errors import SpaceError, UserError
from automl.space.conditions import MathCond, parse_depends_on, parse_math_cond
from automl.space.domain import Domain, is_number
from automl.space.references import Resolver
from automl.space.words import as_bool, as_number, is_missing, short

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
NAME_LISTS = ("automl_default_parameters", "automl_disabled_parameters")


@dataclass(frozen=True)
class Leaf:
    """One parameter as its schema describes it. `kind` is int, float, bool, text, choice, ordered, list, subset,
    mapping or null; `domain` is there for int and float, `choices` wherever an enum is."""

    name: str
    path: tuple[str, ...]
    kind: str
    word: str = ""  # the schema's own word for the type
    default: Any = None
    has_default: bool = False
    nullable: bool = False
    domain: Domain | None = None
    choices: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    cond: MathCond = field(default_factory=MathCond)
    depends_on: tuple[tuple[str | None, str], ...] = ()
    hint: tuple[tuple[str, Any], ...] = ()  # our own search hint: low, high, log
    active_when: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    items: Leaf | None = None
    bounds_by_item: tuple[Domain, ...] = ()  # of a list whose minimum or maximum is a list
    min_items: int = 0
    max_items: int | None = None
    unique: bool = False
    pattern: str | None = None
    branches: tuple[Leaf, ...] = ()  # anyOf: what else is valid, though not searched
    unread: tuple[str, ...] = ()  # keywords that restrict it in ways we do not model

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
        if own and any(branch.problem(value) is None for branch in self.branches):
            return None
        return own

    def _own_problem(self, value: Any) -> str | None:
        if self.kind == "subset":
            return self._list_problem(value, self.choices)
        if self.kind == "list":
            return self._list_problem(value, ())
        if self.choices:
            if any(same(value, choice) for choice in self.choices):
                return None
            return f"must be one of {', '.join(map(short, self.choices))}, but got {value!r}"
        if self.domain:
            return self.domain.problem(value)
        wanted = {"bool": bool, "text": str, "mapping": Mapping}.get(self.kind)
        if wanted and not isinstance(value, wanted):
            names = {"bool": "true or false", "text": "text", "mapping": "a mapping"}
            return f"must be {names[self.kind]}, but got {value!r}"
        if self.pattern and isinstance(value, str) and not _matches(self.pattern, value):
            return f"must match {self.pattern}, but got {value!r}"
        return None

    def _list_problem(self, value: Any, options: tuple[Any, ...]) -> str | None:
        if not isinstance(value, (list, tuple)):
            return f"must be a list, but got {value!r}"
        if len(value) < self.min_items or (self.max_items is not None and len(value) > self.max_items):
            most = "" if self.max_items is None else f" and at most {self.max_items}"
            return f"must have at least {self.min_items}{most} elements, but got {value!r}"
        repeated = any(same(a, b) for i, a in enumerate(value) for b in value[:i])
        if repeated and (self.unique or options):
            return f"must not repeat an element, but got {value!r}"
        for i, element in enumerate(value):
            if options and not any(same(element, option) for option in options):
                return f"[{i}] must be one of {', '.join(map(short, options))}, but got {element!r}"
            domain = self.item_domain(i)
            wrong = self.items.problem(element) if self.items else None
            wrong = wrong or (domain.problem(element) if domain and is_number(element) else None)
            if wrong:
                return f"[{i}] {wrong}"
        return None

    def item_domain(self, index: int) -> Domain | None:
        """The bounds of one element of a list of numbers, when the list has bounds."""
        if self.bounds_by_item:
            return self.bounds_by_item[min(index, len(self.bounds_by_item) - 1)]
        return self.items.domain if self.items else None


def same(a: Any, b: Any) -> bool:
    """Equality that tells True from 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return True


class Schema:
    """The parameters of a schema by dotted name, in the schema's order, each parsed on demand."""

    def __init__(self, document: Any) -> None:
        if not isinstance(document, Mapping):
            raise SpaceError(f"a schema must be a JSON object, but got {type(document).__name__}")
        self.document = document
        self.resolver = Resolver(document)
        self.nodes: dict[str, Mapping[str, Any]] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.sections: set[str] = set()
        self.listed: dict[str, set[str]] = {key: set() for key in NAME_LISTS}
        self._defaults: dict[str, Any] = {}
        self._leaves: dict[str, Leaf] = {}
        self._walk(document, (), document.get("default"))
        if not self.nodes and "properties" not in document:
            raise SpaceError("a schema must have `properties`, but this one has none")

    def _walk(self, node: Mapping[str, Any], path: tuple[str, ...], inherited: Any) -> None:
        where = ".".join(path) or "the schema"
        node = self.resolver.section(node, where)
        self._note_lists(node)
        properties = node.get("properties", {})
        if not isinstance(properties, Mapping):
            raise SpaceError(
                f"{where}: properties must be a JSON object, but got {type(properties).__name__}"
            )
        self._note_lists(properties)
        for key, child in properties.items():
            if key in NAME_LISTS or not isinstance(child, Mapping):
                continue  # metadata that strayed among the properties
            self._child(child, (*path, str(key)), inherited)

    def _child(self, child: Mapping[str, Any], path: tuple[str, ...], inherited: Any) -> None:
        name = ".".join(path)
        own, default = inherited_default(self.resolver.flat(child, name), path[-1], inherited)
        if self.resolver.is_section(child, name):
            self.sections.add(name)
            with self.resolver.inside(child):
                self._walk(child, path, default if own else None)
            return
        if name in self.nodes:
            raise SpaceError(f"{name}: two parameters have this dotted name")
        self.nodes[name], self.paths[name] = child, path
        if own:
            self._defaults[name] = default

    def _note_lists(self, node: Mapping[str, Any]) -> None:
        for key in NAME_LISTS:
            names = node.get(key)
            if isinstance(names, (list, tuple)):
                self.listed[key] |= {n for n in names if isinstance(n, str)}

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __contains__(self, name: str) -> bool:
        return name in self.nodes

    @property
    def action(self) -> str | None:
        """The action the schema says it is for, or None."""
        info = self.document.get("x_tao_schema")
        action = info.get("schema_action", info.get("action")) if isinstance(info, Mapping) else None
        return action if isinstance(action, str) else None

    def flag(self, name: str) -> bool | None:
        """The leaf's `automl_enabled`, None when it has none. Raises `SpaceError` for anything but a boolean."""
        return as_bool(
            self.resolver.flat(self.nodes[name], name).get("automl_enabled"), name, "automl_enabled"
        )

    def default(self, name: str) -> tuple[bool, Any]:
        """(is there one, default) as written, of the leaf or of a section above it; "???" is none."""
        found = name in self._defaults and not is_missing(self._defaults[name])
        return found, self._defaults.get(name) if found else None

    def leaf(self, name: str) -> Leaf:
        """The parameter's record. Raises `SpaceError` naming the parameter when the schema contradicts itself."""
        if name not in self._leaves:
            self._leaves[name] = LeafReader(self, name).read()
        return self._leaves[name]


def inherited_default(child: Mapping[str, Any], key: str, inherited: Any) -> tuple[bool, Any]:
    """(is there one, default): the child's own, else its entry in the default of the section above."""
    if "default" in child:
        return True, child["default"]
    if isinstance(inherited, Mapping) and key in inherited:
        return True, inherited[key]
    return False, None


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
        """(the enum without repetitions and without null, whether null was in it)."""
        if "const" in node:
            return (node["const"],), False
        raw = node.get("enum")
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
            domains.append(self.domain({k: v for k, v in bounds.items() if v is not None}, whole, cond))
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
        if number < 0 or number != int(number):
            raise SpaceError(f"{self.name}: {key} must be a count, but got {node[key]!r}")
        return int(number)


def coerced(value: Any, kind: str, choices: Sequence[Any] = ()) -> Any:
    """A value in a parameter's own type where that loses nothing; otherwise the value as it is."""
    if value is None or any(same(value, choice) for choice in choices):
        return value
    if choices and kind in ("choice", "ordered"):
        return next((c for c in choices if str(c).strip().lower() == str(value).strip().lower()), value)
    if kind == "bool" and isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if kind in ("int", "float") and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if kind == "int" and isinstance(value, float) and is_number(value) and value == int(value):
        return int(value)
    if kind == "float" and is_number(value):
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def checked_weights(raw: Any, count: int, where: str) -> tuple[float, ...]:
    """`option_weights` as `count` shares that sum to 1. Raises `SpaceError` naming the parameter."""
    listed = isinstance(raw, (list, tuple))
    shares = [as_number(w, where, "option_weights") for w in raw] if listed else []
    if len(shares) != count or not all(is_number(w) and w >= 0 for w in shares) or not any(shares):
        raise SpaceError(f"{where}: option_weights must be {count} numbers >= 0, not all 0, but got {raw!r}")
    total = sum(w for w in shares if w is not None)
    return tuple((w or 0.0) / total for w in shares)


def load_schema(path: str | Path) -> dict[str, Any]:
    """A schema file; bare Infinity and NaN are read. Raises `UserError` naming file, line and column."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply to be a schema") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: a schema must be a JSON object, but got {type(document).__name__}")
    return document

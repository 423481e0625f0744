"""A train schema, in TAO's dialect or standard JSON Schema, as one kind of record: `Leaf`.

Both dialects are read leniently in form (numbers as text, bare Infinity, "TRUE") and strictly in meaning: what
contradicts itself raises `SpaceError` naming the parameter. A leaf is read when somebody asks for it, so that a slip
in one parameter stands in nobody's way who does not use that parameter.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from automl.documents import load_object
from automl.dotted import MISSING, get, leaves
from automl.errors import SpaceError, did_you_mean
from automl.space import dialect
from automl.space.leaf import UNSET, Condition, Domain, Leaf, among, coerced, is_number, same

Node = Mapping[str, Any]
LISTED, UNLISTED = "automl_default_parameters", "automl_disabled_parameters"


class Schema:
    """The parameters of a schema by dotted name, in the schema's order, each read on demand. `nodes` are without $ref
    and allOf, `paths` their keys, `sections` the names above them, `defaults` those of the sections above leaves, else
    their own, as written ("???" is none), `listed` the two lists of names. Of alternatives a leaf is the one that its
    value in `spec` fits, or else its default."""

    def __init__(self, document: Any, spec: Any = None) -> None:
        if not isinstance(document, Mapping):
            raise SpaceError(f"a schema must be a JSON object, but got {type(document).__name__}")
        self.document = document
        self.spec = spec if isinstance(spec, Mapping) else {}
        self.nodes: dict[str, Node] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.sections: set[str] = set()
        self.listed: dict[str, set[str]] = {LISTED: set(), UNLISTED: set()}
        # Section -> the keyword that relates its parameters in a way not modelled.
        self.unread: dict[str, str] = {}
        self.defaults: dict[str, Any] = {}
        self._walk(document, (), document.get("default"), ())
        if not self.nodes and "properties" not in document:
            raise SpaceError("a schema must have `properties`, but this one has none")
        self.leaf = cache(self._leaf)
        self.enums = {n: enum for n, node in self.nodes.items() if isinstance(enum := node.get("enum"), list)}

    def _walk(self, node: Any, path: tuple[str, ...], inherited: Any, inside: tuple[str, ...]) -> None:
        """`inside` are the $refs that led here: a section that contains itself is not gone into again."""
        where = ".".join(path) or "the schema"
        node = dialect.section(self.document, node, where)
        properties = node.get("properties", {})
        if unread := next((key for key in _UNREAD_OF_SECTIONS if node.get(key)), None):
            self.unread[where] = unread
        if not isinstance(properties, Mapping):
            got = type(properties).__name__
            raise SpaceError(f"{where}: properties must be a JSON object, but got {got}")
        for key, names in self.listed.items():
            lists = [raw for raw in (node.get(key), properties.get(key)) if isinstance(raw, (list, tuple))]
            names |= {name for raw in lists for name in raw if isinstance(name, str)}
        for key, child in properties.items():
            if key not in self.listed and isinstance(child, Mapping):  # else metadata that strayed there
                self._child(child, (*path, str(key)), inherited, inside)

    def _child(self, child: Any, path: tuple[str, ...], inherited: Any, inside: tuple[str, ...]) -> None:
        name, known = ".".join(path), inherited if isinstance(inherited, Mapping) else {}
        node = dialect.flat(self.document, child, name)
        # What a section is built with counts for more than what its parts are where nothing is said.
        own, given = node.get("default", node.get("const", UNSET)), known.get(path[-1], UNSET)
        default = own if given == UNSET else given
        is_section = bool(dialect.section(self.document, child, name).get("properties"))
        if is_section and child.get("$ref") not in inside:
            self.sections.add(name)
            default = {**own, **given} if isinstance(own, Mapping) and isinstance(given, Mapping) else default
            self._walk(child, path, default, (*inside, *dialect.refs(child)))
            return
        if name in self.nodes:
            raise SpaceError(f"{name}: two parameters have this dotted name")
        self.nodes[name], self.paths[name] = node, path
        if default != UNSET:
            self.defaults[name] = default

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    @property
    def action(self) -> str | None:
        """The action the schema says it is for, or None."""
        info = self.document.get("x_tao_schema")
        action = info.get("schema_action", info.get("action")) if isinstance(info, Mapping) else None
        return action if isinstance(action, str) else None

    def flag(self, name: str) -> bool | None:
        """The leaf's `automl_enabled`, None when it has none. Raises `SpaceError` for anything but a boolean."""
        return dialect.as_bool(self.nodes[name].get("automl_enabled"), name, "automl_enabled")

    def _leaf(self, name: str) -> Leaf:
        """The parameter's record. Raises `SpaceError` naming the parameter when the schema contradicts itself."""
        every = dialect.branches(self.document, self.nodes[name], name)
        found = [branch for branch in every if branch.get("type") != "null"] or every
        chosen = self._chosen(found, name)
        others = [b for b in found if b is not chosen]
        return _record(self, chosen, others, name, any(b.get("type") == "null" for b in every))

    def _chosen(self, found: Sequence[Node], name: str) -> Node:
        """Of alternatives the first that the value fits, with its bounds where several of its type differ in them."""
        for start in (get(self.spec, name, MISSING), self.defaults.get(name, MISSING)):
            fitting = [branch for branch in found if start not in (MISSING, UNSET) and _fits(branch, start)]
            valid = (
                b for b in fitting if len(fitting) > 1 and _record(self, b, (), name).problem(start) is None
            )
            if fitting:
                return next(valid, fitting[0])
        return next((b for b in found if KINDS.get(str(b.get("type"))) != "list"), found[0])

    def readable(self) -> tuple[Leaf, ...]:
        """Every parameter but the broken ones."""
        found = []
        for name in self:
            with suppress(SpaceError):
                found.append(self.leaf(name))
        return tuple(found)

    def problem(self, name: str, value: Any) -> str | None:
        """What is wrong with a value of a spec, name and all, or None. What equals the default is never wrong."""
        if name in self.sections:
            return None if value in (None, {}) else f"{name} must be a section, but got {value!r}"
        if name not in self:
            return self._unknown(name)
        try:
            wrong = self.leaf(name).problem(value)
        except SpaceError:  # a leaf whose schema contradicts itself: compiling tells, if it is searched
            return None
        usual = value == UNSET or (name in self.defaults and same(self.defaults[name], value))
        return f"{name} {wrong}" if wrong and not usual else None

    def _unknown(self, name: str) -> str | None:
        """An unknown key, told at the level at which it leaves the schema; None where the schema allows more keys."""
        keys, node = name.split("."), dialect.section(self.document, self.document, "the schema")
        for depth, key in enumerate(keys):
            known, at = node.get("properties", {}), ".".join(keys[: depth + 1])
            if key not in known:
                closed = node.get("additionalProperties", False) in (False, None)
                return f"unknown key '{at}'{did_you_mean(key, known)}" if closed else None
            node = dialect.section(self.document, known[key], at)
        return None

    def known(self, name: str, source: str) -> str:
        """The parameter that a person names. Raises `SpaceError` beginning with `source` and naming the nearest."""
        name = name.strip()
        if name in self:
            return name
        if name in self.sections:
            raise SpaceError(f"{source}: '{name}' is a section, name one of its parameters")
        same_last = [n for n in self if n.rsplit(".", 1)[-1] == name]
        hint = f"; did you mean '{same_last[0]}'?" if len(same_last) == 1 else did_you_mean(name, self)
        raise SpaceError(f"{source}: the schema has no parameter '{name}'{hint}")


def problems(spec: Mapping[str, Any], schema: Any, extra: Container[str] = ()) -> Iterator[tuple[str, str]]:
    """(dotted name, what is wrong) of every leaf of a spec that a schema, in either dialect, forbids: `lr must be
    a number in (0, 0.01], but got 5`, `unknown key 'train.optm'; did you mean 'optim'?`. Keys of `extra` are known.

    Raises `SpaceError` for what is no schema.
    """
    read = Schema(schema)
    for name, value in leaves(spec, known=read):
        wrong = read.problem(name, value)
        if wrong and (name in read or name in read.sections or name not in extra):
            yield name, wrong


def load_schema(path: str | Path) -> dict[str, Any]:
    """A schema file; bare Infinity and NaN are read. Raises `UserError` naming the file, and of a slip its line."""
    return load_object(Path(path), "a schema")


# ---- one node -> its leaf ------------------------------------------------------------------------------------------

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
_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "text": str, "list": (list, tuple)}
_ENDS = ((">", "minimum", "exclusiveMinimum"), ("<", "maximum", "exclusiveMaximum"))
_ITEM_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "math_cond")
_UNREAD_OF_SECTIONS = ("if", "not", "oneOf", "anyOf", "dependentRequired", "dependentSchemas", "dependencies")
_UNREAD = tuple("not if dependentSchemas dependentRequired patternProperties contains prefixItems".split())


def _fits(branch: Node, default: Any) -> bool:
    if isinstance(branch.get("enum"), (list, tuple)):
        return among(default, branch["enum"])
    wanted = _TYPES.get(KINDS.get(str(branch.get("type")), ""), ())
    return isinstance(default, wanted) and (wanted is bool or not isinstance(default, bool))


def _record(schema: Schema, node: Node, others: Sequence[Node], name: str, nullable: bool = False) -> Leaf:
    """The leaf of one branch of a node; `others` are what else is valid."""
    has_default, usual = name in schema.defaults, schema.defaults.get(name)
    word = dialect.type_of(node, name)
    choices, null_choice = _choices(node, usual, name)
    kind = _kind(word, choices, has_default, usual, name)
    if kind == "bool" and not choices and node.get("option_weights") is not None:
        choices = (False, True)  # what the weights are those of
    default = coerced(usual, kind, choices) if has_default else None
    cond = dialect.parse_math_cond(node.get("math_cond"), name)
    by_item = any(isinstance(node.get(k), (list, tuple)) for k in ("minimum", "maximum"))
    items = _items(schema.document, node, default, name) if kind == "list" else None
    domain = _domain(node, kind == "int", name) if kind in ("int", "float") and not by_item else None
    weights, depends_on = (
        _weights(node, choices, usual, name),
        dialect.parse_depends_on(node.get("depends_on"), name),
    )
    search = _mapping(node, "search", "{low, high, log}", name)
    forms = {"low": dialect.as_number, "high": dialect.as_number, "log": dialect.as_bool} if search else {}
    hint = tuple((key, form(search.get(key), name, f"search.{key}")) for key, form in forms.items())
    _check_hint(dict(hint), name)
    active = _mapping(node, "active_when", "{name: [values]}", name)
    listed = {str(n): tuple(v) if isinstance(v, (list, tuple)) else (v,) for n, v in active.items()}
    return Leaf(
        name, schema.paths[name], kind, word, default,
        nullable=nullable or null_choice or node.get("nullable") is True, domain=domain,
        choices=choices, weights=weights, cond=cond, depends_on=depends_on, hint=hint,
        active_when=tuple(Condition(other, values) for other, values in listed.items()), items=items,
        bounds_by_item=_list_bounds(node, items, name) if by_item and kind == "list" else (),
        min_items=_count(node, "minItems", name) or (1 if word == "subset_list" else 0),
        max_items=_count(node, "maxItems", name), unique=bool(node.get("uniqueItems")),
        pattern=node["pattern"] if isinstance(node.get("pattern"), str) else None,
        branches=tuple(_record(schema, b, (), name) for b in others),
        unread=tuple(key for key in _UNREAD if key in node),
    )  # fmt: skip


def _check_hint(hint: Mapping[str, Any], name: str) -> None:
    low, high, log = (hint.get(key) for key in ("low", "high", "log"))
    if low is not None and high is not None and low > high:
        raise SpaceError(f"{name}: search.low must be < search.high, but got {low:g} and {high:g}")
    if log and ((low is not None and low < 0) or (high is not None and high <= 0)):
        raise SpaceError(
            f"{name}: search.log needs numbers > 0, but got search.low {low} and search.high {high}"
        )


def _choices(node: Node, default: Any, name: str) -> tuple[tuple[Any, ...], bool]:
    """(the enum without repetitions, of numbers those within its own bounds; whether null is in it)."""
    raw = _options(node, default, name)
    if not raw:
        return (), False
    found = [value for i, value in enumerate(raw) if not among(value, raw[:i])]
    domain = _domain(node, False, name) if all(map(is_number, found)) else None
    kept = tuple(c for c in found if domain is None or domain.holds(c))
    if not kept:
        raise SpaceError(f"{name}: no value of its enum {found} is {domain}")
    return kept, None in raw


def _options(node: Node, default: Any, name: str) -> list[Any]:
    """What the enum holds, one for each of its weights, as values of the leaf; none without an enum."""
    raw = [node["const"]] if "const" in node else node.get("enum")
    if raw is None:
        return []
    raw = [word.strip() for word in raw.split(",")] if isinstance(raw, str) else raw
    if not isinstance(raw, (list, tuple)) or not raw:
        raise SpaceError(f"{name}: enum must be a list of values, but got {raw!r}")
    if endless := [value for value in raw if isinstance(value, float) and not is_number(value)]:
        raise SpaceError(f"{name}: enum must hold finite values, but got {endless[0]!r}")
    if str(node.get("type", "")).startswith("list_1") and not any(isinstance(c, list) for c in raw):
        return [[value] for value in raw]  # its value is a list of one option
    if isinstance(default, bool):
        words = {"true": True, "false": False}
        return [words.get(c.lower(), c) if isinstance(c, str) else c for c in raw]
    return list(raw)


def _kind(word: str, choices: tuple[Any, ...], has_default: bool, default: Any, name: str) -> str:
    kind = KINDS.get(word.lower(), "")
    if choices:
        if kind in ("list", "subset") and not all(isinstance(c, list) for c in choices):
            return "subset"
        numeric = kind != "choice" and all(map(is_number, choices))
        return "ordered" if kind == "ordered" or numeric else "choice"
    if kind == "subset":
        raise SpaceError(f"{name}: a {word} needs an enum of its options")
    if kind in ("choice", "ordered"):
        kind = "" if has_default else "text"
    if not kind and is_number(default):
        return "int" if isinstance(default, int) else "float"
    shown = {bool: "bool", str: "text", list: "list", tuple: "list", dict: "mapping"}
    return kind or shown.get(type(default), "null")


def _domain(node: Node, whole: bool, name: str) -> Domain:
    """Bounds, multipleOf and the numeric part of math_cond. Raises `SpaceError` when nothing is left."""
    clauses: list[tuple[str, float | str | None]] = []
    for sign, key, exclusive in _ENDS:
        bound, raw = dialect.as_number(node.get(key), name, key), node.get(exclusive)
        clauses.append((sign if raw is True else sign + "=", bound))  # draft 4 wrote a boolean beside minimum
        clauses.append((sign, None if isinstance(raw, bool) else dialect.as_number(raw, name, exclusive)))
    multiple = dialect.as_number(node.get("multipleOf"), name, "multipleOf")
    if multiple is not None and not (is_number(multiple) and multiple > 0):
        raise SpaceError(f"{name}: multipleOf must be a positive number, but got {node['multipleOf']!r}")
    clauses.append(("/", None if whole and multiple == 1 else multiple))
    domain = Domain(whole)
    for op, operand in (*clauses, *dialect.parse_math_cond(node.get("math_cond"), name)):
        domain = domain if operand is None or isinstance(operand, str) else domain.where(op, operand)
    if domain.empty:
        text = ", ".join(f"{k} {node[k]!r}" for k in _ITEM_BOUNDS if node.get(k) is not None)
        raise SpaceError(f"{name}: no {'integer' if whole else 'number'} satisfies {text}")
    return domain


def _items(root: Node, node: Node, default: Any, name: str) -> Leaf | None:
    """What the elements must be: the schema's `items`, else what the default's elements and the bounds show."""
    raw = node.get("items")
    inner = dialect.flat(root, raw, name) if isinstance(raw, Mapping) else {}
    elements = default if isinstance(default, (list, tuple)) else []
    choices: tuple[Any, ...] = ()
    if inner.get("type") or "enum" in inner:
        kind = KINDS.get(dialect.type_of(inner, name).lower(), "mapping")
        choices = tuple(inner["enum"]) if isinstance(inner.get("enum"), (list, tuple)) else ()
    elif elements and all(is_number(e) for e in elements):
        kind = "int" if all(isinstance(e, int) for e in elements) else "float"
        inner = {k: v for k, v in node.items() if k in _ITEM_BOUNDS and not isinstance(v, (list, tuple))}
    else:
        return Leaf(name, (), "text") if elements and all(isinstance(e, str) for e in elements) else None
    domain = _domain(inner, kind == "int", name) if kind in ("int", "float") else None
    return Leaf(name, (), kind, choices=choices, domain=domain)


def _list_bounds(node: Node, items: Leaf | None, name: str) -> tuple[Domain, ...]:
    """One domain per element, of bounds that are lists ([.8, .9] and [.95, .999])."""
    raws = {key: node.get(key) for key in ("minimum", "maximum")}
    ends = {key: list(raw) if isinstance(raw, (list, tuple)) else [raw] for key, raw in raws.items()}
    count = max(map(len, ends.values()))
    if odd := [key for key, end in ends.items() if len(end) not in (1, count)]:
        raise SpaceError(f"{name}: {odd[0]} must have {count} elements, but got {ends[odd[0]]!r}")
    domains = []
    for i in range(count):
        bounds = {k: e[min(i, len(e) - 1)] for k, e in ends.items()} | {"math_cond": node.get("math_cond")}
        domain = _domain(bounds, bool(items and items.kind == "int"), name)
        if items and items.domain:
            domain = items.domain.narrowed(domain.low, domain.high, domain.low_open, domain.high_open)
        if domain.empty:
            raise SpaceError(f"{name}: no number is within the bounds of element {i} and of `items`")
        domains.append(domain)
    return tuple(domains)


def _weights(node: Node, choices: tuple[Any, ...], default: Any, name: str) -> tuple[float, ...]:
    raw = node.get("option_weights")
    if raw is None or not choices:
        return ()
    options = _options(node, default, name) or list(choices)
    weights = dialect.checked_weights(raw, len(options), name)
    kept = [sum(w for w, o in zip(weights, options, strict=True) if same(o, c)) for c in choices]
    return dialect.checked_weights(kept, len(choices), name)


def _mapping(node: Node, key: str, form: str, name: str) -> Node:
    raw = {} if node.get(key) is None else node[key]
    if not isinstance(raw, Mapping):
        raise SpaceError(f"{name}: {key} must be {form}, but got {raw!r}")
    return raw


def _count(node: Node, key: str, name: str) -> int | None:
    number = dialect.as_number(node.get(key), name, key)
    if number is not None and (not is_number(number) or number < 0 or number != int(number)):
        raise SpaceError(f"{name}: {key} must be a count, but got {node[key]!r}")
    return None if number is None else int(number)

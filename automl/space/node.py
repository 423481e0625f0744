"""One node of a schema -> its leaf: what the keywords of a parameter say, in either dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from automl.errors import SpaceError
from automl.space import dialect
from automl.space.dialect import CONTRADICTION, KINDS
from automl.space.leaf import UNSET, Condition, Domain, Leaf, among, coerced, is_number, same

Node = Mapping[str, Any]

_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "text": str, "list": (list, tuple)}
_ENDS = ((">", "minimum", "exclusiveMinimum"), ("<", "maximum", "exclusiveMaximum"))
_ITEM_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "math_cond")
# Keywords that restrict a value in ways that are not modelled.
UNREAD_OF_SECTIONS = tuple(
    "if not oneOf anyOf dependentRequired dependentSchemas dependencies patternProperties propertyNames minProperties "
    "maxProperties enum const".split()
)
_UNREAD = tuple(
    "not if dependentSchemas dependentRequired dependencies patternProperties propertyNames contains prefixItems "
    "disallow divisibleBy extends".split()
)


def fits(branch: Node, default: Any) -> bool:
    if isinstance(branch.get("enum"), (list, tuple)):
        return among(default, branch["enum"])
    wanted = _TYPES.get(KINDS.get(str(branch.get("type")), ""), ())
    return isinstance(default, wanted) and (wanted is bool or not isinstance(default, bool))


def record(
    root: Node, node: Node, name: str, path: tuple[str, ...], usual: Any = UNSET, nullable: bool = False
) -> Leaf:
    """The leaf of one branch of a node; `usual` is its default, UNSET for none; `nullable` where another branch is
    null. Raises `SpaceError` naming the parameter where the node contradicts itself."""
    if CONTRADICTION in node:
        raise SpaceError(f"{name}: {node[CONTRADICTION]}")
    has_default, usual = usual != UNSET, None if usual == UNSET else usual
    word = dialect.type_of(node, name)
    choices, forbidden = _choices(root, node, usual, name, nullable)
    kind = _kind(word, choices, has_default, usual, name)
    if kind == "bool" and not choices and node.get("option_weights") is not None:
        choices = (False, True)  # what the weights are those of
    default = coerced(usual, kind, choices) if has_default else None
    by_item = any(isinstance(node.get(k), (list, tuple)) for k in ("minimum", "maximum"))
    items = _items(root, node, default, name) if kind == "list" else None
    domain = _domain(node, kind == "int", name) if kind in ("int", "float") and not by_item else None
    search = _mapping(node, "search", "{low, high, log}", name)
    forms = {"low": dialect.as_number, "high": dialect.as_number, "log": dialect.as_bool} if search else {}
    hint = tuple((key, form(search.get(key), name, f"search.{key}")) for key, form in forms.items())
    _check_hint(dict(hint), name)
    active = _mapping(node, "active_when", "{name: [values]}", name)
    listed = {str(n): tuple(v) if isinstance(v, (list, tuple)) else (v,) for n, v in active.items()}
    return Leaf(
        name, path, kind, word, default,
        nullable=nullable or None in choices or node.get("nullable") is True, domain=domain,
        choices=choices, weights=_weights(node, choices, usual, name),
        cond=dialect.parse_math_cond(node.get("math_cond"), name),
        depends_on=dialect.parse_depends_on(node.get("depends_on"), name), hint=hint,
        active_when=tuple(Condition(other, values) for other, values in listed.items()), items=items,
        bounds_by_item=_list_bounds(node, items, name) if by_item and kind == "list" else (),
        **_counts(node, name, kind), unread=_unread(node, items, kind == "list"),
        forbidden=forbidden,
    )  # fmt: skip


def _counts(node: Node, name: str, kind: str = "") -> dict[str, Any]:
    """What restricts the elements of a list and the characters of a text. Raises `SpaceError` where nothing of the kind
    keeps to it."""
    least = 1 if node.get("type") == "subset_list" else 0
    found: dict[str, Any] = {}
    for what, low, high in (("items", "minItems", "maxItems"), ("length", "minLength", "maxLength")):
        ends = _count(node, low, name) or (least if what == "items" else 0), _count(node, high, name)
        counted = kind in (("list", "subset") if what == "items" else ("text",))
        if counted and ends[1] is not None and ends[0] > ends[1]:
            raise SpaceError(f"{name}: {low} must be at most {high}, but got {ends[0]} and {ends[1]}")
        found |= {f"min_{what}": ends[0], f"max_{what}": ends[1]}
    pattern = node["pattern"] if isinstance(node.get("pattern"), str) else None
    return {**found, "unique": bool(node.get("uniqueItems")), "pattern": pattern}


def _unread(node: Node, items: Leaf | None, is_list: bool) -> tuple[str, ...]:
    """The keywords that restrict a node in ways that are not modelled, those of its elements too."""
    tuple_form = (
        ["items"]
        if is_list and "items" in node and not isinstance(node["items"], (Mapping, type(None)))
        else []
    )
    inner = [key for leaf in (items, *items.branches) for key in leaf.unread] if items else []
    return (*(key for key in _UNREAD if key in node), *tuple_form, *(f"items.{key}" for key in inner))


def of_all(leaf: Leaf, others: Sequence[Leaf]) -> Leaf:
    """The leaf with all options of an enum that stands beside alternatives: each is one's."""
    every = [choice for each in (leaf, *others) for choice in each.choices]
    choices = tuple(choice for i, choice in enumerate(every) if not among(choice, every[:i]))
    kind = leaf.kind if all(map(is_number, choices)) else "choice"
    forbidden = tuple(value for value in leaf.forbidden if not among(value, choices))
    return replace(leaf, choices=choices, kind=kind, forbidden=forbidden)


def overlap(leaf: Leaf, other: Leaf) -> bool:
    """Whether a value may be valid in both; True where that is not certain."""
    for one, another in ((leaf, other), (other, leaf)):
        if one.choices and one.kind != "subset":
            return any(another.problem(value) is None for value in one.choices)
    if leaf.domain and other.domain:
        ends = other.domain.low, other.domain.high, other.domain.low_open, other.domain.high_open
        return not leaf.domain.narrowed(*ends).empty
    kinds = [{"int": "float", "subset": "list"}.get(each.kind, each.kind) for each in (leaf, other)]
    return kinds[0] == kinds[1] or "null" in kinds


def _check_hint(hint: Mapping[str, Any], name: str) -> None:
    low, high, log = (hint.get(key) for key in ("low", "high", "log"))
    if low is not None and high is not None and low > high:
        raise SpaceError(f"{name}: search.low must be < search.high, but got {low:g} and {high:g}")
    if log and ((low is not None and low < 0) or (high is not None and high <= 0)):
        raise SpaceError(
            f"{name}: search.log needs numbers > 0, but got search.low {low} and search.high {high}"
        )


def _choices(
    root: Node, node: Node, default: Any, name: str, nullable: bool = False
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(the enum without repetitions and without what the node's own type and bounds forbid, what these forbid)."""
    raw = _options(node, default, name)
    found = [value for i, value in enumerate(raw) if not among(value, raw[:i])]
    words = node.get(dialect.WORDS) or [dialect.type_of(node, name)]
    kinds = {KINDS.get(word.lower(), "") for word in words}
    if kinds & {"list", "subset"} and not all(isinstance(value, list) for value in found):
        return tuple(found), ()  # the options of its elements
    numbers = any(map(is_number, found))
    domain = _domain(node, kinds == {"int"}, name) if numbers else None
    items = _items(root, node, None, name) if any(isinstance(value, list) for value in found) else None
    own = Leaf(name, (), "", domain=domain, items=items, **_counts(node, name)) if found else None
    null = nullable or node.get("nullable") is True or bool(kinds & _VAGUE)
    kept = [c for c in found if own and (null if c is None else _allowed(c, kinds, own))]
    if found and not kept:
        is_plain = all(map(is_number, found)) and kinds <= {"int", "float", *_VAGUE}
        allowed = (
            str(domain) if is_plain else f"what its type ({' or '.join(words) or 'none'}) and bounds allow"
        )
        raise SpaceError(f"{name}: no value of its enum {found} is {allowed}")
    return tuple(kept), tuple(c for c in found if not among(c, kept))


_VAGUE = {"", "choice", "ordered"}  # kinds that leave open what the values are
_KIND_OF = (
    (bool, "bool"),
    ((int, float), "float"),
    (str, "text"),
    ((list, tuple), "list"),
    (Mapping, "mapping"),
)


def _allowed(value: Any, kinds: set[str], own: Leaf) -> bool:
    """Whether the value is of one of the kinds, and within what `own` says of numbers, of texts and of lists."""
    kind = next((word for types, word in _KIND_OF if isinstance(value, types)), "")
    wider = {"float": {"int"} if is_number(value) and value == int(value) else set(), "list": {"subset"}}
    if not kinds & {kind, *wider.get(kind, ()), *_VAGUE}:
        return False
    return replace(own, kind=kind, domain=own.domain if kind == "float" else None).problem(value) is None


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
    if isinstance(default, bool) or KINDS.get(str(node.get("type"))) == "bool":
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
    """What the elements must be: the schema's `items`, else what the default's elements and the bounds show. Of
    alternatives the one that all elements of the default fit."""
    raw = node.get("items")
    inner = dialect.flat(root, raw, name) if isinstance(raw, Mapping) else {}
    elements = default if isinstance(default, (list, tuple)) else []
    found = dialect.branches(root, inner, name)
    if not any(branch.get("type") or "enum" in branch or "const" in branch for branch in found):
        if not elements or not all(map(is_number, elements)):
            is_text = bool(elements) and all(isinstance(e, str) for e in elements)
            known = Leaf(
                name,
                (),
                "text" if is_text else "",
                **_counts(inner, name),
                unread=_unread(inner, None, False),
            )
            return known if is_text or known.unread else None
        bounds = {k: v for k, v in node.items() if k in _ITEM_BOUNDS and not isinstance(v, (list, tuple))}
        word = "int" if all(isinstance(e, int) for e in elements) else "float"
        found = [{**dialect.both(bounds, branch), "type": word} for branch in found]
    several = [_element(root, branch, name) for branch in found if branch.get("type") != "null"]
    fitting = (leaf for leaf in several if all(leaf.problem(e) is None for e in elements))
    if (chosen := next(fitting, several[0] if several else None)) is None:
        return None
    others = tuple(leaf for leaf in several if leaf is not chosen)
    return replace(chosen, branches=others, nullable=len(several) < len(found))


def _element(root: Node, node: Node, name: str) -> Leaf:
    if CONTRADICTION in node:
        raise SpaceError(f"{name}: items: {node[CONTRADICTION]}")
    kind = KINDS.get(dialect.type_of(node, name).lower(), "mapping")
    choices, _ = _choices(root, node, None, name)
    items = _items(root, node, None, name) if kind == "list" else None
    domain = _domain(node, kind == "int", name) if kind in ("int", "float") else None
    more = {**_counts(node, name, kind), "unread": _unread(node, items, kind == "list")}
    return Leaf(name, (), kind, choices=choices, domain=domain, items=items, **more)


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

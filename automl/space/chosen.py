"""Which parameters are searched: flagged or asked for, with something to choose from, and able to matter; and what the
schema and its names say that parameters have to do with each other: conditions and relations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from automl.dotted import MISSING, get
from automl.errors import SpaceError
from automl.space import names
from automl.space.leaf import Condition, Leaf, Relation, among, coerced, is_number, short
from automl.space.requests import Asked, Values
from automl.space.schema import LISTED, UNLISTED, Schema

Conditions = Mapping[str, tuple[Condition, ...]]  # of every searched parameter
LARGEST = 2**52  # of integers: to twice of it a double counts exactly
_RANGELESS = {
    "mapping": "a mapping has no range",
    "null": "its schema does not say what it may be",
    "text": "free text has no range; give values to choose from",
}


def choose(asked: Asked) -> tuple[Conditions, dict[str, str], list[str]]:
    """(the conditions of the parameters that are searched, why others that could be are not, notes). Raises
    `SpaceError` for a parameter that was asked for and cannot be searched."""
    verdicts = {name: why_not(asked, name) for name in sorted(asked.schema) if wanted(asked, name)}
    conditions, inert, notes = keep_active(asked, [n for n, reason in verdicts.items() if reason is None])
    return conditions, {n: reason for n, reason in verdicts.items() if reason is not None} | inert, notes


def why_not(asked: Asked, name: str) -> str | None:
    """The reason that a wanted parameter is not searched, whatever the others are; None when it can be."""
    wish = asked.insists(name)
    if wish and wish.fixed:
        return f"fixed at {short(asked.base.get(name))} ({wish.source})"
    reason = (None if wish else next(why_never(asked, name), None)) or no_space(asked, name)
    if reason:
        asked.let_go(name, reason)
    return reason


def wanted(asked: Asked, name: str) -> bool:
    """Asked for or recommended, or of the group: flagged, or listed without a flag of its own; or not flagged off."""
    flag, listed = asked.schema.flag(name), asked.schema.listed
    if name in asked.wishes or asked.group == "recommended":
        return name in asked.wishes
    if flag is not None:
        return flag
    by_list = name in listed[LISTED] and name not in listed[UNLISTED]
    if by_list or asked.group == "tao":
        return by_list
    try:  # a number, a choice or a list of numbers, where its schema can be read
        kind, value = asked.schema.leaf(name).kind, asked.value(name)
    except SpaceError:
        return False
    numbers = kind == "list" and isinstance(value, list) and value and all(map(is_number, value))
    return bool(numbers) or kind in ("int", "float", "bool", "choice", "ordered", "subset")


def why_never(asked: Asked, name: str) -> Iterator[str]:
    """The reasons why a parameter is not searched unless a person asks for it by name, whatever the spec."""
    schema, path, own = asked.schema, asked.schema.paths[name], asked.schema.action or "train"
    if names.SPEED.search(path[-1]):
        yield "it changes speed, not results"
    if path[-1] in names.EPOCHS and path[0] in (path[-1], "train"):
        yield names.LENGTH
    if len(path) > 1 and path[0] in names.ACTIONS and path[0] != own and not own.endswith(f"_{path[0]}"):
        if schema.action or any(each[0] == "train" for each in schema.paths.values()):
            yield f"it belongs to the action {path[0]}"
    for part in (part for part in path if names.SCORING.match(part) and part != own):
        yield f"'{part}' is not training: it changes how trials are scored, if anything"
    if asked.group != "tao" and schema.leaf(name).nullable and asked.base.get(name) is None:
        yield "it is off (null)"
    if asked.group == "all" and not schema.flag(name):
        yield from (why for pattern, why in names.APART.items() if any(map(pattern.search, path)))


def no_space(asked: Asked, name: str) -> str | None:
    """Why a leaf has nothing to choose from; None when it has."""
    leaf, wish = asked.schema.leaf(name), asked.wishes.get(name)
    sections = (".".join(leaf.path[:depth]) for depth in range(1, len(leaf.path)))
    if absent := next((section for section in sections if get(asked.spec, section, MISSING) is None), None):
        return f"the spec has no section {absent}"
    if leaf.unread:
        return f"its schema restricts it by '{leaf.unread[0]}', which is not modelled"
    if wish and wish.options:
        return None
    if leaf.kind == "int" and is_number(start := asked.base.get(name)) and abs(start) > LARGEST:
        return "integers as large as its default are not searched"
    if leaf.choices and len(leaf.choices) == 1 and leaf.kind != "subset":
        if leaf.branches:
            return "a mixture of numbers and words needs options to choose from"
        return f"{short(leaf.choices[0])} is its only value"
    if any(isinstance(c, str) and (c != c.strip() or "\n" in c) for c in leaf.choices):
        return "its enum is mangled (a value begins or ends with white space)"
    return _RANGELESS.get(leaf.kind)


def keep_active(asked: Asked, kept: Sequence[str]) -> tuple[Conditions, dict[str, str], list[str]]:
    """(the conditions that searched parameters decide, why others never matter, notes)."""
    rules = {name: tuple(conditions_of(asked, asked.schema.leaf(name))) for name in kept}
    inert: dict[str, str] = {}
    while True:
        verdicts = {n: judge(asked, rules[n], rules.keys() - inert.keys()) for n in kept if n not in inert}
        never = {n: v for n, v in verdicts.items() if isinstance(v, str)}
        if not (more := {n: v for n, v in never.items() if not asked.insists(n)}):
            notes = [f"{n} is searched as asked, though {v}" for n, v in never.items()]
            return {n: () if isinstance(v, str) else v for n, v in verdicts.items()}, inert, notes
        inert |= more


def judge(asked: Asked, rules: Sequence[Condition], searched: Collection[str]) -> tuple[Condition, ...] | str:
    """The conditions that stay open, or why the parameter never matters."""
    still_open = []
    for rule in rules:
        if rule.name not in searched:
            if not rule.holds(asked.base):
                return f"it has no effect while {rule.name} is {short(asked.base.get(rule.name))}"
            continue
        values = asked.wish(rule.name).options or asked.schema.leaf(rule.name).options  # none of a number
        fitting = tuple(v for v in values if among(v, rule.values))
        if not fitting:
            return f"it has no effect for any searched value of {rule.name}"
        if len(fitting) < len(values):
            still_open.append(Condition(rule.name, fitting))
    return tuple(still_open)


def conditions_of(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """Everything that must hold for the leaf to matter: the schema's word, else what names tell."""
    if leaf.active_when:
        yield from leaf.active_when
        return
    nodes = asked.schema.nodes
    for name in names.switches_of(leaf.path):
        if name != leaf.name and name in nodes and str(nodes[name].get("type")) in ("bool", "boolean"):
            yield Condition(name, (True,))
    yield from branches(asked, leaf)
    yield from used_by(asked, leaf)
    yield from (Condition(name, (None,)) for name in names.replaced_by(leaf.path) if name in nodes)


def branches(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """A section named like a value of an enum above it matters while the enum has that value: `task: segment` beside
    `segment.` and `classify.`."""
    for depth, part in enumerate(leaf.path[:-1]):
        if part in ("train", *names.ACTIONS) or names.SCORING.match(part):
            continue
        for name, enum in asked.schema.enums.items():
            section = asked.schema.paths[name][:-1]
            if part in enum and len(section) <= depth and section == leaf.path[: len(section)]:
                yield Condition(name, (part,))


def used_by(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """The condition that what chooses beside it, or beside its section, is set to what uses the leaf."""
    for name in names.deciders_of(leaf.path):
        value = asked.base.get(name)
        if name == leaf.name or name not in asked.schema or not isinstance(value, str):
            continue
        known = [option for option in asked.schema.leaf(name).choices if isinstance(option, str)]
        if values := names.choices_with(leaf.path[-1], known, value):
            yield Condition(name, values)
            return


def gather(asked: Asked, searched: Collection[str]) -> tuple[list[Relation], list[str]]:
    """(every relation that the schema states, notes)."""
    schema = asked.schema
    found: list[Relation] = []
    notes: list[str] = []
    for name, node in schema.nodes.items():
        says = node.get("depends_on") or "depends_on" in str(node.get("math_cond", ""))
        if not (says or name in searched or names.SELECTED.search(name)):
            continue
        try:
            stated = list(_stated(asked, schema.leaf(name)))
        except SpaceError as error:
            if name in searched:
                raise
            notes.append(f"{error}; the parameter is not searched, so its relations are not kept")
            continue
        found += [relation for relation in stated if relation.op != "after" or name in searched]
        unclear = "has no operator and implies none that we know"
        loose = [relation.right for relation in stated if relation.op == "after" and name in searched]
        notes += [f"{name}: depends_on {right} {unclear}" for right in loose]
    return list(dict.fromkeys(found)), notes


def _stated(asked: Asked, leaf: Leaf) -> Iterator[Relation]:
    """The schema's own; a depends_on without any operator is "at most" of a selection, and where the defaults keep to
    that. A selection that depends on nothing is selected from what stands beside it."""
    conds = [(op, operand) for op, operand in leaf.cond if isinstance(operand, str)]
    for op, operand in conds:
        if operand == "depends_on" and not leaf.depends_on:
            what = f"math_cond '{op} depends_on' needs a depends_on that names a parameter"
            raise SpaceError(f"{leaf.name}: {what}")
        for target in [n for _, n in leaf.depends_on] if operand == "depends_on" else [operand]:
            yield Relation(leaf.name, op, target)
    is_selected = leaf.domain is not None and names.SELECTED.search(leaf.path[-1])
    paths = asked.schema.paths if is_selected else {}
    beside = [n for n in paths if paths[n][:-1] == leaf.path[:-1] and names.SELECTED_FROM.search(n)]
    for sign, target in leaf.depends_on or [(None, name) for name in beside]:
        ours, theirs = asked.base.get(leaf.name), asked.base.get(target)
        at_most = is_selected or (is_number(ours) and is_number(theirs) and ours <= theirs)
        if sign or not conds:
            yield Relation(leaf.name, sign or ("<=" if at_most else "after"), target)


def numbered(asked: Asked, relations: Sequence[Relation]) -> Values:
    """The base's values, numbers written as text read as numbers, and the spec's for names the schema lacks."""
    base = asked.base
    sides = dict.fromkeys(name for relation in relations for name in relation.sides)
    found = {name: base.get(name, get(asked.spec, name, MISSING)) for name in sides}
    read = {n: coerced(v, "float") if n in base and not is_number(v) else v for n, v in found.items()}
    return {**base, **{name: value for name, value in read.items() if value is not MISSING}}


def disagreements(schema: Schema) -> Iterator[str]:
    """Where the schema's flags and its lists of names contradict each other."""
    for where, key in schema.unread.items():
        yield f"'{key}' in {where} is not modelled: a configuration may be one that the schema forbids"
    listed, unlisted = sorted(schema.listed[LISTED]), sorted(schema.listed[UNLISTED])
    flags: dict[str, bool | str | None] = {**dict.fromkeys(schema.sections, "section")}
    flags |= {name: schema.flag(name) for name in schema}
    wins = "the flag wins: searched"
    for found, what in (
        ([n for n in schema if listed and flags[n] and n not in listed], f"flagged but not in {LISTED} ({wins})"),
        ([n for n in listed if flags.get(n) is False], f"in {LISTED} but flagged false (the flag wins: not searched)"),
        ([n for n in unlisted if flags.get(n) is True], f"in {UNLISTED} but flagged true ({wins})"),
        ([n for n in listed if flags.get(n, "") is None], f"in {LISTED} without a flag (searched)"),
        ([n for n in listed if n not in flags], f"in {LISTED} but not in the schema (ignored)"),
    ):  # fmt: skip
        if found:
            more = f" and {len(found) - 4} more" if len(found) > 4 else ""
            yield f"{what}: {', '.join(found[:4])}{more}"

"""Which parameters are searched: flagged or asked for, with something to choose from, and able to matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from automl.errors import SpaceError
from automl.space import names
from automl.space.domain import is_number
from automl.space.leaf import Leaf, same
from automl.space.parameter import Condition
from automl.space.schema import LISTED, UNLISTED, Schema
from automl.space.tuning import Wish
from automl.space.words import is_missing, short
from automl.spec import MISSING, get

_ABSENT = object()


@dataclass(frozen=True)
class Asked:
    """What a compilation starts from. `base` has every leaf's value: the request's, else the spec's, else the
    schema's default; `given` names the leaves that somebody set."""

    schema: Schema
    spec: Mapping[str, Any]
    wishes: Mapping[str, Wish]
    limits: Mapping[str, float]
    base: Mapping[str, Any]
    given: frozenset[str]
    group: str = "tao"  # one of tuning.GROUPS

    def insists(self, name: str) -> Wish | None:
        """A person's request for the parameter: what stands in its way is then an error."""
        wish = self.wishes.get(name)
        return None if wish is None or wish.recommended else wish

    def value(self, leaf: Leaf) -> Any:
        """The base value in the leaf's own type."""
        return leaf.typed(self.base.get(leaf.name))

    @cached_property
    def epochs_name(self) -> str | None:
        """The parameter that holds the length of the training in epochs."""
        training = [n for n in sorted(self.schema) if n.split(".")[0] == "train" or "." not in n]
        return next((n for word in names.EPOCHS for n in training if n.rsplit(".", 1)[-1] == word), None)

    @cached_property
    def choosers(self) -> dict[str, list[str]]:
        """Value of an enum -> the parameters that may have it, for values that name a section."""
        sections = {key for name in self.schema.sections for key in name.split(".")} - {
            "train",
            *names.ACTIONS,
        }
        found: dict[str, list[str]] = {}
        for name, node in self.schema.nodes.items():
            enum = node.get("enum")
            for value in enum if isinstance(enum, list) else ():
                if isinstance(value, str) and value in sections and not names.SCORING.match(value):
                    found.setdefault(value, []).append(name)
        return found

    @property
    def epochs(self) -> int | None:
        """The length of the training of the base configuration."""
        epochs = self.base.get(self.epochs_name) if self.epochs_name else None
        return int(epochs) if is_number(epochs) and epochs >= 1 else None


@dataclass(frozen=True)
class Chosen:
    """`conditions` of the parameters that are searched, in order; `left_out` says why the others are not."""

    conditions: Mapping[str, tuple[Condition, ...]]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def ask(
    schema: Schema, spec: Any, wishes: Mapping[str, Wish], limits: Mapping[str, float], group: str
) -> Asked:
    """The base configuration under the requests."""
    if spec is not None and not isinstance(spec, Mapping):
        raise SpaceError(f"a spec must be a mapping, but got {type(spec).__name__}")
    base: dict[str, Any] = {}
    given = set()
    for name in schema:
        value, wish = get(spec, name, MISSING), wishes.get(name)
        if wish and wish.fixed and wish.has_value:
            value = wish.value
        if value is not MISSING and not is_missing(value):
            base[name] = value
            given.add(name)
        elif schema.default(name)[0]:
            base[name] = schema.default(name)[1]
    wishes = {
        n: w.around(schema.leaf(n).typed(base.get(n))) if w.recommended else w for n, w in wishes.items()
    }
    return Asked(schema, spec or {}, wishes, limits, base, frozenset(given), group)


def choose(asked: Asked) -> Chosen:
    """Raises `SpaceError` for a parameter that was asked for and cannot be searched."""
    left_out, kept, schema = {}, [], asked.schema
    for name in (n for n in sorted(schema) if wanted(asked, n)):
        wish = asked.insists(name)
        if wish and wish.fixed:
            left_out[name] = f"fixed at {short(asked.base.get(name))} ({wish.source})"
            continue
        reason = (None if wish else why_never(asked, name)) or no_space(asked, name)
        if reason and wish:
            raise wish.error(f"{name} cannot be searched: {reason}")
        if reason:
            left_out[name] = reason
        else:
            kept.append(name)
    conditions, inert, notes = keep_active(asked, kept)
    return Chosen(conditions, left_out | inert, tuple(notes))


def wanted(asked: Asked, name: str) -> bool:
    """Asked for or recommended, or of the group: flagged, or listed without a flag of its own; or not flagged off."""
    flag, listed = asked.schema.flag(name), asked.schema.listed
    if name in asked.wishes or asked.group == "recommended":
        return name in asked.wishes
    by_list = name in listed[LISTED] and name not in listed[UNLISTED]
    return flag is True or (flag is None and (by_list or (asked.group == "all" and searchable(asked, name))))


def searchable(asked: Asked, name: str) -> bool:
    """Whether a leaf that nobody names is a number, a choice or a list of numbers, as its schema reads."""
    try:
        leaf = asked.schema.leaf(name)
    except SpaceError:
        return False
    value = asked.value(leaf)
    numbers = leaf.kind == "list" and isinstance(value, list) and value and all(map(is_number, value))
    return bool(numbers) or leaf.kind in ("int", "float", "bool", "choice", "ordered", "subset")


def why_never(asked: Asked, name: str) -> str | None:
    """The reason a parameter is not searched unless asked for by name, whatever the spec; or None."""
    path, own = asked.schema.paths[name], asked.schema.action or "train"
    if names.SPEED.search(path[-1]):
        return "it changes speed, not results"
    if path[-1] in names.EPOCHS and path[0] in (path[-1], "train"):
        return names.LENGTH
    if len(path) > 1 and _of_another_action(asked.schema, path[0], own):
        return f"it belongs to the action {path[0]}"
    scoring = next((part for part in path if names.SCORING.match(part) and part != own), None)
    if scoring:
        return f"'{scoring}' is not training: it changes how trials are scored, if anything"
    return _apart(asked, name)


def _of_another_action(schema: Schema, top: str, own: str) -> bool:
    known = schema.action or any(path[0] == "train" for path in schema.paths.values())
    return top in names.ACTIONS and top != own and not own.endswith(f"_{top}") and bool(known)


def _apart(asked: Asked, name: str) -> str | None:
    """Why a parameter that nobody flagged is left alone by a group of ours."""
    if asked.group == "tao":
        return None
    if asked.schema.leaf(name).nullable and asked.base.get(name) is None:
        return "it is off (null)"
    parts = () if asked.group == "recommended" or asked.schema.flag(name) else asked.schema.paths[name]
    return next((why for pattern, why in names.APART.items() if any(map(pattern.search, parts))), None)


def no_space(asked: Asked, name: str) -> str | None:
    """Why a leaf has nothing to choose from; None when it has."""
    leaf, wish = asked.schema.leaf(name), asked.wishes.get(name)
    section = missing_section(asked.spec, leaf)
    if section:
        return f"the spec has no section {section}"
    if leaf.unread:
        return f"its schema restricts it by '{leaf.unread[0]}', which is not modelled"
    if wish and wish.options:
        return None
    if leaf.choices and len(leaf.choices) == 1 and leaf.kind != "subset":
        return f"{short(leaf.choices[0])} is its only value"
    if any(isinstance(c, str) and (c != c.strip() or "\n" in c) for c in leaf.choices):
        return "its enum is mangled (a value begins or ends with white space)"
    return _RANGELESS.get(leaf.kind)


_RANGELESS = {
    "mapping": "a mapping has no range",
    "null": "its schema does not say what it may be",
    "text": "free text has no range; give values to choose from",
}


def missing_section(spec: Mapping[str, Any], leaf: Leaf) -> str | None:
    """The section above the leaf that the spec sets to null."""
    node: Any = spec
    for depth, key in enumerate(leaf.path[:-1]):
        node = node.get(key, _ABSENT) if isinstance(node, Mapping) else _ABSENT
        if node is None:
            return ".".join(leaf.path[: depth + 1])
    return None


def keep_active(
    asked: Asked, kept: list[str]
) -> tuple[dict[str, tuple[Condition, ...]], dict[str, str], list[str]]:
    """(the conditions that searched parameters decide, why others never matter, notes)."""
    rules = {name: tuple(conditions_of(asked, asked.schema.leaf(name))) for name in kept}
    inert: dict[str, str] = {}
    while True:
        verdicts = {n: judge(asked, rules[n], kept) for n in kept if n not in inert}
        found = {n: v for n, v in verdicts.items() if isinstance(v, str) and not asked.insists(n)}
        if not found:
            break
        inert |= found
        kept = [n for n in kept if n not in inert]
    notes = [f"{n} is searched as asked, though {v}" for n, v in verdicts.items() if isinstance(v, str)]
    return {n: () if isinstance(v, str) else v for n, v in verdicts.items()}, inert, notes


def judge(asked: Asked, rules: tuple[Condition, ...], kept: list[str]) -> tuple[Condition, ...] | str:
    """The conditions that stay open, or why the parameter never matters."""
    still_open = []
    for rule in rules:
        if rule.name not in kept:
            if not rule.holds(asked.base):
                return f"it has no effect while {rule.name} is {short(asked.base.get(rule.name))}"
            continue
        values = options_of(asked, rule.name)
        fitting = tuple(v for v in values if any(same(v, w) for w in rule.values))
        if not fitting:
            return f"it has no effect for any searched value of {rule.name}"
        if len(fitting) < len(values):
            still_open.append(Condition(rule.name, fitting))
    return tuple(still_open)


def options_of(asked: Asked, name: str) -> tuple[Any, ...]:
    """What a searched parameter can become; () for a number, which decides nothing."""
    wish, leaf = asked.wishes.get(name), asked.schema.leaf(name)
    if wish and wish.options:
        return wish.options
    return (False, True) if leaf.kind == "bool" and not leaf.choices else leaf.choices


def conditions_of(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """Everything that must hold for the leaf to matter: the schema's word, else what names tell."""
    yield from (Condition(name, values) for name, values in leaf.active_when)
    if leaf.active_when:
        return
    *above, last = leaf.path
    yield from (Condition(name, (True,)) for name in switches(asked.schema, leaf))
    yield from branches(asked, leaf)
    for use in names.USES:
        if last in use.names:
            yield from used_by(asked, leaf, use)
    null = ".".join((*above, names.WHILE_NULL.get(last, "")))
    if null in asked.schema:
        yield Condition(null, (None,))


def switches(schema: Schema, leaf: Leaf) -> Iterator[str]:
    """`enable` beside it or beside a section it is in; `enable_ema` beside `ema_decay`, `use_mlp` beside `mlp_size`."""
    *above, last = leaf.path
    words = last.split("_")
    found = [".".join((*above[:depth], word)) for depth in range(1, len(leaf.path)) for word in names.ENABLE]
    found += [
        ".".join((*above, prefix + "_".join(words[:i])))
        for i in range(1, len(words))
        for prefix in names.SWITCHES
    ]
    for name in found:
        if (
            name != leaf.name
            and name in schema
            and str(schema.nodes[name].get("type")) in ("bool", "boolean")
        ):
            yield name


def branches(asked: Asked, leaf: Leaf) -> Iterator[Condition]:
    """A section named like a value of an enum above it matters while the enum has that value: `task: segment` beside
    `segment.` and `classify.`."""
    for depth, part in enumerate(leaf.path[:-1]):
        for name in asked.choosers.get(part, ()):
            section = asked.schema.paths[name][:-1]
            if len(section) <= depth and section == leaf.path[: len(section)]:
                yield Condition(name, (part,))


def used_by(asked: Asked, leaf: Leaf, use: names.Use) -> list[Condition]:
    """The condition that the sibling that decides is set to what uses the leaf, when its value is of a known kind."""
    sections = [leaf.path[:-1], leaf.path[:-2]] if len(leaf.path) > 2 else [leaf.path[:-1]]
    for name in (".".join((*section, word)) for section in sections for word in use.deciders):
        value = asked.base.get(name)
        if name != leaf.name and name in asked.schema and isinstance(value, str) and use.knows(value):
            options = asked.schema.nodes[name].get("enum")
            known = [o for o in options if isinstance(o, str)] if isinstance(options, list) else []
            return [Condition(name, use.values(known, value))]
    return []


def disagreements(schema: Schema) -> Iterator[str]:
    """Where the schema's flags and its lists of names contradict each other."""
    default, disabled = sorted(schema.listed[LISTED]), sorted(schema.listed[UNLISTED])
    flags: dict[str, bool | str | None] = {**dict.fromkeys(schema.sections, "section")}
    flags |= {name: schema.flag(name) for name in schema}
    said = [(name, flags.get(name, "absent")) for name in default]
    unlisted = [n for n in schema if flags[n] and n not in default] if default else []
    wins = "the flag wins: searched"
    yield from _said(unlisted, f"flagged but not in {LISTED} ({wins})")
    yield from _said(
        [n for n, flag in said if flag is False],
        f"in {LISTED} but flagged false (the flag wins: not searched)",
    )
    yield from _said(
        [n for n in disabled if flags.get(n) is True], f"in {UNLISTED} but flagged true ({wins})"
    )
    yield from _said([n for n, flag in said if flag is None], f"in {LISTED} without a flag (searched)")
    yield from _said(
        [n for n, flag in said if flag == "absent"], f"in {LISTED} but not in the schema (ignored)"
    )


def _said(found: list[str], what: str) -> Iterator[str]:
    if found:
        yield f"{what}: {', '.join(found[:4])}" + (f" and {len(found) - 4} more" if len(found) > 4 else "")

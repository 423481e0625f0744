"""Which parameters are searched: flagged or asked for, with something to choose from, and able to matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.errors import SpaceError
from automl.space import activity
from automl.space.activity import Condition
from automl.space.compilation import Compilation
from automl.space.leaf import Leaf, same
from automl.space.tuning import Wish
from automl.space.words import short

_ABSENT = object()


def find_candidates(work: Compilation) -> list[str]:
    kept = []
    for name in sorted(work.schema):
        wish = work.wishes.get(name)
        if not wanted(work, name, wish):
            continue
        if wish and wish.fixed:
            work.left_out[name] = f"fixed at {short(work.base.get(name))} ({wish.source})"
            continue
        reason = (None if wish else activity.why_never(name, work.schema)) or no_space(work, name)
        if reason and wish:
            raise SpaceError(f"{wish.source}: {name} cannot be searched: {reason}")
        if reason:
            work.left_out[name] = reason
        else:
            kept.append(name)
    return kept


def wanted(work: Compilation, name: str, wish: Wish | None) -> bool:
    """Flagged, or listed without a flag of its own, or asked for."""
    flag = work.schema.flag(name)
    listed = {key: name in names for key, names in work.schema.listed.items()}
    by_list = listed["automl_default_parameters"] and not listed["automl_disabled_parameters"]
    return wish is not None or flag is True or (flag is None and by_list)


def no_space(work: Compilation, name: str) -> str | None:
    """Why a leaf has nothing to choose from; None when it has."""
    leaf, wish = work.schema.leaf(name), work.wishes.get(name)
    section = missing_section(work, leaf)
    if section:
        return f"the spec has no section {section}"
    if leaf.unread:
        return f"its schema restricts it by '{leaf.unread[0]}', which is not modelled"
    if wish and wish.options:
        return None
    if leaf.kind in ("mapping", "null"):
        return (
            "a mapping has no range" if leaf.kind == "mapping" else "its schema does not say what it may be"
        )
    if leaf.kind == "text":
        return "free text has no range; give values to choose from"
    if leaf.choices and len(leaf.choices) == 1 and leaf.kind != "subset":
        return f"{short(leaf.choices[0])} is its only value"
    if any(isinstance(c, str) and (c != c.strip() or "\n" in c) for c in leaf.choices):
        return "its enum is mangled (a value begins or ends with white space)"
    return None


def missing_section(work: Compilation, leaf: Leaf) -> str | None:
    """The section above the leaf that the spec sets to null."""
    node: Any = work.spec
    for depth, key in enumerate(leaf.path[:-1]):
        node = node.get(key, _ABSENT) if isinstance(node, Mapping) else _ABSENT
        if node is None:
            return ".".join(leaf.path[: depth + 1])
    return None


def keep_active(work: Compilation, candidates: list[str]) -> dict[str, tuple[Condition, ...]]:
    """The conditions that searched parameters decide; what fixed ones rule out leaves `candidates`."""
    rules = {n: activity.conditions_of(work.schema.leaf(n), work.schema, work.base) for n in candidates}
    open_conditions: dict[str, tuple[Condition, ...]] = {}
    settled = False
    while not settled:
        settled = True
        for name in list(candidates):
            verdict = judge(work, rules[name], candidates)
            if isinstance(verdict, str) and name not in work.wishes:
                work.left_out[name] = verdict
                candidates.remove(name)
                settled = False
            elif isinstance(verdict, str):
                work.notes.append(f"{name} is searched as asked, though {verdict}")
                rules[name] = ()
                open_conditions[name] = ()
            else:
                open_conditions[name] = verdict
    return open_conditions


def judge(
    work: Compilation, rules: tuple[Condition, ...], candidates: list[str]
) -> tuple[Condition, ...] | str:
    """The conditions that stay open, or why the parameter never matters."""
    still_open = []
    for rule in rules:
        values = options_of(work, rule.name) if rule.name in candidates else None
        if values is None:
            current = work.base.get(rule.name)
            if not any(same(current, v) for v in rule.values):
                return f"it has no effect while {rule.name} is {short(current)}"
            continue
        fitting = [v for v in values if any(same(v, w) for w in rule.values)]
        if not fitting:
            return f"it has no effect for any searched value of {rule.name}"
        if len(fitting) < len(values):
            still_open.append(Condition(rule.name, tuple(fitting)))
    return tuple(still_open)


def options_of(work: Compilation, name: str) -> tuple[Any, ...]:
    """What a searched parameter can become; () for a number, which decides nothing."""
    wish, leaf = work.wishes.get(name), work.schema.leaf(name)
    if wish and wish.options:
        return wish.options
    return (False, True) if leaf.kind == "bool" and not leaf.choices else leaf.choices


def explain_disagreements(work: Compilation) -> None:
    listed = work.schema.listed
    default, disabled = listed["automl_default_parameters"], listed["automl_disabled_parameters"]
    flags = {n: work.schema.flag(n) for n in work.schema}
    unlisted = [n for n, flag in flags.items() if flag and n not in default]
    note_names(
        work,
        unlisted if default else [],
        "flagged but not in automl_default_parameters",
        "the flag wins: searched",
    )
    note_names(
        work,
        [n for n in sorted(default) if flags.get(n) is False],
        "in automl_default_parameters but flagged false",
        "the flag wins: not searched",
    )
    note_names(
        work,
        [n for n in sorted(disabled) if flags.get(n)],
        "in automl_disabled_parameters but flagged true",
        "the flag wins: searched",
    )
    note_names(
        work,
        [n for n in sorted(default) if n in flags and flags[n] is None],
        "in automl_default_parameters without a flag",
        "searched",
    )
    note_names(
        work,
        [n for n in sorted(default) if n not in flags and n not in work.schema.sections],
        "in automl_default_parameters but not in the schema",
        "ignored",
    )


def note_names(work: Compilation, names: list[str], what: str, verdict: str) -> None:
    if names:
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        work.notes.append(f"{what} ({verdict}): {shown}")

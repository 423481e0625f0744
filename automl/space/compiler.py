"""From a train schema, a base spec and requests to a `SearchSpace`, in five steps, each in a file of its own.

1  base        every leaf's value: the spec's, else the schema's default           (compilation.py)
2  candidates  the leaves that are flagged or asked for, less what cannot matter   (candidates.py, activity.py)
3  drafts      what each may be                                                    (drafts.py, lists.py)
4  ranges      where to look, relations with a fixed side kept                     (ranges.py, scale.py, relations.py)
5  build       codecs, relations between searched parameters kept by construction  (build.py, codecs.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automl.errors import SpaceError
from automl.space import links
from automl.space.build import build_parameters, context_of, looked_at, validated
from automl.space.candidates import explain_disagreements, find_candidates, keep_active
from automl.space.compilation import Compilation, base_values, check_fixed, note_unknown
from automl.space.drafts import add_draft
from automl.space.leaf import Leaf
from automl.space.ranges import set_ranges
from automl.space.schema import Schema
from automl.space.space import SearchSpace
from automl.space.tuning import read_wishes


def compile_space(
    schema: Mapping[str, Any],
    spec: Mapping[str, Any] | None = None,
    *,
    tune: Sequence[str] = (),
    fix: Sequence[str] | Mapping[str, Any] = (),
    search: Mapping[str, Any] | None = None,
    limits: Mapping[str, float] | None = None,
) -> SearchSpace:
    """The search space of a train schema, in TAO's dialect or standard JSON Schema, around a base spec.

    The spec's values (the schema's defaults where it has none) are the default configuration and decide what
    matters. `tune`, `fix` and `search` narrow and widen it (see tuning.py; `fix` may also be {dotted name: value}),
    always inside the schema; `limits` are upper bounds that the data set, {dotted name: number}. Raises `SpaceError`
    naming the parameter.
    """
    try:
        read = Schema(schema)
        wishes = read_wishes(read, tune, fix, search)
        base, given = base_values(read, spec, wishes)
        return _compiled(Compilation(read, spec, wishes, limits or {}, base, given))
    except RecursionError:
        raise SpaceError("the schema refers to itself without end, or is nested too deeply") from None


def _compiled(work: Compilation) -> SearchSpace:
    candidates = find_candidates(work)
    conditions = keep_active(work, candidates)
    work.links = links.gather(work.schema, work.base, work.notes, candidates)
    check_fixed(work, candidates)
    work.searched = candidates
    for name in candidates:
        add_draft(work, name, conditions[name])
    moving = set_ranges(work, candidates)
    searched = [n for n in candidates if n not in work.left_out]
    parameters = build_parameters(work, searched, moving, conditions)
    explain_disagreements(work)
    note_unknown(work)
    if not parameters:
        work.notes.append(
            "nothing is searched: no leaf is flagged automl_enabled and can matter; --tune NAME adds one"
        )
    return SearchSpace(
        parameters,
        left_out=tuple(sorted(work.left_out.items())),
        notes=tuple(dict.fromkeys(work.notes)),
        fixed=_fixed(work),
        context=context_of(work, parameters),
        leaves=tuple(leaf for name in work.schema if (leaf := _readable(work.schema, name))),
        relations=validated(work, searched),
        base=tuple(sorted(looked_at(work).items())),
    )


def _fixed(work: Compilation) -> tuple[tuple[str, Any], ...]:
    """The leaves that a request fixes, with their values."""
    fixed = [(n, w) for n, w in sorted(work.wishes.items()) if w.fixed and (w.has_value or n in work.base)]
    return tuple((n, w.value if w.has_value else work.base[n]) for n, w in fixed)


def _readable(schema: Schema, name: str) -> Leaf | None:
    try:
        return schema.leaf(name)
    except SpaceError:
        return None  # a broken leaf that nobody searches

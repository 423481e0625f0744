"""What the spec file of a run that goes on says by now, and the run, which goes on as recorded, does not."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import secret_leaves, spec
from automl.metric import first_of
from automl.spec import SourcedSpec

if TYPE_CHECKING:
    from automl.bundle import ModelBundle
    from automl.plan import Plan

NOTHING: tuple[Any, ...] = (None, {}, [])


def said(
    model: ModelBundle, merged: SourcedSpec, engine_keys: Mapping[str, Any], file: str | None
) -> dict[str, Any]:
    """{leaf: value} of what a merged spec has from its file, sections of later actions too; secrets are left out."""
    secret = {name for action in model.actions for name in secret_leaves.names(model, action)}
    full = {**engine_keys, **merged.spec}
    names = [n for n, source in merged.sources.items() if file and source == file and n not in secret]
    return {name: copy.deepcopy(spec.get(full, name)) for name in names}


def otherwise(plan: Plan) -> dict[str, Any]:
    """The leaves of the spec file that have another value in the plan, with that value: a path made absolute, a choice
    as the schema spells it, data that had to be mended."""
    full = {**plan.engine_keys, **plan.spec}
    return {name: value for name, value in (plan.said or {}).items() if spec.get(full, name) != value}


def changes(plan: Plan, merged: SourcedSpec, engine_keys: Mapping[str, Any]) -> list[str]:
    """What to say of a spec file, by what is merged of it now (`merged`, `engine_keys`) with the run's own request, so
    that what ranks above the file still does."""
    lines = [*_of_keys(plan.engine_keys, engine_keys), *_of_leaves(plan, merged, engine_keys)]
    if not lines:
        return []
    file = plan.request.spec_file
    return [f"{file} has changed since this run began, which goes on as recorded: {first_of(lines, '; ')}"]


def _of_keys(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in spec.ENGINE_KEYS:
        before, there = then.get(key), now.get(key)
        if before == there or (before in NOTHING and there in NOTHING):
            continue
        yield f"{key} is {'no longer set' if there in NOTHING else 'set' if before in NOTHING else 'another'} there"


def _of_leaves(plan: Plan, merged: SourcedSpec, engine_keys: Mapping[str, Any]) -> Iterator[str]:
    here, there = {**plan.engine_keys, **plan.spec}, {**engine_keys, **merged.spec}
    file = str(plan.request.spec_file)
    for name, value in said(plan.bundle, merged, engine_keys, file).items():
        own = spec.get(here, name)
        if plan.said is None:
            as_then = _mended(plan, name, value, own)
        else:
            as_then = value == plan.said.get(name, spec.MISSING)
        if value != own and not as_then:
            yield f"{name} is {value!r} there, {own!r} here"
    for name, source in plan.sources.items():  # which have the file's path as it was typed
        came = Path(source).name == Path(file).name and merged.sources.get(name) != file
        own = spec.get(here, name)
        if came and spec.get(there, name) != own:
            yield f"{name} is no longer set there, {own!r} here"


def _mended(plan: Plan, name: str, value: Any, own: Any) -> bool:
    """Whether a leaf may be what the file says still: an earlier version did not record what it said where data were
    mended and paths made absolute."""
    if plan.sources.get(name) == spec.DATA:
        return True
    texts = isinstance(value, str) and isinstance(own, str) and os.path.isabs(own)
    return texts and os.path.basename(own) == os.path.basename(os.path.normpath(value))

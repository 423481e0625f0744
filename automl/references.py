"""`${a.b}` in a spec, the value of another key of it, for a model whose actions read that too (`interpolates` in its
skill_info).

A training takes what the merged spec says. Where a later action writes is settled when the winner is handed over, so
that references to it stay in that action's section, for the action itself to resolve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl import later_actions, secret_leaves, spec
from automl.bundle import ModelBundle
from automl.errors import SpecError
from automl.spec import SourcedSpec
from safe_documents import DocumentError, interpolated


def settle(merged: SourcedSpec, model: ModelBundle) -> None:
    """Resolve a merged spec in place. Raises `SpecError` with every leaf that cannot be, but for those that a run names
    itself: where a training writes, and the files that the winner brings."""
    if not model.skill.get("interpolates"):
        return
    # What nobody gave may still be filled, by a recipe or by what the data are.
    given = spec.nest({name: spec.get(merged.spec, name) for name in merged.sources})
    merged.spec, wrong = resolved(merged.spec, given, model)
    for leaf in [leaf for leaf in wrong if leaf in model.output_keys("train")]:
        merged.forget(leaf)
        del wrong[leaf]
    later_ones = [action for action in model.actions if action != "train"]
    secret = _secret(model)
    if lines := [
        f"{merged.sources.get(leaf.partition('[')[0], spec.TEMPLATE)}: {leaf} {why}"
        for leaf, why in wrong.items()
        if leaf in secret or not any(later_actions.brought(model, action, leaf) for action in later_ones)
    ]:  # fmt: skip
        raise SpecError("\n".join(lines))


def _secret(model: ModelBundle) -> set[str]:
    return {name for action in model.actions for name in secret_leaves.names(model, action)}


def resolved(
    document: Mapping[str, Any], within: Mapping[str, Any], model: ModelBundle
) -> tuple[dict[str, Any], dict[str, str]]:
    """(the document with its references resolved by what `within` says, {leaf: what is wrong with its}), of a model
    that knows them; of any other, the document. Raises `SpecError` for one that grows without bound."""
    found: dict[str, Any] = dict(document)
    wrong: dict[str, str] = {}
    if not model.skill.get("interpolates"):
        return found, wrong
    template = model.template("train")
    others = [action for action in model.actions if action not in template]
    secret = _secret(model)
    for key, value in document.items():
        keep = model.output_keys(key) if key in others else ()
        try:
            one, more = interpolated({key: value}, within, keep, secret)
        except DocumentError as error:
            raise SpecError(f"{key}: {error}") from None
        found |= one
        wrong |= {leaf: why + secret_leaves.instead(model) * (leaf in secret) for leaf, why in more.items()}
    return found, wrong

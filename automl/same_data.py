"""Whether a run that goes on still has the data that it began with: the model looks at them as it did before the first
trial, and what it finds is compared with what run.json has of then."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import hooks, run_history, spec, web_url
from automl.bundle import ModelBundle
from automl.errors import UserError
from automl.metric import first_of
from automl.programs import command

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.study import Study


EACH_S, SHARE = 60.0, 0.02  # data are looked at while a run goes on: not more often, nor for more of the time
SHOWN = 5  # notes on data that have changed
LATER = (
    "later_facts"  # of the run's history: what the data were at later starts, where it could not be compared
)


@dataclass(frozen=True)
class _Compared:
    """What has `changed` in the data since the run began, or since its start `at` (ISO 8601), which noted what they
    were; what could not be compared (`unknown`), and why."""

    changed: list[str]
    unknown: list[str]
    at: str = ""


def check(plan: Plan, root: Path) -> None:
    """What could not be compared with the data that the run began with is a warning of the plan's, each time, and what
    they are now is noted in its history; so is what a run has a copy of, and has changed where it came from since.
    Raises `UserError` as `check_unchanged` does."""
    told, now = check_unchanged(plan, root)
    if told.unknown:
        _note_unknown(plan, told, now)
    if _named(plan) and (lines := _changed_since_copied(plan, now)):
        shown = web_url.shown(str(plan.request.data))
        plan.warnings.append(
            f"{shown} has changed since this run began, or is read otherwise by now; the run goes on with its copy of "
            f"then ({'; '.join(lines)}); a run of its own can have the data of now, and learn from this one by "
            f"--warm-start {root}"
        )


class Watched:
    """The data of a run while it goes on: a trial on others could not be compared, and nothing would say so."""

    def __init__(self, plan: Plan, root: Path, study: Study) -> None:
        self.plan, self.root, self.study = plan, root, study
        self.due, self.seen = time.monotonic() + EACH_S, datetime.now()

    def look_if_due(self) -> None:
        """`look`, as often as costs little of the time."""
        if time.monotonic() >= self.due:
            self.look()

    def look(self) -> None:
        """`check_unchanged`, whose error also names the trials that ran since the data were last seen unchanged."""
        began, at = time.monotonic(), datetime.now()
        try:
            check_unchanged(self.plan, self.root)
        except UserError as error:
            ran = [t for t in self.study.trials() if (t.datetime_complete or at) >= self.seen]
            numbers = first_of([str(t.number) for t in ran if t.intermediate_values])
            between = f"\nWhat these trials measured may be of the others: {numbers}" if numbers else ""
            raise UserError(f"{error}{between}") from None
        now = time.monotonic()
        self.due, self.seen = now + max(EACH_S, (now - began) / SHARE), at


def _named(plan: Plan) -> bool:
    """Whether the spec was filled in, and says by itself where the data are."""
    return spec.DATA in plan.sources.values()


def check_unchanged(plan: Plan, root: Path) -> tuple[_Compared, dict[str, Any]]:
    """How the data of now compare with those that the run began with, and their facts. Raises `UserError` for data with
    problems, or with other facts than those recorded: by the model's `data_changes`, else by the counts that both
    have."""
    found = _looked_at(plan.bundle, plan.spec, None if _named(plan) else plan.request.data)
    now = found.get("facts") or {}
    told = _known_again(plan.bundle, plan.facts, plan.history, now)
    if told.changed:
        raise UserError(
            f"{root}: {_since(told)}:\n{_indented([*told.changed, *_notes(found)])}\n"
            f"Trials on both cannot be compared. Put the old data back, then: {command('resume', root)}\n"
            f"Or begin a new run on those of now, which --warm-start {root} lets learn from this one"
        )
    if problems := hooks.texts(found.get("problems")):
        raise UserError(
            f"{root}: the data of this run have problems by now:\n{_indented(problems)}\n"
            f"Put them back as they were, then: {command('resume', root)}"
        )
    return told, now


def _notes(found: Mapping[str, Any]) -> list[str]:
    """What the model says of the data of now, as of an image that cannot be read: it may be what has changed."""
    lines = hooks.texts(found.get("warnings"))
    more = [f"and {len(lines) - SHOWN} more notes"] if len(lines) > SHOWN else []
    return ["of those of now:", *(f"  {line}" for line in lines[:SHOWN]), *more] if lines else []


def _since(told: _Compared) -> str:
    if not told.at:
        return "the data have changed since this run began"
    return (
        f"the data have changed since this run went on at {run_history.shown(told.at)}, which noted what they were, "
        "as they could not be compared with those that it began with"
    )


def _note_unknown(plan: Plan, told: _Compared, now: dict[str, Any]) -> None:
    """Say what could not be compared, and keep what the data are now where no start before has."""
    known = (
        f"they are those that it went on with at {run_history.shown(told.at)}"
        if told.at
        else "later starts are compared with those of now"
    )
    if not told.at:
        plan.history[LATER] = [*plan.history.get(LATER, ()), {"when": run_history.now(), "facts": now}]
    plan.warnings.append(
        "whether the data are those that this run began with could not be compared in all "
        f"({'; '.join(told.unknown)}); {known}"
    )


def follow(document: Mapping[str, Any], model: ModelBundle, data: str, root: Path) -> dict[str, Any]:
    """run.json's `document` with the data of the run at another place, `data`: what the data determined is determined
    anew, and what is to be written (a validation set) is written to `root`. Raises `UserError` where the run was not
    begun with data of a person's, or those at `data` are others."""
    return _followed(document, model, data, root)[0]


def _followed(
    document: Mapping[str, Any], model: ModelBundle, data: str, root: Path
) -> tuple[dict[str, Any], list[str]]:
    """(what `follow` returns, what could not be compared)."""
    request = document["request"]
    if not request.get("data"):
        what = "drew its own" if request.get("demo") else "has them named by its spec"
        raise UserError(
            f"--data {web_url.shown(data)}: a run that was begun with --data can be told where they are now, and this "
            f"one {what}; a link at the old place works"
        )
    unfilled = _unfilled(model, document["spec"], document.get("sources", {}))
    found = _looked_at(model, unfilled, data)
    told = _known_again(model, document.get("facts", {}), document, found.get("facts") or {})
    if lines := told.changed or hooks.texts(found.get("problems")):
        when = f"went on with at {run_history.shown(told.at)}" if told.at else "began with"
        raise UserError(
            f"--data {web_url.shown(data)}: these are not the data that {root} {when} "
            f"({web_url.shown(request['data'])}), and trials on both cannot be compared:\n{_indented(lines)}"
        )
    # Only now, as it writes over what the run has; the images' digests are in the model's cache.
    found = _looked_at(model, unfilled, data, root)
    filled = {**(found.get("fill") or {}), **(found.get("replace") or {})}
    moved = {name: value for name, value in filled.items() if name in of_data(document.get("sources", {}))}
    full = copy.deepcopy(document["spec"])
    for name, value in moved.items():
        spec.put(full, name, value)
    there = str(Path(data).resolve()) if Path(data).exists() else data
    settled = {"filled": {**document.get("filled", {}), **moved}, "request": {**request, "data": there}}
    return {**document, "spec": full, **settled}, told.unknown


def at_hand(document: Mapping[str, Any], model: ModelBundle, root: Path) -> tuple[dict[str, Any], list[str]]:
    """(run.json's `document`, what to say of it). Where copies that a run has of its data are gone, as from a cache
    that was cleared, they are made again from where the data came from, as `follow` takes data. Raises `UserError`
    where these cannot be had, or are others by now."""
    data = document["request"].get("data")
    if not data or spec.DATA not in document.get("sources", {}).values():
        return dict(document), []
    shown, url = web_url.shown(data), "://" in data
    if not _copies_are_gone(document, model, data):
        told = f"{shown}: not looked at again: the run goes on with what it fetched at first, a new run looks there"
        return dict(document), [told] if url else []
    try:
        found, unknown = _followed(document, model, data, root)
    except Exception as error:  # the model's own errors are of another family
        if getattr(error, "exit_code", None) != UserError.exit_code:
            raise
        resume = command("resume", root)
        raise UserError(
            f"{root}: the copy of {shown} that this run trains on is gone, and cannot be made again:\n"
            f"{_indented([str(error).removeprefix('--data ')])}\n"
            f"When the same data are there again: {resume}; where they are elsewhere by now: {resume} --data "
            f"{'URL' if url else 'DIR'}"
        ) from None
    same = "" if unknown else "; the data are the same"
    return found, [f"{shown}: the copy that this run trains on was gone, and was made again{same}"]


def _copies_are_gone(document: Mapping[str, Any], model: ModelBundle, data: str) -> bool:
    """Whether something that a training takes in of the data is gone, and all such lay elsewhere than these."""
    own = of_data(document["sources"])
    inputs = model.inputs("train", document["spec"])
    files = [Path(node[key]) for leaf, node, key in inputs if leaf.partition("[0].")[0] in own]
    gone = [path for path in files if not path.exists()]
    return bool(gone) and not any(path.is_relative_to(Path(data).resolve()) for path in gone)


def has_copies(model: ModelBundle, base: dict[str, Any], data: str) -> bool:
    """Whether a training takes in other files than those of `data` themselves."""
    inputs = (Path(node[key]).resolve() for _, node, key in model.inputs("train", base))
    return not all(path.is_relative_to(Path(data).resolve()) for path in inputs)


def _changed_since_copied(plan: Plan, now: Mapping[str, Any]) -> list[str]:
    """What is another by now in the folder or archive that a run's own copies, whose facts are `now`, were made of."""
    data = plan.request.data
    if not data or "://" in data or not Path(data).exists():
        return []
    if not has_copies(plan.bundle, plan.spec, data):
        return []  # what was looked at are these files themselves
    try:
        found = _looked_at(plan.bundle, _unfilled(plan.bundle, plan.spec, plan.sources), data)
    except Exception as error:  # the model's own errors are of another family
        if getattr(error, "exit_code", None) != UserError.exit_code:
            raise
        return str(error).splitlines()[:1]
    return _changes(plan.bundle, now, found.get("facts") or {})[0] or hooks.texts(found.get("problems"))[:1]


def of_data(sources: Mapping[str, str]) -> set[str]:
    """The leaves that the data determined."""
    return {name for name, source in sources.items() if source == spec.DATA}


def _unfilled(model: ModelBundle, full: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, Any]:
    """A spec as it was before the data determined some of its leaves."""
    template, unfilled = model.template("train"), copy.deepcopy(dict(full))
    for name in of_data(sources):
        spec.put(unfilled, name, copy.deepcopy(spec.get(template, name)))
    return unfilled


def _known_again(
    model: ModelBundle, began: Mapping[str, Any], history: Mapping[str, Any], now: Mapping[str, Any]
) -> _Compared:
    """The facts of `now` beside those that the run began with, and where these leave something open those of the later
    starts, until one leaves nothing."""
    changed, unknown = _changes(model, began, now)
    if changed or not unknown:
        return _Compared(changed, unknown)
    for noted in history.get(LATER, ()):
        changed, left = _changes(model, noted["facts"], now)
        if changed or not left:
            return _Compared(changed, unknown, noted["when"])
    return _Compared([], unknown)


def _changes(
    model: ModelBundle, then: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """(what has changed, what could not be compared)."""
    compare = model.call("data_changes")
    found = compare(then, now) if compare else _by_counts(then, now)
    if not isinstance(found, Mapping):
        found = {"changed": found}
    return hooks.texts(found.get("changed")), hooks.texts(found.get("not_compared"))


def _looked_at(
    model: ModelBundle, full: Mapping[str, Any], data: str | None, work_dir: Path | None = None
) -> dict[str, Any]:
    """What the model's check says of the data that a spec names, or of those at `data`; what it writes goes to
    `work_dir`, or is not kept."""
    inspect = model.call("inspect_data")
    if inspect is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="automl-data-") as folder:
        found = inspect(copy.deepcopy(dict(full)), data, work_dir=work_dir or Path(folder))
    return hooks.answer(model, "inspect_data", found)


def _by_counts(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"changed": [], "not_compared": []}
    for name in {**before, **now}:
        then, there = _counts(before.get(name)), _counts(now.get(name))
        for key in {**then, **there}:
            if key not in then or key not in there:
                where = "was not recorded" if key in there else "is not known now"
                found["not_compared"].append(f"{name}: {key} {where}")
            elif then[key] != there[key]:
                found["changed"].append(f"{name}: {key} was {then[key]} and is {there[key]}")
    return found


def _counts(fact: Any) -> dict[str, int]:
    return {k: v for k, v in fact.items() if type(v) is int} if isinstance(fact, Mapping) else {}


def _indented(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for text in lines for line in text.splitlines())

"""Specs on the engine's side: load, merge with the source of every leaf, validate against a schema, hand over.

A spec is a nested dict. It is merged from the model's template, a preset, a file and `--set` pairs, the later
winning, and `sources` remembers who set each leaf, so that facts of the data never overwrite what a person wrote.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.documents import load_yaml
from automl.dotted import MISSING as MISSING
from automl.dotted import get as get
from automl.dotted import get_each as get_each
from automl.dotted import leaves as leaves
from automl.dotted import nest as nest
from automl.dotted import put as put
from automl.errors import SpaceError, SpecError, did_you_mean
from safe_documents import UNSAID, unsaid

KEYS_OF_A_SEARCH = ("objectives", "search", "try")
ENGINE_KEYS = (
    "automl_policy",
    *KEYS_OF_A_SEARCH,
)  # keys of a spec file that are the engine's, not the model's
# Keys by which other programs ask for a search, and what does so here.
ELSEWHERE = {
    "automl_enabled": "; automl_policy says it, or --automl-policy",
    "automl_algorithm": "; --sampler and --scheduler say it",
    "automl_max_recommendations": "; --trials says it",
}
TEMPLATE = "template"
DATA = "data"  # the leaf was determined by the data
LATER = "a later template"  # the model did not have the leaf when the run began
MANDATORY = UNSAID


@dataclass
class SourcedSpec:
    """A spec and where each leaf came from: "template", "preset small", "my.yaml", "--set", "data"."""

    spec: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._template = copy.deepcopy(self.spec)

    def overlay(self, partial: Mapping[str, Any], source: str) -> None:
        """Set every leaf of `partial`; a list is replaced whole. An empty section says nothing, and neither does null
        for a section, or `???` for what is known. Null for what the template leaves empty, as TAO writes what was not
        given, leaves it so."""
        for name, value in leaves(partial):
            there = get(self.spec, name, MISSING)
            if value is None and get(self._template, name) in ("", [], {}):
                self.forget(name)
                continue
            if (value in ({}, None) and isinstance(there, dict)) or (unsaid(value) and there is not MISSING):
                continue
            put(self.spec, name, copy.deepcopy(value))
            self.sources[name] = source

    def forget(self, name: str) -> None:
        """Let a leaf be as if nobody had set it."""
        put(self.spec, name, copy.deepcopy(get(self._template, name)))
        self.sources.pop(name, None)

    def fill(self, values: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Set the dotted names that nobody has set yet; returns those that were set."""
        taken = {n: v for n, v in values.items() if self.sources.get(n, TEMPLATE) == TEMPLATE}
        for name, value in taken.items():
            put(self.spec, name, value)
            self.sources[name] = source
        return taken


def load(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises `SpecError` naming file, line and column."""
    if not path.is_file():
        raise SpecError(f"{path}: no such spec file")
    document = load_yaml(path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SpecError(f"{path}: a spec must be a mapping, but got {type(document).__name__}")
    return document


def parse_set(pairs: Sequence[str], shorthand: Mapping[str, str]) -> dict[str, Any]:
    """`["train.num_epochs=5", "batch_size=2"]` -> {dotted name: value}; values are YAML, shorthand keys expand. What
    begins with @, as nothing in YAML does, is text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip():
            raise SpecError(f"--set must be KEY=VALUE, but got {_no_pair(pair)}{_removal(pair)}")
        name = shorthand.get(name.strip(), name.strip())
        values[name] = load_yaml(text, f"--set {name}") if text and not text.startswith("@") else text
    return values


def _no_pair(pair: str) -> str:
    """What was given instead, without what may be a secret: of `key:value` and `{'key': 'value'}` the key."""
    key, sign, _ = pair.partition(":")
    return f"'{key}:…' (write = in place of :)" if sign else f"'{pair}'"


def _removal(pair: str) -> str:
    """What to say of `~KEY`, with which Hydra takes a key out; here it is not supported. "" for other pairs."""
    name = pair.removeprefix("~")
    return f"; ~ takes nothing out here: {name}=VALUE gives it another value" if pair.startswith("~") else ""


def check_fixed(fixed: Iterable[str], pairs: Mapping[str, Any]) -> None:
    """Raises `SpecError` where `--fix NAME=VALUE` and the pairs of `--set` give one leaf two values."""
    for text in fixed:
        name, sign, value = (part.strip() for part in text.partition("="))
        if sign and name in pairs and pairs[name] != (load_yaml(value, f"--fix {name}") if value else value):
            raise SpecError(
                f"--fix {text} and --set {name}={pairs[name]} contradict each other; give one of them (what is set may "
                f"still be searched: --fix {name} keeps it)"
            )


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema's `default`, else the defaults of its leaves, nested."""
    from automl.space.schema import Schema

    if isinstance(schema.get("default"), dict):
        return copy.deepcopy(schema["default"])
    read = Schema(schema)
    found: dict[str, Any] = {}
    for name, value in read.defaults.items():
        *above, last = read.paths[name]  # a key may hold dots itself
        section = found
        for key in above:
            section = section.setdefault(key, {})
        section[last] = copy.deepcopy(value)
    return found


def unknown(
    spec: Mapping[str, Any], known: Collection[str], names: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """(name, "did you mean") of the names that are neither known nor in a spec; of none where nothing is known."""
    for name in names if known else ():
        if name not in known and get(spec, name, MISSING) is MISSING:
            yield name, did_you_mean(name, known)


def validate(
    spec: dict[str, Any],
    schema: Mapping[str, Any],
    sources: Mapping[str, str],
    template: Mapping[str, Any] | None = None,
    sections: Iterable[str] = (),
) -> list[str]:
    """Check a spec against a train schema in either dialect. Raises `SpecError` with every violation of what somebody
    set, its source, and a near name for a key that neither the schema nor the template has; what is wrong with the
    template's own values is returned as notes. `sections`: what a spec file may hold besides, for a near name. Choices
    whose letters are of another case are put as the schema has them, as the model's own commands take them."""
    from automl.space.schema import problems as wrong_in

    _spell(spec, schema, sources)
    extra, problems, notes = dict(leaves(template or {})), [], []
    for name, wrong in wrong_in(spec, schema, extra):
        source, top = _source_of(name, sources), name.split(".")[0]
        if wrong == f"unknown key '{top}'":
            wrong += ELSEWHERE.get(top) or did_you_mean(top, sections)
        if source == TEMPLATE:
            notes.append(f"the template contradicts the schema: {wrong}")
        else:
            problems.append(f"{source}: {wrong}")
    if problems:
        raise SpecError("\n".join(sorted(dict.fromkeys(problems))))
    return notes


def _spell(full: dict[str, Any], schema: Mapping[str, Any], names: Iterable[str]) -> None:
    from automl.space.leaf import coerced
    from automl.space.schema import Schema

    read = Schema(schema)
    for name in names:
        value = get(full, name)
        if not isinstance(value, str) or name not in read:
            continue
        with contextlib.suppress(SpaceError):  # of a leaf whose schema contradicts itself
            choices = [c for c in read.leaf(name).choices if isinstance(c, str)]
            put(full, name, coerced(value, "choice", choices) if choices else value)


def _source_of(name: str, sources: Mapping[str, str]) -> str:
    below = (source for leaf, source in sources.items() if leaf.startswith(f"{name}."))
    return sources.get(name) or next(below, TEMPLATE)


def diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value in a, value in b) for every leaf that differs."""
    left, right = dict(leaves(a)), dict(leaves(b))
    names = [*left, *(n for n in right if n not in left)]
    return [(n, left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)]

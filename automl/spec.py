"""Specs on the engine's side: load, merge with the source of every leaf, validate against a schema, hand over.

A spec is a nested dict. It is merged from the model's template, a preset, a file and `--set` pairs, the later
winning, and `sources` remembers who set each leaf, so that facts of the data never overwrite what a person wrote.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from automl.errors import SpecError, did_you_mean

ENGINE_KEYS = ("automl_policy", "search", "try")  # keys of a spec file that are the engine's, not the model's
TEMPLATE = "template"


@dataclass
class SourcedSpec:
    """A spec and where each leaf came from: "template", "preset small", "my.yaml", "--set", "data"."""

    spec: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)

    def overlay(self, partial: Mapping[str, Any], source: str) -> None:
        """Set every leaf of `partial`; a list is replaced whole."""
        for name, value in leaves(partial):
            put(self.spec, name, copy.deepcopy(value))
            self.sources[name] = source

    def fill(self, values: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Set the dotted names that nobody has set yet; returns those that were set."""
        taken = {n: v for n, v in values.items() if self.sources.get(n, TEMPLATE) == TEMPLATE}
        for name, value in taken.items():
            put(self.spec, name, value)
            self.sources[name] = source
        return taken


def get(spec: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """The leaf `a.b.c` of a nested mapping, or `default`."""
    node: Any = spec
    for key in name.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return default
        node = node[key]
    return node


def put(spec: dict[str, Any], name: str, value: Any) -> None:
    """Set the leaf `a.b.c` in place, making the levels above it."""
    *above, last = name.split(".")
    for key in above:
        spec = spec.setdefault(key, {})
        if not isinstance(spec, dict):
            raise SpecError(f"{name}: '{key}' is a value, not a section")
    spec[last] = value


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf; an empty mapping is a leaf, a list is one whole."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def load(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises `SpecError` naming file, line and column."""
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise SpecError(f"{path}: no such spec file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SpecError(f"{path}: a spec must be a mapping, but got {type(document).__name__}")
    return document


def parse_set(pairs: Sequence[str], shorthand: Mapping[str, str]) -> dict[str, Any]:
    """`["train.num_epochs=5", "batch_size=2"]` -> {dotted name: value}; values are YAML, shorthand keys expand."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip():
            raise SpecError(f"--set must be KEY=VALUE, but got '{pair}'")
        name = shorthand.get(name.strip(), name.strip())
        try:
            value = yaml.safe_load(text) if text else ""
        except yaml.YAMLError:
            raise SpecError(f"--set {name}: the value must be YAML, but got '{text}'") from None
        values[name] = _number(value)
    return values


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as a string; a person means the number."""
    if isinstance(value, str) and value[:1].isdigit() and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """{dotted name: value} -> nested dict."""
    spec: dict[str, Any] = {}
    for name, value in values.items():
        put(spec, name, value)
    return spec


def validate(
    spec: Mapping[str, Any], schema: Mapping[str, Any], sources: Mapping[str, str] | None = None
) -> None:
    """Check a spec against a JSON Schema. Raises `SpecError` with every violation, its source, and a near name
    for an unknown key."""
    from jsonschema import Draft202012Validator

    messages = []
    for error in Draft202012Validator(dict(schema)).iter_errors(json.loads(json.dumps(spec))):
        path = ".".join(str(part) for part in error.absolute_path)
        messages.append(_message(error, path, sources or {}))
    if messages:
        raise SpecError("\n".join(sorted(messages)))


def _message(error: Any, path: str, sources: Mapping[str, str]) -> str:
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        lines = []
        for key in unknown:
            name = f"{path}.{key}".lstrip(".")
            source = _source_of(name, sources)
            lines.append(f"{source}unknown key '{name}'{did_you_mean(key, known)}")
        return "\n".join(lines)
    what = _wanted(error.schema) if error.validator in _VALUE_CHECKS else error.message
    text = (
        f"{path} must be {what}, but got {error.instance!r}"
        if error.validator in _VALUE_CHECKS
        else f"{path}: {what}"
    )
    return _source_of(path, sources) + text


_VALUE_CHECKS = {
    "type",
    "enum",
    "anyOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "pattern",
}


def _source_of(path: str, sources: Mapping[str, str]) -> str:
    source = next((s for n, s in sources.items() if n == path or n.startswith(path + ".")), "")
    return f"{source}: " if source and source != TEMPLATE else ""


def _wanted(leaf: Mapping[str, Any]) -> str:
    """A leaf schema in words: "a number in (0, 0.01]"."""
    if "enum" in leaf:
        return "one of " + ", ".join(map(str, leaf["enum"]))
    if "anyOf" in leaf:
        return " or ".join(_wanted(branch) for branch in leaf["anyOf"])
    if "pattern" in leaf:
        return f"text like {leaf['pattern']}"
    kind = leaf.get("type", "a value")
    names = {"number": "a number", "integer": "an integer", "boolean": "true or false", "string": "text"}
    names |= {"array": "a list", "object": "a mapping", "null": "null"}
    text = " or ".join(names.get(k, str(k)) for k in ([kind] if isinstance(kind, str) else kind))
    low, above = leaf.get("minimum"), leaf.get("exclusiveMinimum")
    high = leaf.get("maximum")
    if low is None and above is None and high is None:
        return text
    opening = f"({above}" if above is not None else f"[{low}" if low is not None else "(-inf"
    return f"{text} in {opening}, {'inf)' if high is None else f'{high}]'}"


def diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value in a, value in b) for every leaf that differs."""
    left, right = dict(leaves(a)), dict(leaves(b))
    names = [*left, *(n for n in right if n not in left)]
    return [(n, left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)]

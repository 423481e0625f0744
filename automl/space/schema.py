"""A train schema, in TAO's dialect or standard JSON Schema, as one kind of record: `Leaf`.

Both dialects are read leniently in form (numbers as text, bare Infinity, "TRUE") and strictly in meaning: what
contradicts itself raises `SpaceError` naming the parameter. A leaf is parsed (leaf.py) when somebody asks for it,
so that a slip in one parameter stands in nobody's way who does not use that parameter.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from automl.errors import SpaceError, UserError, did_you_mean
from automl.space import references
from automl.space.leaf import Leaf, same
from automl.space.reader import read_leaf
from automl.space.words import as_bool, is_missing
from automl.spec import leaves

LISTED, UNLISTED = "automl_default_parameters", "automl_disabled_parameters"


class Schema:
    """The parameters of a schema by dotted name, in the schema's order, each parsed on demand."""

    def __init__(self, document: Any) -> None:
        if not isinstance(document, Mapping):
            raise SpaceError(f"a schema must be a JSON object, but got {type(document).__name__}")
        self.document = document
        self.nodes: dict[str, Mapping[str, Any]] = {}  # without $ref and allOf
        self.paths: dict[str, tuple[str, ...]] = {}
        self.sections: set[str] = set()
        self.listed: dict[str, set[str]] = {LISTED: set(), UNLISTED: set()}
        self._defaults: dict[str, Any] = {}
        self._leaves: dict[str, Leaf] = {}
        self._walk(document, (), document.get("default"), ())
        if not self.nodes and "properties" not in document:
            raise SpaceError("a schema must have `properties`, but this one has none")

    def _walk(self, node: Any, path: tuple[str, ...], inherited: Any, inside: tuple[str, ...]) -> None:
        """`inside` are the $refs that led here: a section that contains itself is not gone into again."""
        where = ".".join(path) or "the schema"
        node = references.section(self.document, node, where)
        properties = node.get("properties", {})
        if not isinstance(properties, Mapping):
            raise SpaceError(
                f"{where}: properties must be a JSON object, but got {type(properties).__name__}"
            )
        for key, names in self.listed.items():
            for raw in (node.get(key), properties.get(key)):
                names |= {n for n in raw if isinstance(n, str)} if isinstance(raw, (list, tuple)) else set()
        for key, child in properties.items():
            if key not in self.listed and isinstance(child, Mapping):  # else metadata that strayed there
                self._child(child, (*path, str(key)), inherited, inside)

    def _child(self, child: Any, path: tuple[str, ...], inherited: Any, inside: tuple[str, ...]) -> None:
        name = ".".join(path)
        node = references.flat(self.document, child, name)
        default = node.get("default", inherited.get(path[-1]) if isinstance(inherited, Mapping) else None)
        own = "default" in node or (isinstance(inherited, Mapping) and path[-1] in inherited)
        if child.get("$ref") not in inside and references.section(self.document, child, name).get(
            "properties"
        ):
            self.sections.add(name)
            self._walk(child, path, default, (*inside, *references.refs(child)))
            return
        if name in self.nodes:
            raise SpaceError(f"{name}: two parameters have this dotted name")
        self.nodes[name], self.paths[name] = node, path
        if own and not is_missing(default):
            self._defaults[name] = default

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    @property
    def action(self) -> str | None:
        """The action the schema says it is for, or None."""
        info = self.document.get("x_tao_schema")
        action = info.get("schema_action", info.get("action")) if isinstance(info, Mapping) else None
        return action if isinstance(action, str) else None

    def flag(self, name: str) -> bool | None:
        """The leaf's `automl_enabled`, None when it has none. Raises `SpaceError` for anything but a boolean."""
        return as_bool(self.nodes[name].get("automl_enabled"), name, "automl_enabled")

    def default(self, name: str) -> tuple[bool, Any]:
        """(is there one, default) as written, of the leaf or of a section above it; "???" is none."""
        return name in self._defaults, self._defaults.get(name)

    def leaf(self, name: str) -> Leaf:
        """The parameter's record. Raises `SpaceError` naming the parameter when the schema contradicts itself."""
        if name not in self._leaves:
            leaf = read_leaf(self.document, self.nodes[name], self.paths[name], *self.default(name))
            self._leaves[name] = leaf
        return self._leaves[name]

    def readable(self) -> tuple[Leaf, ...]:
        """Every parameter but the broken ones."""
        found = []
        for name in self:
            try:
                found.append(self.leaf(name))
            except SpaceError:
                continue
        return tuple(found)

    def problem(self, name: str, value: Any) -> str | None:
        """What is wrong with a value of a spec, name and all, or None. What equals the default is never wrong."""
        if name in self.sections:
            return None if value in (None, {}) else f"{name} must be a section, but got {value!r}"
        if name not in self:
            return self._unknown(name)
        try:
            wrong = self.leaf(name).problem(value)
        except SpaceError:  # a leaf whose schema contradicts itself: compiling tells, if it is searched
            return None
        has_default, default = self.default(name)
        usual = is_missing(value) or (has_default and same(default, value))
        return f"{name} {wrong}" if wrong and not usual else None

    def _unknown(self, name: str) -> str | None:
        """An unknown key, told at the level at which it leaves the schema; None where the schema allows more keys."""
        keys, node = name.split("."), references.section(self.document, self.document, "the schema")
        for depth, key in enumerate(keys):
            known, at = node.get("properties", {}), ".".join(keys[: depth + 1])
            if key not in known:
                closed = node.get("additionalProperties", False) in (False, None)
                return f"unknown key '{at}'{did_you_mean(key, known)}" if closed else None
            node = references.section(self.document, known[key], at)
        return None

    def known(self, name: str, source: str) -> str:
        """The parameter that a person names. Raises `SpaceError` beginning with `source` and naming the nearest."""
        name = name.strip()
        if name in self:
            return name
        if name in self.sections:
            raise SpaceError(f"{source}: '{name}' is a section, name one of its parameters")
        same_last = [n for n in self if n.rsplit(".", 1)[-1] == name]
        hint = f"; did you mean '{same_last[0]}'?" if len(same_last) == 1 else did_you_mean(name, self)
        raise SpaceError(f"{source}: the schema has no parameter '{name}'{hint}")


def problems(spec: Mapping[str, Any], schema: Any, extra: Container[str] = ()) -> Iterator[tuple[str, str]]:
    """(dotted name, what is wrong) of every leaf of a spec that a schema, in either dialect, forbids: `lr must be
    a number in (0, 0.01], but got 5`, `unknown key 'train.optm'; did you mean 'optim'?`. Keys of `extra` are known.

    Raises `SpaceError` for what is no schema.
    """
    read = Schema(schema)
    for name, value in leaves(spec, known=read):
        wrong = read.problem(name, value)
        if wrong and (name in read or name in read.sections or name not in extra):
            yield name, wrong


def load_schema(path: str | Path) -> dict[str, Any]:
    """A schema file; bare Infinity and NaN are read. Raises `UserError` naming file, line and column."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply to be a schema") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: a schema must be a JSON object, but got {type(document).__name__}")
    return document

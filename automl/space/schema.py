"""A train schema, in TAO's dialect or standard JSON Schema, as one kind of record: `Leaf`.

Both dialects are read leniently in form (numbers as text, bare Infinity, "TRUE") and strictly in meaning: what
contradicts itself raises `SpaceError` naming the parameter. A leaf is parsed (reader.py) when somebody asks for it,
so that a slip in one parameter stands in nobody's way who does not use that parameter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl.errors import SpaceError, UserError
from automl.space.leaf import Leaf
from automl.space.reader import LeafReader
from automl.space.references import Resolver
from automl.space.words import as_bool, is_missing

NAME_LISTS = ("automl_default_parameters", "automl_disabled_parameters")


class Schema:
    """The parameters of a schema by dotted name, in the schema's order, each parsed on demand."""

    def __init__(self, document: Any) -> None:
        if not isinstance(document, Mapping):
            raise SpaceError(f"a schema must be a JSON object, but got {type(document).__name__}")
        self.document = document
        self.resolver = Resolver(document)
        self.nodes: dict[str, Mapping[str, Any]] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.sections: set[str] = set()
        self.listed: dict[str, set[str]] = {key: set() for key in NAME_LISTS}
        self._defaults: dict[str, Any] = {}
        self._leaves: dict[str, Leaf] = {}
        self._walk(document, (), document.get("default"))
        if not self.nodes and "properties" not in document:
            raise SpaceError("a schema must have `properties`, but this one has none")

    def _walk(self, node: Mapping[str, Any], path: tuple[str, ...], inherited: Any) -> None:
        where = ".".join(path) or "the schema"
        node = self.resolver.section(node, where)
        self._note_lists(node)
        properties = node.get("properties", {})
        if not isinstance(properties, Mapping):
            raise SpaceError(
                f"{where}: properties must be a JSON object, but got {type(properties).__name__}"
            )
        self._note_lists(properties)
        for key, child in properties.items():
            if key in NAME_LISTS or not isinstance(child, Mapping):
                continue  # metadata that strayed among the properties
            self._child(child, (*path, str(key)), inherited)

    def _child(self, child: Mapping[str, Any], path: tuple[str, ...], inherited: Any) -> None:
        name = ".".join(path)
        own, default = inherited_default(self.resolver.flat(child, name), path[-1], inherited)
        if self.resolver.is_section(child, name):
            self.sections.add(name)
            with self.resolver.inside(child):
                self._walk(child, path, default if own else None)
            return
        if name in self.nodes:
            raise SpaceError(f"{name}: two parameters have this dotted name")
        self.nodes[name], self.paths[name] = child, path
        if own:
            self._defaults[name] = default

    def _note_lists(self, node: Mapping[str, Any]) -> None:
        for key in NAME_LISTS:
            names = node.get(key)
            if isinstance(names, (list, tuple)):
                self.listed[key] |= {n for n in names if isinstance(n, str)}

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
        return as_bool(
            self.resolver.flat(self.nodes[name], name).get("automl_enabled"), name, "automl_enabled"
        )

    def default(self, name: str) -> tuple[bool, Any]:
        """(is there one, default) as written, of the leaf or of a section above it; "???" is none."""
        found = name in self._defaults and not is_missing(self._defaults[name])
        return found, self._defaults.get(name) if found else None

    def leaf(self, name: str) -> Leaf:
        """The parameter's record. Raises `SpaceError` naming the parameter when the schema contradicts itself."""
        if name not in self._leaves:
            self._leaves[name] = LeafReader(self, name).read()
        return self._leaves[name]


def inherited_default(child: Mapping[str, Any], key: str, inherited: Any) -> tuple[bool, Any]:
    """(is there one, default): the child's own, else its entry in the default of the section above."""
    if "default" in child:
        return True, child["default"]
    if isinstance(inherited, Mapping) and key in inherited:
        return True, inherited[key]
    return False, None


def load_schema(path: str | Path) -> dict[str, Any]:
    """A schema file; bare Infinity and NaN are read. Raises `UserError` naming file, line and column."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply to be a schema") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: a schema must be a JSON object, but got {type(document).__name__}")
    return document

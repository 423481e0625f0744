"""A train schema, in TAO's dialect or standard JSON Schema, as one kind of record: `Leaf`.

Both dialects are read leniently in form (numbers as text, bare Infinity, "TRUE") and strictly in meaning: what
contradicts itself raises `SpaceError` naming the parameter. A leaf is read when somebody asks for it, so that a slip
in one parameter stands in nobody's way who does not use that parameter.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from automl.documents import load_object
from automl.dotted import MISSING, get, leaves
from automl.errors import SpaceError, did_you_mean
from automl.space import dialect
from automl.space.dialect import CONTRADICTION, KINDS
from automl.space.leaf import UNSET, Leaf, same
from automl.space.node import UNREAD_OF_SECTIONS, fits, of_all, overlap, record

Node = Mapping[str, Any]
LISTED, UNLISTED = "automl_default_parameters", "automl_disabled_parameters"


class Schema:
    """The parameters of a schema by dotted name, in the schema's order, each read on demand. `nodes` are without $ref
    and allOf, `paths` their keys, `sections` the names above them, `defaults` those of the sections above leaves, else
    their own, as written ("???" is none), `listed` the two lists of names. Of alternatives a leaf is the one that its
    value in `spec` fits, or else its default."""

    def __init__(self, document: Any, spec: Any = None) -> None:
        if not isinstance(document, Mapping):
            raise SpaceError(f"a schema must be a JSON object, but got {type(document).__name__}")
        self.document = document
        self.spec = spec if isinstance(spec, Mapping) else {}
        self.nodes: dict[str, Node] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.sections: set[str] = set()
        self.listed: dict[str, set[str]] = {LISTED: set(), UNLISTED: set()}
        # Section -> the keyword that relates its parameters in a way not modelled.
        self.unread: dict[str, str] = {}
        self.defaults: dict[str, Any] = {}
        self._walk(document, (), document.get("default"), ())
        if not self.nodes and "properties" not in document:
            raise SpaceError("a schema must have `properties`, but this one has none")
        self.leaf = cache(self._leaf)
        self.enums = {n: enum for n, node in self.nodes.items() if isinstance(enum := node.get("enum"), list)}

    def _walk(self, node: Any, path: tuple[str, ...], inherited: Any, inside: tuple[str, ...]) -> None:
        """`inside` are the $refs that led here: a section that contains itself is not gone into again."""
        where = ".".join(path) or "the schema"
        node = dialect.section(self.document, node, where)
        properties = node.get("properties", {})
        if CONTRADICTION in node:
            raise SpaceError(f"{where}: {node[CONTRADICTION]}")
        if unread := next((key for key in UNREAD_OF_SECTIONS if node.get(key)), None):
            self.unread[where] = unread
        if not isinstance(properties, Mapping):
            got = type(properties).__name__
            raise SpaceError(f"{where}: properties must be a JSON object, but got {got}")
        for key, names in self.listed.items():
            lists = [raw for raw in (node.get(key), properties.get(key)) if isinstance(raw, (list, tuple))]
            names |= {name for raw in lists for name in raw if isinstance(name, str)}
        for key, child in properties.items():
            if key not in self.listed and isinstance(child, Mapping):  # else metadata that strayed there
                self._child(child, (*path, str(key)), inherited, inside)

    def _child(self, child: Any, path: tuple[str, ...], inherited: Any, inside: tuple[str, ...]) -> None:
        name, known = ".".join(path), inherited if isinstance(inherited, Mapping) else {}
        node = dialect.flat(self.document, child, name)
        # What a section is built with counts for more than what its parts are where nothing is said.
        own, given = node.get("default", node.get("const", UNSET)), known.get(path[-1], UNSET)
        default = own if given == UNSET else given
        is_section = bool(dialect.section(self.document, child, name).get("properties"))
        if is_section and not set(refs := dialect.refs(child)) & set(inside):
            self.sections.add(name)
            default = {**own, **given} if isinstance(own, Mapping) and isinstance(given, Mapping) else default
            self._walk(child, path, default, (*inside, *refs))
            return
        if name in self.nodes:
            raise SpaceError(f"{name}: two parameters have this dotted name")
        self.nodes[name], self.paths[name] = node, path
        if default != UNSET:
            self.defaults[name] = default

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
        return dialect.as_bool(self.nodes[name].get("automl_enabled"), name, "automl_enabled")

    def _leaf(self, name: str) -> Leaf:
        """The parameter's record. Raises `SpaceError` naming the parameter when the schema contradicts itself."""
        self._check_dots(name)
        every = dialect.branches(self.document, self.nodes[name], name)
        found = [branch for branch in every if branch.get("type") != "null"] or every
        chosen = self._chosen(found, name)
        if CONTRADICTION in chosen:
            raise SpaceError(f"{name}: {chosen[CONTRADICTION]}")
        leaf = self._record(chosen, name, any(b.get("type") == "null" for b in every))
        others = tuple(self._record(b, name) for b in found if b is not chosen)
        if others and "enum" in self.nodes[name] and not leaf.weights:
            leaf = of_all(leaf, others)
        overlaps = "oneOf" in self.nodes[name] and any(overlap(leaf, b) for b in others)
        return replace(leaf, branches=others, overlaps=overlaps)

    def _record(self, node: Node, name: str, nullable: bool = False) -> Leaf:
        usual = self.defaults.get(name, UNSET)
        return record(self.document, node, name, self.paths[name], usual, nullable)

    def _check_dots(self, name: str) -> None:
        """Raises `SpaceError` where a key of the parameter holds a dot and its name leads elsewhere: beside a shorter
        key, or where a spec lacks it."""
        path = self.paths[name]
        for depth, key in ((i, key) for i, key in enumerate(path) if "." in key):
            shorter, above = (
                key.partition(".")[0],
                get(self.spec, ".".join(path[:depth])) if depth else self.spec,
            )
            if any(each[: depth + 1] == (*path[:depth], shorter) for each in self.paths.values()):
                what = f"beside the key '{shorter}', where its dotted name leads: rename one of them"
                raise SpaceError(f"{name}: the key '{key}' holds a dot, {what}")
            if self.spec and not (isinstance(above, Mapping) and key in above):
                what = "and is not in the spec: give it a value there, or a default in the schema"
                raise SpaceError(f"{name}: the key '{key}' holds a dot, {what}")

    def _chosen(self, found: Sequence[Node], name: str) -> Node:
        """Of alternatives the first that the value fits, with its bounds where several of its type differ in them."""
        for start in (get(self.spec, name, MISSING), self.defaults.get(name, MISSING)):
            fitting = [branch for branch in found if start not in (MISSING, UNSET) and fits(branch, start)]
            several = fitting if len(fitting) > 1 else []
            valid = (b for b in several if self._record(b, name).problem(start) is None)
            if fitting:
                return next(valid, fitting[0])
        return next((b for b in found if KINDS.get(str(b.get("type"))) != "list"), found[0])

    def readable(self) -> tuple[Leaf, ...]:
        """Every parameter but the broken ones."""
        found = []
        for name in self:
            with suppress(SpaceError):
                found.append(self.leaf(name))
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
        usual = value == UNSET or (name in self.defaults and same(self.defaults[name], value))
        return f"{name} {wrong}" if wrong and not usual else None

    def _unknown(self, name: str) -> str | None:
        """An unknown key, told at the level at which it leaves the schema; None where the schema allows more keys."""
        keys, node = name.split("."), dialect.section(self.document, self.document, "the schema")
        for depth, key in enumerate(keys):
            known, at = node.get("properties", {}), ".".join(keys[: depth + 1])
            if key not in known:
                closed = node.get("additionalProperties", False) in (False, None)
                return f"unknown key '{at}'{did_you_mean(key, known)}" if closed else None
            node = dialect.section(self.document, known[key], at)
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
    """A schema file; bare Infinity and NaN are read. Raises `UserError` naming the file, and of a slip its line."""
    return load_object(Path(path), "a schema")

"""What a YOLO dataset says of itself: data.yaml, or Darknet's obj.data."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.data.label_files import lines_of
from model.data.paths import Resolver
from model.data.tree import Tree
from model.data.yolo_keys import KEYS, by_split
from model.data.yolo_yaml import MEANT, glued, mapping_of
from model.errors import UserError

MOST = 100_000  # classes
REMARK = re.compile(r"#(\s|$)")
NUMBERED = re.compile(r"(\d+)\s*[:=,;.)\s]\s*(\S.*)")  # "0 cat", "0: cat"
DEEPEST = 3  # folders down to which a configuration is looked for


@dataclass(frozen=True)
class Config:
    """data.yaml or obj.data."""

    path: Path
    base: Path | None  # `path:` of the file, where that is here
    names: dict[int, str]
    entries: dict[str, list[str]]  # split -> folders or lists
    named: bool = True  # False where the file gives a number of classes alone, and `names` are made up
    keypoints: int | None = (
        None  # values behind the box in a label of a pose; None where the file does not say
    )
    within: Path | None = None  # the dataset's folder, where one was given: `../` does not lead out of it
    notes: tuple[str, ...] = ()
    others: Mapping[str, list[str]] = field(
        default_factory=dict
    )  # key that says no split -> what may be places
    beside: tuple[Config, ...] = ()  # the other YAML files that name classes, or their number


def find_config(tree: Tree, file: Path | None) -> Config | None:
    """The configuration `file`, or the one that lies in a folder. Raises `UserError` where it cannot be told which."""
    if file is not None:
        darknet = file.suffix.lower() == ".data"
        given = (
            _darknet_file(tree, file.relative_to(tree.root).as_posix()) if darknet else read_yaml(file, True)
        )
        if given is None:
            must = "'train' and 'names', each with a = behind it" if darknet else "'names' or 'nc'"
            raise UserError(f"{file}: a YOLO file must have {must}")
        return given
    near = [p for p in tree.files(".yaml", ".yml") if p.count("/") < DEEPEST]
    read = [(p, config) for p in near if (config := read_yaml(tree.path(p))) is not None]
    read.sort(key=lambda item: _rank(*item))
    beside = tuple(config for _, config in read)
    if together := _of_each_split(tree, [config for config in beside if config.entries]):
        return replace(together, beside=beside)
    if read:
        _refuse_others(tree, *read)
        return _at_home(replace(beside[0], within=tree.root, beside=beside[1:]))
    return _read_darknet(tree, (p for p in tree.files(".data") if p.count("/") < DEEPEST))


def _rank(below: str, config: Config) -> tuple[bool, int, bool, bool]:
    """The first counts. A file with `nc` alone, such as one of a model, comes behind others beside it."""
    return not config.entries, below.count("/"), not below.lower().endswith(MEANT), not config.named


def _at_home(config: Config) -> Config:
    """Without a `path:` that leads to another folder than the one given, where that holds what the file names: it was
    copied or moved with its data.yaml."""
    home, within = config.path.parent, config.within or config.path.parent
    root, written = within.resolve(), os.path.abspath(within)
    named = [entry.replace("\\", "/") for entry in config.entries.get("train", ())]
    places = [config.base / entry for entry in named] if config.base else []
    inside = (Path(os.path.abspath(p)).is_relative_to(written) for p in places)  # a link there may lead out
    if config.base is None or any(inside) or any(p.resolve().is_relative_to(root) for p in places):
        return config
    if not named or not all((home / entry).exists() and not Path(entry).is_absolute() for entry in named):
        return config
    note = f"{config.path}: its path: {config.base} is not followed, as {home} itself holds what it names"
    return replace(config, base=None, notes=(*config.notes, note))


def _of_each_split(tree: Tree, read: Sequence[Config]) -> Config | None:
    """Configurations in several folders as one, where each names only a split of its own, as labelformat writes them
    run by run, and all name the same classes and their own images; None for others."""
    splits = [split for config in read for split in config.entries]
    homes = {config.path.parent for config in read}
    same = all((c.names, c.named, c.keypoints) == (read[0].names, True, read[0].keypoints) for c in read)
    if len(read) < 2 or not same or len({*splits}) < len(splits) or len(homes) < len(read) or read[0].others:
        return None
    entries: dict[str, list[str]] = {}
    for config in (_at_home(replace(config, within=tree.root)) for config in read):
        for split, named in config.entries.items():
            home = config.base or config.path.parent
            places = [Path(os.path.abspath(home / entry.replace("\\", "/"))) for entry in named]
            root = os.path.abspath(tree.root)
            if not all(place.exists() and place.is_relative_to(root) for place in places):
                return None
            entries[split] = [place.relative_to(root).as_posix() for place in places]
    files = ", ".join(config.path.relative_to(tree.root).as_posix() for config in read)
    note = f"{tree.root}: {files} are read together, as each names another split"
    return replace(read[0], base=tree.root, entries=entries, within=tree.root, notes=(note,), others={})


def deeper(tree: Tree) -> list[Config]:
    """Each data.yaml with names that lies deeper than a configuration is looked for. It may be of anything, and none is
    refused."""
    found = []
    for below in tree.files(*MEANT):
        if below.count("/") >= DEEPEST and below.rsplit("/", 1)[-1].lower() in MEANT:
            with suppress(UserError, OSError):
                found.append(read_yaml(tree.path(below)))
    return [config for config in found if config is not None and config.named]


def _refuse_others(tree: Tree, first: tuple[str, Config], *others: tuple[str, Config]) -> None:
    """Raise `UserError` where another configuration that names images may be meant as well as the first: it is called
    data.yaml too, or neither is."""
    for path, config in others:
        known = path.endswith("data.yaml") or not first[0].endswith("data.yaml")
        if config.entries and path.count("/") == first[0].count("/") and known and _differ(first[1], config):
            raise UserError(
                f"{tree.root}: {first[0]} and {path} both describe a YOLO dataset; give one to --data"
            )


def _differ(a: Config, b: Config) -> bool:
    return a.path.parent != b.path.parent or (a.names, a.entries) != (b.names, b.entries)


def disagreement(a: Mapping[int, str], b: Mapping[int, str], where_a: object, where_b: object) -> str:
    """ "class 0 is 'cat' in x, but 'dog' in y" of two lists of names, "" where they agree as far as both go."""
    at = next((n for n in a if n in b and a[n] != b[n]), None)
    return "" if at is None else f"class {at} is {a[at]!r} in {where_a}, but {b[at]!r} in {where_b}"


# ---- data.yaml --------------------------------------------------------------------------------------------------


def read_yaml(path: Path, given: bool = False) -> Config | None:
    """A data.yaml, or None for a file that is none. Raises `UserError` for one that cannot be read: `given` by name,
    called data.yaml, or with the text of one that names classes."""
    loaded = mapping_of(path, given)
    if loaded is None:
        return None
    document, twice = loaded
    if twice:
        raise UserError("\n".join(f"{path}:{text}; keep one" for text in twice))
    _refuse_nesting(path, document)
    entries, others = by_split(path, {str(key): value for key, value in document.items()})
    shape = document.get("kpt_shape")
    digits = isinstance(shape, list) and bool(shape) and all(n.isdigit() for n in shape)
    named = document.get("path") or ""
    base = path.parent / named.replace("\\", "/")
    return Config(
        path, base if named and base.is_dir() else None, _names(path, document), entries, bool(document.get("names")),
        math.prod(map(int, shape)) if digits and shape else None, others=others,
    )  # fmt: skip


def _refuse_nesting(path: Path, document: Mapping[str, Any]) -> None:
    """Raise `UserError` where text, or a list or mapping of text, is expected and something else stands."""
    flat = {"names", "kpt_shape", *(key for keys in KEYS.values() for key in keys)}
    for key in [key for key in document if isinstance(key, str) and key.lower() in flat]:
        value = document[key]
        inner = (
            [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        )
        if any(not isinstance(v, str) for v in inner) or (isinstance(value, dict) and key != "names"):
            raise UserError(f"{path}: {key} must be text or a list of texts, but holds lists or mappings")
    for key in {"path", "nc"} & document.keys():
        if not isinstance(document[key], str):
            raise UserError(f"{path}: {key} must be one value, but is a {type(document[key]).__name__}")


def _names(path: Path, document: Mapping[str, Any]) -> dict[int, str]:
    names, count = document.get("names"), _count(path, document)
    try:
        if isinstance(names, dict):
            found = {int(key): str(name) for key, name in names.items()}
            if len(found) < len(names):
                raise UserError(f"{path}: names gives a number twice, such as 0 and 00; keep one")
        elif isinstance(names, list):
            found = {number: str(name) for number, name in enumerate(names)}
        elif names:  # a file of them
            found = _named_file(path, str(names))
        else:
            found = {number: f"class_{number}" for number in range(min(count or 0, MOST))}
        if count is not None and len(found) != count:
            raise UserError(f"{path}: nc is {count}, but there are {len(found)} names")
    except ValueError as error:
        raise UserError(f"{path}: names must be a list, or a mapping of numbers to names ({error})") from None
    return refuse_unusable(path, found)


def _count(path: Path, document: Mapping[str, Any]) -> int | None:
    """nc, where it is given: a whole number, also as 2.0. Raises `UserError` for another."""
    if document.get("nc") in (None, ""):
        return None
    try:
        count = float(document["nc"])
    except ValueError:
        count = -1.0
    if not (count >= 0 and count.is_integer()):
        raise UserError(f"{path}: nc must be a whole number of classes, but got '{document['nc']}'")
    return int(count)


def _named_file(path: Path, name: str) -> dict[int, str]:
    file = Resolver(path.parent).locate(name)
    if file is None or not file.is_file():
        if "," in name:
            return dict(enumerate(parted_names(name)))
        raise UserError(
            f"{path}: names must be a list, a mapping of numbers to names, or a file, but got '{name}'{glued(path)}"
        )
    return name_lines(file)


def refuse_unusable(path: Path, names: Mapping[int, str]) -> dict[int, str]:
    """The names, trimmed and in order. Raises `UserError` where one is empty or two classes have the same."""
    found = {number: name.strip() for number, name in sorted(names.items())}
    first: dict[str, int] = {}
    for number, name in found.items():
        if not name:
            raise UserError(f"{path}: class {number} has an empty name; give it one")
        if name in first:
            text = f"classes {first[name]} and {number} are both called '{name}'"
            raise UserError(f"{path}: {text}; give each a name of its own, or one number in the labels")
        first[name] = number
    return found


# ---- obj.data ---------------------------------------------------------------------------------------------------


def _read_darknet(tree: Tree, found: Iterable[str]) -> Config | None:
    """The configuration of the obj.data files in a folder: of one as it is, of several, as CVAT writes one a task, that
    of all their images. Raises `UserError` for two in one folder that differ."""
    read = [config for below in found if (config := _darknet_file(tree, below)) is not None]
    if len(read) < 2:
        return read[0] if read else None
    by_folder: dict[Path, Config] = {}
    for config in read:
        other = by_folder.setdefault(config.path.parent, config)
        if _differ(other, config):
            raise UserError(f"{other.path} and {config.path} both describe a YOLO dataset; keep one of them")
    first = read[0]
    entries = {split: [e for c in read for e in _from(tree, c, c.entries, split)] for split in KEYS}
    keys = sorted({key for config in read for key in config.others})
    others = {key: [e for c in read for e in _from(tree, c, c.others, key)] for key in keys}
    alike = all(config.names == first.names for config in read)
    # Without names here each task's labels are read with the obj.names beside it.
    own = all((config.path.parent / "obj.names").is_file() for config in read)
    if not alike and not own:
        raise UserError(
            f"{tree.root}: {first.path} and others name different classes; call each one's list obj.names, beside it"
        )
    kept = {split: listed for split, listed in entries.items() if listed}
    return Config(first.path, tree.root, first.names if alike else {}, kept, alike, others=others)


def _darknet_file(tree: Tree, below: str) -> Config | None:
    """One obj.data; None for another file of that suffix. Its names lie beside it, or anywhere else."""
    path = tree.path(below)
    try:
        pairs = [line.split("=", 1) for line in lines_of(path) if "=" in line]
    except UserError:
        if path.name.lower() == "obj.data":
            raise
        return None
    document = {key.strip().lower(): value.strip() for key, value in pairs}  # CVAT writes Validation
    kept, others = by_split(path, document)
    if not kept and "names" not in document:
        return None
    said = document.get("names", "obj.names")
    names = next(
        (f for home in (path.parent, tree.root) if (f := Resolver(home).find(_last_of(home, said)))), None
    )
    if names is None:
        raise UserError(f"{path}: its names, {said}, are not there")
    return Config(path, None, name_lines(names), kept, others=others)


def _last_of(home: Path, name: str) -> str:
    """A name with as many of its folders as there are in `home`: data/obj.names may lie beside obj.data itself."""
    parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".", "..")]
    whole = ("/".join(parts[n:]) for n in range(len(parts)))
    return next((below for below in whole if (home / below).is_file()), name)


def _from(tree: Tree, config: Config, entries: Mapping[str, list[str]], key: str) -> list[str]:
    """The entries of a key, those beside the configuration as paths from the tree's root."""
    home = config.path.parent
    below = home.relative_to(tree.root).as_posix()
    return [f"{below}/{_last_of(home, entry)}".removeprefix("./") for entry in entries.get(key, ())]


# ---- files of names -----------------------------------------------------------------------------------------------


def name_lines(path: Path) -> dict[int, str]:
    """{class: name} of a file with a name a line, counted from 0, with their numbers before them, or all in one line.
    Remarks before the first are left out. Raises `UserError` as `refuse_unusable`, and for what may be a remark."""
    return refuse_unusable(path, dict(enumerate(_without_numbers(parted_names(*_lines_of_names(path))))))


def in_one_line(path: Path) -> str:
    """The one line of a file of names that is read as several by its commas; "" where it is a list in brackets, which
    can mean nothing else, or there is no such line."""
    lines = _lines_of_names(path)
    return lines[0] if len(lines) == 1 < len(parted_names(*lines)) and not lines[0].startswith("[") else ""


def how_read(path: Path) -> str:
    """What a file's names are read as where its lines say something else; "" where they are the names."""
    names = parted_names(*_lines_of_names(path))
    if line := in_one_line(path):
        return f"{path}: its one line, '{line}', is read as {len(names)} names"
    rest = _without_numbers(names)
    return (
        f"{path}: '{names[0]}' is read as '{rest[0]}', and so all names without numbers"
        if rest != names
        else ""
    )


def _lines_of_names(path: Path) -> list[str]:
    lines = lines_of(path)
    while lines and not lines[-1]:
        lines.pop()
    while lines and REMARK.match(lines[0]):
        lines.pop(0)
    if remark := next((line for line in lines if line.startswith("#")), ""):
        raise UserError(
            f"{path}: '{remark}' may be a remark or a class; take the line away, or name the classes in data.yaml"
        )
    if lines and not lines[0]:
        raise UserError(
            f"{path}: class 0 has an empty name, as the first line is empty; take that line away, or name the class"
        )
    return lines


def parted_names(*lines: str) -> list[str]:
    """The names in lines, or in one line with commas between them."""
    if len(lines) != 1 or "," not in lines[0]:
        return list(lines)
    return [name.strip(" \t'\"") for name in lines[0].strip("[] ").rstrip(", ").split(",")]


def _without_numbers(names: list[str]) -> list[str]:
    """Names without their numbers, where these are 0, 1, 2, ... and the rest are names of their own."""
    found = [NUMBERED.fullmatch(name) for name in names]
    rest = [match[2] for match in found if match]
    counted = [int(match[1]) for match in found if match] == list(range(len(names)))
    return rest if counted and len(set(rest)) == len(names) else names

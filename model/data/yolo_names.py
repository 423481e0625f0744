"""What the numbers in YOLO labels mean: the data.yaml that names the images says it, or the file of names, data.yaml or
classes.txt, that lies nearest to the labels.

Batches or splits of one dataset often come with a file of names each, and number the same names differently: the labels
of each folder are read with its own, and become one by name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from model.data.tree import Tree, parent
from model.data.yolo_config import (
    DEEPEST,
    Config,
    deeper,
    disagreement,
    how_read,
    in_one_line,
    name_lines,
    refuse_unusable,
)
from model.data.yolo_yaml import MAX_BYTES, MEANT
from model.errors import UserError

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "darknet.labels", "notes.json")
TO_CHOOSE = "predefined_classes.txt"  # from, in labelImg
SPARE = ("labels.txt", TO_CHOOSE)  # read where there is nothing else
ANY = ".names"  # such as coco.names of Darknet: where there is none of these
CATEGORIES = "notes.json"  # of Label Studio

SHOWN = 5  # folders

Numbers = Mapping[int, int]  # number in the labels -> category id


@dataclass(frozen=True)
class Names:
    """The classes of a dataset, and which of them a label file means by its numbers."""

    ids: dict[int, str]  # category id -> name
    of_label: dict[Path, Numbers]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)  # a key by itself
class Listed:
    """A file of names."""

    path: Path
    names: dict[int, str]
    keypoints: int | None = None  # as `Config` has them


# Label file -> the file of names in its folder or the nearest above it.
Nearest = Mapping[Path, Listed | None]


def names_of(tree: Tree, config: Config | None, labels: Iterable[Path]) -> Names:
    """The names for these label files. Raises `UserError` where there are none, or two files disagree of which neither
    is nearer."""
    files = _files(tree, strict=config is None)
    near = _nearest(tree, files, labels)
    yamls = _yamls(tree, config)
    own = _nearest(tree, yamls, near)
    _refuse_other_shapes(config, own)
    if config is not None and _each_its_own(config, yamls, own):
        found = _of_folders(tree, config, [*yamls.values(), *files.values()], near, own)
    else:
        found = _settled(tree, config, files, near, own)
    read = (
        []
        if config and config.named and config.path.suffix.lower() in (".yaml", ".yml")
        else [*files.values()]
    )
    for listed in read:
        _refuse_doubtful(listed.path, near)
    told = list(filter(None, (how_read(each.path) for each in read if each.path.name.lower() != CATEGORIES)))
    told = [*told, *_not_read(tree, found, near)]
    return replace(found, notes=(*found.notes, *told))


def _not_read(tree: Tree, found: Names, labels: Iterable[Path]) -> list[str]:
    """A note on each data.yaml that lies too deep to be read, above labels of which it says otherwise."""
    deep = {
        parent(each.path.relative_to(tree.root).as_posix()): Listed(each.path, each.names)
        for each in deeper(tree)
    }
    notes = {}
    for label, listed in (_nearest(tree, deep, labels) if deep else {}).items():
        if listed is not None and listed.path not in notes:
            read = {n: found.ids[i] for n, i in found.of_label[label].items()}
            if text := disagreement(read, listed.names, "what is read", listed.path):
                notes[listed.path] = f"{listed.path}: not read, as it lies too deep; {text}"
    return list(notes.values())


def _settled(
    tree: Tree, config: Config | None, files: Mapping[str, Listed], near: Nearest, own: Nearest
) -> Names:
    if config is not None and not config.names and not files:
        raise UserError(f"{config.path}: it names no classes; give them as names: [...]")
    if config is not None and config.names and (config.named or not _stand_in(config, files)):
        used = {listed.path for listed in (*near.values(), *own.values()) if listed}
        return _of_config(config, [*files.values(), *_listed(config.beside)], used, near, own)
    found = {label: listed or _only(tree, files.values(), label) for label, listed in near.items()}
    return _merged(files.values(), found)


# ---- a data.yaml in several folders -----------------------------------------------------------------------------


def _yamls(tree: Tree, config: Config | None) -> dict[str, Listed]:
    """{folder: its YAML file with names}, where there are several. Those count that are called data.yaml, or as the
    first is: any other may be of a model, or an old one."""
    if config is None or not config.beside:
        return {}
    found: dict[str, Listed] = {}
    for listed in _listed([config, *config.beside]):
        if listed.path.name.lower() in (*MEANT, config.path.name.lower()):
            found.setdefault(parent(listed.path.relative_to(tree.root).as_posix()), listed)
    return found


def _listed(read: Iterable[Config]) -> list[Listed]:
    """Those that name classes: one that says how many there are says nothing of their names."""
    return [Listed(each.path, each.names, each.keypoints) for each in read if each.named]


def _each_its_own(config: Config, yamls: Mapping[str, Listed], own: Nearest) -> bool:
    """Whether labels are read with the YAML files nearest to them: there are others than the first, which does not name
    classes and images, and not all are read alike with it."""
    others = any(listed.path != config.path for listed in yamls.values())
    alike = all(listed is not None and listed.names == config.names for listed in own.values())
    return others and not alike and not (config.named and config.entries)


def _refuse_other_shapes(config: Config | None, own: Nearest) -> None:
    for listed in own.values():
        if config is None or listed is None or listed.keypoints in (None, config.keypoints):
            continue
        raise UserError(f"{config.path} and {listed.path}: kpt_shape must be the same in both")


def _of_folders(tree: Tree, config: Config, known: Sequence[Listed], near: Nearest, own: Nearest) -> Names:
    """The names of `known` where each label file is read with the YAML file nearest to it, of `own`. Raises `UserError`
    where the nearest classes.txt and the like, of `near`, says otherwise."""
    for yaml, listed in {(own[label], listed) for label, listed in near.items()}:
        if yaml and listed and (text := disagreement(yaml.names, listed.names, yaml.path, listed.path)):
            raise UserError(f"{text}: correct or remove the wrong one")
    others = [each for each in _listed(config.beside) if each.path not in {listed.path for listed in known}]
    found = {label: own[label] or listed or _only(tree, known, label) for label, listed in near.items()}
    return _merged([*known, *others], found)


def _of_elsewhere(read: Mapping[Path, Path]) -> list[str]:
    """A note on each file of names, of {label file: the one it is read with}, that stands in for one that is missing:
    it is that of other folders, beside these. One that no folder of labels has, as meta/classes.txt, is for all that
    is below the folder above it."""
    homes = {label.parent: path for label, path in read.items()}
    owned = {path for home, path in homes.items() if _is_in(home, path.parent)}
    bare: dict[Path, list[Path]] = {}
    for home, path in homes.items():
        if not _is_in(home, path.parent if path in owned else path.parent.parent):
            bare.setdefault(path, []).append(home)
    return [
        f"{', '.join(map(str, folders[:SHOWN]))}{f' and {more} more' if (more := len(folders) - SHOWN) > 0 else ''}: "
        f"no file there or above names the classes; those of {path} are read"
        for path, folders in bare.items()
    ]


def _is_in(home: Path, folder: Path) -> bool:
    return home.is_relative_to(folder) or home.resolve().is_relative_to(folder.resolve())


def _refuse_doubtful(path: Path, labels: Iterable[Path]) -> None:
    """Raise `UserError` where one line with commas may be one name as well as several: no label has another class
    than the first."""
    if path.name.lower() == CATEGORIES or not (line := in_one_line(path)):
        return
    for label in labels:
        with suppress(OSError, UnicodeDecodeError):
            if any(
                row.split()[0] != "0"
                for row in label.read_text(encoding="utf-8-sig").splitlines()
                if row.strip()
            ):
                return
    raise UserError(
        f"{path}: '{line}' may be one name or several, as all labels are of class 0; write each name on a line of its "
        "own, or, if it is one, take the file away and name it in data.yaml: names: ['...']"
    )


def _stand_in(config: Config, files: Mapping[str, Listed]) -> bool:
    """Whether files name the classes of a configuration that says only how many there are."""
    count = len(config.names)
    for listed in files.values():
        if len(listed.names) != count:
            raise UserError(f"{config.path}: nc is {count}, but {listed.path} has {len(listed.names)} names")
    return bool(files)


def _of_config(
    config: Config, files: Iterable[Listed], used: Collection[Path], near: Nearest, own: Nearest
) -> Names:
    notes = []
    if not config.named:
        notes.append(f"{config.path}: it names no classes; they are called class_0 and so on")
    for listed in files:
        text = disagreement(config.names, listed.names, config.path, listed.path) if config.named else ""
        if text and config.within is not None and listed.path in used:
            raise UserError(
                f"{text}: correct or remove the wrong one, or give {config.path} itself to --data"
            )
        if text:
            notes.append(f"{listed.path}: not read; {text}")
    numbers: Numbers = {number: number + 1 for number in config.names}
    ids = {number + 1: name for number, name in config.names.items()}
    if config.named and not config.entries:
        notes += _of_elsewhere({n: (own[n] or listed or config).path for n, listed in near.items()})
    return Names(ids, dict.fromkeys(near, numbers), tuple(notes))


def _merged(files: Collection[Listed], found: Mapping[Path, Listed]) -> Names:
    """The names of all files that are used, in the order of the first; each label file by its own."""
    used = {listed.path for listed in found.values()}
    if not used:
        return Names({}, {})
    first, *others = sorted(files, key=lambda listed: listed.path not in used)
    ids = {name: number + 1 for number, name in first.names.items()}
    notes = []
    for listed in others:
        text = disagreement(first.names, listed.names, first.path, listed.path)
        if listed.path in used:
            for name in listed.names.values():
                ids.setdefault(name, max(ids.values()) + 1)
            notes += [f"{text}: the labels of each folder are read with its own names"] if text else []
        elif text:
            notes.append(f"{listed.path}: not read; {text}")
    numbers = {listed.path: {n: ids[name] for n, name in listed.names.items()} for listed in files
               if listed.path in used}  # fmt: skip
    of_label: dict[Path, Numbers] = {label: numbers[listed.path] for label, listed in found.items()}
    notes += [
        f"{path}: labelImg's list to choose from, read as the names, as no other file names the classes; is it theirs?"
        for path in used
        if path.name.lower() == TO_CHOOSE
    ]
    notes += _of_elsewhere({label: listed.path for label, listed in found.items()})
    return Names({i: name for name, i in ids.items()}, of_label, tuple(notes))


# ---- which file -------------------------------------------------------------------------------------------------


def _files(tree: Tree, strict: bool) -> dict[str, Listed]:
    """{folder: its file of names}. Raises `UserError` for two in one folder that disagree; if `strict`, also for one
    that cannot be read."""
    found: dict[str, Listed] = {}
    for wanted in (*NAME_FILES, *SPARE, ANY):
        if found and wanted in (*SPARE, ANY):
            break
        for below in (
            p for p in tree.files(wanted) if wanted == ANY or p.rsplit("/", 1)[-1].lower() == wanted
        ):
            try:
                listed = _read(tree.path(below), wanted)
            except UserError:
                if strict:
                    raise
                continue
            other = found.setdefault(parent(below), listed) if listed.names else listed
            if text := disagreement(other.names, listed.names, other.path, listed.path):
                raise UserError(f"{text}: correct or remove the wrong one")
    return dict(sorted(found.items(), key=lambda item: (item[0].count("/"), item[0])))


def _read(path: Path, kind: str) -> Listed:
    return Listed(path, _categories(path) if kind == CATEGORIES else name_lines(path))


def _categories(path: Path) -> dict[int, str]:
    """The names in Label Studio's notes.json; none where the file is another one."""
    try:
        document = (
            json.loads(path.read_text(encoding="utf-8-sig")) if path.stat().st_size <= MAX_BYTES else {}
        )
        found = {row["id"]: row["name"] for row in document["categories"]}
        known = all(type(i) is int and type(name) is str for i, name in found.items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return refuse_unusable(path, found) if known else {}


def _nearest(tree: Tree, files: Mapping[str, Listed], labels: Iterable[Path]) -> Nearest:
    """{label file: the file of names in its folder or the nearest above it}."""
    folders = {tree.path(folder): listed for folder, listed in files.items()}
    folders |= {folder.resolve(): listed for folder, listed in folders.items()}
    known: dict[Path, Listed | None] = {}
    found = {}
    for label in labels:
        home = label.parent
        if home not in known:
            real = home.resolve()
            above = (home, *home.parents, real, *real.parents)
            known[home] = next((folders[folder] for folder in above if folder in folders), None)
        found[label] = known[home]
    return found


def _only(tree: Tree, files: Collection[Listed], label: Path) -> Listed:
    """The names for labels that have none of their own. Raises `UserError` where it cannot be told which."""
    near = [each for each in files if len(each.path.relative_to(tree.root).parts) <= DEEPEST] or [*files]
    if not near:
        raise UserError(
            f"{tree.root}: YOLO labels without names: data.yaml or classes.txt must name the classes"
        )
    for other in near[1:]:
        if text := disagreement(near[0].names, other.names, near[0].path, other.path):
            raise UserError(
                f"{label}: {text}, and neither lies with it; put the right one into {label.parent}"
            )
    return near[0]

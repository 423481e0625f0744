"""The images that a YOLO configuration names, where they lie by now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from model.data.images import READ_SUFFIXES, how_to_convert
from model.data.label_files import lines_of
from model.data.paths import walk
from model.data.yolo_config import Config
from model.data.yolo_lists import listed, twins_of
from model.errors import UserError, number_of

LEFT_BEHIND = ("Thumbs.db", "desktop.ini")  # by Windows, in folders that are empty to who looks


def configured(config: Config) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """(the images of every split that is there, a note on each that is not: tools name splits they did not write, and
    make empty folders for them). Raises `UserError` where the images for training are not there."""
    images, notes = {}, []
    for split, entries in config.entries.items():
        there = [place for entry in entries if (place := _found(config, entry)) is not None]
        if split == "train" or not all(map(_is_empty, there)):
            images[split] = _images(config, split)
        else:
            what = "is empty" if there else "is not there"
            notes.append(f"{config.path}: {split} names {', '.join(entries)}, which {what}: not read")
    if config.within is not None:
        root, written = config.within.resolve(), os.path.abspath(config.within)
        places = {p.parent for paths in images.values() for p in paths}
        outside = (
            p for p in places if not Path(os.path.abspath(p)).is_relative_to(written)
        )  # a link within leads in
        away = sorted(str(p) for p in outside if not p.resolve().is_relative_to(root))
        if away:
            notes.append(
                f"{config.path}: images of {', '.join(away[:3])} are used, which it names, not those of {root}"
            )
    return images, tuple(notes)


def of_other_keys(config: Config, images: Mapping[str, list[Path]]) -> tuple[tuple[str, ...], set[Path]]:
    """(a note on each key that says no split and names images that none has, these images)."""
    used = {image for paths in images.values() for image in paths}
    notes: list[str] = []
    told: set[Path] = set()
    for key, entries in config.others.items():
        try:
            found = {image for entry in entries for image in _named(config, entry)} - used
        except UserError:
            continue  # a list of something else
        if found:
            what = f"its key {key}, which says no split, names {number_of(len(found), 'image')}"
            notes.append(f"{config.path}: {what} that no split has ({', '.join(entries)}): not used")
            told |= found
    return tuple(notes), told


def _named(config: Config, entry: str) -> list[Path]:
    """The images in a folder or list, if it is there."""
    place = _found(config, entry)
    if place is None or (place.is_file() and place.suffix.lower() != ".txt"):
        return []
    return listed(config, place) if place.is_file() else _below(place)


def _images(config: Config, split: str) -> list[Path]:
    """The images that the configuration names for a split, in order. Raises `UserError` for a place that is not
    there, and where two splits that are called differently turn out to be one."""
    places = [(_place(config, entry), entry) for entry in config.entries[split]]
    for other, entries in config.entries.items():
        for entry in entries if other != split else ():
            if any(place == _found(config, entry) and own != entry for place, own in places):
                raise UserError(f"{config.path}: {split} and {other} lead to the same place, {places[0][0]}")
    found: dict[Path, None] = {}
    for place, _ in places:
        for image in listed(config, place) if place.is_file() else _below(place):
            found[image] = None
    if not found:
        unread = next((hint for place, _ in places if (hint := _unread_in(place) or _labels_of(place))), "")
        raise UserError(
            f"{config.path}: {split} names no images ({', '.join(config.entries[split])}){unread}"
        )
    return list(found)


def _is_empty(place: Path) -> bool:
    """Whether a list names nothing, or a folder holds no file, and none of labels is where those of its images would
    be: then images have got lost."""
    if place.is_file():
        return not any(lines_of(place))
    below = (name for folder in (place, *twins_of(place)) for _, names in walk(folder) for name in names)
    return all(name in LEFT_BEHIND for name in below)


def _unread_in(place: Path) -> str:
    """What to do about images in a folder whose suffixes are not read."""
    for _, names in walk(place):
        if found := next((name for name in names if how_to_convert(name)), ""):
            return f"; {found} is there: {how_to_convert(found)}"
    return ""


def _labels_of(place: Path) -> str:
    """What to do about images that got lost, whose labels are there."""
    twin = next((twin for twin in twins_of(place) if any(names for _, names in walk(twin))), None)
    return (
        f"; their labels are in {twin}: put the images back, or take the place out of the file"
        if twin
        else ""
    )


def _place(config: Config, entry: str) -> Path:
    """As `_found`. Raises `UserError` where it is nowhere."""
    if (place := _found(config, entry)) is None:
        home = config.base or config.path.parent
        near = _in_other_case(home, entry)
        hint = f"; did you mean {near}?" if near else ""
        raise UserError(f"{config.path}: {entry} is neither in {home} nor anywhere else{hint}")
    return place


def _found(config: Config, entry: str) -> Path | None:
    """The folder or list that an entry names: below `path:`, beside the file, or as another machine called it."""
    home, plain = config.path.parent, entry.replace("\\", "/")
    parts = [p for p in plain.split("/") if p not in ("", ".", "..")]
    if plain.startswith("/") and not parts:
        return None  # all that this machine holds
    tries = [config.base / plain] if config.base else []
    if plain.startswith("../"):
        tries.append(home.joinpath(*parts))  # Roboflow's ../train/images lies beside its data.yaml
    ends = [home.joinpath(*parts[n:]) for n in range(len(parts))]
    tries += [home / plain, *(end for end in ends if not _holds_other(config, entry, end))]
    if config.within is not None and config.base is None and plain.startswith("../"):
        top = os.path.abspath(
            config.within
        )  # a neighbour of the dataset that happens to be called test is not its test
        tries = [p for p in tries if os.path.abspath(p).startswith(top + os.sep)]
    place = next((place for place in tries if place.exists()), None)
    if place is None or ".." not in place.parts:
        return place
    direct = Path(os.path.normpath(place))  # a linked images/ has its labels beside the link
    return direct if direct.exists() and direct.samefile(place) else place.resolve()


def _holds_other(config: Config, entry: str, place: Path) -> bool:
    """Whether the place that the end of an entry names is above that of another entry: x/images is not images/ where
    images/train is for training."""
    homes = [config.path.parent, *([config.base] if config.base else [])]
    others = (
        home / e for entries in config.entries.values() for e in entries if e != entry for home in homes
    )
    return any(other != place and other.is_relative_to(place) and other.exists() for other in others)


def _in_other_case(home: Path, entry: str) -> str:
    """The folder or file below `home` that an entry names but for upper and lower case, or ""."""
    here = home
    for part in (p for p in entry.replace("\\", "/").split("/") if p not in ("", ".", "..")):
        names = sorted(p.name for p in here.iterdir()) if here.is_dir() else []
        if (name := next((n for n in names if n.casefold() == part.casefold()), None)) is None:
            return ""
        here /= name
    return here.relative_to(home).as_posix()


def _below(folder: Path) -> list[Path]:
    return [
        folder / below / name
        for below, names in walk(folder)
        for name in names
        if name.lower().endswith(READ_SUFFIXES)
    ]

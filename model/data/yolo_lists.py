"""The text files that a YOLO configuration names: the images of a split, one a line."""

from __future__ import annotations

from pathlib import Path

from model.data.label_files import lines_of, refuse
from model.data.other_labels import SUFFIXES
from model.data.paths import Resolver
from model.data.yolo_config import Config

TWINS = ("labels", "Labels", "LABELS")  # of images/


def listed(config: Config, path: Path) -> list[Path]:
    """The images of a text file that names one a line, or its label file. Raises `UserError` for names without an
    image."""
    homes = [path.parent, *([config.base] if config.base else []), config.path.parent]
    if config.base:  # of several tasks each list speaks of its own
        homes[1:1] = [home for home in path.parents if home.is_relative_to(config.base)]
    homes = list(dict.fromkeys(homes))
    resolvers: dict[Path, Resolver] = {}
    images, problems = [], []
    for number, name in enumerate(lines_of(path), 1):
        there = (home / name for home in homes if name and not _is_label(name) and (home / name).is_file())
        image = next(there, None)
        for home in homes if name and image is None else ():
            resolver = resolvers.setdefault(home, resolvers.get(home) or Resolver(home))
            if image := _of_label(resolver, name) if _is_label(name) else resolver.find(name):
                break
        if name.startswith("#") and (image is None or name.split("/")[0] not in image.parts):
            continue  # a remark: no image, nor a folder of one, is called so
        if image is not None:
            images.append(image)
        elif name and _is_label(name):
            problems.append(f"{path}:{number}: {name} is no image, and it is not known of which; name that")
        elif name:
            problems.append(f"{path}:{number}: {name} is not there{resolvers[homes[-1]].explain(name)}")
    refuse(problems)
    return images


def twins_of(folder: Path) -> list[Path]:
    """Where the labels of a folder's images may lie, beside the folder itself: in labels/ where it lies in images/."""
    parts = folder.parts
    at = next((n for n in reversed(range(len(parts))) if parts[n].lower() == "images"), None)
    return [] if at is None else [Path(*parts[:at], twin, *parts[at + 1 :]) for twin in TWINS]


def _is_label(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _of_label(resolver: Resolver, name: str) -> Path | None:
    """The only image of a label file that a list names in its stead: images/x.jpg of labels/x.txt."""
    *folders, last = name.replace("\\", "/").split("/")
    twin = "/".join([*("images" if folder in TWINS else folder for folder in folders), last])
    found = next(filter(None, (resolver.of_stem(each) for each in (twin, name))), [])
    return resolver.folder.joinpath(*found[0]) if len(found) == 1 else None

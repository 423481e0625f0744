"""What a report shows of the data that a run trains on: `report.json` with pictures, in the same form as an
evaluation's (references/trial_contract.md)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from model.data.coco import Options
from model.data.images import CHECKED, open_rgb
from model.data.picture import Split, advice, read, trained_sides
from model.data.seen import training_scale
from model.data.tree import SPLITS
from model.errors import UserError
from model.spec import get

SHEET, SIDE_PX = 12, 280
COLOURS = ("blue", "orange", "green", "red", "purple", "grey")
SIZES_PX = (0, 8, 16, 32, 64, 128, 256, 512, np.inf)
SHAPES = (0, 0.2, 0.33, 0.5, 0.8, 1.25, 2, 3, 5, np.inf)
NUMBERS = (0, 1, 2, 3, 5, 10, 20, 50, 100, np.inf)


def write(spec: Mapping[str, Any], folder: str | Path) -> None:
    """Write `folder`/report.json and the pictures it names, of the sources in a train spec. Raises `UserError` for
    sources that cannot be read."""
    folder = Path(folder)
    leaves = {f"dataset.{n}_data_sources": get(spec, f"dataset.{n}_data_sources") for n in ("train", "val")}
    for key in ("json_file", "image_dir"):
        leaves[f"dataset.test_data_sources.{key}"] = get(spec, f"dataset.test_data_sources.{key}")
    found = [read(leaves, name, Options.of(spec)) for name in SPLITS]
    splits = [split for split in found if split is not None]
    if not splits:
        raise UserError("dataset.train_data_sources must be given")
    folder.mkdir(parents=True, exist_ok=True)
    names = {i: name for split in splits[::-1] for i, name in split.names.items()}
    warnings = advice(splits, names, spec)
    parts = [_counts(splits), _classes(splits, names), *_charts(splits, training_scale(spec))]
    if warnings:
        parts.insert(0, {"kind": "list", "title": "Worth a look", "items": warnings})
    parts.append(_sheet(splits[0], names, folder))
    document = {"section": "Data", "facts": {"digest of the data": _digest(splits)}, "parts": parts}
    (folder / "report.json").write_text(json.dumps(document) + "\n")


def _digest(splits: Sequence[Split]) -> str:
    """Of what the data say and how long the image files are: another one for other data, without reading every
    image."""
    found = hashlib.sha256()
    for s in splits:
        found.update(s.name.encode())
        for path in s.paths:
            found.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        for array in (s.boxes_xywh_px, s.owner, s.sizes):
            found.update(np.ascontiguousarray(array).tobytes())
        found.update(json.dumps([str(label) for label in s.labels.tolist()]).encode())
    return f"sha256:{found.hexdigest()}"


def _counts(splits: Sequence[Split]) -> dict[str, Any]:
    rows = []
    for s in splits:
        each = np.bincount(s.owner, minlength=len(s.paths))
        low, high = s.sizes.min(axis=0).astype(int), s.sizes.max(axis=0).astype(int)
        sizes = f"{low[0]}x{low[1]} to {high[0]}x{high[1]}" if (low != high).any() else f"{low[0]}x{low[1]}"
        rows.append([s.name, len(s.paths), len(s.labels), round(float(each.mean()), 1), int(np.max(each)),
                     int((each == 0).sum()), sizes])  # fmt: skip
    columns = [
        "split",
        "images",
        "objects",
        "objects an image",
        "at most",
        "images without objects",
        "image sizes, px",
    ]
    return {"kind": "table", "title": "Splits", "columns": columns, "rows": rows}


def _classes(splits: Sequence[Split], names: Mapping[Any, str]) -> dict[str, Any]:
    counts = {s.name: Counter(s.labels.tolist()) for s in splits}
    rows = [[name, *(counts[s.name][i] for s in splits)] for i, name in names.items()]
    return {
        "kind": "table",
        "title": "Objects by class",
        "columns": ["class", *(s.name for s in splits)],
        "rows": rows,
    }


def _charts(splits: Sequence[Split], scale: tuple[float, float, bool]) -> list[dict[str, Any]]:
    sides = np.concatenate([trained_sides(s, scale) for s in splits])
    each = np.concatenate([np.bincount(s.owner, minlength=len(s.paths)) for s in splits])
    size = np.sqrt(np.maximum(sides.prod(axis=1), 0))
    return [
        _bars("Size of objects at the training size, px", size, SIZES_PX),
        _bars("Width / height of objects", sides[:, 0] / np.maximum(sides[:, 1], 1e-9), SHAPES),
        _bars("Objects in an image", each, NUMBERS, whole=True),
    ]


def _bars(title: str, values: np.ndarray, edges: Sequence[float], whole: bool = False) -> dict[str, Any]:
    """A histogram; the last bin is open."""
    rows = []
    for a, b in pairwise(edges):
        last = b - 1 if whole else b
        name = f"{a:g}" if last == a else f"{a:g} to {last:g}" if np.isfinite(b) else f"from {a:g}"
        rows.append([name, int(((values >= a) & (values < b)).sum())])
    return {"kind": "bars", "title": title, "rows": rows}


def _sheet(split: Split, names: Mapping[Any, str], folder: Path) -> dict[str, Any]:
    """Images spread over the split, with their objects in a colour for each class."""
    (folder / "pictures").mkdir(exist_ok=True)
    chosen = np.unique(np.linspace(0, len(split.paths) - 1, SHEET).round().astype(int)).tolist()
    order = list(names)
    marks = [{"name": name, "colour": COLOURS[n % len(COLOURS)]} for n, name in enumerate(names.values())]
    return {
        "kind": "pictures",
        "title": f"Images of {split.name}",
        "legend": marks if len(marks) <= len(COLOURS) else [],
        "marks": marks,
        "pictures": [_picture(split, n, names, order, folder) for n in chosen],
    }


def _picture(
    split: Split, index: int, names: Mapping[Any, str], order: Sequence[Any], folder: Path
) -> dict[str, Any]:
    path, (width, height) = split.paths[index], split.sizes[index]
    share = SIDE_PX / max(width, height)
    picture: dict[str, Any] = {"caption": path.name}
    try:
        image = open_rgb(path, CHECKED)
        image.thumbnail((SIDE_PX, SIDE_PX))
        image.save(folder / "pictures" / f"{index:06d}.jpg", "JPEG", quality=75)
        picture["file"] = f"pictures/{index:06d}.jpg"
    except UserError as error:
        picture["caption"] = str(error)
    rects = []
    for n in np.flatnonzero(split.owner == index):
        (label,) = split.labels[n : n + 1].tolist()
        x, y, w, h = (round(float(v), 1) for v in split.boxes_xywh_px[n] * share)
        rects.append(
            {"x": x, "y": y, "w": max(w, 0), "h": max(h, 0), "text": names[label], "mark": order.index(label)}
        )
    panel = {"title": "", "rects": rects}
    return picture | {"width": round(width * share), "height": round(height * share), "panels": [panel]}

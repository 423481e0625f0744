"""Everything that is wrong with a dataset, found before the first trial, each problem naming its file and id."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.data.coco import find_image, read_json
from model.data.images import BROKEN, upright_size
from model.data.layouts import find_data
from model.data.paths import explain
from model.data.sources import is_url, stage
from model.errors import UserError
from model.spec import get

SHOWN = 5  # problems of one kind that are spelled out
TOLERANCE_PX = 1.0  # a box may stick out of its image by rounding
VAL_SHARE = 0.2
SPLITS = ("train", "val", "test")
THREADS = 8
KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def inspect(spec: Mapping[str, Any], data_dir: str | None = None, *, work_dir: Path) -> dict[str, Any]:
    """Look at the data of a train spec, or of `data_dir` where the spec names none.

    Returns {"fill": {dotted leaf: value that the data determine}, "facts": {"train" | "val" | "test": {"images",
    "boxes"}, "classes": [{"id", "name", "train_boxes"}], "layout": in words}, "problems": [...], "warnings": [...]}.
    Without a validation set a seeded fifth of the training images becomes one (two JSON files in `work_dir`).
    """
    data = find_data(spec, data_dir)
    sources = data.sources
    report = Report()
    report.warnings += data.notes
    parts = {split: [Part.read(s, report) for s in sources[split]] for split in SPLITS}
    fill: dict[str, Any] = {}
    if not report.problems:
        for split in SPLITS:
            for part in parts[split]:
                if part is not None:
                    part.check(report)
    if not report.problems:
        if not sources["val"]:
            sources["train"], sources["val"] = split_train(sources["train"], _seed(spec), work_dir)
            parts = {split: [Part.read(s, report) for s in sources[split]] for split in SPLITS}
            share = f"{len(_documents(parts['val'])[0]['images'])} of the training images"
            report.warnings.append(f"no validation set: {share}, drawn by train.seed, are held out for it")
        fill = _fill(sources, parts)
        _check_together(spec, parts, fill, report)
    facts = _facts(parts) | ({"layout": data.layout} if data.layout else {})
    return {"fill": fill, "facts": facts, "problems": report.lines(), "warnings": report.warnings}


class Report:
    """Problems by kind, so that ten thousand of one kind do not hide one of another."""

    def __init__(self) -> None:
        self.problems: dict[str, list[str]] = {}
        self.warnings: list[str] = []

    def add(self, kind: str, message: str) -> None:
        self.problems.setdefault(kind, []).append(message)

    def lines(self) -> list[str]:
        found = []
        for messages in self.problems.values():
            found += messages[:SHOWN]
            if len(messages) > SHOWN:
                found.append(f"... and {len(messages) - SHOWN} more of this kind")
        return found


class Part:
    """One source: its COCO document and the folder of its images."""

    def __init__(self, json_file: str, document: dict[str, Any], folder: Path) -> None:
        self.json_file, self.document, self.folder = json_file, document, folder

    @classmethod
    def read(cls, source: Mapping[str, str], report: Report) -> Part | None:
        try:
            return cls(source["json_file"], read_json(source["json_file"]), stage(source["image_dir"]))
        except UserError as error:
            report.add("source", str(error))
            return None

    def check(self, report: Report) -> None:
        """Ids, boxes and files of this source; the first alone when they are so broken that nothing else can be."""
        say = lambda kind, text: report.add(kind, f"{self.json_file}: {text}")  # noqa: E731
        for section, keys in KEYS.items():
            self._check_keys(section, keys, say)
            ids = Counter(
                json.dumps(row.get("id")) for row in self.document[section] if isinstance(row, dict)
            )
            for value, count in ids.items():
                if count > 1:
                    say(f"duplicate {section}", f"{section} id {value} is there {count} times")
        if report.problems:
            return
        if not self.document["images"]:
            say("empty", "it has no images")
        if not self.document["annotations"]:
            say("empty", "it has no boxes")
        self._check_boxes(say)
        self._check_files(say)

    def _check_keys(self, section: str, keys: tuple[str, ...], say: Any) -> None:
        for n, row in enumerate(self.document[section]):
            missing = [k for k in keys if not isinstance(row, dict) or k not in row]
            if missing:
                say(f"keys {section}", f"{section}[{n}] lacks {', '.join(missing)}")

    def _check_boxes(self, say: Any) -> None:
        images = {image["id"]: image for image in self.document["images"]}
        known = {category["id"] for category in self.document["categories"]}
        for category in known:
            if not isinstance(category, int) or isinstance(category, bool) or category < 0:
                say("category id", f"category ids must be integers from 0, but got {category!r}")
        for a in self.document["annotations"]:
            where, image = f"annotation {a['id']}", images.get(a["image_id"])
            if a["category_id"] not in known:
                say(
                    "category",
                    f"{where} has the unknown category id {a['category_id']!r}; known: {sorted(known)}",
                )
            if image is None:
                say("image id", f"{where} belongs to image {a['image_id']!r}, which is not there")
                continue
            if problem := box_problem(a["bbox"], image["width"], image["height"]):
                say("box", f"{where} of image {image['id']} ({image['file_name']}): {problem}")

    def _check_files(self, say: Any) -> None:
        images = self.document["images"]
        with ThreadPoolExecutor(THREADS) as pool:
            for image, problem in zip(images, pool.map(self._file_problem, images), strict=True):
                if problem:
                    say(problem[0], f"image {image['id']}: {problem[1]}")

    def _file_problem(self, image: Mapping[str, Any]) -> tuple[str, str] | None:
        path = find_image(self.folder, image["file_name"])
        if not path.is_file():
            why = explain(self.folder, image["file_name"])
            return "missing file", f"{image['file_name']} is not in {self.folder}{why}"
        try:
            with Image.open(path) as file:
                quick = file.format == "PNG" and "exif" not in file.info
                size = file.size if quick else upright_size(file)
                if quick:
                    file.verify()  # checksums, without decoding
                elif file.format == "JPEG":
                    _check_jpeg_end(path)
                else:
                    file.load()
        except BROKEN as error:
            return "unreadable", f"{path} cannot be read as an image ({error})"
        if size != (image["width"], image["height"]):
            wanted = f"{image['width']}x{image['height']}"
            return "size", f"{image['file_name']} is {size[0]}x{size[1]} px, the annotations say {wanted}"
        return None


def refuse_damaged(sources: Iterable[tuple[Path, dict[str, Any], Path]]) -> None:
    """Raise `UserError` with what is wrong in any (file, COCO document, image folder)."""
    report = Report()
    for json_file, document, folder in sources:
        Part(str(json_file), document, folder).check(report)
    if report.problems:
        raise UserError("\n".join(report.lines()))


def box_problem(box: Any, width: int, height: int) -> str | None:
    """What is wrong with a COCO box [x, y, w, h] in px of an image, or None."""
    try:
        x, y, w, h = (float(v) for v in box)
    except (TypeError, ValueError):
        return f"a box must be four numbers, but got {box!r}"
    if not all(map(math.isfinite, (x, y, w, h))):
        return f"a box must be finite, but got {box!r}"
    if w <= 0 or h <= 0:
        return f"the box {box} is empty"
    if (
        x < -TOLERANCE_PX
        or y < -TOLERANCE_PX
        or x + w > width + TOLERANCE_PX
        or y + h > height + TOLERANCE_PX
    ):
        return f"the box {box} leaves the image of {width}x{height} px"
    return None


def split_train(
    sources: list[dict[str, str]], seed: int, work_dir: Path
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Each training source as two, by image: (what is left to train on, what validates)."""
    left: list[dict[str, str]] = []
    held: list[dict[str, str]] = []
    work_dir.mkdir(parents=True, exist_ok=True)
    for n, source in enumerate(sources):
        document = read_json(source["json_file"])
        ids = sorted(image["id"] for image in document["images"])
        order = np.random.default_rng([seed, n]).permutation(len(ids))
        held_ids = {ids[i] for i in order[: max(1, round(VAL_SHARE * len(ids)))]}
        for name, target in (("train", left), ("val", held)):
            path = work_dir / f"{name}_split_{n}.json"
            path.write_text(json.dumps(_images_in(document, held_ids, name == "val")))
            target.append({"image_dir": source["image_dir"], "json_file": str(path.resolve())})
    return left, held


def _images_in(document: dict[str, Any], ids: set[Any], inside: bool) -> dict[str, Any]:
    """A COCO document with only the images (not) in `ids` and their boxes."""
    return document | {
        "images": [i for i in document["images"] if (i["id"] in ids) == inside],
        "annotations": [a for a in document["annotations"] if (a["image_id"] in ids) == inside],
    }


def _check_together(
    spec: Mapping[str, Any], parts: Mapping[str, list[Any]], fill: Mapping[str, Any], report: Report
) -> None:
    """What only shows when the splits are looked at side by side."""
    train = _documents(parts["train"])
    images = sum(len(d["images"]) for d in train)
    batch = (
        int(get(spec, "dataset.batch_size"))
        * int(get(spec, "train.num_gpus"))
        * int(get(spec, "train.num_nodes"))
    )
    if images < batch:
        report.add(
            "batch",
            f"the training set has {images} images, fewer than the total batch of {batch} (dataset.batch_size * GPUs)",
        )
    trained = {c["id"] for d in train for c in d["categories"]}
    for split in ("val", "test"):
        for part in parts[split]:
            for category in part.document["categories"]:
                if category["id"] not in trained:
                    report.add(
                        "category",
                        f"{part.json_file}: category {category['id']} ({category['name']}) is not in the training set",
                    )
    counts = Counter(a["category_id"] for d in train for a in d["annotations"])
    for document in train[:1]:
        for category in document["categories"]:
            if not counts[category["id"]]:
                report.warnings.append(
                    f"class {category['id']} ({category['name']}) has no box in the training set"
                )
    _check_leak(parts, report)


def _check_leak(parts: Mapping[str, list[Any]], report: Report) -> None:
    """Validation images that are training images too, told by size and both ends of the file."""
    with ThreadPoolExecutor(THREADS) as pool:
        prints = {split: _fingerprints(parts[split], pool) for split in ("train", "val")}
    seen = {digest: path for path, digest in prints["train"]}
    for path, digest in prints["val"]:
        if digest in seen:
            report.add("leak", f"validation image {path} is also training image {seen[digest]}")


def _fingerprints(parts: Iterable[Any], pool: ThreadPoolExecutor) -> list[tuple[Path, str]]:
    paths = [
        find_image(part.folder, image["file_name"]) for part in parts for image in part.document["images"]
    ]
    return list(zip(paths, pool.map(_fingerprint, paths), strict=True))


def _fingerprint(path: Path, ends: int = 32 << 10) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(str(size).encode() + file.read(ends))
        if size > ends:
            file.seek(max(ends, size - ends))
            digest.update(file.read())
    return digest.hexdigest()


def _fill(sources: Mapping[str, list[dict[str, str]]], parts: Mapping[str, list[Any]]) -> dict[str, Any]:
    categories = sorted({c["id"] for d in _documents(parts["train"]) for c in d["categories"]})
    fill: dict[str, Any] = {
        "dataset.train_data_sources": [_absolute(s) for s in sources["train"]],
        "dataset.val_data_sources": [_absolute(s) for s in sources["val"]],
        "dataset.num_classes": max(categories) + 1,
        "dataset.eval_class_ids": categories,
    }
    for source in sources["test"][:1]:
        fill |= {f"dataset.test_data_sources.{key}": value for key, value in _absolute(source).items()}
    return fill


def _facts(parts: Mapping[str, list[Any]]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for split in SPLITS:
        documents = _documents(parts[split])
        if documents:
            images = sum(len(d["images"]) for d in documents)
            facts[split] = {"images": images, "boxes": sum(len(d["annotations"]) for d in documents)}
    train = _documents(parts["train"])
    counts = Counter(a.get("category_id") for d in train for a in d["annotations"] if isinstance(a, dict))
    names = {
        c["id"]: c["name"]
        for d in train
        for c in d["categories"]
        if isinstance(c, dict) and {"id", "name"} <= set(c)
    }
    facts["classes"] = [
        {"id": i, "name": n, "train_boxes": counts[i]}
        for i, n in sorted(names.items(), key=lambda item: str(item[0]))
    ]
    return facts


def _documents(parts: Iterable[Any]) -> list[dict[str, Any]]:
    return [part.document for part in parts if part is not None]


def _absolute(source: Mapping[str, str]) -> dict[str, str]:
    return {
        key: str(Path(value).resolve()) if value and not is_url(value) else value
        for key, value in source.items()
    }


def _seed(spec: Mapping[str, Any]) -> int:
    return max(0, int(get(spec, "train.seed", 0)))


def _check_jpeg_end(path: Path) -> None:
    """A JPEG cut short opens well and fails when decoded; its end marker is missing."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        if b"\xff\xd9" not in file.read():
            raise ValueError("it is cut short")

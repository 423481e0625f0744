"""What the engine is told of a dataset: counts, sizes, classes, and by what it is known again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from model.data import classes
from model.data.classes import Table, labelled
from model.data.coco import Part
from model.data.looks import read_by
from model.data.problems import listed, shown
from model.data.tree import SPLITS

FORMAT = 1  # of what `contents` makes; of another version's nothing is compared
PLACES = 2  # decimals of a box's px: the same boxes written another way differ by less
BY_PICTURE = "pictures"


def facts_of(parts: Mapping[str, Sequence[Part]], table: Table) -> dict[str, Any]:
    """The facts of `check.inspect`, without the layout."""
    facts: dict[str, Any] = {}
    for split in SPLITS:
        if parts[split]:
            images = sum(len(part.paths) for part in parts[split])
            facts[split] = {"images": images, "boxes": sum(len(p.document.category) for p in parts[split])}
    if sizes := _sizes(parts["train"]):
        facts["sizes"] = sizes
    counts = box_counts(parts["train"])
    ordered = sorted(table.names.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    facts["classes"] = [{"id": i, "name": name, "train_boxes": counts[i]} for i, name in ordered]
    return facts | {"contents": contents(parts)}


def _sizes(parts: Sequence[Part]) -> dict[str, Any]:
    """Of the training set: "text", in words; "usual" [H, W] px of most images and their share "alike";
    "short_px", the median short side; "small_box" and "box", the tenth and the fiftieth percentile of the root of a
    box's area over its image's short side. Empty where sizes or boxes are unknown."""
    sizes = np.concatenate([part.document.sizes for part in parts])
    shares = [_box_shares(part) for part in parts]
    known, boxes = sizes[(sizes > 0).all(axis=1)], np.concatenate(shares)
    if not len(known) or not len(boxes):
        return {}
    values, counts = np.unique(known, axis=0, return_counts=True)
    height, width = (int(v) for v in values[np.argmax(counts)])
    small, middle = np.percentile(boxes, [10, 50])
    mostly = "" if len(values) == 1 else "mostly "
    told = f"{mostly}{width}x{height} px; a box is {middle:.0%} of the short side, a tenth of them below {small:.0%}"
    return {
        "text": told,
        "usual": [height, width], "alike": round(float(np.max(counts) / len(sizes)), 3),
        "short_px": float(np.median(known.min(axis=1))), "small_box": round(float(small), 4),
        "box": round(float(middle), 4),
    }  # fmt: skip


def _box_shares(part: Part) -> np.ndarray:
    """[T'] of the boxes of a part whose images' sizes are known: side over the image's short side, 0-1."""
    document = part.document
    short = document.sizes.min(axis=1)[document.owner]
    usable = (short > 0) & ~document.crowd
    return np.asarray(np.sqrt(document.boxes_xywh_px[usable, 2:].prod(axis=1)) / short[usable])


def box_counts(parts: Sequence[Part]) -> Counter[Any]:
    """{category id: boxes} of a split."""
    counts: Counter[Any] = Counter()
    for part in parts:
        per = np.bincount(part.document.category, minlength=len(part.document.categories))
        for category, count in zip(part.document.categories, per.tolist(), strict=True):
            counts[category["id"]] += count
    return counts


def misfits(dataset: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """`classes.misfits` of a spec's section and what was found in the data; nothing where that is not known."""
    known, contents = facts.get("classes"), facts.get("contents") or {}
    if not known or not contents:
        return []
    categories = labelled({c["id"]: c["name"] for c in known})
    there = {split: contents.get(split, {}).get("classes", {}) for split in ("train", "val")}
    boxed = {split: {c["id"] for c in categories if c["name"] in of} for split, of in there.items()}
    return classes.misfits(dataset, categories, boxed)


# ---- whether it is the same ---------------------------------------------------------------------------------------


def contents(parts: Mapping[str, Sequence[Part]]) -> dict[str, Any]:
    """By what the data are known again, wherever they lie and in whatever order: {"text": the start of a digest of it
    all, "format", "read_by": what decoded the images, split: {"images", "boxes", "classes": {name: boxes, crowds not
    counted}, "pictures": digest of the pixels, "objects": digest of which boxes of which class are on which of these}}.
    Of the test set the first source counts, which is the one that is scored. Pixels were read before, when the images
    were looked at."""
    found: dict[str, Any] = {}
    for split in SPLITS:
        of_split = parts[split][:1] if split == "test" else parts[split]
        if sum(len(part.paths) for part in of_split):
            found[split] = _of_split(of_split)
    text = f"digest {_digest([json.dumps(found)])[:16]}"
    return {"text": text, "format": FORMAT, "read_by": read_by(), **found}


def _of_split(parts: Sequence[Part]) -> dict[str, Any]:
    of_class: Counter[str] = Counter()
    for part in parts:
        for n, times in Counter(part.document.category[~part.document.crowd].tolist()).items():
            of_class[str(part.document.categories[n]["name"])] += times
    number = {name: n for n, name in enumerate(sorted(of_class))}
    pictures = [look.digest for part in parts for look in part.looks]
    objects = [line for part in parts for line in _objects(part, number)]
    return {
        "images": len(pictures), "boxes": sum(len(part.document.category) for part in parts),
        "classes": dict(sorted(of_class.items())), BY_PICTURE: _digest(pictures),
        "objects": _digest([*number, *objects]),
    }  # fmt: skip


def _objects(part: Part, number: Mapping[str, int]) -> list[str]:
    """A digest of each image's pixels and boxes, in any order of these."""
    document = part.document
    of_file = [number.get(str(c["name"]), -1) for c in document.categories]
    of_class = np.array(of_file, np.int64)[document.category]
    boxes = np.round(document.boxes_xywh_px * 10**PLACES).astype(np.int64)
    columns = [document.owner, of_class, document.crowd.astype(np.int64), *boxes.T]
    rows = (
        np.stack(columns, axis=1)[np.lexsort(columns[::-1])] if len(of_class) else np.zeros((0, 7), np.int64)
    )
    ends = np.searchsorted(rows[:, 0], np.arange(len(part.looks) + 1))
    return [
        f"{look.digest} {hashlib.sha256(np.ascontiguousarray(rows[a:b, 1:], '<i8').tobytes()).hexdigest()}"
        for look, a, b in zip(part.looks, ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def _digest(lines: Iterable[str]) -> str:
    found = hashlib.sha256()
    for line in sorted(lines):
        found.update(f"{line}\n".encode(errors="surrogatepass"))
    return found.hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the facts that were recorded and those of now, in words; nothing where nothing does, and of
    what one of them does not say."""
    found = _changed_classes(before.get("classes"), now.get("classes"))
    kept, there = (dict(of.get("contents") or {}) for of in (before, now))
    if kept and there and kept.get("format") != there.get("format"):
        kept, there = {}, {}
    alike = kept.get("read_by") == there.get("read_by")
    for split in SPLITS:
        if kept and there:
            found += _changed_split(split, kept.get(split), there.get(split), alike)
        elif split != "test":  # of an earlier version, whose counts of it are those of several sources
            found += _changed_counts(split, before.get(split), now.get(split))
    return found


def _changed_classes(before: Any, now: Any) -> list[str]:
    if not (before and now):
        return []
    then, there = ({of.get("id"): str(of.get("name")) for of in each} for each in (before, now))
    lines = [
        f"class {shown(i)} was {then[i]} and is {there[i]}"
        for i in then
        if i in there and then[i] != there[i]
    ]
    for word, one, other in (("is gone", then, there), ("is new", there, then)):
        lines += [f"class {shown(i)} ({name}) {word}" for i, name in one.items() if i not in other]
    return [listed(lines)] if lines else []


def _changed_counts(split: str, before: Any, now: Any) -> list[str]:
    if not (before and now):
        return []
    words = {"images": "images", "boxes": "objects"}
    return [
        f"{split}: {before[key]} {word} then, {now[key]} now"
        for key, word in words.items()
        if key in before and key in now and before[key] != now[key]
    ]


def _changed_split(split: str, before: Any, now: Any, alike: bool) -> list[str]:
    """`alike`: pixels were decoded alike, so that what goes by them can be compared."""
    none = {"images": 0, "boxes": 0}
    then, there = dict(before or none), dict(now or none)
    if lines := _changed_counts(split, then, there):
        return lines
    if alike and then.get(BY_PICTURE) != there.get(BY_PICTURE):
        return [f"{split}: as many images, but not the same"]
    key = "objects" if alike else "classes"
    if then.get(key) == there.get(key):
        return []
    of = [dict(each.get("classes") or {}) for each in (then, there)]
    moved = [f"{name} {of[0].get(name, 0)} then, {of[1].get(name, 0)} now" for name in sorted({*of[0], *of[1]})
             if of[0].get(name) != of[1].get(name)]  # fmt: skip
    more = f": {listed(moved)}" if moved else ", in other places"
    return [f"{split}: as many objects, but not the same{more}"]

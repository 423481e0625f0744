"""What the engine is told of a dataset: counts, sizes, classes, and by what it is known again."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from model.data import classes
from model.data.classes import Table, labelled
from model.data.coco import Part
from model.data.looks import read_by
from model.data.problems import listed, shown
from model.data.tree import SPLITS

FORMAT = 1  # of what `contents` makes; of another version's nothing is compared
FEW = 10  # objects of a class, below which it is hardly learnt, and says little of its sizes
PLACES = 2  # decimals of a box's px: the same boxes written another way differ by less
BY_PICTURE, LABELS = "pictures", "labels"
WORDS = {"images": "images", "boxes": "objects"}


def facts_of(parts: Mapping[str, Sequence[Part]], table: Table) -> dict[str, Any]:
    """The facts of `check.inspect`, without the layout."""
    facts: dict[str, Any] = {}
    for split in SPLITS:
        if parts[split]:
            images = sum(len(part.paths) for part in parts[split])
            crowds = sum(int(part.document.crowd.sum()) for part in parts[split])
            facts[split] = {"images": images, "boxes": box_counts(parts[split]).total()}
            facts[split] |= {"crowds": crowds} if crowds else {}
    if sizes := _sizes(parts["train"], table.names):
        facts["sizes"] = sizes
    counts = box_counts(parts["train"])
    ordered = sorted(table.names.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    facts["classes"] = [{"id": i, "name": name, "train_boxes": counts[i]} for i, name in ordered]
    return facts | {"contents": contents(parts)}


def _sizes(parts: Sequence[Part], names: Mapping[Any, str]) -> dict[str, Any]:
    """Of the training set: "text", in words; "usual" [H, W] px of most images and their share "alike";
    "short_px", the median short side; "small_box" and "box", the tenth and the fiftieth percentile of the root of a
    box's area over its image's short side; "small_boxes", the tenth by class. Empty where sizes or boxes are
    unknown."""
    sizes = np.concatenate([part.document.sizes for part in parts])
    number = {i: n for n, i in enumerate(names)}
    columns = [_box_shares(part, number) for part in parts]
    of_class, boxes = (np.concatenate(column) for column in zip(*columns, strict=True))
    known = sizes[(sizes > 0).all(axis=1)]
    if not len(known) or not len(boxes):
        return {}
    values, counts = np.unique(known, axis=0, return_counts=True)
    height, width = (int(v) for v in values[np.argmax(counts)])
    small, middle = np.percentile(boxes, [10, 50])
    mostly = "" if len(values) == 1 else "mostly "
    told = f"{mostly}{width}x{height} px; a box is {middle:.0%} of the short side, a tenth of them below {small:.0%}"
    by_class = _small_boxes(of_class, boxes, names)
    least = min(by_class, key=lambda of: of["share"], default={"share": 1.0})
    more = f", of {least['name']} below {least['share']:.0%}" if least["share"] < 0.9 * small else ""
    return {
        "text": told + more,
        "usual": [height, width], "alike": round(float(np.max(counts) / len(sizes)), 3),
        "short_px": float(np.median(known.min(axis=1))), "small_box": round(float(small), 4),
        "box": round(float(middle), 4), "small_boxes": by_class,
    }  # fmt: skip


def _box_shares(part: Part, number: Mapping[Any, int]) -> tuple[np.ndarray, np.ndarray]:
    """[T'] class numbers and sizes of the boxes of a part whose images' sizes are known: side over the image's short
    side, 0-1."""
    document = part.document
    short = document.sizes.min(axis=1)[document.owner]
    usable = (short > 0) & document.counts
    numbers = np.array([number.get(category["id"], -1) for category in document.categories], np.int64)
    shares = np.sqrt(document.boxes_xywh_px[usable, 2:].prod(axis=1)) / short[usable]
    return numbers[document.category[usable]], np.asarray(shares)


def _small_boxes(of_class: np.ndarray, shares: np.ndarray, names: Mapping[Any, str]) -> list[dict[str, Any]]:
    """[{"id", "name", "share": tenth percentile of the class's boxes}], since mAP is a mean over classes; `of_class`
    [T] numbers `names`. Of fewer than `FEW` boxes that would be the smallest one's: such classes count together, as one
    without an id, where they have so many."""
    counts = np.bincount(of_class, minlength=len(names))
    order = np.argsort(of_class, kind="stable")  # masks would take classes times boxes
    parts = np.split(shares[order], np.cumsum(counts)[:-1]) if len(counts) else []
    rows = [(i, name, part) for (i, name), part in zip(names.items(), parts, strict=True) if len(part) >= FEW]
    together = np.concatenate([shares[:0], *(part for part in parts if len(part) < FEW)])
    rows += [(None, f"classes of fewer than {FEW} boxes", together)] if len(together) >= FEW else []
    return [
        {"id": i, "name": name, "share": round(float(np.percentile(part, 10)), 4)} for i, name, part in rows
    ]


def box_counts(parts: Sequence[Part]) -> Counter[Any]:
    """{category id: boxes} of a split, crowds not counted."""
    counts: Counter[Any] = Counter()
    for part in parts:
        of_class = part.document.category[part.document.counts]
        per = np.bincount(of_class, minlength=len(part.document.categories))
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
    all, "format", "read_by": what decoded the images, split: {"images", "boxes" with crowds, "classes": {name: boxes
    without}, "pictures": digest of the pixels, "objects": digest of which boxes of which class are on which of these,
    "labels": the same of images known by their sizes alone, which is so whatever decodes them}}. Of the test set the
    first source counts, which is the one that is scored. Pixels were read before, when the images were looked at."""
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
        for n, times in Counter(part.document.category[part.document.counts].tolist()).items():
            of_class[str(part.document.categories[n]["name"])] += times
    number = {name: n for n, name in enumerate(sorted(of_class))}
    looks = [look for part in parts for look in part.looks]
    boxes = [digest for part in parts for digest in _boxes(part, number)]
    objects = [f"{look.digest} {digest}" for look, digest in zip(looks, boxes, strict=True)]
    labels = [f"{look.size[0]}x{look.size[1]} {digest}" for look, digest in zip(looks, boxes, strict=True)]
    return {
        "images": len(looks), "boxes": sum(len(part.document.category) for part in parts),
        "classes": dict(sorted(of_class.items())), BY_PICTURE: _digest(look.digest for look in looks),
        "objects": _digest([*number, *objects]), LABELS: _digest([*number, *labels]),
    }  # fmt: skip


def _boxes(part: Part, number: Mapping[str, int]) -> list[str]:
    """A digest of each image's boxes, in any order of these."""
    document = part.document
    of_file = [number.get(str(c["name"]), -1) for c in document.categories]
    of_class = np.array(of_file, np.int64)[document.category]
    boxes = np.round(document.boxes_xywh_px * 10**PLACES).astype(np.int64)
    columns = [document.owner, of_class, document.crowd.astype(np.int64), *boxes.T]
    rows = (
        np.stack(columns, axis=1)[np.lexsort(columns[::-1])] if len(of_class) else np.zeros((0, 7), np.int64)
    )
    ends = np.searchsorted(rows[:, 0], np.arange(len(part.looks) + 1)).tolist()
    parted = [np.ascontiguousarray(rows[a:b, 1:], "<i8") for a, b in pairwise(ends)]
    return [hashlib.sha256(each.tobytes()).hexdigest() for each in parted]


def _digest(lines: Iterable[str]) -> str:
    found = hashlib.sha256()
    for line in sorted(lines):
        found.update(f"{line}\n".encode(errors="surrogatepass"))
    return found.hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """{"changed": what differs between the facts that were recorded and those of now, "not_compared": what could not be
    compared, and why}, in words; both empty where they are the same."""
    changed = _changed_classes(before.get("classes"), now.get("classes"))
    kept, there = (dict(of.get("contents") or {}) for of in (before, now))
    if why := _without_digest(kept, there):  # of the test set an earlier version counted several sources
        splits = ("train", "val")
        changed += [
            text
            for split in splits
            for text in _changed_counts(split, *(_with_crowds(of.get(split)) for of in (before, now)))
        ]
        known = [f"{split} {word}" for split in splits for word in _counts(before.get(split), now.get(split))]
        known += ["classes"] if before.get("classes") and now.get("classes") else []
        only = f"only numbers were compared ({listed(known)})" if known else "nothing of them was compared"
        return {"changed": changed, "not_compared": [f"{why}; {only}"]}
    alike = kept.get("read_by") == there.get("read_by")
    for split in SPLITS:
        changed += _changed_split(split, kept.get(split), there.get(split), alike)
    return {"changed": changed, "not_compared": [] if alike else list(_not_compared(kept, there))}


def _without_digest(kept: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Why two `contents` say nothing of each other; "" where they do."""
    if not kept:
        return "what was recorded of them has no digest"
    if not there:
        return "there is no digest of those of now"
    then, now = kept.get("format"), there.get("format")
    return "" if then == now else f"their digest was recorded in format {then}, and this version's is {now}"


def _not_compared(kept: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    """What another decoder leaves open: images of the same pixels are the same all the same, as of a PNG."""
    both = {split: (dict(kept.get(split) or {}), dict(there.get(split) or {})) for split in SPLITS}
    open_ = {split: of for split, of in both.items() if of[0].get(BY_PICTURE) != of[1].get(BY_PICTURE)}
    if open_:
        boxes = (
            ""
            if all(LABELS in each for of in open_.values() for each in of)
            else ", and where the objects are"
        )
        yield (
            f"what the images of {listed([*open_])} show{boxes}: they were decoded by {kept.get('read_by')}, and are "
            f"by {there.get('read_by')} now, which may round otherwise"
        )


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


def _counts(before: Any, now: Any) -> dict[str, str]:
    """{word: key} of the numbers that both have."""
    return {word: key for key, word in WORDS.items() if key in (before or {}) and key in (now or {})}


def _with_crowds(facts: Any) -> dict[str, Any]:
    """A split's facts with crowds among the boxes, as earlier versions recorded them."""
    known = dict(facts or {})
    return known | {"boxes": known["boxes"] + known.get("crowds", 0)} if "boxes" in known else known


def _changed_counts(split: str, before: Any, now: Any) -> list[str]:
    return [
        f"{split}: {before[key]} {word} then, {now[key]} now"
        for word, key in _counts(before, now).items()
        if before[key] != now[key]
    ]


def _changed_split(split: str, before: Any, now: Any, alike: bool) -> list[str]:
    """`alike`: pixels were decoded alike, so that other ones are of other images."""
    none = {"images": 0, "boxes": 0}
    then, there = dict(before or none), dict(now or none)
    if lines := _changed_counts(split, then, there):
        return lines
    same = then.get(BY_PICTURE) == there.get(BY_PICTURE)
    if alike and not same:
        return [f"{split}: as many images, but not the same"]
    key = "objects" if same else LABELS if LABELS in then and LABELS in there else "classes"
    if then.get(key) == there.get(key):
        return []
    of = [dict(each.get("classes") or {}) for each in (then, there)]
    moved = [f"{name} {of[0].get(name, 0)} then, {of[1].get(name, 0)} now" for name in sorted({*of[0], *of[1]})
             if of[0].get(name) != of[1].get(name)]  # fmt: skip
    more = f": {listed(moved)}" if moved else ", in other places"
    return [f"{split}: as many objects, but not the same{more}"]

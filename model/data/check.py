"""Everything that is wrong with a dataset, found before the first trial, each problem naming its file and id."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.data import unused
from model.data.cache import all_in_own_words, check_cache, refusing_in_own_words
from model.data.classes import Table, look_alikes
from model.data.coco import Options, Part, read_part
from model.data.coco_boxes import IGNORED, NO_CROWDS
from model.data.facts import box_counts, facts_of
from model.data.layouts import find_data
from model.data.leaks import (
    leave_out_copies,
    note_copies_within,
    note_near_copies,
    note_versions,
    without_validation,
)
from model.data.no_classes import LEFT_OUT
from model.data.pixels import note_pixels
from model.data.problems import Problems, listed
from model.data.sources import is_url, stage
from model.data.splits import groups_of, held_out
from model.data.tree import SPLITS, Data, Sources, given
from model.errors import UserError, number_of
from model.parameters import VAL_SHARE
from model.spec import get, put
from model.told import at

Parts = dict[str, list[Part]]


@refusing_in_own_words()
def inspect(spec: Mapping[str, Any], data_dir: str | None = None, *, work_dir: Path) -> dict[str, Any]:
    """Look at the data of a train spec, or of `data_dir` where the spec names none.

    Returns {"fill": {dotted leaf: value that the data determine}, "replace": {dotted leaf: value that holds whoever
    set it}, "facts": {"train" | "val" | "test": {"images", "boxes", "crowds" where there are any}, "classes": [{"id",
    "name", "train_boxes"}], "layout": in words}, "problems": [...], "warnings": [...]}. Crowds are no boxes there.
    Without a validation set a seeded fifth of the training images becomes one. Splits that are not what their files
    say, for copies were left out or the training set was parted, are written to `work_dir` as COCO files, which "fill"
    and "replace" name.
    """
    check_cache()
    data, problems = find_data(spec, data_dir), Problems()
    problems.notes = list(data.notes)
    layout = {"layout": data.layout} if data.layout else {}
    found: dict[str, Any] = {"fill": {}, "replace": {}, "facts": layout}
    if whole := settle(data, spec, problems):
        parts, table, changed = whole
        _check_what_is_left(parts, spec, problems)
        if not problems:
            sources = data.sources | _written({split: parts[split] for split in changed}, work_dir)
            found["fill"] = _fill(sources, parts, table)
            found["replace"] = {
                k: v for k, v in found["fill"].items() if any(f".{s}_data" in k for s in changed)
            }
        found["facts"] = facts_of(parts, table) | layout
    told = {"problems": problems.lines(), "warnings": problems.notes}
    return found | {key: all_in_own_words(lines) for key, lines in told.items()}


def with_validation(spec: Mapping[str, Any], work_dir: Path) -> tuple[dict[str, Any], list[str]]:
    """(a train spec that has a validation set, notes): where it names none, the fifth of the training images that
    `inspect` holds out, by `train.seed`, written to `work_dir`. Raises `UserError` where they cannot be parted."""
    changed = copy.deepcopy(dict(spec))
    if not given(spec["dataset"]["train_data_sources"]) or given(spec["dataset"]["val_data_sources"]):
        return changed, []
    work_dir.mkdir(parents=True, exist_ok=True)
    found = inspect(spec, work_dir=work_dir)
    if found["problems"]:
        raise UserError("\n".join(found["problems"]))
    for name in ("dataset.train_data_sources", "dataset.val_data_sources"):
        put(changed, name, found["fill"][name])
    return changed, found["warnings"]


def settle(
    data: Data, spec: Mapping[str, Any], problems: Problems, share: float = VAL_SHARE, by_folder: bool = False
) -> tuple[Parts, Table, set[str]] | None:
    """(the splits as they are used: mended, with a validation set unless `share` is 0, drawn `by_folder` or by image,
    without copies across; their classes; the splits that are not as in their files), or None where there are
    problems."""
    parts = _read(data.sources, Options.of(spec), problems)
    if problems:
        return None
    table = _classes(parts, spec, problems)
    if problems:
        return None
    for line in unused.lines(data, parts):
        problems.note(line)
    _note_crowds(parts, problems)
    parts, unscored = _without_an_empty_test(parts, problems)
    _refuse_empty(parts, problems)
    if problems:
        return None
    broken = {split for split, each in parts.items() if any(part.left_out for part in each)}
    parts, changed = _settled(parts, spec, problems, share, by_folder)
    _note_unseen_classes(parts["train"], problems)
    return parts, table, changed | unscored | broken


def _read(sources: Sources, options: Options, problems: Problems) -> Parts:
    """Every source of every split; a source that several splits name is read once."""
    known: dict[tuple[str, ...], Part | None] = {}
    parts: Parts = {split: [] for split in SPLITS}
    for split in SPLITS:
        for source in sources[split]:
            key = (source.get("json_file", ""), source.get("image_dir", ""))
            if key not in known:
                known[key] = _read_one(source, options, problems)
            part = known[key]
            if part is not None:
                parts[split].append(part)
    return parts


def _read_one(source: Mapping[str, str], options: Options, problems: Problems) -> Part | None:
    own = Problems()  # what is wrong with one source does not keep the next from being read
    try:
        part = read_part(source, options, own, decode=True)
    except UserError as error:
        own.add("source", str(error))
        part = None
    for kind, messages in own.problems.items():
        for message in messages:
            problems.add(kind, message)
    for note in own.notes:
        problems.note(note)
    return part


# ---- all splits together ----------------------------------------------------------------------------------------


def _classes(parts: Parts, spec: Mapping[str, Any], problems: Problems) -> Table:
    """The classes of the training set, which the other splits must agree with."""
    table = Table(bool(get(spec, "dataset.match_classes_by_name", False)))
    counted = get(spec, "dataset.eval_class_ids") if _counts_are_chosen(spec) else ()
    for split in SPLITS:
        for part in parts[split]:
            table.read(part.document, problems, split == "train", counted or ())
    if alike := look_alikes(table.names.values()):
        problems.note(f"classes that look like one stay apart: {listed(alike)}")
    return table


def _note_crowds(parts: Parts, problems: Problems) -> None:
    """Say of each file how many boxes are crowds by their iscrowd; those by `ignore` were told when it was read."""
    for document in (part.document for split in SPLITS for part in parts[split]):
        if (crowds := int(document.crowd.sum()) - document.mended.get(IGNORED, 0)) > 0:
            text = (
                f"{crowds} of {number_of(len(document.crowd), 'box')} "
                f"{'is a crowd' if crowds == 1 else 'are crowds'} (iscrowd 1), neither trained on nor scored"
            )
            problems.note(f"{document.where}: {text}; {NO_CROWDS}")


def _without_an_empty_test(parts: Parts, problems: Problems) -> tuple[Parts, set[str]]:
    """(the splits, without test images where no box is there to score them, which splits that changed)."""
    test = parts["test"]
    if not test or any(part.document.counts.any() for part in test):
        return parts, set()
    files = ", ".join(part.document.where for part in test)
    what = "boxes" if any(len(part.document) for part in test) else "images"
    problems.note(f"{files}: it has no {what} to score; the test set is left out")
    return parts | {"test": [p.with_images(np.zeros(len(p.paths), bool)) for p in test]}, {"test"}


def _refuse_empty(parts: Parts, problems: Problems) -> None:
    """One of several sources may be empty, the training and the validation set may not."""
    for split in ("train", "val"):
        documents = [part.document for part in parts[split]]
        if documents and not any(len(d.category) for d in documents):
            files = ", ".join(d.where for d in documents)
            what = "boxes" if any(len(d) for d in documents) else "images"
            advice = "give others, or none, and a part of the training images validates"
            left = sum(d.mended.get(LEFT_OUT, 0) for d in documents)
            regions = f" ({left} {LEFT_OUT}; call otherwise what is one)" if left else ""
            way_out = f" to validate on; {advice}" if split == "val" else ""
            problems.add("empty", f"{files}: it has no {what}{regions}{way_out}")


def _counts_are_chosen(spec: Mapping[str, Any]) -> bool:
    from model.parameters import default_of

    return get(spec, "dataset.eval_class_ids") != default_of("dataset.eval_class_ids")


def _settled(
    parts: Parts, spec: Mapping[str, Any], problems: Problems, share: float, by_folder: bool
) -> tuple[Parts, set[str]]:
    """(the splits with a validation set and without copies across, which of them are not as in their files)."""
    strict, allowed = (bool(get(spec, f"dataset.{n}", False)) for n in ("strict", "allow_leaks"))
    parts, changed = (parts, set()) if strict or allowed else without_validation(parts, problems)
    if not parts["val"] and share:
        seed = max(0, int(get(spec, "train.seed", 0)))
        train, val = split_train(parts["train"], seed, problems, share, by_folder)
        parts, changed = parts | {"train": train, "val": val}, {"train", "val"}
    clean = leave_out_copies(parts, strict, allowed, problems)
    for split in ("val", "test"):
        before, after = (sum(len(p.paths) for p in of[split]) for of in (parts, clean))
        changed |= {split} if before != after else set()
        if before and not after:
            problems.note(
                "every test image stands in another split, so nothing is scored on them: give other images, or set "
                "dataset.allow_leaks=true to keep them"
            )
    at("the images of different splits are compared")
    note_near_copies(clean, problems)
    note_versions(clean, problems)
    note_copies_within(clean, problems)
    return clean, changed


def split_train(
    parts: Sequence[Part], seed: int, problems: Problems, share: float = VAL_SHARE, by_folder: bool = False
) -> tuple[list[Part], list[Part]]:
    """The training sources parted by image or `by_folder`: (what is left to train on, what validates)."""
    paths = [path for part in parts for path in part.paths]
    digests = [look.digest for part in parts for look in part.looks]
    shown: list[set[str]] = [set() for _ in paths]
    start = 0
    for part in parts:
        names = [c["name"] for c in part.document.categories]
        plain = part.document.counts
        columns = zip(
            part.document.owner[plain].tolist(), part.document.category[plain].tolist(), strict=True
        )
        for image, category in columns:
            shown[start + image].add(names[category])
        start += len(part.paths)
    number = {name: n for n, name in enumerate(sorted(set().union(*shown)))}
    classes = [frozenset(number[name] for name in of_image) for of_image in shown]
    groups = groups_of(paths, digests, by_folder)
    held = held_out(classes, groups, seed, share)
    if not held.any():
        only = "there is only one" if len(paths) == 1 else f"all {len(paths)} are copies or versions of one"
        why = "all lie in one folder, or are copies" if by_folder and len(paths) > 1 else only
        problems.add(
            "split", f"no image can be held out for validation: {why}; give other images, or a val folder"
        )
    what = "those of a folder, " if by_folder else ""
    together = f", {what}copies and versions of a photo together ({len(set(groups))} groups)"
    text = f"no validation set: {held.sum()} of the {len(paths)} training images, drawn by train.seed"
    problems.note(f"{text}, are held out for it" + (together if len(set(groups)) < len(paths) else ""))
    ends = np.cumsum([len(part.paths) for part in parts])[:-1]
    masks = np.split(held, ends)
    train = [part.with_images(~mask) for part, mask in zip(parts, masks, strict=True)]
    return train, [part.with_images(mask) for part, mask in zip(parts, masks, strict=True)]


# ---- what is left -----------------------------------------------------------------------------------------------


def _check_what_is_left(parts: Parts, spec: Mapping[str, Any], problems: Problems) -> None:
    images = sum(len(part.paths) for part in parts["train"])
    leaves = ("dataset.batch_size", "train.num_gpus", "train.num_nodes")
    batch = int(np.prod([int(get(spec, name)) for name in leaves]))
    if images < batch:
        text = f"the training set has {number_of(images, 'image')}, fewer than the total batch of {batch}"
        each = images * int(get(spec, leaves[0])) // batch
        advice = f"; set dataset.batch_size={each}" if each else "; train on fewer GPUs"
        problems.add("batch", f"{text} (dataset.batch_size * GPUs){advice}")
    for split in SPLITS:
        if parts[split]:
            check_boxes(split, parts[split], spec, problems)
    note_pixels(parts, problems)


def check_boxes(split: str, parts: Sequence[Part], spec: Mapping[str, Any], problems: Problems) -> None:
    """Say where a split has no box to train on or to score, and where it has more than can be found."""
    documents = [part.document for part in parts]
    files = ", ".join(dict.fromkeys(d.where for d in documents))
    plain = sum(int(d.counts.sum()) for d in documents)
    crowds = sum(int(d.crowd.sum()) for d in documents)
    if not plain and any(len(d) for d in documents):
        why = f"all {crowds} are crowds (iscrowd 1); {NO_CROWDS}" if crowds else "none is left"
        purpose = "train on" if split == "train" else f"score the {split} images with"
        problems.add("nothing left", f"{files}: no box to {purpose}: {why}")
    limit = min(int(get(spec, "model.num_queries")), int(get(spec, "model.num_select")))
    most = [np.bincount(d.owner[d.counts], minlength=1) for d in documents]
    if over := sum(int((counts > limit).sum()) for counts in most):
        text = (
            f"{files}: {number_of(over, 'image')} {'has' if over == 1 else 'have'} more objects than the "
            f"{limit} that model.num_queries and num_select allow"
        )
        problems.note(f"{text} (the most: {max(int(np.max(c)) for c in most)}); the rest cannot be found")


def _note_unseen_classes(train: Sequence[Part], problems: Problems) -> None:
    counts = box_counts(train)
    names: dict[Any, str] = {}
    for part in train:
        names |= {c["id"]: c["name"] for c in part.document.categories}
    if unseen := [f"{i} ({names[i]})" for i in names if not counts[i]]:
        one = len(unseen) == 1
        problems.note(
            f"{'class' if one else number_of(len(unseen), 'class') + ':'} {listed(unseen)} "
            f"{'has' if one else 'have'} no box in "
            "the training set"
        )


# ---- what the engine is told ------------------------------------------------------------------------------------


def _written(parts: Parts, work_dir: Path) -> Sources:
    """Splits that are not as in their files as files of `work_dir`."""
    written: Sources = {split: [] for split in parts}
    for split in sorted(parts):
        for n, part in enumerate(parts[split]):
            path = work_dir / f"{split}_split_{n}.json"
            folder = stage(part.source["image_dir"])
            names = [
                str(p.relative_to(folder) if p.is_relative_to(folder) else p.resolve()) for p in part.paths
            ]
            replace(part.document, file_names=names).write(path)
            if len(part.paths):
                written[split].append({"image_dir": part.source["image_dir"], "json_file": str(path)})
    return written


def _fill(sources: Sources, parts: Parts, table: Table) -> dict[str, Any]:
    ids = list(table.names)
    fill: dict[str, Any] = {
        "dataset.train_data_sources": [_absolute(s) for s in sources["train"]],
        "dataset.val_data_sources": [_absolute(s) for s in sources["val"]],
        "dataset.num_classes": max(c["id"] for c in table.classes()) + 1,
        "dataset.eval_class_ids": sorted(ids) if all(map(_fits_a_spec, ids)) else None,
    }
    none = {"image_dir": "", "json_file": ""} if parts["test"] else {}  # none is left
    test = _absolute(sources["test"][0]) if sources["test"] else none
    return fill | {f"dataset.test_data_sources.{key}": value for key, value in test.items()}


def _fits_a_spec(category_id: Any) -> bool:
    """Whether a spec can name a category: by a whole number of 64 bits with a sign, no text and no larger hash."""
    return type(category_id) is int and -(1 << 63) <= category_id < 1 << 63


def _absolute(source: Mapping[str, str]) -> dict[str, str]:
    return {
        key: str(Path(value).resolve()) if value and not is_url(value) else value
        for key, value in source.items()
    }

"""Images that are there twice, in two splits or one: exact copies by their pixels, near copies by their likeness,
versions by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from model.data.coco import Part
from model.data.facts import box_counts
from model.data.problems import Problems, listed
from model.data.splits import photo

ORDER = ("train", "val", "test")
NAMES = {"train": "training", "val": "validation", "test": "test"}
ALIKE_BITS = 8  # of 128: another size, another compression; other frames differ by more
PLAIN_BITS = 6  # an image whose likeness has fewer set or unset bits is too plain to tell
AT_ONCE = 1 << 22


def without_validation(
    parts: Mapping[str, list[Part]], problems: Problems
) -> tuple[dict[str, list[Part]], set[str]]:
    """(the splits, those that changed) where every validation image is a training image, as in a data.yaml that names
    one folder twice: they are taken out of the training set, or, where too little would be left, nothing validates.
    With other boxes than in the training set they are a problem: one of the two is not meant."""
    wanted, there = ({look.digest for part in parts[s] for look in part.looks} for s in ("val", "train"))
    if not wanted or not wanted <= there:
        return dict(parts), set()
    count, of = (sum(len(part.paths) for part in parts[s]) for s in ("val", "train"))
    every = f"every validation image ({count}) is one of the {of} training images"
    of_val, of_train = (_labels(parts[split], wanted) for split in ("val", "train"))
    if unlike := sum(of_train[digest] != boxes for digest, boxes in of_val.items()):
        problems.add(
            "leak",
            f"{every}, but {unlike} with other boxes or classes: give each split the images of its own labels, or one "
            "of the two alone, of which a part then validates",
        )
        return dict(parts), set()
    kept = "dataset.allow_leaks=true keeps them in both"
    left = [p.with_images(np.array([look.digest not in wanted for look in p.looks])) for p in parts["train"]]
    if 2 * len(wanted) > len(there) or len(+box_counts(left)) < len(+box_counts(parts["train"])):
        problems.note(f"{every}: they do not validate; {kept}")
        return dict(parts) | {"val": []}, {"val"}
    problems.note(f"{every}: they are left out of the training set, and validate; {kept}")
    return dict(parts) | {"train": left}, {"train"}


def _labels(parts: Sequence[Part], wanted: Set[str]) -> dict[str, list[Any]]:
    """{digest of an image, of those `wanted`: its boxes and classes, in no order}."""
    looks = ((part, n, look.digest) for part in parts for n, look in enumerate(part.looks))
    return {digest: _boxes(part, n) for part, n, digest in looks if digest in wanted}


def leave_out_copies(
    parts: Mapping[str, list[Part]], strict: bool, allowed: bool, problems: Problems
) -> dict[str, list[Part]]:
    """The splits without validation images that are training images, and test images that are either; each counted
    and named. With `allowed` they stay; with `strict` they are a problem."""
    seen: dict[str, tuple[str, str]] = {}
    found: dict[str, list[Part]] = {}
    for split in ORDER:
        copies = {}
        found[split] = []
        for part in parts.get(split, []):
            keep = np.ones(len(part.paths), bool)
            for n, look in enumerate(part.looks):
                if look.digest in seen:
                    copies[str(part.paths[n])] = seen[look.digest]
                    keep[n] = False
            found[split].append(part if allowed or strict else part.with_images(keep))
        _say(split, copies, strict, allowed, problems)
        for part in found[split]:
            for path, look in zip(part.paths, part.looks, strict=True):
                seen.setdefault(look.digest, (split, str(path)))
    return found


def _say(
    split: str, copies: Mapping[str, tuple[str, str]], strict: bool, allowed: bool, problems: Problems
) -> None:
    if not copies:
        return
    named = listed(
        [f"{path} is also {NAMES[other]} image {twin}" for path, (other, twin) in copies.items()], 3
    )
    count = f"{len(copies)} {NAMES[split]} image{'s' if len(copies) > 1 else ''}"
    if strict:
        problems.add("leak", f"{count} stand in another split, which dataset.strict refuses: {named}")
    elif allowed:
        problems.note(f"{count} stand in another split and are kept (dataset.allow_leaks): {named}")
    else:
        problems.note(f"{count} left out, because they stand in another split: {named}")


def note_near_copies(parts: Mapping[str, Sequence[Part]], problems: Problems) -> None:
    """Say how many images of a later split look like one of an earlier split: resized, compressed anew, the next
    frame. They stay."""
    for n, split in enumerate(ORDER[1:], 1):
        for other in ORDER[:n]:
            here, there = _likenesses(parts.get(split, [])), _likenesses(parts.get(other, []))
            if pairs := _alike(here[1], there[1]):
                a, b = pairs[0]
                look = "image looks" if len(pairs) == 1 else "images look"
                text = f"like {NAMES[other]} images (the first: {here[0][a]}, {there[0][b]})"
                problems.note(
                    f"{len(pairs)} {NAMES[split]} {look} {text}; scores on them say little. They stay"
                )


def note_copies_within(parts: Mapping[str, Sequence[Part]], problems: Problems) -> None:
    """Say how many images of a split are exact copies of another one of it, and how many of these differ in their
    boxes. They stay."""
    for split in ORDER:
        seen: dict[str, tuple[Path, Part, int]] = {}
        copies, differ = [], []
        for part in parts.get(split, []):
            for n, (path, look) in enumerate(zip(part.paths, part.looks, strict=True)):
                if look.digest and look.digest not in seen:
                    seen[look.digest] = (path, part, n)
                elif look.digest:
                    twin, first, m = seen[look.digest]
                    copies.append(f"{path} of {twin}")
                    differ += copies[-1:] if _boxes(first, m) != _boxes(part, n) else []
        if copies:
            text = f"{len(copies)} {NAMES[split]} images are exact copies of another one"
            unlike = f"; {len(differ)} of them with other boxes or classes" if differ else ""
            problems.note(f"{text}{unlike} (the first: {(differ or copies)[0]}). They stay")


def _boxes(part: Part, n: int) -> list[Any]:
    """Image n's boxes to a pixel with their classes, in no order."""
    document = part.document
    start, end = np.searchsorted(document.owner, [n, n + 1]).tolist()
    names = [document.categories[c]["name"] for c in document.category[start:end].tolist()]
    return sorted(zip(names, document.boxes_xywh_px[start:end].round().tolist(), strict=True))


def note_versions(parts: Mapping[str, Sequence[Part]], problems: Problems) -> None:
    """Say how many images of a later split are versions of a photo, by Roboflow's names, of an earlier one. They
    stay."""
    photos = {split: _photos(parts.get(split, [])) for split in ORDER}
    for n, split in enumerate(ORDER[1:], 1):
        for other in ORDER[:n]:
            if shared := [name for name in photos[split] if name in photos[other]]:
                count = sum(len(photos[split][name]) for name in shared)
                first = f"the first: {photos[split][shared[0]][0]}, {photos[other][shared[0]][0]}"
                text = f"{count} {NAMES[split]} images are versions (.rf.) of {len(shared)} {NAMES[other]} photos"
                problems.note(f"{text} ({first}); scores on them say little. They stay")


def _photos(parts: Sequence[Part]) -> dict[str, list[Path]]:
    """{photo: its versions}."""
    found: dict[str, list[Path]] = {}
    for path in (path for part in parts for path in part.paths):
        if name := photo(path):
            found.setdefault(name, []).append(path)
    return found


def _likenesses(parts: Sequence[Part]) -> tuple[list[str], np.ndarray]:
    """(paths, [N, 2] uint64) of the images that are not too plain."""
    paths, bits = [], []
    for part in parts:
        for path, look in zip(part.paths, part.looks, strict=True):
            value = int(look.likeness or "0", 16)
            if PLAIN_BITS <= value.bit_count() <= 128 - PLAIN_BITS:
                paths.append(str(path))
                bits.append((value >> 64, value & (1 << 64) - 1))
    return paths, np.array(bits, dtype=np.uint64).reshape(-1, 2)


def _alike(here: np.ndarray, there: np.ndarray) -> list[tuple[int, int]]:
    """(row of `here`, a row of `there` that differs in few bits) of every row [2] of uint64 that has one.

    Rows that differ in at most ALIKE_BITS of their bits have one of ALIKE_BITS + 1 pieces in common, so only those of
    `there` with a piece in common are compared; all with all is quadratic.
    """
    if not len(here) or not len(there):
        return []
    found = np.full(len(here), -1)
    for mine, theirs in zip(_pieces(here), _pieces(there), strict=True):
        order = np.argsort(theirs, kind="stable")
        rows = np.flatnonzero(found < 0)
        start, end = (np.searchsorted(theirs[order], mine[rows], side) for side in ("left", "right"))
        while len(rows := rows[more := start < end]):
            start, end = start[more], end[more]
            width = min(int((end - start).max()), max(1, AT_ONCE // len(rows)))
            candidates = start[:, None] + np.arange(width)
            other = order[np.minimum(candidates, len(order) - 1)]
            apart = np.bitwise_count(here[rows, None] ^ there[other]).sum(axis=2)
            close = (apart <= ALIKE_BITS) & (candidates < end[:, None])
            hit = close.any(axis=1)
            found[rows[hit]] = other[hit, close[hit].argmax(axis=1)]
            rows, start, end = rows[~hit], start[~hit] + width, end[~hit]
    return [(int(row), int(found[row])) for row in np.flatnonzero(found >= 0)]


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The bits of each row [2] in ALIKE_BITS + 1 numbers; each has bits from all over: neighbours are often equal."""
    bits = np.unpackbits(np.ascontiguousarray(rows).view(np.uint8), axis=1)
    for start in range(ALIKE_BITS + 1):
        piece = bits[:, start :: ALIKE_BITS + 1]
        yield piece @ (1 << np.arange(piece.shape[1]))

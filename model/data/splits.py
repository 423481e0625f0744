"""The engine's own validation set: a seeded share of the training images, fair by class and without copies across."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from model.parameters import VAL_SHARE

VERSION = re.compile(r"\.rf\.[0-9a-zA-Z]+$")  # Roboflow's augmented versions of one photo: name.rf.HASH.jpg


def held_out(
    classes: Sequence[frozenset[int]], groups: Sequence[Hashable], seed: int, share: float = VAL_SHARE
) -> np.ndarray:
    """[N] bool: which images validate. Those of one group stay together; each class gives about `share` of the groups
    that show it, and keeps one at least to be trained on; images without objects share out what is left. Where two
    groups show something, one of them validates.

    classes: of each image, the classes it shows. groups: [N], equal where images must not be parted.
    """
    names = list(dict.fromkeys(groups))
    number = {name: n for n, name in enumerate(names)}
    group_of = np.array([number[name] for name in groups], dtype=np.int64)
    sizes = np.bincount(group_of, minlength=len(names))
    shown: dict[int, set[int]] = defaultdict(set)  # class -> groups
    for group, of_image in zip(group_of.tolist(), classes, strict=True):
        for c in of_image:
            shown[c].add(group)
    order = np.random.default_rng(seed).permutation(len(names))
    return _drawn(order, sizes, shown, share)[group_of]


def _drawn(order: np.ndarray, sizes: np.ndarray, shown: dict[int, set[int]], share: float) -> np.ndarray:
    """[G] bool. The rarest class first: what a common one lacks then, many groups can give."""
    room = max(1, round(share * int(sizes.sum())))
    rank = np.argsort(order)
    state = np.full(len(sizes), -1)  # 1: validates, 0: trains, -1: open
    for c in sorted(shown, key=lambda c: (len(shown[c]), c)):
        groups = sorted(shown[c], key=lambda g: rank[g])
        wanted = min(round(share * len(groups)), len(groups) - 1) - sum(state[g] == 1 for g in groups)
        for g in groups:
            if state[g] == -1:
                fits = wanted > 0 and sizes[g] <= room
                state[g] = fits
                room, wanted = (room - sizes[g], wanted - 1) if fits else (room, wanted)
    trained = {c: sum(state[g] != 1 for g in of_class) for c, of_class in shown.items()}
    of_group: dict[int, list[int]] = defaultdict(list)
    for c, of_class in shown.items():
        for g in of_class:
            of_group[g].append(c)
    if not (state == 1).any() and 1 < len(of_group) < len(
        sizes
    ):  # else images without objects alone might validate
        lost = {g: sum(trained[c] < 2 for c in of_class) for g, of_class in of_group.items()}
        g = min(lost, key=lambda g: (lost[g], max(sizes[g] - room, 0), rank[g]))
        state[g], room = 1, room - sizes[g]
        for c in of_group[g]:
            trained[c] -= 1
    for g in sorted(order.tolist(), key=lambda g: state[g] == 0):  # what is left: open ones first
        last = (state == 1).sum() == len(sizes) - 1
        if state[g] != 1 and not last and sizes[g] <= room and all(trained[c] > 1 for c in of_group[g]):
            state[g], room = 1, room - sizes[g]
            for c in of_group[g]:
                trained[c] -= 1
    if not (state == 1).any() and len(sizes) > 1:  # all groups are larger than the share
        state[min(order.tolist(), key=lambda g: sizes[g])] = 1
    return state == 1


def photo(path: Path) -> str:
    """The name that Roboflow's versions of one photo share, "" where the file is none of them."""
    stem = VERSION.sub("", path.stem)
    return stem if stem != path.stem else ""


def groups_of(paths: Sequence[Path], digests: Sequence[str], by_folder: bool = False) -> list[int]:
    """[N] numbers, equal for images of the same content, for versions of one photo and, `by_folder`, for those of one
    folder, chains of these included."""
    above = list(range(len(paths)))

    def top(n: int) -> int:
        while above[n] != n:
            above[n] = above[above[n]]
            n = above[n]
        return n

    first: dict[tuple[str, str], int] = {}
    for n, (path, digest) in enumerate(zip(paths, digests, strict=True)):
        keys = [("content", digest)] if digest else []
        keys += [("photo", name)] if (name := photo(path)) else []
        keys += [("folder", str(path.parent))] if by_folder else []
        for key in keys:
            above[top(n)] = top(first.setdefault(key, n))
    return [top(n) for n in range(len(paths))]

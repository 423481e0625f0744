"""Images that are there and cannot be read: a few of a file are left out, by name, as other tools do; many say that
something else is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.data.document import Document
from model.data.images import how_to_convert
from model.data.looks import UNREADABLE, Look
from model.data.mending import Rules
from model.data.problems import Problems, listed
from model.errors import number_of


def readable(
    document: Document, paths: Sequence[Path], looks: Sequence[Look], rules: Rules, problems: Problems
) -> np.ndarray:
    """[N] bool, False for images to leave out: damaged ones, if they are no more than may be mended. Otherwise what to
    do about them is said in `problems`, and all are True."""
    pairs = list(zip(paths, looks, strict=True))
    good = np.array([not _is_broken(path, look) for path, look in pairs], bool)
    count, share = int((~good).sum()), rules.mended_share
    if not count:
        return good
    names = [look.problem for _, look in pairs if UNREADABLE in look.problem]
    few = count <= max(1, share * len(pairs)) and (count > 1 or share > 0) and good.any()
    if few and not rules.strict:
        problems.note(
            f"{document.where}: {number_of(count, 'image')} left out with what is drawn in it: {listed(names)}"
        )
        return good
    needed = min(100, -(-100 * count // len(pairs)))
    way_out = f", or set dataset.mended_share={needed / 100:g} to leave them out" if good.any() else ""
    why = "dataset.strict leaves none out" if rules.strict else f"more than dataset.mended_share {share:g}"
    advice = f"{why}: bring them back whole, or take them away with their labels"
    problems.add(
        "unreadable",
        f"{document.where}: {count} of {number_of(len(pairs), 'image')} cannot be read, "
        f"{advice}{'' if rules.strict else way_out}",
    )
    return np.ones(len(pairs), bool)


def _is_broken(path: Path, look: Look) -> bool:
    """Whether a file's content is damaged: not one that is missing or barred, nor of a format to be converted."""
    if UNREADABLE not in look.problem or "[Errno" in look.problem or how_to_convert(path):
        return False
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False

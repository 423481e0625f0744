"""What a person should know of the pixels of their images: dim, flat, of unlike scales, no numbers, turned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.data.coco import Part
from model.data.images import DIM
from model.data.looks import Look
from model.data.problems import Problems
from model.errors import number_of


def note_pixels(parts: Mapping[str, Sequence[Part]], problems: Problems) -> None:
    """Notes on the images of all splits."""
    for split, each in parts.items():
        _note_dim_images(split, each, problems)
    looks = {
        path: look
        for each in parts.values()
        for part in each
        for path, look in zip(part.paths, part.looks, strict=True)
    }
    _note_flat_images(looks, problems)
    _note_scales(looks, problems)
    _note_gaps(looks, problems)
    _note_orientations(looks, problems)


def _note_dim_images(split: str, parts: Sequence[Part], problems: Problems) -> None:
    deep = [look.brightest for part in parts for look in part.looks if look.brightest]
    if deep and max(deep) < DIM:
        one = len(deep) == 1
        problems.note(
            f"{number_of(len(deep), f'{split} image')} of more than 8 bits {'uses' if one else 'use'} at most "
            f"{max(deep):.1%} of {'its' if one else 'their'} range and {'looks' if one else 'look'} almost "
            "black; scale "
            f"{'it' if one else 'them'} to the full range"
        )


def _note_flat_images(looks: Mapping[Path, Look], problems: Problems) -> None:
    if found := [path for path, look in looks.items() if look.flat]:
        one = len(found) == 1
        problems.note(
            f"{number_of(len(found), 'image')} of more than 8 bits {'is' if one else 'are'} read as black or of "
            f"one shade (the first: {found[0]}); scale their values to the full range"
        )


def _note_scales(looks: Mapping[Path, Look], problems: Problems) -> None:
    """Where the pixel type does not tell white and the images' values tell several: the same thing may look black in
    one image and white in the next."""
    whites = Counter(look.guessed_white for look in looks.values() if look.guessed_white)
    if len(whites) > 1:
        said = ", ".join(f"{count} with white at {white:g}" for white, count in whites.most_common(3))
        more = f" and {len(whites) - 3} other values" if len(whites) > 3 else ""
        problems.note(
            f"{whites.total()} images of floats or 32-bit integers are read by unlike scales, {said}{more}, as their "
            "brightest pixels tell; save them in 8 or 16 bits, all by one scale"
        )


def _note_gaps(looks: Mapping[Path, Look], problems: Problems) -> None:
    """Pixels of floats that are no numbers."""
    if found := [(path, look) for path, look in looks.items() if look.gaps]:
        path, look = found[0]
        first = f"the first: {path}, {look.gaps} of {look.stored[0] * look.stored[1]} pixels"
        problems.note(
            f"{number_of(len(found), 'image')} {'holds' if len(found) == 1 else 'hold'} NaN or infinite pixels, "
            f"read as black and white ({first})"
        )


def _note_orientations(looks: Mapping[Path, Look], problems: Problems) -> None:
    """Turned by EXIF without another size: nothing tells whether the boxes are those of the upright image."""
    if found := [
        (path, look) for path, look in looks.items() if look.orientation > 1 and look.size == look.stored
    ]:
        path, look = found[0]
        problems.note(
            f"{number_of(len(found), 'image')} of an EXIF orientation that leaves the size as it is (the "
            f"first: {path}, orientation {look.orientation}); boxes are taken as those of the upright image, as "
            "viewers show it"
        )

"""Annotations that say a photo's size as it is stored, with boxes drawn on the upright picture that EXIF makes of it,
which browsers show: so Label Studio exports COCO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.data.document import Document
from model.data.looks import Look

AS_STORED = (
    "image sizes swapped, which were those before the turn by the EXIF orientation: boxes reach beyond them, and lie "
    "within the upright images"
)
RESCALED = (
    "boxes of polygons scaled from the size before the turn by the EXIF orientation, by which Label Studio's converter "
    "wrote them, to the upright images, on which its rectangles lie; their masks stay as they were"
)
OVER = 0.01  # of a side: what is that far beyond a border was not drawn in this image
FAR, SHARE = 0.1, 0.1  # of a side beyond the border, and of the images in which a box is: no slip of a hand
SLACK_PX = 1.0  # rounding


def upright(document: Document, looks: Sequence[Look]) -> Document:
    """The sizes of turned images as they are upright, where their boxes, together, tell that they lie on these: in
    a share of the images some reach far beyond the stored size, as no slip does, and none beyond the upright one.

    Label Studio's converter (convert_to_coco) scales what was drawn, in percent of the picture as it is shown, by that
    picture's size for a rectangle and by the stored size, which it gives the image, for a polygon. So polygons lie
    within the stored size wherever they were drawn: rectangles alone tell, and polygons are scaled to what they tell.
    """
    turned = np.array([_is_said_as_stored(document, n, look) for n, look in enumerate(looks)], bool)
    of_turned = turned[document.owner] & ~document.outlined
    far = of_turned & _beyond(document, FAR)
    voting, labelled = (len(np.unique(document.owner[which])) for which in (far, of_turned))
    if not voting or voting < SHARE * labelled or _reach(document, of_turned)[1]:
        return document
    sizes, boxes = document.sizes.copy(), document.boxes_xywh_px.copy()
    sizes[turned] = sizes[turned][:, ::-1]
    scaled = turned[document.owner] & document.outlined
    factors = (sizes / np.maximum(1, document.sizes))[document.owner[scaled], ::-1]  # of x, of y; areas stay
    boxes[scaled] *= np.tile(factors, 2)
    found = replace(document, sizes=sizes, boxes_xywh_px=boxes).counted(AS_STORED, turned.sum())
    return found.counted(RESCALED, scaled.sum())


def advice(document: Document, n: int) -> str:
    """What to do about turned image n, whose size the annotations say as it is stored."""
    if document.outlined.any():
        return (
            "Label Studio scales polygons by this size, and rectangles by that of the picture as it shows it: export "
            "YOLO there, which has no sizes"
        )
    stored, up = _reach(document, document.owner == n)
    on_pixels = "drop the EXIF from the file, without turning its pixels"
    if up and not stored:
        return f"boxes reach beyond the upright image: if they are drawn on the stored pixels, {on_pixels}"
    return (
        "if the boxes are drawn on the upright image, as Label Studio shows it, swap width and height in the "
        f"annotations, or export YOLO there, which has no sizes; if on the stored pixels, {on_pixels}"
    )


def size_hint(document: Document, n: int, look: Look) -> str:
    """What to do about an image whose sides are those that the annotations say, exchanged; "" for another."""
    if document.sizes[n].tolist() != list(look.size):
        return ""
    return "; if it was turned, and the boxes lie on it as it is, swap width and height in the annotations"


def _is_said_as_stored(document: Document, n: int, look: Look) -> bool:
    return look.turned and look.stored != look.size and document.sizes[n].tolist() == list(look.stored[::-1])


def _beyond(document: Document, over: float) -> np.ndarray:
    """[T] whether a box reaches so far, in sides, beyond the size that its file says."""
    ends = document.boxes_xywh_px[:, :2] + document.boxes_xywh_px[:, 2:]
    said = document.sizes[document.owner][:, ::-1]
    return (ends > said * (1 + over) + SLACK_PX).any(axis=1)


def _reach(document: Document, which: np.ndarray) -> tuple[bool, bool]:
    """(whether any of `which` [T] boxes reaches clearly beyond the size that its file says; whether beyond the same
    with its sides exchanged)."""
    ends = (document.boxes_xywh_px[:, :2] + document.boxes_xywh_px[:, 2:])[which]
    high_wide = document.sizes[document.owner][which]
    return bool(_beyond(document, OVER)[which].any()), bool((ends > high_wide + SLACK_PX).any())

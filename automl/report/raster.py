"""The winner's pictures as images of pixels, for trackers that show no SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import run_outcome
from automl.comparison import OF_DEFAULT, document_of
from automl.errors import UserError
from automl.report.drawings import COLOURS, pictures_of
from automl.report.parts import MAX_PICTURE_BYTES, inside

if TYPE_CHECKING:
    from PIL import Image

MOST = 12  # pictures of a run
GAP, HEAD = 8, 16  # px between panels, over them


@dataclass(frozen=True)
class Picture:
    """`name` without an ending; sizes in pixels."""

    name: str
    png: bytes
    width: int
    height: int


def of_winner(root: Path) -> list[Picture]:
    """What the stages drew of a run's winner; none where they drew nothing that can be read."""
    try:
        stages = run_outcome.read(root).get("stages", ())
    except UserError:
        return []
    found: list[Picture] = []
    for stage in stages:
        document = {} if str(stage["name"]).endswith(OF_DEFAULT) else document_of(stage, root)
        for each, marks in pictures_of(document):
            try:
                drawn = draw(each, marks, (root / str(stage["report"])).parent)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError):
                continue  # of a document that is damaged
            found.append(_picture(f"{stage['name']}/{len(found) + 1:02d}", drawn))
    return found[:MOST]


def _picture(name: str, image: Image.Image) -> Picture:
    held = io.BytesIO()
    image.save(held, "PNG")
    return Picture(name, held.getvalue(), image.width, image.height)


def draw(each: Mapping[str, Any], marks: Sequence[Mapping[str, Any]], folder: Path) -> Image.Image:
    """An image of the folder with its rectangles, the panels side by side under their titles."""
    from PIL import Image, ImageDraw

    width, height = round(float(each["width"])), round(float(each["height"]))
    path = inside(folder, str(each.get("file", "")))
    panels = each["panels"]
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height + HEAD), "white")
    if width * height > MAX_PICTURE_BYTES * 4:
        raise ValueError(f"{width} x {height} pixels")
    for place, panel in enumerate(panels):
        left, pen = place * (width + GAP), ImageDraw.Draw(sheet)
        if path is not None:
            with Image.open(path) as image:
                sheet.paste(image.convert("RGB").resize((width, height)), (left, HEAD))
        pen.text((left + 2, 2), str(panel.get("title", "")), fill="black")
        for rect in panel.get("rects", ()):
            _mark(pen, rect, marks, left)
    return sheet


def _mark(pen: Any, rect: Mapping[str, Any], marks: Sequence[Mapping[str, Any]], left: int) -> None:
    at = int(rect.get("mark", -1))
    colour = colour_of(str(marks[at].get("colour"))) if 0 <= at < len(marks) else colour_of("blue")
    x, y, w, h = (float(rect[key]) for key in ("x", "y", "w", "h"))
    pen.rectangle((left + x, HEAD + y, left + x + w, HEAD + y + h), outline=colour, width=2)
    place = (left + x + 2, HEAD + max(y - 12, 0))
    pen.text(place, str(rect.get("text", "")), fill="white", stroke_fill=colour, stroke_width=2)


def colour_of(name: str) -> str:
    """A colour of the report's legends as #rrggbb."""
    found = re.search(rf"\.c-{re.escape(name)}{{stroke:(#\w+)}}", COLOURS)
    return found[1] if found else "#0b6bcb"

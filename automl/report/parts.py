"""The model's own documents as HTML: parts of a few kinds, of which the engine knows only the kind.

A part that is not what its kind asks for is left out with a line that says so: what a model wrote never breaks a report.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from automl.report import svg

MAX_PICTURE_BYTES = 1 << 20
KINDS_OF_FILE = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
STYLES = ("s1", "s2", "s3", "s4", "s5", "s6")
LONGEST_NAME = 60  # letters of a cell: what comes after it must be seen
MOST_BYTES = 1_400_000  # of all pictures of a page together: as text they take a third more


class Pictures:
    """The pictures of a page: each has a number, and those of a page that would be too large are made smaller."""

    def __init__(self, material: Sequence[tuple[Mapping[str, Any], Path]] = ()) -> None:
        self.numbers = itertools.count()
        files = {path for document, folder in material for path in _files(document, folder)}
        total = sum(path.stat().st_size for path in files)
        self.share = min(1.0, MOST_BYTES / max(1, total))

    def embedded(self, folder: Path, name: str) -> str:
        """As a data URI; "" for what `inside` does not give."""
        path = inside(folder, name)
        if path is None or self.share == 1.0:
            return embedded(folder, name)
        from PIL import Image, UnidentifiedImageError

        held = io.BytesIO()
        try:
            with Image.open(path) as image:
                side = self.share**0.6  # a smaller picture has more detail in each pixel
                image.thumbnail((max(1, int(side * image.width)), max(1, int(side * image.height))))
                image.convert("RGB").save(held, "JPEG", quality=75)
        except (OSError, UnidentifiedImageError, ValueError):
            return ""
        return _uri("jpeg", held.getvalue())


def _files(document: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    parts = document.get("parts")
    for part in parts if isinstance(parts, list) else ():
        shown = part.get("pictures") if isinstance(part, dict) else None
        for each in shown if isinstance(shown, list) else ():
            path = inside(folder, str(each.get("file", ""))) if isinstance(each, dict) else None
            if path is not None:
                yield path


def section(document: Mapping[str, Any], folder: Path, pictures: Pictures | None = None) -> str:
    """The parts of a document, whose pictures lie in `folder`."""
    pictures = pictures or Pictures([(document, folder)])
    parts = document.get("parts")
    return "".join(part(each, folder, pictures) for each in parts) if isinstance(parts, list) else ""


def links(document: Mapping[str, Any], folder: Path, root: Path) -> str:
    """The further files that a document names, as links from the run folder `root`; only those that lie in `folder`."""
    given, found = document.get("links"), []
    for each in given if isinstance(given, list) else ():
        path = (folder / str(each.get("file", ""))).resolve() if isinstance(each, dict) else folder
        if path.is_file() and path.is_relative_to(folder.resolve()):
            place = quote(path.relative_to(root.resolve()).as_posix())
            found.append(f'<a href="{place}">{escape(str(each.get("name", path.name)))}</a>')
    return f"<p class=dim>More: {', '.join(found)}.</p>" if found else ""


def part(each: Any, folder: Path, pictures: Pictures) -> str:
    kind = each.get("kind") if isinstance(each, dict) else None
    draw = DRAWERS.get(str(kind))
    if draw is None:
        return f"<p class=dim>A part of the kind {escape(str(kind))} is not known to this version.</p>"
    try:
        body = draw(each, folder, pictures)
        title, note = escape(str(each.get("title", ""))), escape(str(each.get("note") or ""))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return f"<p class=dim>Left out, as it is damaged: {escape(str(each.get('title', kind)))} ({escape(str(error))})</p>"
    size = "whole" if kind in ("pictures", "table") else "half"
    return f"<section class='part {size}'><h3>{title}</h3>{body}" + (
        f"<p class=dim>{note}</p></section>" if note else "</section>"
    )


def table(columns: Any, rows: Any) -> str:
    """A table that sorts by a click on a column's head, and scrolls by itself where it is wide."""
    rows = [list(row) for row in rows]
    forms = [form(column) for column in itertools.zip_longest(*rows)]
    right = [" class=n" if places is not None else "" for _, places in forms]
    heads = itertools.zip_longest(columns, right[: len(columns)], fillvalue="")
    head = "".join(f"<th{side}><button type=button>{escape(str(name))}</button></th>" for name, side in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row, forms))}</tr>" for row in rows)
    return f"<div class=scroll><table class='sortable'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def form(column: Sequence[Any]) -> tuple[int, int | None]:
    """(digits, digits after the point) that all numbers of a column are told with; None where it has something else."""
    known = [value for value in column if value is not None]
    digits = svg.digits(known)
    if not known or any(isinstance(v, bool) or not isinstance(v, int | float) for v in known):
        return digits, None
    told = [svg.number(v, digits) for v in known if isinstance(v, float)]
    return digits, max((len(text.partition(".")[2]) for text in told if "e" not in text), default=0)


def _cell(value: Any, form: tuple[int, int | None]) -> str:
    digits, places = form
    side = "" if places is None else " class=n"
    if value is None:
        return f"<td{side or ' class=dim'} data-v=''>–</td>"
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = svg.number(value, digits)
        if places is not None and isinstance(value, float) and "e" not in text:
            text = f"{value:.{places}f}"
        return f"<td class=n data-v='{value!r}'>{text}</td>"
    text = str(value)
    title = f" title='{escape(text)}'" if len(text) > LONGEST_NAME else ""
    return f"<td dir=auto{title}>{escape(svg.shortened(text, LONGEST_NAME))}</td>"


def _table(each: Mapping[str, Any], folder: Path, pictures: Pictures) -> str:
    return table(each["columns"], each["rows"])


def _list(each: Mapping[str, Any], folder: Path, pictures: Pictures) -> str:
    return f"<ul>{''.join(f'<li dir=auto>{escape(str(item))}</li>' for item in each['items'])}</ul>"


def _bars(each: Mapping[str, Any], folder: Path, pictures: Pictures) -> str:
    return svg.bars([(str(name), value) for name, value in each["rows"]])


def _lines(each: Mapping[str, Any], folder: Path, pictures: Pictures) -> str:
    drawn = [
        svg.Line(str(s["name"]), list(zip(s["x"], s["y"], strict=True)), f"line {STYLES[n % len(STYLES)]}")
        for n, s in enumerate(each["series"])
    ]
    xs, ys = ([p[k] for line in drawn for p in line.points] for k in (0, 1))
    bounds = each.get("range")
    x = svg.Axis(str(each.get("x", "")), xs)
    y = svg.Axis(str(each.get("y", "")), ys, (bounds[0], bounds[1]) if bounds else None)
    marks = [(float(m["x"]), str(m["name"])) for m in each.get("marks", ())]
    return svg.lines(x, y, drawn, marks=marks) + legend([(line.name, line.style) for line in drawn])


def legend(rows: list[tuple[str, str]]) -> str:
    """Names beside a stroke in their style."""
    items = "".join(
        f'<li><svg viewBox="0 0 26 10" class=key><path class="{style}" d="M1 5H25"/></svg>{escape(name)}</li>'
        for name, style in rows
    )
    return f"<ul class=legend>{items}</ul>"


def _matrix(each: Mapping[str, Any], folder: Path, pictures: Pictures) -> str:
    drawn = svg.matrix(
        list(map(str, each["rows"])), list(map(str, each["columns"])), each["values"], str(each.get("row_title", "")),
        str(each.get("column_title", "")),
    )  # fmt: skip
    words = f"{escape(str(each.get('row_title', '')))} ↓ &nbsp; {escape(str(each.get('column_title', '')))} →"
    return f"<p class=dim>{words}</p>{drawn}"


def _pictures(each: Mapping[str, Any], folder: Path, pictures: Pictures) -> str:
    marks = each.get("marks") or each.get("legend") or []
    rows = [
        (str(mark["name"]), f"c-{mark['colour']}" + (" dashed" if mark.get("dashed") else ""))
        for mark in each.get("legend", ())
    ]
    figures = "".join(_figure(picture, folder, marks, pictures) for picture in each["pictures"])
    told = (
        "<p class='dim noprint'>Click a picture to enlarge it; point at a box for its class.</p>"
        if figures
        else ""
    )
    return (legend(rows) if rows else "") + f"{told}<div class=pictures>{figures}</div>"


def _figure(picture: Mapping[str, Any], folder: Path, marks: Any, pictures: Pictures) -> str:
    uri, number = pictures.embedded(folder, str(picture.get("file") or "")), next(pictures.numbers)
    drawn = svg.picture(
        uri, float(picture["width"]), float(picture["height"]), picture["panels"], marks, number
    )
    return f"<figure><div class='panels p{len(picture['panels'])}'>{drawn}</div><figcaption>{escape(str(picture.get('caption', '')))}</figcaption></figure>"


def embedded(folder: Path, name: str) -> str:
    """A picture of the folder as a data URI; "" for what `inside` does not give."""
    path = inside(folder, name)
    if path is None:
        return ""
    return _uri(KINDS_OF_FILE[path.suffix.lower()], path.read_bytes())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def inside(folder: Path, name: str) -> Path | None:
    """A picture's file; None for one that is not there, lies elsewhere than in the folder or is too large."""
    path = (folder / name).resolve()
    if path.suffix.lower() not in KINDS_OF_FILE or not path.is_relative_to(folder.resolve()):
        return None
    return path if path.is_file() and path.stat().st_size <= MAX_PICTURE_BYTES else None


DRAWERS: dict[str, Callable[[Mapping[str, Any], Path, Pictures], str]] = {
    "table": _table, "list": _list, "bars": _bars, "lines": _lines, "matrix": _matrix, "pictures": _pictures,
}  # fmt: skip

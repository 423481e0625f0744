"""What an XML file of Pascal VOC holds: its objects and their boxes, whatever the case and the namespace of its names.

An object stands right in <annotation>, or in <objects> there. A file that shows a box anywhere else is refused: its
image would be taken as without objects, or with fewer.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from pathlib import Path

from model.data.voc_images import DECLARED, HEAD

HEADER = re.compile(r"^\ufeff?\s*<\?xml[^>]*\?>")
WIDER = {"gbk": "gb18030", "gb2312": "gb18030"}  # these hold all of their characters and more
CORNERS = ("xmin", "ymin", "xmax", "ymax")
UNREAD = {  # how an object may show where it is instead -> what that is
    "robndbox": "a turned box",
    "polygon": "an outline",
    "points": "an outline",
}
SHOWN = ("bndbox", *UNREAD, "xmin")
NAMELESS = "it has no <name>; name its class, or take the object out of the file"


def read(path: Path) -> ET.Element:
    """The root of an XML file, names in lower case and without a namespace. Raises `ValueError` for what is none."""
    text = _decoded(path.read_bytes())
    if not text.strip():
        raise ValueError(" is empty; bring its content back, or delete it if its image has no objects")
    if "<!ENTITY" in text or ("<!DOCTYPE" in text and not re.search(r"<!DOCTYPE\s+annotation\s*>", text)):
        raise ValueError(" labels need no document type, and one can do harm")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f" not valid XML ({error})") from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2].casefold()
    return root


def _decoded(data: bytes) -> str:
    """The text of an XML file, without its first line's encoding, in which it is read. Raises `ValueError` where it is
    in another one."""
    declared = match[1].decode() if (match := DECLARED.search(data[:HEAD])) else "utf-8"
    codec = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else WIDER.get(declared.lower(), declared)
    try:
        text = data.decode("utf-8-sig" if codec.lower() in ("utf-8", "utf8") else codec)
    except (LookupError, UnicodeError) as error:
        what = f"must be text in {declared}" + (", as it says itself" if match else "")
        raise ValueError(f" {what}; save it in UTF-8 ({error})") from None
    return HEADER.sub("", text, count=1)


def objects_of(root: ET.Element) -> list[ET.Element]:
    """The objects of a file. Raises `ValueError` where a box stands in none of them."""
    objects = [*root.findall("object"), *root.findall("objects/object")]
    if lost := list(_outside(root, set(objects), False)):
        raise ValueError(
            f" each box must stand in an <object> right in <annotation>, or in <objects> there, but {len(lost)} stand "
            f"elsewhere, such as a <{lost[0]}>; write the objects there, or take out what is no label"
        )
    return objects


def _outside(node: ET.Element, objects: Collection[ET.Element], within: bool) -> Iterator[str]:
    """The names of the boxes below a node, itself `within` one of the objects or not, that are of none of them. Parts
    of an object have boxes of their own."""
    for child in node:
        inside = child in objects if child.tag == "object" else within
        if child.tag in SHOWN and not inside:
            yield child.tag
        elif child.tag != "part":
            yield from _outside(child, objects, inside)


def is_empty(node: ET.Element) -> bool:
    """Whether nothing is said of an object, as in the <object/> of an image without any."""
    return not any(part.attrib for part in node.iter()) and not "".join(node.itertext()).strip()


def corners_of(node: ET.Element) -> tuple[float, float, float, float]:
    """(xmin, ymin, xmax, ymax) of an object, px. Raises `ValueError`."""
    boxes = node.findall("bndbox")
    if len(boxes) != 1:
        other = next((tag for tag in UNREAD if not boxes and node.find(tag) is not None), "")
        what = (
            f"; <{other}>, {UNREAD[other]}, is not read: write the upright box around it as <bndbox>"
            if other
            else ""
        )
        raise ValueError(f"an object must have one bndbox, but has {len(boxes) or 'none'}{what}")
    left, top, right, bottom = corners = [_number(boxes[0], corner) for corner in CORNERS]
    if not all(map(math.isfinite, corners)) or (
        min(corners) < 0 and (right < left or bottom < top)  # too much is wrong for a swap
    ):
        texts = " ".join((boxes[0].findtext(corner) or "").strip() for corner in CORNERS)
        raise ValueError(f"xmin <= xmax and ymin <= ymax must hold, but got {texts}")
    return left, top, right, bottom


def _number(box: ET.Element, corner: str) -> float:
    text = (box.findtext(corner) or "").strip()
    try:
        return float(text)
    except ValueError:
        pass
    if text:
        raise ValueError(f"{corner} must be a number of px, but got '{text}'")
    has = ", ".join(f"<{child.tag}>" for child in box) or "nothing"
    raise ValueError(f"a bndbox must have <{'>, <'.join(CORNERS)}>, each with a number of px, but got {has}")

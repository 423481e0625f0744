"""What an XML file of Pascal VOC shows is read, or refused: never taken for an image without objects unsaid."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from model.data.layouts import in_place
from model.errors import UserError
from tests.model.data.drawn import put, seen

pytestmark = pytest.mark.usefixtures("cache")

BOX = "<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>24</xmax><ymax>35</ymax></bndbox>"
OBJECT = f"<object><name>cat</name>{BOX}</object>"
CAT = ("cat", 4, 5, 20, 30)


def written(root: Path, *texts: str, head: str = "<filename>{n}.png</filename>") -> Path:
    """A picture for each text of objects."""
    for n, text in enumerate(texts):
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (n * 9, 7, 7)).save(root / f"images/{n}.png")
        whole = (
            text if text.startswith(("<?", "<annotation", "<v:")) else f"<annotation>{head.format(n=n)}{text}"
        )
        put(root / f"annotations/{n}.xml", whole + ("" if whole is text else "</annotation>"))
    return root


def upper(text: str) -> str:
    return re.sub(r"<(/?)(\w+)>", lambda tag: f"<{tag[1]}{tag[2].title()}>", text)


def prefixed(text: str) -> str:
    inner = re.sub(r"<(/?)(\w+)>", r"<\1v:\2>", text)
    return f'<v:annotation xmlns:v="http://x">{inner}</v:annotation>'


WRITTEN: dict[str, Callable[[str], str]] = {
    "one level deeper": lambda text: f"<objects>{text}</objects>",
    "another case": upper,
    "a namespace": lambda text: f'<annotation xmlns="http://x">{text}</annotation>',
    "a prefix": prefixed,
    "all of it": lambda text: prefixed(upper(f"<objects>{text}</objects>")),
}


@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("how", WRITTEN)
def test_objects_are_found_however_they_are_written(how: str, others: int, tmp_path: Path) -> None:
    odd = WRITTEN[how](OBJECT + OBJECT.replace("cat", "dog"))
    found = seen(in_place(str(written(tmp_path, *[OBJECT] * others, *[odd] * 3))))["train"]
    assert found["0"][0] == CAT
    assert [[box[0] for box in found[str(n)]] for n in range(others, others + 3)] == [["cat", "dog"]] * 3


def test_a_database_counts_from_one_in_any_case(tmp_path: Path) -> None:
    text = upper(f"<source><database>The VOC2007 Database</database></source>{OBJECT}")
    found = in_place(str(written(tmp_path / "one", *[text] * 3)))
    assert seen(found)["train"]["0"] == [("cat", 3, 4, 21, 31)]
    zeros = [text.replace("<Xmin>4", "<Xmin>0")] * 3
    assert any("counted from 0" in n for n in in_place(str(written(tmp_path / "zero", text, *zeros))).notes)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"<items>{OBJECT}</items>", "bndbox"),
        (f"<item><name>cat</name>{BOX}</item>", "bndbox"),
        ("<item><name>cat</name><xmin>1</xmin></item>", "xmin"),
        (f"{BOX}", "bndbox"),
        (OBJECT.replace("</object>", f"{OBJECT}</object>"), "bndbox"),
        (f"{OBJECT}<items><object><robndbox/></object></items>", "robndbox"),
        ("<item><polygon/></item>", "polygon"),
        ("<item><points/></item>", "points"),
        (f"<annotation><annotation>{OBJECT}</annotation></annotation>", "bndbox"),
    ],
)
def test_boxes_in_no_object_are_refused(text: str, shown: str, tmp_path: Path) -> None:
    root = written(tmp_path, OBJECT, OBJECT, text)
    with pytest.raises(
        UserError, match=f"2.xml: each box must stand in an <object>.*1 stand.*such as a <{shown}>"
    ):
        in_place(str(root))


def test_boxes_of_parts_and_files_that_show_no_box_stay_what_they_were(tmp_path: Path) -> None:
    part = OBJECT.replace("</object>", f"<part><name>head</name>{BOX}</part></object>")
    found = seen(in_place(str(written(tmp_path, part, "", "<segmented>0</segmented>"))))["train"]
    assert found == {"0": [CAT], "1": [], "2": []}


def test_other_cases_are_labels_beside_another_layout(tmp_path: Path) -> None:
    root = written(tmp_path, OBJECT, *[upper(OBJECT)] * 3)
    put(root / "labels/0.txt", "0 0.5 0.5 0.1 0.1")
    put(root / "classes.txt", "cat")
    with pytest.raises(UserError, match=r"has no labels where YOLO has them.*\(Pascal VOC\)"):
        in_place(str(root))


@pytest.mark.parametrize("empty", ["<object/>", "<object>\n</object>", "<object><name/><bndbox/></object>"])
def test_an_empty_object_is_none(empty: str, tmp_path: Path) -> None:
    found = in_place(str(written(tmp_path, OBJECT, empty, OBJECT + empty)))
    assert seen(found)["train"] == {"0": [CAT], "1": [], "2": [CAT]}
    assert "Pascal VOC: 2 empty objects, of which nothing is said, passed over" in found.notes


def corners(text: str) -> str:
    return f"<object><name>cat</name><bndbox>{text}</bndbox></object>"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"<object>{BOX}</object>",
            r"\(\?\): it has no <name>; name its class, or take the object out",
        ),
        (
            "<object><pose>Left</pose></object>",
            r"\(\?\): an object must have one bndbox, but has none",
        ),
        ("<object name='cat'/>", "an object must have one bndbox, but has none"),
        (BOX.join(("<object><name>cat</name>", BOX + "</object>")), "must have one bndbox, but has 2$"),
        (
            "<object><name>cat</name><robndbox><cx>9</cx></robndbox></object>",
            "but has none; <robndbox>, a turned box, is not read: write the upright box around it as <bndbox>",
        ),
        (
            "<object><points><point>1,2</point></points></object>",
            "<points>, an outline, is not read: write the",
        ),
        (
            corners("<x1>1</x1><y1>2</y1><x2>9</x2><y2>9</y2>"),
            "a bndbox must have <xmin>, <ymin>, <xmax>, <ymax>, each with a number of px, but got <x1>, <y1>, <x2>",
        ),
        (corners(""), "each with a number of px, but got nothing"),
        (
            BOX.replace("4<", "abc4<").join(("<object><name>cat</name>", "</object>")),
            "xmin must be a number of px, but",
        ),
    ],
)
def test_what_a_broken_object_must_hold_is_said(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"2.xml: object 1 .*{told}"):
        in_place(str(written(tmp_path, OBJECT, OBJECT, text)))


ANGLE = "<attributes><attribute><name>rotation</name><value>{}</value></attribute></attributes>"


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e400", "1e300"])
def test_a_number_that_is_not_finite_is_told(number: str, tmp_path: Path) -> None:
    size = f"<size><width>80</width><height>{number}</height></size>"
    with pytest.raises(UserError, match=f"1.xml: its size must be numbers of px, but got 80 x {number}"):
        in_place(str(written(tmp_path / "size", OBJECT, size + OBJECT)))
    if number != "1e300":
        turned = OBJECT.replace("</object>", ANGLE.format(number) + "</object>")
        with pytest.raises(
            UserError, match=rf"1.xml: object 1 \(cat\): its rotation must be degrees, but got {number}"
        ):
            in_place(str(written(tmp_path / "angle", OBJECT, turned)))
        with pytest.raises(UserError, match="1.xml: object 1 .*must hold, but got"):
            in_place(str(written(tmp_path / "box", OBJECT, OBJECT.replace("24", number))))


@pytest.mark.parametrize(
    "size", ["", "<size><width/><height/></size>", "<size><width>0</width><height>-1</height></size>"]
)
def test_a_size_that_is_not_known_is_the_image_s(size: str, tmp_path: Path) -> None:
    assert seen(in_place(str(written(tmp_path, OBJECT, size + OBJECT))))["train"] == {"0": [CAT], "1": [CAT]}

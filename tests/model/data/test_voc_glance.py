"""From where a set of Pascal VOC counts its pixels, and XML files that are no labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from model.data.classes import TRIMMED
from model.data.layouts import in_place
from model.data.problems import times_of
from model.data.voc_glance import Glance, counts_from_one, from_zero, root_of
from model.errors import UserError
from tests.model.data.drawn import Picture, put, seen, voc_xml

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize(
    ("database", "from_one"),
    [("The VOC2007 Database", True), ("PASCAL VOC2012", True), ("pascalvoc", True), ("my_voc_2", True),
     ("VOCdevkit", True), ("roboflow.com", True), ("avocado_2023", False), ("vocabulary", False),
     ("Unknown", False), ("", False), ("equivocal", False)],
)  # fmt: skip
def test_a_database_is_known_by_whole_words(database: str, from_one: bool) -> None:
    assert counts_from_one(database) == from_one


def written(root: Path, database: str, *left: float) -> Path:
    """One picture a left edge."""
    for n, x in enumerate(left):
        picture = Picture(f"a{n}", (("cat", x, x, 20, 20),))
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (n * 9, 7, 7)).save(root / "images" / picture.name)
        put(
            root / f"Annotations/a{n}.xml",
            voc_xml(picture, database).replace("<part>", "<!--").replace("</part>", "-->"),
        )
    return root  # fmt: skip


@pytest.mark.parametrize(
    ("database", "left", "first"),
    [("avocado_2023", (10, 20, 30), 0), ("VOC2007", (10, 1, 1), 1), ("VOC2007", (10, 20, 30), 1),
     ("A &amp; VOC", (10, 0, 0), 0), ("roboflow.com", (10, 0, 1), 1), ("roboflow.com", (10, 20, 0), 1)],
    ids=["no word", "ones", "no evidence", "zeros", "a slip", "a slip without ones"],
)  # fmt: skip
def test_pixels_are_counted_as_the_data_set_shows(
    database: str, left: tuple[float, ...], first: int, tmp_path: Path
) -> None:
    found = in_place(str(written(tmp_path / "data", database, *left)))
    box = seen(found)["train"]["a0"][0]
    assert box == ("cat", 10 - first, 10 - first, 20 + first, 20 + first)
    assert any("counted from 0" in note for note in found.notes) == (0 in left and not first)


def test_a_note_says_how_many_edges_lie_at_0(tmp_path: Path) -> None:
    found = in_place(str(written(tmp_path / "data", "VOC2007", 10, 0, 0, 0, 0)))
    (note,) = (note for note in found.notes if "counted from 0" in note)  # the parts, in comments, begin at 1
    assert note.endswith("as 8 left and upper edges lie at 0, and 5 at 1")


@pytest.mark.parametrize(("zeros", "from_0"), [(3, False), (40, True)])
def test_few_edges_at_0_of_many_boxes_are_slips(zeros: int, from_0: bool) -> None:
    glances = [Glance(boxes=1000, database="roboflow.com", zeros=zeros)]
    assert (from_zero(glances) == {"roboflow.com"}) == from_0


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", [b"<!-- c -->\n", b"<?a b?>\n", b"<!DOCTYPE a [<!ELEMENT a (b)>]>\n"])
def test_what_stands_before_the_root_takes_no_time(part: bytes) -> None:
    assert root_of(part * 40 + b"<\xc3\xa4>") == ""
    assert root_of(part * 40 + b"<a>") == "a"


def test_side_files_of_maps_are_no_labels(tmp_path: Path) -> None:
    root = written(tmp_path / "data", "", 1, 2, 3, 4)
    for n in range(4):
        put(
            root / f"A/a{n}.png.aux.xml",
            "<!-- <annotation> --><PAMDataset>\n <PAMRasterBand/></PAMDataset>",
        )
    found = in_place(str(root))
    assert len(seen(found)["train"]) == 4
    assert any(
        "4 XML files without labels, such as A/a0.png.aux.xml (<PAMDataset>)" in n for n in found.notes
    )


@pytest.mark.parametrize(
    "text",
    ["<?xml version='1.0'?>\n<!-- <a> -->\n<annotation>", "\ufeff<annotation verified='no'>", "", "<annot",
     "<!DOCTYPE annotation [<!ENTITY a 'b'>]><annotation>", "<Labels><object><bndbox>",
     "<Labels><Object><BndBox>", "<Labels><object><robndbox>"],
)  # fmt: skip
def test_what_may_be_labels_is_read_and_told(text: str, tmp_path: Path) -> None:
    put(tmp_path / "a.xml", text)
    assert Glance.at(tmp_path / "a.xml").is_label


def test_regions_that_are_no_class_are_left_out(tmp_path: Path) -> None:
    root = written(tmp_path / "data", "", 5, 6, 7)
    for n, name in enumerate(("DontCare", "ignored regions", "__background__")):
        file = root / f"Annotations/a{n}.xml"
        node = f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        put(file, file.read_text().replace("</annotation>", f"{node}</object></annotation>"))
    found = in_place(str(root))
    assert [[box[0] for box in boxes] for boxes in seen(found)["train"].values()] == [["cat"]] * 3
    assert any("Pascal VOC: 3 objects called DontCare" in note for note in found.notes)


@pytest.mark.parametrize(("name", "count"), [("cat ", 1), (" cat", 1), ("cat", 0), ("\n    cat\n  ", 0)])
def test_names_with_blanks_around_them_are_counted(name: str, count: int, tmp_path: Path) -> None:
    root = written(tmp_path / "data", "", 5, 6, 7)
    file = sorted(root.rglob("*.xml"))[0]
    put(file, file.read_text().replace("<name>cat<", f"<name>{name}<"))
    found = in_place(str(root))
    assert {box[0] for boxes in seen(found)["train"].values() for box in boxes} == {"cat"}
    assert (f"Pascal VOC: {times_of(count, TRIMMED)}" in found.notes) == bool(count)


@pytest.mark.parametrize("key", ["score", "confidence"])
def test_boxes_that_a_detector_may_have_found_are_counted(key: str, tmp_path: Path) -> None:
    root = written(tmp_path / "data", "", 5, 6, 7)
    for file, value in zip(sorted(root.rglob("*.xml")), ("0.25", "1.0", "high"), strict=True):
        put(file, file.read_text().replace("<bndbox>", f"<{key}>{value}</{key}><bndbox>"))
    notes = in_place(str(root)).notes
    assert "Pascal VOC: 1 box with a confidence: are these labels what a detector found?" in notes


POLYGON = "<polygon><pt><x>1</x><y>1</y></pt></polygon>"


def test_polygons_beside_boxes_are_passed_over(tmp_path: Path) -> None:
    root = written(tmp_path / "data", "", 1, 2, 3, 4)
    before = seen(in_place(str(root)))
    for file in root.rglob("*.xml"):
        file.write_text(file.read_text().replace("<bndbox>", f"{POLYGON}<bndbox>"))
    assert seen(in_place(str(root))) == before


def test_objects_with_polygons_alone_are_told_where_others_have_boxes(tmp_path: Path) -> None:
    root = written(tmp_path / "data", "", 1, 2, 3, 4)
    file = sorted(root.rglob("*.xml"))[1]
    text = re.sub(r"<bndbox>.*?</bndbox>", POLYGON, file.read_text(), flags=re.DOTALL)
    file.write_text(text)
    with pytest.raises(UserError, match=f"{file.name}: object 1 .*must have one bndbox, but has none"):
        in_place(str(root))

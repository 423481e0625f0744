"""Photos that EXIF turns, with annotations that say their size as it is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from model.data.check import inspect
from model.data.coco import load_sources
from model.spec import default_spec
from tests.model.data.drawn import put

pytestmark = pytest.mark.usefixtures("cache")
UPRIGHT, STORED, BOTH = [10, 62, 20, 30], [62, 10, 30, 20], [4, 4, 30, 30]  # boxes on 48x96 px, on 96x48 px


def photos(root: Path, *boxes: list[float], orientation: int = 6, size: tuple[int, int] = (96, 48)) -> Path:
    """A photo a box, stored at `size`, and COCO that says 96x48."""
    images, annotations = [], []
    for n, box in enumerate(boxes):
        exif = Image.Exif()
        exif[0x0112] = orientation
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.effect_noise(size, 50 + n).save(root / f"images/{n}.jpg", exif=exif)
        images.append({"id": n, "file_name": f"images/{n}.jpg", "width": 96, "height": 48})
        annotations.append({"id": n, "image_id": n, "category_id": 0, "bbox": box, "area": 600, "iscrowd": 0})
    categories = [{"id": 0, "name": "cat"}]
    put(root / "result.json", {"images": images, "annotations": annotations, "categories": categories})
    return root


def looked_at(root: Path, **dataset: bool) -> dict[str, list[str]]:
    spec = default_spec("train")
    spec["dataset"] |= {"batch_size": 1, **dataset}
    return inspect(spec, str(root), work_dir=root.with_name("work"))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_that_tell_that_they_lie_on_the_upright_image(orientation: int, tmp_path: Path) -> None:
    root = photos(tmp_path / "data", UPRIGHT, BOTH, BOTH, orientation=orientation)
    found = looked_at(root)
    assert found["problems"] == []
    assert any(
        "result.json: 3 image sizes swapped, which were those before the turn" in w for w in found["warnings"]
    )
    data = load_sources([{"image_dir": str(root), "json_file": str(root / "result.json")}])
    assert data.sizes.tolist() == [[96, 48]] * 3
    assert data.boxes_xywh_px.tolist() == [UPRIGHT, BOTH, BOTH]
    assert "dataset.strict allows none" in str(looked_at(root, strict=True)["problems"])


@pytest.mark.parametrize(
    ("boxes", "advice"),
    [
        ([BOTH, BOTH], "if the boxes are drawn on the upright image, as Label Studio shows it, swap width and height"),
        ([STORED, STORED], "boxes reach beyond the upright image: if they are drawn on the stored pixels, drop the EXIF"),
        ([[4, 17, 20, 34], BOTH, BOTH], "if the boxes are drawn on the upright image"),
        ([UPRIGHT, *[BOTH] * 10], "if the boxes are drawn on the upright image"),
        ([UPRIGHT, STORED], "drop the EXIF from the file, without turning its pixels"),
        ([[10, 10, 20, 38.9]], "if the boxes are drawn on the upright image"),
    ],
    ids=["either", "stored", "a slip of three pixels", "one of many", "both", "rounding"],
)  # fmt: skip
def test_boxes_that_do_not_tell(boxes: list[list[float]], advice: str, tmp_path: Path) -> None:
    problems = "\n".join(looked_at(photos(tmp_path / "data", *boxes))["problems"])
    assert "0.jpg is turned by its EXIF orientation: 48x96 px upright, 96x48 px as stored" in problems
    assert advice in problems


def with_polygons(root: Path, *upright: list[float], contributor: str = "Label Studio") -> None:
    """A polygon an image, drawn on the upright 48x96 px, as Label Studio's converter writes it: by 96x48 px."""
    document = json.loads((root / "result.json").read_text())
    for n, (x, y, w, h) in enumerate(upright):
        x, y, w, h = x * 2, y / 2, w * 2, h / 2
        mask = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        row = {"id": 50 + n, "image_id": n, "category_id": 0, "segmentation": mask, "bbox": [x, y, w, h]}
        document["annotations"].append(row | {"area": w * h, "iscrowd": 0})
    put(root / "result.json", document | {"info": {"contributor": contributor}})


def test_polygons_of_label_studio_are_scaled_to_the_upright_image(tmp_path: Path) -> None:
    """Its rectangles lie on this, by which they tell it; a polygon lies within the stored size in any case."""
    polygons = [[11, 20, 30, 60], [2, 3, 40, 90], [4, 60, 8, 10]]
    root = photos(tmp_path / "data", UPRIGHT, BOTH, BOTH)
    with_polygons(root, *polygons)
    found = looked_at(root)
    assert found["problems"] == []
    assert any("3 boxes of polygons scaled from the size before the turn" in w for w in found["warnings"])
    data = load_sources([{"image_dir": str(root), "json_file": str(root / "result.json")}])
    assert data.boxes_xywh_px.tolist() == [
        box for pair in zip([UPRIGHT, BOTH, BOTH], polygons, strict=True) for box in pair
    ]
    assert data.areas[1::2].tolist() == [w * h for _, _, w, h in polygons]
    with_polygons(root, contributor="somebody")
    assert "drop the EXIF from the file" in "\n".join(looked_at(root)["problems"])


@pytest.mark.parametrize("boxes", [[], [BOTH, BOTH], [STORED, BOTH], [UPRIGHT, STORED]], ids=str)
def test_polygons_of_label_studio_where_no_rectangle_tells(boxes: list[list[float]], tmp_path: Path) -> None:
    root = photos(tmp_path / "data", *(boxes or [BOTH, BOTH]))
    if not boxes:
        put(root / "result.json", json.loads((root / "result.json").read_text()) | {"annotations": []})
    with_polygons(root, [11, 20, 30, 60])
    problems = "\n".join(looked_at(root)["problems"])
    assert problems.count("Label Studio scales polygons by this size") == 2
    assert "export YOLO there, which has no sizes" in problems
    assert "drop the EXIF" not in problems


def swapped(root: Path) -> None:
    document = json.loads((root / "result.json").read_text())
    for image in document["images"]:
        image |= {"width": image["height"], "height": image["width"]}
    put(root / "result.json", document)


def test_the_advice_leads_on(tmp_path: Path) -> None:
    """Swap the sides of upright boxes; drop the EXIF of the others; of turned pixels swap the sides."""
    swapped(photos(tmp_path / "upright", BOTH, BOTH))
    assert looked_at(tmp_path / "upright")["problems"] == []
    assert looked_at(photos(tmp_path / "stored", STORED, BOTH, orientation=1))["problems"] == []
    turned = photos(tmp_path / "turned", UPRIGHT, BOTH, orientation=1, size=(48, 96))
    said = "0.jpg is 48x96 px, the annotations say 96x48; if it was turned, and the boxes lie on it as it is, swap"
    assert said in "\n".join(looked_at(turned)["problems"])
    swapped(turned)
    assert looked_at(turned)["problems"] == []


def test_another_size_is_not_said_to_be_swapped(tmp_path: Path) -> None:
    problems = looked_at(photos(tmp_path / "data", BOTH, BOTH, orientation=1, size=(50, 96)))["problems"]
    assert [line for line in problems if line.endswith("0.jpg is 50x96 px, the annotations say 96x48")]

"""Annotations in a tool's own format: the message says what to export there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.data.foreign import tool_of
from model.data.layouts import in_place
from model.errors import UserError
from tests.model.data import drawn as writers
from tests.model.data.drawn import LAYOUTS, Drawn, draw, put

CVAT = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version><image id="0" name="0.png" width="9" ' \
    'height="9"><box label="a" xtl="1" ytl="1" xbr="5" ybr="5" rotation="30"/></image></annotations>'  # fmt: skip
TASK = {
    "id": 1,
    "data": {"image": "/data/upload/1/0.png"},
    "annotations": [{"result": [{"type": "rectanglelabels"}]}],
}
SHAPES = {
    "shapes": [{"label": "a", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}],
    "imagePath": "0.png",
}
REGIONS = {"0.png9": {"filename": "0.png", "regions": [{"shape_attributes": {"name": "rect"}}]}}
APPLE = [{"image": "0.png", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}]
FILES: dict[str, tuple[str, Any, str]] = {
    "CVAT": ("annotations.xml", CVAT, "annotations.xml is the own format of CVAT: export .* 'COCO 1.0'"),
    "Label Studio": ("project-1.json", [TASK], "project-1.json is the own format of Label Studio: choose Export > COCO or YOLO"),
    "Labelme": ("0.json", SHAPES, "0.json is of Labelme"),
    "VIA": ("via_region_data.json", REGIONS, "Export annotations .COCO format."),
    "CreateML": ("_annotations.createml.json", APPLE, "of CreateML: export COCO or YOLO"),
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("folder", ["", "train/"])
@pytest.mark.parametrize("tool", FILES)
def test_the_way_to_export_is_told(tool: str, folder: str, tmp_path: Path) -> None:
    name, content, message = FILES[tool]
    image = tmp_path / "data" / (folder or "images") / "0.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(image)
    file = tmp_path / "data" / f"{folder}{name}"
    put(file, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message):
        in_place(str(tmp_path / "data"))
    if file.suffix in (".json", ".xml"):
        with pytest.raises(UserError, match=message.replace(f"{name} is", f"{name}: is")):
            in_place(str(file))


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_read_is_no_foreign_format(name: str, tmp_path: Path) -> None:
    pictures: Drawn = draw(tmp_path / "pictures")
    LAYOUTS[name][0](tmp_path / "data", tmp_path / "pictures", pictures)
    put(tmp_path / "data/empty.json", "")
    put(tmp_path / "data/list.json", "[]")
    files = [path for path in (tmp_path / "data").rglob("*.*") if path.suffix in (".json", ".xml")]
    assert {tool_of(path) for path in files} == {""}
    assert writers.every(pictures)

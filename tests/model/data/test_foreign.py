"""Annotations in a tool's own format: the message says what to export there."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
import types
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model.data.check import inspect
from model.data.documents import read
from model.data.foreign import tool_of
from model.data.layouts import in_place
from model.data.problems import Problems
from model.errors import UserError
from model.spec import default_spec
from tests.model.data import drawn as writers
from tests.model.data.drawn import LAYOUTS, Drawn, draw, put, seen

ROOT = Path(__file__).resolve().parents[3]
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
OUTLINES = (
    "<annotation><filename>0.png</filename><object><name>a</name><polygon><pt><x>1</x><y>1</y></pt><pt><x>5</x><y>1</y>"
    "</pt><pt><x>5</x><y>5</y></pt></polygon></object></annotation>"
)
APPLE = [{"image": "0.png", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}]
ROW = "filename,width,height,class,xmin,ymin,xmax,ymax\n0.png,9,9,a,1,1,5,5\n"
PEOPLE = {
    "description": "", "tags": [], "size": {"height": 9, "width": 9},
    "objects": [{"classTitle": "a", "points": {"exterior": [[1, 1], [5, 5]], "interior": []}}],
}  # fmt: skip
ASSET = {
    "asset": {"format": "png", "name": "0.png"},
    "regions": [{"boundingBox": {"left": 1}}],
    "version": "2.2.0",
}
ITEMS = {
    "info": {}, "categories": {"label": {"labels": [{"name": "a"}]}},
    "items": [{"id": "0", "annotations": [{"type": "bbox", "label_id": 0, "bbox": [1, 1, 4, 4]}], "image": {"path": "0.png"}}],
}  # fmt: skip
FILES: dict[str, tuple[str, Any, str]] = {
    "CVAT": ("annotations.xml", CVAT, "annotations.xml is the own format of CVAT: export .* 'COCO 1.0'"),
    "Label Studio": ("project-1.json", [TASK], "project-1.json is the own format of Label Studio: choose Export > COCO or YOLO"),
    "Labelme": ("0.json", SHAPES, "0.json is of Labelme"),
    "LabelMe XML": ("0.xml", OUTLINES, "0.xml is of LabelMe's web tool, polygons in XML: turn it into COCO with datumaro"),
    "VIA": ("via_region_data.json", REGIONS, "Export annotations .COCO format."),
    "table of Roboflow": ("_annotations.csv", ROW, "_annotations.csv is a table: export it as COCO JSON"),
    "table without a head": ("boxes.csv", "img/0.png,1,1,5,5,a\n", "boxes.csv is a table: export it as COCO JSON"),
    "table of Kaggle": ("train.csv", 'image_id,width,bbox\n0,9,"[1, 1, 4, 4]"\n', "train.csv is a table"),
    "list of Roboflow": ("_annotations.txt", "0.png 1,1,5,5,0 2,2,6,6,1\n", "_annotations.txt is a list of images .* COCO JSON"),
    "Supervisely": ("0.png.json", PEOPLE, "0.png.json is of Supervisely, one a picture: export it as COCO JSON"),
    "VoTT": ("0a1b-asset.json", ASSET, "0a1b-asset.json is of VoTT"),
    "VoTT project": ("x-export.json", {"tags": [], "activeLearningSettings": {}, "assets": {"0a1b": ASSET}}, "is of VoTT"),
    "Datumaro": ("default.json", ITEMS, "default.json is of Datumaro: turn it into COCO with datumaro's Dataset"),
    "CreateML": ("_annotations.createml.json", APPLE, "of CreateML: export COCO or YOLO"),
    "Label Studio's short JSON": ("min.json", [{"image": "0.png", "id": 1, "label": [{"rectanglelabels": ["a"], "original_width": 9}]}], "Label Studio"),
    "Label Studio's table": ("p.csv", "image,id,label,annotator\n0.png,1,[],1\n", "Label Studio: choose Export"),
    "VIA's table": ("via.csv", "filename,file_size,region_shape_attributes\n0.png,1,{}\n", "VGG Image Annotator"),
    "Labelbox": ("export.ndjson", {"data_row": {"id": "x"}, "projects": {}}, "of Labelbox"),
    "SuperAnnotate": ("0.png___objects.json", [{"metadata": {"name": "0.png"}, "instances": []}], "is of SuperAnnotate"),
    "Encord": ("export.json", [{"label_hash": "x", "data_units": {}}], "of Encord: choose COCO"),
    "Darwin": ("0.json", {"item": {"slots": []}, "annotations": []}, "of V7 Darwin: choose COCO"),
    "SageMaker": ("output.manifest", {"source-ref": "s3://b/0.png"}, "SageMaker Ground Truth: turn it into COCO"),
    "Vertex AI": ("x.jsonl", {"imageGcsUri": "gs://b/0.png"}, "Vertex AI"),
    "Hugging Face": ("metadata.jsonl", {"file_name": "0.png", "objects": {"bbox": []}}, "Hugging Face.* in docs/data.md"),
    "table of Hugging Face": ("metadata.csv", 'split,"file_name",objects\ntrain,0.png,[]\n', "metadata of a data set of Hugging Face"),
    "Arrow": ("data-00000-of-00001.arrow", "ARROW1", "save_to_disk of Hugging Face's datasets"),
    "Datumaro's Arrow": ("datum-0.arrow", "ARROW1 signature:datumaro_arrow", "datum-0.arrow is a table in Arrow of Datumaro: .*'arrow'"),
    "FiftyOne's detections": ("labels.json", {"classes": ["a"], "labels": {"0": [{"label": 0, "bounding_box": [0.1, 0.1, 0.2, 0.2]}]}}, "labels.json is the own format of FiftyOne"),
    "Detectron2": ("x.json", [{"file_name": "0.png", "annotations": [{"bbox": [1, 1, 5, 5], "bbox_mode": 0, "category_id": 0}]}], "x.json is dicts of Detectron2: .* convert_to_coco_json"),
    "WIDER of Datumaro": ("x_gt.txt", "a/0.jpg\n1\n449.0 330.5 122.0 149.0 - - - False - - red car\n", "of WIDER FACE"),
    "Parquet": ("x.parquet", "PAR1", "Parquet, as Hugging Face"),
    "TFRecord": ("x.tfrecord", "x", "of TensorFlow"),
    "BDD": ("det.json", [{"name": "0.png", "labels": [{"box2d": {}}]}], "bdd100k.label.to_coco"),
    "Cityscapes": ("0_gtFine.json", {"imgHeight": 9, "imgWidth": 9, "objects": []}, "of Cityscapes"),
    "VisDrone": ("x.txt", "684,8,73,16,0,0,0,0\n4,1,6,7,1,4,0,0\n", "of VisDrone"),
    "MOT": ("gt.txt", "1,1,10,10,20,20,1,1,1\n", "of MOTChallenge"),
    "WIDER": ("x_gt.txt", "0--Parade/0.jpg\n1\n449 330 122 149 0 0 0 0 0 0 \n", "of WIDER FACE"),
    "DOTA": ("x.txt", "imagesource:GoogleEarth\ngsd:0.1\n10 10 20 10 20 20 10 20 ship 0\n", "of DOTA"),
    "Ultralytics": ("ds.ndjson", {"type": "dataset", "task": "detect", "class_names": {"0": "a"}}, "convert_ndjson_to_yolo"),
    "MMDetection": ("x.json", [{"filename": "0.png", "ann": {"bboxes": [], "labels": []}}], "format of MMDetection"),
    "MMDetection 3": ("x.json", {"data_list": [{"img_path": "0.png", "instances": []}]}, "format of MMDetection"),
    "VIA 3": ("x.json", {"project": {}, "attribute": {"1": {"aname": "class"}}, "file": {}}, "VGG Image Annotator"),
    "KITTI tracking": ("0000.txt", "0 -1 Car 0 0 -10 31 25 37 35.5 -1 -1 -1 -1000 -1000 -1000 -10\n", "of KITTI's tracking"),
    "OIDv4": ("x.txt", "Traffic light 36.000000 26.000000 42.000000 38.000000\n", "of OIDv4_ToolKit"),
    "Datumaro's binary": ("default.datum", "signature:datumaro_binary", "default.datum is binary of Datumaro: .*'datumaro_binary'"),
    "CamVid": ("label_colors.txt", " 0\n a b\n", "label_colors.txt is of masks in colours .CamVid, .* as COCO"),
    "ICDAR": ("gt_0.txt", "38,43,920,215,915,224,8,5,Hello, you\n", "gt_0.txt is of ICDAR, boxes of text"),
    "ICDAR of Datumaro": ("gt_1.txt", "9.0 137.0 67.0 151.0\n1.0 1.0 3.0 4.0\n", "gt_1.txt is of ICDAR, boxes of text"),
    "MATLAB": ("cars_annos.mat", "MATLAB 5.0 MAT-file", "cars_annos.mat is of MATLAB, .*'Tables' in docs/data.md"),
    "GeoJSON": ("xView_train.geojson", {"type": "FeatureCollection"}, "is GeoJSON, as of xView: .* lines of Python"),
    "Edge Impulse": ("bounding_boxes.labels", {"boundingBoxes": {}}, "of Edge Impulse: .* Python"),
    "shard": ("x.tfrecord-00000-of-00002", "x", "00002 is of TensorFlow"),
    "TT100K": ("a.json", {"imgs": {"1": {"path": "0.png", "objects": [{"category": "i5"}]}}}, "a.json is of TT100K: .* Python"),
    "NWPU": ("a.txt", "(563,478),(630,573),1 \n", "a.txt is of NWPU VHR-10"),
    "ExDark": ("a.png.txt", "% bbGt version=3\nBicycle 1 1 5 5 0 0 0 0 0 0 0\n", "of Piotr's toolbox"),
    "GTSDB": ("gt.txt", "00000.ppm;774;411;815;446;11\n", "gt.txt is a list of images with their boxes: .* Python"),
    "table of text": ("train.csv", 'image_id,labels\n0,"U+306F 1 1 3 4"\n', "train.csv is a table: .* Kaggle, the lines of Python"),
    "Vertex AI's table": ("import.csv", "training,gs://b/0.png,car,0.1,0.1,,,0.3,0.3,,\n", "import.csv is a table: .* Python"),
    "another": ("boxes.json", {"what": [1]}, "boxes.json is in a format that is not read: export as COCO, YOLO or Pascal VOC"),
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
    for n in range(12):
        shutil.copy(image, image.with_name(f"{n:02}.png"))
    put(file, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message):
        in_place(str(tmp_path / "data"))
    with pytest.raises(UserError, match=rf"has .*{re.escape(name)}.*" + (" and 6 more" if folder else "")):
        in_place(str(tmp_path / "data"))
    if file.suffix in (".json", ".xml", ".csv", ".txt") and tool != "another":
        with pytest.raises(UserError, match=message.replace(f"{name} is", f"{name}: is")):
            in_place(str(file))


@pytest.mark.parametrize("tool", ["VisDrone", "Labelme", "table of Kaggle", "CreateML"])
@pytest.mark.parametrize("folder", ["annotations", "labels"])
def test_it_is_told_also_in_a_folder_for_what_is_read(tool: str, folder: str, tmp_path: Path) -> None:
    name, content, message = FILES[tool]
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images/0.png")
    put(tmp_path / folder / name, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message.removeprefix(f"{name} ")):
        in_place(str(tmp_path))


@pytest.mark.parametrize(
    "line", ["9 137 67 137 67 151 9 151 a b 0\n", "9.0 7.0 9.0 7.0 9.0 7.0 9.0 7.0 cat False\n", ""]
)
@pytest.mark.parametrize("yaml", ["train: train/images\nnames: [a b, cat]\n", ""])
def test_the_folder_of_dota_s_labels_is_told(line: str, yaml: str, tmp_path: Path) -> None:
    (tmp_path / "train/images").mkdir(parents=True)
    for n in range(3):
        Image.new("RGB", (9, 9), (n * 80, 0, 0)).save(tmp_path / f"train/images/{n}.png")
        put(tmp_path / f"train/labelTxt/{n}.txt", line)
    if yaml:
        put(tmp_path / "data.yaml", yaml)
    for place in (tmp_path, tmp_path / "data.yaml") if yaml else (tmp_path,):
        with pytest.raises(UserError, match="; train/labelTxt is of DOTA, turned boxes: export upright ones"):
            in_place(str(place))


@pytest.mark.parametrize("shards", ["shard-000000.tar", "train-000000.tar train-000001.tar"])
@pytest.mark.parametrize(
    ("suffix", "text"), [("json", '{"boxes": [[1, 1, 5, 5]], "labels": [3]}'), ("cls", "3")]
)
def test_shards_of_webdataset_are_told(suffix: str, text: str, shards: str, tmp_path: Path) -> None:
    root = tmp_path / "shards"
    root.mkdir()
    for name in shards.split():
        with tarfile.open(root / name, "w") as tar:
            for n in range(3):
                stem = tmp_path / f"{name[:-4]}{n}"
                Image.new("RGB", (9, 9), (n, 0, 0)).save(f"{stem}.jpg")
                put(Path(f"{stem}.{suffix}"), text)
                for path in (Path(f"{stem}.jpg"), Path(f"{stem}.{suffix}")):
                    tar.add(path, path.name)
    for place in (root, *([root / shards] if " " not in shards else [])):
        with pytest.raises(
            UserError, match=rf"0\.{suffix} is of the image beside it, .* WebDataset's shards"
        ):
            in_place(str(place))


def test_what_save_to_disk_wrote_is_told_beside_its_own_json(tmp_path: Path) -> None:
    put(tmp_path / "train/dataset_info.json", json.dumps({"features": {"image": {"_type": "Image"}}}))
    put(
        tmp_path / "train/state.json",
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}),
    )
    put(tmp_path / "train/data-00000-of-00001.arrow", "ARROW1")
    with pytest.raises(UserError, match=r"00001\.arrow is a table in Arrow, as save_to_disk of"):
        in_place(str(tmp_path))


@pytest.mark.parametrize(
    ("masks", "images"), [("VOC/SegmentationObject", "VOC/JPEGImages"), ("train/instance", "train/image_2")]
)
def test_masks_alone_are_told(masks: str, images: str, tmp_path: Path) -> None:
    for folder in (masks, images):
        (tmp_path / "data" / folder).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "data" / folder / "0.png")
    (tmp_path / "data/Annotations").mkdir()
    with pytest.raises(
        UserError, match=f"{masks.rpartition('/')[2]} holds masks, which are not read: export"
    ):
        in_place(str(tmp_path / "data"))


class Rows(list[Any]):
    """Rows of a data set of Hugging Face, whose images are files or bytes."""

    def cast_column(self, name: str, kind: Any) -> Rows:
        assert (name, kind) == ("image", {"decode": False})
        return self


@pytest.mark.parametrize("form", ["lists", "dicts"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_lines_for_a_data_set_of_hugging_face(
    form: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, boxes = tmp_path / "0.png", [[1, 1, 5, 5], [2, 2, 4, 4]]
    Image.new("RGB", (9, 9)).save(file)
    of = {"lists": {"bbox": boxes, "categories": [0, 1]},
          "dicts": [{"bbox": box, "categories": n} for n, box in enumerate(boxes)]}  # fmt: skip
    image = {"bytes": file.read_bytes(), "path": None} if packed else {"bytes": None, "path": str(file)}
    rows = Rows([{"image": image, "objects": of[form]}])
    stub: Any = types.ModuleType("datasets")
    stub.Image, stub.load_dataset = dict, lambda *_, **__: {"train": rows, "validation": rows}
    monkeypatch.setitem(sys.modules, "datasets", stub)
    lines, _ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.DOTALL)
    exec(lines.replace("NEWDIR", str(tmp_path / "new")), {})
    drawn = seen(in_place(str(tmp_path / "new")))
    assert {split: [box[0] for boxes in of.values() for box in boxes] for split, of in drawn.items()} == {
        "train": ["cat", "dog"], "val": ["cat", "dog"],
    }  # fmt: skip


UNKNOWN = {
    "bare": ("annotation/n1_0", "<annotation>\n<folder>n1</folder>", "n1_0 looks like Pascal VOC labels without a suffix: call"),
    "7z": ("labels.7z", "7z", "labels.7z is an archive of a kind that is not read: unpack it"),
    "text": ("truth/all.dat", "0.png at 1 1 to 5 5\n", "may be in truth/all.dat, which begins so: '0.png at 1 1 to 5 5'; turn them into COCO"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("folder", ["images", "train"])
def test_where_nothing_is_known_what_may_hold_labels_is_told(kind: str, folder: str, tmp_path: Path) -> None:
    name, text, message = UNKNOWN[kind]
    (tmp_path / folder).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / folder / "0.png")
    put(tmp_path / "README.txt", "Of us.")
    put(tmp_path / name, text)
    with pytest.raises(UserError, match=message):
        in_place(str(tmp_path))


def test_images_that_are_not_read_are_told_beside_a_table(tmp_path: Path) -> None:
    put(tmp_path / "train_images/a.dcm", "DICM")
    put(tmp_path / "train_labels.csv", "patientId,x,y,width,height,Target\na,,,,,0\n")
    with pytest.raises(UserError, match=r"a\.dcm is an image: .*; train_labels\.csv is a table"):
        in_place(str(tmp_path))


TABLE = {
    "corners": (None, "image_id,class_name,x_min,y_min,x_max,y_max", ["0,cat,1,2,6,8", "x/0.png,dog,2,2,4,4", "1,No finding,,,,"]),
    "text": ("json.loads", "image_id,class_name,bbox", ['0,cat,"[1.0, 2, 5, 6]"', '0,dog,"[2, 2, 2, 2]"', "1,,"]),
    "sides": ('"width"', "image_id,class_name,x,y,width,height", ["0,cat,1,2,5,6", "0.png,dog,2,2,2,2", "1,,,,,"]),
}  # fmt: skip


@pytest.mark.parametrize("form", TABLE)
@pytest.mark.parametrize("classes", [True, False])
def test_the_lines_for_tables(
    form: str, classes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, head, rows = TABLE[form]
    text = (ROOT / "docs/data.md").read_text()
    _, lines = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    if mark:
        (own,) = [cell for cell in re.findall(r"\| `(return .*?)` \|", text) if mark in cell]
        lines = re.sub(r"    if not row.*?y2 - y1\]", lambda _: f"    {own}", lines, flags=re.DOTALL)
    (tmp_path / "NEWDIR/train/images").mkdir(parents=True)
    for name in "012":
        Image.new("RGB", (9, 9), (int(name) * 90, 0, 0)).save(tmp_path / f"NEWDIR/train/images/{name}.png")
    put(tmp_path / "TABLE.csv", "\n".join([head if classes else head.replace("class_name", "tool"), *rows]))
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    cat, dog = ("cat", "dog") if classes else ("object", "object")
    assert seen(in_place("NEWDIR")) == {
        "train": {"0": [(cat, 1, 2, 5, 6), (dog, 2, 2, 2, 2)], "1": [], "2": []}
    }


def test_a_foreign_file_that_is_called_like_coco_s_is_named_where_it_is_read(tmp_path: Path) -> None:
    put(tmp_path / "annotations.json", json.dumps([{"metadata": {"name": "0.png"}, "instances": []}]))
    with pytest.raises(UserError, match=r"a COCO file must be an `?object`?.*; it is of SuperAnnotate"):
        read(tmp_path / "annotations.json", Problems())


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_read_is_no_foreign_format(name: str, tmp_path: Path) -> None:
    pictures: Drawn = draw(tmp_path / "pictures")
    LAYOUTS[name][0](tmp_path / "data", tmp_path / "pictures", pictures)
    put(tmp_path / "data/empty.json", "")
    put(tmp_path / "data/list.json", "[]")
    files = [path for path in (tmp_path / "data").rglob("*.*") if path.suffix in (".json", ".xml", ".txt")]
    put(tmp_path / "data/splits.csv", "filename,split\n0.png,train\n")
    files.append(tmp_path / "data/splits.csv")
    assert {tool_of(path) for path in files} == {""}
    assert writers.every(pictures)


@pytest.mark.parametrize(
    "layout", ["YOLO", "YOLO of Roboflow", "VOC", "VOC by folder", "KITTI", "ours", "Roboflow"]
)
@pytest.mark.parametrize("suffix", [".heic", ".DNG", ".jxl"])
@pytest.mark.parametrize("which", ["one", "all"])
def test_images_of_suffixes_that_are_not_read_are_named(
    layout: str, suffix: str, which: str, tmp_path: Path
) -> None:
    pictures = draw(tmp_path / "pictures")
    root = tmp_path / "data"
    LAYOUTS[layout][0](root, tmp_path / "pictures", pictures)
    for image in list(root.rglob("train_0.png" if which == "one" else "*.png")):
        with Image.open(image) as file:
            file.convert("RGB").save(image.with_suffix(".tif"))
        content = image.with_suffix(".tif").read_bytes() if suffix == ".DNG" else b"\0\0\0\x18ftypheic"
        image.with_suffix(suffix).write_bytes(content)  # a raw image is a TIFF with a small preview
        image.with_suffix(".tif").unlink()
        image.unlink()
    for file in root.rglob("*.json"):
        text = file.read_text()
        file.write_text(
            text.replace(*("train_0.png", f"train_0{suffix}") if which == "one" else (".png", suffix))
        )
    try:
        found = inspect(default_spec("train"), str(root), work_dir=tmp_path / "work")
        message = "\n".join(found["problems"])
    except UserError as error:
        message = str(error)
    assert f"{suffix.lower()} is not read, convert such images to JPEG, PNG or TIFF" in message
    assert ("train_0" if which == "one" else suffix) in message


def test_stereo_pictures_are_read(tmp_path: Path) -> None:
    pictures = draw(tmp_path / "pictures")
    LAYOUTS["YOLO"][0](tmp_path / "data", tmp_path / "pictures", pictures)
    for image in list((tmp_path / "data").rglob("*.png")):
        with Image.open(image) as file:
            file.save(image.with_suffix(".mpo"), save_all=True, append_images=[Image.new("RGB", file.size)])
        image.unlink()
    found = inspect(default_spec("train"), str(tmp_path / "data"), work_dir=tmp_path / "work")
    assert found["problems"] == []
    assert found["facts"]["train"]["images"] == len(pictures["train"])

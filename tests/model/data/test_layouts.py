"""One drawn dataset in every layout that tools write: the same images, boxes, names and splits come back."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.data import label_files
from model.data.check import inspect
from model.data.documents import as_it_is
from model.data.layouts import find_data, in_place
from model.data.no_classes import LEFT_OUT
from model.data.paths import find_images
from model.data.tree import Data, split_of
from model.errors import UserError
from model.spec import default_spec
from tests.model.data import drawn as writers
from tests.model.data.drawn import LAYOUTS, Drawn, Picture, put, seen

pytestmark = pytest.mark.usefixtures("cache")


def written(name: str, root: Path, pictures: tuple[Path, Drawn]) -> Path:
    LAYOUTS[name][0](root, *pictures)
    return root


def assert_same(data: Data, drawn: Drawn, splits: bool = True, prefix: str = "") -> None:
    """What was found is what was drawn, to 1e-3 px; without splits all of it is for training."""
    found = seen(data)
    wanted = drawn if splits else {"train": writers.every(drawn)}
    assert {s: sorted(named) for s, named in found.items()} == {
        s: sorted(prefix + p.stem for p in listed) for s, listed in wanted.items()
    }
    for split, listed in wanted.items():
        for picture in listed:
            boxes = found[split][prefix + picture.stem]
            assert [b[0] for b in boxes] == [b[0] for b in picture.boxes]
            for got, want in zip(boxes, picture.boxes, strict=True):
                assert got[1:] == pytest.approx(want[1:], abs=1e-3)


def told(root: Path) -> str:
    """What the check says of a dataset, besides problems."""
    return "\n".join(inspect(default_spec("train"), str(root), work_dir=root.parent / "work")["warnings"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_dataset(name: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    data = in_place(str(written(name, tmp_path / "data", pictures)))
    _, layout, splits = LAYOUTS[name]
    assert data.layout == layout
    assert_same(data, pictures[1], splits, "0a1b2c3d-" if name == "Label Studio" else "")
    names = {c["name"] for c in as_it_is(data.sources["train"][0]["json_file"])["categories"]}
    assert names == set(writers.NAMES)  # no placeholder, no part of a person


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_passes_the_check_and_is_named(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    spec = default_spec("train")
    spec["dataset"]["batch_size"] = 2
    found = inspect(spec, str(written(name, tmp_path / "data", pictures)), work_dir=tmp_path / "work")
    assert found["problems"] == []
    assert found["facts"]["layout"] == LAYOUTS[name][1]
    images = [found["facts"][s]["images"] for s in ("train", "val", "test") if s in found["facts"]]
    assert sum(images) == sum(writers.COUNTS.values())


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", ["Roboflow", "YOLO", "VOC", "CVAT"])
def test_an_archive_of_a_layout_is_that_layout(
    name: str, suffix: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    written(name, tmp_path / "wrapped/test export", pictures)
    (tmp_path / "wrapped/__MACOSX").mkdir()
    (tmp_path / "wrapped/__MACOSX/._annotations.json").write_bytes(b"\0\5\x16\7")
    kind = {"tar.gz": "gztar"}.get(suffix, suffix)
    made = shutil.make_archive(str(tmp_path / "export"), kind, tmp_path / "wrapped")
    data = in_place(made)
    assert data.layout == LAYOUTS[name][1].replace(", ", f" in export.{suffix}, ")
    assert_same(data, pictures[1], LAYOUTS[name][2])
    (tmp_path / "alone").mkdir()
    shutil.move(made, tmp_path / "alone")
    assert_same(in_place(str(tmp_path / "alone")), pictures[1], LAYOUTS[name][2])


def test_an_archive_is_told_by_its_content(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    made = shutil.make_archive(str(tmp_path / "x"), "zip", written("ours", tmp_path / "data", pictures))
    shutil.move(made, tmp_path / "download")
    assert_same(in_place(str(tmp_path / "download")), pictures[1])
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="must be a folder, an archive"):
        in_place(str(tmp_path / "text"))


def test_a_zip_with_the_separators_of_windows(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("ours", tmp_path / "data", pictures)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in root.rglob("*.*"):
            name = str(path.relative_to(tmp_path)).replace("/", "\\")
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    assert_same(in_place(str(tmp_path / "x.zip")), pictures[1])


@pytest.mark.parametrize("kind", ["zip", "xztar", "bztar"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_several_archives_side_by_side(
    kind: str, wrapped: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """COCO as it is downloaded: images of a split in an archive, annotations in another."""
    written("standard", tmp_path / "whole", pictures)
    for folder in ("train2017", "val2017", "test2017", "annotations"):
        base = (tmp_path / "whole", folder) if wrapped else (tmp_path / "whole" / folder,)
        shutil.make_archive(str(tmp_path / "data" / folder), kind, *base)
    assert_same(in_place(str(tmp_path / "data")), pictures[1])
    assert_same(in_place(str(tmp_path / "data")), pictures[1])  # from the cache
    shutil.copytree(tmp_path / "whole/annotations", tmp_path / "data/annotations")
    assert_same(in_place(str(tmp_path / "data")), pictures[1])


def test_two_exports_in_archives_are_not_mixed(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    written("ours", tmp_path / "whole", pictures)
    for name in ("v1", "v2"):
        shutil.make_archive(str(tmp_path / "data" / name), "zip", tmp_path / "whole", "train")
    with pytest.raises(UserError, match="v1.zip and v2.zip both hold train/annotations.json"):
        in_place(str(tmp_path / "data"))


@pytest.mark.parametrize("names", [("train", "val", "test"), ("my_train", "valid", "x tst")])
@pytest.mark.parametrize("layout", ["ours", "YOLO", "VOC by folder", "YOLO, names outside"])
@pytest.mark.parametrize("wrapped", ["", "export"])
@pytest.mark.parametrize("packed", [{"train", "val", "test"}, {"val", "test"}, {"train"}])
def test_an_archive_for_each_split(
    names: tuple[str, str, str], layout: str, wrapped: str, packed: set[str],
    tmp_path: Path, pictures: tuple[Path, Drawn],
) -> None:  # fmt: skip
    """images/ and labels/ of train.zip and of val.zip are not one."""
    whole = tmp_path / "whole"
    if layout.startswith("YOLO"):
        for split, listed in pictures[1].items():
            writers.move(pictures[0], whole, {split: listed}, "{split}/images")
            for picture in listed:
                put(whole / split / "labels" / f"{picture.stem}.txt", writers.yolo_lines(picture))
            outside = layout.endswith("outside")
            put((tmp_path / "data" if outside else whole / split) / "classes.txt", "red car\nblue\n")
    else:
        written(layout, whole, pictures)
    for split, name in zip(pictures[1], names, strict=True):
        own = next(f for f in whole.iterdir() if split_of(f"{f.name}/.") == split)
        if split in packed:
            outer = tmp_path / "outer" / name / wrapped
            outer.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(own, outer, dirs_exist_ok=True)
            shutil.make_archive(str(tmp_path / "data" / name), "zip", tmp_path / "outer" / name)
        else:
            shutil.copytree(own, tmp_path / "data" / split)
    assert_same(in_place(str(tmp_path / "data")), pictures[1])


def test_annotations_in_gzip(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("ours", tmp_path / "data", pictures)
    for path in list(root.rglob("annotations.json")):
        path.with_name("annotations.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    (root / "train/annotations.json.gz").write_bytes(b"not read, for it is there without")
    (root / "val/annotations.json").unlink()
    assert_same(in_place(str(root)), pictures[1])
    (root / "val/annotations.json.gz").write_bytes(gzip.compress(b"{}" * 1000)[:-20])
    with pytest.raises(UserError, match=r"val/annotations.json.gz: cannot be unpacked"):
        in_place(str(root))


def test_images_named_by_their_address_alone(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """As in LVIS."""
    root = written("standard", tmp_path / "data", pictures)
    for path in (root / "annotations").glob("*.json"):
        document = json.loads(path.read_text())
        for image in document["images"]:
            folder = path.stem.removeprefix("instances_")
            image["coco_url"] = f"http://images.cocodataset.org/{folder}/{image.pop('file_name')}"
        path.write_text(json.dumps(document))
    assert_same(in_place(str(root)), pictures[1])


def test_a_single_file_is_given_by_its_path(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("one file", tmp_path / "data", pictures)
    put(root / "other.json", writers.coco(pictures[1]["val"]))
    with pytest.raises(UserError, match=r"2 annotation files may be for train: boxes\.json, other\.json"):
        in_place(str(root))
    assert_same(in_place(str(root / "boxes.json")), pictures[1], splits=False)
    root = written("CVAT", tmp_path / "cvat", pictures)  # images/ is beside annotations/, not in it
    assert_same(in_place(str(root / "annotations/instances_default.json")), pictures[1], splits=False)
    root = written("YOLO", tmp_path / "yolo", pictures)
    assert_same(in_place(str(root / "data.yaml")), pictures[1])


@pytest.mark.parametrize("given", ["runs/labelme2coco", "runs/labelme2coco/dataset.json", "runs"])
def test_names_that_begin_in_a_folder_above_the_one_given(
    given: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    writers.move(pictures[0], tmp_path / "work/lm", pictures[1], "")
    document = writers.coco(writers.every(pictures[1]), lambda p: f"lm/{p.name}")
    put(tmp_path / "work/runs/labelme2coco/dataset.json", document)
    data = in_place(str(tmp_path / "work" / given))
    assert_same(data, pictures[1], splits=False)
    assert f"its images are read from {tmp_path / 'work'}, as their names lead there" in "".join(data.notes)


@pytest.mark.parametrize("given", ["coco", "coco/all.json"])
def test_a_coco_file_without_any_of_its_images_says_what_to_do(
    given: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    put(tmp_path / "x/coco/all.json", writers.coco(writers.every(pictures[1])))
    with pytest.raises(
        UserError, match=r"all\.json: .*, like its other images, is not in .*; give the folder that"
    ):
        in_place(str(tmp_path / "x" / given))


@pytest.mark.parametrize("word", ["valid", "validation", "val", "Val", "VALID", "dev", "my-val_2"])
def test_every_word_for_validation_is_understood(
    word: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written("ours", tmp_path / "data", pictures)
    (root / "val").rename(root / "elsewhere")
    (root / "elsewhere").rename(root / word)
    assert_same(in_place(str(root)), pictures[1])


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/instances_val2017.json", "val"), ("train/_annotations.coco.json", "train"),
        ("my_test_data/train/annotations.json", "train"), ("annotations/image_info_test-dev2017.json", "test"),
        ("instances_trainval2007.json", "train"), ("Validation/x.json", "val"), ("annotations/instances_default.json", None),
        ("trainer/contest.json", None), ("evaluation.json", "val"), ("images/train/x.jpg", "train"),
        ("train/images/test_track/.", "train"), ("train/dev_board/x.jpg", "train"), ("test_track/images/x.jpg", "test"),
        ("train/annotations_val.json", "val"), ("TrainSet/x.json", "train"), ("valset/x.json", "val"), ("TESTSET/.", "test"),
        ("01_train/.", "train"), ("eval/.", "val"), ("vld/.", "val"), ("tst/.", "test"), ("holdout/x.jpg", "test"),
    ],
)  # fmt: skip
def test_which_split_a_path_names(path: str, split: str | None) -> None:
    assert split_of(path) == split


def turned(folder: Path, place: Path, listed: list[Picture]) -> None:
    """Other pictures of the same names and sizes."""
    place.mkdir(parents=True, exist_ok=True)
    for picture in listed:
        with Image.open(folder / picture.name) as image:
            image.rotate(180).save(place / picture.name)


# A layout, where the training set's images lie in it, and a folder beside or below with pictures of the same names.
COPIES = [
    ("ours", "train/images", "augmented"), ("ours", "train/images", "zz"), ("ours", "train/images", "../Thumbnails"),
    ("ours", "train/images", "../../backup/train/images"), ("ours", "train/images", "../a depth"), ("Roboflow", "train", "preview"),
    ("Roboflow", "train", "aug/x/y"), ("standard", "train2017", "../train2017_masks"), ("standard", "train2017", "small"),
    ("standard", "train2017", "../depth/train2017"), ("CVAT", "images", "overlay"), ("CVAT", "images", "../a/images"),
    ("FiftyOne", "train/data", "thumbnails"), ("FiftyOne", "train/data", "../fields/data"), ("Label Studio", "images", "../old_images"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "place", "other"), COPIES)
@pytest.mark.parametrize("same", [False, True])
def test_another_folder_of_the_same_names_is_passed_over(
    layout: str, place: str, other: str, same: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(layout, tmp_path / "data", pictures)
    listed = pictures[1]["train"]
    if same:
        writers.move(pictures[0], root, {"train": listed}, f"{place}/{other}")
    else:
        turned(pictures[0], root / place / other, listed)
    data = in_place(str(root))
    source = data.sources["train"][0]
    named = [image["file_name"] for image in as_it_is(source["json_file"])["images"]]
    assert {path.parent.resolve() for path in find_images(Path(source["image_dir"]), named)} == {root / place}
    assert any("of the same names, not used" in note for note in data.notes) is not same


@pytest.mark.parametrize(
    ("one", "two"),
    [("images/cam0", "images/cam1"), ("cam0", "cam1"), (".", "images"), ("images", "data"), ("x", "images_2/y")],
)  # fmt: skip
@pytest.mark.parametrize("split", ["train", "val"])
def test_two_folders_that_fit_alike_are_refused(
    one: str, two: str, split: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written("ours", tmp_path / "data", pictures)
    shutil.rmtree(root / split / "images")
    listed = pictures[1][split]
    writers.move(pictures[0], root / split, {split: listed}, one)
    if two != "images_2/y":
        turned(pictures[0], root / split / two, listed)
        with pytest.raises(
            UserError, match="which have the same names and differ; keep one of the folders"
        ) as caught:
            in_place(str(root))
        assert f"image_dir in dataset.{split}_data_sources" in str(caught.value)
    shutil.rmtree(root / split / two, ignore_errors=True)
    assert_same(in_place(str(root)), pictures[1])


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """(a folder, the URL at which a server on loopback shows it)."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_dataset_at_a_web_address(
    web: tuple[Path, str], tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, url = web
    written("Roboflow", folder / "set", pictures)
    made = Path(shutil.make_archive(str(folder / "export"), "zip", folder / "set"))
    shutil.copy(made, folder / "download")
    for place in ("export.zip", "export.zip?key=SECRET", "download?key=SECRET", "set", "set/"):
        assert_same(in_place(f"{url}/{place}"), pictures[1])
    assert "SECRET" not in in_place(f"{url}/export.zip?key=SECRET").layout
    data = in_place(f"{url}/set/train/_annotations.coco.json")
    assert data.layout == "COCO file _annotations.coco.json, 1 split"
    assert len(seen(data)["train"]) == 6
    with pytest.raises(UserError, match="see that the address is right") as caught:
        in_place(f"{url}/gone.zip?key=SECRET")
    assert "SECRET" not in str(caught.value)
    with pytest.raises(UserError, match="localhost:1 .*Connect"):
        in_place("http://localhost:1/x.zip")


def further(root: Path, pictures: tuple[Path, Drawn]) -> dict[str, bool]:
    """More ways to lie on a disk, each in a folder of `root`; whether it keeps the splits."""
    images, drawn = pictures
    move = partial(writers.move, images)
    for split, listed in drawn.items():
        for name, place in (
            ("beside", f"{split}.json"), ("one images", f"annotations/{split}.json"), ("named", f"labels/{split}.json")
        ):  # fmt: skip
            said = (lambda p, s=split: f"data/{s}/{p.name}") if name == "named" else (lambda p: p.name)
            put(root / name / place, writers.coco(listed, said))
        put(
            root / f"other machine/{split}/annotations.json",
            writers.coco(listed, lambda p, s=split: f"D:\\me\\{s}\\{p.name}"),
        )
        put(
            root / f"urls/{split}/annotations.json",
            writers.coco(listed, lambda p: f"https://h/b/{quote(p.name)}?s=1"),
        )
        for picture in listed:
            put(root / f"flat yolo/{split}/{picture.stem}.txt", writers.yolo_lines(picture))
            put(root / f"cfg yolo/labels/{split}/{picture.stem}.txt", writers.yolo_lines(picture))
            put(root / f"studio yolo/labels/{picture.stem}.txt", writers.yolo_lines(picture))
            put(root / f"kaggle voc/annotations/{picture.stem}.xml", writers.voc_xml(picture))
        put(root / f"cvat voc/ImageSets/Main/{split.title()}.txt", "".join(f'"{p.name}"\n' for p in listed))
        for picture in listed:
            put(root / f"cvat voc/Annotations/{picture.stem}.xml", writers.voc_xml(picture))
    for name, place in (
        ("beside", "{split}"), ("one images", "images"), ("named", "data/{split}"), ("other machine", "{split}/images"),
        ("urls", "{split}/images"), ("flat yolo", "{split}"), ("cfg yolo", "images/{split}"), ("studio yolo", "images"),
        ("kaggle voc", "images"), ("cvat voc", "JPEGImages"), ("cvat parts", "images/default/{split}"), ("nested", "a b/{split}"),
    ):  # fmt: skip
        move(root / name, drawn, place)
    every = writers.every(drawn)
    put(root / "nested/all.json", writers.coco(every))
    put(
        root / "cvat parts/annotations/instances_default.json",
        writers.coco(every, lambda p: f"{p.stem.split('_')[0].split()[0]}/{p.name}"),
    )
    put(root / "flat yolo/classes.txt", "red car\nblue\n")
    put(root / "studio yolo/classes.txt", "red car\nblue\n")
    put(root / "studio yolo/notes.json", {"categories": []})
    put(
        root / "cfg yolo/cfg/data.yaml",
        "path: ..\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [red car, blue]\n",
    )
    whole = {"studio yolo", "kaggle voc"}
    return {folder.name: folder.name not in whole for folder in sorted(root.iterdir())}


def test_further_ways_to_lie_on_a_disk(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    for name, splits in further(tmp_path / "further", pictures).items():
        assert_same(in_place(str(tmp_path / "further" / name)), pictures[1], splits)


def test_companions_of_macos_are_no_data(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    for name in ("Roboflow", "YOLO", "VOC", "KITTI"):
        root = written(name, tmp_path / name, pictures)
        for path in [p for p in root.rglob("*") if p.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2")
        assert_same(in_place(str(root)), pictures[1])


# ---- what is there and not read is named --------------------------------------------------------------------------


def test_other_annotations_are_named(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("standard", tmp_path / "data", pictures)
    put(root / "annotations/image_info_test-dev2017.json", {"images": [], "categories": []})
    put(root / "train2017/_annotations.csv", "x")
    (root / "extra").mkdir()
    shutil.copy(next((root / "val2017").glob("*.png")), root / "extra")
    notes = told(root)
    for text in ("person_keypoints_train2017.json: not read", "captions_val2017.json: not read", "has no annotations",
                 "extra: not read, no annotations belong to its 1 image", "_annotations.csv: annotations in a format"):  # fmt: skip
        assert text in notes


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("layout", ["ours", "standard", "Roboflow", "FiftyOne", "standard below images"])
def test_a_file_without_annotations_is_for_test_alone(
    layout: str, split: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(layout, tmp_path / "data", pictures)
    for path in root.rglob("*.json"):
        if split_of(path.relative_to(root).as_posix()) == split:
            document = json.loads(path.read_text())
            del document["annotations"]
            put(path, document)
    if split != "test":
        spec = default_spec("train")
        with pytest.raises(UserError, match=r"annotations|images for|no training data"):
            raise UserError("\n".join(inspect(spec, str(root), work_dir=tmp_path / "work")["problems"]))
    else:
        data = in_place(str(root))
        assert_same(data, {s: listed for s, listed in pictures[1].items() if s != "test"})
        assert any("test" in note and "not read, it has no annotations" in note for note in data.notes)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_its_annotations_is_refused(
    split: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written("Roboflow", tmp_path / "data", pictures)
    (root / {"val": "valid"}.get(split, split) / "_annotations.coco.json").unlink()
    with pytest.raises(UserError, match=f"images for {split}, but no such annotation file"):
        in_place(str(root))


def test_test_images_without_annotations_are_named(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("Roboflow", tmp_path / "data", pictures)
    (root / "test/_annotations.coco.json").unlink()
    data = in_place(str(root))
    assert data.layout == "Roboflow COCO export, 2 splits"
    assert "test: not read, no annotations belong to its 2 images" in told(root)


def test_a_folder_of_no_known_layout_says_what_it_holds(tmp_path: Path) -> None:
    put(tmp_path / "data/train/a.json", {"shapes": []})
    put(tmp_path / "data/train/labels.csv", "a,b")
    with pytest.raises(
        UserError, match=r"no training data: .* must hold a layout of COCO .*train/a\.json, train/labels\.csv"
    ):
        in_place(str(tmp_path / "data"))


def test_run_folders_in_the_data_are_passed_over(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("ours", tmp_path / "data", pictures)
    put(root / "results/run.json", {"format": 1, "request": {}, "study": "x", "model": "y"})
    put(root / "results/annotations_val.json", writers.coco(pictures[1]["train"]))
    assert_same(in_place(str(root)), pictures[1])
    assert in_place(str(root)).notes == ()


@pytest.mark.parametrize("whole", [True, False])
def test_files_called_like_those_of_a_run_are_a_persons(
    whole: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root, every = tmp_path / "data", writers.every(pictures[1])
    writers.move(pictures[0], root, {"": every}, "images")
    if whole:
        put(root / "annotations.json", writers.coco(every))
    for n, (split, listed) in enumerate(pictures[1].items(), 1):
        put(root / f"{split}_split_{n}.json", writers.coco(listed))
    data = in_place(str(root))
    assert_same(data, pictures[1])
    assert any("annotations.json: not read" in note for note in data.notes) == whole


def test_files_of_a_run_are_passed_over_and_told(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = tmp_path / "data"
    writers.move(pictures[0], root, {"": writers.every(pictures[1])}, "images")
    put(root / "annotations.json", writers.coco(writers.every(pictures[1])))
    inspect(default_spec("train"), str(root), work_dir=root)
    assert (root / "val_split_0.json").is_file()
    data = in_place(str(root))
    assert not data.sources["val"]
    assert any("val_split_0.json: not read, a run wrote it of" in note for note in data.notes)


def test_sources_of_the_spec_win_over_the_folder(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("ours", tmp_path / "data", pictures)
    (root / "val/annotations.json").unlink()
    spec = default_spec("train")
    named = [{"image_dir": "a", "json_file": "b"}]
    spec["dataset"]["val_data_sources"] = named
    data = find_data(spec, str(root))
    assert data.sources["val"] == named
    assert data.sources["train"][0]["json_file"] == str(root / "train/annotations.json")


@pytest.mark.parametrize(
    ("exact", "other"),
    [
        ("val.json", "annotations_predicted_val.json"), ("val.json", "instances_val_old.json"),
        ("annotations_val.json", "instances_val_v2_backup.json"), ("instances_val2017.json", "instances_mini_val2017.json"),
        ("labels_valid.json", "annotations_val copy.json"), ("Validation.json", "instances_val (1).bak.json"),
    ],
)  # fmt: skip
def test_exact_names_win_and_others_are_not_guessed(
    exact: str, other: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    writers.move(pictures[0], root, pictures[1], "images")
    for split, listed in pictures[1].items():
        put(root / f"annotations/{exact if split == 'val' else f'{split}.json'}", writers.coco(listed))
    put(root / f"annotations/{other}", writers.coco(pictures[1]["train"]))
    data = in_place(str(root))
    assert_same(data, pictures[1])
    assert any(f"{other}: not read" in note for note in data.notes)
    (root / "annotations" / exact).rename(root / "annotations/my_val_final.json")
    with pytest.raises(UserError, match="2 annotation files may be for val"):
        in_place(str(root))


@pytest.mark.parametrize("place", ["images/{split}", "{split}", "a/{split}2017", "{split}/images"])
def test_one_file_is_parted_by_the_folders_of_its_images(
    place: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root, (folder, drawn) = tmp_path / "data", pictures
    writers.move(folder, root, drawn, place)
    put(root / "annotations.json", writers.coco(writers.every(drawn)))
    for where in (root, root / "annotations.json"):
        data = in_place(str(where))
        assert_same(data, drawn)
        assert any(
            "parted by the folders of its images: 6 images for train, 3 images for val, 2 images for test"
            in n
            for n in data.notes
        )
    (root / "elsewhere").mkdir()
    next(root.rglob("val_1.png")).rename(root / "elsewhere/val_1.png")
    data = in_place(str(root))
    assert_same(data, drawn, splits=False)
    assert any("folders of train and val and test: 1 image in none of these" in note for note in data.notes)


@pytest.mark.parametrize("by", ["rows", "lists", "folders"])
@pytest.mark.parametrize("strict", [False, True])
def test_what_a_parted_file_leaves_out_is_counted_as_that_of_a_whole_one(
    by: str, strict: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root, (folder, drawn) = tmp_path / "data", pictures
    document = writers.coco(writers.every(drawn))
    document["annotations"][0] |= {"image_id": str(document["annotations"][0]["image_id"])}
    document["annotations"] += [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 9, 9]} for n in (98, 99)
    ]
    writers.move(folder, root, drawn, "{split}" if by == "folders" else "images")
    for split, listed in drawn.items():
        names = {picture.name for picture in listed}
        if by == "lists":
            put(root / f"{split}.txt", "\n".join(names))
        for row in document["images"] if by == "rows" else ():
            row |= {"split": split} if row["file_name"] in names else {}
    put(root / "annotations.json", document)
    found = inspect({"dataset": {"strict": strict}}, str(root), work_dir=tmp_path)
    assert any("parted by" in note for note in found["warnings"])
    left_out = f"{root / 'annotations.json'}: 2 boxes of images that are not listed left out; "
    says = "dataset.strict allows none" if strict else "more than dataset.mended_share"
    assert any(left_out in problem and says in problem for problem in found["problems"])
    assert any("1 image id written as another type" in note for note in found["warnings"])


# ---- YOLO ---------------------------------------------------------------------------------------------------------


def yolo_with(root: Path, pictures: tuple[Path, Drawn], text: str) -> Path:
    written("YOLO", root, pictures)
    put(root / "data.yaml", text)
    return root


SAME = [
    "train: images/train\nval: images/val\ntest: images/test\nnames: [red car, blue]\n",
    "path: .\ntrain: [images/train]\nvalid: ./images/val\ntest: images\\test\nnames: {0: red car, 1: blue}\nnc: 2\n",
    "path: /content/drive/shapes\ntrain: /content/drive/shapes/images/train\nval: D:\\shapes\\images\\val\ntest: ../images/test/\nnames: {'0': red car, '1': blue}\n",
    "train: lists/a.txt\nval: images/val\ntest: images/test\nnames: [red car, blue]\n",
    "names: [red car, blue]\n",
]


@pytest.mark.parametrize("text", SAME)
def test_data_yaml_in_all_its_forms(text: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = yolo_with(tmp_path / "data", pictures, text)
    names = [
        "./../images/train/{}",
        "/home/me/shapes/images/train/{}",
        "images/train/{}",
        "images\\train\\{}",
    ]
    train = [p.name for p in pictures[1]["train"]]
    put(
        root / "lists/a.txt",
        "".join(names[n % len(names)].format(name) + "\n" for n, name in enumerate(train)),
    )
    assert_same(in_place(str(root)), pictures[1])


def test_levels_in_the_other_order_and_names_by_line(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("YOLO of Roboflow", tmp_path / "data", pictures)
    (root / "data.yaml").unlink()
    with pytest.raises(UserError, match=r"YOLO labels without names: data\.yaml or classes\.txt"):
        in_place(str(root))
    put(root / "classes.txt", "red car\nblue\n")
    assert_same(in_place(str(root)), pictures[1])


def test_names_stay_as_they_are_written(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = yolo_with(
        tmp_path / "data",
        pictures,
        "train: images/train\nval: images/val\ntest: images/test\nnames: [no, 010]\n",
    )
    document = as_it_is(in_place(str(root)).sources["train"][0]["json_file"])
    assert document["categories"] == [{"id": 1, "name": "no"}, {"id": 2, "name": "010"}]


def test_polygons_poses_and_confidences_become_boxes(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    labels = root / "labels/train/train_0.txt"
    labels.write_text("0 .25 .5 .75 .5 .5 .9\n1 .5 .5 .5 .5 .87\n1.0 .25 .25 .75 .25 .75 .75 .25 .75\n")
    data = in_place(str(root))
    assert any(
        "YOLO (data.yaml): 1 lines with a sixth field, taken as a confidence" in note for note in data.notes
    )
    boxes = seen(data)["train"]["train_0"]
    assert boxes == [
        ("red car", *map(pytest.approx, (20, 30, 40, 24))),
        ("blue", 20, 15, 40, 30),
        ("blue", 20, 15, 40, 30),
    ]
    labels.write_text("0 .5 .5 .5 .5 " + "0.1 0.2 2 " * 3)
    put(root / "data.yaml", (root / "data.yaml").read_text() + "kpt_shape: [3, 3]\n")
    assert seen(in_place(str(root)))["train"]["train_0"] == [("red car", 20, 15, 40, 30)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 .5 .5 .1 .1", "train_0.txt:1: class 2 has no name; there are 2, from 0"),
        ("0 .5 .5 .1", "train_0.txt:1: a label must be a class and 4 numbers"),
        ("\n0 40 30 20 20", "train_0.txt:2: coordinates must be shares of the image"),
        ("0 nan .5 .1 .1", "coordinates must be shares"),
        ("0 a b c d", "4 numbers or more, but got"),
        ("0.5 .5 .5 .1 .1", "class 0.5 has no name"),
        ("-1 .5 .5 .1 .1", "class -1 has no name"),
    ],
)
def test_broken_label_lines(
    text: str, message: str, tmp_path: Path, pictures: tuple[Path, Drawn], cache: Path
) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    (root / "labels/train/train_0.txt").write_text(text)
    with pytest.raises(UserError) as caught:
        in_place(str(root))
    assert message in str(caught.value)
    assert not list(cache.rglob("*.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images/trian\nnames: [a, b]\n", "images/trian is neither in"),
        ("train: images/train\nval: images/val\nnames: [a, b]\nnc: 3\n", "nc is 3, but there are 2 names"),
        (
            "train: /x/images/train\nval: /y/images/train\nnames: [a, b]\n",
            "train and val lead to the same place",
        ),
        ("train: images/train\nval: labels\nnames: [a, b]\n", "val names no images"),
        ("train: images/train\nnames: [a, [b]]\n", "names must be text or a list of texts"),
        ("train: {a: b}\nnames: [a, b]\n", "train must be text or a list of texts"),
        ("path: [a]\ntrain: images/train\nnames: [a, b]\n", "path must be one value, but is a list"),
        ("train: images/train\nnc: [2]\n", "nc must be one value"),
        ("train: images/train\nnc: many\n", "nc must be a whole number"),
        ("train: images/train\nnames: {a: b}\n", "names must be a list, or a mapping of numbers"),
    ],
)
def test_broken_configurations(text: str, message: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    with pytest.raises(UserError, match=message):
        in_place(str(yolo_with(tmp_path / "data", pictures, text)))


@pytest.mark.parametrize("name", ["YOLO", "YOLO of Roboflow", "YOLO of CVAT"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_that_is_named_and_not_there_is_a_note(
    split: str, name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """Roboflow names a test set in every data.yaml."""
    root = written(name, tmp_path / "data", pictures)
    for path in [root / "valid" if split == "val" else root / split, *root.rglob(f"*{split}*")]:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
    data = in_place(str(root))
    assert any(f"{split} names" in note and "which is not there" in note for note in data.notes)
    assert_same(data, {s: listed for s, listed in pictures[1].items() if s != split})


@pytest.mark.parametrize("place", ["images/none", "none.txt"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_whose_folder_or_list_is_empty_is_a_note(
    split: str, place: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """Supervisely names images/val whether it puts images there or none."""
    root = written("YOLO", tmp_path / "data", pictures)
    shutil.rmtree(root / "images" / split)
    shutil.rmtree(root / "labels" / split)
    put(root / place, "") if place.endswith(".txt") else (root / place).mkdir()
    put(root / "labels/none/.gitkeep", "")
    put(root / "images/none/Thumbs.db", "")
    put(root / "data.yaml", (root / "data.yaml").read_text().replace(f"images/{split}", place))
    data = in_place(str(root))
    assert any(note.endswith(f"{split} names {place}, which is empty: not read") for note in data.notes)
    assert_same(data, {s: listed for s, listed in pictures[1].items() if s != split})


def test_an_empty_folder_whose_labels_are_there_is_refused(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    for image in (root / "images/val").iterdir():
        image.unlink()
    with pytest.raises(
        UserError, match=r"val names no images \(images/val\); their labels are in .*labels/val: put"
    ):
        in_place(str(root))


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("absolute", ["path", "entries"])
def test_a_path_that_leads_to_another_folder(
    absolute: str, holds: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """A copy is used where it is whole; else what is named, and that is said."""
    other, root = (written("YOLO", tmp_path / name, pictures) for name in ("other", "data"))
    for label in (root / "labels/train").iterdir():
        label.write_text("")  # tells the two apart
    if not holds:
        shutil.rmtree(root / "images")
        put(root / "images/about.txt", "moved")
    start = f"{other}/" if absolute == "entries" else ""
    path = f"path: {other}\n" if absolute == "path" else ""
    entries = "".join(f"{split}: {start}images/{split}\n" for split in ("train", "val", "test"))
    put(root / "data.yaml", f"{path}{entries}names: [red car, blue]\n")
    data = in_place(str(root))
    notes = "\n".join(data.notes)
    if holds and absolute == "path":
        assert not any(seen(data)["train"].values())
        assert f"its path: {other} is not followed" in notes
    else:
        assert_same(data, pictures[1])
        assert f"images of {other}/images/test, {other}/images/train, {other}/images/val are used" in notes
    assert_same(in_place(str(root / "data.yaml")), pictures[1])  # given itself it is followed


def test_a_neighbour_of_the_dataset_is_not_its_test_set(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """Roboflow's `test: ../test/images`, without a test set, beside another dataset's folder of that name."""
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [red car, blue]\n"
    root = written("YOLO of Roboflow", tmp_path / "data", pictures)
    (root / "data.yaml").write_text(text)
    shutil.move(root / "test", tmp_path / "test")
    data = in_place(str(root))
    assert any("test names" in note and "which is not there" in note for note in data.notes)
    assert_same(data, {s: listed for s, listed in pictures[1].items() if s != "test"})


BITS = st.recursive(
    st.sampled_from(
        ["", "~", "images/train", "\\\\", "0", "-1", "1e99", "/", "..", "a\0b", "é", "labels", "x.txt"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "1", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.dictionaries(
        st.sampled_from(["path", "train", "val", "test", "names", "nc", "kpt_shape"]), BITS
    )
)
def test_any_configuration_is_read_or_refused(document: dict[str, object], yolo_folder: Path) -> None:
    put(yolo_folder / "data.yaml", json.dumps(document))
    with contextlib.suppress(UserError):
        assert in_place(str(yolo_folder)).sources["train"]


@pytest.fixture
def yolo_folder(tmp_path: Path, pictures: tuple[Path, Drawn]) -> Path:
    return written("YOLO", tmp_path / "data", pictures)


def test_no_labels_for_a_split(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    shutil.rmtree(root / "labels/test")
    assert any("2 images for test without labels, not used" in n for n in in_place(str(root)).notes)
    shutil.rmtree(root / "labels/val")
    with pytest.raises(UserError, match="not one of the 3 images for val has a label file"):
        in_place(str(root))


# ---- VOC, KITTI ---------------------------------------------------------------------------------------------------


def test_voc_without_lists_and_with_trainval(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("VOC", tmp_path / "data", pictures)
    lists = root / "VOCdevkit/VOC2012/ImageSets/Main"
    (lists / "train.txt").unlink()
    assert_same(in_place(str(root)), pictures[1])
    (lists / "val.txt").unlink()
    assert len(seen(in_place(str(root)))["train"]) == 9
    shutil.rmtree(lists.parent)
    assert len(seen(in_place(str(root)))["train"]) == 11


def test_voc_finds_images_by_name_and_by_what_the_file_says(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written("VOC by folder", tmp_path / "data", pictures)
    label = root / "train/train_0.xml"
    label.rename(label.with_name("other.xml"))
    assert_same(in_place(str(root)), pictures[1])
    other = root / "train/other.xml"
    other.write_text(other.read_text().replace("train_0.png", "gone.png"))
    with pytest.raises(UserError, match=r"other\.xml: its image is not there"):
        in_place(str(root))


@pytest.mark.parametrize(
    ("said", "copied", "refused"),
    [
        ("{other}.png", False, True),
        ("{other}", False, True),
        ("{other}.jpg", False, True),
        ("C:\\x\\{other}.png", False, True),
        ("{other}.png", True, False),
        ("{own}.jpg", False, False),
        ("{own}", False, False),
        ("not there.png", False, False),
        ("", False, False),
    ],
)
@pytest.mark.parametrize("place", ["Annotations", "JPEGImages"])
def test_voc_labels_that_name_another_image_that_is_there(
    place: str, said: str, copied: bool, refused: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = tmp_path / "data"
    own, other = [p for p in pictures[1]["train"] if p.boxes][:2]
    writers.move(pictures[0], root, {"train": [own, other]}, "JPEGImages")
    text = said.format(own=own.stem, other=other.stem)
    put(root / f"{place}/{own.stem}.xml", writers.voc_xml(own).replace(own.name, text))
    if copied:
        shutil.copy(root / f"JPEGImages/{own.name}", root / f"JPEGImages/{other.name}")
    if refused:
        with pytest.raises(
            UserError, match=f"may be of .*{own.name} by its own name or of .*{other.name} by its"
        ):
            in_place(str(root))
    else:
        assert len(seen(in_place(str(root)))["train"][own.stem]) == 2


def test_two_voc_labels_of_one_image_are_both_named(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("VOC by folder", tmp_path / "data", pictures)
    shutil.copy(root / "train/train_0.xml", root / "train/copy.xml")
    with pytest.raises(
        UserError, match=r"xml: its image train/train_0.png is that of train/\w+.xml too; keep one"
    ):
        in_place(str(root))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<bndbox>", "<rndbox>", "not valid XML"),
        ("<name>", "<nome>", "not valid XML"),
        ("<annotation>", "<!DOCTYPE a [<!ENTITY x 'y'>]><annotation>", "need no document type"),
        ("<xmax>", "<xmax>-", "xmin <= xmax and ymin <= ymax must hold"),
        ("</object>", "<bndbox><xmin>1</xmin></bndbox></object>", "must have one bndbox, but has 2"),
    ],
)
def test_broken_xml(old: str, new: str, message: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("VOC", tmp_path / "data", pictures)
    label = root / "VOCdevkit/VOC2012/Annotations/train_0.xml"
    text = label.read_text().replace("<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>", "")
    label.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"train_0\.xml: .*{message}"):
        in_place(str(root))


@pytest.mark.parametrize("count", [1, 2, 20])
def test_swapped_corners_of_voc_are_counted(count: int, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("VOC", tmp_path / "data", pictures)
    left = count
    for label in sorted(root.rglob("train_*.xml")) + sorted(root.rglob("[!t]*.xml")):
        text, done = re.subn(
            r"<xmin>([\d.]+)</xmin>(<ymin>[\d.]+</ymin>)<xmax>([\d.]+)</xmax>",
            r"<xmin>\3</xmin>\2<xmax>\1</xmax>", label.read_text(), count=left,
        ) if left else (label.read_text(), 0)  # fmt: skip
        label.write_text(text)
        left -= done
    data = in_place(str(root))
    assert_same(data, pictures[1])
    found = inspect(default_spec("train"), str(root), work_dir=tmp_path / "work")
    told = "\n".join(found["warnings"] + found["problems"])
    assert " whose xmin and xmax, or ymin and ymax, stood in each other's place put right" in told
    assert "train_0.xml: object 1" in told
    assert ("more than dataset.mended_share" in "\n".join(found["problems"])) == (count > 1)


@pytest.mark.parametrize("corners", [True, False])
def test_corners_in_yolo_labels_are_asked_for(
    corners: bool, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    for label in (root / "labels").rglob("*.txt"):
        label.write_text("0 .1 .2 .5 .6\n1 .5 .5 .9 .8" if corners else "0 .9 .2 .5 .6\n1 .9 .5 .9 .8")
    found = inspect(default_spec("train"), str(root), work_dir=tmp_path / "work")
    assert all("boxes beyond the border clipped" in line for line in found["problems"])
    assert len(found["problems"]) in (2, 3)
    assert all(("are these x1 y1 x2 y2?" in line) == corners for line in found["problems"])


def test_a_document_type_without_entities_does_no_harm(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("VOC by folder", tmp_path / "data", pictures)
    for label in root.rglob("*.xml"):
        label.write_text(f'<?xml version="1.0"?>\n<!DOCTYPE annotation>\n{label.read_text()}')
    assert_same(in_place(str(root)), pictures[1])


def test_unlabelled_kitti_images_are_named(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("KITTI", tmp_path / "data", pictures)
    shutil.rmtree(root / "test/label_2")
    data = in_place(str(root))
    assert f"KITTI: 9 {LEFT_OUT}" in data.notes
    assert "image_2: not read, no split and labels are known of its 2 images" in told(root)


def test_kitti_by_lists(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """As readers of KITTI lay it out: one folder for train and val, lists that part them; the names of testing/ are
    those of training/ again."""
    root, (folder, drawn) = tmp_path / "data", pictures
    writers.kitti(tmp_path / "by folder", folder, drawn)
    for split in ("train", "val"):
        shutil.copytree(tmp_path / "by folder" / split, root / "training", dirs_exist_ok=True)
        put(root / f"ImageSets/{split}.txt", "".join(f"{p.stem}\n" for p in drawn[split]))
    shutil.copytree(tmp_path / "by folder/train/image_2", root / "testing/image_2")
    put(root / "ImageSets/test.txt", "".join(f"{p.stem}\n" for p in drawn["train"]))
    wanted = {split: drawn[split] for split in ("train", "val")}
    data = in_place(str(root))
    assert_same(data, wanted)
    assert any("names 6 images for test, none is there with labels" in note for note in data.notes)
    shutil.rmtree(root / "testing")
    put(root / "ImageSets/test.txt", "000000\n")
    assert any("names 1 image for test, none is there" in n for n in in_place(str(root)).notes)
    (root / "ImageSets/train.txt").rename(root / "ImageSets/trainval.txt")
    assert_same(in_place(str(root)), wanted)
    put(root / "ImageSets/train.txt", "gone\n")
    with pytest.raises(UserError, match="train.txt: names gone, of which there is no image"):
        in_place(str(root))


def test_kitti_of_fiftyone(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("KITTI", tmp_path / "data", pictures)
    for split in pictures[1]:
        (root / split / "image_2").rename(root / split / "data")
        (root / split / "label_2").rename(root / split / "labels")
    assert_same(in_place(str(root)), pictures[1])
    assert_same(in_place(str(root / "train")), {"train": pictures[1]["train"]})


# ---- labels and images that do not fit each other -----------------------------------------------------------------


LABELLED = ["YOLO", "YOLO of Roboflow", "YOLO of CVAT", "VOC", "VOC by folder", "KITTI"]


def without_images(root: Path, *stems: str) -> None:
    """Take images away, and their names out of the lists."""
    for stem in stems:
        for path in root.rglob(f"{stem}.png"):
            path.unlink()
        for path in root.rglob("train.txt"):
            path.write_text("".join(line for line in path.open() if stem not in line))


def full(pictures: tuple[Path, Drawn]) -> tuple[Path, Drawn]:
    """The pictures that have objects: some tools write no label file for the others."""
    return pictures[0], {split: [p for p in listed if p.boxes] for split, listed in pictures[1].items()}


@pytest.mark.parametrize("name", LABELLED)
def test_many_labels_without_their_image_are_refused(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(name, tmp_path / "data", full(pictures))
    without_images(root, "train_0", "train_3")
    with pytest.raises(UserError, match=r"train_[03]\.(txt|xml): its image is not there"):
        in_place(str(root))


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_without_its_image_is_left_out_and_told(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = full(pictures)
    root = written(name, tmp_path / "data", (folder, drawn))
    without_images(root, "train_0")
    data = in_place(str(root))
    left = {**drawn, "train": [p for p in drawn["train"] if p.stem != "train_0"]}
    assert_same(data, left, LAYOUTS[name][2])
    assert any("1 label file without an image left out, such as" in note for note in data.notes)


@pytest.mark.parametrize("copy", ["{} (copy)", "{} - Copy", "{} - Copy (2)", "{} (1)", "Copy of {}"])
@pytest.mark.parametrize("name", LABELLED)
def test_a_copy_of_a_label_is_left_out(
    name: str, copy: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(name, tmp_path / "data", pictures)
    label = next(p for suffix in ("txt", "xml") for p in sorted(root.rglob(f"train_0.{suffix}")))
    text = label.read_text().replace("train_0", "gone")
    label.with_stem(copy.format("train_0")).write_text(text)
    data = in_place(str(root))
    assert_same(data, pictures[1], LAYOUTS[name][2])
    assert any("1 label file without an image left out, such as" in note for note in data.notes)


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_that_may_be_of_an_image_without_one_is_refused(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(name, tmp_path / "data", full(pictures))
    label = next(p for suffix in ("txt", "xml") for p in sorted(root.rglob(f"train_0.{suffix}")))
    label.with_stem("other").write_text(label.read_text().replace("train_0", "gone"))
    label.unlink()
    with pytest.raises(UserError, match=r"other\.(txt|xml): its image is not there"):
        in_place(str(root))


@pytest.mark.parametrize("name", ["YOLO", "KITTI"])
def test_other_texts_beside_the_labels_are_no_labels(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(name, tmp_path / "data", pictures)
    folder = next(root.rglob("train_0.txt")).parent
    for other, text in (
        ("classes.txt", "red car\nblue\n"),
        ("README.txt", "made in 2024 by us\n"),
        ("empty.txt", ""),
    ):
        put(folder / other, text)
    assert_same(in_place(str(root)), pictures[1])


@pytest.mark.parametrize("name", ["YOLO", "YOLO of Roboflow", "KITTI"])
def test_two_images_that_would_share_a_label_file_are_refused(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(name, tmp_path / "data", pictures)
    image = next(root.rglob("train_0.png"))
    shutil.copy(pictures[0] / "train_3.png", image.with_suffix(".bmp"))
    with pytest.raises(UserError, match=r"train_0\.txt: may belong to any of .*train_0\.bmp, .*train_0\.png"):
        in_place(str(root))


def test_unlabelled_images_beside_train_are_no_class(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    put(root / "data.yaml", "names: [red car, blue]\n")
    for split in ("val", "test"):
        shutil.rmtree(root / "images" / split)
        shutil.rmtree(root / "labels" / split)
    writers.move(pictures[0], root, {"x": pictures[1]["val"]}, "images/extra")
    data = in_place(str(root))
    assert_same(data, {"train": pictures[1]["train"]})
    assert "extra: not read" in told(root)


@pytest.mark.parametrize(
    ("format", "where"),
    [("YOLO", "train_0.txt:2"), ("VOC", "train_0.xml: object 2"), ("KITTI", "train_0.txt:2")],
)
def test_mended_boxes_are_told_by_their_label_file(
    format: str, where: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    folder, drawn = pictures
    first = drawn["train"][0]
    wide = Picture(first.stem, (first.boxes[0], ("blue", 70.0, 10.0, 20.0, 9.0)))
    LAYOUTS[format][0](tmp_path / "data", folder, drawn | {"train": [wide, *drawn["train"][1:]]})
    spec = default_spec("train")
    spec["dataset"].update(batch_size=2, mended_share=1.0)
    found = inspect(spec, str(tmp_path / "data"), work_dir=tmp_path / "work")
    assert any("1 box beyond the border clipped" in n and n.endswith(where) for n in found["warnings"]), found


@pytest.mark.parametrize("labels", ["labels", "Labels", "LABELS"])
@pytest.mark.parametrize("suffix", [".txt", ".TXT"])
def test_yolo_labels_in_any_case(
    labels: str, suffix: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    for path in (root / "labels").rglob("*.txt"):
        path.rename(path.with_suffix(suffix))
    (root / "labels").rename(root / "renamed")
    (root / "renamed").rename(root / labels)
    assert_same(in_place(str(root)), pictures[1])


def test_lists_with_remarks_and_subsets_of_cvat(tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("YOLO of CVAT", tmp_path / "data", pictures)
    text = (root / "obj.data").read_text()
    put(root / "obj.data", text.replace("train =", "Train =").replace("val =", "Validation ="))
    put(root / "val.txt", f"# my list\n{(root / 'val.txt').read_text()}")
    assert_same(in_place(str(root)), pictures[1])
    (root / "obj.data").unlink()
    put(root / "data.yaml", "Train: train.txt\nValidation: val.txt\nTest: test.txt\nnames: [red car, blue]\n")
    assert_same(in_place(str(root)), pictures[1])


# ---- converted once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["YOLO", "VOC", "KITTI"])
def test_labels_are_converted_once_and_anew_when_they_change(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = written(name, tmp_path / "data", pictures)
    first = in_place(str(root))
    with monkeypatch.context() as patch:
        patch.setattr(label_files, "_write", lambda *_: pytest.fail("converted again"))
        assert in_place(str(root)) == first
    label = next(p for p in sorted(root.rglob("train_0.*")) if p.suffix in (".txt", ".xml"))
    label.write_text(label.read_text().replace("red car", "blue").replace("0 ", "1 ", 1))
    second = in_place(str(root))
    assert second.sources != first.sources
    assert seen(second) != seen(first)


@pytest.mark.parametrize("name", ["YOLO", "VOC", "KITTI"])
def test_the_labels_of_an_image_that_is_mended_are_read(
    name: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """Whatever its size and time say, as after a copy that keeps them."""
    root = written(name, tmp_path / "data", pictures)
    image = next(root.rglob("train_0.png"))
    whole, times = image.read_bytes(), (image.stat().st_atime_ns, image.stat().st_mtime_ns)
    for content in (bytes(len(whole)), bytes(len(whole)), whole):
        image.write_bytes(content)
        os.utime(image, ns=times)
        data = in_place(str(root))
        assert bool(seen(data)["train"]["train_0"]) == (content == whole)
    assert_same(data, pictures[1], LAYOUTS[name][2])


def test_image_ids_differ_between_splits_and_are_without_gaps(
    tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    data = in_place(str(written("VOC", tmp_path / "data", pictures)))
    ids = [
        i["id"]
        for s in ("train", "val", "test")
        for i in json.loads(Path(data.sources[s][0]["json_file"]).read_text())["images"]
    ]
    assert ids == list(range(1, 12))


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8bgarbage")
    with pytest.raises(UserError, match=r"x\.tar\.gz: cannot be unpacked"):
        in_place(str(tmp_path / "x.tar.gz"))
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(UserError, match="it has nothing"):
        in_place(str(tmp_path / "empty.tar"))


@pytest.mark.parametrize("layout", ["ours", "standard", "Roboflow", "CVAT", "YOLO", "VOC", "KITTI"])
def test_pictures_that_no_annotation_file_lists_are_counted(
    layout: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    """Of COCO files; the other layouts take every picture of a folder."""
    root = tmp_path / "data"
    LAYOUTS[layout][0](root, *pictures)
    said = "in no annotation file"
    assert not [
        w for w in inspect(default_spec("train"), str(root), work_dir=tmp_path)["warnings"] if said in w
    ]
    image = next(root.rglob("train_0.png"))
    shutil.copy(image, image.with_name("zz.png"))
    told = [w for w in inspect(default_spec("train"), str(root), work_dir=tmp_path)["warnings"] if said in w]
    coco = LAYOUTS[layout][1].startswith(("COCO", "standard", "Roboflow", "CVAT"))
    assert told == (
        [f"{image.parent}: 1 image in no annotation file, such as zz.png, not used"] if coco else []
    )


@pytest.mark.parametrize("yaml", [True, False])
def test_label_files_that_begin_with_a_mark(yaml: bool, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    root = written("YOLO", tmp_path / "data", pictures)
    if not yaml:
        put(root / "data.yaml", "names: [red car, blue]\n")
    for label in (root / "labels").rglob("*.txt"):
        label.write_bytes(b"\xef\xbb\xbf" + label.read_bytes())
    assert_same(in_place(str(root)), pictures[1])


@pytest.mark.parametrize(
    "said",
    [
        "train: ../train/images\nval: ../val/images\n",
        "path: {root}\ntrain: train/images\nval: val/images\n",
        "path: ../data\ntrain: train/images\nval: val/images\n",
        "path: ..\ntrain: data/train/images\nval: data/val/images\n",
    ],
)
def test_a_folder_of_images_may_be_a_link(said: str, tmp_path: Path, pictures: tuple[Path, Drawn]) -> None:
    """Its labels lie beside the link, and nothing is said of images that lie elsewhere."""
    root, drawn = tmp_path / "data", {split: pictures[1][split] for split in ("train", "val")}
    for split, listed in drawn.items():
        writers.move(pictures[0], tmp_path / "raw", {split: listed}, "{split}")
        for picture in listed:
            put(root / split / f"labels/{picture.stem}.txt", writers.yolo_lines(picture))
        (root / split / "images").symlink_to(tmp_path / "raw" / split)
    put(root / "data.yaml", said.format(root=root) + "names: ['red car', 'blue']\n")
    data = in_place(str(root))
    assert_same(data, drawn)
    assert [note for note in data.notes if "data.yaml" in note] == []


@pytest.mark.parametrize(
    ("layout", "file", "other"),
    [
        ("standard", "annotations/instances_train2017.json", "annotations/instances_{}2017.json"),
        ("standard", "annotations/instances_val2017.json", "annotations/instances_{}2017.json"),
        ("ours", "train/annotations.json", "{}/annotations.json"),
        ("CVAT", "annotations/instances_default.json", ""),
    ],
)
def test_one_file_names_those_of_other_splits_beside_it(
    layout: str, file: str, other: str, tmp_path: Path, pictures: tuple[Path, Drawn]
) -> None:
    root = written(layout, tmp_path / "data", pictures)
    notes = [note for note in in_place(str(root / file)).notes if "by its name" in note]
    splits = [s for s in ("test", "train", "val") if other and other.format(s) != file]
    assert notes == [
        f"{root / other.format(s)}: for {s} by its name, not read; give {root} to have both" for s in splits
    ]

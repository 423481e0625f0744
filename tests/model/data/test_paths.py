"""File names as tools write them, and the files that they mean."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.data.documents import read
from model.data.images import open_rgb
from model.data.layouts import in_place
from model.data.paths import explain, find_image, find_images, renamed, walk
from model.data.problems import Problems
from model.errors import UserError
from tests.model.data.drawn import seen

NFC, NFD = unicodedata.normalize("NFC", "straße é.png"), unicodedata.normalize("NFD", "straße é.png")


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("x.png", "x.png"), ("x.png", "./x.png"), ("x.png", "images/x.png"), ("x.png", "../images/x.png"),
        ("images/x.png", "x.png"), ("cam 1/x.png", "cam 1\\x.png"), ("cam 1/x.png", "cam%201/x.png"),
        ("a b.v2.png", "a%20b.v2.png"), ("50%25 off.png", "50%25 off.png"), ("50% off.png", "50%25 off.png"),
        (NFC, NFD), (NFD, NFC), (NFD, quote(NFC)), ("x.png", "x.PNG"), ("X.JPG", "x.jpg"), ("Cam/X.png", "cam/x.PNG"),
        ("x.png", "/home/me/data/images/x.png"), ("cam/x.png", "C:\\data\\cam\\x.png"), ("x.png", "file:///data/x.png"),
        ("cam/x.png", "/home/me/other/x.png"), ("x.png", "https://host/bucket/x.png?X-Amz-Signature=a%2Fb"),
        ("x y.png", "s3://bucket/images/x%20y.png"), ("images/x.png", "/data/local-files/?d=images/x.png"),
        ("0a1b2c3d-x.png", "upload/1/0a1b2c3d-x.png"), ("x.png", "/data/upload/1/0a1b2c3d-x.png"),
        ("cam#2/図.png", "cam#2/図.png"), ("what?.png", "what?.png"), (" x.png", " x.png"), ("x", "x"),
    ],
)  # fmt: skip
def test_a_name_means_the_only_file_that_fits(there: str, name: str, tmp_path: Path) -> None:
    folder = files(tmp_path, there, "other.png", "._x.png", ".hidden/x.png", "__MACOSX/x.png")
    assert find_image(folder, name) == folder / there
    assert find_images(folder, [name, "other.png"]) == [folder / there, folder / "other.png"]


@pytest.mark.parametrize(
    ("there", "name", "why"),
    [
        (["cam1/x.png"], "cam2/x.png", "; did you mean 'cam1/x.png'?"),  # another camera's picture
        (["a/x.png", "b/x.png"], "x.png", "; it may be any of a/x.png, b/x.png"),
        (["a/x.png", "b/x.png"], "/home/me/c/x.png", "; it may be any of a/x.png, b/x.png"),
        (["A.png", "a.PNG"], "a.png", "; it may be any of A.png, a.PNG"),
        (["image_001.png"], "imgae_001.png", "; did you mean 'image_001.png'?"),
        (["x.jpg"], "x.jpeg", "; did you mean 'x.jpg'?"),
        (["x.jpg"], "quite_another.png", ""),
        ([], "x.jpg", ""),
        (["x.jpg"], "", ""),
        (["x.jpg"], "../..", ""),
    ],
)
def test_what_may_be_another_file_is_not_taken(there: list[str], name: str, why: str, tmp_path: Path) -> None:
    folder = files(tmp_path, *there)
    assert not find_image(folder, name).is_file()
    assert explain(folder, name) == why


def test_the_longest_common_end_decides(tmp_path: Path) -> None:
    folder = files(tmp_path, "a/1/x.png", "b/1/x.png", "b/2/x.png")
    assert find_image(folder, "/home/me/data/b/1/x.png") == folder / "b/1/x.png"


def test_two_names_never_share_a_file_by_guessing(tmp_path: Path) -> None:
    folder = files(tmp_path, "x.png", "y.png")
    found = find_images(folder, ["cam1/x.png", "cam2/x.png", "y.png", "cam1/y.png"])
    assert [path.is_file() for path in found] == [False, False, True, False]
    assert find_images(folder, ["x.png", "x.png"]) == [folder / "x.png"] * 2  # said twice, not guessed


def test_a_file_that_comes_later_is_seen(tmp_path: Path) -> None:
    folder = files(tmp_path, "images/y.png")
    assert not find_image(folder, "images\\x.png").is_file()
    files(tmp_path, "x.png")
    assert find_image(folder, "images\\x.png").is_file()


def test_links_are_followed_once(tmp_path: Path) -> None:
    folder = files(tmp_path / "data", "readme")
    files(tmp_path / "disk", "deep/x.png")
    (folder / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/loop").symlink_to(folder)
    assert find_image(folder, "x.png") == folder / "images/deep/x.png"


def test_names_that_no_system_takes(tmp_path: Path) -> None:
    for name in (
        "a\0b.png",
        "x" * 5000,
        "/" * 50,
        "%00",
        "://",
        "file://",
        "C:\\",
        "\ud800.png",
        "?d=",
        "%zz%",
    ):
        assert not find_image(tmp_path, name).is_file()
        assert isinstance(explain(tmp_path, name), str)


PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0%?#:\n"), min_size=1, max_size=12
).filter(lambda part: part.strip() == part and not part.startswith((".", "~")) and len(part.encode()) < 60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(PART, min_size=1, max_size=3),
    way=st.sampled_from(["/", "\\", "%", "NFC", "NFD", "abs", "url", "win"]),
)
def test_any_name_in_any_writing_is_found(
    parts: list[str], way: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    name = "/".join(parts)
    try:
        files(folder, name)
    except OSError:
        return  # this disk does not take it
    written = {
        "/": name, "\\": name.replace("/", "\\"), "%": quote(name), "NFC": unicodedata.normalize("NFC", name),
        "NFD": unicodedata.normalize("NFD", name), "abs": f"/home/me/{name}", "url": f"https://host/{quote(name)}",
        "win": "D:\\data\\" + name.replace("/", "\\"),
    }[way]  # fmt: skip
    found = find_image(folder, written)
    assert found.samefile(folder / name)


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for n in range(2):
            image = tmp_path / "data" / split / "images" / f"{split}{n}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (n, 50, 9 if split == "val" else 200)).save(image)
            files(tmp_path / "data" / split, f"labels/{split}{n}.txt")
            (tmp_path / "data" / split / "labels" / f"{split}{n}.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "data/data.yaml").write_text("train: train/images\nval: val/images\nnames: [a]\n")
    return tmp_path / "data"


PLACES = ["train/images/pipe.png", "train/images/sub/pipe.jpg", "annotations.json", "train/annotations.json",
          "other.yaml", "classes.txt", "labels.csv", "train/labels/x.txt", "a.zip", "train/x.xml"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_pipes_are_no_files(place: str, yolo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open one would wait for ever."""
    monkeypatch.setenv("DETR_CACHE_DIR", str(yolo.parent / "cache"))
    (yolo / place).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(yolo / place)
    found = seen(in_place(str(yolo)))
    assert {split: sorted(of) for split, of in found.items()} == {
        s: [f"{s}0", f"{s}1"] for s in ("train", "val")
    }


@pytest.mark.parametrize("name", ["x.json", "data.yaml", "x.zip", "x", "train.png"])
def test_a_pipe_is_no_dataset_and_no_image(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="must be a folder or a regular file"):
        in_place(str(tmp_path / name))
    with pytest.raises(UserError, match="cannot be read as an image"):
        open_rgb(tmp_path / name)
    with pytest.raises(UserError, match="must be a regular file"):
        read(tmp_path / name, Problems())


@pytest.mark.parametrize("target", ["train/images", "train", "."])
@pytest.mark.parametrize("link", ["train/images/loop", "train/images/sub/loop"])
def test_a_link_to_a_folder_that_it_lies_in_is_not_followed(
    link: str, target: str, yolo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(yolo.parent / "cache"))
    (yolo / link).parent.mkdir(exist_ok=True)
    (yolo / link).symlink_to(yolo / target)
    assert [below for below, _ in walk(yolo / "train/images")] == ["", *(["sub"] if "sub" in link else [])]
    found = seen(in_place(str(yolo)))
    assert {split: sorted(of) for split, of in found.items()} == {
        s: [f"{s}0", f"{s}1"] for s in ("train", "val")
    }


def test_links_to_nothing_are_told_not_passed_over(yolo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(yolo.parent / "cache"))
    (yolo / "train/images/train0.png").unlink()
    (yolo / "train/images/train0.png").symlink_to("/nowhere/train0.png")
    with pytest.raises(UserError, match=r"train0\.png: leads to a file that is not there"):
        in_place(str(yolo))


@pytest.mark.parametrize(
    ("there", "names", "wanted"),
    [
        (["x.png", "y.png"], ["x.jpg", "y.jpg"], ["x.png", "y.png"]),
        (["x.jpg"], ["x.jpeg"], ["x.jpg"]),
        (["cam1/X.png", "cam2/x.png"], ["cam1/x.jpg", "cam2/x.jpg"], ["cam1/X.png", "cam2/x.png"]),
        (["a.v2.png"], ["images/a.v2.jpg"], ["a.v2.png"]),
        (["a b.png"], ["https://host/a%20b.jpg?x=1"], ["a b.png"]),
        (["x.png", "y.jpg"], ["x.jpg", "y.jpg"], [None, "y.jpg"]),  # x.jpg is missing, x.png is something else
        (["x.png", "x.bmp"], ["x.jpg"], [None]),
        (["a/x.png", "b/x.png"], ["x.jpg"], [None]),
        (["cam2/x.png"], ["cam1/x.jpg"], [None]),
        (["masks/x.png", "SegmentationClass/x.png"], ["x.jpg"], [None]),
        (["x.png"], ["x.jpg", "x.png"], [None, "x.png"]),
        (["x.txt"], ["x.jpg"], [None]),
        (["x.png", "y.png"], ["x.dcm", "Y.DCM"], ["x.png", "y.png"]),
        (["x.png", "y.jpg"], ["x", "y"], ["x.png", "y.jpg"]),
        (["a.v2.png", "b.2.png", "c.final2.png"], ["a.v2", "b.2", "c.final2"], ["a.v2.png", "b.2.png", "c.final2.png"]),
        (["a.png"], ["a.1", "a.2"], [None, None]),  # numbers of frames
        (["a.png"], ["a.1"], [None]),
        (["x", "y.png"], ["x", "y"], ["x", None]),
        (["x.dcm", "y.png"], ["x.dcm", "y.dcm"], ["x.dcm", None]),
        (["x.png"], ["x.dcm", "x.jpg"], [None, None]),
        (["x.png", "x.jpg"], ["x"], [None]),
        (["cam1/x.png", "cam2/x.png"], ["cam1/x", "cam2/x"], ["cam1/x.png", "cam2/x.png"]),
        (["x.txt"], ["x"], [None]),
    ],
)  # fmt: skip
def test_another_suffix_is_taken_where_all_have_it(
    there: list[str], names: list[str], wanted: list[str | None], tmp_path: Path
) -> None:
    folder = files(tmp_path, *there)
    found = find_images(folder, names)
    assert [p.relative_to(folder).as_posix() if p.is_file() else None for p in found] == wanted
    others = [n for n, p in zip(names, found, strict=True) if p.is_file()]
    assert renamed(others, [p for p in found if p.is_file()]) == sum(
        w not in (None, n) for n, w in zip(names, wanted, strict=True)
    )


def test_names_of_a_zip_in_another_encoding_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "图1.jpg".encode("gbk").decode("cp437")).write_bytes(b"")
    assert "another encoding than UTF-8" in explain(tmp_path, "图1.jpg")
    assert "another encoding" not in explain(tmp_path, "a1.jpg")


def test_a_folder_is_walked_under_its_own_name_whatever_links_lead_to_it(tmp_path: Path) -> None:
    for name in ("raw/train/inner", "raw/val", "outside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.png").touch()
    (tmp_path / "a_link").symlink_to(tmp_path / "raw" / "train")
    for name in ("raw/z", "raw/val/to"):
        (tmp_path / name).symlink_to(tmp_path / "outside")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path)
    assert [below for below, _ in walk(tmp_path / "raw")] == ["", "train", "train/inner", "val", "val/to"]
    assert [below for below, names in walk(tmp_path) if names] == [
        "outside", "raw/train/inner", "raw/val",
    ]  # fmt: skip

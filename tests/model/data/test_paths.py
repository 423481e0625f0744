"""File names as tools write them, and the files that they mean."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.data.paths import explain, find_image, find_images

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

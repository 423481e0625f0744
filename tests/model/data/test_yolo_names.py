"""Whichever file names the classes of YOLO labels, a box has the name that its folder's file gives its number; files
that contradict each other are refused or told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.data.layouts import in_place
from model.errors import UserError
from tests.model.data.drawn import put, seen

SPLITS = "train: train/images\nval: val/images\n"
BOX = ".5 .5 .3 .3"


pytestmark = pytest.mark.usefixtures("cache")


def labelled(root: Path, lines: str = f"0 {BOX}\n1 {BOX}\n", *folders: str) -> Path:
    """Two images a folder, each with these lines."""
    for folder in folders or ("train", "val"):
        for n in range(2):
            stem = f"{folder.replace('/', '_')}{n}"
            path = root / folder / "images" / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10), (len(folder) * 9, n * 90, 7)).save(path)
            put(root / folder / "labels" / f"{stem}.txt", lines)
    return root


def names(root: Path) -> dict[str, list[str]]:
    """{stem of an image: the names of its boxes}."""
    found = seen(in_place(str(root)))
    return {stem: [box[0] for box in boxes] for of in found.values() for stem, boxes in of.items()}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lists=st.lists(st.lists(st.sampled_from("abcd"), min_size=2, unique=True), min_size=2, max_size=3),
    place=st.sampled_from(["{}/classes.txt", "{}/labels/classes.txt", "{}/obj.names"]),
)  # fmt: skip
def test_each_folder_is_read_with_its_own_names(
    lists: list[list[str]], place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("lists")
    folders = [f"batch{n}" for n in range(len(lists))]
    labelled(root, f"0 {BOX}\n1 {BOX}\n", *folders)
    for folder, own in zip(folders, lists, strict=True):
        put(root / place.format(folder), "\n".join(own))
    found = names(root)
    assert found == {f"{f}{n}": own[:2] for f, own in zip(folders, lists, strict=True) for n in range(2)}
    told = [note for note in in_place(str(root)).notes if "read with its own names" in note]
    assert bool(told) == any(
        a[n] != b[n] for a, b in [(lists[0], o) for o in lists[1:]] for n in range(min(len(a), len(b)))
    )


def test_a_list_in_one_folder_serves_the_others(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "train/labels/classes.txt", "a\nb\n")
    assert set(map(tuple, names(root).values())) == {("a", "b")}
    put(root / "meta/classes.txt", "b\na\n")
    with pytest.raises(
        UserError, match=r"val0\.txt: class 0 is 'b' in .*meta/classes\.txt, but 'a' in .*train"
    ):
        in_place(str(root))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("data.yaml", f"{SPLITS}names: [a, b]\n"), ("classes.txt", "b\na\n")),
        (("data.yaml", f"{SPLITS}names: [a, b]\n"), ("train/labels/classes.txt", "a\nc\n")),
        (("data.yaml", f"{SPLITS}names: [a, b]\n"), ("notes.json", json.dumps({"categories": [{"id": 0, "name": "b"}]}))),
        (("classes.txt", "a\nb\n"), ("notes.json", json.dumps({"categories": [{"id": 0, "name": "b"}]}))),
        (("classes.txt", "a\nb\n"), ("obj.names", "a\nd\n")),
        (("data.yaml", f"{SPLITS}nc: 2\n"), ("classes.txt", "a\nb\nc\n")),
    ],
)  # fmt: skip
def test_names_that_contradict_each_other_are_refused(
    one: tuple[str, str], other: tuple[str, str], tmp_path: Path
) -> None:
    root = labelled(tmp_path / "data")
    for path, text in (one, other):
        put(root / path, text)
    with pytest.raises(UserError) as caught:
        in_place(str(root))
    assert str(root / one[0]) in str(caught.value)
    assert str(root / other[0]) in str(caught.value)
    (root / other[0]).unlink()
    assert in_place(str(root)).sources["train"]


def test_the_file_that_is_given_itself_wins(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}names: [a, b]\n")
    put(root / "classes.txt", "b\na\n")
    data = in_place(str(root / "data.yaml"))
    assert {b[0] for boxes in seen(data)["train"].values() for b in boxes} == {"a", "b"}
    assert any("classes.txt: not read; class 0 is 'a' in" in note for note in data.notes)


@pytest.mark.parametrize("text", ["a\nb\n", "a\nb\nc\n", "a\n"])
def test_names_that_agree_as_far_as_they_go(text: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}names: [a, b]\n")
    put(root / "classes.txt", text)
    put(root / "predefined_classes.txt", "dog\nperson\n")
    assert set(map(tuple, names(root).values())) == {("a", "b")}
    assert in_place(str(root)).notes == ()


def test_a_number_of_classes_takes_their_names_from_the_list(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}nc: 2\n")
    assert set(map(tuple, names(root).values())) == {("class_0", "class_1")}
    assert any("names no classes" in note for note in in_place(str(root)).notes)
    put(root / "notes.json", {"categories": [{"id": 1, "name": "b"}, {"id": 0, "name": "a"}]})
    assert set(map(tuple, names(root).values())) == {("a", "b")}


def test_other_configurations_are_refused_or_told(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}names: [a, b]\n")
    put(root / "coco8.yaml", f"{SPLITS}names: [x, b]\n")
    (note,) = in_place(str(root)).notes
    assert note == "coco8.yaml: not read, data.yaml is; class 0 is 'a' in data.yaml, but 'x' in coco8.yaml"
    (root / "data.yaml").rename(root / "mine.yaml")
    with pytest.raises(UserError, match=r"coco8\.yaml and mine\.yaml both describe a YOLO dataset"):
        in_place(str(root))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data.yaml", "names:\n  0: a\n  0: b\n  1: c\n", r"data\.yaml:5: the key '0' stands there twice"),
        ("data.yaml", "names: [a, b]\nnames: [b, a]\n", r"data\.yaml:4: the key 'names' stands there twice"),
        ("data.yaml", "names: {0: a, 00: b}\n", r"data\.yaml: names gives a number twice"),
        ("data.yaml", "names: [a, a]\n", r"data\.yaml: classes 0 and 1 are both called 'a'"),
        ("data.yaml", "names: [a, 'a ']\n", r"data\.yaml: classes 0 and 1 are both called 'a'"),
        ("data.yaml", "names: {0: a, 1: }\n", r"data\.yaml: class 1 has an empty name"),
        ("data.yaml", "names: [a, b\n", r"data\.yaml: cannot be read as YAML"),
        ("data.yaml", "names: [\xe9, b]\n", r"data\.yaml: cannot be read as YAML in UTF-8"),
        ("classes.txt", "a\nb\na\n", r"classes\.txt: classes 0 and 2 are both called 'a'"),
        ("classes.txt", "a\n\nb\n", r"classes\.txt: class 1 has an empty name"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_meant(file: str, text: str, message: str, tmp_path: Path, cache: Path) -> None:
    root = labelled(tmp_path / "data")
    (root / file).write_text((SPLITS if file == "data.yaml" else "") + text, encoding="latin-1")
    with pytest.raises(UserError, match=message) as caught:
        in_place(str(root))
    assert str(cache) not in str(caught.value)


@pytest.mark.parametrize("place", ["my.names", "cfg/my.names", "/content/data/my.names"])
def test_names_may_be_a_file(place: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}nc: 2\nnames: {place}\n")
    with pytest.raises(UserError, match="names must be a list, a mapping of numbers to names, or a file"):
        in_place(str(root))
    put(root / (place if place.startswith("cfg") else "my.names"), "a\nb\n")
    assert set(map(tuple, names(root).values())) == {("a", "b")}


@pytest.mark.parametrize("form", ["names: []\n", "names:\n", "names: {}\n", "nc: 0\n"])
def test_no_names_at_all(form: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", SPLITS + form)
    with pytest.raises(UserError, match=r"data\.yaml: it names no classes"):
        in_place(str(root))
    put(root / "classes.txt", "a\nb\n")
    assert set(map(tuple, names(root).values())) == {("a", "b")}


@pytest.mark.parametrize("form", ["names: [1, 2]\n", "names: {0: 1, 1: 2}\n"])
def test_names_may_be_numbers(form: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", SPLITS + form)
    assert set(map(tuple, names(root).values())) == {("1", "2")}


@pytest.mark.parametrize("folder", ["labels/extra", "train/labels/lost", "lost"])
def test_label_files_without_any_image_are_counted(folder: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}names: [a, b]\n")
    for n in range(3):
        put(root / folder / f"q{n}.txt", f"0 {BOX}\n")
    put(root / "notes/readme.txt", "what this is\n")
    (note,) = in_place(str(root)).notes
    assert note == f"{root / folder}: 3 label files without images, not read"


def test_another_number_of_the_same_names_is_converted_anew(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "train/classes.txt", "a\nb\n")
    put(root / "val/classes.txt", "a\nb\n")
    assert names(root)["val0"] == ["a", "b"]
    put(root / "val/classes.txt", "b\na\n")
    assert names(root)["val0"] == ["b", "a"]

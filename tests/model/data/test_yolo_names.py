"""Whichever file names the classes of YOLO labels, a box has the name that its folder's file gives its number; files
that contradict each other are refused or told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.data.documents import as_it_is
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
    place=st.sampled_from(["{}/classes.txt", "{}/labels/classes.txt", "{}/obj.names", "{}/data.yaml", "{}/a.yml"]),
)  # fmt: skip
def test_each_folder_is_read_with_its_own_names(
    lists: list[list[str]], place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("lists")
    folders = [f"batch{n}" for n in range(len(lists))]
    labelled(root, f"0 {BOX}\n1 {BOX}\n", *folders)
    for folder, own in zip(folders, lists, strict=True):
        yaml = place.endswith(("yaml", "yml"))
        put(root / place.format(folder), f"names: [{', '.join(own)}]\n" if yaml else "\n".join(own))
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


def _refused_until_one_is_gone(root: Path, one: tuple[str, str], other: tuple[str, str]) -> str:
    """What is said of two files of names; without the other the data set is read."""
    for path, text in (one, other):
        put(root / path, text)
    with pytest.raises(UserError) as caught:
        in_place(str(root))
    (root / other[0]).unlink()
    assert in_place(str(root)).sources["train"]
    return str(caught.value)


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
    said = _refused_until_one_is_gone(root, one, other)
    assert str(root / one[0]) in said
    assert str(root / other[0]) in said


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (("data.yaml", f"{SPLITS}names: [a, b]\n"), ("val/data.yaml", "names: [b, a]\n"), "correct or remove"),
        (("data.yaml", f"{SPLITS}names: [a, b]\n"), ("val/data.yaml", "train: images\nnames: [b, a]\n"), "correct or remove"),
        (("x/data.yaml", "path: ..\ntrain: ../train/images\nval: ../val/images\nnames: [a, b]\n"), ("data.yaml", "names: [b, a]\n"), "correct or remove"),
        (("x/data.yaml", "names: [a, b]\n"), ("y/data.yaml", "names: [b, a]\n"), "neither lies with it"),
        (("x/data.yaml", "names: [a, b]\n"), ("train/data.yaml", "names: [b, a]\n"), "neither lies with it"),
        (("train/data.yaml", "names: [a, b]\n"), ("val/data.yaml", "names: [a, b]\nkpt_shape: [2, 3]\n"), "kpt_shape"),
    ],
)  # fmt: skip
def test_yaml_files_of_which_it_cannot_be_told_which_counts_are_refused(
    one: tuple[str, str], other: tuple[str, str], message: str, tmp_path: Path
) -> None:
    said = _refused_until_one_is_gone(labelled(tmp_path / "data"), one, other)
    assert all(each in said for each in (one[0], other[0], message))


@pytest.mark.parametrize("names_file", ["data.yaml", "classes.txt"])
def test_a_data_yaml_that_lies_too_deep_is_told_and_refuses_nothing(names_file: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", f"0 {BOX}\n1 {BOX}\n", "x/y/z/train", "x/y/z/val")
    put(root / names_file, "names: [a, b]\n" if names_file == "data.yaml" else "a\nb\n")
    deep = root / "x/y/z/val/data.yaml"
    put(deep, "names: [b, a, c]\n")
    put(root / "x/y/z/other/data.yaml", "names: [d]\n")
    assert set(map(tuple, names(root).values())) == {("a", "b")}
    (note,) = in_place(str(root)).notes
    assert note.startswith(
        f"{deep}: not read, as it lies too deep; class 0 is 'a' in what is read, but 'b' in"
    )
    for text in (
        "names: [a\n",
        "names: {a: 0}\n",
        "names: [{a: 0}]\n",
        "names: gone.txt\n",
        "names: [a]\nx: 1\nx: 1\n",
    ):
        put(deep, text)
        assert set(map(tuple, names(root).values())) == {("a", "b")}
        assert in_place(str(root)).notes == ()
    deep.unlink()
    deep.symlink_to("gone.yaml")
    assert set(map(tuple, names(root).values())) == {("a", "b")}


def test_a_data_yaml_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    (root / "data.yaml").symlink_to("gone.yaml")
    with pytest.raises(UserError, match=r"data\.yaml: cannot be read as YAML .*No such file"):
        in_place(str(root))


@pytest.mark.parametrize("entries", [SPLITS, ""])
@pytest.mark.parametrize(
    "others",
    [
        ("configs/v1.yaml", "configs/v2.yaml"),
        ("train/old.yaml",),
        ("val/labels/metadata.yaml",),
        ("x.yaml", "y.yaml"),
    ],
)
def test_other_yaml_files_that_name_classes_are_not_read_and_told(
    entries: str, others: tuple[str, ...], tmp_path: Path
) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yml", f"{entries}names: [a, b]\n")
    for n, other in enumerate(others):
        put(root / other, f"names: [{'yz'[n]}, x]\nkpt_shape: [2, 3]\n")
    assert set(map(tuple, names(root).values())) == {("a", "b")}
    notes = in_place(str(root)).notes
    assert all(
        f"{root / other}: not read; class 0" in note for other, note in zip(others, notes, strict=True)
    )


def test_a_yaml_with_a_number_of_classes_alone_hides_no_names(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "custom.yaml", "nc: 2\n")
    put(root / "dataset.yaml", "names: [a, b]\n")
    assert set(map(tuple, names(root).values())) == {("a", "b")}
    (root / "custom.yaml").rename(root / "data.yaml")
    assert set(map(tuple, names(root).values())) == {("class_0", "class_1")}
    assert any("names no classes" in note for note in in_place(str(root)).notes)


def test_a_nearer_data_yaml_without_kpt_shape_or_names_says_nothing_of_them(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}names: [a, b]\nkpt_shape: [2, 3]\n")
    put(root / "train/data.yaml", "names: [a, b]\n")
    put(root / "val/data.yaml", "nc: 2\n")
    assert in_place(str(root)).notes == ()
    (root / "data.yaml").unlink()
    assert set(map(tuple, names(root).values())) == {("a", "b")}
    (note,) = in_place(str(root)).notes
    assert f"no file there or above names the classes; those of {root / 'train/data.yaml'} are read" in note


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
    assert note.startswith(
        f"{root / 'coco8.yaml'}: not read; class 0 is 'a' in {root / 'data.yaml'}, but 'x' in"
    )
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


LABELME2YOLO = f"{SPLITS}\nnames:\n    0: b\n    1: -\n"  # a class that is called `-`


@pytest.mark.parametrize("stale", ["classes.txt", ""])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LABELME2YOLO, r"in line 6, column 8: 1: - \^\); put names such as - or a: b in quotes"),
        (f"{SPLITS}nc: 2\nnames: [b, a: b: c]\n", r"line 4.*in quotes"),
        (f"{SPLITS}names: [\xe9, b]\n", r"'utf-8' codec .*; save it so"),
        ("names:[b, a]\nnc:2\n", r"line 1, 'names:\[b, a\]', needs a blank behind its colon"),
    ],
)
def test_yaml_of_any_name_that_names_classes_and_cannot_be_read_is_refused(
    text: str, message: str, stale: str, tmp_path: Path
) -> None:
    root = labelled(tmp_path / "data")
    if stale:
        put(root / stale, "a\nb\n")
    (root / "dataset.yaml").write_text(text, encoding="latin-1")
    for place in (root, root / "dataset.yaml"):
        with pytest.raises(UserError, match=rf"dataset\.yaml: .*{message}"):
            in_place(str(place))


def test_yaml_of_something_else_that_cannot_be_read_is_passed_over_unless_it_is_given(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "classes.txt", "a\nb\n")
    put(root / "compose.yaml", "# names: as below\nservices:\n  names: [\n")
    assert names(root)["train0"] == ["a", "b"]
    with pytest.raises(UserError, match=r"compose\.yaml: cannot be read as YAML"):
        in_place(str(root / "compose.yaml"))


def test_null_is_no_place(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    for none in ("", "~", "null"):
        put(
            root / "data.yaml",
            f"path: {none}\n{SPLITS}test: {none}\ndownload: {none}\nnc: {none}\nnames: [a, b]\n",
        )
        assert in_place(str(root)).notes == ()


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


NAMED = {
    "plain": "a\nb c\n", "a remark": "# my classes\na\nb c\n", "remarks": "#\n# of us\na\nb c\n", "numbers": "0 a\n1 b c\n",
    "colons": "0: a\n1: b c\n", "equals": "0=a\n1=b c\n", "tabs": "0\ta\n1\tb c\n", "dots": "0. a\n1. b c\n",
    "a line": "a, b c", "a list": "['a', 'b c']\n", "a last comma": "a,b c,\n", "blank lines behind": "a\nb c\n\n\n",
    "a remark, numbers": "# id name\n0 a\n1 b c\n", "windows": "\ufeff# x\r\n0: a\r\n1: b c\r\n",
}  # fmt: skip


@pytest.mark.parametrize(
    "file", ["classes.txt", "labels/classes.txt", "obj.names", "coco.names", "cfg/my.names"]
)
@pytest.mark.parametrize("form", NAMED)
def test_names_in_every_form_of_a_list(form: str, file: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / file, NAMED[form])
    assert set(map(tuple, names(root).values())) == {("a", "b c")}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 cent\n2 cent\n", ("1 cent", "2 cent")),
        ("1 euro\n2 cent\n", ("1 euro", "2 cent")),
        ("0 stars\n1 stars\n", ("0 stars", "1 stars")),
        ("0\n1\n", ("0", "1")),
        ("a, an ape\nb, a bear\n", ("a, an ape", "b, a bear")),
        ("3d\n4d\n", ("3d", "4d")),
    ],
)
def test_names_that_look_like_numbered_ones(text: str, wanted: tuple[str, str], tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "classes.txt", text)
    assert set(map(tuple, names(root).values())) == {wanted}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n#b\nc\n", "'#b' may be a remark or a class; take the line away"),
        ("#a\nb\n", "'#a' may be a remark or a class"),
        ("a\n# c\nb\n", "'# c' may be a remark or a class"),
        ("\na\nb\n", "class 0 has an empty name, as the first line is empty; take that line away"),
        ("a, , b", "class 1 has an empty name"),
    ],
)
def test_lists_of_names_that_may_be_meant_otherwise(text: str, message: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "classes.txt", text)
    with pytest.raises(UserError, match=f"classes.txt: {message}"):
        in_place(str(root))


@pytest.mark.parametrize("form", ["names: a, b\n", "nc: 2\nnames: 'a,b'\n", "names: \"'a', 'b'\"\n"])
def test_names_may_be_a_line_with_commas(form: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", SPLITS + form)
    assert set(map(tuple, names(root).values())) == {("a", "b")}


@pytest.mark.parametrize("place", ["", "data/"])
@pytest.mark.parametrize("other", ["a\nb\n", "b\na\n", "a\nb\nc\n"])
def test_tasks_of_cvat_side_by_side(other: str, place: str, tmp_path: Path) -> None:
    """Frames of all tasks have the same names, and obj.data says data/ of what lies beside it."""
    root = tmp_path / "data"
    for n, (task, listed) in enumerate((("t1", "a\nb\n"), ("t2", other))):
        home = root / task
        put(home / f"{place}obj.names" if other == "a\nb\n" else home / "obj.names", listed)
        put(
            home / "obj.data",
            "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        )
        put(home / f"{place}train.txt", "".join(f"data/obj_train_data/{x}.png\n" for x in "xy"))
        for m, stem in enumerate("xy"):
            image = home / place / f"obj_train_data/{stem}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10), (n * 90, m * 90, 7)).save(image)
            put(image.with_suffix(".txt"), f"{n} {BOX}\n")
    data = in_place(str(root))
    document = as_it_is(data.sources["train"][0]["json_file"])
    called = {c["id"]: c["name"] for c in document["categories"]}
    images = {i["id"]: i["file_name"] for i in document["images"]}
    boxes = {images[a["image_id"]]: called[a["category_id"]] for a in document["annotations"]}
    assert sorted(images.values()) == [
        f"{t}/{place}obj_train_data/{x}.png" for t in ("t1", "t2") for x in "xy"
    ]
    assert {name.split("/")[0]: kind for name, kind in boxes.items()} == {
        "t1": "a",
        "t2": other.split("\n")[1],
    }


def test_two_configurations_of_darknet_in_one_folder_are_refused(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "obj.names", "a\nb\n")
    for name, folder in (("obj.data", "images"), ("other.data", "images2")):
        put(root / name, f"train = {folder}\nnames = obj.names\n")
    with pytest.raises(
        UserError, match=r"obj\.data and .*other\.data both describe a YOLO dataset; keep one"
    ):
        in_place(str(root))


@pytest.mark.parametrize(
    ("lines", "told"),
    [("0 defects\n1 defect\n", "classes.txt: '0 defects' is read as 'defects', and so all names"),
     ("helmet, yellow\n", "classes.txt: its one line, 'helmet, yellow', is read as 2 names"),
     ("[a, b]", ""), ("0 mm\n1 mm\n", ""), ("a, b\nc\n", "")],
)  # fmt: skip
def test_names_that_are_read_otherwise_than_they_stand_are_told(
    lines: str, told: str, tmp_path: Path
) -> None:
    root = labelled(tmp_path / "data")
    put(root / "classes.txt", lines)
    notes = [note for note in in_place(str(root)).notes if "classes.txt" in note]
    assert [told in note for note in notes] == ([True] if told else [])


def test_one_line_with_commas_is_asked_about_where_all_labels_are_of_one_class(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", f"0 {BOX}\n")
    put(root / "classes.txt", "helmet, yellow\n")
    with pytest.raises(UserError, match="'helmet, yellow' may be one name or several"):
        in_place(str(root))
    (root / "classes.txt").unlink()
    put(root / "data.yaml", f"{SPLITS}names: ['helmet, yellow']\n")
    assert names(root)["train0"] == ["helmet, yellow"]


@pytest.mark.parametrize("nc", ["2", "2.0"])
def test_nc_is_a_whole_number_however_it_is_written(nc: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "data.yaml", f"{SPLITS}names: [a, b]\nnc: {nc}\n")
    assert names(root)["train0"] == ["a", "b"]
    for wrong in ("2.5", "two", ".nan", "-1"):
        put(root / "data.yaml", f"{SPLITS}names: [a, b]\nnc: {wrong}\n")
        with pytest.raises(UserError, match="nc must be a whole number of classes"):
            in_place(str(root))


@pytest.mark.parametrize("file", ["darknet.labels", "_darknet.labels", "classes.txt", "obj.names"])
@pytest.mark.parametrize("folder", ["", "labels"])
def test_files_of_names_as_tools_call_them(file: str, folder: str, tmp_path: Path) -> None:
    """V7 Darwin writes labels/darknet.labels."""
    labelled(tmp_path, f"0 {BOX}\n1 {BOX}\n", "set")
    put(tmp_path / "set" / folder / file, "a cat\ndog\n")
    assert names(tmp_path) == {"set0": ["a cat", "dog"], "set1": ["a cat", "dog"]}


def elsewhere(root: Path) -> list[str]:
    return [note for note in in_place(str(root)).notes if "no file there or above names the classes" in note]


@pytest.mark.parametrize("file", ["classes.txt", "obj.names", "predefined_classes.txt", "data.yaml", "a.yml"])
@pytest.mark.parametrize("place", ["cat", "cat/labels"])
def test_names_of_a_folder_beside_are_told_for_every_folder_that_has_none(
    place: str, file: str, tmp_path: Path
) -> None:
    text = "names: [a, b]\n" if file.endswith(("yaml", "yml")) else "a\nb\n"
    root = labelled(tmp_path / "data", f"1 {BOX}\n", "bird", "cat", "dog")
    put(root / place / file, text)
    assert set(map(tuple, names(root).values())) == {("b",)}
    assert elsewhere(root) == [
        f"{root}/bird/labels, {root}/dog/labels: no file there or above names the classes; those of "
        f"{root / place / file} are read"
    ]
    for folder in ("bird", "dog"):
        put(root / folder / file, text)
    assert not elsewhere(root)


@pytest.mark.parametrize("place", ["", "meta/", "images/", "cat/images/"])
def test_names_for_all_that_is_near_are_not_told(place: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", f"1 {BOX}\n", "cat")
    put(root / f"{place}classes.txt", "a\nb\n")
    assert not elsewhere(root)


def test_names_beside_a_folders_images_are_told_for_other_folders(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "train/images/classes.txt", "a\nb\n")
    (note,) = elsewhere(root)
    assert note.startswith(f"{root}/val/labels: ")


def test_a_folder_without_names_beside_two_with_other_ones_is_refused(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", f"1 {BOX}\n", "one", "two", "three")
    put(root / "one/classes.txt", "a\nb\n")
    put(root / "two/classes.txt", "b\na\n")
    with pytest.raises(UserError, match=r"three0\.txt: class 0 is 'a' in .*one.*neither lies with it; put"):
        in_place(str(root))


def test_a_list_to_choose_from_that_names_the_classes_is_told(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data")
    put(root / "predefined_classes.txt", "a\nb\n")
    (note,) = in_place(str(root)).notes
    assert note.startswith(
        f"{root}/predefined_classes.txt: labelImg's list to choose from, read as the names"
    )
    put(root / "train/classes.txt", "a\nb\n")
    put(root / "val/classes.txt", "a\nb\n")
    assert in_place(str(root)).notes == ()

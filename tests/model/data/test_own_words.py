"""Messages and notes name the files that a person gave, never what was made of them in the cache."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model.data.cache import came_from, in_own_words, once
from model.data.check import inspect
from model.data.coco import load_sources
from model.data.layouts import in_place
from model.errors import UserError
from model.spec import default_spec
from tests.model.data import drawn as writers
from tests.model.data.drawn import Drawn, put

OURS = {"image_dir": "images", "json_file": "annotations.json"}
WIDE = ("red car", 70.0, 10.0, 20.0, 9.0)  # beyond the border


pytestmark = pytest.mark.usefixtures("cache")


def told(place: Path, work_dir: Path, **dataset: object) -> str:
    spec = default_spec("train")
    spec["dataset"].update({"batch_size": 2} | dataset)
    try:
        found = inspect(spec, str(place), work_dir=work_dir)
    except UserError as error:
        return str(error)
    return "\n".join([*found["problems"], *found["warnings"]])


@pytest.mark.parametrize("place", ["/proc/nope/cache", "file", "file/below"])
def test_a_cache_that_cannot_be_made_is_called_so(
    place: str, tmp_path: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "file", "")
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / place))
    writers.LAYOUTS["YOLO"][0](tmp_path / "data", *pictures)
    message = told(tmp_path / "data", tmp_path / "work")
    assert message.startswith(f"{tmp_path / place}: the cache folder must be one that can be written")
    assert "set the environment variable DETR_CACHE_DIR" in message


def test_a_cache_in_which_nothing_can_be_kept_is_refused_before_a_training(
    tmp_path: Path, pictures: tuple[Path, Drawn], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers.ours(tmp_path / "data", *pictures)
    put(cache / "annotations", "no folder")
    message = told(tmp_path / "data", tmp_path / "work")
    assert message.startswith(f"{cache}: the cache folder must be one that can be written")
    assert "(annotations)" in message
    (cache / "annotations").unlink()
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(errno.ENOSPC))
    assert "no space left for the cache folder" in told(tmp_path / "data", tmp_path / "work")


def test_a_cache_that_is_filled_need_not_be_written(
    tmp_path: Path, pictures: tuple[Path, Drawn], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers.ours(tmp_path / "data", *pictures)
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(errno.EROFS))
    (cache / "annotations").mkdir(parents=True)
    assert "must be one that can be written" in told(tmp_path / "data", tmp_path / "work")
    (cache / "annotations/made").mkdir()
    assert "cache" not in told(tmp_path / "data", tmp_path / "work")


def refusing(number: int, words: str = "") -> Callable[..., Any]:
    def refuse(*args: Any, dir: str = "", **named: Any) -> None:
        raise OSError(words) if words else OSError(number, os.strerror(number), str(dir))

    return refuse


@pytest.mark.parametrize(
    ("number", "words", "wanted"),
    [
        (errno.ENOSPC, "", "no space left for the cache folder; free some, or set the environment"),
        (0, "16 requested and 0 written", "no space left for the cache folder"),
    ],
)
def test_a_cache_without_room_is_told(
    number: int,
    words: str,
    wanted: str,
    tmp_path: Path,
    pictures: tuple[Path, Drawn],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder's annotations, and an archive, which is not called damaged for it."""
    writers.ours(tmp_path / "data", *pictures)
    source = [{s: str(tmp_path / "data/train" / n) for s, n in OURS.items()}]
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "data")
    monkeypatch.setattr(np, "save", refusing(number, words))
    monkeypatch.setattr(zipfile.ZipFile, "extract", refusing(number, words))
    for made in (lambda: load_sources(source), lambda: in_place(packed)):
        with pytest.raises(UserError) as refused:
            made()
        assert str(refused.value).startswith(f"{cache}: {wanted}")


def test_a_cache_of_somebody_else_is_told_by_a_training(tmp_path: Path, cache: Path) -> None:
    other = cache / "other"
    with pytest.raises(
        UserError, match=r"cache: the cache folder .* permission denied \(other\); set the env"
    ):
        once(once(other, nothing), nothing, denied(other))
    with pytest.raises(PermissionError, match="mine"):  # no file of the cache
        once(cache / "third", denied(tmp_path / "mine"))


def nothing(partial: Path) -> None:
    pass


def denied(path: Path) -> Callable[[Path], Any]:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    return refuse


def test_what_is_needed_and_what_is_free_look_apart(
    tmp_path: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    writers.ours(tmp_path / "data", *pictures)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "data")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(
        UserError, match=r"needs 0\.\d MiB, but \S+ has 0\.0 MiB free; set the env.* DETR_CACHE_DIR"
    ):
        in_place(packed)


def test_a_home_that_is_not_there_names_the_cache(
    tmp_path: Path, pictures: tuple[Path, Drawn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DETR_CACHE_DIR")
    monkeypatch.setenv("HOME", "/proc/nope")
    writers.LAYOUTS["YOLO"][0](tmp_path / "data", *pictures)
    message = told(tmp_path / "data", tmp_path / "work")
    assert message.startswith("/proc/nope/.cache/deformable_detr: the cache folder must be")
    assert "DETR_CACHE_DIR" in message


def wide(pictures: tuple[Path, Drawn]) -> Drawn:
    return {
        split: [writers.Picture(p.stem, (*p.boxes, WIDE) if p.boxes else ()) for p in listed]
        for split, listed in pictures[1].items()
    }


def wrong_sizes(root: Path) -> None:
    for path in root.rglob("*.xml"):
        path.write_text(path.read_text().replace("<width>80<", "<width>81<"))


def unknown_class(root: Path) -> None:
    for path in root.rglob("val/**/*.json"):
        path.write_text(path.read_text().replace('"category_id": 1', '"category_id": 7'))


CASES: dict[str, tuple[str, Callable[[Path], None] | None, str]] = {
    "YOLO wide": ("YOLO", None, "labels/train: 5 boxes beyond the border"),
    "KITTI wide": ("KITTI", None, "train/label_2: 5 boxes beyond the border"),
    "VOC wide": ("VOC", None, "Annotations: 5 boxes beyond the border"),
    "VOC sizes": ("VOC", wrong_sizes, "Annotations: image 1: train_0.png is 80x60 px, the annotations say 81x60"),
    "COCO wide": ("ours", None, "train/annotations.json: 5 boxes beyond the border"),
    "COCO classes": ("ours", unknown_class, "val/annotations.json: annotation 1 of image 1 ("),
}  # fmt: skip


@pytest.mark.parametrize("packed", ["", "zip", "folder of zips"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_told_of_the_own_files(
    case: str, packed: str, tmp_path: Path, pictures: tuple[Path, Drawn], cache: Path
) -> None:
    layout, damage, wanted = CASES[case]
    place = tmp_path / "data"
    writers.LAYOUTS[layout][0](place, pictures[0], wide(pictures) if damage is None else pictures[1])
    if damage:
        damage(place)
    if packed:
        made = Path(shutil.make_archive(str(tmp_path / "packed/all"), "zip", place))
        put(made.parent / "readme.md", "two files: laid out, not unpacked alone")
        place = made if packed == "zip" else made.parent
    text = told(place, tmp_path / "work")
    assert wanted in text
    assert str(cache) not in text
    assert str(place) in text


def test_a_validation_set_that_was_drawn_is_told_of_the_own_file(
    tmp_path: Path, pictures: tuple[Path, Drawn], cache: Path
) -> None:
    """A run writes its parts of a file; whatever it finds in them later is told of that file."""
    writers.kitti(tmp_path / "data", pictures[0], {"train": wide(pictures)["train"]})
    spec = default_spec("train")
    spec["dataset"].update(batch_size=2, mended_share=1.0)
    found = inspect(spec, str(tmp_path / "data"), work_dir=tmp_path / "work")
    sources = found["fill"]["dataset.train_data_sources"]
    document = json.loads(Path(sources[0]["json_file"]).read_text())
    document["annotations"][0]["category_id"] = 9
    Path(sources[0]["json_file"]).write_text(json.dumps(document))
    with pytest.raises(
        UserError, match="data/train/label_2: annotation 1 of image 1 .* has the unknown category id 9"
    ):
        load_sources(sources)


def test_the_notes_of_an_archive_in_an_archive(
    tmp_path: Path, pictures: tuple[Path, Drawn], cache: Path
) -> None:
    writers.ours(tmp_path / "data", pictures[0], pictures[1])
    put(tmp_path / "data/labels.csv", "x")
    inner = shutil.make_archive(str(tmp_path / "one/inner"), "zip", tmp_path / "data")
    outer = shutil.make_archive(str(tmp_path / "outer"), "zip", Path(inner).parent)
    (note,) = in_place(outer).notes
    assert note == f"{outer}/inner.zip/labels.csv: annotations in a format that is not read"


def test_only_known_places_are_translated(cache: Path) -> None:
    target = cache / "laid_out" / ("0" * 32)
    target.mkdir(parents=True)
    other = cache / ("1" * 32)
    text = f"{target}/a.json, {target}: {other}/b and {target}0"
    assert in_own_words(text) == text
    came_from(target, "/home/me/é data")
    assert in_own_words(text) == f"/home/me/é data/a.json, /home/me/é data: {other}/b and {target}0"

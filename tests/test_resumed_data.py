"""A run that goes on does so on the data that it began with, or says what of them has changed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from automl import cli, restored_plan, same_data, trials
from automl.errors import UserError
from automl.plan import Plan, prepare
from automl.request import RunRequest
from automl.rundir import RunDir
from tests.automl.test_foreign_trainers import searched, shell_trainer
from tests.model.data.drawn import draw
from tests.model.data.test_check import edit
from tests.model.data.test_layouts import written
from tests.model.data.test_sources import Server

Document = dict[str, Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))


AGAIN = "the copy that this run trains on was gone, and was made again"


def begin(data: Path | str, tmp_path: Path) -> RunDir:
    """A run of which nothing has been trained yet."""
    run = RunDir(tmp_path / "run")
    asked = RunRequest(
        data=str(data), preset="small", trials=2, sets=("dataset.batch_size=2", "train.start=scratch")
    )
    run.write_run(restored_plan.describe(prepare(asked, run.root), run.root, "run-1"))
    return run


@pytest.fixture
def begun(own_demo: Path, tmp_path: Path) -> RunDir:
    return begin(own_demo, tmp_path)


def restored(run: RunDir, **changes: str) -> Plan:
    plan = restored_plan.restore(run, changes)
    same_data.check(plan, run.root)
    return plan


def halved(document: Document) -> None:
    document["annotations"] = document["annotations"][::2]


def swapped(document: Document) -> None:
    first, second = document["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]


def with_a_class_more(document: Document) -> None:
    document["categories"].append({"id": 4, "name": "new"})
    document["annotations"][0]["category_id"] = 4


def moved(document: Document) -> None:
    document["annotations"][0]["bbox"][2] -= 1


CASES: dict[str, tuple[tuple[str, ...], Callable[[Document], None], str]] = {
    "objects": (("val",), halved, r"val: \d+ objects then, \d+ now"),
    "names": (
        ("train", "val", "test"),
        swapped,
        r"class 1 was (\w+) and is (\w+), class 2 was \2 and is \1\n",
    ),
    "a class": (("train",), with_a_class_more, r"class 4 \(new\) is new\n"),
    "a box": (("test",), moved, "test: as many objects, but not the same, in other places"),
}


@pytest.mark.parametrize("case", CASES)
def test_other_annotations_are_refused_and_named(case: str, begun: RunDir, own_demo: Path) -> None:
    splits, change, message = CASES[case]
    for split in splits:
        edit(own_demo, split, change)
    with pytest.raises(UserError, match=message) as error:
        restored(begun)
    assert f"automl resume {begun.root}" in str(error.value)
    assert f"--warm-start {begun.root}" in str(error.value)


def test_a_missing_image_ends_a_resume_before_anything_is_changed(
    begun: RunDir, own_demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in begun.root.rglob("*") if path.is_file()}
    gone = next((own_demo / "train/images").iterdir())
    gone.unlink()
    assert cli.guarded(lambda: cli.app(["resume", str(begun.root)], standalone_mode=False)) == 2
    said = capsys.readouterr().err
    assert f"{gone.name} is not in" in said
    assert "Put them back" in said
    assert {path: path.read_bytes() for path in begun.root.rglob("*") if path in before} == before
    assert not (begun.root / "trials").exists()


def test_another_picture_under_an_old_name_is_told(begun: RunDir, own_demo: Path) -> None:
    turn_a_picture(own_demo)
    with pytest.raises(UserError, match="train: as many images, but not the same"):
        restored(begun)


def doubts(plan: Plan) -> list[str]:
    """What the plan says could not be compared."""
    return [text for text in plan.warnings if "could not be compared" in text]


def decoded_by_another(run: RunDir) -> None:
    document = run.read_run()
    document["facts"]["contents"]["read_by"] = "Pillow 1.0, libjpeg 6, abacus"
    run.write_run(document)


def turn_a_picture(data: Path) -> None:
    image = next((data / "train/images").iterdir())
    Image.open(image).transpose(Image.Transpose.ROTATE_180).save(image)


def test_pixels_that_another_decoder_reads_are_not_compared_and_that_is_said(
    begun: RunDir, own_demo: Path
) -> None:
    decoded_by_another(begun)
    assert not doubts(restored(begun))  # the pixels are the same all the same
    turn_a_picture(own_demo)
    for _ in range(2):
        (said,) = doubts(restored(begun))
        assert "what the images of train show: they were decoded by Pillow 1.0" in said
        assert "objects are" not in said


@pytest.mark.parametrize(
    ("change", "message"),
    [(moved, "val: as many objects, but not the same, in other places"), (halved, "val: .* objects then")],
)
def test_boxes_are_compared_whatever_decodes_the_images(
    change: Callable[[Document], None], message: str, begun: RunDir, own_demo: Path
) -> None:
    decoded_by_another(begun)
    for image in (own_demo / "val/images").iterdir():  # as of JPEG: no digest of a picture is as it was
        Image.open(image).convert("RGB").point(lambda v: v ^ 1).save(image)
    assert "what the images of val show: they" in str(doubts(restored(begun)))
    edit(own_demo, "val", change)
    with pytest.raises(UserError, match=message):
        restored(begun)


def test_where_boxes_were_is_not_known_of_an_earlier_version_and_another_decoder(
    begun: RunDir, own_demo: Path
) -> None:
    decoded_by_another(begun)
    document = begun.read_run()
    for split in ("train", "val", "test"):
        del document["facts"]["contents"][split]["labels"]
    begun.write_run(document)
    turn_a_picture(own_demo)
    edit(own_demo, "train", moved)
    assert "images of train show, and where the objects are: they" in str(doubts(restored(begun)))


def test_the_same_in_another_order_or_by_another_link_is_the_same(begun: RunDir, own_demo: Path) -> None:
    for split in ("train", "val"):
        edit(own_demo, split, lambda d: [d[key].reverse() for key in ("images", "annotations", "categories")])
    there = own_demo.with_name("elsewhere")
    own_demo.rename(there)
    own_demo.symlink_to(there)
    assert restored(begun).facts == begun.read_run()["facts"]


def test_a_validation_set_that_the_run_drew_is_the_same_again(own_demo: Path, tmp_path: Path) -> None:
    for split in ("val", "test"):
        (own_demo / split).rename(tmp_path / split)
    run = begin(own_demo, tmp_path)
    files = sorted(run.root.iterdir())
    assert any("val_split" in file.name for file in files)
    assert not any("has changed" in text for text in restored(run).warnings)
    assert sorted(run.root.iterdir()) == files
    edit(own_demo, "train", halved)
    (said,) = [text for text in restored(run).warnings if "has changed since this run began" in text]
    assert "train: " in said
    assert f"--warm-start {run.root}" in said


def with_a_crowd(document: Document) -> None:
    document["annotations"][0]["iscrowd"] = 1


def test_crowds_that_an_earlier_version_counted_among_the_boxes_are_no_change(
    own_demo: Path, tmp_path: Path
) -> None:
    edit(own_demo, "train", with_a_crowd)
    run = begin(own_demo, tmp_path)
    document = run.read_run()
    train = document["facts"]["train"]
    train["boxes"] += train.pop("crowds")
    run.write_run(document)
    assert not doubts(restored(run))
    of_another_format(document)
    run.write_run(document)
    assert "only numbers were compared" in str(doubts(restored(run)))


def without_digest(document: Document) -> None:
    del document["facts"]["contents"]


def of_another_format(document: Document) -> None:
    document["facts"]["contents"]["format"] = 0


def with_little(document: Document) -> None:
    document["facts"] = {"train": {"images": 12}}


UNKNOWN: dict[str, tuple[Callable[[Document], None], str]] = {
    "no digest": (
        without_digest,
        "has no digest; only numbers were compared (train images, train objects, val images, val objects, classes)",
    ),
    "format": (
        of_another_format,
        "their digest was recorded in format 0, and this version's is 1; only numbers",
    ),
    "little": (with_little, "has no digest; only numbers were compared (train images)"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_could_not_be_compared_is_said_and_noted(case: str, begun: RunDir, own_demo: Path) -> None:
    change, message = UNKNOWN[case]
    document = begun.read_run()
    change(document)
    begun.write_run(document)
    edit(own_demo, "val", moved)
    plan = restored(begun)
    (said,) = doubts(plan)
    assert message in said
    assert said.endswith("later starts are compared with those of now")
    begun.write_run(restored_plan.describe(plan, begun.root, "run-1"))
    after = begun.read_run()
    assert after["facts"] == document["facts"]  # what it began with is no more known than before
    again = restored(begun)
    (said,) = doubts(again)
    assert "; they are those that it went on with at 20" in said
    assert again.history["later_facts"] == after["later_facts"]
    edit(
        own_demo,
        "val",
        lambda d: d["annotations"][0]["bbox"].__setitem__(2, d["annotations"][0]["bbox"][2] + 1),
    )
    with pytest.raises(UserError, match="val: as many objects, but not the same") as told:
        restored(begun)
    assert "since this run went on at 20" in str(told.value)
    assert "since this run began" not in str(told.value)
    with pytest.raises(UserError, match="not the data that .* went on with at 20"):
        followed(begun, own_demo)


def test_a_run_of_an_earlier_version_is_compared_as_far_as_it_recorded(begun: RunDir, own_demo: Path) -> None:
    document = begun.read_run()
    without_digest(document)
    begun.write_run(document)
    edit(own_demo, "val", halved)
    with pytest.raises(UserError, match="since this run began:\n  val: .* objects then"):
        restored(begun)


def followed(run: RunDir, data: Path) -> Plan:
    return restored(run, data=str(data))


def test_data_that_moved_are_found_where_one_says(begun: RunDir, own_demo: Path) -> None:
    before, there = begun.read_run(), own_demo.with_name("else where")
    own_demo.rename(there)
    with pytest.raises(UserError, match=r"is gone; .*--data DIR"):
        restored(begun)
    plan = followed(begun, there)
    begun.write_run(restored_plan.describe(plan, begun.root, "run-1"))
    after = restored(begun)
    assert after.request.data == str(there)
    assert after.facts == before["facts"]
    assert str(own_demo) not in str(after.spec)
    assert {k: v for k, v in after.sources.items() if v == "data"} == {
        k: v for k, v in before["sources"].items() if v == "data"
    }
    full = trials.Trials(after, begun).spec_of(0, after.space.default)
    assert full["dataset"]["train_data_sources"][0]["image_dir"] == str(there / "train" / "images")


def test_a_trial_of_before_is_handed_over_with_the_data_of_now(begun: RunDir, own_demo: Path) -> None:
    plan = restored(begun)
    trials.Trials(plan, begun).job(0, plan.space.default)
    there = own_demo.with_name("elsewhere")
    own_demo.rename(there)
    said: list[str] = []
    full = trials.Trials(followed(begun, there), begun).spec_of(0, plan.space.default, said.append)
    assert full["dataset"]["val_data_sources"][0]["json_file"].startswith(str(there))
    assert not said


def test_other_data_are_not_taken_for_those_that_moved(begun: RunDir, own_demo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(own_demo, other)
    edit(other, "val", halved)
    before = begun.run_json.read_bytes()
    with pytest.raises(UserError, match=r"not the data that .*\n  val: \d+ objects then"):
        followed(begun, other)
    with pytest.raises(Exception, match="no-such: no such folder"):
        followed(begun, tmp_path / "no-such")
    assert begun.run_json.read_bytes() == before


def test_a_drawn_validation_set_moves_with_its_data(own_demo: Path, tmp_path: Path) -> None:
    for split in ("val", "test"):
        (own_demo / split).rename(tmp_path / split)
    run = begin(own_demo, tmp_path)
    there = own_demo.with_name("elsewhere")
    own_demo.rename(there)
    other = tmp_path / "other"
    shutil.copytree(there, other)
    edit(other, "train", halved)
    kept = {file: file.read_bytes() for file in run.root.glob("*_split_*.json")}
    with pytest.raises(UserError, match="not the data"):
        followed(run, other)
    assert {file: file.read_bytes() for file in run.root.glob("*_split_*.json")} == kept
    plan = followed(run, there)
    assert not [text for text in plan.warnings if "has changed" in text]
    assert str(own_demo) not in str(plan.spec)


def test_what_was_converted_is_converted_again(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    yolo = written("YOLO", tmp_path / "yolo", (pictures, draw(pictures)))
    run = begin(yolo, tmp_path)
    shutil.rmtree(tmp_path / "cache")
    assert f"{yolo}: {AGAIN}; the data are the same" in restored(run).warnings
    assert not [text for text in restored(run).warnings if AGAIN in text]
    document = run.read_run()
    without_digest(document)
    run.write_run(document)
    shutil.rmtree(tmp_path / "cache")
    assert "the data are the same" not in str(doubts(plan := restored(run)) and plan.warnings)
    shutil.rmtree(tmp_path / "cache")
    yolo.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"is gone; .*--data DIR"):
        restored(run)
    followed(run, tmp_path / "elsewhere")


def zipped(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.make_archive(str(tmp_path / "data set"), "zip", data))


@pytest.mark.parametrize("start", ["", "file://"])
def test_what_was_unpacked_or_fetched_is_made_again_from_where_it_came(
    start: str, own_demo: Path, tmp_path: Path
) -> None:
    place = f"{start}{zipped(own_demo, tmp_path)}"
    run = begin(place, tmp_path)
    before = restored(run)
    shutil.rmtree(tmp_path / "cache")
    zipped(own_demo, tmp_path)
    plan = restored(run)
    assert [text for text in plan.warnings if text.startswith(f"{place}: {AGAIN}")]
    assert plan.facts == before.facts
    shutil.rmtree(tmp_path / "cache")
    edit(own_demo, "val", halved)
    zipped(own_demo, tmp_path)
    with pytest.raises(
        UserError, match=r"(?s)is gone, and cannot .*not the data that .*val: \d+ objects then"
    ):
        restored(run)
    Path(tmp_path / "data set.zip").unlink()
    with pytest.raises(UserError, match="is gone, and cannot be made again:") as told:
        restored(run)
    wanted = "URL" if start else "DIR"
    assert str(told.value).endswith(f"automl resume {run.root} --data {wanted}")


def test_a_url_is_not_looked_at_again_and_that_is_said(own_demo: Path, tmp_path: Path) -> None:
    place = f"file://{zipped(own_demo, tmp_path)}"
    run = begin(place, tmp_path)
    edit(own_demo, "val", halved)
    zipped(own_demo, tmp_path)
    said = [text for text in restored(run).warnings if text.startswith(f"{place}: not looked at again")]
    assert len(said) == 1
    assert "a new run looks there" in said[0]
    with pytest.raises(UserError, match="not the data"):
        restored(run, data=place)


def test_what_a_url_needs_to_be_fetched_again_is_kept_and_not_shown(own_demo: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    answers = type("Answers", (Server,), {"content": zipped(own_demo, tmp_path).read_bytes()})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        run = begin(f"http://127.0.0.1:{server.server_port}/data.zip?key=SECRET", tmp_path)
        shutil.rmtree(tmp_path / "cache")
        assert AGAIN in str(restored(run).warnings)
        shutil.rmtree(tmp_path / "cache")
        answers.status = 403
        with pytest.raises(UserError, match="cannot be read; the server answers 403") as told:
            restored(run)
        server.shutdown()
    assert "SECRET" not in str(told.value)


def test_an_archive_that_is_none_any_more_is_told_and_its_copy_used(own_demo: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "data set"), "zip", own_demo))
    run = begin(archive, tmp_path)
    archive.write_bytes(b"not a zip")
    (said,) = [text for text in restored(run).warnings if "has changed since this run began" in text]
    assert archive.name in said


@pytest.mark.parametrize("request_", [{"demo": True}, {"sets": ("a=1",)}])
def test_a_run_without_a_folder_of_data_has_none_that_moved(
    request_: dict[str, Any], begun: RunDir, own_demo: Path
) -> None:
    document = begun.read_run()
    document["request"] |= {"data": None, **request_}
    begun.write_run(document)
    with pytest.raises(UserError, match="begun with --data"):
        followed(begun, own_demo)


HOOKS = """
import pathlib
def inspect(spec, data, work_dir):
    rows = len(pathlib.Path(data, "rows").read_text())
    problems = [] if rows else ["no rows"]
    return {"problems": problems, "facts": {"train": {"rows": rows, "share": 0.5 / (rows or 1)}, "data": data}}
"""


@pytest.fixture
def strange(tmp_path: Path) -> tuple[Path, Path]:
    """(the rows, the run) of a trainer of another make."""
    model = shell_trainer(tmp_path / "model", entry_points={"inspect_data": "hooks:inspect"})
    (model / "hooks.py").write_text(HOOKS)
    rows = tmp_path / "data" / "rows"
    rows.parent.mkdir()
    rows.write_text("abc")
    searched(model, tmp_path / "run", trials=1, data=str(rows.parent))
    return rows, tmp_path / "run"


@pytest.mark.parametrize(
    ("text", "message"),
    [("ab", "train: rows was 3 and is 2"), ("", "train: rows was 3 and is 0"), ("xyz", "")],
)
def test_the_counts_of_any_model_are_compared(strange: tuple[Path, Path], text: str, message: str) -> None:
    rows, run = strange
    rows.write_text(text)
    if not message:
        restored(RunDir(run))
        return
    with pytest.raises(UserError, match=message):
        restored(RunDir(run))


def test_counts_that_one_look_lacks_are_not_compared_and_that_is_said(strange: tuple[Path, Path]) -> None:
    run = RunDir(strange[1])
    document = run.read_run()
    assert not doubts(restored(run))
    document["facts"] = {"val": {"rows": 2}}
    run.write_run(document)
    said = str(doubts(restored(run)))
    assert (
        "(val: rows is not known now; train: rows was not recorded); later starts are compared with those of now"
        in said
    )


@pytest.mark.parametrize(
    ("number", "answer", "changed", "unknown"),
    [
        (0, ["a"], "a", ""),
        (1, {"changed": ["a"]}, "a", ""),
        (2, {"not_compared": "b"}, "", "b"),
        (3, [], "", ""),
        (4, None, "", ""),
    ],
)
def test_a_model_says_what_changed_and_what_it_could_not_compare(
    number: int, answer: Any, changed: str, unknown: str, strange: tuple[Path, Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    (model / f"compared_{number}.py").write_text(f"def compare(then, now):\n    return {answer!r}\n")
    skill = model / "references" / "skill_info.yaml"
    found = yaml.safe_load(skill.read_text())
    found["entry_points"]["data_changes"] = f"compared_{number}:compare"
    skill.write_text(yaml.safe_dump(found))
    if changed:
        with pytest.raises(UserError, match=f"since this run began:\n  {changed}\n"):
            restored(RunDir(strange[1]))
        return
    said = doubts(restored(RunDir(strange[1])))
    assert [f"({unknown}); later starts" in text for text in said] == [True] * bool(unknown)


@pytest.mark.parametrize("option", ["--data=", "--spec=", "--results-dir="])
def test_an_empty_place_is_no_place(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.guarded(lambda: cli.app(["plan", option], standalone_mode=False)) == 2
    assert f"{option[:-1]} must not be empty" in capsys.readouterr().err

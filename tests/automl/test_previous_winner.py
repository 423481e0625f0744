"""What best/ held of another winner, when a resumed run hands over a new one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automl import previous_winner, provenance
from automl.errors import UserError
from automl.study import TrialResult

FILES = {"export.onnx_file": "model.onnx", "deploy.results_dir": "operating_points", "engine": "model.engine"}
BUNDLE: Any = SimpleNamespace(named_files=FILES, actions=("train", "export"))


def best_of(number: int, epoch: int = 3) -> TrialResult:
    return TrialResult(number, epoch, 0.5, {}, True)


def say(folder: Path, **found: Any) -> None:
    (folder / provenance.FILE).write_text(json.dumps({"epoch": 3, **found}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As trial 0 was handed over, and somebody has run later actions and put a note there."""
    best = tmp_path / "best"
    (best / "operating_points").mkdir(parents=True)
    (best / "results" / "quantize").mkdir(parents=True)
    (best / "pareto" / "0001").mkdir(parents=True)
    for name in (
        "operating_points/points.json",
        "results/quantize/model.int8.onnx",
        "model.onnx",
        "model.engine",
        "note",
    ):
        (best / name).write_text("of 0")
    say(best, trial=0, measured={})
    return best


def test_all_that_was_another_winner_s_moves_beside_and_nothing_is_lost(folder: Path) -> None:
    for number in (2, 0, 2):
        moved = previous_winner.set_aside(BUNDLE, folder, best_of(number))
        assert moved is not None
        assert moved.parent == folder.parent
        assert [path.name for path in folder.iterdir()] == ["pareto"]  # nobody's, until it is another's
        (folder / "model.onnx").write_text(f"of {number}")
        say(folder, trial=number, measured={})
    first, third = (folder.with_name(f"best_of_trial_0{more}") for more in ("", "_1"))
    for name in ("operating_points/points.json", "results/quantize/model.int8.onnx", "model.engine", "note"):
        assert (first / name).read_text() == "of 0"
    assert provenance.read(first)["trial"] == 0
    assert (third / "model.onnx").read_text() == "of 0"
    assert (folder.with_name("best_of_trial_2") / "model.onnx").read_text() == "of 2"


@pytest.mark.parametrize(("made", "well", "left"), [
    (True, True, "again"), (True, False, "of 0"), (False, True, "of 0"), (False, False, "of 0"),
])  # fmt: skip
def test_the_same_winner_s_stay_unless_made_again_well(
    folder: Path, made: bool, well: bool, left: str
) -> None:
    assert previous_winner.set_aside(BUNDLE, folder, best_of(0)) is None
    previous_winner.disown(folder, best_of(0))
    if made:
        (folder / "model.onnx").write_text("again")
    previous_winner.put_back(BUNDLE, folder, well)
    assert (folder / "model.onnx").read_text() == left
    assert (folder / "operating_points" / "points.json").read_text() == "of 0"
    assert provenance.read(folder)["trial"] == 0


@pytest.mark.parametrize("earlier", [True, False])
def test_a_file_that_a_kill_cut_off_is_not_kept(folder: Path, earlier: bool) -> None:
    """`earlier`: a hand-over before had made a whole one."""
    if earlier:
        previous_winner.set_aside(BUNDLE, folder, best_of(0))
    say(folder, trial=0)  # the hand-over did not come to its end
    (folder / "model.onnx").write_text("cut o")
    previous_winner.set_aside(BUNDLE, folder, best_of(0))
    assert not (folder / "model.onnx").exists()
    previous_winner.put_back(BUNDLE, folder, well=False)
    assert (folder / "model.onnx").exists() == earlier
    assert not earlier or (folder / "model.onnx").read_text() == "of 0"


@pytest.mark.parametrize("said", ["../../x", None, True])
def test_whose_it_was_may_not_be_known(folder: Path, said: object) -> None:
    say(folder, trial=said)
    folder.with_name("best_of_another_trial").write_text("a person's")
    moved = previous_winner.set_aside(BUNDLE, folder, best_of(2))
    assert moved == folder.with_name("best_of_another_trial_1")
    assert (moved / "note").read_text() == "of 0"


def test_what_is_not_there_yet_moves_nowhere(tmp_path: Path) -> None:
    assert previous_winner.set_aside(BUNDLE, tmp_path / "best", best_of(2)) is None
    (tmp_path / "best" / "pareto").mkdir(parents=True)
    assert previous_winner.set_aside(BUNDLE, tmp_path / "best", best_of(2)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_from_the_first_move_on_it_is_not_all_there_and_after_a_kill_all_comes_back(folder: Path) -> None:
    before = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert previous_winner.set_aside(BUNDLE, folder, best_of(0)) is None
    assert not provenance.is_whole(provenance.read(folder))
    assert previous_winner.set_aside(BUNDLE, folder, best_of(0)) is None  # the one before was killed
    previous_winner.put_back(BUNDLE, folder, well=False)
    assert {path: path.read_text() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kill", range(1, 5))
def test_a_kill_while_it_moves_splits_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kill: int
) -> None:
    real, done = Path.rename, [0]

    def rename(path: Path, to: Path) -> Path:
        done[0] += 1
        if done[0] == kill:
            raise KeyboardInterrupt
        return real(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    before = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    for _ in range(2):
        try:
            previous_winner.begin(folder)
            previous_winner.set_aside(BUNDLE, folder, best_of(2))
        except KeyboardInterrupt:
            continue
    assert sorted(path.name for path in folder.parent.iterdir()) == ["best", "best_of_trial_0"]
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == {"pareto", "pareto/0001"}
    moved = folder.with_name("best_of_trial_0")
    assert {str(path.relative_to(moved)) for path in moved.rglob("*")} == before - {"pareto", "pareto/0001"}


def test_a_link_to_another_place_stays_one(folder: Path, tmp_path: Path) -> None:
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    moved = previous_winner.set_aside(BUNDLE, folder, best_of(2))
    assert moved == tmp_path / "best_of_trial_0"
    assert folder.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["pareto"]
    assert (moved / "operating_points" / "points.json").read_text() == "of 0"


@pytest.mark.parametrize("made", ["a file", "a link to nothing"])
def test_a_place_that_is_no_folder_is_told(tmp_path: Path, made: str) -> None:
    best = tmp_path / "best"
    best.write_text("") if made == "a file" else best.symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"best: must be the folder .* move it away and resume"):
        previous_winner.begin(best)


@pytest.mark.parametrize("more", [None, "note", "model.onnx"])
def test_a_hand_over_that_had_just_begun_goes_unless_somebody_put_something_there(
    tmp_path: Path, more: str | None
) -> None:
    best = tmp_path / "best"
    best.mkdir()
    for name in ("train.yaml", "model.ckpt", ".model.ckpt.123.tmp", *([more] if more else [])):
        (best / name).write_text("cut o")
    moved = previous_winner.set_aside(BUNDLE, best, best_of(2))
    assert moved == (tmp_path / "best_of_another_trial" if more else None)
    assert not best.exists() or not list(best.iterdir())
    assert not more or moved is None or (moved / more).exists()


def test_what_leaves_the_front_goes_but_not_what_a_person_made_there(folder: Path) -> None:
    said: list[str] = []
    for number in (1, 2, 3):
        (folder / "pareto" / f"000{number}").mkdir(exist_ok=True)
        for name in ("train.yaml", "model.ckpt", *(["model.onnx"] if number == 3 else [])):
            (folder / "pareto" / f"000{number}" / name).write_text(f"of {number}")
        say(folder / "pareto" / f"000{number}", trial=number)
    previous_winner.clear_front(BUNDLE, folder, {"0001"}, said.append)
    assert [path.name for path in (folder / "pareto").iterdir()] == ["0001"]
    (kept,) = folder.parent.glob("best_of_trial_*")
    assert kept.name == "best_of_trial_3"
    assert (kept / "model.onnx").read_text() == "of 3"
    assert said == [f"what {folder}/pareto/0003 held before is in {kept}"]

"""What best/ held of another winner, when a resumed run hands over a new one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automl import provenance, replaced
from automl.study import Best

FILES = {"export.onnx_file": "model.onnx", "deploy.results_dir": "operating_points", "engine": "model.engine"}
BUNDLE: Any = SimpleNamespace(named_files=FILES)


def best_of(number: int, epoch: int = 3) -> Best:
    return Best(number, epoch, 0.5, {}, True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As trial 0 was handed over, and somebody has run a later action."""
    (tmp_path / "operating_points").mkdir()
    (tmp_path / "operating_points" / "points.json").write_text("of 0")
    (tmp_path / "model.onnx").write_text("of 0")
    (tmp_path / provenance.FILE).write_text(json.dumps({"trial": 0, "epoch": 3}))
    return tmp_path


def test_another_winner_s_files_go_and_its_folders_are_kept_beside(folder: Path) -> None:
    for number in (2, 0, 2):
        replaced.set_aside(BUNDLE, folder, best_of(number))
        replaced.disown(folder, best_of(number))
        assert not (folder / "model.onnx").exists()
        assert not (folder / "operating_points").exists()
        assert not (folder / provenance.FILE).exists()  # until it is another's, it is nobody's
        (folder / "operating_points").mkdir()
        (folder / "operating_points" / "points.json").write_text(f"of {number}")
        (folder / provenance.FILE).write_text(json.dumps({"trial": number, "epoch": 3}))
    assert (folder / "of_trial_0" / "operating_points" / "points.json").read_text() == "of 0"
    assert (folder / "of_trial_2" / "operating_points" / "points.json").read_text() == "of 2"


@pytest.mark.parametrize("made", [True, False])
def test_the_same_winner_s_stay_unless_made_again(folder: Path, made: bool) -> None:
    replaced.set_aside(BUNDLE, folder, best_of(0))
    replaced.disown(folder, best_of(0))
    if made:
        (folder / "model.onnx").write_text("again")
    replaced.put_back(BUNDLE, folder)
    assert (folder / "model.onnx").read_text() == ("again" if made else "of 0")
    assert (folder / "operating_points" / "points.json").read_text() == "of 0"
    assert provenance.read(folder)["trial"] == 0


@pytest.mark.parametrize("said", ["../../x", None, True])
def test_whose_it_was_may_not_be_known(folder: Path, said: object) -> None:
    (folder / provenance.FILE).write_text(json.dumps({"trial": said, "epoch": 3}))
    replaced.set_aside(BUNDLE, folder, best_of(2))
    (kept,) = folder.glob("of_*/operating_points")
    assert kept.parent.parent == folder

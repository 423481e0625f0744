"""What the report and its neighbours say of runs that were moved or are small, and of a log's lines."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from automl import report, run_json
from automl.progress import Progress
from automl.real_values import RealValues
from automl.report import gather, search, verdict
from automl.rundir import RunDir
from automl.space.leaf import change
from automl.storage import read_storage
from tests.automl import known


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return known.searched(tmp_path_factory.mktemp("known"), trials=2, scheduler="none", sampler="random")


def text_of(page: str) -> str:
    plain = re.sub(r"<(style|script|svg).*?</\1>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", plain).split())


def test_again_names_no_folder_of_before(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(run, root)
    document: dict[str, Any] = run_json.read(RunDir(root).run_json)
    document["request"]["results_dir"] = document["root"] = str(run)
    document["request"]["spec_file"] = str(run / "own.yaml")
    (root / "run.json").write_text(json.dumps(document))
    page = text_of(report.page(gather.facts_of(root)))
    assert "--results-dir" not in page
    assert str(run) not in page
    assert str(root / "own.yaml") in page


def test_only_what_was_handed_over_is_at_its_end(run: Path, tmp_path: Path) -> None:
    """All trials have ended; the winner lies in best/ in one case alone."""
    root = tmp_path / "whole"
    shutil.copytree(run, root)
    assert "Interrupted; 2 trials (2 COMPLETE)" in text_of(report.page(gather.facts_of(root)))[:400]
    (root / "outcome.json").write_text(json.dumps({"stages": [], "trials": 2}))
    assert "Ended; 2 trials" in text_of(report.page(gather.facts_of(root)))
    (root / "outcome.json").write_text(json.dumps({"stages": [], "trials": 1}))  # others have come since
    told = text_of(report.page(gather.facts_of(root)))
    assert f"automl resume {root}" in told


def test_a_plain_training_that_was_cut_and_handed_over_otherwise_says_so(run: Path) -> None:
    facts = gather.facts_of(run)
    plain = replace(
        facts, document=facts.document | {"searching": False}, complete=False, warning="of epoch 2"
    )
    first, warning, cut = verdict.sentences(plain)
    assert first.startswith("One plain training, without a search")
    assert (warning, cut) == ("Of epoch 2.", "It has not run to its end; this is its best epoch.")


def test_epochs_that_were_not_measured_count(run: Path) -> None:
    facts = gather.facts_of(run)
    assert [t.epochs for t in facts.trials] == [row["epochs"] for row in search.table(facts)[1]]
    trained = [replace(t, state="PRUNED", epochs=n) for n, t in enumerate(facts.trials)]  # the first: refused
    assert search.stopped(replace(facts, trials=trained)).startswith("1 of 1 trial was stopped early")


@pytest.mark.parametrize(("state", "said"), [("FAIL", True), ("CUT", True), ("COMPLETE", False)])
def test_a_default_that_has_not_run_to_its_end_is_told_as_such(run: Path, state: str, said: bool) -> None:
    facts = gather.facts_of(run)
    changed = {"state": state, "reason": "train_loss is not finite in epoch 3"}
    trials = [replace(t, **changed) if t.number == 0 else t for t in facts.trials]  # type: ignore[arg-type]
    told = " ".join(verdict.sentences(replace(facts, trials=trials, winner=1)))
    assert (
        "no gain to tell over the default configuration" in told and "to its end: train_loss" in told
    ) is said


@pytest.mark.parametrize(
    ("stage", "word", "told"),
    [
        (
            {"ok": True, "message": "failed over to the CPU, and done"},
            "done",
            "failed over to the CPU, and done",
        ),
        ({"ok": False, "message": "not run: no compiler"}, "not run", "no compiler"),
        (
            {"ok": False, "failed": True, "message": "failed (exit code 1); log: x"},
            "failed",
            "(exit code 1); log: x",
        ),
    ],
)
def test_how_a_stage_ended_is_told_by_what_it_is(stage: dict[str, Any], word: str, told: str) -> None:
    assert (verdict.how_ended(stage), verdict.told(stage)) == (word, told)


def test_one_is_one(run: Path) -> None:
    facts = gather.facts_of(run)
    first = replace(facts.trials[0], state="PRUNED", curve=facts.trials[0].curve[:1])
    one = replace(facts, trials=[first], epochs=1)
    assert search.stopped(one) == "1 of 1 trial was stopped early; 1 epoch was trained in all."
    assert not re.search(r"\b1 (trials|epochs|finished trials)\b", text_of(report.page(one)))


def test_a_line_of_a_log_stays_one() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, width=80))
    progress.note("word " * 60)
    progress.started(0, {"name": "x" * 200}, None)
    assert len(out.getvalue().splitlines()) == 2


def test_the_dashboard_says_why_its_best_may_be_another(run: Path) -> None:
    storage = RealValues(read_storage(None, run), RunDir(run).read_run(), run)
    told = storage.get_study_system_attrs(storage.get_study_id_from_name("known"))["dashboard:note_str:0"]
    assert "may be another" in told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (0.99, 0.990253980106, ("0.99", "0.9903")),
        (0.9999, 0.99993, ("0.9999", "0.99993")),
        (2e-4, 3.14159e-4, ("0.0002", "0.0003142")),
        (1, 1.0000000001, ("1", "1.0000000001")),
        ("adam", "sgd", ("adam", "sgd")),
        ([90, 180], None, ("[90, 180]", "null")),
        (True, False, ("true", "false")),
    ],
)
def test_a_change_is_told_with_digits_that_tell_it(before: Any, after: Any, told: tuple[str, str]) -> None:
    assert change(before, after) == told

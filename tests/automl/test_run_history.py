"""A run that goes on with other versions, or on another machine, says so and keeps which of them trained what."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from automl import export_best, loop, report, run_history, run_json
from automl import provenance as provenance_of
from automl.documents import load_json
from automl.errors import UserError
from automl.progress import Progress
from automl.report import gather
from automl.request import RunRequest
from automl.rundir import RunDir
from tests.automl.test_rundir import RECORDED
from tests.automl.toy import toy

Install = Callable[..., None]
OLD, NEW = {"torch": "2.1", "git": "aaa"}, {"torch": "2.2", "git": "bbb"}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Let this version of the package, on this machine, do what follows."""

    def put(versions: dict[str, str], processor: str = "A") -> None:
        monkeypatch.setattr(run_history, "versions", lambda packages=(): {"python": "3", **versions})
        monkeypatch.setattr(run_history, "hardware", lambda: {"system": "S", "processor": processor})

    put(OLD)
    return put


def begin(tmp_path: Path, trials: int = 1, **spec: float) -> Path:
    asked = RunRequest(
        model=str(toy(tmp_path / "toy", **spec)), trials=trials, executor="local", stages=(), scheduler="none",
        sampler="random", tune=("lr=0.1:0.9",),
    )  # fmt: skip
    loop.run(asked, tmp_path / "run", Progress(quiet=True))
    return tmp_path / "run"


def resume(root: Path, **changes: Any) -> str:
    """What it says."""
    out = io.StringIO()
    loop.resume(root, changes, Progress(Console(file=out, width=1000)))
    return out.getvalue()


def provenance(root: Path, folder: str = "best") -> dict[str, Any]:
    found = load_json(root / folder / "provenance.json")
    return {name: found.get(name) for name in ("versions", "earlier_epochs_with", "handed_over_with")}


def whole(versions: dict[str, str]) -> dict[str, str]:
    return {"python": "3", **versions}


def as_of_an_earlier_version(root: Path) -> None:
    document = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(
        json.dumps({k: v for k, v in document.items() if k not in ("begun", "starts")})
    )


def test_what_a_run_began_with_stays_and_what_it_goes_on_with_is_said_and_kept(
    tmp_path: Path, install: Install
) -> None:
    root = begin(tmp_path)
    before = RunDir(root).read_run()
    assert (before["versions"], before["starts"]) == (whole(OLD), [])
    assert provenance(root) == {"versions": whole(OLD), "earlier_epochs_with": None, "handed_over_with": None}
    assert "goes on with" not in resume(root)
    install(NEW)
    for _ in range(2):
        said = resume(root)
        assert (
            "note: this run began with torch 2.1, git aaa, and goes on with torch 2.2, git bbb; trials"
            in said
        )
    after = RunDir(root).read_run()
    assert {name: after[name] for name in ("versions", "machine", "begun")} == {
        name: before[name] for name in ("versions", "machine", "begun")
    }
    assert [start["versions"] for start in after["starts"]] == [whole(NEW)]
    install(OLD)
    assert "goes on with" not in resume(root)
    assert [start["versions"] for start in RunDir(root).read_run()["starts"]] == [whole(NEW), whole(OLD)]


def test_another_machine_is_kept_and_is_no_note(tmp_path: Path, install: Install) -> None:
    root = begin(tmp_path)
    install(OLD, processor="B")
    assert "goes on with" not in resume(root)
    (start,) = RunDir(root).read_run()["starts"]
    assert start["machine"]["processor"] == "B"
    page = report.page(gather.facts_of(root))
    assert "processor B" in page
    assert f"from {run_history.shown(start['when'])} on" in page


def test_a_commit_that_git_cannot_tell_is_no_other_one(tmp_path: Path, install: Install) -> None:
    """git is not installed, or the checkout is of another owner."""
    root = begin(tmp_path)
    install(OLD | {"git": provenance_of.UNKNOWN})
    assert "began with" not in resume(root, trials=2)
    assert load_json(root / "run.json", 1 << 20)["starts"] == []


def test_a_checkout_of_another_owner_tells_its_commit_or_that_it_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    commit = provenance_of.git_commit(tmp_path)
    assert len(commit or "") == 12
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert provenance_of.git_commit(tmp_path) in (
        commit,
        provenance_of.UNKNOWN,
    )  # git before 2.38 takes no such option
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance_of.git_commit(tmp_path) == provenance_of.UNKNOWN
    assert provenance_of.git_commit(tmp_path / "nowhere") is None


def test_the_report_shows_what_it_began_with_and_what_it_went_on_with(
    tmp_path: Path, install: Install
) -> None:
    root = begin(tmp_path)
    assert not run_history.told(RunDir(root).read_run())
    install(NEW)
    resume(root)
    ((_, words),) = run_history.told(RunDir(root).read_run())
    assert words == "torch 2.2, git bbb"
    page = report.page(gather.facts_of(root))
    assert words in page
    assert "2.1" in page


def test_a_winner_names_what_trained_it_and_what_handed_it_over(tmp_path: Path, install: Install) -> None:
    root = begin(tmp_path)
    install(NEW)
    resume(root)
    assert provenance(root) == {
        "versions": whole(OLD), "earlier_epochs_with": None, "handed_over_with": whole(NEW)
    }  # fmt: skip
    outcome = export_best.export(root, Progress(quiet=True))
    assert provenance(root, outcome.folder) == provenance(root)
    resume(root, trials=4)
    assert load_json(root / "best" / "provenance.json")["trial"] > 0
    assert provenance(root) == {"versions": whole(NEW), "earlier_epochs_with": None, "handed_over_with": None}


def test_a_trial_that_two_starts_trained_names_both(tmp_path: Path, install: Install) -> None:
    root = begin(tmp_path, epochs=3)
    folder = root / "trials" / "0000"
    for path in root.glob("study.db*"):
        path.unlink()
    for path in (root / "best", root / "outcome.json", folder / "trial.json"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:1]))
    (folder / "epoch_0.ckpt").write_bytes(b"0")
    install(NEW)
    assert "goes on from epoch 2" in resume(root)
    assert json.loads((folder / run_history.FILE).read_text()) == [[1, 1]]
    assert provenance(root) == {
        "versions": whole(NEW), "earlier_epochs_with": [whole(OLD)], "handed_over_with": None
    }  # fmt: skip


def test_of_a_run_of_an_earlier_version_nobody_knows_what_trained_its_trials(
    tmp_path: Path, install: Install
) -> None:
    root = begin(tmp_path)
    as_of_an_earlier_version(root)
    for _ in range(2):
        assert "goes on with" not in resume(root)
    assert [start["versions"] for start in RunDir(root).read_run()["starts"]] == [whole(OLD)]
    assert provenance(root)["versions"] is None
    resume(root, trials=4)
    assert provenance(root) == {"versions": whole(OLD), "earlier_epochs_with": None, "handed_over_with": None}
    install(NEW)
    as_of_an_earlier_version(root)
    assert "this run was last recorded with torch 2.1" in resume(root)


@pytest.mark.parametrize(
    ("pairs", "epoch", "found"),
    [
        ([], 4, [0]),
        ([[2, 1]], 1, [0]),
        ([[2, 1]], 2, [0, 1]),
        ([[0, 2]], 5, [2]),
        ([[0, 1], [3, 2]], 2, [1]),
        ([[2, 9]], 5, None),
        (None, 5, None),
    ],
)
def test_which_starts_trained_up_to_an_epoch(pairs: Any, epoch: int, found: list[int] | None) -> None:
    history = {"begun": "x", "versions": {"n": 0}, "starts": [{"versions": {"n": n}} for n in (1, 2)]}
    assert run_history._versions_of(history, pairs, epoch) == [{"n": n} for n in found or ()]


@pytest.mark.parametrize("content", ["", "[[0]]", '{"a": 1}', "[[0, -1]]", "[" * 5000])
def test_a_damaged_file_of_a_trial_says_nothing(content: str, tmp_path: Path, install: Install) -> None:
    history = {"begun": "x", "versions": {}, "starts": []}
    (tmp_path / run_history.FILE).write_text(content)
    assert run_history._versions_of(history, run_history._of_trial(tmp_path), 0) == []


@pytest.mark.parametrize(
    "part",
    [
        {"starts": {}},
        {"starts": [1]},
        {"starts": [{"when": 1}]},
        {"later_facts": [{"when": "x"}]},
        {"begun": 3},
    ],
)
def test_a_history_of_another_form_is_damage(part: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"run.json: is damaged: {next(iter(part))} must be "):
        run_json.check_parts(tmp_path / "run.json", RECORDED | {"request": {}} | part)

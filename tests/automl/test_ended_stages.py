"""What a hand-over that goes on, or is done again, runs: the stages of which something is another by now."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automl import ended_stages, loop, machine, provenance
from automl.handoff import Outcome
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from tests.automl.test_foreign_trainers import shell_trainer

STAGES = {
    "ship": {"shows": ["bytes"], "report": "page"},
    "try_out": {"action": "ship", "after": "ship", "sets": {"ship.weights": "{best}/net.bin"}},
}  # fmt: skip
SHIP = """
echo "$2" >> "$(dirname "$0")/ran.txt"
case "$2" in *try_out) ;; *) test ! -e "$2/net.bin" || exit 5; echo net > "$2/net.bin";; esac
mkdir -p "$2/ship"; echo '{"bytes": 8}' > "$2/ship/metrics.json"; echo page > "$2/ship/page"; echo "shipped to $2"
"""


class Handed:
    """A run whose winner is handed over again and again."""

    def __init__(self, folder: Path) -> None:
        self.model, self.root = shell_trainer(folder / "model", stages=STAGES), folder / "run"
        (self.model / "ship.sh").write_text(SHIP)
        (self.model / "vocabulary.txt").write_text("a b")
        self.best, self.said, self.data = self.root / "best", list[str](), folder / "data"
        (self.data / "deep").mkdir(parents=True)
        (self.data / "deep" / "b.jpg").write_text("picture")
        template = self.model / "references" / "spec_template_ship.yaml"
        self.words = folder / "words.txt"
        self.words.write_text("three words here")
        more = f"data: {self.data}\nwords: {os.path.relpath(self.words)}\n"
        template.write_text(template.read_text() + more)

    def over(self, **request: Any) -> Outcome:
        progress = Progress(quiet=True)
        progress.note = self.said.append  # type: ignore[method-assign]
        if self.root.exists():
            return loop.resume(self.root, request, progress)
        asked = RunRequest(model=str(self.model), executor="local", trials=1, **request)
        return loop.run(asked, self.root, progress)

    def ran(self) -> list[str]:
        """What ran since this was asked last."""
        log = self.model / "ran.txt"
        names = [Path(line).name for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return names


def shown(outcome: Outcome) -> list[tuple[str, str, str, str]]:
    return [(stage.name, stage.message, stage.figures(), stage.report) for stage in outcome.stages]


@pytest.fixture
def handed(tmp_path: Path) -> Handed:
    return Handed(tmp_path)


def test_what_is_handed_over_again_runs_no_stage_twice_and_tells_the_same(handed: Handed) -> None:
    first = handed.over()
    assert handed.ran() == ["best", "try_out"]
    for _ in range(2):
        again = handed.over()
        assert handed.ran() == []
        assert shown(again) == shown(first)
        assert (handed.best / "net.bin").read_text() == "net\n"
        assert provenance.read(handed.best)["measured"]["ship"] == {"bytes": 8}
    assert any(line.startswith("try_out had ended; not run again") for line in handed.said)


@pytest.mark.parametrize("earlier", [True, False])
def test_a_hand_over_that_was_cut_off_goes_on_with_the_stage_it_was_at(
    handed: Handed, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    """`earlier`: one before had come to its end, of another spec."""
    if earlier:
        handed.over()
        (handed.model / "train.sh").open("a").write("# another\n")
        handed.ran()
    real = ended_stages.run_stage

    def cut_off(bundle: Any, run: Any, *rest: Any) -> Any:
        if run.name == "try_out":
            raise KeyboardInterrupt
        return real(bundle, run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ended_stages, "run_stage", cut_off)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                handed.over()
    ran = handed.ran()
    assert ran == ["best"] or (earlier and ran == ["best", "best"])  # the file of before came back
    done = handed.over()
    assert handed.ran()[-1] == "try_out"
    assert earlier or "shipped to" in done.stages[0].message
    assert [stage.ok for stage in done.stages] == [True, True]


def spec_changed(handed: Handed) -> None:
    template = handed.model / "references" / "spec_template_ship.yaml"
    template.write_text(template.read_text() + "more: 1\n")


def made_is_gone(handed: Handed) -> None:
    (handed.best / "net.bin").unlink()


def made_is_another(handed: Handed) -> None:
    (handed.best / "ship" / "page").write_text("a person's")


def weights_are_others(handed: Handed) -> None:
    kept = handed.best / "ship" / "ended.json"
    found = json.loads(kept.read_text())
    found["of"]["inputs"]["model"] = "0" * 64
    kept.write_text(json.dumps(found))


def program_changed(handed: Handed) -> None:
    (handed.model / "ship.sh").write_text(SHIP + "# better\n")


def damaged(handed: Handed) -> None:
    (handed.best / "ship" / "ended.json").write_text("{")


def data_changed(handed: Handed) -> None:
    (handed.data / "deep" / "b.jpg").write_text("another")


def words_changed(handed: Handed) -> None:
    handed.words.write_text("another")


def address_named(handed: Handed) -> None:
    template = handed.model / "references" / "spec_template_ship.yaml"
    template.write_text(template.read_text() + "from: s3://bucket/data\n")
    handed.over()
    handed.ran()


@pytest.mark.parametrize(
    ("change", "ran"),
    [
        (data_changed, ["best", "try_out"]), (words_changed, ["best", "try_out"]), (address_named, ["best", "try_out"]),
        (spec_changed, ["best", "try_out"]), (made_is_gone, ["best"]), (made_is_another, ["best"]),
        (weights_are_others, ["best"]), (program_changed, ["best", "try_out"]), (damaged, ["best"]),
    ],
)  # fmt: skip
def test_a_stage_of_which_something_is_another_runs_anew(
    handed: Handed, change: Callable[[Handed], None], ran: list[str]
) -> None:
    handed.over()
    handed.ran()
    change(handed)
    assert [stage.ok for stage in handed.over().stages] == [True, True]
    assert handed.ran() == ran


def test_another_machine_and_another_winner_run_all_anew(
    handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed.over()
    handed.ran()
    monkeypatch.setattr(ended_stages, "hardware", lambda: machine.hardware() | {"GPUs": "another"})
    handed.over()
    assert handed.ran() == ["best", "try_out"]
    assert handed.over(trials=6).winner.number != 0
    assert handed.ran() == ["best", "try_out"]
    assert (handed.root / "best_of_trial_0" / "ship" / "ended.json").is_file()


def test_a_run_that_was_moved_runs_none_again_and_names_its_own_place(handed: Handed) -> None:
    (handed.model / "references" / "skill_info.yaml").open("a").write("here: '${here}'\n")
    handed.over()
    handed.ran()
    shutil.copytree(handed.root, there := handed.root.with_name("there"))
    shutil.rmtree(handed.root)
    handed.root, handed.best = there, there / "best"
    again = handed.over()
    assert handed.ran() == []
    assert again.stages[0].message == f"shipped to {there / 'best'}"


def test_of_programs_that_no_commit_tells_nothing_is_kept(
    handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "versions", lambda packages: {"git": "abc-dirty"})
    monkeypatch.setattr(ended_stages.same_model, "ENGINE", handed.model.resolve())
    handed.over()
    assert not list(RunDir(handed.root).best.rglob("ended.json"))

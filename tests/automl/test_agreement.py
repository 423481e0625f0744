"""Every place that tells a run's numbers tells the same: the page, the commands, outcome.json, provenance.json."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import automl
from automl import cli
from automl.tuning import Tuned
from tests.automl.toy import toy


@pytest.fixture(scope="module", params=["a winner", "nothing gained"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("agree")
    lr = {"a winner": 0.1, "nothing gained": 1.0}[request.param]
    return automl.tune(
        model=str(toy(folder / "toy", epochs=3, lr=lr)), trials=7, seed=2, scheduler="halving", sampler="tpe",
        executor="local", results_dir=folder / "run", quiet=True,
    )  # fmt: skip


def asked(command: str, run: Tuned) -> dict[str, Any]:
    done = CliRunner().invoke(cli.app, [command, str(run.root), "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}">')[1].split("<section id=")[0]


def rows(html: str) -> list[list[str]]:
    """The cells of every row of a table, as they are read."""
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.S)
    plain = [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td.*?</td>", row, re.S)] for row in found
    ]
    return [[unescape(cell).strip() for cell in cells] for cells in plain if cells]


def as_told(trial: dict[str, Any]) -> list[str]:
    """number, state, epochs, value, its epoch: as the page's table has them."""
    epochs = trial["curve"][-1][0] if trial["curve"] else 0
    value = "–" if trial["value"] is None else f"{trial['value']:.4f}"
    return [str(trial["number"]), trial["state"], str(epochs), value, str(trial["best_epoch"] or "–")]


def test_the_table_of_trials(run: Tuned) -> None:
    table = section(run.report.read_text(), "search").split("<tbody>")[1].split("</tbody>")[0]
    shown = rows(table)
    for document in (asked("report", run), asked("status", run)):
        assert [as_told(trial) for trial in document["trials"]] == [row[:5] for row in shown]
    printed = CliRunner().invoke(cli.app, ["status", str(run.root)]).output
    for row in shown:
        words = r"\s+".join(map(re.escape, row[:5])).replace("–", "-")
        assert re.search(rf"^\s*{words}", printed, re.M), row


def test_the_winner_everywhere(run: Tuned) -> None:
    page = section(run.report.read_text(), "result")
    report, best = asked("report", run), asked("best", run)
    outcome = json.loads((run.root / "outcome.json").read_text())
    provenance = json.loads((run.root / "best" / "provenance.json").read_text())
    top = next(t for t in report["trials"] if t["number"] == report["winner"])
    told = (top["number"], pytest.approx(top["value"]), top["best_epoch"])
    assert (best["trial"], best["value"], best["epoch"]) == told
    assert (outcome["winner"]["number"], outcome["winner"]["value"], outcome["winner"]["epoch"] + 1) == told
    assert (provenance["trial"], provenance["value"], provenance["epoch"] + 1) == told
    assert best["params"] == top["params"] == provenance["params"] == outcome["winner"]["params"]
    assert (run.value, run.params) == (pytest.approx(top["value"]), top["params"])
    cells = [str(top["number"]), f"{top['value']:.4f}", str(top["best_epoch"])]
    assert rows(page)[0][1:4] == cells
    sentence = re.findall(r'<p class="lead">(.*?)</p>', page)[0]
    assert sentence == report["verdict"][0]
    assert f"{outcome['metric']['name']} {top['value']:.4f} at epoch {top['best_epoch']}" in sentence
    finished = sum(t["state"] == "COMPLETE" for t in report["trials"])
    assert f"best of {finished} finished trials" in sentence


def test_the_gain_everywhere(run: Tuned) -> None:
    report = asked("report", run)
    values = {t["number"]: t["value"] for t in report["trials"]}
    gain = values[report["winner"]] - values[0]
    assert run.gain == pytest.approx(gain)
    if report["winner"] == 0:
        assert report["verdict"][0].startswith("Nothing was gained")
    else:
        told = re.search(r": ([\d.]+) better than the default configuration \(([\d.]+)", report["verdict"][0])
        assert told is not None
        assert float(told[1]) == pytest.approx(gain, abs=1.1e-4)
        assert float(told[2]) == pytest.approx(values[0], abs=5.1e-5)


def test_what_it_takes_in_all(run: Tuned) -> None:
    page, report = run.report.read_text(), asked("report", run)
    states = [t["state"] for t in report["trials"]]
    counted = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    assert f"Ended; {len(states)} trials ({counted})" in page
    epochs = sum(len(t["curve"]) for t in report["trials"])
    if "PRUNED" in states:
        assert f"{epochs} epochs were trained in all" in page


def test_the_command_on_the_page_gives_the_same_trials(run: Tuned, tmp_path: Path) -> None:
    import shlex

    told = section(run.report.read_text(), "again").split('<pre class="scroll">')[1].split("</pre>")[0]
    again = unescape(re.sub(r"<[^>]+>", "", told))
    words = shlex.split(again)
    assert "--results-dir" not in words  # it would be the folder of this run
    words += ["--results-dir", str(tmp_path / "again")]
    done = CliRunner().invoke(cli.app, words[1:])
    assert done.exit_code == 0, done.output
    ours, theirs = (
        json.loads(CliRunner().invoke(cli.app, ["report", str(root), "--json"]).output)["trials"]
        for root in (run.root, tmp_path / "again")
    )
    assert [t["params"] for t in ours] == [t["params"] for t in theirs]
    for one, other in zip(ours, theirs, strict=True):  # a trainer that outruns its driver is stopped later
        assert all(a == b for a, b in zip(one["curve"], other["curve"], strict=False))

"""The report: what it says, that it says no more than is known, and how it looks in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from automl import bundle, dashboard, loop, provenance, report
from automl.comparison import Comparison, compare
from automl.errors import UserError
from automl.metric import Metric
from automl.progress import Progress
from automl.real_values import RealValues
from automl.report import gather, parts, svg, verdict
from automl.report.keeper import Keeper
from automl.request import RunRequest
from automl.rundir import RunDir
from automl.stages import StageRun, ended_well, shown_figures
from automl.storage import read_storage
from tests.automl import known
from tests.automl.test_policy_bundle import make_model

NUMPY_NET = Path(__file__).parents[2] / "examples" / "numpy_net"
MATERIAL: dict[str, Any] = {
    "section": "Findings on test",
    "intro": "At a score of <b>.3</b>.",
    "resamples": {
        "of": "40 images",
        "draws": "a",
        "values": {"test_score": [0.5 + n / 1000 for n in range(100)]},
    },
    "parts": [
        {"kind": "bars", "title": "Kinds", "rows": [["right", 3], ["wrong <x>", 1]]},
        {"kind": "table", "title": "Each class", "columns": ["class", "n"], "rows": [["a", 3], ["b", None]]},
        {
            "kind": "lines",
            "title": "Lines",
            "x": "score",
            "series": [{"name": "P", "x": [0, 1], "y": [0.2, 0.8]}],
        },
        {
            "kind": "matrix",
            "title": "Confused",
            "rows": ["a", "b"],
            "columns": ["a", "b"],
            "values": [[3, 1], [0, 2]],
        },
        {"kind": "list", "title": "Notes", "items": ["one", "two"]},
        {
            "kind": "pictures",
            "title": "Worst",
            "legend": [
                {"name": "right", "colour": "green"},
                {"name": "missed", "colour": "red", "dashed": True},
            ],
            "pictures": [
                {
                    "file": "one.png",
                    "width": 60,
                    "height": 40,
                    "caption": "one.png",
                    "panels": [
                        {
                            "title": "truth",
                            "rects": [{"x": 1, "y": 2, "w": 9, "h": 9, "text": "a", "mark": 1}],
                        },
                        {"title": "found", "rects": []},
                    ],
                }
            ],
        },
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 trials, of which most are stopped, with what stages leave."""
    from PIL import Image

    root = known.searched(tmp_path_factory.mktemp("known"), trials=25, seed=0)
    stages = []
    for name, shift in (("evaluate", 0.03), ("evaluate_of_default", 0.0)):
        folder = root / "best" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (60, 40), (80, 120, 90)).save(folder / "one.png")
        values = {"test_score": [0.5 + shift + 0.0001 * (n % 7) * (shift > 0) for n in range(100)]}
        document = MATERIAL | {"resamples": MATERIAL["resamples"] | {"values": values}}
        (folder / "report.json").write_text(json.dumps(document))
        stages.append(
            {
                "name": name, "ok": True, "message": "done", "command": "x", "failed": False, "shows": ["test_score"],
                "metrics": {"test_score": 0.5 + shift}, "report": f"best/{name}/report.json",
            }
        )  # fmt: skip
    hand_over(root, stages)
    return root


def hand_over(root: Path, stages: list[dict[str, Any]], **more: Any) -> None:
    """outcome.json of the best trial there is, and whose `best/` is."""
    facts = gather.facts_of(root)
    top = facts.trial(facts.winner)
    assert top is not None
    assert top.best_epoch
    winner = {"number": top.number, "epoch": top.best_epoch - 1}
    (root / "outcome.json").write_text(json.dumps({"stages": stages, "winner": winner, **more}))
    (root / "best").mkdir(exist_ok=True)
    whose = {"trial": top.number, "epoch": top.best_epoch, provenance.MEASURED: {}}
    (root / "best" / provenance.FILE).write_text(json.dumps(whose))


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 trials of which few run to their end."""
    return known.searched(tmp_path_factory.mktemp("sixty"), trials=60, seed=0, scheduler="halving")


def test_at_sixty_trials_the_first_three_are_named_in_their_order(tmp_path: Path) -> None:
    root = known.searched(tmp_path, trials=60, seed=2, sampler="random", scheduler="none")
    found = report.what_mattered(gather.facts_of(root))
    assert (found.trials, found.epoch) == (60, None)
    assert tuple(share.name for share in found.shares if share.found) == known.TRUTH


def test_of_a_search_that_stops_most_only_what_has_an_effect_is_named(sixty: Path) -> None:
    """In which order depends on where it looked: studies/mattered."""
    facts = gather.facts_of(sixty)
    found = report.what_mattered(facts)
    assert sum(t.finished for t in facts.trials) < 45
    assert (found.trials, found.epoch) == (60, 2)
    named = {share.name for share in found.shares if share.found}
    assert len(named) > 1
    assert named <= set(known.TRUTH)
    page = report.page(facts)
    assert "Judged by the best score up to epoch 2 of the 60 trials that got so far" in page
    assert "Without evidence of an effect: " in page


def test_the_dashboard_ranks_as_the_report_does(sixty: Path, run: Path) -> None:
    """And nothing where that is mostly chance."""
    ranked = tuple(share.name for share in report.what_mattered(gather.facts_of(sixty)).shares if share.found)
    assert ranked
    for root, names in ((sixty, ranked), (run, ())):
        storage = RealValues(read_storage(None, root), RunDir(root).read_run(), root)
        app = dashboard.with_importances(lambda *_: [b"another's"], storage, root, dashboard.teller(root))
        answers: list[str] = []
        path = f"/api/studies/{storage.get_study_id_from_name('known')}/param_importances"
        (body,) = app({"PATH_INFO": path}, lambda status, _, told=answers: told.append(status))
        (rows,) = json.loads(body)["param_importances"]
        assert tuple(row["name"] for row in rows) == names
        assert answers == ["200 OK"]
        assert app({"PATH_INFO": "/api/studies"}, print) == [b"another's"]


def test_a_hundred_large_pictures_make_no_large_page(run: Path, tmp_path: Path) -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (100, 150, 200, 3), dtype=np.uint8)
    pictures = []
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg", quality=95)
        panels = [{"title": "truth", "rects": []}]
        pictures.append({"file": f"{number}.jpg", "width": 200, "height": 150, "panels": panels})
    assert sum(path.stat().st_size for path in tmp_path.glob("*.jpg")) > 2 * parts.MOST_BYTES
    html = parts.section({"parts": [{"kind": "pictures", "title": "", "pictures": pictures}]}, tmp_path)
    assert html.count("data:image/jpeg;base64,") == 100
    assert len(html) < 3_000_000 - 300_000  # what remains is for the search


def test_what_it_says(run: Path) -> None:
    page = report.write(run).read_text()
    facts = gather.facts_of(run)
    for title in ("Result", "Pictures", "Search", "What mattered", "Data", "Again"):
        assert f"<h2>{title}</h2>" in page
    assert f"Trial {facts.winner} is the best of" in page
    assert (
        "test_score differs by +0.0300 (0.5000 to 0.5300), 95 % of 100 resamplings of 40 images +0.0300 to +0.0306"
        in page
    )
    assert 'automl run <span class="word">--model</span>' in page
    assert "epoch 0" not in page  # epochs count from 1
    assert "wrong &lt;x&gt;" in page
    assert "At a score of &lt;b&gt;.3" in page
    assert "data:image/png;base64," in page
    assert len(page) < 3_000_000


def test_real_values_stand_on_the_axes(run: Path) -> None:
    """The batch sizes themselves, not their places in a list."""
    axis, placed = report.search.axis_of(gather.facts_of(run), "batch")
    assert set(placed.values()) <= {1.0, 2.0, 4.0, 8.0, 16.0}
    assert placed[0] == 4.0
    assert not axis.names


@pytest.mark.parametrize("choices", [[4, "auto", 16], ["4"], [None, [1]], "4", 4])
def test_options_of_several_kinds_stand_on_an_axis_too(run: Path, choices: Any) -> None:
    """Of trials that all had a number; or where run.json is damaged."""
    facts = gather.facts_of(run)
    document = {"space": [{"name": "batch", "choices": choices}]}
    space = gather._space(document)
    _, placed = report.search.axis_of(replace(facts, space=space), "batch")
    assert placed[0] == 4.0


def test_nothing_is_ranked_from_few_trials(run: Path) -> None:
    found = report.what_mattered(gather.facts_of(run))
    assert not found.shares
    assert re.match(
        r"Not ranked: 25 trials reported without failing, \d+ of them to the end, for 12 parameters\. "
        r"From fewer than 54 trials, 4\.5 a parameter,",
        found.why_not,
    )
    assert found.why_not in report.page(gather.facts_of(run))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"draws": "a", "values": {"f": [0.5] * 50}}, {"draws": "b", "values": {"f": [0.4] * 50}}),
        ({"draws": "a", "values": {"f": [0.5] * 50}}, {"draws": "a", "values": {"f": [0.4] * 49}}),
        ({"draws": "a", "values": {"f": [0.5] * 5}}, {"draws": "a", "values": {"f": [0.4] * 5}}),
        ({"draws": "a", "values": {"f": "x"}}, {"draws": "a", "values": {"f": [0.4] * 50}}),
        ({"draws": "a", "values": [1]}, {"draws": "a", "values": None}),
        ("x", [1]),
    ],
)
def test_what_was_not_drawn_alike_has_no_interval(ours: Any, theirs: Any, tmp_path: Path) -> None:
    stages = []
    for name, resamples in (("s", ours), ("s_of_default", theirs)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"resamples": resamples}))
        stages.append(
            {"name": name, "ok": True, "shows": ["f"], "metrics": {"f": 0.5}, "report": f"{name}.json"}
        )
    (found,) = compare(stages, tmp_path, Metric("val_mAP"))
    assert found.low is None


def test_a_figure_that_no_float_holds_is_none(tmp_path: Path) -> None:
    huge = {"f": 10**400, "g": 0.5, "h": True}
    stages = [
        {"name": name, "ok": True, "shows": ["f", "g"], "metrics": huge} for name in ("s", "s_of_default")
    ]
    assert [each.name for each in compare(stages, tmp_path, Metric("val_mAP"))] == ["g"]
    assert shown_figures(huge, ["f", "g", "h"]) == "g 0.5000"


@pytest.mark.parametrize(
    ("declared", "gain"),
    [
        ({"val_mAP": "maximize", "val_error": "minimize"}, 0.1),
        ({"val_mAP": "maximize"}, -0.1),
        ({"val_error": "minimize", "test_error": "maximize"}, -0.1),
    ],
)
def test_lower_is_better_of_what_the_model_says_so_of(
    declared: dict[str, str], gain: float, tmp_path: Path
) -> None:
    """A search for another metric: what a stage shows is told by what the model declares of it."""
    actions = {name: {"command": "toy {config_path}"} for name in ("train", "evaluate")}
    shows = {"evaluate": {"shows": ["test_error"]}}
    model = bundle.resolve(str(make_model(tmp_path / "m", actions=actions, metrics=declared, stages=shows)))
    stages = []
    for name, value in (("s", 0.4), ("s_of_default", 0.5)):
        run = StageRun(model.stages[0], name, tmp_path / name)
        run.folder.mkdir()
        run.spec_path.write_text(f"results_dir: {tmp_path / name}\n")
        figures = model.results_file("evaluate", {"results_dir": str(run.folder)})
        figures.parent.mkdir(exist_ok=True)
        figures.write_text(json.dumps({"test_error": value}))
        stages.append(asdict(ended_well(model, run, "")))
    (found,) = compare(stages, tmp_path, Metric("val_mAP"))
    assert found.gain == pytest.approx(gain)
    assert found.words().startswith(
        "test_error (lower is better) differs by -0.1" if gain > 0 else "test_error differs"
    )


def test_an_interval_across_nought_says_so() -> None:
    assert Comparison("f", 0.5, 0.4, -0.1, 0.2, 100, "9 images").words().endswith(", which includes 0")
    assert Comparison("f", 0.3, 0.4, -0.2, -0.1, 100, "9 images").words().endswith("worse than the default")
    assert Comparison("f", 0.5, 0.4, 0.05, 0.2, 100, "9 images").words().endswith("+0.0500 to +0.2000")


@pytest.mark.parametrize(
    ("name", "words", "gain"), [("test_loss", "-0.1000", 0.1), ("test_mAP", "worse than the default", -0.1)]
)
def test_lower_is_better_of_what_the_search_makes_lower(
    name: str, words: str, gain: float, tmp_path: Path
) -> None:
    stages = []
    for stage, value in (("s", 0.4), ("s_of_default", 0.5)):
        resamples = {"draws": "a", "values": {name: [value] * 50}, "of": "9 images"}
        (tmp_path / f"{stage}.json").write_text(json.dumps({"resamples": resamples}))
        stages.append(
            {"name": stage, "ok": True, "shows": [name], "metrics": {name: value}, "report": f"{stage}.json"}
        )
    (found,) = compare(stages, tmp_path, Metric("val_loss", False))
    assert found.words().endswith(words)
    assert (found.gain, found.low, found.high) == pytest.approx((gain, gain, gain))


DAMAGED = [
    None, 1, "x", [], {}, {"kind": "bars"}, {"kind": "bars", "rows": [["a"]]}, {"kind": "lines", "series": [{"name": "a"}]},
    {"kind": "matrix", "rows": ["a"], "columns": ["a"], "values": []}, {"kind": "pictures", "pictures": [{"panels": [1]}]},
    {"kind": "table", "columns": 5}, {"kind": "no such kind"}, {"kind": "bars", "rows": [["a", "b"]]},
    {"kind": "pictures", "pictures": [{"width": 9, "height": 9, "panels": [{"rects": [{"x": "left"}]}]}]},
]  # fmt: skip


@pytest.mark.parametrize("part", DAMAGED, ids=lambda part: json.dumps(part)[:40])
def test_what_a_model_wrote_wrongly_breaks_nothing(part: Any, tmp_path: Path) -> None:
    html = parts.section({"parts": [part, {"kind": "list", "title": "after", "items": ["kept"]}]}, tmp_path)
    assert "kept" in html
    assert "class=dim" in html


def test_links_lead_to_files_of_the_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "best" / "evaluate it"
    folder.mkdir(parents=True)
    (folder / "page.html").write_text("x")
    (tmp_path / "secret.html").write_text("x")
    given = [
        {"file": "page.html", "name": "a <page>"},
        {"file": "../../secret.html"},
        {"file": "none.html"},
        3,
        {},
    ]
    assert parts.links({"links": given}, folder, tmp_path) == (
        '<p class=dim>More: <a href="best/evaluate%20it/page.html">a &lt;page&gt;</a>.</p>'
    )
    assert parts.links({"links": "x"}, folder, tmp_path) == ""


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "page.svg", "none.png", "big.png"])
def test_only_pictures_of_the_folder_itself_are_shown(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(b"x")
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "page.svg").write_text("<svg/>")
    (folder / "big.png").write_bytes(b"0" * (parts.MAX_PICTURE_BYTES + 1))
    assert parts.embedded(folder, name) == ""


def test_a_search_that_gained_nothing_says_so(tmp_path: Path) -> None:
    root = known.searched(tmp_path, trials=1)
    assert verdict.sentences(gather.facts_of(root))[0].startswith(
        "Nothing was gained: the default configuration is the best"
    )


def test_a_plain_training_has_no_winner(tmp_path: Path) -> None:
    loop.run(RunRequest(model=str(NUMPY_NET), policy="off", executor="local"), tmp_path / "run", Progress())
    page = report.write(tmp_path / "run").read_text()
    shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|class=[^>]*", "", page, flags=re.S)
    assert "winner" not in shown.lower()
    assert "trained" in shown
    assert "no parameter differs between the trials" in shown


def test_a_run_that_is_not_at_its_end_says_so_and_how_to_go_on(run: Path, tmp_path: Path) -> None:
    facts = gather.facts_of(run)
    assert not facts.open
    assert verdict.standing(facts).startswith("Ended; 25 trials")
    last = replace(facts.trials[-1], state="WAITING")
    cut = replace(facts, trials=[*facts.trials[:-1], last], root=tmp_path / "a b", winner=0, unfinished=True)
    assert verdict.standing(cut).startswith("Interrupted; 25 trials")
    assert f"automl resume '{tmp_path}/a b'" in verdict.standing(cut)
    assert verdict.sentences(cut)[0].startswith("So far nothing was gained")
    assert "waits to go on" in report.page(replace(cut, root=run))


@pytest.mark.parametrize("name", ["n" * 200, "x" * 61])
def test_long_names_leave_room_for_what_stands_beside_them(name: str) -> None:
    html = parts.table(["class", "n"], [[name, 3]])
    (shown,) = re.findall(r"<td dir=auto[^>]*>([^<]*)</td>", html)
    assert len(shown) == parts.LONGEST_NAME
    assert f"title='{name}'" in html


def test_the_page_s_template_is_compiled_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.template()
    monkeypatch.setattr("jinja2.Environment.compile", lambda *_, **__: pytest.fail("compiled again"))
    assert "<html" in report.write(run, out=tmp_path / "page.html").read_text()


def test_a_report_can_be_written_elsewhere(run: Path, tmp_path: Path) -> None:
    assert report.write(run, out=tmp_path / "shown.html") == tmp_path / "shown.html"
    (tmp_path / "shut").mkdir(mode=0o500)
    if os.access(tmp_path / "shut", os.W_OK):
        pytest.skip("nothing is shut to this user")
    with pytest.raises(
        UserError, match=r"shown.html: may not be written; write it elsewhere: --out FILE.html"
    ):
        report.write(run, out=tmp_path / "shut" / "shown.html")


def test_a_run_without_trials_is_told(run: Path, tmp_path: Path) -> None:
    shutil.copyfile(run / "run.json", tmp_path / "run.json")
    with pytest.raises(UserError, match="no trials yet"):
        report.write(tmp_path)


def test_a_report_that_cannot_be_written_ends_nothing(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    now = [0.0]
    keeper = Keeper(None, tmp_path / "none", None, said.append, lambda: now[0])  # type: ignore[arg-type]
    for _ in range(3):
        keeper.refresh()
        now[0] += 1000
    assert len(said) == 1
    assert said[0].startswith("note: report.html was not written: ")


def test_refreshes_are_rare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[float] = []
    now = [0.0]

    def write(root: Path, study: Any, running: bool) -> Path:
        now[0] += 2.0  # it takes 2 s
        written.append(now[0])
        return root

    monkeypatch.setattr(report, "write", write)
    keeper = Keeper(None, tmp_path, None, print, lambda: now[0])  # type: ignore[arg-type]
    while now[0] < 620:
        keeper.refresh()
        now[0] += 1.0
    assert len(written) == 10  # one in 62 s


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.001, 1000.0], [-5.0, 5.0], [3.0], [0.0, 1e-9]])
def test_ticks_lie_within_the_axis(values: list[float]) -> None:
    for log in (False, min(values) > 0):
        axis = svg.Axis("x", values, log=log)
        scale = axis.scale(0, 100)
        assert axis.ticks(scale)
        assert all(-0.2 <= scale(value) <= 100.2 for value, _ in axis.ticks(scale))


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        (svg.Axis("epoch", [1, 12], whole=True), [str(n) for n in range(1, 13)]),
        (svg.Axis("epoch", [1, 52], whole=True), ["1", "20", "40", "52"]),
        (svg.Axis("batch", [2, 8], whole=True, log=True, at=[2, 4, 8]), ["2", "4", "8"]),
        (svg.Axis("rate", [2e-4, 2e-3], log=True), ["0.0002", "0.0005", "0.001", "0.002"]),
        (svg.Axis("rate", [1e-5, 1e-2], log=True), ["1e-05", "0.0001", "0.001", "0.01"]),
        (svg.Axis("score", [0.003, 0.89]), ["0.2", "0.4", "0.6", "0.8"]),
    ],
    ids=lambda value: value.title if isinstance(value, svg.Axis) else "",
)
def test_ticks_are_values_that_a_person_would_write(axis: svg.Axis, told: list[str]) -> None:
    assert [text for _, text in axis.ticks(axis.scale(0, 100))] == told


def test_numbers_of_a_column_have_the_same_places_and_gaps_stand_with_them() -> None:
    html = parts.table(["class", "n", "AP"], [["a", 3, 0.9439], ["b", 12, 1.0], ["c", 0, None]])
    cells = re.findall(r"<td([^>]*)>([^<]*)</td>", html)
    assert [text for _, text in cells] == ["a", "3", "0.9439", "b", "12", "1.0000", "c", "0", "–"]
    assert all("class=n" in style for style, text in cells if text not in "abc")
    assert html.count("<th class=n>") == 2


def test_gains_are_not_those_of_rounded_figures() -> None:
    """.892221 less .891555 is .000666, whatever .8922 less .8916 is."""
    assert Comparison("f", 0.892221, 0.891555).words() == "f differs by +0.000666 (0.8916 to 0.8922)"
    assert Comparison("f", 0.0014791, 0.00004715).words() == "f differs by +0.0014 (4.715e-05 to 0.0015)"


def test_the_figures_as_data(run: Path) -> None:
    found = json.loads(json.dumps(report.figures(run)))
    assert len(found["trials"]) == 25
    assert found["trials"][0]["curve"][0][0] == 1
    assert found["comparisons"][0]["gain"] == pytest.approx(0.03)


# ---- in a browser -----------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("which", ["run", "sixty"])
def test_in_a_browser_nothing_overflows_and_nothing_is_requested(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """At 420 px: the page is measured by a script that is put into it, and what it fetched is read from the net log."""
    page = report.write(request.getfixturevalue(which)).read_text()
    measure = (
        "<script>document.title=JSON.stringify([document.documentElement.scrollWidth,innerWidth,"
        "[...document.querySelectorAll('body *')].filter(e=>!e.closest('.scroll,.wide')"
        "&&e.getBoundingClientRect().right>innerWidth+1).map(e=>e.tagName+'.'+e.className).slice(0,5),"
        "[...document.querySelectorAll('h2')].map(e=>e.textContent),"
        "performance.getEntriesByType('resource').map(e=>e.name).filter(n=>!n.startsWith('data:'))])</script>"
    )
    # A frame of 420 px: a headless window may be no narrower than 500.
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{measure}</body>"))
    frame = (
        "<iframe id=f style='width:420px;height:3000px;border:0' src=page.html></iframe><script>f.onload=()=>"
        "document.body.textContent=f.contentDocument.title</script>"
    )
    (tmp_path / "frame.html").write_text(frame)
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000",
        "--dump-dom", f"file://{tmp_path / 'frame.html'}",
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    text = re.sub(r"<[^>]+>", "", shown).replace("&amp;", "&")
    wide, window, overflowing, titles, requests = json.loads(text[text.index("[") :])
    assert (window, overflowing, requests) == (420, [], [])
    assert wide <= 420
    assert titles == ["Result", "Pictures", "Search", "What mattered", "Data", "Again"]
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("change", [{"number": 99}, {"epoch": 99}])
def test_what_was_handed_over_of_another_winner_is_not_told_of_this_one(
    run: Path, change: dict[str, int], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(run, tmp_path / "run"))
    told = json.loads((root / "outcome.json").read_text())
    told["confirmed"] = {"seen": 0.1, "pairs": [[1, 0.5, 0.4], [2, 0.5, 0.4]], "failed": []}
    (root / "outcome.json").write_text(json.dumps(told))
    before = gather.facts_of(root)
    assert before.comparisons
    assert before.confirmed
    told["winner"] |= change
    (root / "outcome.json").write_text(json.dumps(told))
    after = gather.facts_of(root)
    assert (after.stages, after.comparisons, after.confirmed) == ([], [], None)


def test_epochs_that_were_not_measured_are_counted_and_keep_curves_apart(tmp_path: Path) -> None:
    curve = [(3, 0.1), (6, 0.5), (9, 0.4)]
    facts = SimpleNamespace(metric=Metric("val_mAP"))
    trial = SimpleNamespace(curve=curve)
    assert report._by_epoch(facts, trial) == [0.1] * 5 + [0.5] * 4  # type: ignore[arg-type]

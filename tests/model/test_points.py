"""Operating points: forms of one network, which are worth having, which is meant, and the file that is exported."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from model.actions import deploy, evaluate
from model.cli import app
from model.deploy import card, front_page, handed, scoring, shrink, survey, targets, timing
from model.deploy.measurements import Cost, Measurements
from model.deploy.points import Form, Point, Wish, amount, front, ranked
from model.deploy.runners import OrtRunner
from model.errors import ModelError, NotRunnable, UserError, number_of
from model.programs import typed
from model.spec_file import load
from tests.conftest import TINY, with_data
from tests.model.deployed import lively

pytestmark = pytest.mark.timeout(1200)  # exports, on a machine that does much else
NAMES = [{"id": i + 1, "name": name} for i, name in enumerate(("circle", "square", "triangle"))]


def point(latency: float, mAP: float, size: int = 1_000_000) -> Point:
    return Point(Form(1, 1, 32, 32, "FP32"), mAP, None, 0.5, latency, latency, latency, latency, size)


points = st.lists(
    st.builds(point, st.floats(0.1, 99), st.floats(0, 1), st.integers(1, 10**8)), min_size=1, max_size=30
)


@given(points)
def test_no_point_beats_one_of_the_front_and_each_other_is_beaten(found: list[Point]) -> None:
    best = front(found)

    def beats(a: Point, b: Point) -> bool:
        return a.latency_ms <= b.latency_ms and a.val_mAP >= b.val_mAP and a != b

    for each in best:
        assert not any(beats(a, each) and not beats(each, a) for a in found)
    for each in found:
        assert each in best or any(beats(a, each) for a in best)


@given(points, st.floats(0.1, 99), st.floats(0, 1), st.floats(0.01, 100))
def test_what_is_chosen_fits_and_is_the_best_that_does(
    found: list[Point], latency: float, mAP: float, size: float
) -> None:
    for wish in (Wish(latency), Wish(mAP=mAP), Wish(megabytes=size), Wish(latency, mAP, size)):
        fitting = [p for p in found if wish.fits(p)]
        if not fitting:
            with pytest.raises(UserError, match=f"none of {number_of(len(found), 'point')} has"):
                ranked(found, wish)
            continue
        first = ranked(found, wish)[0]
        assert first in fitting
        if wish.latency_ms or wish.megabytes:
            assert first.val_mAP == max(p.val_mAP for p in fitting)
        else:
            assert first.latency_ms == min(p.latency_ms for p in fitting)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(61.8), "at most 61.8 ms: the fastest takes 61.84 ms"),
        (Wish(50), "the fastest takes 61.8 ms"),
        (Wish(mAP=0.0525), "at least 0.0525: .* a mAP of 0.05248"),
    ],
)
def test_what_there_is_does_not_look_like_what_was_asked_for(wish: Wish, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ranked([point(61.84, 0.05248)], wish)


def test_without_a_wish_the_fastest_of_nearly_the_same_quality() -> None:
    found = [point(9, 0.5), point(5, 0.495), point(1, 0.4)]
    assert ranked(found, Wish())[0] == found[1]


@pytest.mark.parametrize("top", [0.0, 0.005, 0.05])
def test_of_a_network_that_has_learnt_little_hardly_anything_is_given_up(top: float) -> None:
    found = [point(9, top), point(5, 0.95 * top), point(1, 0.8 * top if top else -0.0001)]
    assert ranked(found, Wish())[0] == found[1]


@pytest.mark.parametrize(
    ("text", "value"), [("15ms", 15), ("0.5s", 500), ("800us", 0.8), ("1.5 ms", 1.5), ("", None)]
)
def test_latencies(text: str, value: float | None) -> None:
    assert amount(text, "deploy.max_latency", ("us", "ms", "s")) == value


@pytest.mark.parametrize("text", ["15", "ms", "-3ms", "0ms", "20MB", "fast", "1e3ms"])
def test_latencies_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="must be a number above 0 with us or ms or s"):
        amount(text, "deploy.max_latency", ("us", "ms", "s"))


def test_a_row_is_the_whole_point() -> None:
    assert Point.of(json.loads(json.dumps(point(1.5, 0.25).row()))) == point(1.5, 0.25)


def test_fewer_two_stage_queries_are_the_best_ones(tiny: dict[str, Any]) -> None:
    tiny["model"] |= {"two_stage": True, "mixed_selection": True, "return_interm_indices": [0, 1]}
    detector, images = lively(tiny), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        all_of_them = detector(images)["enc_outputs"]["chosen"]
        few = shrink.with_queries(detector, 10, None)(images)
    assert torch.equal(few["enc_outputs"]["chosen"], all_of_them[:, :10])
    assert few["pred_logits"].shape == (2, 10, 4)
    assert detector.num_queries == 100  # the network itself stays


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A graph of the module's network, which takes ten seconds to make, is made once and copied from then on."""
    folder, make = tmp_path_factory.mktemp("graphs"), shrink.make
    kept: dict[Any, dict[str, Path]] = {}

    def copied(
        detector: Any, into: Path, size: Any, layers: Any, own: Any, precisions: Any, images: Any
    ) -> Any:
        key = (detector.num_queries, tuple(size), tuple(layers), tuple(precisions))
        if key not in kept:
            (there := folder / str(len(kept))).mkdir()
            kept[key] = make(detector, there, size, layers, own, precisions, images)
        return {name: Path(shutil.copy(path, into)) for name, path in kept[key].items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shrink, "make", copied)
        yield


@pytest.fixture(scope="module")
def deployed(
    made: tuple[Path, dict[str, Any]], made_once: None, demo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """(folder, spec, result) of a small exploration of the untrained network."""
    folder = tmp_path_factory.mktemp("points")
    checkpoint = torch.load(made[0] / "model.pth", weights_only=True)
    data = with_data(json.loads(json.dumps(TINY)), demo)["dataset"]
    checkpoint["spec"]["dataset"] |= {k: data[k] for k in ("train_data_sources", "val_data_sources", "test_data_sources")}  # fmt: skip
    torch.save(checkpoint | {"classes": NAMES, "validated_size": [64, 64]}, folder / "net.pth")
    leaves = {
        "deploy.checkpoint": str(folder / "net.pth"), "deploy.results_dir": str(folder / "out"),
        "deploy.target": "cpu", "deploy.dec_layers": [2, 1], "deploy.num_queries": [100, 30],
        "deploy.sizes": ["96x64"], "deploy.precisions": ["FP32", "FP16", "INT8"],
        "deploy.calibration_images": 3, "deploy.rounds": 1, "deploy.runs": 2, "deploy.max_size": "900MB",
    }  # fmt: skip
    spec = load("deploy", None, leaves)
    return folder, spec, deploy.run(spec)


def test_leaves_of_deploy_act(deployed: Any) -> None:
    """checkpoint, results_dir, target, dec_layers, num_queries, sizes, precisions: every combination, measured; the
    most accurate is exported."""
    folder = deployed[0]
    rows = json.loads((folder / "out" / "points.json").read_text())
    assert len(rows["points"]) == 12
    forms = {(r["layers"], r["queries"], r["height"], r["width"], r["precision"]) for r in rows["points"]}
    assert forms == {(a, b, 64, 96, c) for a in (2, 1) for b in (100, 30) for c in ("FP32", "FP16", "INT8")}
    assert all(r["latency_ms"] > r["network_ms"] > 0 and r["test_mAP"] is not None for r in rows["points"])
    by = {(r["layers"], r["queries"], r["precision"]): r for r in rows["points"]}
    assert by[2, 100, "INT8"]["bytes"] < 0.5 * by[2, 100, "FP32"]["bytes"]
    assert by[1, 100, "FP32"]["bytes"] < by[2, 100, "FP32"]["bytes"]
    chosen = rows["chosen"]
    assert chosen["val_mAP"] == max(r["val_mAP"] for r in rows["points"])
    own = card.read(folder / "out" / "model.onnx")
    assert (own.size, own.classes, own.threshold) == ((64, 96), NAMES, chosen["threshold"])
    outputs = OrtRunner(str(folder / "out" / "model.onnx")).infer(torch.zeros(1, 3, 64, 96), torch.zeros(0))
    assert outputs["pred_logits"].shape == (1, chosen["queries"], 4)
    page = (folder / "out" / "README.md").read_text()
    assert page.count("\n| ") == 13
    assert own.trained["metrics"]["val_mAP"] == chosen["val_mAP"]
    assert "chosen" in page
    assert (folder / "out" / "points.svg").read_text().count("<title>") == 12


def named_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed over is a text that names its form: an export takes a while."""

    def file_of(made: Any, p: Point, path: Path) -> Path:
        path.write_text(str(p.form))
        return path

    monkeypatch.setattr(deploy, "_file_of", file_of)


class Measured(Exception):
    """So many points were to be measured."""


def _refuse(count: int) -> dict[Any, Any]:
    if count:
        raise Measured(count)
    return {}


def test_what_was_measured_is_not_measured_again(
    deployed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """max_latency, min_map and max_size choose anew; calibration_images, rounds and runs act on what is measured."""
    _, spec, result = deployed
    monkeypatch.setattr(survey, "units", lambda forms: _refuse(len(forms)))
    named_files(monkeypatch)
    taken: list[Any] = []
    monkeypatch.setattr(targets, "opener", lambda *_: None)
    times = timing.Times(0.01, 0.01, 0.01, 0.01)  # no point took as little, so the first stays the choice
    monkeypatch.setattr(timing, "measure", lambda *a: taken.append(a[3:5]) or dict.fromkeys(a[0], times))
    wish = {"max_latency": "1000s", "min_map": 0.0, "max_size": "", "rounds": 2, "runs": 1}
    again = deploy.run(spec | {"deploy": spec["deploy"] | wish})
    kept = [
        [{k: v for k, v in row.items() if k not in ("again_ms", "bytes")} for row in each["points"]]
        for each in (again, result)
    ]
    assert kept[0] == kept[1]
    assert taken == [(2, 1)]
    assert "as measured before" in capsys.readouterr().out
    for leaf, value, message in (
        ("max_latency", "1us", "at most 0.001 ms"), ("min_map", 1.0, "a mAP of at least 1"), ("max_size", "0.001kb", "at most 1e-06 MB"),  # a text stands for the file
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            deploy.run(spec | {"deploy": spec["deploy"] | {leaf: value}})
    with pytest.raises(Measured, match=r"^12$"):
        deploy.run(spec | {"deploy": spec["deploy"] | {"calibration_images": 2}})
    with pytest.raises(Measured, match=r"^12$"):
        deploy.run(spec | {"dataset": spec["dataset"] | {"eval_class_ids": [1]}})
    for leaf, value in (
        ("points", 3),
        ("max_time", "10min"),
        ("max_time", "0.001s"),
        ("precisions", ["FP32"]),
    ):
        deploy.run(spec | {"deploy": spec["deploy"] | {leaf: value}})
    with pytest.raises(Measured, match=r"^6$"):  # of 18, these queries' alone
        deploy.run(spec | {"deploy": spec["deploy"] | {"num_queries": [100, 30, 10]}})


def test_a_threshold_that_a_person_wants_stands_in_the_file(
    deployed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, spec, _ = deployed
    shutil.copytree(folder / "out", tmp_path / "out")
    times = timing.Times(0.01, 0.01, 0.01, 0.01)
    monkeypatch.setattr(timing, "measure", lambda *a: dict.fromkeys(a[0], times))
    wish = {"results_dir": str(tmp_path / "out"), "conf_threshold": 0.31}
    deploy.run(spec | {"deploy": spec["deploy"] | wish})
    own = card.read(tmp_path / "out" / "model.onnx")
    assert own.threshold == 0.31
    assert card.in_form(own, "INT8").threshold == 0.31


@pytest.mark.parametrize(
    ("leaf", "text", "told"),
    [("max_latency", "3", "3ms"), ("max_size", "20", "20mb"), ("max_time", "1.5", "1.5min")],
)
def test_a_number_alone_is_told_with_a_unit(leaf: str, text: str, told: str) -> None:
    leaves = {"deploy.checkpoint": "nowhere.pth", f"deploy.{leaf}": text}
    with pytest.raises(UserError, match=f"but got '{text}'; say {told}"):
        deploy.run(load("deploy", None, leaves))


def test_a_latency_that_does_not_hold_is_not_handed_over(
    deployed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, spec, _ = deployed
    before = (folder / "out" / "model.onnx").read_bytes()
    monkeypatch.setattr(
        timing, "measure", lambda keys, *_: dict.fromkeys(keys, timing.Times(1e7, 1e7, 1e7, 1e7))
    )
    with pytest.raises(ModelError, match="no point keeps what was asked for"):
        deploy.run(spec | {"deploy": spec["deploy"] | {"max_latency": "1000s"}})
    assert (folder / "out" / "model.onnx").read_bytes() == before
    assert not (folder / "out" / ".model.onnx").exists()


@pytest.mark.slow  # and OpenVINO in a process with other tests may end it: test_openvino.py
@pytest.mark.skipif(targets.missing("openvino") is not None, reason="no openvino")
def test_what_is_deployed_for_another_target_lies_beside_the_cpu_s(
    deployed: Any, demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    folder, spec, _ = deployed

    def whole() -> dict[str, bytes]:
        return {f.name: f.read_bytes() for f in (folder / "out").iterdir() if f.is_file()}

    before, leaves = whole(), {"target": "openvino", "precisions": ["FP32"], "points": 2, "max_size": ""}
    result = deploy.run(spec | {"deploy": spec["deploy"] | leaves})
    assert whole() == before
    there = folder / "out" / "openvino"
    sizes = {f.name: f.stat().st_size for f in there.glob("model.*")}
    assert sizes.keys() == {"model.onnx", "model.xml", "model.bin", "model.xml.json"}
    assert result["chosen"]["bytes"] == sizes["model.xml"] + sizes["model.bin"]
    assert card.read(there / "model.xml") == card.read(there / "model.onnx")
    consistent(there)
    assert "timed on openvino" in (there / "README.md").read_text()
    said = capsys.readouterr().out
    assert f"file: {there / 'model.xml'}\n" in said
    program, *words = shlex.split(said.rpartition("next: ")[2])
    assert program == typed("deformable_detr")  # by its path, where PATH does not find it
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert len(list(tmp_path.rglob("labels/*.txt"))) == len(list((demo / "test" / "images").iterdir()))


def test_what_was_measured_again_is_written_and_a_difference_is_said(
    deployed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, spec, _ = deployed
    result = deploy.run(spec)
    page = (folder / "out" / "README.md").read_text()
    assert f"measured again, alone: **{result['again_ms']:.2f} ms**" in page
    first = result["chosen"]["latency_ms"]
    monkeypatch.setattr(
        timing, "measure", lambda keys, *_: dict.fromkeys(keys, timing.Times(3 * first, 0, 0, 0))
    )
    again = deploy.run(spec)
    chosen = again["chosen"]["latency_ms"]  # what was slower the second time may have lost to another point
    assert again["again_ms"] == 3 * first
    assert json.loads((folder / "out" / "points.json").read_text())["again_ms"] == 3 * first
    page = (folder / "out" / "README.md").read_text()
    assert f"**{3 * first:.2f} ms**, {3 * first / chosen:.2f} times what was measured first" in page
    assert f"| {chosen:.2f} | {3 * first:.2f} |" in page
    apart = not 1 / deploy.APART <= 3 * first / chosen <= deploy.APART
    said = capsys.readouterr().out
    assert ("warning: measured again it took" in said) == apart
    best = front([Point.of(row) for row in again["points"]])
    told = [line for line in said.splitlines() if line.startswith("front: ")]
    assert told[-len(best) :] == [f"front: {front_page.line(p)}" for p in best]


class Exported:
    """Files without a network: every form takes `times` what was measured first when it is measured again."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, found: list[Point], times: float
    ) -> None:
        self.tried: list[Point] = []
        self.pace = survey.Pace(0, 0, 1)
        forms = [Form(i, 1, 32, 32, "FP32") for i in range(len(found))]
        self.kept = Measurements(folder / "measured.json", "k", {f: replace(p, form=f) for f, p in zip(forms, found, strict=True)})  # fmt: skip
        self.table = handed.Table(folder, "k", forms, "cpu")

        def file_of(made: Any, p: Point, path: Path) -> Path:
            self.tried.append(p)
            path.write_text(str(p.form))
            return path

        monkeypatch.setattr(deploy, "_file_of", file_of)
        monkeypatch.setattr(deploy, "_again", lambda *_: times * self.tried[-1].latency_ms)

    def export(self, wish: Wish) -> Point:
        made: Any = type("Made", (), {"spec": {}})
        return deploy._export(made, self.table, self.kept, wish, self.pace, [])


def test_the_second_measurement_chooses_where_the_limit_is_not_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twice as slow: what takes 6 to 10 ms by the table is not even tried for 10 ms after the first."""
    found = [point(latency, latency / 100) for latency in (2.0, 4.5, 6.0, 8.0, 10.0)]
    made = Exported(monkeypatch, tmp_path, found, 2)
    chosen = made.export(Wish(10.0))
    assert ([p.latency_ms for p in made.tried], chosen.latency_ms, chosen.again_ms) == ([10.0, 4.5], 4.5, 9.0)
    page = (tmp_path / "README.md").read_text()
    assert "| 10.00 | 20.00 |" in page
    assert "| 4.50 | 9.00 |" in page
    made.tried.clear()
    assert made.export(Wish(9.5)).latency_ms == 4.5
    assert [p.latency_ms for p in made.tried] == [8.0, 4.5]  # what is known to take 20 ms is not tried


@pytest.mark.parametrize("wish", [Wish(), Wish(mAP=0.4), Wish(megabytes=9)])
@pytest.mark.parametrize(
    ("again", "place"),
    [
        ([5.1, 0, 0, 0, 0], 0),
        ([8.0, 5.3, 0, 0, 0], 1),  # the second was faster all along
        ([8.0, 9.0, 6.6, 0, 0], 2),
        ([6.1, 9.0, 0, 0, 0], 0),  # the first stays the fastest
        ([8.0, 9.0, 10.0, 0, 0], 0),  # three are enough; the fourth is told of
    ],
)
def test_what_was_measured_last_chooses_whatever_was_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], wish: Wish,
    again: list[float], place: int,
) -> None:  # fmt: skip
    """Table, picture, file and what is returned are of one point."""
    made = Exported(monkeypatch, tmp_path, [point(ms, 0.5) for ms in (5.0, 6.0, 6.5, 7.0, 9.0)], 1)
    monkeypatch.setattr(deploy, "_again", lambda *_: again[made.tried[-1].form.layers])
    chosen, known = made.export(wish), made.table.points(made.kept)
    assert (chosen.form.layers, chosen.again_ms) == (place, again[place])
    assert [p.form.layers for p in made.tried] == [n for n, ms in enumerate(again) if ms]
    consistent(tmp_path)
    document = json.loads((tmp_path / "points.json").read_text())
    assert Point.of(document["chosen"]) == chosen == next(p for p in known if p.form == chosen.form)
    assert [Point.of(row) for row in document["points"]] == known
    assert (tmp_path / "points.svg").read_text() == front_page.picture(known, chosen)
    assert not (tmp_path / ".tried").exists()
    enough = ranked(known, wish)[0] != chosen
    assert ("3 layers, 1 query, 32x32, FP32 comes before it" in capsys.readouterr().out) == enough
    assert enough == (len(made.tried) == 3 and place == 0)


def test_the_size_that_counts_is_that_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what it says of itself, which the table's size has not."""
    made = Exported(monkeypatch, tmp_path, [point(2, 0.4, 10), point(1, 0.3, 9)], 1)
    size = len(str(Form(0, 1, 32, 32, "FP32")))
    chosen = made.export(Wish(megabytes=size / 1e6))
    assert chosen.bytes == size == (tmp_path / "model.onnx").stat().st_size
    made.tried.clear()
    with pytest.raises(ModelError, match=r"no point keeps what was asked for"):
        Exported(monkeypatch, tmp_path, [point(2, 0.4, 10), point(1, 0.3, 9)], 1).export(
            Wish(megabytes=(size - 2) / 1e6)  # the other, of one layer, is a letter shorter
        )


def test_no_limit_is_refused_on_the_first_measurement_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The machine was busy: 30 ms by the table, 15 when measured again."""
    made = Exported(monkeypatch, tmp_path, [point(40, 0.4), point(30, 0.3)], 0.5)
    chosen = made.export(Wish(20.0))
    assert (chosen.latency_ms, chosen.again_ms) == (30, 15)
    with pytest.raises(UserError, match=r"the fastest takes 15\.0 ms measured again, 30\.0 ms first"):
        made.export(Wish(10.0))
    assert (
        json.loads((tmp_path / "points.json").read_text())["chosen"]["latency_ms"] == 30
    )  # it is still there


@pytest.mark.parametrize(("limit", "written"), [(10.0, 1), (7.5, 1), (7.4, 0), (0.5, 0)])
def test_nothing_is_written_for_a_limit_that_no_second_look_may_bring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: float, written: int
) -> None:
    """30 ms by the table; 7.5 is `deploy.NEAR` times less."""
    made = Exported(monkeypatch, tmp_path, [point(40, 0.4), point(30, 0.3)], 1)
    for _ in range(2):
        with pytest.raises(UserError, match="the fastest takes 30"):
            made.export(Wish(limit))
    assert len(made.tried) == 2 * written
    assert not list(tmp_path.glob("*.onnx"))


def test_the_time_that_is_given_holds_for_what_is_chosen_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file and its measurement take 60 s: the first is the least, and no other is begun that ends too late."""
    found = [point(10.0, 0.5), point(6.0, 0.4), point(4.0, 0.3)]
    for limit, tried in ((None, 2), (130.0, 2), (115.0, 1), (50.0, 1)):
        made, now = Exported(monkeypatch, tmp_path, found, 1.5), [0.0]

        def again(_: Any, made: Exported = made, now: list[float] = now) -> float:
            now[0] += 60
            return 1.5 * made.tried[-1].latency_ms

        monkeypatch.setattr(deploy, "_again", lambda *a, again=again: again(a))
        made.pace = survey.Pace(0, 0, 1, limit, False, Cost(90, 50, 10), lambda now=now: now[0])
        if tried == 2:
            assert made.export(Wish(10.0)).again_ms == 9.0
        else:
            with pytest.raises(ModelError, match="no point keeps what was asked for"):
                made.export(Wish(10.0))
        said = capsys.readouterr().out
        assert len(made.tried) == tried
        assert ("leaves no time to measure another again" in said) == (tried == 1)
        assert ("max_time of 50 s is less than the least there is, the export of what is chosen: about 60 s" in said) \
            == (limit == 50.0)  # fmt: skip
    assert made.export(Wish(10.0)).again_ms == 9.0  # the same command goes on


@given(st.lists(st.sampled_from(["choose", "fail", "other"]), max_size=6), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_kill_at_any_moment_leaves_a_file_beside_a_table_that_chose_it(steps: list[str], last: int) -> None:
    """Every change of a file is a moment; the kill comes before the one numbered `last`."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder, moments = Path(name), iter(range(10**6))

        def moment(change: Any) -> Any:
            def changed(*a: Any, **k: Any) -> Any:
                if next(moments) == last:
                    raise KeyboardInterrupt
                return change(*a, **k)

            return changed

        made = Exported(patch, folder, [point(40, 0.4), point(30, 0.3)], 1)
        for method in ("replace", "unlink", "write_text"):
            patch.setattr(Path, method, moment(getattr(Path, method)))
        with suppress(KeyboardInterrupt):
            for number, step in enumerate(steps):
                if step == "other":
                    made.kept.key, made.table = f"k{number}", replace(made.table, key=f"k{number}")
                made.table.write(made.kept)
                with suppress(UserError):
                    made.export(Wish(1.0 if step == "fail" else 30 + 10 * (number % 2)))
        consistent(folder)


def consistent(folder: Path) -> None:
    if (folder / "model.onnx").exists():
        chosen = json.loads((folder / "points.json").read_text())["chosen"]
        assert chosen is not None
        said = (folder / "model.onnx").read_bytes()
        form = said.decode() if len(said) < 1000 else card.read(folder / "model.onnx").trained["form"]
        assert str(Form.of(chosen)) == form
        assert f"Chosen: {form}" in (folder / "README.md").read_text()


@given(
    st.lists(st.tuples(*[st.integers(1, 3)] * 3, st.sampled_from(["FP32", "INT8"])), min_size=1, unique=True)
)
def test_any_number_of_points_is_the_first_and_those_that_differ_most(rows: list[Any]) -> None:
    forms = [Form(a, b, c, c, d) for a, b, c, d in rows]
    order = survey.spread(forms)
    assert order[0] == forms[0]
    assert sorted(map(str, order)) == sorted(map(str, forms))
    for count in range(1, len(forms) + 1):
        assert survey.spread(forms, count) == order[:count]


def test_the_first_four_points_of_a_grid_are_its_far_corners() -> None:
    forms = [
        Form(a, b, c, c, d) for c in (3, 2) for b in (9, 6, 3) for d in ("FP32", "INT8") for a in (6, 4, 2)
    ]
    assert survey.spread(forms, 2)[1] == Form(2, 3, 2, 2, "INT8")
    assert {f.precision for f in survey.spread(forms, 4)} == {"FP32", "INT8"}


def test_a_forecast_after_the_first_unit() -> None:
    now = [0.0]
    pace = survey.Pace(units=4, points=12, turns=3, limit_s=110, clock=lambda: now[0])
    assert str(pace) == "0 of 12 points scored"
    assert pace.fits_another(3)
    now[0], pace.cost = 20.0, Cost(20, 10, 0.5)
    pace.done_units, pace.done_points = 1, 3
    assert str(pace) == "3 of 12 points scored, about 90 s left"  # three units of 20 s, an export, 39 turns
    now[0], pace.done_units, pace.done_points = 60.0, 3, 9
    assert pace.fits_another(3)  # 60 s, a unit, an export and 39 turns: 109.5 s
    assert not pace.fits_another(4)
    known = survey.Pace(4, 12, 3, 5, needed=False, cost=Cost(20, 10, 0.5), clock=lambda: now[0])
    assert not known.fits_another(3)  # known from an earlier time, and there is a table


@given(
    st.lists(st.floats(0.1, 50), min_size=1, max_size=20), st.floats(0.1, 20), st.floats(0.01, 2), st.floats(1, 500),
    st.booleans(),
)  # fmt: skip
def test_what_is_begun_ends_within_the_limit_but_for_the_least(
    units: list[float], export: float, turn: float, limit: float, needed: bool
) -> None:
    """Where the first unit is the longest, as it is the largest."""
    now, units = [0.0], sorted((u + export for u in units), reverse=True)
    pace = survey.Pace(
        len(units), 3 * len(units), 3, limit, needed, Cost(units[0], export, turn), lambda: now[0]
    )
    for unit in units:
        if not pace.fits_another(3):
            break
        now[0] += unit
        pace.done_units, pace.done_points = pace.done_units + 1, pace.done_points + 3
    end = now[0] + (pace.ending_s(pace.done_points) if pace.done_units else 0)
    least = units[0] + export + 12 * turn if needed else 0
    assert end <= max(limit, least) + 1e-6


def test_too_little_time_measures_one_unit_says_what_that_is_and_the_next_run_goes_on(
    deployed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, spec, _ = deployed
    named_files(monkeypatch)
    monkeypatch.setattr(deploy, "_again", lambda *_: 1.0)
    leaves = {"max_time": "0.001s", "results_dir": str(tmp_path), "precisions": ["FP32"]}
    result = deploy.run(spec | {"deploy": spec["deploy"] | leaves})
    assert {r["queries"] for r in result["points"]} == {100}
    assert len(result["points"]) == 2
    assert not result["whole"]
    said = capsys.readouterr().out
    steps = (
        "reading checkpoint and data",
        "exporting 100 queries at ",
        "scoring 100 queries at ",
        "making a file of each of 2",
    )
    begun = [next(step for step in steps if line.startswith(step)) for line in said.splitlines()[:5]]
    assert list(dict.fromkeys(begun)) == [*steps]  # each is told as it begins: together they take long
    assert "deploy.max_time: 2 of 4 points are left out" in said
    assert "2 of 4 points scored, about" in said
    assert "max_time of 0.001 s is less than the least there is" in said
    assert "the table is not whole, it lacks 2 points" in said
    assert "The table is not whole: 2 of 4" in (tmp_path / "README.md").read_text()
    again = deploy.run(
        spec | {"deploy": spec["deploy"] | leaves}
    )  # no unit is begun: what one takes is known
    assert len(again["points"]) == 2
    consistent(tmp_path)

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    measure = timing.measure
    monkeypatch.setattr(timing, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        deploy.run(spec | {"deploy": spec["deploy"] | leaves | {"max_time": ""}})
    monkeypatch.setattr(timing, "measure", measure)
    consistent(tmp_path)
    monkeypatch.setattr(scoring, "score", lambda *_: pytest.fail("scored again"))
    whole = deploy.run(spec | {"deploy": spec["deploy"] | leaves | {"max_time": ""}})
    assert (len(whole["points"]), whole["whole"]) == (4, True)
    assert "not whole" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"KEY": {"points": [{}]}}', '{"KEY": 3}', "\x00"])
def test_a_damaged_file_of_measurements_is_none(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "measured.json").write_text(text.replace("KEY", "k"))
    found = Measurements.read(tmp_path / "measured.json", "k")
    assert (found.points, found.scores) == ({}, {})
    assert "cannot be read; all is measured anew" in capsys.readouterr().out


def test_measurements_of_several_networks_stay_beside_each_other(tmp_path: Path) -> None:
    form = Form(1, 1, 32, 32, "FP32")
    for key, mAP in (("a", 0.1), ("b", 0.2), ("a", 0.3)):
        found = Measurements.read(tmp_path / "m.json", key)
        found.add_scores("val", {form: scoring.Scored(mAP)})
    assert Measurements.read(tmp_path / "m.json", "b").scores[form]["val"].mAP == 0.2
    assert Measurements.read(tmp_path / "m.json", "a").scores[form]["val"].mAP == 0.3


def test_so_many_points_and_no_more(deployed: Any, tmp_path: Path) -> None:
    _, spec, _ = deployed
    leaves = {"points": 2, "results_dir": str(tmp_path), "precisions": ["FP32"]}
    rows = deploy.run(spec | {"deploy": spec["deploy"] | leaves})["points"]
    assert [(r["layers"], r["queries"]) for r in rows] == [(2, 100), (1, 30)]


class Counted(list):
    """Batches, and how often they were asked for."""

    times = 0

    def __iter__(self) -> Any:
        self.times += 1
        return super().__iter__()


def test_images_are_decoded_once_while_they_fit(deployed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = deployed[1]
    data = evaluate.load_data(evaluate.sources_of(spec | {"evaluate": {"split": "val"}}), spec, NAMES)
    for fits, decoded in ((scoring.KEPT_BYTES, 1), (0, 2)):
        monkeypatch.setattr(scoring, "KEPT_BYTES", fits)
        batches = scoring.Batches(data, (64, 96), spec)
        counted = Counted(batches.loader)
        monkeypatch.setattr(batches, "loader", counted)
        first, second = list(batches), list(batches)
        assert counted.times == decoded
        assert len(first) == len(counted) > 0
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        ("max_time", "10", "max_time must be a number above 0 with s or min or h"),
        ("dec_layers", [3], "dec_layers must be from 1 to 2"),
        ("num_queries", [0], "num_queries must be from 1 to 100"),
        ("sizes", ["64"], "WIDTHxHEIGHT"),
        ("precisions", ["FP8"], "must be of FP32, FP16, INT8"),
        ("max_latency", "15", "max_latency must be a number"),
    ],
)
def test_refusals(deployed: Any, leaf: str, value: Any, message: str) -> None:
    spec = deployed[1]
    with pytest.raises(UserError, match=message):
        deploy.run(spec | {"deploy": spec["deploy"] | {leaf: value}})


@pytest.mark.parametrize("target", ["gpu", "tensorrt", "openvino"])
def test_targets_that_are_not_here(deployed: Any, target: str) -> None:
    spec = deployed[1]
    if targets.missing(target) is None:
        pytest.skip(f"{target} is here")
    with pytest.raises(NotRunnable, match=f"deploy.target {target} needs .*pip install"):
        deploy.run(spec | {"deploy": spec["deploy"] | {"target": target}})

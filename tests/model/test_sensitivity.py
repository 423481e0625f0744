"""What stays in floating point so that mAP falls by no more than is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.actions import quantize
from model.deploy import card, scoring
from model.deploy.sensitivity import Choice, choose, group_of
from model.errors import ModelError, UserError
from model.spec import put
from tests.conftest import TINY, with_data
from tests.model.test_quantize import spec_for


@pytest.mark.parametrize(
    ("node", "group"),
    [
        ("transformer.encoder.layers.0.linear1/Gemm", "transformer.encoder.layers.0"),
        ("backbone.0.body.layer1.0.bn1/Conv_2", "backbone.0.body.layer1"),
        ("backbone.0.body.conv1/Conv", "backbone.0.body.conv1"),
        ("input_proj.0.0/Conv", "input_proj.0.0"),
        ("reference/MatMul", "reference"),
        ("MatMul_3", "MatMul_3"),
    ],
)
def test_groups_are_blocks(node: str, group: str) -> None:
    assert group_of(node) == group


def quiet(text: str) -> None:
    pass


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=12), st.floats(0, 0.3))
def test_as_few_as_needed_stay_float_and_the_worst_first(costs: list[float], allowed: float) -> None:
    """Each group has a cost in mAP and moves the outputs by as much."""
    cost = {f"m.layers.{i}.x/Conv": c for i, c in enumerate(costs)}

    def lost(nodes: list[str]) -> float:
        return sum(cost[n] for n in nodes)

    nodes = sorted(cost)
    if 0.9 - (0.9 - min(costs)) > allowed:
        with pytest.raises(ModelError, match="cannot be held"):
            choose(nodes, allowed, 0.9, lambda some: 0.9 - lost(some), lost, 5, quiet)
        return
    found = choose(nodes, allowed, 0.9, lambda some: 0.9 - lost(some), lost, 5, quiet)
    assert 0.9 - found.after <= allowed
    assert sorted([*found.nodes, *(f"{k}.x/Conv" for k in found.kept)]) == nodes
    if found.kept:
        least = min(cost[f"{k}.x/Conv"] for k in found.kept)
        assert all(cost[n] <= least for n in found.nodes)
        one_less = sorted(cost.values())[: len(found.nodes) + 1]
        assert 0.9 - (0.9 - sum(one_less)) > allowed - 1e-9


def test_nothing_is_asked_where_the_drop_holds_at_once() -> None:
    found = choose(["a/Conv"], 0.01, 0.5, lambda some: 0.495, lambda some: pytest.fail("asked"), 5, quiet)
    assert found == Choice(["a/Conv"], [], 0.5, 0.495, 5, {})


@pytest.fixture
def labelled(made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path) -> dict[str, Any]:
    """A spec with validation data and a file of the demo's classes."""
    source = tmp_path / "named.onnx"
    graph, own = onnx.load(made[0] / "model.onnx"), card.read(made[0] / "model.onnx")
    classes = [{"id": i + 1, "name": name} for i, name in enumerate(("circle", "square", "triangle"))]
    card.write_into(graph, card.Card(**{**vars(own), "classes": classes}))
    onnx.save(graph, source)
    spec = spec_for(made, demo, tmp_path / "out", model_path=str(source))
    put(
        spec,
        "dataset.val_data_sources",
        with_data(json.loads(json.dumps(TINY)), demo)["dataset"]["val_data_sources"],
    )
    return spec


def test_the_drop_is_measured_on_validation_images(labelled: dict[str, Any]) -> None:
    found = quantize.run(labelled)
    assert (found["mAP_before"], found["scored_images"], found["stays_float"]) == (found["mAP"], 4, [])
    assert json.loads((Path(found["file"]).parent / "drift.json").read_text()) == found


def test_the_drop_that_is_allowed_decides_what_stays_float(
    labelled: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """max_drop, with real graphs; the mAP of an untrained network is nothing, so a score by how much is quantized
    stands in for it."""

    def score(path: Path, *_: Any) -> float:
        return 0.5 - 0.001 * sum(n.op_type == "DequantizeLinear" for n in onnx.load(path).graph.node)

    monkeypatch.setattr(scoring, "score_file", lambda *a: scoring.Scored(score(*a), 0.25, 0.125))
    monkeypatch.setattr(scoring, "score_runner", lambda *_: scoring.Scored(0.5))
    put(labelled, "quantize.mode", "weight_only_ptq")
    free = quantize.run(labelled | {"quantize": labelled["quantize"] | {"max_drop": None}})
    assert "mAP" not in free
    lost = 0.5 - score(Path(free["file"]))
    found = quantize.run(labelled | {"quantize": labelled["quantize"] | {"max_drop": 0.6 * lost}})
    assert 0 < found["layers"] < free["layers"]
    assert found["mAP"] == score(Path(found["file"])) >= 0.5 - 0.6 * lost
    graph = onnx.load(found["file"]).graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    rounded = {n.name for n in graph.node if [maker.get(i) for i in n.input[1:2]] == ["DequantizeLinear"]}
    assert 0 < len(rounded) <= found["layers"]
    assert not {group_of(name) for name in rounded} & set(found["stays_float"])
    moved = found["moved_alone"]
    assert list(moved)[: len(found["stays_float"])] == found["stays_float"]
    assert list(moved.values()) == sorted(moved.values(), reverse=True)
    assert f"in floating point stay {', '.join(found['stays_float'])}" in capsys.readouterr().out
    own = card.read(found["file"])
    assert own.trained["metrics"] == {"val_mAP": found["mAP"], "val_f1": 0.25, "val_threshold": 0.125}
    assert (own.threshold, own.trained["form"]) == (0.125, "INT8 weights")
    with pytest.raises(ModelError, match="max_drop 0 cannot be held"):
        quantize.run(labelled | {"quantize": labelled["quantize"] | {"max_drop": 0.0}})


def test_without_labelled_images_it_says_that_the_drop_is_not_known(
    labelled: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    put(labelled, "dataset.val_data_sources", [])
    put(labelled, "quantize.mode", "weight_only_ptq")
    assert "mAP" not in quantize.run(labelled)
    assert "quantize.max_drop is not checked" in capsys.readouterr().out
    gone = {"json_file": "/nowhere/a.json", "image_dir": "/nowhere"}
    put(labelled, "dataset.val_data_sources", [gone])
    with pytest.raises(UserError, match=r"/nowhere/a\.json is not there"):
        quantize.run(labelled)

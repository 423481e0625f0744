"""What a person asks: --tune, --fix, a `search:` block; what becomes conditional; and the command line's answers."""

from __future__ import annotations

import doctest
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import automl.space
from automl.cli import main
from automl.errors import SpaceError
from automl.space import Parameter, SearchSpace, compile_space, problems
from automl.space.cli import app, print_space
from tests.automl.space.zoo import DINO, MODELS, STANDARD, document, leaf, nested, pick, real, whole

SCHEMA = MODELS["dino"]


def parameter(space: SearchSpace, name: str) -> Parameter:
    return next(p for p in space.parameters if p.name == name)


def test_a_range_and_its_scale() -> None:
    space = compile_space(SCHEMA, tune=["train.optim.lr=1e-5:1e-3", "train.optim.lr_decay=0.1:0.5:linear"])
    lr, decay = parameter(space, "train.optim.lr"), parameter(space, "train.optim.lr_decay")
    assert (lr.low, lr.high, lr.scale) == (1e-5, 1e-3, "log")
    assert (decay.low, decay.high, decay.scale) == (0.1, 0.5, "linear")
    assert "--tune train.optim.lr=1e-5:1e-3" in lr.why


@pytest.mark.parametrize(
    ("entry", "ends", "scale"),
    [
        ({"valid_min": 0.5, "valid_max": 0.999}, (0.5, 0.999), "log(1 - x)"),
        ({"valid_max": 0.99}, (0, 0.99), "log(1 - x)"),
        ({"valid_min": 0.5}, (0.5, 0.99995), "log(1 - x)"),
        ({"valid_min": 0.5, "valid_max": 1}, (0.5, 1), "linear"),
        ({"valid_min": 0.5, "valid_max": 0.999, "log": False}, (0.5, 0.999), "linear"),
        ({"valid_min": 0.5, "valid_max": 0.999, "log": True}, (0.5, 0.999), "log"),
    ],
)
def test_a_range_asked_for_keeps_the_scale_that_is_not_asked_for(
    entry: dict[str, Any], ends: tuple[float, float], scale: str
) -> None:
    """Of a momentum what is left to 1 counts; also of one in a list."""
    leaves = {"train.momentum": real(0.9, 0, 1), "train.betas": leaf("list", [0.9], 0, 1, on=True)}
    space = compile_space(document(leaves), search=dict.fromkeys(leaves, entry))
    momentum, betas = parameter(space, "train.momentum"), parameter(space, "train.betas")
    assert (momentum.low, momentum.high, momentum.scale) == (*ends, scale)
    assert [(axis.low, axis.high, axis.scale) for axis in betas.axes] == [(*ends, scale)]


def test_listed_values_that_cannot_be_are_named() -> None:
    schema = document(
        {"train.batch": whole(4, 1, 512), "model.hidden_dim": whole(64), "model.nheads": leaf("int", 8)}
    )
    asked = ["train.batch=1,2,64,128", "model.hidden_dim=64,100,128"]
    space = compile_space(schema, tune=asked, limits={"train.batch": 12})
    drawn = space.sample(50)
    assert {params["train.batch"] for params in drawn} == {1, 2}
    assert {params["model.hidden_dim"] for params in drawn} == {64, 128}
    notes = "\n".join(space.notes)
    assert f"--tune {asked[0]}: 64, 128 is left out: train.batch: the data allow at most 12" in notes
    assert f"--tune {asked[1]}: 100 is left out: model.hidden_dim: must be an integer" in notes


def test_values_to_fix_may_be_a_mapping() -> None:
    texts = compile_space(SCHEMA, fix=["train.optim.lr=0.0003"])
    assert compile_space(SCHEMA, fix={"train.optim.lr": 3e-4}).digest == texts.digest
    assert dict(texts.fixed) == {"train.optim.lr": 3e-4}
    with pytest.raises(SpaceError, match="--tune must be a list of texts"):
        compile_space(SCHEMA, tune={"train.optim.lr": 3e-4})  # type: ignore[arg-type]


def test_values_and_a_disabled_leaf() -> None:
    space = compile_space(
        SCHEMA, tune=["model.backbone=resnet_50,fan_tiny", "model.dn_number", "dataset.workers"]
    )
    assert parameter(space, "model.backbone").choices == ("resnet_50", "fan_tiny")
    assert {"model.dn_number", "dataset.workers"} <= space.default.keys()


def test_a_block_in_the_spec() -> None:
    block = {
        "train.optim.lr": {"valid_min": 1e-5, "valid_max": "1e-3", "log": False},
        "model": {"backbone": {"valid_options": ["fan_tiny", "resnet_50"], "option_weights": [1, 3]}},
        "dataset.batch_size": False,
    }
    space = compile_space(SCHEMA, search=block)
    assert parameter(space, "train.optim.lr").scale == "linear"
    assert parameter(space, "model.backbone").axes[0].shares == (0.25, 0.75)
    assert "fixed at 4" in dict(space.left_out)["dataset.batch_size"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tune": ["train.optim.lrr"]}, "no parameter 'train.optim.lrr'; did you mean 'train.optim.lr'"),
        ({"tune": ["train.optim"]}, "'train.optim' is a section"),
        ({"tune": ["train.optim.lr=1:2"]}, r"must be a number in \(0, 1\], but got 2"),
        ({"tune": ["train.optim.lr=1e-3:1e-5"]}, "low must be < high"),
        ({"tune": ["train.optim.lr=0:1:log"]}, "a log scale needs low > 0"),
        ({"tune": ["model.backbone=resnet_51,fan_tiny"]}, "must be one of resnet_50, .* but got 'resnet_51'"),
        ({"tune": ["model.backbone=resnet_50"]}, "a search needs two values or more"),
        ({"fix": ["train.optim.lr=0"]}, r"must be a number in \(0, 1\], but got 0"),
        ({"fix": ["model.num_queries=100", "model.num_select=200"]}, "does not hold"),
        ({"tune": ["train.optim.lr"], "fix": ["train.optim.lr"]}, "--tune and --fix both name it"),
        ({"search": {"train.optim.lr": {"low": 1}}}, "no parameter 'train.optim.lr.low'|unknown key 'low'"),
        ({"spec": {"train": {"optim": {"lr": 5}}}}, "train.optim.lr must be a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_clear_error(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message) as error:
        compile_space(SCHEMA, asked.pop("spec", None), **asked)
    assert "\n" not in str(error.value)


ODD: dict[str, Any] = {
    "a.list": leaf("list", [0.1, 0.2], on=True), "a.both": real(-0.5, -1, 1), "a.below": real(-0.5, -1, 0),
    "a.flag": leaf("bool", False, on=True), "a.open": leaf("float", 0.5, on=True),
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tune": ["a.list=-1:1:log"]}, "a log scale needs low > 0, but got -1"),
        ({"tune": ["a.list=0:1:log"]}, "a log scale needs low > 0, but got 0"),
        ({"search": {"a.list": {"valid_max": "inf"}}}, "must be a finite number, but got inf"),
        ({"search": {"a.list": {"valid_min": [0.1, 0], "log": True}}}, "a log scale needs low > 0, but got 0"),
        ({"search": {"a.both": {"log": True}}}, "a.both: a log scale needs low > 0, but it would begin at -1"),
        ({"search": {"a.both": {"valid_max": 0.5, "log": True}}}, "a.both: a log scale needs low > 0"),
        ({"search": {"a.below": {"log": True}}}, "a.below: a log scale needs low > 0, .*leave log out"),
        ({"search": {"a.flag": {"option_weights": [1, 2, 3]}}}, "option_weights must be 2 numbers"),
        ({"search": {"a.open": {"option_weights": [1, 2]}}}, "a.open has no options to weigh"),
    ],
)  # fmt: skip
def test_a_scale_or_weights_that_cannot_be_had_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        compile_space(document(ODD), **asked)


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        ({"low": 1, "high": 0.1}, "a: search.low must be < search.high, but got 1 and 0.1"),
        ({"low": -1, "high": 1, "log": True}, "a: search.log needs numbers > 0, but got search.low -1"),
    ],
)
def test_a_hint_that_contradicts_itself_is_refused(hint: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        compile_space(document({"a": real(0.5, -1, 1, search=hint)}))


def test_the_weights_of_a_switch_count() -> None:
    """They are those of false and true."""
    schema = document({"a.flag": leaf("bool", False, on=True, option_weights=[1, 3])})
    asked = compile_space(document(ODD), search={"a.flag": {"option_weights": [1, 3]}})
    for space in (compile_space(schema), asked):
        drawn = [params["a.flag"] for params in space.sample(1000)]
        assert sum(drawn) == pytest.approx(750, abs=50)


@pytest.mark.parametrize(
    ("kind", "default", "enum", "likely"),
    [("categorical", "x", "x, y,z", "y"), ("categorical", True, "true,false,", False), ("list_1", ["x"], ["x", "y", "z"], ["y"])],
)  # fmt: skip
def test_the_weights_of_options_however_the_enum_is_written(
    kind: str, default: Any, enum: Any, likely: Any
) -> None:
    """In one text, as words for a switch, or as the elements of lists of one."""
    node = {
        "type": kind,
        "default": default,
        "enum": enum,
        "automl_enabled": True,
        "option_weights": [1, 8, 1],
    }
    space = compile_space({"properties": {"a": node}})
    drawn = [params["a"] for params in space.sample(1000)]
    assert sum(value == likely for value in drawn) == pytest.approx(800, abs=50)


def test_a_log_scale_may_be_asked_for_the_elements_of_a_list() -> None:
    space = compile_space(document(ODD), search={"a.list": {"log": True}})
    assert [e.range.scale for e in parameter(space, "a.list").codec.elements] == ["log", "log"]  # type: ignore[union-attr]


def test_momentum_depends_on_a_searched_optimizer() -> None:
    space = compile_space(SCHEMA, tune=["train.optim.optimizer"])
    assert parameter(space, "train.optim.momentum").condition == "only while train.optim.optimizer is SGD"
    for params in space.sample(200, seed=1):
        assert ("train.optim.momentum" in params) == (params["train.optim.optimizer"] == "SGD")


def test_steps_follow_a_searched_length() -> None:
    space = compile_space(
        SCHEMA, tune=["train.num_epochs=6:24", "train.optim.lr_steps", "train.optim.lr_scheduler"]
    )
    for params in space.sample(500, seed=2):
        multi = params["train.optim.lr_scheduler"] == "MultiStep"
        assert multi == ("train.optim.lr_steps" in params) != ("train.optim.lr_step_size" in params)
        if multi:
            assert 1 <= params["train.optim.lr_steps"][0] < params["train.num_epochs"]


@pytest.mark.parametrize("last", ["decay_step_list", "lr_steps"])
def test_steps_follow_a_searched_length_whatever_their_names(last: str) -> None:
    leaves = {f"train.{last}": leaf("list", [4], on=True), "train.num_epochs": whole(10, 6, 24)}
    for params in compile_space(document(leaves), tune=["train.num_epochs"]).sample(300, seed=4):
        assert params[f"train.{last}"][0] < params["train.num_epochs"]


@pytest.mark.parametrize("heads", ["nheads", "num_heads", "n_heads"])
@pytest.mark.parametrize("width", [256, 96, 30])
def test_searched_heads_divide_a_searched_width(heads: str, width: int) -> None:
    leaves = {"model.hidden_dim": whole(width, 1, 4096), f"model.{heads}": whole(6 if width % 8 else 8, 1)}
    space = compile_space(document(leaves))
    assert len(space.parameters) == 2
    for params in space.sample(1000, seed=5):
        assert params["model.hidden_dim"] % params[f"model.{heads}"] == 0


@pytest.mark.parametrize(
    ("default", "ends", "text"),
    [
        ([2, 3, 4], "1:5", "[1 .. 3, 2 .. 4, 3 .. 5]"),
        ([4, 3, 2], "1:5", "[3 .. 5, 2 .. 4, 1 .. 3]"),
        ([25, 30, 35], "20:40", "[20 .. 38, 21 .. 39, 22 .. 40]"),
        ([0.2, 0.3], "0.1:0.5", "[0.1 .. 0.4996, 0.1004 .. 0.5]"),
    ],
)
def test_a_range_asked_for_the_elements_of_a_list_is_not_left(
    default: list[float], ends: str, text: str
) -> None:
    """Also where an element is pushed along by its neighbour; and the range that is told is the one that is drawn."""
    space = compile_space(
        document({"train.parts": leaf("list", default, on=True)}), tune=[f"train.parts={ends}"]
    )
    assert parameter(space, "train.parts").codec.text == text
    low, high = map(float, ends.split(":"))
    drawn = [params["train.parts"] for params in space.sample(300, seed=5)]
    assert all(low <= value <= high for each in drawn for value in each)
    assert all(each == sorted(set(each), reverse=default[0] > default[1]) for each in drawn)


def test_a_list_s_range_without_room_for_its_elements_is_refused() -> None:
    schema = document({"train.parts": leaf("list", [2, 3, 4], on=True)})
    for ends, message in (
        ("3:4", "cannot hold"),
        ("3.2:3.8", "--tune .*: train.parts must be .* nothing in"),
    ):
        with pytest.raises(SpaceError, match=message):
            compile_space(schema, tune=[f"train.parts={ends}"])


def test_scales_move_together() -> None:
    space = compile_space(SCHEMA, tune=["dataset.augmentation.scales"])
    usual = DINO["dataset.augmentation.scales"]["default"]
    assert space.default["dataset.augmentation.scales"] == usual
    for params in space.sample(50, seed=3):
        drawn = params["dataset.augmentation.scales"]
        assert {b - a for a, b in zip(usual, drawn, strict=True)} == {drawn[0] - usual[0]}


def test_a_cycle_is_shown() -> None:
    a = whole(5, cond="< depends_on", depends_on="train.b")
    b = whole(9, cond="<= depends_on", depends_on="train.c")
    c = whole(9, cond="<= depends_on", depends_on="train.a")
    with pytest.raises(SpaceError, match="train.a -> train.b -> train.c -> train.a"):
        compile_space(document({"train.a": a, "train.b": b, "train.c": c}))


def test_hints_of_the_schema_win() -> None:
    hinted = real(1e-3, 0, 1, search={"low": 1e-4, "high": 3e-3, "log": True})
    p = compile_space(document({"train.lr": hinted})).parameters[0]
    assert (p.low, p.high, p.log, p.why) == (1e-4, 3e-3, True, "the schema's search hint")


def test_an_absent_target_takes_the_spec_s_value() -> None:
    schema = document({"train.a": whole(5, 1, 100, cond="< depends_on", depends_on="train.b")})
    assert "says nothing" in compile_space(schema).notes[0]
    assert max(params["train.a"] for params in compile_space(schema, nested({"train.b": 9})).sample(200)) == 8


def test_weights_without_weight_are_not_searched() -> None:
    schema = document({"train.kind": pick("a", "a", "b", "c", on=True, option_weights=["1", 0, 3])})
    space = compile_space(schema)
    assert parameter(space, "train.kind").axes[0].shares == (0.25, 0.75)
    drawn = [params["train.kind"] for params in space.sample(4000, prior=True)]
    assert drawn.count("b") == 0
    assert drawn.count("c") == pytest.approx(3000, abs=120)


def test_nothing_to_search_is_said() -> None:
    space = compile_space(document({"train.a": leaf("int", 3, 1, 9)}))
    assert space.sample(2) == [{}, {}]
    assert "--tune NAME" in space.notes[-1]


def test_draws_are_the_same_in_three_processes(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(MODELS["retinanet"]))
    command = [
        sys.executable,
        "-m",
        "automl.cli",
        "space",
        "sample",
        "--schema",
        str(path),
        "-n",
        "50",
        "--seed",
        "7",
    ]
    outputs = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)}
    assert len(outputs) == 1
    lines = [json.loads(line) for line in outputs.pop().splitlines()]
    assert lines == compile_space(MODELS["retinanet"]).sample(50, seed=7)


@pytest.fixture
def schema_file(tmp_path: Path) -> str:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(STANDARD).replace('"maximum": 0.1', '"maximum": Infinity'))
    return str(path)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_name_is_shown_whole(width: int) -> None:
    out = io.StringIO()
    space = compile_space(SCHEMA, tune=["dataset.augmentation.scales"])
    print_space(Console(file=out, width=width), space, space.widest)
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert all(any(line.startswith(p.name) for line in lines) for p in space.parameters)
    assert "left out: dataset.workers: it changes speed, not results" in lines


def test_show_and_sample(schema_file: str) -> None:
    shown = CliRunner().invoke(app, ["show", "--schema", schema_file])
    record = CliRunner().invoke(app, ["show", "--schema", schema_file, "--json"])
    assert "left out: fixed: 3 is its only value" in shown.stdout
    names = {p["name"] for p in json.loads(record.stdout)["parameters"]}
    assert len(names) == 13
    drawn = CliRunner().invoke(app, ["sample", "--schema", schema_file, "-n", "3", "--prior"])
    assert [json.loads(line).keys() for line in drawn.stdout.splitlines()] == [names] * 3


def test_check_prints_every_violation(
    schema_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"lr": 0, "first": {"width": 9}, "dropouts": 1, "quarter": 0.25}))
    monkeypatch.setattr(sys, "argv", ["automl", "space", "check", "--schema", schema_file, str(config)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{config}: ").split(" ")[0] for line in lines] == [
        "lr",
        "first.width",
        "dropouts",
    ]
    assert "did you mean 'dropout'?" in lines[2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model.hidden_dim": 100}, "model.hidden_dim must be a multiple of 32"),
        (
            {"model": {"backbone": "resnet_18", "dilation": True}},
            "model.dilation needs resnet_50 or resnet_101",
        ),
        ({"model": {"dilation": True}}, ""),
    ],
)
def test_check_asks_the_model_too(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(given))
    words = ["check", "--model", "deformable_detr", "--space", "all", str(tmp_path / "config.json")]
    found = CliRunner().invoke(app, words)
    assert (found.exit_code, said in found.stderr) == (2 if said else 0, True)


def test_the_parameter_of_the_docstring() -> None:
    """The package's docstring follows one parameter through all stages; what it shows is what happens."""
    found = doctest.testmod(automl.space)
    assert found.attempted >= 8
    assert found.failed == 0


def test_what_a_spec_may_not_say() -> None:
    node = {"type": "number", "exclusiveMinimum": 0, "maximum": 0.01, "default": 0.0002}
    schema = {"properties": {"train": {"properties": {"optim": {"properties": {"lr": node}}}}}}
    wrong = dict(problems({"train": {"optim": {"lr": 5, "lrr": 1}}, "trian": {"x": 1}}, schema))
    assert wrong["train.optim.lr"] == "train.optim.lr must be a number in (0, 0.01], but got 5"
    assert wrong["train.optim.lrr"] == "unknown key 'train.optim.lrr'; did you mean 'lr'?"
    assert wrong["trian.x"] == "unknown key 'trian'; did you mean 'train'?"

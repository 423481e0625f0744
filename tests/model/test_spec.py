import contextlib
import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from model import spec
from model.errors import UserError
from model.generate import action_schema
from model.parameters import ACTIONS, MANDATORY, PARAMETERS, of_action
from model.spec_file import load
from model.values import check_value

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "facts" / "deformable_detr.json"

# Where our table departs from TAO's on purpose.
DEPARTURES = {
    "evaluate.conf_threshold": "minimum maximum",
    "model.focal_alpha": "minimum maximum",  # no score, no share is above 1
    "model.backbone": "enum",  # more ResNets
    "wandb.enable": "default",  # a key in the environment alone uploads nothing
    "model.num_feature_levels": "automl_enabled",  # as long as return_interm_indices
    "model.with_box_refine": "automl_enabled",  # two_stage needs it
    "quantize.backend": "enum default",  # onnxruntime, which a plain install has
    "quantize.mode": "default",
    "quantize.algorithm": "enum",  # percentile
    "train.precision": "enum",  # bf16
    "train.optim.lr_scheduler": "enum",  # Cosine
    "export.format": "enum",  # openvino
    "dataset.workers": "minimum",  # 0: each process reads its own images
    "quantize.backend_kwargs": "default",
    "inference.color_map": "default",
    "train.clip_grad_norm": "minimum math_cond",  # 0 means no clipping
    "export.input_height": "default",  # null: the size that the validation had
    "export.input_width": "default",
    "inference.input_height": "default",
    "inference.input_width": "default",
    "inference.conf_threshold": "default minimum maximum",  # null: the model file's own
}


@pytest.mark.skipif(not SHARED.exists(), reason="needs the table of TAO's parameters")
def test_table_has_every_parameter_of_tao_as_it_is() -> None:
    facts = json.loads(SHARED.read_text())
    wanted = dict(facts["parameters_in_every_action"])
    for of_one in facts["parameters_by_action"].values():
        wanted |= of_one
    ours = {p.name: p for p in PARAMETERS}
    assert not set(wanted) - set(ours)
    for name, fact in wanted.items():
        param = ours[name]
        got = {
            "type": param.type,
            "default": param.default,
            "minimum": param.minimum,
            "maximum": "inf" if param.maximum == float("inf") else param.maximum,
            "enum": list(param.enum) if param.enum else None,
            "math_cond": param.math_cond,
            "depends_on": param.depends_on,
            "parent_param": "TRUE" if param.parent_param else None,
            "automl_enabled": param.automl,
            "popular": param.popular or None,
        }
        differing = {k for k, v in got.items() if str(v) != str(fact.get(k))}
        assert differing <= set(DEPARTURES.get(name, "").split()), (name, differing)


@pytest.mark.parametrize("action", ACTIONS)
def test_defaults_resolve_to_themselves(action: str) -> None:
    assert spec.resolve(action, {}) == of_nothing_said(action)


def of_nothing_said(action: str) -> spec.Spec:
    """The defaults, but that the first class alone is scored, which is nobody's choice."""
    every = spec.default_spec(action)
    every["dataset"]["eval_class_ids"] = None
    return every


def test_names_are_unique() -> None:
    names = [p.name for p in PARAMETERS]
    assert len(names) == len(set(names))


def test_defaults_are_not_shared_between_specs() -> None:
    first = spec.default_spec("train")
    first["dataset"]["augmentation"]["scales"].append(1)
    assert spec.default_spec("train")["dataset"]["augmentation"]["scales"][-1] == 800


@pytest.mark.parametrize(
    ("partial", "message"),
    [
        ({"train": {"optim": {"lr_backbne": 1e-5}}}, "unknown key 'train.optim.lr_backbne'; did you mean 'train.optim.lr_backbone'?"),
        ({"train": {"optim": {"lr": 0.5}}}, r"train.optim.lr must be a number in (0, 0.01], but got 0.5"),
        ({"train": {"optim": {"lr": 0}}}, r"train.optim.lr must be a number in (0, 0.01], but got 0"),
        ({"train": {"optim": {"lr": True}}}, "train.optim.lr must be a number"),
        ({"dataset": {"batch_size": 2.5}}, r"dataset.batch_size must be an integer in [1, inf), but got 2.5"),
        ({"dataset": {"train_data_sources": [{"img": 1}]}}, "dataset.train_data_sources must be a list of sources"),
        ({"dataset": {"train_data_sources": [{"image_dir": ["a"], "json_file": "b"}]}}, "each a mapping of image_dir and json_file to a path"),
        ({"dataset": {"test_data_sources": {"image_dir": "a", "json_file": ["b"]}}}, "must be a mapping with the keys image_dir, json_file"),
        ({"dataset": {"test_data_sources": {"imge_dir": ""}}}, "must be a mapping with the keys image_dir, json_file"),
        ({"model": {"backbone": "resnet_51"}}, "model.backbone must be one of"),
        ({"export": {"checkpoint": "x"}}, "export.checkpoint belongs to export, not to train"),
        ({"model": {"num_select": 700}, "dataset": {"num_classes": 2}}, "model.num_select must be < model.num_queries * dataset.num_classes = 600"),
        ({"model": {"num_feature_levels": 3}}, "len(model.return_interm_indices) must equal model.num_feature_levels"),
        ({"model": {"hidden_dim": 100}}, "multiple of model.nheads"),
        ({"train": {"input_height": 64}}, "must be set together"),
        ({"model": {"return_interm_indices": [2, 1, 3, 4]}}, "must be increasing numbers"),
        *(({"dataset": {"augmentation": {"scales": value}}}, f"dataset.augmentation.scales must be a list of 1 or more ints from 1, but got {value}") for value in ([], [0], [640, -5])),
        *(({"dataset": {"augmentation": {"train_random_resize": value}}}, f"dataset.augmentation.train_random_resize must be a list of ints from 1, but got {value}") for value in ([0], [640, -5])),
        ({"dataset": {"augmentation": {"fixed_random_crop": None, "train_random_resize": []}}}, "train_random_resize must name a side where fixed_random_crop is null"),
        ({"train": {"gpu_ids": [-1]}}, "train.gpu_ids must be a list of ints from 0, but got [-1]"),
        ({"train": {"optim": {"lr_steps": [0]}}}, "train.optim.lr_steps must be a list of ints from 1, but got [0]"),
        (
            {"dataset": {"augmentation": {"fixed_random_crop": None, "train_random_crop_min": 600}}},
            "train_random_crop_max must be > train_random_crop_min",
        ),
    ],
)  # fmt: skip
def test_refusals(partial: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        spec.resolve("train", partial)
    assert message in str(caught.value)


@pytest.mark.parametrize("action", ["evaluate", "inference", "export", "gen_trt_engine"])
@pytest.mark.parametrize("size", [0, -2])
def test_a_batch_of_none_is_none(action: str, size: int) -> None:
    for leaf in (f"{action}.batch_size", "dataset.batch_size"):
        partial = spec.nest({leaf: size})
        with pytest.raises(UserError, match=rf"{leaf} must be -1 or an integer from 1, but got {size}"):
            spec.resolve(action, partial)
        assert list(Draft202012Validator(action_schema(action)).iter_errors(partial))
        for right in (-1, 1, 8):
            partial = spec.nest({leaf: right})
            spec.resolve(action, partial)
            assert not list(Draft202012Validator(action_schema(action)).iter_errors(partial))


@pytest.mark.parametrize("side", ["input_height", "input_width"])
@pytest.mark.parametrize("action", ["train", "evaluate", "inference", "export"])
@pytest.mark.parametrize("file", ["m.pth", "m.onnx"])
def test_half_a_size_is_none(action: str, side: str, file: str) -> None:
    told = rf"{action}\.input_height and {action}\.input_width must be set together, but got .*64"
    with pytest.raises(UserError, match=told):
        spec.resolve(action, {action: {side: 64} | ({} if action == "train" else {"checkpoint": file})})


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(UserError) as caught:
        spec.resolve("train", {"train": {"optim": {"lr": 5, "momentum": -1}}, "modl": 1})
    assert len(str(caught.value).splitlines()) == 3


def test_a_number_without_its_unit_is_told_as_such() -> None:
    """Quoting it would not help."""
    wanted = "deploy.max_latency must be a string with a unit, such as 15ms, but got 15$"
    with pytest.raises(UserError, match=wanted):
        spec.check_leaves("deploy", {"deploy": {"max_latency": 15}})


def test_timm_backbones_are_allowed_by_pattern() -> None:
    assert (
        spec.resolve("train", {"model": {"backbone": "timm/resnet18"}})["model"]["backbone"]
        == "timm/resnet18"
    )


def test_mandatory_values_are_asked_for_when_needed() -> None:
    full = spec.resolve("export", {})
    assert full["export"]["checkpoint"] == MANDATORY
    with pytest.raises(UserError, match="export.checkpoint must be given"):
        spec.require(full, "export.checkpoint", "export.input_height")


def test_architecture_differences_name_leaf_and_both_values() -> None:
    a, b = spec.default_spec("train"), spec.default_spec("train")
    b["model"]["hidden_dim"], b["train"]["optim"]["lr"] = 128, 1e-3
    assert spec.architecture_differences(a, b) == ["model.hidden_dim: 256, 128"]


_NUMERIC = [p for p in of_action("train") if p.type in ("int", "float") and p.name.startswith("train.optim")]


@given(
    param=st.sampled_from(_NUMERIC), value=st.floats(allow_nan=False, allow_infinity=False) | st.integers()
)
@settings(max_examples=200, deadline=None)
def test_numbers_pass_exactly_within_bounds(param, value) -> None:
    low = -float("inf") if param.minimum is None else param.minimum
    high = float("inf") if param.maximum is None else param.maximum
    inside = low <= value <= high and (">" not in (param.math_cond or "") or value > 0)
    whole = param.type == "float" or isinstance(value, int)
    assert (check_value(param, value) is None) == (inside and whole)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from(["train", "model", "lr", "optim", "x"]), v, max_size=3)))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_document_is_resolved_or_refused_with_a_user_error(document) -> None:
    document = document if isinstance(document, dict) else {"train": document}
    before = copy.deepcopy(document)
    with contextlib.suppress(UserError):
        spec.resolve("train", document)
    assert document == before


def test_a_mapping_given_in_part_keeps_the_rest() -> None:
    for leaf in ("infer_data_sources", "test_data_sources", "quant_calibration_data_sources"):
        default = spec.default_spec("inference")["dataset"][leaf]
        given = spec.resolve("inference", {"dataset": {leaf: {"image_dir": "x"}}})["dataset"][leaf]
        assert given == default | {"image_dir": "x"}


UNBOUNDED = {"model.cls_loss_coef", "model.bbox_loss_coef", "model.giou_loss_coef", "model.clip_max_norm", "train.clip_grad_norm"}  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
def test_every_fraction_has_its_range(action: str) -> None:
    """A number with a point is a share, a probability, a rate or a score, 0 to 1 each, but for weights and norms."""
    for param in of_action(action):
        if param.type != "float" or param.name in UNBOUNDED:
            continue
        for value in (1.5, -0.5, 7.0):
            partial: dict = {}
            spec.put(partial, param.name, value)
            with pytest.raises(UserError, match=rf"{param.name} must be a number in [\[(]0, "):
                spec.resolve(action, partial)


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        ("input_mean", [123.675, 116.28, 103.53], "three numbers in [0, 1]"),
        ("input_mean", [0.5], "three numbers in [0, 1]"), ("input_std", [0.2, 0.0, 0.2], "three numbers above 0"),
        ("input_std", [], "three numbers above 0"),
    ],
)  # fmt: skip
def test_normalisation_is_of_pixels_from_0_to_1(leaf: str, value: list[float], message: str) -> None:
    with pytest.raises(UserError) as caught:
        spec.resolve("train", {"dataset": {"augmentation": {leaf: value}}})
    assert f"dataset.augmentation.{leaf} must be {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("leaf", "told"), [("max_latency", "15ms"), ("max_size", "20MB"), ("max_time", "10min")]
)
@pytest.mark.parametrize("value", [3, 0.5, "-3ms", "3"])
def test_an_amount_without_its_unit_is_told_one(leaf: str, told: str, value: object) -> None:
    with pytest.raises(UserError, match=f"deploy.{leaf} must be a .*") as caught:
        spec.resolve("deploy", {"deploy": {leaf: value}})
    assert told in str(caught.value) or "must be a number above 0 with" in str(caught.value)


def test_a_file_may_hold_the_sections_of_other_actions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TAO's files hold those of all actions; what is wrong in another's is told, and keeps none from its work."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "train: {num_epochs: 3}\nevaluate: {conf_threshold: 0.1}\ninference: {color_map: {a: red}}\nexport:\n"
    )
    assert load("train", file)["train"]["num_epochs"] == 3
    assert load("evaluate", file)["evaluate"]["conf_threshold"] == 0.1
    assert "evaluate" not in load("train", file)
    with pytest.raises(UserError, match="command line: evaluate.conf_threshold belongs to evaluate, not to"):
        load("train", None, {"evaluate.conf_threshold": 0.2})
    assert capsys.readouterr().err == ""
    file.write_text(
        "evaluate: {conf_treshold: 0.1}\ngen_trt_engine: {tensorrt: {data_type: int4}}\nexport: 3\n"
    )
    assert load("train", file) == of_nothing_said("train")
    told = capsys.readouterr().err
    assert "one.yaml: unknown key 'evaluate.conf_treshold'; did you mean" in told
    assert (
        "gen_trt_engine.tensorrt.data_type must be one of FP32, FP16, INT8, but got 'int4'; train does"
        in told
    )
    assert "one.yaml: unknown key 'export'" in told
    with pytest.raises(UserError, match=r"one\.yaml: unknown key 'evaluate.conf_treshold'; did you mean"):
        load("evaluate", file)


NOT_GIVEN = """
results_dir: ???
encryption_key: ???
wandb: ???
dataset:
  num_classes: ???
  eval_class_ids: ["???"]
  train_data_sources: [{image_dir: "???", json_file: "???"}]
  test_data_sources: {image_dir: /a, json_file: "???"}
model: {backbone: "???", num_queries: 200}
evaluate: {checkpoint: "???", batch_size: "???"}
gen_trt_engine: {tensorrt: {calibration: {cal_image_dir: ["???"], cal_cache_file: "???"}}}
"""


@pytest.mark.parametrize("action", ["train", "evaluate", "gen_trt_engine"])
def test_what_is_still_to_be_given_is_not_given(tmp_path: Path, action: str) -> None:
    """As OmegaConf takes `???`; nobody's passphrase or folder."""
    file = tmp_path / "one.yaml"
    file.write_text(NOT_GIVEN)
    wanted = of_nothing_said(action)
    wanted["model"]["num_queries"] = 200
    wanted["dataset"]["test_data_sources"]["image_dir"] = "/a"
    assert load(action, file) == wanted
    over = {"dataset.num_classes": "???", "model.num_queries": "???", "results_dir": "x"}
    assert load(action, file, over) == wanted | {"results_dir": "x"}
    file.write_text("dataset: {infer_data_sources: {image_dir: [a, '???']}}")
    with pytest.raises(UserError, match="must be a mapping with the keys"):
        load(action, file)
    file.write_text("modl: {backbone: '???'}")
    with pytest.raises(UserError, match=r"unknown key 'modl\.backbone'; did you mean 'model\.backbone'"):
        load(action, file)


def test_references_to_other_keys_of_the_file(tmp_path: Path) -> None:
    """As OmegaConf has them, after what the command line replaces."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "results_dir: /r\nencryption_key: a$b{}${\nmodel_name: ${dataset.train_data_sources[0].image_dir}\n"
        "dataset: {batch_size: 4, train_data_sources: [{image_dir: '${here}/i', json_file: '${results_dir}/j'}]}\n"
        "train: {validation_interval: 1, num_epochs: '${train.validation_interval}', results_dir: '${results_dir}/t'}\n"
        "evaluate: {checkpoint: '${train.results_dir}/dd.pth', batch_size: '${dataset.batch_size}'}\n"
    )
    full = load("evaluate", file)
    assert full["evaluate"]["checkpoint"] == "/r/t/dd.pth"
    assert full["evaluate"]["batch_size"] == 4
    assert full["encryption_key"] == "a$b{}${"  # as it stands
    assert full["model_name"] == f"{tmp_path}/i"
    full = load("evaluate", file, {"results_dir": "q", "evaluate.trt_engine": "${results_dir}/x.engine"})
    assert full["evaluate"]["checkpoint"] == "q/t/dd.pth"
    assert full["evaluate"]["trt_engine"] == "q/x.engine"
    assert load("train", file)["train"]["num_epochs"] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("${results_dir}/x", r"one\.yaml: model_name names \$\{results_dir\}, which is not given"),
        ("${model.num_queries}", "which is not given here"),  # a recipe or a checkpoint may say it later
        ("${model.bakbone}", r"model_name names \$\{model\.bakbone\}, which is not given here"),
        ("${model_name}", "model_name refers to itself: model_name -> model_name"),
        ("${wandb.name}", r"refers to itself: wandb\.name -> wandb\.group -> wandb\.name"),
        ("${.backbone}", r"has \$\{\.backbone\}, which is relative"),
        ("${oc.env:HOME}", r"has \$\{oc\.env:HOME\}, which calls a resolver"),
        ("a${model", r"has \$\{ without its \}"),
        ("${model.${model_name}}", "one reference within another"),
        ("${encryption_key}", "which is secret"),
        ("a ${model}", "is no single value"),
    ],
)
def test_references_that_lead_nowhere(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        f"model_name: '{text}'\nresults_dir: ???\nmodel: {{dec_layers: 2}}\nwandb: {{name: '${{wandb.group}}', group: '${{wandb.name}}'}}"
    )
    with pytest.raises(UserError, match=told):
        load("train", file)


def test_a_leaf_is_not_blamed_for_what_another_has(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("quantize: {model_path: '${results_dir}/m.pth'}\nresults_dir: '${oc.env:X}'\n")
    with pytest.raises(UserError) as caught:
        load("train", file)
    first, second = str(caught.value).splitlines()
    assert "quantize.model_path names ${results_dir}, which has ${oc.env:X}, which calls a resolver" in first
    assert "results_dir has ${oc.env:X}, which calls a resolver" in second


@pytest.mark.parametrize("text", ["${oc.env:TAOKEY}", "a${b}", "@${results_dir}/key", "${"])
def test_no_secret_is_a_reference(tmp_path: Path, text: str) -> None:
    """It would be the passphrase as it stands, which everybody can read in the spec."""
    file = tmp_path / "one.yaml"
    file.write_text(f"results_dir: /r\nencryption_key: '{text}'\n")
    if text == "${":
        assert load("train", file)["encryption_key"] == text
        return
    with pytest.raises(
        UserError, match=r"encryption_key has \$\{\.\.\.\}.* give @FILE, .* DETR_ENCRYPTION_KEY"
    ):
        load("train", file)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_batch_of_any_size_where_it_is_none_of_a_training(action: str) -> None:
    """As NVIDIA's files for an engine have it."""
    partial = {"dataset": {"batch_size": -1}}
    if action in ("train", "quantize", "deploy"):
        with pytest.raises(
            UserError, match=r"dataset\.batch_size must be an integer in \[1, inf\), but got -1"
        ):
            spec.resolve(action, partial)
        return
    full = spec.resolve(action, partial)
    if action in ("evaluate", "inference"):
        assert spec.batch_size(full, action) == 4
        full["dataset"]["batch_size"] = 7
        assert spec.batch_size(full, action) == 7
        full[action]["batch_size"] = 2
        assert spec.batch_size(full, action) == 2


def test_deviations_of_pixels_from_0_to_255_are_warned_of() -> None:
    """Pixels are scaled to [0, 1]. A detector that was trained so all the same needs them."""
    full = spec.resolve("train", {"dataset": {"augmentation": {"input_std": [58.395, 57.12, 57.375]}}})
    assert any("input_std has numbers above 1" in line for line in spec.notes(full))
    assert not any("input_std" in line for line in spec.notes(spec.resolve("train", {})))

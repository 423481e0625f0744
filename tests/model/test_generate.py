import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from model import bundle_dir, generate
from model.parameters import ACTIONS, PARAMETERS
from model.spec import default_spec, put


def test_files_on_disk_are_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_check_notices_a_change(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(generate, "bundle_dir", lambda: tmp_path)
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "schemas" / "train.schema.json").write_text("{}")
    assert generate.main(["--check"]) == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_schema_is_strict_valid_json_schema_that_accepts_its_default(action: str) -> None:
    def no_constants(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = (bundle_dir() / "schemas" / f"{action}.schema.json").read_text()
    schema = json.loads(text, parse_constant=no_constants)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(schema["default"])
    template = yaml.safe_load((bundle_dir() / "references" / f"spec_template_{action}.yaml").read_text())
    assert template == schema["default"] == json.loads(json.dumps(default_spec(action)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.optim.lr", 0),
        ("train.optim.lr", 0.011),
        ("dataset.batch_size", 0),
        ("model.backbone", "vgg"),
        ("train.gpu_ids", ["0"]),
        ("train.gpu_ids", [-1]),
        ("dataset.augmentation.scales", []),
        ("dataset.augmentation.train_random_resize", [0]),
        ("train.optim.lr_steps", [0]),
        ("dataset.test_data_sources", {"x": 1}),
        ("train.optm", {}),
        ("model.num_queries", "300"),
    ],
)
def test_schema_refuses(name: str, value: object) -> None:
    document = default_spec("train")
    put(document, name, value)
    assert list(Draft202012Validator(generate.action_schema("train")).iter_errors(document))


def test_annotations_are_tao_s() -> None:
    schema = generate.action_schema("train")
    crop = schema["properties"]["dataset"]["properties"]["augmentation"]["properties"][
        "train_random_crop_max"
    ]
    assert crop["math_cond"] == "> depends_on"
    assert crop["depends_on"] == "dataset.augmentation.train_random_crop_min"
    assert len(schema["automl_default_parameters"]) == 16
    assert {"train", "train.optim", "model.hidden_dim"} <= set(schema["automl_disabled_parameters"])


def test_skill_info_names_only_what_exists() -> None:
    info = yaml.safe_load((bundle_dir() / "references" / "skill_info.yaml").read_text())
    names = {p.name for p in PARAMETERS}
    assert list(info["actions"]) == [
        "train",
        "quantize",
        "evaluate",
        "export",
        "gen_trt_engine",
        "inference",
        "deploy",
    ]
    for roles in info["spec_params"].values():
        assert set(roles) <= names
    assert set(info["spec_shorthand_keys"].values()) | set(info["options"].values()) <= names
    assert {info["epochs_key"], info["batch_key"], info["gpu_spec_key"], *info["cpu_when"]} <= names
    assert all(key in names or "_file" in key for key in info["files"] if "." in key)
    stages = info["stages"].values()
    files = {f"{n}.json_file" for n in names}
    assert {need for stage in stages for need in stage.get("needs", ())} <= files | names
    assert {leaf for stage in stages for leaf in stage.get("sets", ())} <= names
    assert {stage.get("action", name) for name, stage in info["stages"].items()} <= set(info["actions"])
    for target in info["entry_points"].values():
        for entry in target if isinstance(target, list) else [target]:
            module, _, _ = entry.partition(":")
            assert (bundle_dir() / (module.replace(".", "/") + ".py")).is_file(), entry


def test_presets_are_valid_specs() -> None:
    from model.spec import resolve

    presets = list((bundle_dir() / "references").glob("preset_*.yaml"))
    assert presets
    for path in presets:
        resolve("train", yaml.safe_load(path.read_text()) | {}, where=path.name)

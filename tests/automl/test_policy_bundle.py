import json
from pathlib import Path

import pytest
import yaml

from automl import bundle, policy
from automl.errors import PolicyError, UserError


def make_model(root: Path, **skill: object) -> Path:
    (root / "schemas").mkdir(parents=True)
    (root / "references").mkdir()
    info = {
        "network_arch": "toy",
        "automl_enabled": True,
        "actions": {"train": {"command": "toy {config_path} -v"}},
    }
    (root / "references" / "skill_info.yaml").write_text(yaml.safe_dump(info | skill))
    (root / "references" / "spec_template_train.yaml").write_text("train: {lr: 0.1}\n")
    (root / "schemas" / "train.schema.json").write_text(json.dumps({"properties": {}}))
    return root


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    toy = bundle.resolve(str(make_model(tmp_path / "toy")))
    assert toy.name == "toy"
    assert toy.template("train") == {"train": {"lr": 0.1}}
    assert toy.command("train", "/a b/spec.yaml") == ("toy", "/a b/spec.yaml", "-v")
    assert toy.entry("train") is None


def test_the_installed_model_is_found_by_name() -> None:
    found = bundle.resolve("deformable_detr")
    assert "gen_trt_engine" in found.actions
    assert found.spec_key("train", "resume_model") == "train.resume_training_checkpoint_path"
    assert found.spec_key("train", "nothing") is None


def test_unknown_model_and_preset_suggest_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'deformable_detr'"):
        bundle.resolve("deformable_dert")
    with pytest.raises(UserError, match="did you mean 'small'"):
        bundle.resolve("deformable_detr").preset("smal")


@pytest.mark.parametrize(
    ("cli", "file", "on"),
    [
        (None, None, True),
        (None, False, False),
        (None, "off", False),
        ("on", False, True),
        ("off", True, False),
    ],
)
def test_policy_command_line_wins_over_file(tmp_path: Path, cli: str | None, file: object, on: bool) -> None:
    assert policy.resolve(bundle.resolve(str(make_model(tmp_path / "m"))), cli, file) is on


def test_a_bare_off_in_yaml_is_a_boolean_and_means_off() -> None:
    assert policy.parse(yaml.safe_load("automl_policy: off")["automl_policy"], "file") is False


def test_a_policy_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be on or off, but got 'maybe'"):
        policy.resolve(bundle.resolve(str(make_model(tmp_path / "m"))), "maybe", None)


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "disabled"])
def test_on_but_not_runnable_says_why_and_off_still_works(tmp_path: Path, damage: str) -> None:
    root = make_model(tmp_path / "m", automl_enabled=damage != "disabled")
    schema = root / "schemas" / "train.schema.json"
    if damage == "missing":
        schema.unlink()
    elif damage != "disabled":
        schema.write_text("{" if damage == "truncated" else "{}")
    toy = bundle.resolve(str(root))
    with pytest.raises(PolicyError, match="AutoML is enabled but not runnable"):
        policy.resolve(toy, None, None)
    assert policy.resolve(toy, "off", None) is False

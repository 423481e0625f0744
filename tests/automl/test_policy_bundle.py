import contextlib
import json
import shlex
import shutil
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automl import bundle, policy, programs, show, skill, stages
from automl.errors import PolicyError, UserError
from automl.plan import prepare
from automl.request import RunRequest
from model import programs as model_programs


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


ODD = st.sampled_from(
    [None, 3, 0, True, "x", "'", "", [], {}, [1], ["a"], {"a": 1}, {"a": "b"}, {"a": None}, {"train": [1]}]
)
KEYS = sorted({name for _, names in skill.KINDS.values() for name in names.split()} | {"actions"})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=3), ODD)
def test_a_skill_info_of_any_shape_is_taken_or_refused_in_words(
    tmp_path: Path, odd: dict[str, object], train: object
) -> None:
    root = tmp_path / "m"
    shutil.rmtree(root, ignore_errors=True)
    actions = {"train": train if isinstance(train, dict) else {"command": train}}
    make_model(root, **{"actions": actions, **odd})
    with contextlib.suppress(UserError):
        plan = prepare(RunRequest(model=str(root), policy="off"), tmp_path / "work")
        assert plan.bundle.metrics
        assert isinstance(plan.bundle.next_command(root, {}), str)
        assert isinstance(plan.bundle.stages, tuple)


@pytest.mark.parametrize(
    ("images", "following"),
    [
        ("/d/my images", "deploy -e /r/best images='/d/my images' x={y}"),
        ("", "deploy -e /r/best images=IMAGES x={y}"),
        (None, "deploy -e /r/best images=IMAGES x={y}"),
    ],
)
def test_the_next_command_names_a_leaf_or_its_word(
    images: str | None, following: str, tmp_path: Path
) -> None:
    make_model(tmp_path / "m", next="deploy -e {best} images={data.test|IMAGES} x={y}")
    model = bundle.resolve(str(tmp_path / "m"))
    assert model.next_command(Path("/r/best"), {"data": {"test": images}}) == following
    assert model.next_command(Path("/r/best"), {}).startswith("deploy -e /r/best images=IMAGES")


def test_the_next_command_quotes_whole_words(tmp_path: Path) -> None:
    make_model(tmp_path / "m", next="deploy -e {best}/x.yaml")
    assert (
        bundle.resolve(str(tmp_path / "m")).next_command(Path("/r/my best"), {})
        == "deploy -e '/r/my best/x.yaml'"
    )


@pytest.mark.parametrize("typed", [programs.typed, model_programs.typed])
def test_a_program_is_told_as_this_shell_finds_it(
    typed: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an environment that is not activated by its path, relative where that is below the working folder."""
    own, other = tmp_path / "venv" / "bin", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir(parents=True)
        (folder / "deploy").write_text("#!/bin/sh\n")
        (folder / "deploy").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(own / "python"))
    monkeypatch.setenv("PATH", str(other))
    monkeypatch.chdir(tmp_path)
    assert typed("deploy") == "venv/bin/deploy"
    monkeypatch.chdir(other)
    assert typed("deploy") == str(own / "deploy")
    monkeypatch.setenv("PATH", str(own))
    assert typed("deploy") == "deploy"
    assert typed("not-there") == "not-there"


def test_a_stage_says_that_it_goes_on_and_what_is_new_in_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "TELL_S", 0.0)
    log, said = tmp_path / "log.txt", []
    tell = stages._teller("ship", log, 0, said.append)
    tell()
    for text in ("step 1\n", "", "ship: 10 s so far\n", "step 2\n"):
        with log.open("a") as file:
            file.write(text)
        tell()
    assert [line.partition(" so far")[2] for line in said] == ["", "; step 1", "", "", "; step 2"]
    assert all(line.startswith("ship: 0 s so far") for line in said)
    monkeypatch.setattr(stages, "TELL_S", 3600.0)
    tell()
    assert len(said) == 5


def test_an_installed_model_that_cannot_be_imported_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = EntryPoint("plug", "no_such_module:root", bundle.GROUP)
    monkeypatch.setattr(bundle, "entry_points", lambda group: [broken])
    with pytest.raises(UserError, match="the installed model plug cannot be imported: ModuleNotFoundError"):
        bundle.resolve("plug")


@pytest.mark.parametrize(
    ("before", "now"), [("/x/run", "/x/run_moved"), ("/x/a run", "/x/b run"), ("/x/run", "/x/a b")]
)
def test_the_next_command_is_of_where_the_run_lies_now(before: str, now: str, tmp_path: Path) -> None:
    """Also where the new place's name begins with the old one's."""
    here = tmp_path / now.lstrip("/")
    (here / "best").mkdir(parents=True)
    told = f"infer -e {shlex.quote(before + '/best/inference.yaml')} dir={shlex.quote(before + '2/images')}"
    found = shlex.split(show._next(here, {"next": told, "root": before}))
    assert found == ["infer", "-e", f"{here}/best/inference.yaml", f"dir={before}2/images"]

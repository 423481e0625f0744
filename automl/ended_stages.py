"""Stages that ended well, remembered beside what they brought: a hand-over that goes on after a kill, or is done again,
runs those alone of which something is another by now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from automl import portable, provenance, same_model, spec
from automl.bundle import ModelBundle
from automl.documents import load_json
from automl.errors import UserError
from automl.forms import TEXT, fits
from automl.front import FOLDER
from automl.machine import hardware
from automl.rundir import TEMPORARY, write_json
from automl.stages import StageResult, StageRun, ended_well, run_stage
from safe_documents import map_texts

FILE, LARGEST = "ended.json", 1 << 24  # bytes

_FORM = {
    "type": "object",
    "required": ["of", "message", "made"],
    "properties": {
        "of": {"type": "object"},
        "message": TEXT,
        "made": {"type": "object", "additionalProperties": TEXT},
    },
}


def run_once(
    bundle: ModelBundle, run: StageRun, best: Path, aside: Mapping[Path, Path], gpus: Sequence[int | str],
    say: Callable[[str], Any],
) -> StageResult:  # fmt: skip
    """Run a stage, unless it has ended well before of the same spec, inputs, programs and machine, and all that it made
    is there: then that is its result. `aside`: {file in `best`: where it may wait}; one that counts comes back."""
    kept, of = _record(run), _of(bundle, run, best, len(gpus))
    found = _read(kept)
    if found and found["of"] == _but(of, found["made"]) and _come_back(best, found["made"], aside):
        say(f"{run.name} had ended; not run again ({kept} says of what; without it, it is)")
        return ended_well(bundle, run, found["message"].replace("{best}", str(best)))
    kept.unlink(missing_ok=True)
    say(f"{run.name} ...")
    before = _stamps(best)
    result = run_stage(bundle, run, gpus, say)
    if result.ok and _is_known(of):
        paths = [path for path, stamp in _stamps(best).items() if before.get(path) != stamp]
        made = {os.path.relpath(path, best): provenance.sha256(path) for path in sorted(paths)}
        message = result.message.replace(str(best), "{best}")
        write_json(kept, {"of": _but(of, made), "message": message, "made": made})
    return result


def made_whole(best: Path, file: Path) -> bool:
    """Whether a file in `best` is as a stage that ended well left it."""
    name = os.path.relpath(file, best)
    digests = {found["made"].get(name) for kept in best.rglob(FILE) if (found := _read(kept))}
    return file.is_file() and provenance.sha256(file) in digests


def _record(run: StageRun) -> Path:
    return run.spec_path.with_suffix("") / FILE


def _read(kept: Path) -> dict[str, Any]:
    try:
        found = load_json(kept, LARGEST)
    except (OSError, UserError):
        return {}
    return found if fits(_FORM, found) else {}


def _of(bundle: ModelBundle, run: StageRun, best: Path, gpus: int) -> dict[str, Any]:
    """All that the result of a stage follows from."""
    with_engine = bundle.root == same_model.ENGINE
    versions = provenance.versions(bundle.packages)
    if not with_engine:  # the engine's own programs compute nothing of it
        versions.pop("git", None)
    return {
        "spec": hashlib.sha256(run.spec_path.read_bytes()).hexdigest(),
        "inputs": _inputs(bundle, run, best),
        "versions": versions,
        "programs": same_model.state(bundle, best.parent),
        "machine": hardware(),
        "gpus": gpus,
    }


def _inputs(bundle: ModelBundle, run: StageRun, best: Path) -> dict[str, Any]:
    """What lies where the spec says, relative paths being from the working folder: of what was handed over by what it
    holds, of other files [bytes, changed at], of folders a digest of these of all that lies in them. What an address
    leads to is not known."""
    full, found = portable.read(bundle, run.spec_path), dict[str, Any]()
    outputs = {spec.get(full, key) for key in bundle.output_keys(run.stage.action)}

    def note(text: str) -> str:
        if "://" in text:
            found[text] = provenance.UNKNOWN
        if text in outputs or not os.path.exists(text):
            return text
        if Path(path := os.path.abspath(text)).is_relative_to(best):
            found[os.path.relpath(path, best)] = provenance.sha256(Path(path))
        elif os.path.isdir(text):
            found[text] = _listed(text)
        elif os.path.isfile(text):
            found[text] = _size_and_time(text)
        return text

    map_texts(full, note)
    return found


def _listed(folder: str) -> str:
    """Digest of the names in a folder, and of all below, with what `_size_and_time` says of files."""
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(place, name)
            digest.update(
                f"{os.path.relpath(path, folder)}\0{_size_and_time(path)}\0".encode(errors="surrogateescape")
            )
    return digest.hexdigest()


def _size_and_time(path: str) -> list[int]:
    """[bytes, changed at]; nothing of a link that leads nowhere."""
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _but(of: Mapping[str, Any], made: Mapping[str, str]) -> dict[str, Any]:
    """The same without what the stage made itself, which its spec may name."""
    inputs = {name: value for name, value in of["inputs"].items() if name not in made}
    return {**of, "inputs": inputs}


def _is_known(of: Mapping[str, Any]) -> bool:
    """Whether programs and inputs can be told from others: not of a checkout with changes that no commit has."""
    told = [*of["versions"].values(), *of["programs"].values()]
    told += [text for text in of["inputs"].values() if isinstance(text, str)]
    unknown = (provenance.UNKNOWN, same_model.UNREADABLE)
    return not any(text in unknown or text.endswith("-dirty") for text in told)


def _come_back(best: Path, made: Mapping[str, str], aside: Mapping[Path, Path]) -> bool:
    """Whether all that was made is there, which is put where it was; nothing is moved where something lacks."""
    places = {best / name: digest for name, digest in made.items()}
    lie = {path: path if path.is_file() else aside.get(path, path) for path in places}
    if not all(lie[p].is_file() and provenance.sha256(lie[p]) == digest for p, digest in places.items()):
        return False
    for path, there in lie.items():
        if there != path:
            there.replace(path)
    return True


def _stamps(best: Path) -> dict[Path, tuple[int, int, int]]:
    """{file: what is another once it was written} of what was handed over, without the rest of a front."""
    found = {}
    for path in best.rglob("*"):
        if (
            path.is_file()
            and not TEMPORARY.fullmatch(path.name)
            and path.relative_to(best).parts[0] != FOLDER
        ):
            stat = path.stat()
            found[path] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found

"""A model's name or folder -> what the engine may know of it: schemas, templates, commands, metrics, files.

A model is a folder with `schemas/` and `references/skill_info.yaml`. An installed one is found by name through
the `automl.models` entry points; any other by its path, no code needed. What skill_info.yaml leaves out has a
fall-back, told at each property here and in references/trial_contract.md.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from automl import hooks, skill
from automl import spec as specs
from automl.errors import UserError, did_you_mean
from automl.metric import DIRECTIONS, Metric
from automl.programs import find_program, typed
from automl.records import as_number
from automl.skill import Stage

GROUP = "automl.models"
NO_METRIC = Metric("val_loss", maximize=False)  # of a model that declares none
PLACEHOLDERS = ("config_path", "model_dir", "output_dir")  # filled in, in braces, in an action's command
TRIAL_DIR = "AUTOML_TRIAL_DIR"  # environment variable: the folder a trainer writes to


@dataclass(frozen=True)
class ModelBundle:
    name: str
    root: Path
    skill: dict[str, Any]  # references/skill_info.yaml
    installed_as: str | None = None  # the name of its entry point

    # ---- schemas, templates, commands -------------------------------------------------------------------------

    @property
    def reference(self) -> str:
        """What finds this model again from any folder: its installed name, or its absolute path."""
        return self.installed_as or str(self.root)

    @property
    def actions(self) -> list[str]:
        return list(self.skill["actions"])

    def schema_path(self, action: str) -> Path:
        return self.root / "schemas" / f"{action}.schema.json"

    def schema(self, action: str) -> dict[str, Any]:
        """The action's schema. Raises `UserError` naming the file when it is missing or broken."""
        path = self.schema_path(action)
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(f"{path}: no such schema") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not valid JSON: {error}") from None
        if not isinstance(document, dict):
            raise UserError(f"{path}: a schema must be a JSON object, but got {type(document).__name__}")
        if not document:
            raise UserError(f"{path}: a schema must have `properties`, but this one is empty")
        return document

    def template(self, action: str) -> dict[str, Any]:
        """The action's default spec, `references/spec_template_<action>.yaml`. Fall-back: the schema's `default`, else
        the defaults of its leaves."""
        path = self.root / "references" / f"spec_template_{action}.yaml"
        if path.is_file():
            return specs.load(path)
        if not self.schema_path(action).is_file():
            raise UserError(f"{path}: no such template, and there is no schema to take defaults from")
        return specs.defaults(self.schema(action))

    def preset(self, name: str) -> tuple[dict[str, Any], Path]:
        """A named partial train spec, `references/preset_<name>.yaml`, and its path."""
        path = self.root / "references" / f"preset_{name}.yaml"
        if not path.is_file():
            known = sorted(p.stem.removeprefix("preset_") for p in path.parent.glob("preset_*.yaml"))
            raise UserError(
                f"no preset '{name}' (there are {', '.join(known) or 'none'}){did_you_mean(name, known)}"
            )
        return specs.load(path), path

    def command(self, action: str, spec_path: str) -> tuple[str, ...]:
        """The command line that runs an action on a spec file: `{config_path}`, `{model_dir}` and `{output_dir}` (the
        spec file's folder) filled in, and the program beside this Python when it is there (an environment that is
        not activated), else from PATH."""
        program, *words = self.command_words(action, spec_path)
        return (find_program(program) or program, *words)

    def command_words(self, action: str, spec_path: str) -> tuple[str, ...]:
        """The same as a person would type it."""
        values = dict(zip(PLACEHOLDERS, (spec_path, str(self.root), os.path.dirname(spec_path)), strict=True))
        command = self.skill["actions"][action].get("command")
        if not command:
            raise UserError(f"{self.name}: actions.{action} has no command")
        words = skill.words_of(command)
        for name, value in values.items():
            words = [word.replace(f"{{{name}}}", value) for word in words]
        return tuple(words)

    def trial_env(self, trial_dir: str) -> tuple[tuple[str, str], ...]:
        """Environment variables of a trial: AUTOML_TRIAL_DIR, the folder it writes to; and PYTHONPATH with the model
        folder first, so that its Python is found by its own name."""
        env = {TRIAL_DIR: trial_dir}
        if not self.installed_as:
            before = os.environ.get("PYTHONPATH")
            env["PYTHONPATH"] = f"{self.root}{os.pathsep}{before}" if before else str(self.root)
        return tuple(env.items())

    # ---- what its trials report -------------------------------------------------------------------------------

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """`metrics: {NAME: maximize|minimize}`, the first being the default of `--metric`. Fall-back: `val_loss`,
        minimised."""
        found = self.skill.get("metrics") or {}
        return tuple(Metric(str(name), DIRECTIONS[way]) for name, way in found.items()) or (NO_METRIC,)

    @property
    def finite(self) -> tuple[str, ...]:
        """`finite: [NAME]`: a record in which one of these is null or not finite says that the training diverged.
        Fall-back: train_loss."""
        return tuple(map(str, self.skill.get("finite", ("train_loss",))))

    @property
    def epochs_key(self) -> str | None:
        """`epochs_key`: the leaf that says how many epochs a training has. Fall-back: `spec_shorthand_keys.num_epochs`;
        None without either: then no trial has a known length, and no scheduler can compare at a share of it."""
        key = self.skill.get("epochs_key") or self.skill.get("spec_shorthand_keys", {}).get("num_epochs")
        return str(key) if key else None

    def epochs(self, spec: Mapping[str, Any]) -> int | None:
        """How many epochs the spec trains for; None when nothing says so (see `epochs_key`)."""
        value = specs.get(spec, self.epochs_key) if self.epochs_key else None
        found = (
            None if isinstance(value, bool) else as_number(value)
        )  # text may be a number, as in TAO's files
        return int(found) if found is not None and 1 <= found < math.inf else None

    # ---- files ------------------------------------------------------------------------------------------------

    @property
    def checkpoint_glob(self) -> str:
        """`checkpoint_glob`: what in a trial's folder is a checkpoint and may be deleted when no longer needed; it may
        match folders. Fall-back "": only what the records themselves name as `checkpoint`."""
        return str(self.skill.get("checkpoint_glob") or "")

    @property
    def can_resume(self) -> bool:
        """A leaf of the train spec has the role `resume_model`. Without one a trial that was cut off starts anew."""
        return self.spec_key("train", "resume_model") is not None

    def roles(self, action: str) -> Mapping[str, str]:
        """`spec_params`: {leaf: role} of an action."""
        return self.skill.get("spec_params", {}).get(action) or {}

    def spec_key(self, action: str, role: str) -> str | None:
        """The first spec key that plays a role ("resume_model", "parent_model", "output_dir") in an action."""
        return next(iter(self.spec_keys(action, role)), None)

    def spec_keys(self, action: str, role: str) -> tuple[str, ...]:
        """Every spec key that plays a role in an action, by `spec_params`."""
        return tuple(str(key) for key, value in self.roles(action).items() if value == role)

    def output_keys(self, action: str) -> tuple[str, ...]:
        """The leaves that say where an action writes. Fall-back: `results_dir`."""
        return self.spec_keys(action, "output_dir") or ("results_dir",)

    def inputs(self, action: str, full: dict[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
        """(leaf, the mapping it lies in, its key there) of every file and folder that an action takes in, by its
        `inputs`; URLs and empty ones are left out. `a.b[0].c` is `c` of every entry of the list `a.b`."""
        found = []
        for leaf in map(str, self.skill["actions"][action].get("inputs") or {}):
            name, _, rest = leaf.partition("[0].")
            above, _, key = (rest or name).rpartition(".")
            value = specs.get(full, name if rest else above) if rest or above else full
            for entry in value if isinstance(value, list) else [value]:
                node = specs.get(entry, above) if rest and above and isinstance(entry, dict) else entry
                path = node.get(key) if isinstance(node, dict) else None
                if isinstance(path, str) and path and "://" not in path:
                    found.append((leaf, node, key))
        return found

    def results_file(self, action: str, spec: Mapping[str, Any]) -> Path:
        """Where an action leaves its figures: `metrics.json` in `<its output folder>/<action>`."""
        return Path(str(specs.get(spec, self.output_keys(action)[0]))) / action / "metrics.json"

    # ---- the hand-over --------------------------------------------------------------------------------------------

    @property
    def seed_key(self) -> str:
        """`seed_key`: the leaf with the seed of a training. Fall-back "": none, and `--confirm` is refused."""
        return str(self.skill.get("seed_key") or "")

    @property
    def carries(self) -> tuple[str, ...]:
        """`carries: [PREFIX]`: the leaves that travel from training to every later action. Fall-back: `model.` and
        `dataset.`."""
        return tuple(map(str, self.skill.get("carries", ("model.", "dataset."))))

    @property
    def unread(self) -> tuple[str, ...]:
        """`unread: [SECTION]`: sections of a template that only the action of that name, or training, reads: what they
        hold elsewhere is not what was trained, and is left out. Fall-back: none."""
        return tuple(map(str, self.skill.get("unread") or ()))

    @property
    def copies(self) -> dict[str, str]:
        """`copies: {leaf of the train spec: leaf of an action}`, set where the action's template has it; `{action}` is
        the action's name, and `key[].leaf` the list of that leaf over a list of mappings."""
        return {str(source): str(target) for source, target in (self.skill.get("copies") or {}).items()}

    @property
    def figures(self) -> dict[str, str]:
        """`figures: {name in a record of metrics.jsonl: leaf of an action}`: what the epoch that scored measured, set
        where the action's template has the leaf, and kept in provenance."""
        return {str(name): str(leaf) for name, leaf in (self.skill.get("figures") or {}).items()}

    @property
    def named_files(self) -> dict[str, str]:
        """`files: {leaf or role: file}`: the file in `best/` that a leaf, or every leaf with a role, names. A leaf wins
        over its role; null leaves it as the template has it."""
        return {
            str(key): str(file) for key, file in (self.skill.get("files") or {}).items() if file is not None
        }

    def is_settled(self, key: str) -> bool:
        """`files` speaks of the leaf itself, be it with null."""
        return key in (self.skill.get("files") or {})

    @property
    def here(self) -> str:
        """`here`: the word that stands for a spec file's own folder, which the model's actions know. Fall-back "":
        specs that are handed over hold absolute paths."""
        return str(self.skill.get("here") or "")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """`stages: {NAME: {needs, shows, default_too, action, after, report, sets}}`: what runs on the winner when
        nothing else is asked for, in this order. Fall-back: nothing."""
        return skill.stages(self.skill)

    def stages_of(self, names: tuple[str, ...] | None) -> tuple[Stage, ...]:
        """The stages asked for; None: the model's own. Raises `UserError` for an action it does not have."""
        own = {stage.name: stage for stage in self.stages}
        if names is None:
            return tuple(own.values())
        known = list(dict.fromkeys([*(action for action in self.actions if action != "train"), *own]))
        for name in names:
            if name not in known:
                raise UserError(
                    f"--stages must be of {', '.join(known) or 'none, as the model has no later actions'}, but got "
                    f"'{name}'{did_you_mean(name, known)}"
                )
        asked = [own.get(name, Stage(name)) for name in dict.fromkeys(names)]
        return (*asked, *(s for s in own.values() if s.sets and s.after in names and s.name not in names))

    def next_command(self, best: Path, trained: Mapping[str, Any]) -> str:
        """`next`: what a person would do with the winner. `{best}` is its folder, `{LEAF|WORD}` that leaf of its train
        spec, or the word where it is not set. Fall-back: none."""

        def value(found: re.Match[str]) -> str:
            given = specs.get(trained, found[1])
            return shlex.quote(given) if isinstance(given, str) and given else found[2]

        if not self.skill.get("next"):
            return ""
        words = str(self.skill["next"]).split(" ")
        placed = [shlex.quote(w.replace("{best}", str(best))) if "{best}" in w else w for w in words]
        program, *rest = (re.sub(r"\{([\w.]+)\|(\S*?)\}", value, word) for word in placed)
        return " ".join([typed(program), *rest])

    # ---- what it wants of the engine ------------------------------------------------------------------------------

    def limits(self, facts: Mapping[str, Any]) -> dict[str, float]:
        """Upper bounds that the data set: `batch_key` is at most the number of training samples, the fact that
        `samples` names (fall-back: train.samples)."""
        count = specs.get(facts, str(self.skill.get("samples", "train.samples")))
        key = self.skill.get("batch_key")
        return {str(key): float(count)} if key and isinstance(count, (int, float)) and count > 0 else {}

    @property
    def recommended(self) -> dict[str, Any]:
        """`recommended: {leaf: reason or entry of search:}`: what that `--space` searches. Fall-back: it is refused."""
        return dict(self.skill.get("recommended") or {})

    def wants_cpu(self, spec: Mapping[str, Any]) -> bool:
        """`cpu_when: {leaf: [values]}`: the spec asks for a training without GPUs."""
        when = self.skill.get("cpu_when") or {}
        return any(specs.get(spec, key) in values for key, values in when.items())

    def set_pairs(
        self, words: Sequence[str], known: Iterable[str], options: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Command-line words that the engine does not know as `KEY=VALUE`, by `options: {name: leaf}`: `--name` sets
        the leaf to true, `--no-name` to false, `--name VALUE` and `--name=VALUE` to a value. Raises `UserError` for any
        other word."""
        found = (self.skill.get("options") or {}) if options is None else options
        own = {f"--{name}": str(leaf) for name, leaf in found.items()}
        pairs: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            flag, sign, value = word.partition("=")
            positive = flag.replace("--no-", "--", 1)
            if flag in own:
                if not sign:
                    value = left.pop(0) if left and not re.match(r"-(?!\.?\d)", left[0]) else "true"
                pairs.append(f"{own[flag]}={value}")
            elif positive in own and not sign:
                pairs.append(f"{own[positive]}=false")
            elif word.startswith("-"):
                raise UserError(f"no such option: {flag}{did_you_mean(flag, [*known, *own])}")
            else:
                raise UserError(f"unexpected argument '{word}'; options begin with --")
        return pairs

    def options_told(self, action: str = "train", options: Mapping[str, Any] | None = None) -> str:
        """The options of the model's own, or an action's `options`, a paragraph each, with the first sentence of what
        the schema says of them."""
        from automl.space.schema import Schema

        there = (self.root / "schemas" / f"{action}.schema.json").is_file()
        nodes = Schema(self.schema(action)).nodes if there else {}
        lines = [f"{self.name} also takes:"]
        found = (self.skill.get("options") or {}) if options is None else options
        for name, leaf in found.items():
            about = str(nodes.get(str(leaf), {}).get("description") or f"sets {leaf}")
            lines.append(f"--{name}: {about.partition('. ')[0].removesuffix('.')}.")
        return "\n\n".join(lines) if len(lines) > 1 else ""

    @property
    def packages(self) -> tuple[str, ...]:
        """`packages`: Python packages whose versions belong to a result's provenance."""
        return tuple(map(str, self.skill.get("packages") or ()))

    # ---- its own code -----------------------------------------------------------------------------------------

    @property
    def preload(self) -> tuple[str, ...]:
        """`entry_points.preload`: modules the fork server imports once for all trials."""
        return tuple(self.skill.get("entry_points", {}).get("preload") or ())

    def entry(self, purpose: str) -> str | None:
        """The entry point's `module:function`, or None when the model has none for this purpose."""
        value = self.skill.get("entry_points", {}).get(purpose)
        return str(value) if value else None

    def launch(self, action: str) -> str:
        """How an action is started on several GPUs: "per_gpu", one process each (the default of an entry point), or
        "once", since it starts its own (of a command). Raises `UserError` for another word in skill_info.yaml."""
        default = "per_gpu" if self.entry(action) else "once"
        word = str(self.skill["actions"][action].get("launch", default))
        if word not in ("once", "per_gpu"):
            raise UserError(
                f"{self.root / 'references' / 'skill_info.yaml'}: actions.{action}.launch must be once or per_gpu, "
                f"but got '{word}'"
            )
        return word

    def call(self, purpose: str) -> Callable[..., Any] | None:
        """The entry point itself, imported; the model folder's own modules come before installed ones. Raises
        `UserError` when it is not there, and so does what is returned where the model's code fails."""
        target, where = self.entry(purpose), self.root / "references" / "skill_info.yaml"
        return hooks.load(target, f"{where}: entry_points.{purpose} {target}") if target else None


def resolve(model: str | None) -> ModelBundle:
    """Find a model by installed name or by folder; None: the only one installed. Raises `UserError` with the known
    names."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    known = sorted(found)
    if model is None:
        if len(known) != 1:
            raise UserError(f"--model must be given (installed: {', '.join(known) or 'none'})")
        model = known[0]
    if model in found:
        return _read(Path(hooks.load(found[model].value, f"the installed model {model}")()), model)
    if Path(model).is_dir():
        bundle = _read(Path(model).resolve(), None)
        _make_importable(bundle.root)
        return bundle
    raise UserError(f"no model '{model}' (installed: {', '.join(known)}){did_you_mean(model, known)}")


def _read(root: Path, installed_as: str | None) -> ModelBundle:
    document = skill.load(root)
    return ModelBundle(str(document.get("network_arch") or root.name), root, document, installed_as)


_folders: list[str] = []  # model folders on sys.path; at most one at a time


def _make_importable(root: Path) -> None:
    """Put a model folder first on sys.path. One that was there before goes, with what was imported from it: two
    folders may name their modules alike."""
    for folder in [f for f in _folders if f != str(root)]:
        _folders.remove(folder)
        sys.path[:] = [path for path in sys.path if path != folder]
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(folder + os.sep):
                del sys.modules[name]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
        _folders.append(str(root))
        importlib.invalidate_caches()

"""Which parameters cannot matter, and when: `active_when` of the schema, and what is known of common names.

A schema may say it outright, `active_when: {"train.optim.optimizer": ["SGD"]}`. For schemas that do not, the rules
below read it from the names that TAO and most training code use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl.space.leaf import Leaf, same
from automl.space.schema import Schema
from automl.space.words import short

ACTIONS = ("evaluate", "inference", "export", "gen_trt_engine", "quantize", "distill", "prune", "retrain",
           "dataset_convert", "convert", "calibrate", "visualize", "auto_label", "deploy")  # fmt: skip
_SPEED = re.compile(r"(^|_)(num_)?workers?(_per_\w+)?$|^prefetch_factor$|_prefetch_factor$|^pin_memory$")
_SCORING = re.compile(
    r"^(val|validate|validation|test|testing|infer|inference|eval|evaluate|evaluation|calib|calibration|"
    r"quant_calibration|quant_calib)(_|$)"
)
_OPTIMIZERS = (
    "optimizer",
    "optim",
    "optimizer_type",
    "optimizer_name",
    "optm_name",
    "optim_type",
    "type",
    "name",
)
_SCHEDULES = ("lr_scheduler", "scheduler", "policy", "lr_policy", "lr_scheduler_type", "scheduler_type", "sched",
              "lr_schedule", "type", "name")  # fmt: skip
_WITH_MOMENTUM = re.compile(r"^(sgd|nesterov|msgd|rmsprop|lars|momentum)")
_WITH_BETAS = re.compile(r"^(fused|bnb|paged)?(adam|nadam|radam|lamb|adan|lion|adabelief)")
_STEP = re.compile(r"^step(lr)?$")
_MULTISTEP = re.compile(r"^multistep(lr)?(scheduler)?$|^warmupmultistep(lr)?$")
_OTHER_SCHEDULE = re.compile(
    r"^(cos|linear|poly|onecycle|constant|none|exp|reduce|plateau|warmup|inverse|cyclic|flat)"
)
_DECAYING = re.compile(r"^(step|multistep|exp|reduce|plateau|warmupmultistep)")
_ENABLE = ("enable", "enabled", "is_enabled")


@dataclass(frozen=True)
class Condition:
    """The parameter matters only while `name` has one of `values`."""

    name: str
    values: tuple[Any, ...]

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        value = drawn.get(self.name)
        return any(same(value, v) for v in self.values)

    def __str__(self) -> str:
        values = " or ".join("null" if v is None else short(v) for v in self.values)
        return f"{self.name} is {values}"


def why_never(name: str, schema: Schema) -> str | None:
    """The reason a parameter is not searched unless asked for by name, whatever the spec; or None."""
    *sections, last = schema.paths[name]
    if _SPEED.search(last):
        return "it changes speed, not results"
    own = schema.action or "train"
    top = sections[0] if sections else ""
    if (
        top in ACTIONS
        and own != top
        and not own.endswith(f"_{top}")
        and (schema.action or "train" in _tops(schema))
    ):
        return f"it belongs to the action {top}"
    for part in schema.paths[name]:
        if _SCORING.match(part) and part != own:
            return f"'{part}' is not training: it changes how trials are scored, if anything"
    return None


def _tops(schema: Schema) -> set[str]:
    return {path[0] for path in schema.paths.values()}


def conditions_of(leaf: Leaf, schema: Schema, base: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Everything that must hold for the leaf to matter."""
    if leaf.active_when:
        return tuple(Condition(name, values) for name, values in leaf.active_when)
    found = [*_switches(leaf, schema), *_optimizer(leaf, schema, base), *_schedule(leaf, schema, base)]
    *above, last = leaf.path
    if last in ("train_random_crop_min", "train_random_crop_max"):
        found += _when_null(schema, [*above, "fixed_random_crop"])
    if last == "fps":
        found += _when_null(schema, [*above, "nframes"])
    return tuple(found)


def _when_null(schema: Schema, path: list[str]) -> list[Condition]:
    name = ".".join(path)
    return [Condition(name, (None,))] if name in schema else []


def _switches(leaf: Leaf, schema: Schema) -> list[Condition]:
    """`enable` beside it or beside a section it is in; `enable_ema` beside `ema_decay`, `use_mlp` beside `mlp_size`."""
    found = []
    last = leaf.path[-1]
    for depth in range(1, len(leaf.path)):
        for word in _ENABLE:
            name = ".".join((*leaf.path[:depth], word))
            if name != leaf.name and name in schema:
                found.append(name)
    for sibling in schema:
        path = schema.paths[sibling]
        prefix = re.match(r"^(enable|use)_(\w+)$", path[-1])
        if prefix and path[:-1] == leaf.path[:-1] and last.startswith(prefix[2] + "_"):
            found.append(sibling)
    return [Condition(name, (True,)) for name in found if _is_bool(schema, name)]


def _is_bool(schema: Schema, name: str) -> bool:
    return str(schema.nodes[name].get("type")) in ("bool", "boolean")


def _optimizer(leaf: Leaf, schema: Schema, base: Mapping[str, Any]) -> list[Condition]:
    last = leaf.path[-1]
    if last == "momentum":
        return _where(leaf, schema, base, _OPTIMIZERS, _WITH_MOMENTUM, _WITH_BETAS)
    if last in ("betas", "beta1", "beta2", "optm_betas", "adam_betas"):
        return _where(leaf, schema, base, _OPTIMIZERS, _WITH_BETAS, _WITH_MOMENTUM)
    return []


def _schedule(leaf: Leaf, schema: Schema, base: Mapping[str, Any]) -> list[Condition]:
    last = leaf.path[-1]
    if last in ("lr_step_size", "step_size"):
        return _where(leaf, schema, base, _SCHEDULES, _STEP, _MULTISTEP, _OTHER_SCHEDULE)
    if last in ("lr_steps", "milestones", "lr_milestones"):
        return _where(leaf, schema, base, _SCHEDULES, _MULTISTEP, _STEP, _OTHER_SCHEDULE)
    if last in ("lr_decay", "gamma", "lr_gamma", "lr_decay_rate"):
        return _where(leaf, schema, base, _SCHEDULES, _DECAYING, _OTHER_SCHEDULE)
    return []


def _where(
    leaf: Leaf, schema: Schema, base: Mapping[str, Any], words: tuple[str, ...], *kinds: re.Pattern[str]
) -> list[Condition]:
    """The condition that a deciding sibling's value is of the first kind, when its value is of a known kind."""
    sections = [leaf.path[:-1], leaf.path[:-2]] if len(leaf.path) > 2 else [leaf.path[:-1]]
    for section in sections:
        for word in words:
            name = ".".join((*section, word))
            value = base.get(name)
            if name == leaf.name or name not in schema or not isinstance(value, str):
                continue
            if any(kind.search(_plain(value)) for kind in kinds):
                return [_choose(schema, name, value, kinds)]
    return []


def _choose(schema: Schema, name: str, value: str, kinds: tuple[re.Pattern[str], ...]) -> Condition:
    options = schema.nodes[name].get("enum")
    known = [o for o in options if isinstance(o, str)] if isinstance(options, list) else []
    good = [o for o in dict.fromkeys([*known, value]) if kinds[0].search(_plain(o))]
    # A word that is of no known kind may use the parameter: leave it alone there.
    unknown = [o for o in known if not any(kind.search(_plain(o)) for kind in kinds)]
    if kinds[0] is _MULTISTEP and not good:
        good = [o for o in known if _STEP.search(_plain(o))]  # some call their list of steps "step"
    return Condition(
        name, tuple(good + unknown) or ("MultiStep" if kinds[0] is _MULTISTEP else _example(kinds[0]),)
    )


def _example(kind: re.Pattern[str]) -> str:
    return {_WITH_MOMENTUM: "SGD", _WITH_BETAS: "Adam", _STEP: "StepLR"}.get(kind, "MultiStep")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())

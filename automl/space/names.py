"""What a parameter's name tells: its role, when it can matter, what it must fit. Strings in, facts out.

The names are those of most training code. A schema that says a thing itself (`search`, `active_when`, `depends_on`)
is believed over its names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """What a number is for. `factor`: it is searched that many times either way of its default, in log; `usual`: what
    it is set to where the schema does not say; `top`: how far to look when it is off by default; `share`: of 1;
    `near_one`: from this default on, what is left to 1 is what counts."""

    word: str = ""
    noun: str = ""
    factor: float = 0.0
    usual: float | None = None
    top: float | None = None
    pattern: re.Pattern[str] = re.compile("$^")
    share: bool = False
    near_one: float = 2.0


ROLES = (
    Role("lr", "a learning rate", 10.0, 1e-3, 1e-3),
    Role("decay", "a weight decay", 10.0, 1e-4, 0.1,
         re.compile(r"weight_decay|(^|_)wd($|_)|l[12]_reg|regularization|(^|_)l2($|_)")),
    Role("epsilon", "an epsilon", 10.0, 1e-8, 1e-3, re.compile(r"(^|_)eps(ilon)?$")),
    Role("momentum", "a momentum", share=True, near_one=0.5, pattern=re.compile(
        r"(^|_)momentum($|_)|(^|_)betas?\d?($|_)|ema_decay|(^|_)moms?$|moving_average")),
    Role("dropout", "a dropout rate", share=True, pattern=re.compile(
        r"drop_?out|drop_path|drop_rate|drop_prob|label_smooth")),
    Role("share", "a share of 1", share=True, pattern=re.compile(
        r"prob|probability|(^|_)p$|(^|_)ratio$|threshold|thresh$|(^|_)iou($|_)")),
    Role("factor", "a factor", 10.0, None, 1.0, re.compile(
        r"lr_decay|(^|_)gamma$|(_|^)mult(iplier)?$|_factor$|layer_decay|decay_rate|lr_drop_factor"), near_one=0.7),
    Role("coefficient", "a weight or coefficient", 5.0, None, 1.0, re.compile(
        r"_coeff?$|_coefficient$|_weight$|(^|_)lambda($|_)|loss_weight|(^|_)cost(_|$)|(^|_)alpha$|temperature")),
    Role("batch", pattern=re.compile(r"batch")),
    Role("layers", pattern=re.compile(r"(^|_)n?layers$|(^|_)depth$")),
    Role("warmup", pattern=re.compile(r"warm_?up.*epoch|epoch.*warm_?up")),
    Role("step size", pattern=re.compile(r"lr_step_size|^step_size$|decay_epochs?$|lr_drop$")),
)  # fmt: skip
NO_ROLE = Role()
_BY_WORD = {role.word: role for role in ROLES}
_LR_OTHER = {
    "step", "steps", "decay", "sched", "scheduler", "mult", "factor", "ratio", "gamma", "epochs", "epoch", "policy",
    "power", "patience", "num", "multiplier", "drop", "milestones", "scale", "iters", "type",
}  # fmt: skip


def role_of(name: str) -> Role:
    """The role that the last part of a dotted name tells; `NO_ROLE` for none."""
    above, _, last = re.sub(r"\[\d+\]$", "", name.lower()).rpartition(".")
    if last == "decay" and re.search(r"(^|[._])ema$", above):
        return _BY_WORD["momentum"]
    words = set(last.split("_"))
    if ("lr" in words or "learning_rate" in last or "learningrate" in last) and not words & _LR_OTHER:
        return _BY_WORD["lr"]
    return next((role for role in ROLES if role.pattern.search(last)), NO_ROLE)


EPOCHS = ("num_epochs", "epochs", "epoch", "max_epochs", "n_epochs", "total_epochs")
HEADS = ("nheads", "n_heads", "num_heads", "num_attention_heads")
WIDTH = "hidden_dim"  # its heads divide it
SELECTED = re.compile(r"(^|_)(select|selected|top_?k)$")  # a count that is at most what it depends on, or
SELECTED_FROM = re.compile(r"(^|_)(queries|proposals|candidates)$")  # such a count beside it
_STEPS = re.compile(r"^(lr_|decay_)*(steps|step_list|(lr_)?milestones)$|_steps_list$|decay_step_list$")


def is_steps(name: str) -> bool:
    """Whether a list of integers by this name holds epochs at which a schedule steps."""
    return bool(_STEPS.search(name.rsplit(".", 1)[-1].lower()))


LENGTH = "it is the length of the training, which the budget of the search spends"
APART = {  # what --space all leaves alone too: a part of a name -> why
    re.compile(r"(^|_)class(es|_ids)$"): "the data say it",
    re.compile(r"(^|_)seed$"): "it is luck, not a setting",
    re.compile(r"_interval$|_unit$|^verbose$|^wandb$|_dry_run$|^monitor|^clearml$"): "it changes what is written",
    re.compile(r"^num_gpus$|^gpu_ids$|^num_nodes$|^accelerator$|_strategy$|^cudnn$|^precision$|^fp8$|checkpoint|"
               r"^dataset_type$"): "it changes speed and memory",
}  # fmt: skip
ACTIONS = ("evaluate", "inference", "export", "gen_trt_engine", "quantize", "distill", "prune", "retrain",
           "dataset_convert", "convert", "calibrate", "visualize", "auto_label", "deploy")  # fmt: skip
SPEED = re.compile(r"(^|_)(num_)?workers?(_per_\w+)?$|^prefetch_factor$|_prefetch_factor$|^pin_memory$")
SCORING = re.compile(
    r"^(val|validate|validation|test|testing|infer|inference|eval|evaluate|evaluation|calib|calibration|"
    r"quant_calibration|quant_calib)(_|$)"
)


def switches_of(path: tuple[str, ...]) -> list[str]:
    """Names of switches that a parameter may have: `enable` beside it or beside a section it is in; `enable_ema` beside
    `ema_decay`, `use_mlp` beside `mlp_size`."""
    *above, last = path
    words = last.split("_")
    enable = ("enable", "enabled", "is_enabled")
    found = [(*above[:depth], word) for depth in range(1, len(path)) for word in enable]
    stems = ["_".join(words[:i]) for i in range(1, len(words))]
    found += [(*above, prefix + stem) for stem in stems for prefix in ("enable_", "use_")]
    return [".".join(each) for each in found]


def replaced_by(path: tuple[str, ...]) -> list[str]:
    """Names beside a parameter that are used in its place unless they are null: `fixed_crop` in place of all from
    `crop_min` to `crop_max`, a number of frames in place of their rate."""
    *above, last = path
    stem = re.fullmatch(r"(\w+)_(min|max)", last)
    words = stem[1].split("_") if stem else []
    found = [f"fixed_{'_'.join(words[i:])}" for i in range(len(words))] + ["nframes"] * (last == "fps")
    return [".".join((*above, each)) for each in found]


_OPTIMIZERS = ("optimizer", "optim", "optimizer_type", "optimizer_name", "optm_name", "optim_type", "type",
               "name")  # fmt: skip
_SCHEDULES = ("lr_scheduler", "scheduler", "policy", "lr_policy", "lr_scheduler_type", "scheduler_type", "sched",
              "lr_schedule", "type", "name")  # fmt: skip
_WITH_MOMENTUM = re.compile(r"^(sgd|nesterov|msgd|rmsprop|lars|momentum)")
_WITH_BETAS = re.compile(r"^(fused|bnb|paged)?(adam|nadam|radam|lamb|adan|lion|adabelief)")
_STEP = re.compile(r"^step(lr)?$")
_MULTISTEP = re.compile(r"^multistep(lr)?(scheduler)?$|^warmupmultistep(lr)?$")
_DECAYING = re.compile(r"^(step|multistep|exp|reduce|plateau|warmupmultistep)")
_OTHER = re.compile("^(cos|linear|poly|onecycle|constant|none|exp|reduce|plateau|warmup|inverse|cyclic|flat)")
_NO_STEP = re.compile(f"{_MULTISTEP.pattern}|{_OTHER.pattern}")
_NO_MULTISTEP = re.compile(f"{_STEP.pattern}|{_OTHER.pattern}")
# Parameters that only some optimizers or schedules use: (names; names beside them or above that choose one; the
# choices that use them; those that do not; such a choice where the schema has none; what some schemas call it)
_USES: dict[str, tuple[tuple[str, ...], re.Pattern[str], re.Pattern[str], str, re.Pattern[str] | None]] = {
    name: (deciders, kind, other, example, alias)
    for names, deciders, kind, other, example, alias in (
        ("momentum", _OPTIMIZERS, _WITH_MOMENTUM, _WITH_BETAS, "SGD", None),
        ("betas beta1 beta2 optm_betas adam_betas", _OPTIMIZERS, _WITH_BETAS, _WITH_MOMENTUM, "Adam", None),
        ("lr_step_size step_size", _SCHEDULES, _STEP, _NO_STEP, "StepLR", None),
        ("lr_steps milestones lr_milestones", _SCHEDULES, _MULTISTEP, _NO_MULTISTEP, "MultiStep", _STEP),
        ("lr_decay gamma lr_gamma lr_decay_rate", _SCHEDULES, _DECAYING, _OTHER, "MultiStep", None),
    )
    for name in names.split()
}


def deciders_of(path: tuple[str, ...]) -> list[str]:
    """Names beside a parameter, or beside its section, whose choice may be what makes it matter."""
    sections = [path[:-1], path[:-2]] if len(path) > 2 else [path[:-1]]
    words = _USES[path[-1]][0] if path[-1] in _USES else ()
    return [".".join((*section, word)) for section in sections for word in words]


def choices_with(last: str, options: list[str], current: str) -> tuple[str, ...] | None:
    """The choices of a decider under which a parameter matters; None where the current one tells nothing."""
    _, kind, other, example, alias = _USES[last]
    plain = {v: re.sub(r"[^a-z0-9]", "", v.lower()) for v in [*options, current]}
    known = [v for v, text in plain.items() if kind.search(text) or other.search(text)]
    if current not in known:
        return None
    good = [v for v in known if kind.search(plain[v])]
    good = good or [v for v in options if alias and alias.search(plain[v])]
    return (*good, *(v for v in options if v not in known)) or (example,)

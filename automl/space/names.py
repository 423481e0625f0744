"""What a parameter's name tells: its role, when it can matter, what it must fit. Strings in, facts out.

The names are those of TAO's schemas and of most training code. A schema that says a thing itself (`search`,
`active_when`, `depends_on`) is believed over its names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """What a number is for. `factor`: it is searched that many times either way of its default, in log; `usual`: what
    it is set to where the schema does not say; `top`: how far to look when it is off by default."""

    word: str = ""
    noun: str = ""
    factor: float = 0.0
    usual: float | None = None
    top: float | None = None
    pattern: re.Pattern[str] = re.compile("$^")

    @property
    def near_one(self) -> float:
        """From this default on, what is left to 1 is what counts."""
        return {"momentum": 0.5, "factor": 0.7}.get(self.word, 2.0)

    @property
    def share(self) -> bool:
        """Whether it is a share of 1."""
        return self.word in ("share", "dropout", "momentum")


ROLES = (
    Role("lr", "a learning rate", 10.0, 1e-3, 1e-3),
    Role("decay", "a weight decay", 10.0, 1e-4, 0.1,
         re.compile(r"weight_decay|(^|_)wd($|_)|l[12]_reg|regularization|(^|_)l2($|_)")),
    Role("epsilon", "an epsilon", 10.0, 1e-8, 1e-3, re.compile(r"(^|_)eps(ilon)?$")),
    Role("momentum", "a momentum", pattern=re.compile(
        r"(^|_)momentum($|_)|(^|_)betas?\d?($|_)|ema_decay|(^|_)moms?$|moving_average")),
    Role("dropout", "a dropout rate", pattern=re.compile(r"drop_?out|drop_path|drop_rate|drop_prob|label_smooth")),
    Role("share", "a share of 1", pattern=re.compile(
        r"prob|probability|(^|_)p$|(^|_)ratio$|threshold|thresh$|(^|_)iou($|_)")),
    Role("factor", "a factor", 10.0, None, 1.0, re.compile(
        r"lr_decay|(^|_)gamma$|(_|^)mult(iplier)?$|_factor$|layer_decay|decay_rate|lr_drop_factor")),
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
QUERIES, SELECTED, CLASSES = "num_queries", "num_select", "num_classes"
_STEPS = re.compile(
    r"^(lr_|decay_)*(steps|step_list|milestones|lr_milestones)$|_steps_list$|decay_step_list$"
)


def is_steps(name: str) -> bool:
    """Whether a list of integers by this name holds epochs at which a schedule steps."""
    return bool(_STEPS.search(name.rsplit(".", 1)[-1].lower()))


LENGTH = "it is the length of the training, which the budget of the search spends"
APART = {  # what --space all leaves alone too: a part of a name -> why
    re.compile(r"^num_classes$|class_ids$"): "the data say it",
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
ENABLE = ("enable", "enabled", "is_enabled")  # beside a parameter, or beside a section it is in
SWITCHES = ("enable_", "use_")  # `enable_ema` beside `ema_decay`, `use_mlp` beside `mlp_size`
WHILE_NULL = {"train_random_crop_min": "fixed_random_crop", "train_random_crop_max": "fixed_random_crop",
              "fps": "nframes"}  # fmt: skip

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
_OTHER = re.compile(
    r"^(cos|linear|poly|onecycle|constant|none|exp|reduce|plateau|warmup|inverse|cyclic|flat)"
)
_DECAYING = re.compile(r"^(step|multistep|exp|reduce|plateau|warmupmultistep)")


@dataclass(frozen=True)
class Use:
    """Parameters that only some optimizers or schedules use. `deciders` are the names beside them that choose one;
    `kind` matches the choices that use them, `others` those that do not, and a choice that neither knows may."""

    names: tuple[str, ...]
    deciders: tuple[str, ...]
    kind: re.Pattern[str]
    others: tuple[re.Pattern[str], ...]
    example: str  # such a choice, where the schema has none
    fallback: re.Pattern[str] | None = None  # what some schemas call such a choice

    def knows(self, value: str) -> bool:
        return any(kind.search(_plain(value)) for kind in (self.kind, *self.others))

    def values(self, known: list[str], current: str) -> tuple[str, ...]:
        """The choices under which the parameters matter."""
        good = [v for v in dict.fromkeys([*known, current]) if self.kind.search(_plain(v))]
        if self.fallback and not good:
            good = [v for v in known if self.fallback.search(_plain(v))]
        return tuple(good + [v for v in known if not self.knows(v)]) or (self.example,)


USES = (
    Use(("momentum",), _OPTIMIZERS, _WITH_MOMENTUM, (_WITH_BETAS,), "SGD"),
    Use(
        ("betas", "beta1", "beta2", "optm_betas", "adam_betas"),
        _OPTIMIZERS,
        _WITH_BETAS,
        (_WITH_MOMENTUM,),
        "Adam",
    ),
    Use(("lr_step_size", "step_size"), _SCHEDULES, _STEP, (_MULTISTEP, _OTHER), "StepLR"),
    Use(
        ("lr_steps", "milestones", "lr_milestones"),
        _SCHEDULES,
        _MULTISTEP,
        (_STEP, _OTHER),
        "MultiStep",
        _STEP,
    ),
    Use(("lr_decay", "gamma", "lr_gamma", "lr_decay_rate"), _SCHEDULES, _DECAYING, (_OTHER,), "MultiStep"),
)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())

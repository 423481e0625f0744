"""What a person asked for, frozen: everything `automl run` needs, and nothing it finds out by itself."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from automl.errors import UserError

DEFAULT_TRIALS = 20


@dataclass(frozen=True)
class RunRequest:
    model: str = "deformable_detr"
    data: str | None = None  # DIR with {train,val,test}/
    demo: bool = False
    spec_file: str | None = None
    preset: str | None = None
    sets: tuple[str, ...] = ()  # KEY=VALUE
    tune: tuple[str, ...] = ()  # NAME or NAME=low:high[:log] or NAME=a,b,c
    fix: tuple[str, ...] = ()  # NAME=VALUE
    policy: str | None = None  # on, off; None: the spec file's word, else on
    metric: str = "val_mAP"
    trials: int | None = None  # budgets; the first one used up ends the search
    epochs: int | None = None  # training epochs summed over all trials
    time_s: float | None = None  # of search; the stages after it are not counted
    sampler: str = "tpe"
    scheduler: str = "halving"
    executor: str = "ray"
    ray_address: str | None = None
    concurrency: int | None = None  # trials at a time; None: as many as the GPUs or cores allow
    gpus_per_trial: float | None = None  # a share of one below 1; None: what the spec says
    cpus_per_trial: float | None = None  # None: the cores shared out; on a cluster 1
    silence_timeout_s: float | None = 3600.0  # a trial without a word for so long is stopped; None: never
    seed: int = 0
    storage: str | None = None  # database URL; None: SQLite in the run folder
    results_dir: str | None = None
    stages: tuple[str, ...] = ("evaluate", "export", "gen_trt_engine")

    def with_budget(self) -> RunRequest:
        """The same, with the default number of trials when no budget was given at all."""
        if self.trials is None and self.epochs is None and self.time_s is None:
            return replace(self, trials=DEFAULT_TRIALS)
        return self

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> RunRequest:
        """The request of a run.json; a key this version does not know is refused by the constructor."""
        fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        return cls(**fields)


def parse_silence(text: str) -> float | None:
    """A time, or None for off."""
    return None if text == "off" else parse_time(text, "--silence")


def parse_time(text: str, option: str = "--time") -> float:
    """`"90s"`, `"30m"`, `"2h"`, `"1d"`, `"1h30m"` or plain seconds -> seconds. Raises `UserError` else."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if (
        not parts
        or "".join(n + u for n, u in parts) != text
        or (len(parts) > 1 and not all(u for _, u in parts))
    ):
        raise UserError(f"{option} must be like 90s, 30m, 2h or 1h30m, but got '{text}'")
    seconds = sum(float(number) * units[unit or "s"] for number, unit in parts)
    if seconds <= 0:
        raise UserError(f"{option} must be above 0, but got '{text}'")
    return seconds

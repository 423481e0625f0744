"""Written objectives of other kinds than `objectives.Detector`: what the trainers of detection engineers may report.
Quality is 1 at a best place that is drawn for each seed and falls by a Gaussian away from it; a family says what
becomes of it over a training. They were written when the search was there, to break it.

    OMP_NUM_THREADS=1 python -m studies.search.run --on written --seeds 12 --arms fgp,tpe+halving [--families late,loss]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from automl.space import Parameter, compile_space

Params = Mapping[str, Any]
TRIES, STEPS, POINTS = 700, 35, 25  # of the search for the best there is


def _number(default: float, low: float, high: float, log: bool = True) -> dict[str, Any]:
    bounds = {"minimum": low / 100 if log else low, "maximum": high * 100 if log else high}
    hint = {"low": low, "high": high, "log": log}
    return {"type": "number", "default": default, "automl_enabled": True, "search": hint, **bounds}


def _whole(default: int, low: int, high: int) -> dict[str, Any]:
    return _number(default, low, high, log=False) | {"type": "integer", "minimum": 1}


def _choice(default: Any, values: tuple[Any, ...]) -> dict[str, Any]:
    kind = "integer" if isinstance(default, int) else "string"
    return {"type": kind, "enum": list(values), "default": default, "automl_enabled": True}


DETECTOR = {
    "lr": _number(2e-4, 2e-5, 2e-3), "weight_decay": _number(1e-4, 1e-6, 1e-2),
    "dropout": _number(0.1, 0.0, 0.5, log=False), "num_queries": _whole(300, 50, 900),
    "batch_size": _choice(4, (2, 4, 8, 16)), "enc_layers": _whole(3, 1, 6),
    "bbox_loss_coef": _number(5.0, 1.0, 25.0), "lr_backbone_mult": _number(0.1, 0.01, 1.0),
}  # fmt: skip
CHOICES = {
    "lr": _number(2e-4, 2e-5, 2e-3), "weight_decay": _number(1e-4, 1e-6, 1e-2), "batch_size": _choice(4, (2, 4, 8, 16)),
    "optimizer": _choice("adamw", ("adamw", "sgd", "adam", "lion", "rmsprop")),
    "backbone": _choice("r50", ("r18", "r34", "r50", "swin", "vit", "effnet")),
    "scheduler": _choice("step", ("step", "cosine", "onecycle")), "two_stage": _choice("off", ("off", "on")),
    "norm": _choice("frozen", ("frozen", "batch", "group", "layer")),
    "assigner": _choice("hungarian", ("hungarian", "simota", "atss")),
}  # fmt: skip


def place(parameter: Parameter, value: Any) -> float:
    """Where a value lies in its usual range, 0 to 1 and beyond."""
    if parameter.kind not in ("float", "int"):
        return parameter.choices.index(value) / max(1, len(parameter.choices) - 1)
    low, high = parameter.codec.range.ends  # type: ignore[attr-defined]
    scale = math.log if parameter.scale == "log" else float
    return (scale(value) - scale(low)) / (scale(high) - scale(low))


class Family:
    """A detector's mAP that rises by a power law. `moved`: how far the best lies from the default, in ranges (standard
    deviation); `noise` between trainings, `jitter` between epochs; `sign` -1: what is reported is minus the value;
    `timed`: a budget is the seconds of so many trainings of the default."""

    schema: ClassVar[dict[str, Any]] = DETECTOR
    epochs, sign, timed = 12, 1.0, False
    top, moved, noise, jitter = 0.55, 0.15, 0.006, 0.003

    def __init__(self, seed: int) -> None:
        self.seed, self.name = seed, type(self).__name__.lower()
        self.space = compile_space({"type": "object", "properties": self.schema}, {})
        self.axes = {p.name: p for p in self.space.parameters}
        rng = np.random.default_rng([seed, sum(map(ord, self.name))])
        self.width: dict[str, float] = {}
        self.best_at: dict[str, float] = {}
        self.worth: dict[str, dict[Any, float]] = {}  # of choices without an order, in units of log quality
        for name, axis in self.axes.items():
            if axis.kind == "choice" and isinstance(axis.choices[0], str):
                worth = -np.abs(rng.normal(0, 0.25, len(axis.choices)))
                self.worth[name] = dict(zip(axis.choices, worth - worth.max(), strict=True))
            else:
                self.width[name] = 0.2 if name == "lr" else float(np.clip(rng.lognormal(-0.8, 0.5), 0.12, 2))
                off = place(axis, axis.default) + rng.normal(0, self.moved)
                self.best_at[name] = float(np.clip(off, 0.03, 0.97))
        self.set_up(rng)
        self.default, self.best = self.true(self.space.default), self._best()
        self.usual = float(np.median([self.true(p) for p in self.space.sample(150, seed=seed)]))

    def set_up(self, rng: np.random.Generator) -> None:
        """What else is drawn for a seed."""

    def off(self, params: Params, name: str) -> float:
        return place(self.axes[name], params[name]) - self.best_at[name]

    def quality(self, params: Params) -> float:
        cost = sum((self.off(params, name) / width) ** 2 / 2 for name, width in self.width.items())
        return math.exp(sum(worth[params[name]] for name, worth in self.worth.items()) - cost)

    def clean(self, params: Params) -> np.ndarray:
        """The curve without noise, (epochs,)."""
        e, last = np.arange(1, self.epochs + 1) ** -0.8, self.epochs**-0.8
        return self.top * self.quality(params) * (1 - 0.8 * (e - last) / (1 - last))

    def fails(self, params: Params, trial: int) -> int | None:
        """The epoch in which a training ends without a value, None: in none."""
        return None

    def cost(self, params: Params) -> float:
        """Seconds of an epoch."""
        return 1.0

    def true(self, params: Params) -> float:
        params = {**self.space.default, **params}
        lowest = 0.0 if self.sign > 0 else -math.inf
        return lowest if self.broken(params) else float(self.clean(params).max())

    def broken(self, params: Params) -> bool:
        """Whether a training always fails."""
        return False

    def curve(self, params: Params, trial: int) -> list[float]:
        rng = np.random.default_rng([self.seed, 7, trial])
        values = self.clean(params) + self.noise * rng.standard_normal()
        return [float(v) for v in values + self.jitter * rng.standard_normal(self.epochs)]

    def loss(self, value: float) -> float:
        """1 the default, 0 the best there is; where these are next to each other, 1 a usual draw."""
        room, whole = self.best - self.default, abs(self.best - self.usual) or 1.0
        return (self.best - value) / (room if room > 0.02 * whole else whole)

    def _best(self) -> float:
        """Of many draws and a climb from the two best of them."""
        rng, best = np.random.default_rng(self.seed + 5), -math.inf
        drawn = [*self.space.sample(TRIES, seed=self.seed + 77), dict(self.space.default)]
        for start in sorted(drawn, key=self.true)[-2:]:
            at, value = np.array(self.space.encode(start)), self.true(start)
            for step in range(STEPS):
                moves = 0.2 * 0.88**step * rng.standard_normal((POINTS, len(at)))
                points = np.clip(at + moves * (rng.random(moves.shape) < 0.5), 0, 1 - 1e-9)
                values = [self.true(self.space.decode(list(point))) for point in points]
                if max(values) > value:
                    value, at = max(values), points[int(np.argmax(values))]
            best = max(best, value)
        return best


class Plain(Family):
    pass


class Short(Family):
    epochs = 3


class Categorical(Family):
    schema = CHOICES


class Far(Family):
    """The default is a bad one."""

    moved = 0.35


class Late(Family):
    """Nothing for a third of the training, as from scratch, then a rise; lower rates start later."""

    def clean(self, params: Params) -> np.ndarray:
        start = 4 - 2 * (place(self.axes["lr"], params["lr"]) - 0.5)
        rise = 1 / (1 + np.exp(-(np.arange(1, 13) - 2 - start) / 0.8))
        return self.top * self.quality(params) * rise


class Crossing(Family):
    """High rates rise soon and end low, low ones are slow and best."""

    def set_up(self, rng: np.random.Generator) -> None:
        self.best_at["lr"], self.width["lr"] = rng.uniform(0.1, 0.3), 0.3

    def clean(self, params: Params) -> np.ndarray:
        def risen(at: float, e: Any) -> Any:
            return 1 - np.exp(-((e / (5 * 10 ** (-0.9 * (at - 0.2)))) ** 1.3))

        e = np.arange(1, 13)
        rise = risen(place(self.axes["lr"], params["lr"]), e) / risen(self.best_at["lr"], 12)
        return self.top * self.quality(params) * np.minimum(rise, 1.05)


class Step(Family):
    """The rate drops after two thirds, and what is higher jumps the more; before that it looks the worse."""

    def clean(self, params: Params) -> np.ndarray:
        held = 0.1 + 0.5 * np.clip(place(self.axes["lr"], params["lr"]), 0, 1)
        return np.where(np.arange(1, 13) <= 8, super().clean(params) * (1 - held), super().clean(params))


class Ridge(Family):
    """A narrow valley along two parameters together."""

    epochs = 9

    def set_up(self, rng: np.random.Generator) -> None:
        self.slope = rng.choice([-1, 1])
        self.width["lr"] = self.width["bbox_loss_coef"] = 0.6

    def quality(self, params: Params) -> float:
        across = self.off(params, "lr") + self.slope * self.off(params, "bbox_loss_coef")
        return super().quality(params) * math.exp(-((across / 0.08) ** 2) / 4)


class Failing(Family):
    """Two of five trainings end somewhere, whatever they are: machines that are taken away, data that are cut off."""

    epochs, share = 9, 0.4

    def fails(self, params: Params, trial: int) -> int | None:
        rng = np.random.default_rng([self.seed, 9, trial])
        epoch = int(rng.integers(0, self.epochs))
        return epoch if trial and rng.random() < self.share else None


class Seldom(Failing):
    share = 0.1


class Memory(Family):
    """What is larger is better until it does not fit into the memory: it ends in the first epoch."""

    epochs = 9

    def set_up(self, rng: np.random.Generator) -> None:
        self.best_at |= {"batch_size": 1.0, "num_queries": 0.8}
        self.width["batch_size"], self.most = 0.8, rng.choice([2000, 3000, 4500])

    def broken(self, params: Params) -> bool:
        return bool(params["batch_size"] * params["num_queries"] > self.most)

    def fails(self, params: Params, trial: int) -> int | None:
        return 0 if self.broken(params) else None


class Diverging(Family):
    """Beyond some rate it ends in one of the first epochs, the sooner the higher the rate."""

    def set_up(self, rng: np.random.Generator) -> None:
        self.limit = self.best_at["lr"] + rng.uniform(0.05, 0.2)

    def beyond(self, params: Params) -> float:
        return place(self.axes["lr"], params["lr"]) - self.limit

    def broken(self, params: Params) -> bool:
        return self.beyond(params) >= 0

    def fails(self, params: Params, trial: int) -> int | None:
        return max(0, int(4 - 12 * self.beyond(params))) if self.broken(params) else None


class Halfway(Diverging):
    """The higher the rate the better, and beyond some rate it ends half way, its curve fine until then."""

    def set_up(self, rng: np.random.Generator) -> None:
        self.limit = place(self.axes["lr"], 2e-4) + rng.uniform(0.05, 0.2)
        self.best_at["lr"], self.width["lr"] = self.limit + 0.25, 0.3

    def fails(self, params: Params, trial: int) -> int | None:
        return 6 if self.broken(params) else None


class Loss(Family):
    """A loss, from some units on."""

    sign = -1.0

    def clean(self, params: Params) -> np.ndarray:
        return -(0.5 + 1.2 * (1 - self.quality(params)) + 3 * np.arange(1, 13) ** -1.2)


class Perplexity(Loss):
    """The exponential of one: hundreds after the first epoch, twenty at the end."""

    noise, jitter = 0.15, 0.1

    def clean(self, params: Params) -> np.ndarray:
        fall = np.arange(1, 13) ** -0.7 - 12**-0.7
        return -np.exp(2.8 + 1.2 * (1 - self.quality(params)) + 3.5 * fall)


class Huge(Loss):
    """A loss that falls from hundreds to one; high rates diverge."""

    def clean(self, params: Params) -> np.ndarray:
        e = np.arange(1, 13)
        if self.off(params, "lr") > 0.3:
            return -1e4 * 10.0 ** np.minimum(e, 8)
        return -(0.5 + 1.2 * (1 - self.quality(params)) + 1000 * np.exp(-1.5 * e))


class Priced(Family):
    """Small batches, layers and queries take longer, up to ten times the default's; where the best lies has nothing to
    do with it."""

    timed = True

    def cost(self, params: Params) -> float:
        batches, layers = (4 / params["batch_size"]) ** 0.5, 0.4 + 0.2 * params["enc_layers"]
        return float(batches * layers * (0.5 + params["num_queries"] / 600))


class Dear(Priced):
    """What is best takes long."""

    def set_up(self, rng: np.random.Generator) -> None:
        self.best_at |= {"enc_layers": 0.9, "num_queries": 0.7, "batch_size": 0.1}


class Cheap(Priced):
    """What is best takes little time."""

    def set_up(self, rng: np.random.Generator) -> None:
        self.best_at |= {"enc_layers": 0.1, "num_queries": 0.1, "batch_size": 0.9}


class Lots(Priced):
    """One parameter makes epochs thirty times as long, and is worth next to nothing."""

    def set_up(self, rng: np.random.Generator) -> None:
        self.width["num_queries"] = 1.5

    def cost(self, params: Params) -> float:
        return float(10 ** (1.5 * (place(self.axes["num_queries"], params["num_queries"]) - 0.3)))


class Even(Priced):
    """All take as long, but for chance."""

    def cost(self, params: Params) -> float:
        drawn = np.random.default_rng([self.seed, int(1e8 * params["lr"])])
        return float(np.exp(0.2 * drawn.standard_normal()))


MIXED = DETECTOR | {
    "optimizer": _choice("adamw", ("adamw", "sgd", "lion")), "two_stage": _choice("off", ("off", "on")),
    "backbone": _choice("r50", ("r18", "r34", "r50", "swin")),
}  # fmt: skip
BRANCHES = {
    "lr": _number(2e-4, 2e-5, 2e-3), "weight_decay": _number(1e-4, 1e-6, 1e-2),
    "optimizer": _choice("adamw", ("adamw", "sgd", "lion")),
    "scheduler": _choice("step", ("step", "cosine", "onecycle")),
    "two_stage": _choice("off", ("off", "on")), "backbone": _choice("r50", ("r18", "r34", "r50", "swin")),
    "momentum": _number(0.9, 0.5, 0.99, log=False) | {"active_when": {"optimizer": ["sgd"]}},
    "beta": _number(0.9, 0.5, 0.99, log=False) | {"active_when": {"optimizer": ["adamw", "lion"]}},
    "gamma": _number(0.1, 0.01, 0.9) | {"active_when": {"scheduler": ["step"]}},
    "warmup": _number(0.1, 0.01, 0.5) | {"active_when": {"scheduler": ["cosine", "onecycle"]}},
    "proposals": _number(300, 100, 900, log=False) | {"active_when": {"two_stage": ["on"]}},
    "window": _number(7.0, 3.0, 14.0, log=False) | {"active_when": {"backbone": ["swin"]}},
}  # fmt: skip


class Mixed(Family):
    """Eight numbers and three choices without an order."""

    schema = MIXED


class Branching(Family):
    """Four choices say which of six numbers count."""

    schema = BRANCHES

    def off(self, params: Params, name: str) -> float:
        rules = BRANCHES[name].get("active_when", {})
        counts = all(params[switch] in values for switch, values in rules.items())
        return super().off(params, name) if counts else 0.0


class Coupled(Family):
    """Nine parameters, six of them choices; the best rate depends on the optimizer, the best decay on the backbone."""

    schema, moved = CHOICES, 0.2

    def set_up(self, rng: np.random.Generator) -> None:
        pairs = (("lr", "optimizer"), ("weight_decay", "backbone"))
        self.moves = {
            name: (by, {option: rng.normal(0, 0.15) for option in self.axes[by].choices})
            for name, by in pairs
        }

    def off(self, params: Params, name: str) -> float:
        by, moves = self.moves.get(name, ("", {}))
        return float(super().off(params, name) - (moves[params[by]] if by else 0.0))


class Steep(Family):
    """Choices of which most options are far worse than the default."""

    schema = CHOICES

    def set_up(self, rng: np.random.Generator) -> None:
        for name, worth in self.worth.items():
            drawn = {option: -abs(rng.normal(0, 0.8)) for option in worth}
            drawn[self.axes[name].default] = -abs(rng.normal(0, 0.2))
            self.worth[name] = {option: value - max(drawn.values()) for option, value in drawn.items()}


class Breaking(Mixed):
    """One optimizer, and the largest backbone with large batches, never get through."""

    def broken(self, params: Params) -> bool:
        large = params["backbone"] == "swin" and params["batch_size"] >= 8
        return bool(large or params["optimizer"] == "lion")

    def fails(self, params: Params, trial: int) -> int | None:
        return 1 if self.broken(params) else None


FAMILIES: dict[str, type[Family]] = {
    each.__name__.lower(): each
    for each in (
        Plain, Short, Categorical, Far, Late, Crossing, Step, Ridge, Failing, Seldom, Memory, Diverging, Halfway, Loss,
        Perplexity, Huge, Priced, Dear, Cheap, Lots, Even,
        Mixed, Branching, Coupled, Steep, Breaking,
    )
}  # fmt: skip

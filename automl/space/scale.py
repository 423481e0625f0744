"""Where to look for a number, and on which scale.

The bounds of a schema say what is valid, which is rarely where to search: a learning rate valid on (0, 1] is looked
for around 2e-4, in logarithmic steps. Decided in this order: the schema's own search hint, the role that the
parameter's name tells, the default and how many decades lie around it. The default ends up in the middle 90 % of
the range unless the domain itself puts it at an end.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from automl.space.domain import Domain, is_number

LINEAR, LOG, COMPLEMENT = "linear", "log", "log(1 - x)"
_BENT: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {  # there and back
    LINEAR: (float, float),
    LOG: (math.log, math.exp),
    COMPLEMENT: (lambda x: -math.log(1 - x), lambda x: 1 - math.exp(-x)),
}
EDGE = 0.05  # the default lies at least this far from either end, as a share of the range
OPEN_SHARE = 1e-3  # an open end is left by this share of the range

_LR_OTHER = {
    "step", "steps", "decay", "sched", "scheduler", "mult", "factor", "ratio", "gamma", "epochs", "epoch", "policy",
    "power", "patience", "num", "multiplier", "drop", "milestones", "scale", "iters", "type",
}  # fmt: skip
_ROLES = (
    ("decay", r"weight_decay|(^|_)wd($|_)|l[12]_reg|regularization|(^|_)l2($|_)"),
    ("epsilon", r"(^|_)eps(ilon)?$"),
    ("momentum", r"(^|_)momentum($|_)|(^|_)betas?\d?($|_)|ema_decay|(^|_)moms?$|moving_average"),
    ("dropout", r"drop_?out|drop_path|drop_rate|drop_prob|label_smooth"),
    ("share", r"prob|probability|(^|_)p$|(^|_)ratio$|threshold|thresh$|(^|_)iou($|_)"),
    ("factor", r"lr_decay|(^|_)gamma$|(_|^)mult(iplier)?$|_factor$|layer_decay|decay_rate|lr_drop_factor"),
    ("coefficient", r"_coeff?$|_coefficient$|_weight$|(^|_)lambda($|_)|loss_weight|(^|_)cost(_|$)|(^|_)alpha$|"
                    r"temperature"),
    ("batch", r"batch"),
    ("warmup", r"warm_?up.*epoch|epoch.*warm_?up"),
    ("step size", r"lr_step_size|^step_size$|decay_epochs?$|lr_drop$"),
)  # fmt: skip
_ROLES_COMPILED = tuple((role, re.compile(pattern)) for role, pattern in _ROLES)
NOUNS = {"lr": "a learning rate", "decay": "a weight decay", "epsilon": "an epsilon", "factor": "a factor",
         "coefficient": "a weight or coefficient", "momentum": "a momentum", "dropout": "a dropout rate",
         "share": "a share of 1"}  # fmt: skip
FACTORS = {"lr": 10.0, "decay": 10.0, "epsilon": 10.0, "factor": 10.0, "coefficient": 5.0, "": 10.0}


@dataclass(frozen=True)
class Range:
    """What is searched: [low, high] on a scale, or the values of `grid`, ascending. `why` says how it came about."""

    low: float
    high: float
    scale: str = LINEAR
    why: str = ""
    grid: tuple[float, ...] = ()
    moves: bool = False  # the lower end moves with an upper end that another parameter sets


def role_of(name: str) -> str:
    """The role that the last part of a dotted name tells: lr, decay, batch...; "" for none."""
    above, _, last = re.sub(r"\[\d+\]$", "", name.lower()).rpartition(".")
    if last == "decay" and re.search(r"(^|[._])ema$", above):
        return "momentum"
    words = set(last.split("_"))
    if ("lr" in words or "learning_rate" in last or "learningrate" in last) and not words & _LR_OTHER:
        return "lr"
    return next((role for role, pattern in _ROLES_COMPILED if pattern.search(last)), "")


def typical(name: str, domain: Domain) -> float:
    """A number to look around where the schema gives no default: what its role is usually set to, or the middle."""
    low, high = domain.low, domain.high
    usual = {"lr": 1e-3, "decay": 1e-4, "epsilon": 1e-8}.get(role_of(name))
    if usual is not None and not domain.whole:
        return usual
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    if math.isfinite(low):
        return max(2 * low, low + 1)
    return high - 1 if math.isfinite(high) else 1.0


def search_range(
    name: str,
    domain: Domain,
    default: float,
    hint: dict[str, Any] | None = None,
    schema_default: Any = None,
    epochs: int | None = None,
) -> Range:
    """The range to search for a number of `domain` around `default`, which must be in it.

    `hint` is the schema's {low, high, log}, written for `schema_default`; `epochs` the length of the training.
    """
    role = role_of(name)
    if hint and (hint.get("low") is not None or hint.get("high") is not None):
        found = _hinted(domain, default, hint, schema_default)
    elif role == "batch" and domain.whole and not domain.stepped:
        return _batch(domain, int(default))
    elif domain.stepped:
        return _stepped(domain, default)
    else:
        found = _whole(role, domain, default, epochs) if domain.whole else _real(role, domain, default)
        if hint and hint.get("log") is not None:
            found = rescaled(found, bool(hint["log"]), domain)
    found = closed(found, domain)
    found = found if found.why.startswith("the schema's") else centred(found, domain, default)
    if domain.stepped:
        grid = domain.steps(found.low, found.high)
        found = replace(found, grid=grid) if len(grid) > 1 else _stepped(domain, default)
    return found


def _hinted(domain: Domain, default: float, hint: dict[str, Any], schema_default: Any) -> Range:
    """The hint. A logarithmic one moves with a spec whose value is not the schema's default."""
    low, high, log = hint.get("low"), hint.get("high"), bool(hint.get("log"))
    low = domain.low if low is None else low
    high = domain.high if high is None else high
    why = "the schema's search hint"
    moved = (
        default / schema_default
        if log and is_number(schema_default) and schema_default * default > 0
        else 1.0
    )
    if moved != 1.0:
        low, high, why = low * moved, high * moved, why + ", moved to the spec's value"
    if not math.isfinite(low) or low < domain.low:
        low = domain.low if math.isfinite(domain.low) else default
    if not math.isfinite(high) or high > domain.high:
        high = domain.high if math.isfinite(domain.high) else default
    low, high = min(low, default), max(high, default)
    return Range(low, high, LOG if log and high > 0 else LINEAR, why)


def _real(role: str, domain: Domain, default: float) -> Range:
    low, high = domain.low, domain.high
    noun = NOUNS.get(role, "")
    if role in ("share", "dropout", "momentum") and 0 <= default <= 1:
        low, high = max(low, 0.0), min(high, 1.0)  # what the word means, where the schema leaves it open
    complement = default >= 0.5 if role == "momentum" else role == "factor" and default >= 0.7
    if complement and high <= 1.0 and default < 1.0:
        rest = 1.0 - default
        return Range(max(low, 1 - min(0.5, 10 * rest)), min(high, 1 - rest / 10), COMPLEMENT,
                     f"{noun}: what is left to 1 counts, so log(1 - x)")  # fmt: skip
    if role == "dropout" and math.isfinite(low):
        return Range(low, min(high, max(0.5, 2 * default)), LINEAR, f"{noun}: linear from {low:g}")
    if role in ("share", "momentum") and math.isfinite(low) and math.isfinite(high):
        return Range(low, high, LINEAR, f"{noun}: linear over what is valid")
    if default > 0 and role in FACTORS and role:
        factor = FACTORS[role]
        return Range(default / factor, default * factor, LOG, f"{noun}: log, {factor:g} times either way")
    if default == 0 and low == 0 and role in ("lr", "decay", "epsilon", "factor", "coefficient"):
        top = {"lr": 1e-3, "decay": 0.1, "epsilon": 1e-3}.get(role, 1.0)
        return Range(0.0, min(high, top), LINEAR, f"{noun} that is off by default: linear from 0")
    return _unnamed(low, high, default)


def _unnamed(low: float, high: float, default: float) -> Range:
    """A number whose name tells nothing: its default and bounds decide."""
    if math.isfinite(low) and math.isfinite(high):
        position = (default - low) / (high - low) if high > low else 0.5
        if position >= EDGE or default <= low or low < 0:
            return Range(low, high, LINEAR, "linear over what is valid")
        decades = math.log10(high / default)
        return Range(
            default / 10,
            default * 10,
            LOG,
            f"{decades:.1f} decades above the default: log, 10 times either way",
        )
    if default > 0 and low >= 0:
        return Range(default / 10, default * 10, LOG, "no upper end: log, 10 times either way of the default")
    if default > 0 and low == -math.inf and high == math.inf:
        return Range(default / 4, default * 4, LOG, "no bounds: log, 4 times either way of the default")
    reach = abs(default) or 1.0
    reach = min(reach, default - low) if low < default and math.isfinite(low) else reach
    return Range(
        max(low, default - reach),
        min(high, default + reach),
        LINEAR,
        "an open end: linear around the default",
    )


def _whole(role: str, domain: Domain, default: float, epochs: int | None) -> Range:
    low, high, d = domain.low, domain.high, int(default)
    if role == "warmup":
        top = min(high, max(d, (epochs or 10) // 2))
        return Range(max(low, 0), top, LINEAR, "warm-up: up to half the training")
    if role == "step size" and epochs:
        bottom, top = max(low, 1, min(d, epochs) // 10), min(high, max(d, epochs))
        return Range(min(bottom, d), top, _log_if_wide(bottom, top), "a tenth of the training to all of it")
    finite = math.isfinite(low) and math.isfinite(high)
    if finite and (d <= 0 or low < 0):
        return Range(low, high, LINEAR, "linear over what is valid")
    if finite and high <= 8 * d and (d - low + 0.5) / (high - low + 1) >= EDGE:
        bottom = max(low, d // 4)
        why = "linear over what is valid" if bottom == low else "linear from a quarter of the default"
        return Range(bottom, high, LINEAR, why, moves=bottom != low)
    if d <= 0:
        bottom = low if math.isfinite(low) else d - 4
        return Range(bottom, min(high, d + 4), LINEAR, "no upper end: a few steps around the default")
    if finite:
        bottom, top = max(low, d // 10, 1), min(high, d * 10)
        return Range(
            bottom, top, _log_if_wide(bottom, top), "wide bounds: 10 times either way of the default"
        )
    bottom, top = max(low, d // 2, 0 if low == 0 and d < 2 else 1), min(high, max(2 * d, d + 2))
    return Range(bottom, top, _log_if_wide(bottom, top), "an open end: half to twice the default")


def _log_if_wide(low: float, high: float) -> str:
    return LOG if low >= 1 and high >= 8 * low else LINEAR


def _batch(domain: Domain, default: int) -> Range:
    """A quarter of the default to twice it, in doublings."""
    near: list[float] = [default, default + 1, default + 2]
    if default > 0:
        near = [max(1, default // 4), max(1, default // 2), default, default * 2]
        near += [4] if default == 1 else []
        near += [end for end in (domain.low, domain.high) if default / 4 < end < default * 2]
    grid = tuple(sorted({int(v) for v in near if domain.problem(int(v)) is None}))
    why = "a batch size: doublings from a quarter of the default to twice it"
    return Range(grid[0], grid[-1], LOG, why, grid)


def _stepped(domain: Domain, default: float) -> Range:
    """Powers: three steps either way. Multiples: half to twice the default, at most 64 of them."""
    if domain.power:
        reach = max(domain.power, 1 / domain.power) ** 3
        low, high, why = (
            default / reach,
            default * reach,
            f"powers of {domain.power:g}, three steps either way",
        )
        grid = domain.steps(low, high)
    else:
        step = domain.multiple or 1.0
        reach = max(abs(default), 4 * step)
        stride = step * math.ceil(1.5 * max(abs(default) / step, 4.0) / 63)
        inside = replace(
            domain, low=max(domain.low, default - reach / 2), high=min(domain.high, default + reach)
        )
        near = [x for k in range(-32, 64) if math.isfinite(x := default + k * stride)]
        grid = tuple(
            sorted({v for x in near if (v := _on_step(x, domain)) is not None and inside.problem(v) is None})
        )
        why = f"multiples of {stride:g} around the default"
    return (
        Range(grid[0], grid[-1], LOG if domain.power else LINEAR, why, grid)
        if grid
        else Range(default, default, grid=(default,))
    )


def _on_step(value: float, domain: Domain) -> float | None:
    """A multiple as the number it stands for: an integer, or 12 digits."""
    return round(value) if domain.whole else float(f"{value:.12g}")


def closed(found: Range, domain: Domain) -> Range:
    """The range inside the domain, with open ends left by a hair and a logarithm kept off zero."""
    low, high = max(found.low, domain.low), min(found.high, domain.high)
    if domain.whole:
        ends = Domain(True, math.ceil(low), math.floor(high), excluded=domain.excluded).tidy()
        low, high = ends.low, ends.high
        return replace(found, low=low, high=high, scale=LINEAR if low < 1 else found.scale)
    if found.scale == LOG and low <= 0:
        low = high * 1e-4
    if found.scale == COMPLEMENT and high >= 1:
        high = 1 - (1 - low) * 1e-4
    hair = OPEN_SHARE * (high - low)
    low = low + hair if domain.low_open and low <= domain.low else low
    high = high - hair if domain.high_open and high >= domain.high else high
    low, high = float(f"{low:.12g}"), float(f"{high:.12g}")
    log_of_nothing = found.scale == LOG and low < sys.float_info.min  # subnormal: no ratio can be taken
    return replace(found, low=low, high=high, scale=LINEAR if log_of_nothing else found.scale)


def centred(found: Range, domain: Domain, default: float) -> Range:
    """The range moved until the default is in its middle 90 %, unless the domain's end is what the default sits on.

    The near end moves out as far as the domain goes; if that is not far enough, the far end moves in.
    """
    if (
        default in (domain.low, domain.high)
        or not found.low <= default <= found.high
        or found.low == found.high
    ):
        return found
    if _share(default, found) < EDGE:
        found = _with_ends(found, domain, default, low=0.1)
        return found if _share(default, found) >= EDGE else _with_ends(found, domain, default, high=0.1)
    if _share(default, found) > 1 - EDGE:
        found = _with_ends(found, domain, default, high=0.9)
        return found if _share(default, found) <= 1 - EDGE else _with_ends(found, domain, default, low=0.9)
    return found


def _share(value: float, found: Range) -> float:
    """Where a value lies between the two ends, 0 to 1, on the range's scale."""
    return place(value, found.low, found.high, found.scale, whole=False)


def _with_ends(
    found: Range, domain: Domain, default: float, low: float | None = None, high: float | None = None
) -> Range:
    """The range with one end moved such that the default lies at the share `low` or `high`."""
    there, back = _BENT[found.scale]
    at, left, right = there(default), there(found.low), there(found.high)
    if low is not None:
        moved = replace(found, low=back(at - (right - at) * low / (1 - low)))
    else:
        moved = replace(found, high=back(at + (at - left) * (1 - (high or 0.5)) / (high or 0.5)))
    if domain.whole:
        out = (math.floor(moved.low), math.ceil(moved.high))
        moved = replace(moved, low=out[0], high=out[1])
    return closed(moved, domain)


def rescaled(found: Range, log: bool, domain: Domain) -> Range:
    """The range on the scale that a person asked for."""
    if not log:
        return replace(found, scale=LINEAR)
    low = found.low
    if low <= 0:
        low = 1 if domain.whole else found.high * 1e-4
    return replace(found, low=low, scale=LOG)


def place(value: float, low: float, high: float, scale: str, whole: bool) -> float:
    """Position of a value in [low, high], 0 to 1; an integer's is the middle of its share of the range."""
    if whole:
        if scale == LOG:
            return math.log((value + 0.5) / low) / math.log((high + 1) / low)
        return (value - low + 0.5) / (high - low + 1)
    if high <= low:
        return 0.5
    if scale == LOG:
        return math.log(value / low) / math.log(high / low)
    if scale == COMPLEMENT:
        return math.log((1 - low) / (1 - value)) / math.log((1 - low) / (1 - high))
    return (value - low) / (high - low)


def spread(u: float, low: float, high: float, scale: str, whole: bool) -> float:
    """The value at position `u` (0 to 1) of [low, high]; floats keep 12 significant digits."""
    if whole:
        if scale == LOG:
            value = math.floor(low * ((high + 1) / low) ** u)
        else:
            value = math.floor(low + u * (high - low + 1))
        return int(min(max(value, low), high))
    if high <= low:
        return low
    if scale == LOG:
        value = low * (high / low) ** u
    elif scale == COMPLEMENT:
        value = 1 - (1 - low) * ((1 - high) / (1 - low)) ** u
    else:
        value = low + u * (high - low)
    return min(max(float(f"{value:.12g}"), low), high)

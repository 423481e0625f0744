"""Where to look for a number, and on which scale; what its name tells of that.

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

from automl.space.leaf import EXACT, OPEN_SHARE, Domain, Leaf, is_number, twelve

LINEAR, LOG, COMPLEMENT = "linear", "log", "log(1 - x)"
BENT: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {  # there and back
    LINEAR: (float, float),
    LOG: (math.log, math.exp),
    COMPLEMENT: (lambda x: -math.log(1 - x), lambda x: 1 - math.exp(-x)),
}
EDGE = 0.05  # the default lies at least this far from either end, as a share of the range
NEAREST = 1e-11  # to 1: with a tenth of it left, a number of 12 digits is still told from 1
VALID = "linear over what is valid"


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


def place(value: float, low: float, high: float, scale: str, whole: bool) -> float:
    """Position of a value in [low, high], 0 to 1; an integer's is the middle of its share of the range."""
    there = BENT[scale][0]
    if whole:
        value, high = value + 0.5, high + 1
    if high <= low:
        return 0.5
    start = there(low)
    return (there(value) - start) / (there(high) - start)


def spread(u: float, low: float, high: float, scale: str, whole: bool) -> float:
    """The value at position `u` (0 to 1) of [low, high]; floats keep 12 significant digits."""
    there, back = BENT[scale]
    if not whole and high <= low:
        return low
    start, end = there(low), there(high + 1 if whole else high)
    value = back(start + u * (end - start))
    return int(min(max(math.floor(value), low), high)) if whole else min(max(twelve(value), low), high)


@dataclass(frozen=True)
class Range:
    """Where to look: [low, high] on a scale, or the values of `grid`, ascending. `why` says how it came about; `reach`
    is how far a search may go where the best lie at an end, () for no further."""

    low: float
    high: float
    scale: str = LINEAR
    why: str = ""
    grid: tuple[float, ...] = ()
    moves: bool = False  # the lower end moves with an upper end that another parameter sets
    reach: tuple[float, ...] = ()

    @classmethod
    def of(cls, grid: tuple[float, ...], scale: str = LINEAR, why: str = "") -> Range:
        """The range that is these values."""
        return cls(grid[0], grid[-1], scale, why, grid)

    @property
    def ends(self) -> tuple[float, float]:
        return (self.grid[0], self.grid[-1]) if self.grid else (self.low, self.high)

    def within(self, domain: Domain) -> Range:
        """The range inside the domain, with open ends left by a hair and a logarithm kept off zero."""
        if self.grid:
            return Range.of(tuple(v for v in self.grid if domain.holds(v)), self.scale, self.why)
        low, high, scale = max(self.low, domain.low), min(self.high, domain.high), self.scale
        if domain.whole:
            part = domain.narrowed(self.low, self.high)
            low, high, scale = part.low, part.high, LINEAR if part.low < 1 else scale
        elif low == high:  # as it is, to the last digit
            low, high = float(low), float(high)
        else:
            low = high * 1e-4 if scale == LOG and low <= 0 else low
            high = 1 - (1 - low) * 1e-4 if scale == COMPLEMENT and high >= 1 else high
            hair = OPEN_SHARE * (high - low)
            low = max(twelve(low + hair if domain.low_open and low <= domain.low else low), domain.low)
            high = min(twelve(high - hair if domain.high_open and high >= domain.high else high), domain.high)
            # Subnormal, no ratio can be taken; and of 1 nothing is left.
            if (scale == LOG and low < sys.float_info.min) or (scale == COMPLEMENT and high >= 1):
                scale = LINEAR
        return Range(low, high, scale, self.why, (), self.moves)  # `replace` is slow, and this is drawn


def reaching(name: str, found: Range, domain: Domain) -> Range:
    """The range with a reach: of a real number in logarithmic steps half of itself further either way, inside the
    domain. What is counted keeps its ends, and so do what is linear and shares, whose 1 the schema may not state: those
    are mostly all there is."""
    if (
        role_of(name).share
        or found.grid
        or domain.whole
        or found.scale != LOG
        or not 0 < found.low < found.high
    ):
        return found
    half = math.sqrt(found.high / found.low)
    wide = replace(found, low=found.low / half, high=found.high * half).within(domain)
    if wide.scale != LOG:
        return found
    return replace(found, reach=(min(wide.low, found.low), max(wide.high, found.high)))


def typical(name: str, domain: Domain) -> float:
    """A number to look around where the schema gives no default: what its role is usually set to, or the middle."""
    low, high, usual = domain.low, domain.high, role_of(name).usual
    if usual is not None and not domain.whole:
        return usual
    if math.isfinite(low):
        return (low + high) / 2 if math.isfinite(high) else max(2 * low, low + 1)
    return high - 1 if math.isfinite(high) else 1.0


def search_range(
    name: str, domain: Domain, default: float, leaf: Leaf | None = None, epochs: int | None = None
) -> Range:
    """The range to search for a number of `domain` around `default`, which must be in it. `leaf` may have a hint of
    its schema; `epochs` is the length of the training."""
    role, hint = role_of(name), dict(leaf.hint) if leaf else {}
    if leaf and (hint.get("low") is not None or hint.get("high") is not None):
        hinted = _hinted(domain, default, hint, leaf.default).within(domain)
        grid = domain.steps(hinted.low, hinted.high) if domain.stepped else ()
        return _stepped(domain, default) if domain.stepped and len(grid) < 2 else replace(hinted, grid=grid)
    if domain.stepped:
        return _stepped(domain, default)
    if role.word == "batch" and domain.whole:
        batch = _batch(domain, int(default))
        return batch if len(batch.grid) > 1 or domain.only is not None else search_range("", domain, default)
    usual = _whole(role, domain, default, epochs) if domain.whole else _real(role, domain, default)
    scaled = usual if hint.get("log") is None else rescaled(usual, bool(hint["log"]), domain)
    found = centred(scaled.within(domain), domain, default)
    alone = domain.whole and found.low == found.high  # a training of one epoch leaves no room for a warm-up
    return replace(found, low=found.low - 1, high=found.high + 1).within(domain) if alone else found


def _hinted(domain: Domain, default: float, hint: dict[str, Any], schema_default: Any) -> Range:
    """The hint {low, high, log}. A logarithmic one moves with a spec whose value is not the schema's default."""
    log, why, moved = bool(hint.get("log")), "the schema's search hint", 1.0
    usable = {
        key: end for key, end in hint.items() if end is not None and not (domain.whole and abs(end) > EXACT)
    }
    low, high = usable.get("low", domain.low), usable.get("high", domain.high)
    if log and is_number(schema_default) and schema_default * default > 0:
        moved = default / schema_default
    if moved != 1.0:
        low, high, why = low * moved, high * moved, why + ", moved to the spec's value"
    low = max(low, domain.low) if math.isfinite(low) else domain.low
    high = min(high, domain.high) if math.isfinite(high) else domain.high
    low = min(low, default) if math.isfinite(low) else default
    high = max(high, default) if math.isfinite(high) else default
    return Range(low, high, LOG if log and high > 0 else LINEAR, why)


def _real(role: Role, domain: Domain, default: float) -> Range:
    low, high = domain.low, domain.high
    if role.share and 0 <= default <= 1:  # what the word means, where the schema leaves it open
        low, high = max(low, 0.0), min(high, 1.0)
    rest = 1.0 - default
    if high <= 1.0 and role.near_one <= default and rest >= NEAREST:
        why = f"{role.noun}: what is left to 1 counts, so log(1 - x)"
        return Range(max(low, 1 - min(0.5, 10 * rest)), min(high, 1 - rest / 10), COMPLEMENT, why)
    if role.word == "dropout" and math.isfinite(low):
        return Range(low, min(high, max(0.5, 2 * default)), LINEAR, f"{role.noun}: linear from {low:g}")
    if role.share and math.isfinite(low) and math.isfinite(high):
        return Range(low, high, LINEAR, f"{role.noun}: {VALID}")
    if default > 0 and role.factor:
        why = f"{role.noun}: log, {role.factor:g} times either way"
        return Range(default / role.factor, default * role.factor, LOG, why)
    if default == 0 and low == 0 and role.top:
        return Range(0.0, min(high, role.top), LINEAR, f"{role.noun} that is off by default: linear from 0")
    return _unnamed(low, high, default)


def _unnamed(low: float, high: float, default: float) -> Range:
    """A number whose name tells nothing: its default and bounds decide."""
    if math.isfinite(low) and math.isfinite(high):
        position = (default - low) / (high - low) if high > low else 0.5
        if position >= EDGE or default <= low or low < 0:
            return Range(low, high, LINEAR, VALID)
        decades = math.log10(high / default)
        near = "the default is near the lower end: log"
        why = f"{decades:.1f} decades above the default: log, 10 times either way" if decades >= 1 else near
        return Range(default / 10, default * 10, LOG, why)
    if default > 0 and low >= 0:
        return Range(default / 10, default * 10, LOG, "no upper end: log, 10 times either way of the default")
    if default > 0 and low == -math.inf and high == math.inf:
        return Range(default / 4, default * 4, LOG, "no bounds: log, 4 times either way of the default")
    reach = abs(default) or 1.0
    reach = min(reach, default - low) if low < default and math.isfinite(low) else reach
    ends = max(low, default - reach), min(high, default + reach)
    return Range(*ends, LINEAR, "an open end: linear around the default")


def _whole(role: Role, domain: Domain, default: float, epochs: int | None) -> Range:
    low, high, d = domain.low, domain.high, int(default)
    if role.word == "warmup":
        top = min(high, max(d, (epochs or 10) // 2))
        return Range(max(low, 0), top, LINEAR, "warm-up: up to half the training")
    if role.word == "step size" and epochs:
        bottom, top = max(low, 1, min(d, epochs) // 10), min(high, max(d, epochs))
        return Range(min(bottom, d), top, _log_if_wide(bottom, top), "a tenth of the training to all of it")
    if domain.bounded and (d <= 0 or low < 0):
        return Range(low, high, LINEAR, VALID)
    if d <= 0:
        bottom = low if math.isfinite(low) else d - 4
        return Range(bottom, min(high, d + 4), LINEAR, "no upper end: a few steps around the default")
    if domain.bounded and role.word != "layers":
        return _within_bounds(low, high, d)
    bottom, top = max(low, d // 2, 0 if low == 0 and d < 2 else 1), min(high, max(2 * d, d + 2))
    why = f"{'layers' if domain.bounded else 'an open end'}: half to twice the default"
    return Range(bottom, top, _log_if_wide(bottom, top), why)


def _within_bounds(low: float, high: float, d: int) -> Range:
    if high <= 8 * d and (d - low + 0.5) / (high - low + 1) >= EDGE:
        bottom = max(low, d // 4)
        why = VALID if bottom == low else "linear from a quarter of the default"
        return Range(bottom, high, LINEAR, why, moves=bottom != low)
    bottom, top = max(low, d // 10, 1), min(high, d * 10)
    return Range(bottom, top, _log_if_wide(bottom, top), "wide bounds: 10 times either way of the default")


def _log_if_wide(low: float, high: float) -> str:
    return LOG if low >= 1 and high >= 8 * low else LINEAR


def _batch(domain: Domain, default: int) -> Range:
    """A quarter of the default to twice it, in doublings."""
    near: list[float] = [default, default + 1, default + 2]
    if default > 0:
        near = [max(1, default // 4), max(1, default // 2), default, default * 2]
        near += [4] if default == 1 else []
        near += [end for end in (domain.low, domain.high) if default / 4 < end < default * 2]
    grid = tuple(sorted({int(v) for v in near if domain.holds(int(v))}))
    return Range.of(grid, LOG, "a batch size: doublings from a quarter of the default to twice it")


def _stepped(domain: Domain, default: float) -> Range:
    """Powers: three steps either way. Multiples: half to twice the default, at most 64 of them."""
    if domain.power:
        reach = max(domain.power, 1 / domain.power) ** 3
        grid = domain.steps(default / reach, default * reach)
        why = f"powers of {domain.power:g}, three steps either way"
        return Range.of(grid or (default,), LOG if grid else LINEAR, why if grid else "")
    step = domain.multiple or 1.0
    reach = max(abs(default), 4 * step)
    stride = step * math.ceil(1.5 * max(abs(default) / step, 4.0) / 63)
    inside = replace(domain, low=max(domain.low, default - reach / 2), high=min(domain.high, default + reach))
    near = [x for k in range(-32, 64) if math.isfinite(x := default + k * stride)]
    grid = tuple(sorted({v for x in near if inside.holds(v := round(x) if domain.whole else twelve(x))}))
    return Range.of(grid, why=f"multiples of {stride:g} around the default") if grid else Range.of((default,))


def centred(found: Range, domain: Domain, default: float) -> Range:
    """The range moved until the default is in its middle 90 %, unless the domain's end is what the default sits on.

    The near end moves out as far as the domain goes; if that is not far enough, the far end moves in.
    """
    at_end = default in (domain.low, domain.high) or found.low == found.high
    if at_end or not found.low <= default <= found.high:
        return found
    share = place(default, found.low, found.high, found.scale, whole=False)
    if EDGE <= share <= 1 - EDGE:
        return found
    aim = 0.1 if share < EDGE else 0.9
    near = _moved(found, domain, default, aim, low=aim < 0.5)
    is_inside = EDGE <= place(default, near.low, near.high, near.scale, whole=False) <= 1 - EDGE
    return near if is_inside else _moved(near, domain, default, aim, low=aim > 0.5)


def _moved(found: Range, domain: Domain, default: float, aim: float, low: bool) -> Range:
    """The range with its low or high end moved such that the default lies at the share `aim` of it."""
    there, back = BENT[found.scale]
    at, left, right = there(default), there(found.low), there(found.high)
    start = back(at - (right - at) * aim / (1 - aim)) if low else found.low
    end = found.high if low else back(at + (at - left) * (1 - aim) / aim)
    if domain.whole:
        start, end = math.floor(start), math.ceil(end)
    why = found.why.replace(VALID, "linear around the default")
    moved = replace(found, low=start, high=end, why=why).within(domain)
    return moved if moved.low < moved.high else found


def rescaled(found: Range, log: bool, domain: Domain) -> Range:
    """The range on the scale that a person asked for."""
    if not log:
        return replace(found, scale=LINEAR)
    low = (1 if domain.whole else found.high * 1e-4) if found.low <= 0 else found.low
    return replace(found, low=low, scale=LOG)

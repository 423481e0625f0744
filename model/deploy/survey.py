"""Every form of a network, scored and timed, with a forecast of how long that takes.

The work goes by units: one input size and number of queries, exported once with all its number formats and layers. The
order of the units is such that those done first differ most, so that what a time limit leaves out lies between others.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.deploy import scoring, shrink, targets, timing
from model.deploy.points import Form, Point
from model.told import told

if TYPE_CHECKING:
    from model.actions.deploy import Maker

Unit = tuple[int, int, int]  # height, width, queries
TIMED_IMAGES = 16


@dataclass
class Pace:
    """How long the rest takes: `turn_s` of one point's turn on the clock, `turns` of them for each point."""

    units: int
    points: int
    turns: int
    limit_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    turn_s: float = 0.0
    done_units: int = 0
    done_points: int = 0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def timing_s(self, points: int) -> float:
        return points * self.turns * self.turn_s

    def left_s(self) -> float:
        """Seconds that the units that are not done take, and the timing of all points."""
        each = (self.clock() - self.began) / max(1, self.done_units)
        return each * (self.units - self.done_units) + self.timing_s(self.points)

    def fits_another(self, more: int) -> bool:
        """Whether a unit of `more` points, and the timing of it and those before, still fit the limit."""
        if self.limit_s is None or not self.done_units:
            return True
        spent = self.clock() - self.began
        return spent * (1 + 1 / self.done_units) + self.timing_s(self.done_points + more) <= self.limit_s

    def __str__(self) -> str:
        left = f", about {self.left_s():.0f} s left" if self.done_units else ""
        return f"{self.done_points} of {self.points} points scored{left}"


def measured(
    made: Maker, forms: Sequence[Form], data: Mapping[str, Any], limit_s: float | None = None,
    say: Callable[[str], Any] = partial(print, flush=True),
) -> list[Point]:  # fmt: skip
    """The forms' points, in their order; fewer when `limit_s` seconds do not suffice for all, but those of one unit at
    least. data: {split: CocoData}, val among them."""
    section, images = made.spec["deploy"], timed_images(data["val"])
    units = _units(forms)
    pace = Pace(len(units), len(forms), section["rounds"], limit_s)
    scores: dict[Form, dict[str, tuple[float, float | None]]] = {}
    files: dict[Form, Path] = {}
    read: dict[tuple[str, int, int], scoring.Batches] = {}
    with tempfile.TemporaryDirectory(prefix="deploy-") as temporary:
        for unit, here in units.items():
            if not pace.fits_another(len(here)):
                say(
                    f"deploy.max_time is reached: {len(forms) - len(scores)} of {len(forms)} points are left out"
                )
                break
            several = _made(made, unit, here, Path(temporary), pace)
            for split, each in data.items():
                batches = read.setdefault((split, *unit[:2]), scoring.Batches(each, unit[:2], made.spec))
                for form, found in _scored(several, here, batches, split, made.spec).items():
                    scores.setdefault(form, {})[split] = found
            files |= _cut(several, here)
            if not pace.done_units:
                pace.turn_s = _turn_s(targets.opener(section["target"], files[here[0]]), images, made.spec)
            pace.done_units, pace.done_points = pace.done_units + 1, pace.done_points + len(here)
            say(str(pace))
        opened = {form: targets.opener(section["target"], files[form]) for form in forms if form in files}
        times = timing.measure(opened, images, made.spec, section["rounds"], section["runs"])
        return [_point(f, scores[f], times[f], files[f].stat().st_size) for f in opened]


def timed_images(data: Any) -> list[Path]:
    """Of the validation set, those that every point is timed on."""
    return [data.file(i) for i in range(min(TIMED_IMAGES, len(data)))]


def spread(forms: Sequence[Form], count: int | None = None) -> list[Form]:
    """`count` of the forms, all where None: the first, then always the one that differs most from those before."""
    axes = [list(dict.fromkeys(column)) for column in zip(*map(_axes_of, forms), strict=True)]
    places = np.array(
        [[a.index(v) / max(1, len(a) - 1) for a, v in zip(axes, _axes_of(f), strict=True)] for f in forms]
    )
    order, nearest = [0], np.abs(places - places[0]).sum(1)
    while len(order) < min(len(forms), count or len(forms)):
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.abs(places - places[order[-1]]).sum(1))
    return [forms[i] for i in order]


def _axes_of(form: Form) -> tuple[Any, ...]:
    return form.layers, form.queries, (form.height, form.width), form.precision


def _units(forms: Sequence[Form]) -> dict[Unit, list[Form]]:
    found: dict[Unit, list[Form]] = {}
    for form in spread(forms):
        found.setdefault((form.height, form.width, form.queries), [])
    for form in forms:
        found[form.height, form.width, form.queries].append(form)
    return found


def _made(made: Maker, unit: Unit, here: Sequence[Form], folder: Path, pace: Pace) -> dict[str, Path]:
    """{number format: file with the predictions of all layers that are asked of it}."""
    height, width, queries = unit
    layers = list(dict.fromkeys(f.layers for f in here))
    kinds = list(dict.fromkeys(f.precision for f in here))
    with told(f"exporting {queries} queries at {width}x{height} ({pace})"):
        return made.files(folder / f"{width}x{height}_{queries}", (height, width), queries, layers, kinds)


def _scored(
    several: Mapping[str, Path], here: Sequence[Form], batches: scoring.Batches, split: str, spec: Mapping[str, Any]
) -> dict[Form, tuple[float, float | None]]:  # fmt: skip
    wanted = {kind: [f.layers for f in here if f.precision == kind] for kind in several}
    what = f"scoring {here[0].queries} queries at {here[0].width}x{here[0].height} on {split}"
    found = scoring.score(several, wanted, batches, spec, what)
    return {form: found[form.precision, form.layers] for form in here}


def _cut(several: Mapping[str, Path], here: Sequence[Form]) -> dict[Form, Path]:
    """{form: its own file}; those of several layers are removed."""
    files = {}
    for form in here:
        source = several[form.precision]
        files[form] = source.with_name(f"{form.precision}_{form.layers}.onnx")
        shrink.cut(source, files[form], form.layers)
    for path in several.values():
        path.unlink()
    return files


def _turn_s(opened: Callable[[], Any], images: Sequence[Path], spec: Mapping[str, Any]) -> float:
    began = time.monotonic()
    timing.turn(opened, images, spec, spec["deploy"]["runs"])
    return time.monotonic() - began


def _point(form: Form, scores: Mapping[str, Any], times: Any, size: int) -> Point:
    mAP, threshold = scores["val"]
    test = scores["test"][0] if "test" in scores else None
    return Point(form, mAP, test, threshold, times.whole, times.low, times.high, times.network, size)

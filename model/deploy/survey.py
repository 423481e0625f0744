"""Every form of a network, scored and timed, with a forecast of how long that takes.

The work goes by units: one input size and number of queries, exported once with all its number formats and layers. The
order of the units is such that those done first differ most, so that what a time limit leaves out lies between others.
What a unit scored is kept at once, and what was measured before is not measured again.
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
from model.deploy.measurements import Cost, Measurements
from model.deploy.points import Form, Point
from model.deploy.scoring import Scored
from model.errors import number_of
from model.told import told

if TYPE_CHECKING:
    from model.actions.deploy import Maker

Unit = tuple[int, int, int]  # height, width, queries
TIMED_IMAGES = 16
_say = partial(print, flush=True)


@dataclass
class Pace:
    """Whether there is time for more. What is left to do is forecast by the longest of what was done, `cost`: so many
    seconds each unit, `turns` on the clock for each point, and at the end the export of what is chosen, measured again.
    """

    units: int
    points: int
    turns: int
    limit_s: float | None = None
    needed: bool = True  # a unit, whatever it takes: the table has no point yet
    cost: Cost = field(default_factory=Cost)
    clock: Callable[[], float] = time.monotonic
    done_units: int = 0
    done_points: int = 0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def spent_s(self) -> float:
        return self.clock() - self.began

    def ending_s(self, points: int) -> float:
        """Seconds that it takes to be done, from here, with so many points to time."""
        return self.cost.export_s + (points + 1) * self.turns * self.cost.turn_s

    def left_s(self) -> float:
        """The same with all units that are not done, and all points."""
        return self.cost.unit_s * (self.units - self.done_units) + self.ending_s(self.points)

    def fits_another(self, more: int) -> bool:
        """Whether it ends within the limit with one more unit, of `more` points; the first one that is needed does."""
        if self.limit_s is None or (self.needed and not self.done_units):
            return True
        return self.spent_s() + self.cost.unit_s + self.ending_s(self.done_points + more) <= self.limit_s

    def fits_ending(self) -> bool:
        """Whether it ends within the limit with one more file written and measured again."""
        return self.limit_s is None or self.spent_s() + self.ending_s(0) <= self.limit_s

    def say_ending(self) -> None:
        """That what is chosen takes longer than the limit, where nothing was measured before it that told so."""
        if not self.done_units and not self.fits_ending():
            _say(
                f"deploy.max_time of {self.limit_s:g} s is less than the least there is, the export of what is chosen: "
                f"about {self.spent_s() + self.ending_s(0):.0f} s in all"
            )

    def __str__(self) -> str:
        left = f", about {self.left_s():.0f} s left" if self.cost.unit_s else ""
        return f"{self.scored()}{left}"

    def scored(self) -> str:
        return f"{self.done_points} of {number_of(self.points, 'point')} scored"


def measured(
    made: Maker, forms: Sequence[Form], data: Mapping[str, Any], kept: Measurements, pace: Pace
) -> None:
    """Measure the forms, into `kept`; fewer when the pace's limit does not suffice for all, but
    one unit where it needs one. data: {split: CocoData}, val among them."""
    section, images = made.spec["deploy"], timed_images(data["val"])
    files: dict[Form, Path] = {}
    read: dict[tuple[str, int, int], scoring.Batches] = {}
    with tempfile.TemporaryDirectory(prefix="deploy-") as temporary:
        for unit, here in units(forms).items():
            if not pace.fits_another(len(here)):
                left = pace.points - pace.done_points
                _say(
                    f"deploy.max_time: {left} of {number_of(pace.points, 'point')} {'is' if left == 1 else 'are'} left "
                    f"out, for {len(here)} more take about {pace.cost.unit_s:.0f} s and would end too late"
                )
                break
            began, name = time.monotonic(), f"{number_of(unit[2], 'query')} at {unit[1]}x{unit[0]}"
            several = _made(made, unit, here, Path(temporary), f"{name} ({pace.scored()})")
            export_s = time.monotonic() - began
            for split, each in data.items():
                batches = read.setdefault((split, *unit[:2]), scoring.Batches(each, unit[:2], made.spec))
                lacking = [form for form in here if split not in kept.scores.get(form, {})]
                _say(f"scoring {name} on {split}")
                kept.add_scores(split, _scored(several, lacking, batches, split, made.spec))
            _say(f"making a file of each of {number_of(len(here), 'point')}")
            files |= _cut(several, here)
            turn_s = _turn_s(targets.opener(section["target"], files[here[0]]), images, made.spec)
            pace.cost = kept.cost = pace.cost.longest(time.monotonic() - began, export_s, turn_s)
            pace.done_units, pace.done_points = pace.done_units + 1, pace.done_points + len(here)
            _say_pace(pace)
        if not files:
            return
        opened = {form: targets.opener(section["target"], file) for form, file in files.items()}
        times = timing.measure(opened, images, made.spec, section["rounds"], section["runs"])
        sizes = {form: file.stat().st_size for form, file in files.items()}
    kept.add_points({f: _point(f, kept.scores[f], times[f], sizes[f]) for f in files})


def _say_pace(pace: Pace) -> None:
    _say(str(pace))
    ends = pace.spent_s() + pace.ending_s(pace.done_points)
    if pace.needed and pace.done_units == 1 and pace.limit_s is not None and ends > pace.limit_s:
        _say(
            f"deploy.max_time of {pace.limit_s:g} s is less than the least there is, one input size and number of "
            f"queries and the export of what is chosen: about {ends:.0f} s in all"
        )


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


def units(forms: Sequence[Form]) -> dict[Unit, list[Form]]:
    """The forms by the unit that they are of, in the order in which the units are taken up."""
    found: dict[Unit, list[Form]] = {}
    for form in spread(forms) if forms else ():
        found.setdefault((form.height, form.width, form.queries), [])
    for form in forms:
        found[form.height, form.width, form.queries].append(form)
    return found


def _made(made: Maker, unit: Unit, here: Sequence[Form], folder: Path, name: str) -> dict[str, Path]:
    """{number format: file with the predictions of all layers that are asked of it}."""
    height, width, queries = unit
    layers = list(dict.fromkeys(f.layers for f in here))
    kinds = list(dict.fromkeys(f.precision for f in here))
    _say(f"exporting {name}")
    with told(f"exporting {name}"):
        return made.files(folder / f"{width}x{height}_{queries}", (height, width), queries, layers, kinds)


def _scored(
    several: Mapping[str, Path], here: Sequence[Form], batches: scoring.Batches, split: str, spec: Mapping[str, Any]
) -> dict[Form, Scored]:  # fmt: skip
    if not here:
        return {}
    wanted = {kind: [f.layers for f in here if f.precision == kind] for kind in several}
    files = {kind: several[kind] for kind, layers in wanted.items() if layers}
    what = f"scoring {number_of(here[0].queries, 'query')} at {here[0].width}x{here[0].height} on {split}"
    found = scoring.score(files, wanted, batches, spec, what)
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


def _point(form: Form, scores: Mapping[str, Scored], times: Any, size: int) -> Point:
    val, test = scores["val"], scores.get("test")
    return Point(
        form, val.mAP, test.mAP if test else None, val.threshold, times.whole, times.low, times.high, times.network,
        size, val.f1,
    )  # fmt: skip

"""Finite numbers so large that neither their squares nor their sums are any: a trial that diverged reports them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from automl import loop, report
from automl.progress import Progress
from automl.report.svg import Axis, Line, lines
from automl.request import RunRequest
from tests.automl.toy import toy

LARGEST = 1.7e308


@pytest.mark.parametrize("sampler", ["fgp", "tpe"])
def test_a_search_and_its_report_take_them_without_a_warning(sampler: str, tmp_path: Path) -> None:
    model = toy(tmp_path / "toy", epochs=7)
    trainer = model / "trainer.py"
    values = f"[float(spec['lr']), {LARGEST}, -{LARGEST}, 5e-324][(int(folder[-4:]) * 3 + epoch) % 4]"
    trainer.write_text(trainer.read_text().replace('float(spec["lr"]) * (epoch + 1)', values))
    root, said = tmp_path / "run", []
    progress = Progress(quiet=True)
    progress.note = said.append  # type: ignore[method-assign]
    request = RunRequest(
        model=str(model), executor="local", stages=(), trials=14, sampler=sampler, scheduler="none"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        outcome = loop.run(request, root, progress)
        page = report.write(root).read_text()
    assert outcome.winner.value == LARGEST
    assert "1.7e+308" in page
    assert not any("report.html was not written" in text for text in said), said


@pytest.mark.parametrize(
    "ys", [(-LARGEST, LARGEST), (LARGEST, LARGEST), (0.0, 5e-324), (1.0, LARGEST), (-LARGEST, 0.5)]
)
@pytest.mark.parametrize("log", [False, True])
def test_a_chart_of_them_has_places_for_all(ys: tuple[float, float], log: bool) -> None:
    log = log and min(ys) > 0
    text = lines(Axis("epoch", (1, 2)), Axis("score", ys, log=log), [Line("a", [(1, ys[0]), (2, ys[1])])])
    assert "inf" not in text
    assert "nan" not in text


def test_whole_numbers_far_apart_are_not_counted_one_by_one() -> None:
    text = lines(
        Axis("epoch", (1, 2_000_000_000), whole=True), Axis("score", (0.0, 1.0)), [Line("a", [(1, 0.0)])]
    )
    assert re.findall(r">([^<]+)<", text)[6:-2] == ["1", "5e+08", "1e+09", "1.5e+09", "2e+09"]

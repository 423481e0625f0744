"""Charts and figures whose texts are long, close together, or large."""

from __future__ import annotations

import re
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner

from automl import cli
from automl.metric import Metric, figure, signed
from automl.report import gather, parts, search, svg, verdict
from automl.tail import last_line
from tests.automl import known

NARROWEST = 6.5  # drawing units that a column of letters takes on the page, at least


def left_of_texts(drawing: str) -> list[tuple[float, str]]:
    """(where it begins, text) of those that end at a place, as far as letters can be reckoned."""
    found = re.findall(r'<text[^>]* x="([\d.-]+)"[^>]*text-anchor="end">([^<]*)', drawing)
    return [(float(x) - NARROWEST * cell_len(unescape(text)), text) for x, text in found]


def left_edge(drawing: str) -> float:
    return float(re.search(r'viewBox="([\d.-]+) ', drawing).group(1))  # type: ignore[union-attr]


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_no_sign_of_a_tick_is_cut_off(low: float, spread: float) -> None:
    drawing = svg.lines(svg.Axis("epoch", [1.0, 9.0]), svg.Axis("loss", [low, low + spread]), [])
    assert all(at >= left_edge(drawing) for at, _ in left_of_texts(drawing))


@pytest.mark.parametrize("name", ["RBC <b>x</b>‹/script›", "白血球と赤血球の画像の名前", "W" * 40])
def test_names_beside_a_matrix_and_bars_are_whole_or_visibly_shortened(name: str) -> None:
    for drawing in (
        svg.matrix([name, "b"], [name, "b"], [[1, 2], [3, 4]], "is", "found as"),
        svg.bars([(name, 1.0)]),
    ):
        assert all(at >= left_edge(drawing) for at, _ in left_of_texts(drawing))


@given(st.floats(-1e9, 1e9), st.sampled_from([1e-3, 0.05, 1.0, 300.0]))
def test_ticks_and_columns_keep_apart_what_differs(offset: float, spread: float) -> None:
    values = [offset + spread * n / 4 for n in range(5)]
    if len(set(values)) < 5 or max(map(abs, values)) / spread > 1e11:
        return
    told = [svg.number(v, svg.digits(values)) for v in values]
    assert len(set(told)) == 5
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", parts.table(["v"], [[v] for v in values]))
    assert len(set(cells)) == 5


@pytest.mark.parametrize("parameters", [2, 7, 13])
def test_parallel_axes_fit_a_window_of_1100_px_and_no_title_covers_another(parameters: int) -> None:
    """Of 1100 px the page's padding and a scroll bar leave 1045."""
    axes = [svg.Axis(f"parameter_with_a_name_{n:02}", [1e-4, 2.5e-4]) for n in range(parameters + 1)]
    drawing = svg.parallel(axes, [([1e-4] * len(axes), "trial 0", "line", 0)])
    assert int(re.search(r"--w:(\d+)px", drawing).group(1)) <= 1045  # type: ignore[union-attr]
    rows: dict[str, list[float]] = {}
    for x, y in re.findall(r'class="title" x="(\d+)" y="(\d+)"', drawing):
        rows.setdefault(y, []).append(float(x))
    gaps = [b - a for xs in rows.values() for a, b in pairwise(xs)]
    assert min(gaps, default=999) >= 6 * 24  # letters of 6 px
    assert len(re.findall('class="title"', drawing)) == len(axes)


def test_the_first_of_parallel_axes_is_the_metric_s(tmp_path: Path) -> None:
    """Where they do not fit, what trials are compared by is in sight."""
    facts = gather.facts_of(known.searched(tmp_path, trials=4, scheduler="none", sampler="random"))
    drawing = search.parallel(facts)
    titles = re.findall(r'class="title"[^>]*>([^<]*)', drawing)
    assert titles[0] == facts.metric.name


def test_a_gain_has_no_digits_that_nobody_measured() -> None:
    elbo = Metric("elbo")
    assert signed(elbo.gain(-249930.0004, -249943.3212)) == "+13.3208"
    assert (figure(-249930.0004), figure(-1234.5678)) == ("-249930.0004", "-1234.5678")
    assert Metric("nll", maximize=False).gain(2.5e8 + 1, 2.5e8 + 4) == 3


def test_a_winner_that_was_compared_with_nothing_has_its_figures(tmp_path: Path) -> None:
    run = known.searched(tmp_path, trials=1, scheduler="none", sampler="random")
    facts = gather.facts_of(run)
    facts.stages[:] = [
        {"name": "evaluate", "ok": True, "shows": ["test_f"], "metrics": {"test_f": 0.25}, "message": "done"}
    ]
    columns, rows = verdict.table(facts)
    assert columns[-1] == "evaluate: test_f"
    assert [row[-1] for row in rows] == [0.25]


def test_a_page_and_its_figures_are_asked_for_one_by_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["report", str(tmp_path), "--json", "--out", str(tmp_path / "x.html")])
    assert isinstance(done.exception, cli.UserError)
    assert "give one of them" in str(done.exception)


@pytest.mark.parametrize(
    "line",
    [b"\x1b[31mError:\x1b[0m it broke", b"\x1b]8;;http://x\x1b\\Error:\x1b]8;;\x1b\\ it broke\x1b[K", b"\x1b[1;38;5;9mError:\x1b(B\x1b[m it broke"],
)  # fmt: skip
def test_colours_of_a_log_are_no_words(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"before\n" + line + b"\n\x1b[0m\n")
    assert last_line(tmp_path / "log.txt") == "Error: it broke"

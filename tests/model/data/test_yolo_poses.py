"""Labels of poses and tracks are never taken for polygons in silence, and polygons never for poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.data.check import inspect
from model.data.layouts import in_place
from model.data.yolo_poses import refuse_unsaid_poses
from model.errors import UserError
from model.spec import default_spec
from tests.model.data.drawn import put, seen
from tests.model.data.test_yolo_names import BOX, SPLITS, labelled

pytestmark = pytest.mark.usefixtures("cache")
YAML = f"{SPLITS}names: [a, b]\n"


def line(values: list[float]) -> str:
    return "0 " + " ".join(f"{v:.6g}" for v in values)


def pose(random: np.random.Generator, count: int, size: int) -> str:
    """A box in the image, points in and near it; some are not there."""
    w, h = random.uniform(0.05, 0.6, 2)
    cx, cy = random.uniform(w / 2, 1 - w / 2), random.uniform(h / 2, 1 - h / 2)
    values = [cx, cy, w, h]
    for _ in range(count):
        seen = float(random.integers(3))
        point = (
            [0.0, 0.0]
            if not seen
            else [cx + w * random.uniform(-0.5, 0.5), cy + h * random.uniform(-0.5, 0.5)]
        )
        values += [*point, seen][:size]
    return line(values)


def polygon(random: np.random.Generator, count: int) -> str:
    """Points around a centre, anywhere in the image."""
    centre, radius = random.uniform(0.1, 0.9, 2), random.uniform(0.03, 0.1)
    turns = np.sort(random.uniform(0, 2 * np.pi, count))
    points = np.stack([np.cos(turns), np.sin(turns)], axis=1) * radius + centre
    return line(points.ravel().tolist())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 20),
    size=st.sampled_from([2, 3]),
    rows=st.integers(1, 80),
)
def test_poses_are_refused_where_nothing_says_so(
    seed: int, count: int, size: int, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(seed)
    file = tmp_path_factory.mktemp("poses") / "x.txt"
    put(file, "\n".join(pose(random, count, size) for _ in range(rows)))
    if (4 + count * size) % 2:
        refuse_unsaid_poses(file, [file])  # no polygon either: refused where it is read
    else:
        with pytest.raises(
            UserError,
            match=r"set in data\.yaml \(beside names\) kpt_shape: \[\d+, [23]\] where they are poses",
        ):
            refuse_unsaid_poses(file, [file])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), count=st.integers(3, 12), one_length=st.booleans())
def test_polygons_are_no_poses(
    seed: int, count: int, one_length: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(seed)
    file = tmp_path_factory.mktemp("polygons") / "x.txt"
    lengths = [count if one_length else int(random.integers(3, 12)) for _ in range(60)]
    put(file, "\n".join(polygon(random, length) for length in lengths))
    refuse_unsaid_poses(file, [file])


def test_turned_boxes_and_plain_boxes_are_no_poses(tmp_path: Path) -> None:
    put(tmp_path / "turned.txt", "0 .4 .3 .6 .4 .5 .6 .3 .5\n" * 3)
    put(tmp_path / "plain.txt", "0 .5 .5 .2 .2\n" * 3)
    put(tmp_path / "mixed.txt", "0 .5 .5 .2 .2\n0 .4 .3 .6 .4 .5 .6 .3 .5\n" * 3)
    for file in sorted(tmp_path.glob("*.txt")):
        assert refuse_unsaid_poses(file, [file]) == ()


def test_poses_among_plain_boxes_are_refused_and_few_are_noted(tmp_path: Path) -> None:
    file, row = tmp_path / "x.txt", "0 .5 .5 .4 .4 .4 .4 .6 .6\n"
    for text in (f"{row * 2}1 .5 .5 .2 .2\n", row * 12 + "1 .5 .5 .2 .2\n" * 40):
        put(file, text)
        with pytest.raises(UserError, match="labels of 8 numbers may be poses of 2 points or polygons of 4"):
            refuse_unsaid_poses(file, [file])
    put(file, "1 .5 .5 .2 .2\n" * 40 + row)
    (note,) = refuse_unsaid_poses(file, [file])
    assert "the 1 labels of 8 numbers may be poses" in note
    assert note.endswith("read as polygons")


@pytest.mark.parametrize(
    "rows",
    [["0 0.5 0.5 0.2 0.25 0.91 2"] * 3, [f"0 0.5 0.5 0.2 0.25 0.91 {n}" for n in range(40)],
     [f"0 .1 .2 .3 .2 .4 .6 {'.2 .5 ' * (n % 3)}0.88 {n}" for n in range(9)]],
    ids=["one track", "tracks", "tracks of polygons"],
)  # fmt: skip
def test_what_a_tracker_wrote_is_no_polygon(rows: list[str], tmp_path: Path) -> None:
    put(tmp_path / "x.txt", "\n".join([*rows, "1 .5 .5 .2 .2"]))
    with pytest.raises(UserError, match=f"the {len(rows)} labels may be what a tracker wrote"):
        refuse_unsaid_poses(tmp_path / "data.yaml", [tmp_path / "x.txt"])


@pytest.mark.parametrize("boxes", [0, 200])
@pytest.mark.parametrize(
    "row",
    ["0 0.5 0.5 0.2 0.25 0.91 1", "0 0.3 0.4 0.5 0.4 0.4 0", "0 0.5 0.4 0.46 0.6 0.45 1",
     "0 .3 .1 .5 .4 .6 .2 .4 0"],
    ids=["one track", "triangle", "lane", "quadrilateral"],
)  # fmt: skip
def test_what_ends_on_a_border_may_be_polygons(row: str, boxes: int, tmp_path: Path) -> None:
    put(tmp_path / "x.txt", f"{row}\n" * 20 + "1 .5 .5 .2 .2\n" * boxes)
    (note,) = refuse_unsaid_poses(tmp_path / "data.yaml", [tmp_path / "x.txt"])
    assert "the 20 labels may be what a tracker wrote" in note
    assert note.endswith("read as polygons")


def test_outlines_of_the_whole_image_are_no_poses(tmp_path: Path) -> None:
    ring = ["0 0", "1 0", "1 1", "0 1"] * 2
    for n in range(4):
        row = " ".join(ring[n : n + 4] + ring[n : n + 1])
        put(tmp_path / "x.txt", f"0 .5 .5 .2 .2\n1 {row}\n" * 20)
        assert refuse_unsaid_poses(tmp_path / "data.yaml", [tmp_path / "x.txt"]) == ()


def test_no_file_is_named_that_is_not_there(tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", "0 .5 .5 .2 .4 .45 .4 .6 .6\n")
    put(root / "classes.txt", "a\nb\n")
    (root / "data.yaml").unlink(missing_ok=True)
    with pytest.raises(UserError, match=f"{root}: the .* set in data.yaml"):
        in_place(str(root))


@pytest.mark.parametrize(
    "rows",
    [["0 .1 .2 .3 .1 .2 .6"] * 3, ["0 .1 .2 .3 .1 .4 1"] * 3, ["0 .5 .5 .2 .25 .91 1", "0 .2 .2 .4 .1 .5 .7"] * 3,
     ["0 .1 .5 .4 .5 .4 1 .2 1"] * 3, ["0 .1 .5 .4 .5 .4 inf", "0 nan .5 .4 .5 .4 1"]],
    ids=["triangles", "on the border", "one on the border", "cut by the border", "no numbers"],
)  # fmt: skip
def test_polygons_are_no_tracks(rows: list[str], tmp_path: Path) -> None:
    put(tmp_path / "x.txt", "\n".join(rows))
    assert refuse_unsaid_poses(tmp_path / "data.yaml", [tmp_path / "x.txt"]) == ()


@pytest.mark.parametrize(
    ("row", "shape"),
    [("0 .5 .5 .2 .4 .4 .4 1 .6 .6 1", "[2, 3]"), ("0 .5 .5 .2 .4 .5 .5 .2 .4", "[2, 2]"),
     ("0 .5 .5 .2 .4 .45 .4 .6 .6", "[2, 2]"), ("0 .5 .5 .2 .4 .45 .4 .6 .6 .5 .5", "[3, 2]")],
)  # fmt: skip
def test_the_way_out_leads_out(row: str, shape: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "data", f"{row}\n")
    put(root / "data.yaml", YAML)
    with pytest.raises(UserError) as caught:
        in_place(str(root))
    assert f"kpt_shape: {shape} where they are poses" in str(caught.value)
    put(root / "data.yaml", f"{YAML}kpt_shape: {shape}\n")
    assert seen(in_place(str(root)))["train"]["train0"] == [("a", *map(pytest.approx, (8, 3, 4, 4)))]
    put(root / "data.yaml", f"{YAML}kpt_shape: [0, 0]\n")
    ((_, *box),) = seen(in_place(str(root)))["train"]["train0"]
    assert box != pytest.approx((8, 3, 4, 4))


@pytest.mark.parametrize(
    ("shape", "row", "message"),
    [
        ("[2, 3]", "0 .5 .5 .2 .4 .4 .4 .6 .6", "a pose must have 4 numbers and 6 by kpt_shape, but has 8"),
        (None, "0 .5 .5 .2 .4 .4 .4 1 .6 .6 1 .5 .5 1", "kpt_shape in data.yaml must say so"),
    ],
)  # fmt: skip
def test_poses_of_another_length_are_refused(
    shape: str | None, row: str, message: str, tmp_path: Path
) -> None:
    root = labelled(tmp_path / "data", f"{row}\n")
    put(root / "data.yaml", YAML + (f"kpt_shape: {shape}\n" if shape else ""))
    with pytest.raises(UserError, match=message):
        in_place(str(root))


def test_turned_boxes_across_the_border_are_cut_and_counted(tmp_path: Path) -> None:
    """As Label Studio writes YOLO with oriented boxes; a point in pixels is none of them."""
    inside = "".join(f"0 .2 .2 .4 .2 .4 .{n} .2 .{n}\n" for n in range(31, 71))
    root = labelled(tmp_path, inside + "0 .9 .5 1.137 .6 1.05 .8 .813 .7\n", "train")
    put(root / "data.yaml", "train: train/images\nnames: [a, b]\n")
    spec = default_spec("train")
    spec["dataset"]["batch_size"] = 1
    found = inspect(spec, str(root), work_dir=tmp_path)
    assert found["problems"] == []
    assert any("boxes beyond the border clipped, the first" in line for line in found["warnings"])
    for n in range(2):
        put(root / f"train/labels/train{n}.txt", inside + "0 .9 .5 1.6 .6 .95 .8 .813 .7\n")
    with pytest.raises(
        UserError, match=r"train0.txt:41: coordinates must be shares of the image, from 0 to 1"
    ):
        in_place(str(root))


@pytest.mark.parametrize(
    ("sixth", "tracked"),
    [
        ([["1", "2", ""], ["2", "3", "1"], ["3", "1"], ["4", "1", "2"], ["2", "3", "4"]], True),
        ([["31", "32", "33"], ["32", "33", "31"], ["0", "31", "32"], ["33", "32"]], True),
        ([["1", "2"], ["2", "3"]], False),  # too few to tell
        ([["45"], ["30"], ["45"], ["60"]], False),  # an angle a file
        (
            [["10", "175", "90"], ["20", "33", "71"], ["88", "41", "12"]],
            False,
        ),  # of angles too none need be twice
        ([[str((37 * n + 11 * k) % 180) for k in range(6)] for n in range(8)], False),  # nor of more of them
        ([["1", "2", "3"], ["2", "2", "1"], ["3", "1", "2"], ["2", "1"]], False),  # one of them is
        ([["1", "2", "3"], ["2", "3", "1"], ["3", "1", "2"], ["4.5", "1"]], False),
        ([["1", "2", "3"], ["2", "3", "1"], ["3", "1", "2"], ["-4", "1"]], False),
    ],
)
def test_a_sixth_field_is_a_tracks_number_where_all_are(
    sixth: list[list[str]], tracked: bool, tmp_path: Path
) -> None:
    """As CVAT exports Ultralytics YOLO Detection Track; what is no track has none."""
    for n, of_file in enumerate(sixth):
        lines = "".join(f"{n % 2} {BOX} {number}\n" for number in of_file)
        labelled(tmp_path / "data", lines, f"train/{n}")  # of two images each
    put(tmp_path / "data/data.yaml", "train: train\nnames: [a, b]\n")
    if not tracked:
        with pytest.raises(UserError, match=r"a sixth field may be a confidence.*track's number"):
            in_place(str(tmp_path / "data"))
        return
    found = in_place(str(tmp_path / "data"))
    count = 2 * sum(bool(number) for of_file in sixth for number in of_file)
    assert any(f"{count} lines whose sixth field is a track's number" in note for note in found.notes)
    assert [len(boxes) for boxes in seen(found)["train"].values()] == [
        len(f) for f in sixth for _ in range(2)
    ]

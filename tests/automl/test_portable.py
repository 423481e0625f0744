"""Specs that are handed over: what lies beside them is named from there, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from automl import bundle, portable

DETECTOR = bundle.resolve("deformable_detr")
PARTS = st.lists(st.sampled_from(["best", "run", "data", "a", "..", "x.json"]), max_size=5)


@given(PARTS, st.sampled_from(["", "default", "a/b"]))
def test_only_what_lies_in_the_folder_is_named_from_the_spec(parts: list[str], below: str) -> None:
    """Any path: read where it was written it is what it was; read in a copy, a path outside is the same again."""
    root = Path("/nowhere/run")
    handed, text = root / "best", str(Path("/nowhere/run", *parts))
    folder = handed / below
    written = portable._from(text, str(folder), str(handed), DETECTOR)
    real = Path(portable.os.path.normpath(text))
    inside = real == handed or handed in real.parents
    assert written.startswith("${here}") == inside
    if not inside:
        assert written == text
        return
    read = portable.placed({"a": written}, str(folder), DETECTOR.here)["a"]
    assert read == str(real)
    copied = portable.placed({"a": written}, str(Path("/else/where/deep") / below), DETECTOR.here)["a"]
    assert copied == str(Path("/else/where/deep") / real.relative_to(handed))


def test_a_copy_does_not_take_other_data_that_lie_at_the_same_place(tmp_path: Path) -> None:
    best = tmp_path / "one" / "run" / "best"
    for name in ("one", "two"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "test.json").write_text(json.dumps(name))
    full = {
        "dataset": {"test_data_sources": {"json_file": str(tmp_path / "one" / "data" / "test.json")}},
        "evaluate": {"checkpoint": str(best / "model.pth")},
        "encryption_key": f"@{best.parent}/secrets/encryption_key",
        "s3": "s3://bucket/x", "relative": "data/x",
    }  # fmt: skip
    best.mkdir(parents=True)
    portable.write(DETECTOR, best / "evaluate.yaml", full, best)
    assert portable.read(DETECTOR, best / "evaluate.yaml") == full
    copy = shutil.copytree(best, tmp_path / "two" / "run" / "best")
    found = portable.read(DETECTOR, copy / "evaluate.yaml")
    assert found["dataset"] == full["dataset"]
    assert found["evaluate"]["checkpoint"] == str(copy / "model.pth")
    assert found["encryption_key"] == f"@{copy.parent}/secrets/encryption_key"


def test_settling_keeps_data_where_they_are(tmp_path: Path) -> None:
    best = tmp_path / "best"
    (best / "compare").mkdir(parents=True)
    full = {
        "results_dir": str(best / "compare"),
        "evaluate": {"checkpoint": str(best / "model.onnx")},
        "data": "/d",
    }
    path = best / "compare" / "evaluate.yaml"
    portable.write(DETECTOR, path, full, best)
    portable.settle(DETECTOR, "evaluate", path, best)
    said = yaml.safe_load(path.read_text())
    assert said == {
        "results_dir": "${here}/results", "evaluate": {"checkpoint": "${here}/../model.onnx"}, "data": "/d",
    }  # fmt: skip


@pytest.mark.parametrize("link", ["run", "best"])
def test_links_above_are_seen_through(link: str, tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "best").mkdir(parents=True)
    linked = tmp_path / "run"
    linked.symlink_to(real)
    best = (linked if link == "run" else real) / "best"
    portable.write(
        DETECTOR, best / "a.yaml", {"x": str(real / "best" / "m"), "y": str(linked / "best" / "m")}, best
    )
    assert yaml.safe_load((best / "a.yaml").read_text()) == {"x": "${here}/m", "y": "${here}/m"}

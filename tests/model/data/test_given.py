"""Sources as a spec names them: null, blank, half."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.coco import load_sources
from model.data.layouts import find_data
from model.data.tree import given
from model.errors import UserError


def test_null_means_none() -> None:
    assert given([{"image_dir": None, "json_file": None}, {"image_dir": "", "json_file": ""}]) == []
    assert given([{"image_dir": None, "json_file": "a.json"}]) == [{"image_dir": "", "json_file": "a.json"}]


@pytest.mark.parametrize("nothing", [None, ""])
def test_images_without_annotations_are_refused(nothing: str | None, tmp_path: Path) -> None:
    half = {"image_dir": str(tmp_path), "json_file": nothing}
    with pytest.raises(UserError, match="needs a json_file"):
        find_data({"dataset": {"train_data_sources": [half]}}, None)
    with pytest.raises(UserError, match="needs a json_file"):
        load_sources([half])  # type: ignore[list-item]

"""Two exported networks, which take a minute to make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.model.deployed import make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return make(tmp_path_factory.mktemp("deploy"))


@pytest.fixture(scope="session")
def two_stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    fine = {"return_interm_indices": [0, 1]}  # more cells than queries
    return make(tmp_path_factory.mktemp("two"), two_stage=True, mixed_selection=True, **fine)


@pytest.fixture(params=["made", "two_stage"])
def each(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    return request.getfixturevalue(request.param)

"""What the tests of reading people's data share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.data.drawn import Drawn, draw


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Drawn]:
    """(a folder of drawn pictures, what is drawn)."""
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    return folder, draw(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"

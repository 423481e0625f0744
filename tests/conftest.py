"""Small data and specs that many tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests share the cores
# No test depends on what this machine has cached or can reach; those of the hub bring their own.
NOWHERE = os.path.join(os.path.dirname(__file__), "no", "such", "cache")
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=NOWHERE, TORCH_HOME=NOWHERE)
os.environ.pop("HF_HUB_CACHE", None)

import json  # noqa: E402
import sqlite3  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
import sqlalchemy  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same draws on every machine and day, however busy: a suite that was green stays so. New ones:
# --hypothesis-profile=explore.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# No test takes the machine's power away, and all else, a kill too, leaves what was written: none waits for the disk.
os.fsync = lambda _: None


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _without_waiting_for_the_disk(connection: Any, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.Error):  # of a damaged file, which the test itself shall meet
            connection.execute("PRAGMA synchronous=OFF")


# Optuna reads its scripts of migration two or three times for each storage that is opened, 70 ms: once is enough here. An
# Optuna that goes another way may.
with suppress(ImportError, AttributeError):
    from optuna.storages._rdb.storage import _VersionManager

    _scripts: list[Any] = []
    _read_scripts = _VersionManager._create_alembic_script

    def _scripts_once(self: _VersionManager) -> Any:
        if not _scripts:
            _scripts.append(_read_scripts(self))
        return _scripts[0]

    _VersionManager._create_alembic_script = _scripts_once  # type: ignore[method-assign]


# The files that take minutes are begun first (--no-loadscope-reorder keeps it so): begun last, by one worker of two, they
# let the other stand idle.
LONGEST = ("test_end_to_end", "test_points", "test_openvino", "test_executors", "test_train")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 12 + 4 + 4 pictures of 64x64."""
    from model.data.demo import write_demo

    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, images=(12, 4, 4), size=(64, 64))
    return folder


@pytest.fixture
def own_demo(tmp_path: Path) -> Path:
    """The same, to be damaged."""
    from model.data.demo import write_demo

    write_demo(tmp_path / "data", images=(12, 4, 4), size=(64, 64))
    return tmp_path / "data"


TINY: dict[str, Any] = {
    "dataset": {
        "batch_size": 4,
        "workers": 1,
        "num_classes": 4,
        "eval_class_ids": [1, 2, 3],
        "augmentation": {
            "scales": [64],
            "random_resize_max_size": 64,
            "train_random_resize": [64],
            "train_random_crop_min": 32,
            "train_random_crop_max": 64,
            "fixed_random_crop": None,
            "test_random_resize": 64,
        },
    },
    "model": {
        "backbone": "timm/test_resnet",  # a checkpoint of 5 MB, where resnet_18 takes 135
        "hidden_dim": 32,
        "nheads": 4,
        "dim_feedforward": 32,
        "enc_layers": 1,
        "dec_layers": 2,
        "num_queries": 100,
        "num_select": 50,
        "dropout_ratio": 0.0,
        "num_feature_levels": 2,
        "return_interm_indices": [2, 3],
    },
    "train": {"num_epochs": 2, "input_height": 64, "input_width": 64, "activation_checkpoint": False},
}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A partial train spec of the smallest network."""
    return json.loads(json.dumps(TINY))


def with_data(partial: dict[str, Any], data: Path) -> dict[str, Any]:
    """The partial spec with a demo dataset's sources in."""
    splits = {
        s: {"image_dir": str(data / s / "images"), "json_file": str(data / s / "annotations.json")}
        for s in ("train", "val", "test")
    }
    partial["dataset"] |= {
        "train_data_sources": [splits["train"]],
        "val_data_sources": [splits["val"]],
        "test_data_sources": splits["test"],
    }
    return partial

"""Two exported networks, which take a minute to make, and no graph made twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from model.deploy import onnx_export
from tests.model.deployed import key_of, make

GRAPHS = "GRAPHS_OF_THESE_TESTS"  # the folder, for a process with tests of its own


@pytest.fixture(scope="session", autouse=True)
def graphs_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """torch's exporter takes ten seconds a network: the graph of one that is the same to the last weight is kept."""
    base = tmp_path_factory.getbasetemp()
    # Of this run alone, for all its workers.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = Path(os.environ.get(GRAPHS, shared / "graphs"))
    folder.mkdir(exist_ok=True)
    made = onnx_export._lean_graph

    def kept(lean: Any, example: torch.Tensor, dynamic: bool, opset: int) -> onnx.ModelProto:
        file = folder / key_of(lean, tuple(example.shape), dynamic, opset)
        if not file.exists():
            onnx.save(made(lean, example, dynamic, opset), partial := folder / f"{file.name}.{os.getpid()}")
            partial.rename(file)
        return onnx.load(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(GRAPHS, str(folder))
        patch.setattr(onnx_export, "_lean_graph", kept)
        yield


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return make(tmp_path_factory.mktemp("deploy"))


@pytest.fixture(scope="session")
def two_stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    fine = {"backbone": "resnet_18", "return_interm_indices": [0, 1]}  # more cells than queries
    return make(tmp_path_factory.mktemp("two"), two_stage=True, mixed_selection=True, **fine)


@pytest.fixture(params=["made", "two_stage"])
def each(request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    return request.getfixturevalue(request.param)

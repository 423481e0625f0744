"""OpenVINO's form of the graph: written beside the ONNX file, read by every action, equal to it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model.actions import export, inference
from model.data.loaders import loader_workers
from model.deploy import card
from model.deploy.openvino import OpenVinoRunner
from model.deploy.runners import OrtRunner
from model.errors import NotRunnable, UserError
from tests.model.deployed import spec_of

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no openvino")


def exported(made: tuple[Path, dict[str, Any]], folder: Path, **leaves: Any) -> Path:
    """The .onnx file, whose .xml is beside it."""
    path = folder / "model of mine.onnx"
    export.run(spec_of("export", made[0], export__onnx_file=str(path), export__format="openvino", **leaves))
    return path


@needs_openvino
@pytest.mark.parametrize("batch", [-1, 1, 3])
def test_both_forms_find_the_same(made: tuple[Path, dict[str, Any]], tmp_path: Path, batch: int) -> None:
    path = exported(made, tmp_path, export__batch_size=batch)
    ours, theirs = OrtRunner(str(path)), OpenVinoRunner(str(path.with_suffix(".xml")))
    straight = OpenVinoRunner(str(path))
    assert theirs.card == ours.card == straight.card == card.read(path)
    assert theirs.size == ours.size == (64, 64)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(4, 64, 64, dtype=torch.bool)
    wanted = ours.infer(images, mask)
    for runner in (theirs, straight):
        found = runner.infer(images, mask)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, atol=2e-4, rtol=1e-3)


@needs_openvino
def test_inference_reads_it_with_what_it_says_of_itself(
    made: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path
) -> None:
    path = exported(made, tmp_path)

    def labels(checkpoint: Path, name: str) -> dict[str, list[str]]:
        leaves = {
            "inference__checkpoint": str(checkpoint), "results_dir": str(tmp_path / name),
            "dataset__infer_data_sources__image_dir": [str(demo / "test" / "images")],
            "inference__conf_threshold": 0.01,
        }  # fmt: skip
        inference.run(spec_of("inference", made[0], **leaves))
        files = sorted((tmp_path / name).rglob("labels/*.txt"))
        return {f.name: [line.split()[0] for line in f.read_text().splitlines()] for f in files}

    wanted = labels(path, "onnx")
    assert len(wanted) == 4
    assert labels(path.with_suffix(".xml"), "openvino").keys() == wanted.keys()


@needs_openvino
def test_images_are_read_in_the_process_that_runs_it(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A loader that is forked after OpenVINO has run takes the whole process with it."""
    path = exported(made, tmp_path)
    OpenVinoRunner(str(path.with_suffix(".xml")))
    assert loader_workers(8, 1, 1) == 0


@needs_openvino
def test_nobody_is_told_that_it_is_used(tmp_path: Path) -> None:
    """Its own import sends a message and leaves an identity in the home folder."""
    code = "from model.deploy.openvino import package; package().Core()"
    told = os.environ | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=told, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []


@needs_openvino
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".bin", ".xml.json"])
def test_what_is_there_is_not_written_over(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, suffix: str
) -> None:
    (tmp_path / f"model of mine{suffix}").write_text("mine")
    with pytest.raises(UserError, match=rf"model of mine{suffix} exists already"):
        exported(made, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"model of mine{suffix}"]


@needs_openvino
@pytest.mark.parametrize("text", ["", "<net/>", "nonsense"])
def test_a_file_that_is_none_of_its_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError, match=r"a\.xml: OpenVINO cannot load it"):
        OpenVinoRunner(str(tmp_path / "a.xml"))


@needs_openvino
def test_a_graph_that_stands_alone_is_written_and_not_run_by_ours(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path = exported(made, tmp_path, export__pre_post=True)
    with pytest.raises(UserError, match="stands alone|pre_post"):
        OpenVinoRunner(str(path.with_suffix(".xml")))


def test_without_the_package_it_is_refused_before_anything_is_written(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    with pytest.raises(NotRunnable, match=r"'detr-automl\[openvino\]'"):
        exported(made, tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_openvino
@pytest.mark.parametrize("name", ["mod.el ü", "net.ONNX", "model"])
def test_a_file_of_any_name_says_what_it_is(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    export.run(spec_of("export", made[0], export__onnx_file=str(path), export__format="openvino"))
    assert [c["name"] for c in card.read(path.with_suffix(".xml")).classes] == [
        "red cell",
        "square",
        "triangle",
    ]


@needs_openvino
def test_the_card_lies_beside_it(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = exported(made, tmp_path)
    told = json.loads((tmp_path / "model of mine.xml.json").read_text())
    assert [c["name"] for c in told["classes"]] == ["red cell", "square", "triangle"]
    assert told["input_size"] == [64, 64]
    assert path.with_suffix(".bin").stat().st_size > 1e6

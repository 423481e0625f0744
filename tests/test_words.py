"""The engine knows no model: no word of the detector stands in automl/, and its modules import each other in one
direction."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DETECTOR = set(
    """annotations.json bbox bboxes backbone backbones boxes coco detection detections detector detectors detr deformable
    deformable_detr denoising encoder decoder focal imagenet iou gen_trt_engine map50 num_classes num_queries num_select
    onnx resnet timm tensorrt test_map test_map50 trt trt_engine val_map val_map50 voc yolo""".split()
)
# What reads schemas of NVIDIA TAO's dialect has its words: names of types, of actions, and parameters it knows by name.
DIALECT = {
    "trt_engine",
    "backbone",
    "iou",
    "trt",
    "gen_trt_engine",
}
PARTS = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_.][A-Za-z0-9]+)*")


def words_of(text: str) -> set[str]:
    """Every name in a text, whole and in its parts, in lower case; CamelCase is taken apart too."""
    found = set()
    for match in PARTS.findall(text):
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", match) if not match.isupper() else match
        parts = re.split(r"[_.]", spaced.lower())
        found |= {
            match.lower(),
            *parts,
            *("_".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)),
        }
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "automl").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_word_of_the_detector_stands_in_the_engine(path: Path) -> None:
    allowed = DIALECT if "space" in path.parts else set()
    assert not (words_of(path.read_text()) & DETECTOR) - allowed


def test_the_words_are_found_however_they_are_written() -> None:
    text = "a['val_mAP'] DeformableDETR write_onnx('x.onnx') model.backbone trt_engine"
    assert words_of(text) & DETECTOR == {
        "val_map",
        "deformable",
        "deformable_detr",
        "detr",
        "onnx",
        "backbone",
        "trt",
        "trt_engine",
    }


def imports(package: str) -> dict[str, set[str]]:
    """Module -> modules of the same package that it imports when it is imported, not later or for types alone."""
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in (ROOT / package).rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        graph[name] = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                graph[name] |= {a.name for a in node.names if a.name in files}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{a.name}" for a in node.names}
                graph[name] |= (whole & files.keys()) or ({node.module} & files.keys())
    return graph


@pytest.mark.parametrize("package", ["automl"])
def test_no_import_circle(package: str) -> None:
    graph, done = imports(package), set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert len(done) == len(graph) > 20


@pytest.mark.parametrize(
    "path", sorted((ROOT / "automl").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_functions_and_files_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 58, node.name

"""The folder that is handed over, copied elsewhere: infer.py and the commands of its page."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from model import checkpoint as ckpt
from model import cli
from model.actions import inference
from model.data.transforms import View, shown
from model.deploy import card, package
from model.deploy.infer import shrunk, upright_rgb
from model.errors import UserError
from model.spec import resolve
from tests.model.choices import same_detections
from tests.model.deployed import CLASSES

SIZES = [(64, 64), (90, 50), (31, 77)]


@pytest.fixture
def best(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    folder = tmp_path / "best"
    folder.mkdir()
    shutil.copy(made[0] / "model.onnx", folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, (width, height) in enumerate(SIZES):
        noise = np.random.default_rng(i).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        Image.fromarray(noise).resize((width, height)).save(folder / f"{i}.png")
    return folder


def ours(model: Path, images: Path, out: Path) -> dict[str, list[dict[str, Any]]]:
    """{stem: detections} of our inference at threshold 0, from its label files."""
    partial = {"inference": {"checkpoint": str(model), "conf_threshold": 0.0, "results_dir": str(out)}}
    partial["dataset"] = {"infer_data_sources": {"classmap": "", "image_dir": [str(images)]}}
    inference.run(resolve("inference", partial))
    found = {}
    for path in sorted((out / "labels").glob("*.txt")):
        words = [line.split() for line in path.read_text().splitlines()]
        found[path.stem] = [
            {"category_id": w[0], "bbox": [float(v) for v in w[4:8]], "score": float(w[-1])} for w in words
        ]
    return found


def test_infer_py_gives_what_our_inference_gives(best: Path, images: Path, tmp_path: Path) -> None:
    package.write(best)
    command = [sys.executable, str(best / "infer.py"), "--threshold", "0", "--draw", str(tmp_path / "drawn")]
    files = [str(p) for p in sorted(images.iterdir())]
    done = subprocess.run([*command, *files], capture_output=True, text=True, cwd=tmp_path, check=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        file, name, score, *box = line.split("\t")
        one = {"category_id": name.replace(" ", "_"), "bbox": [float(v) for v in box], "score": float(score)}
        rows.setdefault(Path(file).stem, []).append(one)
    wanted = ours(best / "model.onnx", images, tmp_path / "out")
    assert set(rows) == set(wanted) == {"0", "1", "2"}
    for stem, found in rows.items():
        assert len(found) == len(wanted[stem]) == 50
        assert same_detections(found, wanted[stem], score=1.1e-3, box_px=0.11)  # as they are printed
    assert len(list((tmp_path / "drawn").iterdir())) == 3


def test_infer_py_needs_three_packages_and_eighty_odd_lines() -> None:
    text = Path(package.__file__).with_name("infer.py").read_text()
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }  # fmt: skip
    assert {m for m in modules if m not in sys.stdlib_module_names} == {"numpy", "PIL", "onnxruntime"}
    assert len(text.splitlines()) <= 85


@given(st.tuples(*[st.integers(1, 300)] * 4), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_images_are_resized_to_the_bit_as_ours_are(sizes: tuple[int, int, int, int], seed: int) -> None:
    height, width, *target = sizes
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    wanted = shown(Image.fromarray(pixels), View((0, 0, width, height), (target[0], target[1])))
    columns = shrunk(pixels.swapaxes(0, 1), target[1])
    got = shrunk(columns.swapaxes(0, 1), target[0])
    assert np.array_equal(got, wanted.permute(1, 2, 0).numpy())


def test_infer_py_runs_where_there_is_nothing_else(best: Path, images: Path, tmp_path: Path) -> None:
    """Python without this environment's packages but for the three: links to them in a folder of their own."""
    package.write(best)
    alone = tmp_path / "site"
    alone.mkdir()
    for name in ("numpy", "PIL", "onnxruntime"):
        home = Path(str(importlib.import_module(name).__file__)).parent
        for part in (home, home.parent / f"{name.lower().replace('pil', 'pillow')}.libs"):
            if part.exists():
                (alone / part.name).symlink_to(part)
    code = f"import sys, runpy; sys.path.append({str(alone)!r}); runpy.run_path({str(best / 'infer.py')!r}, run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", code, str(images / "0.png"), "--threshold", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 50


@pytest.mark.slow
def test_infer_py_runs_in_a_new_environment(best: Path, images: Path, tmp_path: Path) -> None:
    package.write(best)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "numpy", "pillow", "onnxruntime"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("no package index is within reach")
    command = [python, str(best / "infer.py"), str(images / "0.png"), "--threshold", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    here = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, cwd="/", check=True)
    assert done.stdout == here.stdout


@pytest.mark.parametrize("kind", ["grey16", "palette", "alpha", "rotated"])
def test_images_are_read_as_ours_are(tmp_path: Path, kind: str) -> None:
    from model.data.images import open_rgb

    pixels = np.random.default_rng(0).integers(0, 65536, (12, 20)).astype(np.uint16)
    image: Any = Image.fromarray(pixels)
    if kind != "grey16":
        image = Image.fromarray((pixels // 256).astype(np.uint8)).convert({"palette": "P", "alpha": "RGBA", "rotated": "RGB"}[kind])  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "rotated" else 1
    image.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(
        np.asarray(upright_rgb(tmp_path / "x.png")), np.asarray(open_rgb(tmp_path / "x.png"))
    )


def test_the_page_and_the_picture(best: Path, images: Path) -> None:
    evaluate = {"dataset": {"test_data_sources": {"image_dir": str(images), "json_file": "x"}}}
    (best / "evaluate.yaml").write_text(yaml.safe_dump(evaluate))
    (best / "evaluate").mkdir()
    (best / "evaluate" / "metrics.json").write_text(json.dumps({"test_mAP": 0.4321, "test_mAP50": 0.75}))
    written = package.write(best, {"trials": 12})
    assert {p.name for p in written} == {"infer.py", "README.md", "example.jpg"}
    page = (best / "README.md").read_text()
    for part in ("1 red cell, 2 square, 3 triangle", "| test_mAP (test) | 0.4321 |", "| trials | 12 |",
                 "[B, 3, 64, 64]", "example.jpg", "`model.onnx`"):  # fmt: skip
        assert part in page
    assert "$" not in page
    with Image.open(best / "example.jpg") as picture:
        assert picture.height == package.TILE_PX
    with pytest.raises(UserError, match=r"model\.onnx does not exist"):
        package.write(best / "evaluate")


def test_from_any_folder_by_the_file_alone(
    best: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load(best / "model.onnx")
    card.write_into(graph, card.Card(**vars(card.read(best / "model.onnx")) | {"threshold": 0.0}))
    onnx.save(graph, best / "model.onnx")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = CliRunner().invoke(
        cli.app, ["inference", "--checkpoint", "../best/model.onnx", str(images), "inference.outline_width=1"]
    )
    assert done.exit_code == 0, done.output
    found = sorted(p.name for p in Path("results/inference/labels").iterdir())
    assert found == ["0.txt", "1.txt", "2.txt"]
    assert "150 objects with a score of at least 0.000" in done.output


def test_words_of_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.png").write_bytes(b"")
    words = ["x.jpg", "a=b.png", "inference.outline_width=2"]
    assert cli.given("inference", words, "m.onnx") == {
        "dataset.infer_data_sources.image_dir": ["x.jpg", "a=b.png"], "inference.outline_width": 2,
        "inference.checkpoint": "m.onnx",
    }  # fmt: skip
    with pytest.raises(UserError, match="KEY=VALUE"):
        cli.given("evaluate", ["x.jpg"])
    with pytest.raises(UserError, match="has no --checkpoint"):
        cli.given("train", [], "m.onnx")
    assert isinstance(CliRunner().invoke(cli.app, ["export"]).exception, UserError)


@pytest.mark.parametrize("key", ["", "secret"])
def test_weights_without_what_training_alone_needs(tmp_path: Path, key: str) -> None:
    from model.encryption import encrypt, is_encrypted

    averaged = {"w": torch.ones(3)}
    state = {"model.w": torch.zeros(3), "ema.module.w": averaged["w"], "criterion.x": torch.zeros(1)}
    whole = {"state_dict": state, "spec": {"a": 1}, "classes": CLASSES, "metrics": {"val_mAP": 0.5}, "epoch": 3, "of_later": 1,
             "optimizer_states": [torch.zeros(100_000)]}  # fmt: skip
    torch.save(whole, tmp_path / "a.pth")
    if key:
        (tmp_path / "a.pth").write_bytes(encrypt((tmp_path / "a.pth").read_bytes(), key))
    shutil.copy(tmp_path / "a.pth", tmp_path / "b.pth")
    (tmp_path / "key").write_text(f"{key}\n")
    (tmp_path / "export.yaml").write_text('encryption_key: "@${here}/key"\n' if key else "{}")
    package.weights(tmp_path / "b.pth")
    assert is_encrypted(tmp_path / "b.pth") == bool(key)
    before, after = (ckpt.load(tmp_path / name, key) for name in ("a.pth", "b.pth"))
    assert torch.equal(after["state_dict"]["w"], averaged["w"])
    assert {k: v for k, v in after.items() if k != "state_dict"} == {
        k: before[k] for k in ("spec", "classes", "metrics", "epoch", "of_later")
    }
    assert (tmp_path / "b.pth").stat().st_size < 0.1 * (tmp_path / "a.pth").stat().st_size

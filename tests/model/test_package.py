"""The folder that is handed over, copied elsewhere: infer.py and the commands of its page."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
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
from model.actions import export, inference
from model.data import images as reading
from model.data.paths import images_in
from model.data.transforms import View, shown
from model.deploy import card, package
from model.deploy import infer as infer_py
from model.deploy.infer import RAW, Detector, shrunk, upright_rgb
from model.errors import UserError
from model.parameters import UNMEASURED_THRESHOLD
from model.spec import resolve
from tests.model.choices import same_detections
from tests.model.deployed import CLASSES, spec_of

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


def infer(best: Path, *words: Any, **how: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(best / "infer.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **how)


def test_infer_py_goes_on_after_files_that_it_cannot_read(best: Path, images: Path, tmp_path: Path) -> None:
    """As our inference: listed at the end, exit code 1. Folders are taken with all that is in them."""
    package.write(best)
    (images / "sub").mkdir()
    (images / "sub" / "broken.png").write_bytes(b"\x89PNG")
    (images / "sub" / "notes.txt").write_text("no image")
    (images / "sub" / "0.png").write_bytes((images / "0.png").read_bytes())
    (images / "._0.png").write_bytes(b"of macOS")
    (images / "__MACOSX").mkdir()
    (images / "__MACOSX" / "1.png").write_bytes(b"of macOS")
    os.mkfifo(tmp_path / "pipe.png")
    Image.open(images / "0.png").save(tmp_path / "raw.dng", format="TIFF")
    Image.open(images / "0.png").save(images / "sub" / "drawing.eps")  # Pillow hands it to Ghostscript
    shutil.copy(images / "sub" / "drawing.eps", tmp_path / "text.png")
    places = [tmp_path / name for name in ("none.png", "pipe.png", "text.png", "raw.dng")]
    words = [places[0], images, *places[1:], images / "1.png"]
    done = infer(best, *words, "--threshold", 0, "--draw", tmp_path / "drawn")
    assert done.returncode == 1
    seen = list(dict.fromkeys(line.split("\t")[0] for line in done.stdout.splitlines()))
    assert seen == [str(images / name) for name in ("0.png", "1.png", "2.png", "sub/0.png")]
    assert done.stderr.startswith("error: 5 images cannot be read:\n")
    for name in ("none.png", "broken.png", "pipe.png", "text.png", "raw.dng: .dng is not read, convert"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {
        "0.png",
        "1.png",
        "2.png",
        "0_1.png",
        "1_1.png",
    }


def test_infer_py_refuses_the_raw_files_that_training_refuses() -> None:
    assert set(RAW) == set(reading.RAW)


def test_infer_py_takes_the_files_that_training_takes(images: Path, tmp_path: Path) -> None:
    """Links are followed, as in training, each folder once, and no loop."""
    assert set(infer_py.FORMATS) == set(reading.FORMATS)
    assert set(reading.READ_SUFFIXES) == infer_py.SUFFIXES
    (images / "notes.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    for name in ("disk/0.png", "disk/deep/1.png"):
        shutil.copy(images / "0.png", tmp_path / name)
    for name, target in (
        ("images/a", "disk"),
        ("images/b", "disk"),
        ("images/up", "."),
        ("disk/deep/c", "images"),
    ):
        (tmp_path / name).symlink_to(tmp_path / target)
    wanted = [images / name for name in ("0.png", "1.png", "2.png", "a/0.png", "a/deep/1.png")]
    assert infer_py.files_in(images) == list(images_in(images)) == wanted
    assert [one.path for one in inference.find_images(str(images))] == wanted


def test_infer_py_ends_with_one_line(best: Path, images: Path, tmp_path: Path) -> None:
    package.write(best)
    graph = onnx.load(best / "model.onnx")
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"no graph")
    for model in ("foreign", "damaged", "none"):
        done = infer(best, images / "0.png", "--model", tmp_path / f"{model}.onnx")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
        assert str(tmp_path / f"{model}.onnx") in done.stderr
    for threshold in ("7", "-0.1", "nan", "half"):
        done = infer(best, images / "0.png", f"--threshold={threshold}")
        assert done.returncode == 2
        assert "--threshold" in done.stderr.splitlines()[-1]
    command = [sys.executable, str(best / "infer.py"), "--threshold", "0", *[str(images)] * 3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_infer_py_says_in_one_line_that_its_output_cannot_be_written(best: Path, images: Path) -> None:
    package.write(best)
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, str(best / "infer.py"), "--threshold", "0", str(images)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"error: output cannot be written \(.*No space left on device\)\n", done.stderr)
    shell = f"{sys.executable} {best / 'infer.py'} --threshold 0 {images} >&-"
    assert subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True).stderr == ""


def test_infer_py_writes_seven_fields_a_line_whatever_a_file_is_called(best: Path, images: Path) -> None:
    package.write(best)
    odd = [b"a\tb\nc\rd\xe2\x80\xa8e.png", b"\xff.png", "\xe9\u202f\u732b.png".encode()]
    for name in odd:
        os.link(images / "0.png", os.fsencode(images) + b"/" + name)
    Path(images / "x\ty.png").write_text("no image")
    for encoding, third in (("utf-8", "\xe9\u202f\u732b.png"), ("ascii", r"\xe9\u202f\u732b.png")):
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = infer(best, images, "--threshold", 0, env=env)
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        assert {len(row) for row in rows} == {7}
        names = {Path(row[0]).name for row in rows}
        assert names == {"0.png", "1.png", "2.png", r"a\tb\nc\rd\u2028e.png", r"\udcff.png", third}
        assert re.search(r"x\\ty\.png: cannot identify", done.stderr)


@pytest.mark.parametrize("batch", [-1, 2])
def test_infer_py_runs_a_graph_that_stands_alone(
    made: tuple[Path, dict[str, Any]], best: Path, images: Path, tmp_path: Path, batch: int
) -> None:
    package.write(best)
    leaves = {
        "export__pre_post": True,
        "export__onnx_file": str(tmp_path / "alone.onnx"),
        "export__batch_size": batch,
    }
    export.run(spec_of("export", made[0], **leaves))
    plain, alone = (
        infer(best, images, "--threshold", 0, *more, check=True).stdout
        for more in ([], ["--model", tmp_path / "alone.onnx"])
    )
    rows = [[line.split("\t") for line in text.splitlines()] for text in (plain, alone)]
    assert len(rows[0]) == len(rows[1]) == 150
    for stem in ("0", "1", "2"):
        found = [
            [{"category_id": r[1], "bbox": [float(v) for v in r[3:]], "score": float(r[2])} for r in each if Path(r[0]).stem == stem]
            for each in rows
        ]  # fmt: skip
        assert same_detections(*found, score=1.1e-3, box_px=0.11)


def test_infer_py_needs_three_packages_and_little_code() -> None:
    text = Path(package.__file__).with_name("infer.py").read_text()
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }  # fmt: skip
    assert {m for m in modules if m not in sys.stdlib_module_names} == {"numpy", "PIL", "onnxruntime"}
    assert len(text.splitlines()) <= 212


def test_infer_py_and_the_page_say_our_threshold_where_the_file_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """infer.py travels alone, so it cannot import it."""
    detector = Detector.__new__(Detector)
    detector.alone, detector.threshold, detector.names = False, None, {}
    scores = UNMEASURED_THRESHOLD + np.array([1e-6, 0, -1e-6])
    monkeypatch.setattr(detector, "_plain", lambda image: (np.zeros((3, 4)), scores, np.arange(3)))
    assert [score for _, score, _ in detector(np.zeros((1, 1, 3)))] == scores[:2].tolist()
    assert f" {UNMEASURED_THRESHOLD} " in package._limit(card.Card())


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


@pytest.mark.parametrize("seed", range(20))
def test_images_of_floats_and_long_numbers_are_opened_as_in_training(tmp_path: Path, seed: int) -> None:
    from model.data.images import open_rgb

    random = np.random.default_rng(seed)
    values = random.random((20, 20)) * random.choice([0.1, 0.9, 1, 1.3, 40, 255, 380, 4000, 65535, 1e5])
    values[0, : int(random.integers(4))] *= random.choice([1.2, 300])
    kind = [np.float32, np.int32][seed % 2]
    Image.fromarray(values.astype(kind)).save(tmp_path / "x.tif")
    assert np.array_equal(
        np.asarray(upright_rgb(tmp_path / "x.tif")), np.asarray(open_rgb(tmp_path / "x.tif"))
    )


@pytest.mark.parametrize("kind", ["grey16", "float", "long", "rotated"])
def test_a_pillow_image_is_read_as_its_file_is(best: Path, tmp_path: Path, kind: str) -> None:
    """Greys of more than 8 bits are scaled and EXIF turns, also where the person has opened the file."""
    card.put(best / "model.onnx", card.Card(**vars(card.read(best / "model.onnx")) | {"threshold": 0.0}))
    noise = np.random.default_rng(0).random((5, 9)).repeat(8, 0).repeat(8, 1)
    scaled = {
        "grey16": (noise * 65535).astype(np.uint16),
        "float": noise.astype(np.float32),
        "long": (noise * 40000).astype(np.int32),
        "rotated": (noise * 255).astype(np.uint8),
    }
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "rotated" else 1
    path = tmp_path / ("x.png" if kind in ("grey16", "rotated") else "x.tif")
    Image.fromarray(scaled[kind]).save(path, exif=exif)
    with Image.open(path) as image:
        assert package.predict(best, [path, image]) == package.predict(best, image) * 2
        assert Detector(str(best / "model.onnx"))(image) == Detector(str(best / "model.onnx"))(
            upright_rgb(path)
        )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("red-car #2 (left)", "red-car #2 (left)"),
        ("<script>x</script>", r"\<script\>x\</script\>"),
        ("a|b\nc", r"a\|b c"),
        ("_q_ *z* [a](b) `c`", r"\_q\_ \*z\* \[a\](b) \`c\`"),
    ],
)
def test_names_of_classes_are_no_markdown(name: str, shown: str) -> None:
    assert package._plain(name) == shown


def test_the_page_and_the_picture(best: Path, images: Path) -> None:
    evaluate = {"dataset": {"test_data_sources": {"image_dir": str(images), "json_file": ""}}}
    (best / "evaluate.yaml").write_text(yaml.safe_dump(evaluate))
    (images / "-.png").write_bytes(b"damaged")
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
    words = ["+train.num_epochs=2", "++dataset.test_data_sources={image_dir: '/a:b', json_file: null}"]
    assert list(cli.given("train", words)) == ["train.num_epochs", "dataset.test_data_sources"]
    with pytest.raises(UserError, match="a space after a colon, as in {a: b}, but got 'image_dir:/a'"):
        cli.given("train", ["dataset.train_data_sources=[{image_dir:/a,json_file:/b}]"])
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
    shutil.copy(tmp_path / "a.pth", tmp_path / "c.pth")
    package.weights(tmp_path / "b.pth")
    package.weights(tmp_path / "c.pth")
    assert (tmp_path / "c.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()  # when handed over again
    assert is_encrypted(tmp_path / "b.pth") == bool(key)
    before, after = (ckpt.load(tmp_path / name, key) for name in ("a.pth", "b.pth"))
    assert torch.equal(after["state_dict"]["w"], averaged["w"])
    assert {k: v for k, v in after.items() if k != "state_dict"} == {
        k: before[k] for k in ("spec", "classes", "metrics", "epoch", "of_later")
    }
    assert (tmp_path / "b.pth").stat().st_size < 0.1 * (tmp_path / "a.pth").stat().st_size


def test_weights_of_a_folder_whose_key_stayed_behind_keep_the_one_that_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.encryption import encrypt

    torch.save({"state_dict": {"model.w": torch.zeros(3)}, "spec": {}}, tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes(encrypt((tmp_path / "a.pth").read_bytes(), "secret"))
    (tmp_path / "export.yaml").write_text('encryption_key: "@${here}/key"\n')
    monkeypatch.setenv("DETR_ENCRYPTION_KEY", "secret")
    package.weights(tmp_path / "a.pth")
    assert set(ckpt.load(tmp_path / "a.pth", "secret")["state_dict"]) == {"w"}


def test_infer_py_draws_over_no_image_that_it_reads(best: Path, images: Path) -> None:
    package.write(best)
    before = {p.name: p.read_bytes() for p in images.iterdir()}
    done = infer(best, images, "--threshold", 0, "--draw", images)
    assert done.returncode == 0, done.stderr
    assert {name: (images / name).read_bytes() for name in before} == before
    assert len(list(images.iterdir())) == 2 * len(before)


def test_infer_py_says_what_it_cannot_do(best: Path, images: Path, tmp_path: Path) -> None:
    package.write(best)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for words, told in (
        ((tmp_path / "empty",), "no images in"),
        ((images, "--draw", tmp_path / "file"), "--draw .*file: cannot be written to"),
        ((images, "--draw", "/proc/x/y"), "--draw /proc/x/y: cannot be written to"),
        ((images, "--threshold", "50%"), "must be from 0 to 1, but got 50%"),
    ):
        done = infer(best, *words)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert re.search(told, done.stderr), done.stderr


def test_inputs_that_are_no_images_are_named(best: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("x")
    good = images / "0.png"
    for wrong, told in (
        (
            tmp_path / "none.png",
            r"none\.png must be the path of an image file, or a Pillow image, but: no such file",
        ),
        (
            [good, images],
            f"{images} must be the path of an image file, or a Pillow image, but: no regular file",
        ),
        ([good, tmp_path / "text.png"], r"text\.png must be .*, but: cannot identify image file"),
        (np.zeros((4, 4, 3), np.uint8), "input 1 must be .*, but got ndarray"),
        ([good, np.zeros((4, 4, 3), np.uint8)], "input 2 must be .*, but got ndarray"),
        (3, "input 1 must be .*, but got int"),
        (b"x", "input 1 must be .*, but got bytes"),
    ):
        with pytest.raises(UserError, match=told):
            package.predict(best, wrong)
    assert package.predict(best, np.array([str(good)])) == package.predict(best, (p for p in [good]))

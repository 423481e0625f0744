"""What makes a folder with a trained detector a product: a program of few needs, and a page that tells what it is."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from model import checkpoint as ckpt
from model.deploy import card
from model.deploy.card import Card
from model.errors import UserError
from model.spec import read

SHOWN_IMAGES, TILE_PX = 4, 320
ACCEPTED = "the path of an image file, or a Pillow image"  # by `predict`
# Entries of a checkpoint that only going on with its training needs.
TRAINING_ONLY = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "MixedPrecision", "mid_epoch")
FILES = {
    "model.onnx": "the detector, for ONNX Runtime, TensorRT and others; it says in its metadata what it is",
    "infer.py": "detects objects in images; needs numpy, Pillow and onnxruntime alone",
    "model.pth": "the weights, for `deformable_detr` and further training",
    "train.yaml": "trains it again",
    "nvdsinfer_config.yaml": "settings of NVIDIA DeepStream's nvinfer, with labels.txt and its own ONNX file",
    "provenance.json": "which trial it is of, with versions and digests",
}
PAGE = """\
# Object detector

A Deformable DETR for $count classes: $names.

$picture
| figure | value |
|---|---|
$rows

## Use

```
pip install numpy pillow onnxruntime
python infer.py IMAGE ...
```

prints a line for each object: file, class, score, left, top, right, bottom in px. From Python:

```python
from infer import Detector, upright_rgb

detector = Detector("model.onnx")
for name, score, (left, top, right, bottom) in detector(upright_rgb("image.jpg")):
    print(name, score)
```

With detr-automl installed, from any folder:

```
deformable_detr inference --checkpoint model.onnx IMAGE_OR_FOLDER ...
```

## The model file

- Input `inputs` [B, 3, $size] float32: RGB, the whole image resized to this height and width without keeping its
  aspect, (value / 255 - $mean) / $std.
- Output `pred_logits` [B, Q, K]: the sigmoid is the score of class id 0 to K-1. `pred_boxes` [B, Q, 4]: centre x and y,
  width and height, 0-1 of the image. $threshold; overlaps need not be suppressed.

## Files

$files
"""


def write(
    folder: str | Path, figures: Mapping[str, Any] | None = None, images: Sequence[str | Path] = ()
) -> list[Path]:
    """Write infer.py, README.md and, when there are images, example.jpg into a folder that holds `model.onnx`.

    figures: {name: value} shown in the page's table, after what the files say; images: of what is drawn, else the
    first of the test or validation set that evaluate.yaml names. Returns what was written. Raises `UserError`
    without model.onnx.
    """
    folder, figures = Path(folder), dict(figures or {})
    model = folder / "model.onnx"
    if not model.is_file():
        raise UserError(f"{model} does not exist; run deformable_detr export first")
    own = card.read(model)
    shutil.copyfile(Path(__file__).with_name("infer.py"), folder / "infer.py")
    written = [folder / "infer.py"]
    if example := _draw(folder, [Path(i) for i in images] or _known_images(folder)):
        written.append(example)
    page = folder / "README.md"
    page.write_text(_page(folder, own, _figures(folder, own) | figures, bool(example)), encoding="utf-8")
    return [*written, page]


def weights(path: str | Path) -> None:
    """Rewrite a checkpoint without what only training on needs: optimizer, schedules, and the raw weights beside their
    moving average. Encrypted, under the key that export.yaml beside it refers to, stays encrypted. Raises `UserError`
    for what is no checkpoint of ours."""
    import torch

    from model.encryption import encrypt, is_encrypted, opening

    path = Path(path)
    beside = path.with_name("export.yaml")
    key = opening((read(beside).get("encryption_key") if beside.is_file() else "") or "")
    whole = ckpt.load(path, key)
    slim = {name: value for name, value in whole.items() if name not in TRAINING_ONLY}
    slim["state_dict"] = {f"{ckpt.PREFIX}{name}": value for name, value in whole["state_dict"].items()}
    data = io.BytesIO()
    torch.save(slim, data)
    ckpt.write(path, encrypt(data.getvalue(), key) if is_encrypted(path) else data.getbuffer())


def predict(folder: str | Path, images: Any) -> list[list[dict[str, Any]]]:
    """[{"name", "score", "box_xyxy_px"}], best first, of each image, by the `model.onnx` of a folder.

    images: one, or several in a list or another iterable; each is the path of an image file (text or `Path`), or a
    Pillow image; arrays by `PIL.Image.fromarray`. Either is turned upright by its EXIF and scaled to 8 bits, and px
    are of that. Raises `UserError` when the model was not exported, and for what is no image, naming it.
    """
    from PIL import Image

    from model.deploy.infer import Detector

    file = Path(folder) / "model.onnx"
    if not file.is_file():
        raise UserError(f"{file} does not exist; run deformable_detr export first")
    several = isinstance(images, Iterable) and not isinstance(images, str | bytes | Path | Image.Image)
    listed = list(images) if several and getattr(images, "ndim", 1) == 1 else [images]
    pictures = [_picture(image, number) for number, image in enumerate(listed, 1)]
    detector = Detector(str(file))
    return [
        [{"name": n, "score": float(s), "box_xyxy_px": tuple(map(float, b))} for n, s, b in detector(picture)]
        for picture in pictures
    ]


def _picture(image: Any, number: int) -> Any:
    """A Pillow image as the detector takes it. Raises `UserError` that names the input."""
    from PIL import Image

    from model.deploy.infer import to_rgb, upright_rgb

    if not isinstance(image, str | Path | Image.Image):
        raise UserError(f"predict: input {number} must be {ACCEPTED}, but got {type(image).__name__}")
    named = f"input {number}" if isinstance(image, Image.Image) else str(image)
    try:
        return to_rgb(image) if isinstance(image, Image.Image) else upright_rgb(image)
    except Exception as error:  # Pillow raises many kinds for damaged files
        of_system = (getattr(error, "strerror", None) or "").lower()
        why = of_system or str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"predict: {named} must be {ACCEPTED}, but: {why}") from None


def _figures(folder: Path, own: Card) -> dict[str, Any]:
    """What the model's card and the folder's evaluation tell."""
    # A form was measured as it is; training validates in its own precision, which may be another than the file's.
    when = "validation" if own.trained.get("form") else "validation while training"
    found = {f"{name} ({when})": v for name, v in own.trained.get("metrics", {}).items() if "mAP" in name}
    scored = folder / "evaluate" / "metrics.json"
    if scored.is_file():
        metrics = json.loads(scored.read_text())
        found |= {f"{name} (test)": metrics[name] for name in ("test_mAP", "test_mAP50") if name in metrics}
    if own.size and own.trained.get("form") and not own.trained.get("metrics"):
        height, width = own.size
        found["scored"] = (
            f"not at {width}x{height}, the size of this file: the model was validated at another"
        )
    if own.threshold is not None:
        found["score threshold"] = own.threshold
    return found


def _page(folder: Path, own: Card, figures: Mapping[str, Any], pictured: bool) -> str:
    rows = [f"| {name} | {f'{v:.4g}' if isinstance(v, float) else v} |" for name, v in figures.items()]
    files = [f"- `{name}`: {what}" for name, what in FILES.items() if (folder / name).exists()]
    return Template(PAGE).substitute(
        count=len(own.classes),
        names=", ".join(f"{c['id']} {_plain(str(c['name']))}" for c in own.classes),
        picture="![Detections](example.jpg)\n" if pictured else "",
        rows="\n".join(rows),
        size=", ".join(map(str, own.size or ("H", "W"))),
        mean=own.mean,
        std=own.std,
        threshold=_limit(own),
        files="\n".join(files),
    )


def _limit(own: Card) -> str:
    """Which scores are objects."""
    if own.threshold is not None:
        return f"Scores of {own.threshold:.3g} and more are objects"
    return (
        "From which score on it is an object was not measured for this file: `infer.py` takes 0.5 unless `--threshold` "
        "says another"
    )


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|&~])", r"\\\1", " ".join(text.split()))


def _known_images(folder: Path) -> list[Path]:
    """The first images of the test set, else of the validation set, of `evaluate.yaml`; none where they are gone."""
    from model.data.coco import Options, images_of
    from model.data.looks import first_whole

    path = folder / "evaluate.yaml"
    spec = read(path) if path.is_file() else {}
    dataset, options = spec.get("dataset", {}), Options.of(spec)
    sources = [dataset.get("test_data_sources") or {}, *(dataset.get("val_data_sources") or [])]
    for source in sources:
        if Path(source.get("image_dir") or "/nowhere").is_dir():
            with contextlib.suppress(UserError):  # annotations that are gone
                images = images_of([source], options)
                if found := first_whole(images, SHOWN_IMAGES, options.max_pixels)[0]:
                    return found
    return []


def _draw(folder: Path, images: Sequence[Path]) -> Path | None:
    """`example.jpg`: the images side by side with what is found in them."""
    from PIL import Image

    from model.actions.inference import draw, own_colour
    from model.deploy.infer import Detector, upright_rgb

    if not images:
        return None
    detector, tiles = Detector(str(folder / "model.onnx")), []
    for path in images[:SHOWN_IMAGES]:
        image = upright_rgb(path)
        for name, score, box in detector(image):
            draw(image, f"{name} {score:.2f}", box, own_colour(name), max(2, image.width // 300))
        tiles.append(image.resize((round(TILE_PX * image.width / image.height), TILE_PX)))
    sheet = Image.new("RGB", (sum(t.width for t in tiles), TILE_PX))
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width
    sheet.save(folder / "example.jpg", quality=90)
    return folder / "example.jpg"

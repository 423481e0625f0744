"""Detect objects in images: annotated pictures and KITTI label files."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.spec import Spec, load
from model.status import Status

FONT_PX = 13


def main(spec_path: str) -> None:
    """Run inference of the spec in a file."""
    run(load("inference", spec_path))


def run(spec: Spec) -> dict[str, Any]:
    """Writes `images_annotated/<name>` and `labels/<stem>.txt` to `<results_dir>/inference`.

    Returns {"images", "detections", "folder"}. Raises `UserError` when there is no image.
    """
    from rich.progress import track

    from model.deploy.runners import open_runner

    section = spec["inference"]
    folder = Path(section["results_dir"] or Path(spec["results_dir"] or "results") / "inference")
    status = Status(folder, spec["model_name"])
    status.write("STARTED", "Starting inference.")
    paths = find_images(spec["dataset"]["infer_data_sources"]["image_dir"])
    runner = open_runner(spec, "inference")
    names = class_names(spec, runner.classes)
    size = section["batch_size"] if section["batch_size"] > 0 else spec["dataset"]["batch_size"]
    batches = [paths[i : i + size] for i in range(0, len(paths), size)]
    count = 0
    for batch in track(batches, description="inference", transient=True):
        for (source, path), found in zip(batch, detect(spec, runner, [p for _, p in batch]), strict=True):
            target = folder / source.name if section["is_internal"] else folder
            write(target, path, found, names, section)
            count += len(found["scores"])
    status.write("SUCCESS", "Inference finished.")
    print(
        f"{count} objects in {len(paths)} images; pictures: {folder / 'images_annotated'}, labels: {folder / 'labels'}"
    )
    return {"images": len(paths), "detections": count, "folder": str(folder)}


def find_images(sources: list[str]) -> list[tuple[Path, Path]]:
    """(source, image) for every image in folders, archives and single files. Raises `UserError` for none."""
    from model.data.sources import is_archive, stage
    from model.data.images import SUFFIXES

    found = []
    for text in [s for s in sources if s]:
        source = Path(text)
        if source.is_file() and not is_archive(source):
            found.append((source.parent, source))
            continue
        root = stage(source)
        found += [(source, p) for p in sorted(root.rglob("*")) if p.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"dataset.infer_data_sources.image_dir must name images, but {sources} holds none")
    return found


def detect(spec: Mapping[str, Any], runner: Any, paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Detections of each image at or above `inference.conf_threshold`."""
    import torch

    from model.data.transforms import batch_images
    from model.deploy.precision import load_image
    from model.deploy.runners import input_size
    from model.postprocess import postprocess

    loaded = [load_image(path, spec, input_size(runner, spec, "inference")) for path in paths]
    images = [torch.from_numpy(pixels) for pixels, _ in loaded]
    batch, mask = batch_images(images, [(i.shape[1], i.shape[2]) for i in images])
    outputs = runner.infer(batch, mask)
    for found in postprocess(outputs, [size for _, size in loaded], spec["model"]["num_select"]):
        keep = found["scores"] >= spec["inference"]["conf_threshold"]
        yield {name: values[keep].tolist() for name, values in found.items()}


def class_names(spec: Mapping[str, Any], recorded: list[dict[str, Any]]) -> dict[int, str]:
    """{category id: name}: the classmap file's lines from id 1, else what the model file recorded."""
    classmap = spec["dataset"]["infer_data_sources"]["classmap"]
    if not classmap:
        return {c["id"]: c["name"] for c in recorded}
    path = Path(classmap)
    if not path.is_file():
        raise UserError(f"dataset.infer_data_sources.classmap: {path} does not exist")
    return {i + 1: line.strip() for i, line in enumerate(path.read_text().splitlines()) if line.strip()}


def write(
    folder: Path, path: Path, found: Mapping[str, Any], names: Mapping[int, str], section: Mapping[str, Any]
) -> None:
    """One annotated picture and one label file (KITTI's fields and the score)."""
    from PIL import Image, ImageDraw, ImageFont

    from model.data.transforms import to_rgb

    (folder / "images_annotated").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    with Image.open(path) as file:
        picture = to_rgb(file)
    pen, lines = ImageDraw.Draw(picture), []
    for score, label, box in zip(found["scores"], found["labels"], found["boxes_xyxy_px"], strict=True):
        name = names.get(label, str(label))
        left, top, right, bottom = (
            min(max(v, 0.0), limit) for v, limit in zip(box, (picture.width, picture.height) * 2, strict=True)
        )
        lines.append(kitti_line(name, (left, top, right, bottom), score))
        colour = section["color_map"].get(name) or own_colour(name)
        pen.rectangle((left, top, right, bottom), outline=colour, width=section["outline_width"])
        text, font = f" {name} {score:.2f} ", ImageFont.load_default(FONT_PX)
        corner = (left, max(0.0, top - FONT_PX - 4))
        pen.rectangle(pen.textbbox(corner, text, font=font), fill=colour)
        pen.text(corner, text, fill="black", font=font)
    picture.save(folder / "images_annotated" / path.name)
    (folder / "labels" / f"{path.stem}.txt").write_text("".join(lines))


def kitti_line(name: str, box_xyxy_px: tuple[float, float, float, float], score: float) -> str:
    """One object as KITTI's 15 fields and the score; spaces in a name would make more of them."""
    corners = " ".join(f"{v:.3f}" for v in box_xyxy_px)
    return f"{name.replace(' ', '_')} 0.00 0 0.00 {corners} 0.00 0.00 0.00 0.00 0.00 0.00 0.00 {score:.3f}\n"


def own_colour(name: str) -> tuple[int, int, int]:
    """A bright colour fixed by the class name; Python's hash() would change it with every process."""
    hue = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big") / 65536
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)

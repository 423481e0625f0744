"""Reading, checking and mending a COCO file of COCO's own size, beside pycocotools' COCO(...). See README.md."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from studies.machine import describe

HERE = Path(__file__).resolve().parent
IMAGES, BOXES, CLASSES = 118_000, 860_000, 80


def draw(path: Path, masks: bool, seed: int = 0) -> None:
    """A clean file with COCO's fields; with masks, a polygon of 4 to 40 points a box."""
    random = np.random.default_rng(seed)
    sizes = random.integers(300, 641, (IMAGES, 2))
    images = [
        {
            "license": 3, "file_name": f"{n:012d}.jpg", "coco_url": f"http://images/{n:012d}.jpg",
            "height": int(h), "width": int(w), "date_captured": "2013-11-14 17:02:52", "id": n,
        }
        for n, (h, w) in enumerate(sizes, 1)
    ]  # fmt: skip
    owner = random.integers(0, IMAGES, BOXES)
    low = random.uniform(0, 200, (BOXES, 2)).round(2)
    sides = random.uniform(2, 99, (BOXES, 2)).round(2)
    points = random.integers(4, 41, BOXES)
    annotations = []
    for n in range(BOXES):
        (x, y), (w, h) = low[n].tolist(), sides[n].tolist()
        corners = (random.uniform(0, 1, (points[n], 2)) * sides[n] + low[n]).round(2) if masks else None
        annotations.append(
            {
                "segmentation": [] if corners is None else [corners.ravel().tolist()], "area": round(w * h, 2),
                "iscrowd": 0, "image_id": int(owner[n]) + 1, "bbox": [x, y, w, h],
                "category_id": int(n % CLASSES) + 1, "id": n + 1,
            }
        )  # fmt: skip
    categories = [{"supercategory": "any", "id": c, "name": f"class {c}"} for c in range(1, CLASSES + 1)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def ours(path: Path) -> int:
    """Read, every field checked, boxes mended, as arrays."""
    from model.data.documents import read
    from model.data.mending import Rules, mend
    from model.data.problems import Problems

    problems = Problems()
    document = read(path, problems)
    assert document is not None
    mended = mend(document, Rules(), problems)
    assert not problems
    return len(mended.category)


def theirs(path: Path) -> int:
    from pycocotools.coco import COCO

    return len(COCO(str(path)).anns)


READERS = {"ours": ours, "pycocotools": theirs}


def one(reader: str, path: Path) -> dict[str, float]:
    """Seconds and peak memory of a process of its own."""
    command = [sys.executable, __file__, "--reader", reader, "--file", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(reader: str, path: Path) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    boxes = READERS[reader](path)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be the starting process's
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    times = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    return {"boxes": boxes, **times, "peak_mib": peak_kib / 1024}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reader", choices=READERS)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.reader:
        print(json.dumps(measured(options.reader, options.file)))
        return
    results: dict[str, Any] = {"machine": describe(), "images": IMAGES, "boxes": BOXES}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("boxes alone", "with polygons"):
            path = Path(folder) / "instances.json"
            draw(path, kind == "with polygons")
            rounds = [{name: one(name, path) for name in READERS} for _ in range(options.rounds)]
            results[kind] = {"file_mib": path.stat().st_size / 2**20} | {
                name: {
                    key: statistics.median(r[name][key] for r in rounds)
                    for key in ("wall_s", "cpu_s", "peak_mib")
                }
                for name in READERS
            }
            print(json.dumps({kind: results[kind]}, indent=1))
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

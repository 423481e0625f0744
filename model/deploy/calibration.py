"""Images that calibrate a quantization, and the file that keeps what they showed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.data.coco import Options, images_of
from model.data.looks import first_whole
from model.data.sources import digest
from model.errors import UserError, number_of

SEED = 0  # of the choice of images


class Calibration:
    """ONNX Runtime's CalibrationDataReader over images [1, 3, H, W] float32, preprocessed as for evaluation and read
    one at a time; a graph of a fixed `batch` gets each that often, which leaves its ranges as they are."""

    def __init__(
        self, paths: Sequence[Path], spec: Mapping[str, Any], size: tuple[int, int], batch: int = 1
    ) -> None:
        self.paths, self.spec, self.size, self.batch = list(paths), spec, size, batch
        self.set_range(0, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return load_image(self.paths[index], self.spec, self.size)[0][None]

    def set_range(self, start_index: int, end_index: int) -> None:
        """Which images `get_next` gives next."""
        self.left = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, np.ndarray] | None:
        index = next(self.left, None)
        return None if index is None else {"inputs": self[index].repeat(self.batch, 0)}

    def in_batches_of(self, batch: int) -> Calibration:
        """The same images for a graph of that batch."""
        return Calibration(self.paths, self.spec, self.size, batch)


def drawn(
    sources: Sequence[Mapping[str, Any]], spec: Mapping[str, Any], size: tuple[int, int], count: int,
    at_most: bool = False,
) -> Calibration:  # fmt: skip
    """`count` images drawn from sources (see `images_of`), the same ones every time; damaged ones are passed over with
    a warning. Raises `UserError` when there are fewer, unless all will do (`at_most`), and when there is none."""
    options = Options.of(spec)
    paths = images_of(sources, options)
    order = np.random.default_rng(SEED).permutation(len(paths)).tolist()
    found, damaged = first_whole([paths[n] for n in order], count, options.max_pixels)
    if len(found) < (1 if at_most else count):
        hold = f"hold {len(found)}" + (f" that can be read: {damaged[0]}" if damaged else "")
        folders = ", ".join(str(source["image_dir"]) for source in sources)
        raise UserError(f"calibration needs {number_of(count, 'image')}, but {folders} {hold}")
    for problem in damaged:
        print(f"warning: {problem}; it does not calibrate")
    return Calibration(found, spec, size)


def load_image(
    path: Path, spec: Mapping[str, Any], size: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """(pixels [3, H, W] float32 as evaluation sees them, (H, W) of the original). Raises `UserError`."""
    from model.data.images import open_rgb
    from model.data.transforms import EvalTransform, max_pixels

    image = open_rgb(path, max_pixels(spec))
    nothing = {"boxes_xyxy_px": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    pixels, _ = EvalTransform(spec, size)(image, nothing)
    return pixels.numpy(), (image.height, image.width)


@contextlib.contextmanager
def cached(cache: Path | None, graph: Path, images: Calibration, algorithm: str) -> Iterator[Path | None]:
    """The file that ranges are read from or written to; None without one. It is begun anew unless `<cache>.key` says
    that graph, images, preprocessing and algorithm are the same. Raises `UserError` for a file that is not ours."""
    if cache is None:
        yield None
        return
    key, wanted = Path(f"{cache}.key"), _key(graph, images, algorithm)
    if cache.exists() and not key.is_file():
        raise UserError(
            f"{cache} exists, but is no calibration cache of this program; name another cal_cache_file or remove it"
        )
    if key.is_file() and key.read_text() != wanted:
        cache.unlink(missing_ok=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    key.unlink(missing_ok=True)
    try:
        yield cache
    except BaseException:
        cache.unlink(missing_ok=True)  # half a file
        raise
    key.write_text(wanted)


def _key(graph: Path, images: Calibration, algorithm: str) -> str:
    """A digest of all that the ranges follow from."""
    sources = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in images.paths]
    augmentation = images.spec["dataset"]["augmentation"]
    normalisation = augmentation["input_mean"], augmentation["input_std"]
    facts = json.dumps([sources, normalisation, images.size, algorithm, digest(graph)])
    return hashlib.sha256(facts.encode()).hexdigest()

"""A few networks of a search space, with random weights, exported and timed as `deploy` times its points: what
`model/latency.py` predicts all others from."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.latency import costs, key_of, multiply_adds, predict, projected_of, rates_of, size_of
from model.spec import Spec, default_spec, overlaid
from model.told import told

FEWEST, EXPORTS = 2, 4  # the default and those that differ most
IMAGES = 16
LIMIT_S = 90.0  # no more than the fewest are exported where the next would end later than this
ROUNDS, RUNS, CLOCK_S = 3, 10, 40.0  # turns of each, images of a turn, seconds for all of them
UNDISTURBED = 0.1  # share of its time that a timing may wait for a processor
DRAWN_SIZE = (480, 640)  # (H, W) px of a drawn image, where the data have none


def measure(specs: Sequence[Mapping[str, Any]], folder: Path, say: Callable[[str], Any]) -> dict[str, Any]:
    """Of the train specs, the first being the default: {"rates", "images": their (H, W) px, "projected": see
    `latency.multiply_adds`, "points": what was timed, "text"}. On the CPU by ONNX Runtime, as `deploy` does unless
    another target is named. About a minute and a half; a slow machine times two exports, however long they take."""
    full = [overlaid("train", spec) for spec in specs]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="latency-") as temporary:
        images = _images(full[0], Path(temporary))
        sizes = [_size(path, full[0]) for path in images]
        at = [size_of(each, sizes) for each in full]
        projected = {key: projected_of(key) for key in map(key_of, full, at)}
        parts = [multiply_adds(*each, projected) for each in zip(full, at, strict=True)]
        files = _exported(full, parts, sizes, projected, Path(temporary), say, began)
        points, waited = _timed(files, images, say)
    rates = rates_of([point["costs"] for point in points], [point["ms"] for point in points])
    found = {"rates": rates, "images": sizes, "projected": projected, "points": points}
    return found | {"text": _text(found, files, time.monotonic() - began) + _disturbed(waited)}


def _disturbed(waited: float) -> str:
    """What to say of a timing that waited for a processor for a share of its time."""
    if waited <= UNDISTURBED:
        return ""
    return f"; other work had the processor for {waited:.0%} of the timing, and an idle machine is faster"


def _waited_s() -> float:
    """Seconds that this thread could have run and had to wait for a processor; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _text(found: Mapping[str, Any], files: Sequence[tuple[Spec, Any, Path]], seconds: float) -> str:
    off = max(abs(predict(f[0], found) / p["ms"] - 1) for f, p in zip(files, found["points"], strict=True))
    return (
        f"from image file to boxes, batch 1, FP32 on this CPU by ONNX Runtime; {_counted(files)}, random weights, were "
        f"timed in {seconds:.0f} s, and the prediction is within {off:.0%} of each"
    )


def _counted(files: Sequence[tuple[Spec, Any, Path]]) -> str:
    """How many are timed; those cut from another lie in its folder."""
    cut = len(files) - len({path.parent for _, _, path in files})
    more = f" and {cut} cut from them to fewer decoder layers" if cut else ""
    return f"{len(files) - cut} exported networks{more}"


def _images(full: Spec, folder: Path) -> list[Path]:
    """Images of the validation split, else of training, else a drawn one."""
    from model.data.coco import Options, images_of
    from model.data.looks import first_whole

    options = Options.of(full)
    for split in ("val", "train"):
        images = images_of(full["dataset"][f"{split}_data_sources"], options)
        if found := first_whole(images, IMAGES, options.max_pixels)[0]:
            return found
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (*DRAWN_SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "drawn.jpg")
    return [folder / "drawn.jpg"]


def _size(path: Path, spec: Spec) -> tuple[int, int]:
    from model.data.images import open_rgb
    from model.data.transforms import max_pixels

    image = open_rgb(path, max_pixels(spec))
    return image.height, image.width


def _exported(
    full: Sequence[Spec], parts: Sequence[Sequence[float]], sizes: Sequence[tuple[int, int]],
    projected: Mapping[str, float], folder: Path, say: Callable[[str], Any], began: float,
) -> list[tuple[Spec, list[float], Path]]:  # fmt: skip
    """(spec, costs, file) of each network that is timed: those exported, and each cut to a third of its decoder
    layers, which costs no export."""
    found: list[tuple[Spec, list[float], Path]] = []
    longest = 0.0
    for number, index in enumerate(spread(parts, EXPORTS)):
        spec, before = full[index], time.monotonic()
        if number >= FEWEST and before + longest - began > LIMIT_S:
            break
        what = f"latency: exporting network {number + 1} of at most {EXPORTS} to be timed"
        say(f"{what} ({_named(spec)})")
        with told(what, say=say):
            for layers, path in _files(spec, size_of(spec, sizes), folder / str(number)):
                shallow = spec | {"model": spec["model"] | {"dec_layers": layers}}
                found.append((shallow, costs(shallow, size_of(spec, sizes), projected), path))
        longest = max(longest, time.monotonic() - before)
    return found


def _named(spec: Spec) -> str:
    model = spec["model"]
    return f"{model['enc_layers']} + {model['dec_layers']} layers, {model['num_queries']} queries"


def spread(parts: Sequence[Sequence[float]], count: int) -> list[int]:
    """The first of the networks, then always the one whose multiply-adds differ most, in logarithms, from those before;
    none twice."""
    places = np.log(np.maximum(np.array(parts), 1e-9))
    order, nearest = [0], np.abs(places - places[0]).sum(1)
    while len(order) < count and nearest.max() > 0.05:
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.abs(places - places[order[-1]]).sum(1))
    return order


def _files(spec: Spec, size: tuple[int, int], folder: Path) -> Iterator[tuple[int, Path]]:
    """(decoder layers, file) of a network with random weights: whole, and with a third of its decoder layers."""
    from model.build import build_model
    from model.deploy import onnx_export, shrink

    deepest = spec["model"]["dec_layers"]
    few = -(-deepest // 3)
    detector = build_model(spec | {"model": spec["model"] | {"pretrained_backbone_path": ""}}).eval()
    whole = folder / "whole.onnx"
    earlier = [few] if few < deepest else []
    onnx_export.export(detector, whole, *size, layers=earlier, compared=False)
    for layers in (deepest, *earlier):
        path = folder / f"{layers}.onnx"
        shrink.cut(whole, path, layers)
        yield layers, path
    whole.unlink()


def _timed(
    files: Sequence[tuple[Spec, list[float], Path]], images: Sequence[Path], say: Callable[[str], Any]
) -> tuple[list[dict[str, Any]], float]:
    """(what each took, all in turn; the share of that time that this thread waited for a processor)."""
    from model.deploy import targets, timing

    target = default_spec("deploy")["deploy"]["target"]
    opened = {i: targets.opener(target, path) for i, (_, _, path) in enumerate(files)}
    once = timing.turn(opened[0], images, files[0][0], 1, warm_up=1)[0][0]
    runs = int(min(RUNS, max(2, CLOCK_S / (once * len(files) * ROUNDS))))
    say(f"latency: timing {_counted(files)}, about {once * 1e3:.0f} ms an image for the default")
    warm_up = min(timing.WARM_UP, runs)
    began, before = time.monotonic(), _waited_s()
    with told("latency: timing", say=say):
        times = timing.measure(opened, images, files[0][0], ROUNDS, runs, warm_up, quiet=True)
    share = (_waited_s() - before) / max(time.monotonic() - began, 1e-9)
    found = [
        {"ms": times[i].whole, "network_ms": times[i].network, "costs": each, "shape": _named(spec)}
        for i, (spec, each, _) in enumerate(files)
    ]
    return found, share

"""Detect objects in images: annotated pictures and KITTI label files."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.class_map import class_names
from model.data.images import MAX_PIXELS, SUFFIXES
from model.errors import ModelError, UserError, did_you_mean, number_of
from model.parameters import UNMEASURED_THRESHOLD
from model.spec import Spec, batch_size
from model.spec_file import load
from model.status import Status, failure_told, results_folder

FONT_PX = 13


def main(spec_path: str) -> None:
    """Run inference of the spec in a file."""
    run(load("inference", spec_path))


@failure_told("inference")
def run(spec: Spec) -> dict[str, Any]:
    """Writes `images_annotated/<name>` and `labels/<stem>.txt` to `<results_dir>/inference`, subfolders kept.

    Returns {"images", "detections", "folder"}. Raises `UserError` when there is no image that can be read, and
    `ModelError` at the end when some could not: the others have their results then.
    """
    from model.data.transforms import max_pixels
    from model.deploy.runners import open_runner
    from model.distributed import gather, group, start_ranks
    from model.told import counted

    section, most = spec["inference"], max_pixels(spec)
    folder = results_folder(spec, "inference")
    colours = checked_colours(section["color_map"])
    pictures = find_images(spec["dataset"]["infer_data_sources"]["image_dir"], section["is_internal"])
    if start_ranks(spec, "inference"):
        return {"images": len(pictures), "detections": None, "folder": str(folder)}
    with group() as (rank, world):
        status = Status(folder, spec["model_name"]) if rank == 0 else None
        if status:
            status.write("STARTED", "Starting inference.")
        runner = open_runner(spec, "inference")
        names, count, highest, unread = class_names(spec, runner.classes), 0, 0.0, []
        if status:
            tell_unknown(colours, names)
        limit, source = threshold(section["conf_threshold"], runner.threshold)
        found = detect(spec, runner, [picture.path for picture in pictures], limit, rank, world)
        total = len(range(rank, len(pictures), world))
        for index, objects, best in counted(found, "inference", total, quiet=rank > 0):
            if isinstance(objects, str):
                unread.append(objects)
                continue
            write(folder, pictures[index], objects, names, colours, section["outline_width"], most)
            count, highest = count + len(objects["scores"]), max(highest, best)
        count, highest, unread = sum(gather([count])), max(gather([highest])), gather(unread)
    done = len(pictures) - len(unread)
    if status:
        line = (
            f"{number_of(count, 'object')} with a score of at least {limit:.3f} ({source}) in "
            f"{number_of(done, 'image')}"
        )
        if done and not count:
            line += f"; the highest score is {highest:.3f}: set inference.conf_threshold lower"
        print(f"{line}; pictures and labels: {folder}" if done else line)
        _tell(status, unread, done, count)
    return {"images": done, "detections": count, "folder": str(folder)}


def _tell(status: Status, unread: list[str], done: int, objects: int) -> None:
    """Close status.json. Raises with the files that could not be read."""
    kpi: dict[str, float] = {"images": done, "objects": objects}
    if not unread:
        status.write("SUCCESS", "Inference finished.", kpi)
        return
    status.write("FAILURE", f"{number_of(len(unread), 'image')} cannot be read.", kpi)
    kind = ModelError if done else UserError
    raise kind(
        f"{len(unread)} of {number_of(done + len(unread), 'image')} cannot be read:\n" + "\n".join(unread)
    )


def threshold(asked: float | None, known: float | None) -> tuple[float, str]:
    """(the score from which detections are written, where it comes from)."""
    if asked is not None:
        return asked, "inference.conf_threshold"
    if known is not None:
        return known, "best F1 on validation"
    return UNMEASURED_THRESHOLD, "the model file knows none of its own"


@dataclass(frozen=True)
class Picture:
    """An image and where its results go, below the results folder."""

    path: Path
    annotated: Path
    label: Path


def find_images(sources: list[str] | str, by_source: bool = False) -> list[Picture]:
    """Every image in folders, archives, URLs and single files, or in the one that is given; with `by_source` results
    go to a folder per source. No two images share a result file. Raises `UserError` for no image."""
    from model.data.archives import is_archive
    from model.data.images import is_image_name
    from model.data.paths import images_in
    from model.data.sources import is_url, stage, stage_file

    sources = [sources] if isinstance(sources, str) else sources
    found: list[Picture] = []
    seen: set[Path] = set()  # images
    taken: set[Path] = set()  # label files
    for number, text in enumerate(s for s in sources if s):
        single = is_image_name(Path(text)) if is_url(text) else Path(text).is_file()
        if single and not is_archive(text):
            path = stage_file(text)
            root, paths, home = path.parent, [path], Path(text).parent.name
        else:
            root, home = stage(text), Path(text).name
            paths = list(images_in(root))
        paths = [path for path in paths if path.resolve() not in seen]
        seen |= {path.resolve() for path in paths}
        target = Path(home if by_source else "")
        below = {path: path.relative_to(root) for path in paths}
        if taken & {target / "labels" / name.with_suffix(".txt") for name in below.values()}:
            target /= f"{number}_{home}"  # another source has images of these names
        for path, name in below.items():
            label = target / "labels" / name.with_suffix(".txt")
            if label in taken:  # a.jpg beside a.png
                label = label.with_name(f"{name.name}.txt")
            taken.add(label)
            found.append(Picture(path, target / "images_annotated" / name, label))
    if not found:
        raise UserError(f"dataset.infer_data_sources.image_dir must name images, but {sources} holds none")
    return found


def detect(
    spec: Mapping[str, Any], runner: Any, paths: list[Path], limit: float, rank: int = 0, world: int = 1
) -> Iterator[tuple[int, dict[str, Any] | str, float]]:
    """(index, detections with a score of at least `limit` or why it cannot be read, the highest score of any) of each
    of this rank's images, batch by batch."""
    from torch.utils.data import DataLoader

    from model.data.loaders import EvalBatches, loader_workers
    from model.data.shared_memory import end_without_room
    from model.data.transforms import EvalTransform, batch_images
    from model.deploy.runners import input_size
    from model.postprocess import postprocess

    exact, size = input_size(runner, spec, "inference"), batch_size(spec, "inference")
    transform = EvalTransform(spec)
    stored = [read_size(path, transform.max_pixels) for path in paths]
    sizes = [exact or (transform.size(*size) if size else (0, 0)) for size in stored]
    batches = [batch for batch in EvalBatches(sizes, size, rank, world) if batch[0] < len(paths)]
    largest = max((height * width for height, width in sizes), default=1)
    workers = loader_workers(spec["dataset"]["workers"], size, largest)
    items: Any = Loaded(paths, spec, exact)
    for batch in DataLoader(
        items, batch_sampler=batches, num_workers=workers, collate_fn=list, worker_init_fn=end_without_room
    ):
        yield from ((index, why, 0.0) for index, why, _ in batch if isinstance(why, str))
        batch = [item for item in batch if not isinstance(item[1], str)]
        if not batch:
            continue
        images = [pixels for _, pixels, _ in batch]
        outputs = runner.infer(*batch_images(images, [(i.shape[1], i.shape[2]) for i in images]))
        originals = [original for *_, original in batch]
        results = postprocess(outputs, originals, spec["model"]["num_select"])
        for (index, *_), found in zip(batch, results, strict=True):
            keep = found["scores"] >= limit
            kept = {name: values[keep].tolist() for name, values in found.items()}
            yield index, kept, float(found["scores"].max())


class Loaded:
    """Item i: (i, pixels [3, H, W] or why it cannot be read, (H, W) of the original), in a loader's process."""

    def __init__(self, paths: list[Path], spec: Mapping[str, Any], size: tuple[int, int] | None) -> None:
        self.paths, self.spec, self.size = paths, spec, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Any, tuple[int, int]]:
        import torch

        from model.deploy.calibration import load_image

        try:
            pixels, original = load_image(self.paths[index], self.spec, self.size)
        except UserError as error:
            return index, str(error), (0, 0)
        return index, torch.from_numpy(pixels), original


def read_size(path: Path, max_pixels: int) -> tuple[int, int] | None:
    """(H, W) px of an image, upright, without decoding it; None when it cannot be read."""
    from model.data.images import BROKEN, opened, upright_size

    try:
        with opened(path, max_pixels) as file:
            width, height = upright_size(file)
    except (UserError, *BROKEN):
        return None
    return height, width


def checked_colours(color_map: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """{class name: RGB}. Raises `UserError` for what is no colour."""
    from PIL import ImageColor

    colours: dict[str, tuple[int, ...]] = {}
    for name, value in color_map.items():
        try:
            colours[name] = tuple(map(int, value)) if isinstance(value, list) else ImageColor.getrgb(value)
        except (ValueError, TypeError, AttributeError):
            raise UserError(
                f"inference.color_map: the colour of {name} must be a name, '#rrggbb' or [r, g, b], but got {value!r}"
            ) from None
    return colours


def tell_unknown(colours: Mapping[str, Any], names: Mapping[int, str]) -> None:
    """Say which colours are of no class, where the model file names any."""
    for name in colours if names else ():
        if name not in names.values() and name not in map(str, names):
            hint = did_you_mean(name, names.values()) or f"; there are {', '.join(names.values())}"
            print(f"warning: inference.color_map: there is no class '{name}'{hint}")


def write(
    folder: Path, picture: Picture, found: Mapping[str, Any], names: Mapping[int, str],
    colours: Mapping[str, tuple[int, ...]], outline_px: int, max_pixels: int = MAX_PIXELS,
) -> None:  # fmt: skip
    """One annotated picture and one label file (KITTI's fields and the score), in px of the upright image."""
    from model.data.images import open_rgb

    image = open_rgb(picture.path, max_pixels)
    each = zip(found["scores"], found["labels"], found["boxes_xyxy_px"], strict=True)
    objects = [(names.get(label, str(label)), tuple(box), score) for score, label, box in each]
    for name, corners, score in objects:
        draw(image, f"{name} {score:.2f}", corners, colours.get(name) or own_colour(name), outline_px)
    target = folder / picture.annotated
    if target.suffix.lower() not in SUFFIXES:
        target = target.with_name(f"{target.name}.png")
    for path in (target, folder / picture.label):
        path.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, quality=95)  # formats without loss ignore it
    (folder / picture.label).write_text("".join(kitti_line(*each) for each in objects))


def draw(
    image: Any, text: str, box: tuple[float, float, float, float], colour: tuple[int, ...], outline_px: int
) -> None:
    """One box and, above it, its text on the box's colour."""
    from PIL import ImageDraw, ImageFont

    pen, font = ImageDraw.Draw(image), ImageFont.load_default(FONT_PX)
    pen.rectangle(box, outline=colour, width=outline_px)
    corner = (box[0], max(0.0, box[1] - FONT_PX - 4))
    pen.rectangle(pen.textbbox(corner, f" {text} ", font=font), fill=colour)
    pen.text(corner, f" {text} ", fill="black", font=font)


def kitti_line(name: str, box_xyxy_px: tuple[float, float, float, float], score: float) -> str:
    """One object as KITTI's 15 fields and the score; spaces in a name would make more of them."""
    corners = " ".join(f"{v:.3f}" for v in box_xyxy_px)
    return f"{name.replace(' ', '_')} 0.00 0 0.00 {corners} 0.00 0.00 0.00 0.00 0.00 0.00 0.00 {score:.3f}\n"


def own_colour(name: str) -> tuple[int, int, int]:
    """A bright colour fixed by the class name; Python's hash() would change it with every process."""
    hue = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big") / 65536
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)

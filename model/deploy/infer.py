"""Detect objects: python infer.py IMAGE_OR_FOLDER ... [--threshold 0.4] [--model model.int8.onnx] [--draw FOLDER]

Needs numpy, Pillow and onnxruntime. Class names, size, normalisation and threshold stand in the model file. A line an
object: file, class, score, left, top, right, bottom in px, tabs between; a tab or a line's end in a name is \\t or \\n.
Files that cannot be read are told at the end; exit code 1.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps

# TIFF to Pillow, which finds a small preview in them.
RAW = ".dng .nef .cr2 .cr3 .crw .arw .sr2 .orf .rw2 .raf .pef .srw".split()
JUNK = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")  # folders that systems leave
Image.init()
# Without those that Pillow hands to other programs, whatever a file is called.
FORMATS = [n for n in Image.ID if n not in "EPS PDF WMF FPX MPEG GRIB HDF5 BUFR FITS STUB".split()]
SUFFIXES = {".mpo", *(suffix for suffix, n in Image.registered_extensions().items() if n in FORMATS)}
# What would end a field or a line: a tab as \t, and so on.
PLAIN = {n: repr(chr(n))[1:-1] for n in (*range(32), 127, 133, 0x2028, 0x2029)}


def upright_rgb(path):
    """A file's image, as `to_rgb` makes it."""
    if Path(path).exists() and not Path(path).is_file():
        raise OSError("no regular file")  # to open a pipe may wait for ever
    image, suffix = Image.open(path, formats=FORMATS), Path(path).suffix.lower()
    if image.format == "TIFF" and suffix in RAW:
        raise OSError(f"{suffix} is not read, convert such images to JPEG, PNG or TIFF")
    return to_rgb(image)


def to_rgb(image):
    """A Pillow image as 8-bit RGB, EXIF rotation applied, greys of more bits scaled."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float32)
        top = white(image.mode, values)
        image = Image.fromarray((np.nan_to_num(values).clip(0, top) / top * 255).astype(np.uint8))
    return image.convert("RGB")


def white(mode, values):
    """The value of white, as in training: the least of 1, 255, 65535 that holds all pixels but a few."""
    if mode.startswith("I;16"):
        return 65535.0
    lit = np.sort(values[np.isfinite(values) & (values > 0)])
    strays = int(0.001 * lit.size) or int(lit.size >= 100)
    most, top = (float(lit[n]) for n in (-1 - strays, -1)) if lit.size else (0.0, 0.0)
    for usual in (1.0, 255.0, 65535.0):
        if top <= usual:
            return usual
        near = most <= 1.5 * usual and (top <= 1.5 * usual or most >= usual / 8)
        if near and (usual > 1 or mode == "F"):
            few = int((lit > usual).sum()) <= 0.05 * lit.size + strays
            return usual if few else max(usual, most)
    return top


def shrunk(pixels, size):
    """The first axis [N, ...] of bytes resampled to `size`: bilinear, antialiased, to the bit as in training."""
    scale, at = len(pixels) / size, np.arange(len(pixels))
    reach, centre = max(scale, 1.0), scale * (np.arange(size)[:, None] + 0.5)
    inside = (at >= (centre - reach + 0.5).astype(int)) & (at < (centre + reach + 0.5).astype(int))
    weights = np.maximum(0, 1 - np.abs((at - centre + 0.5) / reach)) * inside
    weights /= weights.sum(axis=1, keepdims=True)
    bits = next(b for b in range(22, -1, -1) if b == 0 or int(0.5 + weights.max() * 2**b) < 2**15)
    sums = np.tensordot(np.floor(weights * 2**bits + 0.5), pixels.astype(np.float64), 1)
    return np.floor(sums / 2**bits + 0.5).clip(0, 255)


class Detector:
    def __init__(self, model):
        known = [p for p in onnxruntime.get_available_providers() if p.startswith(("CUDA", "CPU"))]
        self.session = onnxruntime.InferenceSession(model, providers=known)
        card = self.session.get_modelmeta().custom_metadata_map
        entries = ("classes", "input_mean", "input_std", "num_select", "threshold")
        classes, self.mean, self.std, self.most, self.threshold = (json.loads(card[e]) for e in entries)
        self.names = {c["id"]: c["name"] for c in classes}
        asked = self.session.get_inputs()[0]
        self.alone = asked.name == "image"  # resizes by itself, see export.pre_post
        self.batch, _, self.height, self.width = asked.shape

    def __call__(self, image, threshold=None):
        """[(class name, score, (left, top, right, bottom) px)] of a Pillow image, best first; px of it upright."""
        image = to_rgb(image) if isinstance(image, Image.Image) else image
        limit = next(v for v in (threshold, self.threshold, 0.5) if v is not None)
        boxes, scores, labels = (self._whole if self.alone else self._plain)(image)
        names = [self.names.get(i, str(i)) for i in labels[scores >= limit].tolist()]
        corners = map(tuple, boxes[scores >= limit].tolist())
        return list(zip(names, scores[scores >= limit].tolist(), corners, strict=True))

    def _run(self, names, pixels):
        """The first image's outputs; a graph of a fixed batch gets it so many times."""
        pixels = pixels[None].repeat(self.batch if isinstance(self.batch, int) else 1, axis=0)
        return [found[0] for found in self.session.run(names, {self.session.get_inputs()[0].name: pixels})]

    def _whole(self, image):
        """(boxes px, scores, labels), best first, of a graph that takes an image of any size."""
        return self._run(["boxes", "scores", "labels"], np.asarray(image))

    def _plain(self, image):
        columns = shrunk(np.asarray(image).swapaxes(0, 1), self.width)
        small = shrunk(columns.swapaxes(0, 1), self.height)
        pixels = ((small / 255 - self.mean) / self.std).astype(np.float32).transpose(2, 0, 1)
        logits, boxes = self._run(["pred_logits", "pred_boxes"], pixels)
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
        places = np.argsort(-scores, axis=None, kind="stable")[: self.most]
        queries, labels = np.unravel_index(places, scores.shape)
        x, y, w, h = boxes[queries].T
        corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1).clip(0, 1)
        return corners * np.array(image.size * 2), scores[queries, labels], labels


def share(text):
    value = float(text) if text.replace(".", "", 1).isdigit() else -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, but got {text}")
    return value


def loaded(model):
    """The Detector, or an end with one line."""
    try:
        return Detector(model)
    except KeyError as missing:
        sys.exit(f"error: {model}: its metadata do not name {missing}; deformable_detr export writes them")
    except Exception as error:  # ONNX Runtime has a kind of its own for each
        sys.exit(f"error: {model}: cannot be loaded ({str(error).splitlines()[0]})")


def files_in(place, seen=()):
    """A file as it is, whatever its name; a folder's images, subfolders' and linked ones' too, but none hidden."""
    if not Path(place).is_dir():
        return [place]
    home = Path(place).resolve()
    seen = seen or {home}  # each folder once; no link leads to one that it lies in
    inside = [p for p in Path(place).iterdir() if p.name[0] != "." and p.name not in JUNK]
    found = [p for p in inside if not p.is_dir() and p.suffix.lower() in SUFFIXES]
    for folder in sorted((p for p in inside if p.is_dir()), key=lambda p: (p.is_symlink(), p)):
        if (real := folder.resolve()) not in seen | {*home.parents}:
            seen.add(real)
            found += files_in(folder, seen)
    return sorted(found)


def free_place(folder, path, taken):
    """`<stem>.png` in a folder, numbered where an image of this run is or has been put there."""
    numbered = (folder / f"{Path(path).stem}{f'_{n}' if n else ''}.png" for n in range(len(taken) + 1))
    place = next(place for place in numbered if place.resolve() not in taken)
    taken.add(place.resolve())
    return place


def drawn_to(folder, image, path, taken):
    """Save a picture, or end with one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        image.save(free_place(folder, path, taken))
    except OSError as error:
        sys.exit(f"error: --draw {folder}: cannot be written to ({error.strerror or error})")


def told(*fields):
    """Print a line. Where it cannot be written, an end with one line, or none where who reads has enough."""
    try:
        print(*(str(field).translate(PLAIN) for field in fields), sep="\t", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1 if isinstance(error, BrokenPipeError) else f"error: output cannot be written ({error})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--model", default=str(Path(__file__).with_name("model.onnx")))
    parser.add_argument("--threshold", type=share, metavar="0-1")
    parser.add_argument("--draw", metavar="FOLDER", type=Path)
    options = parser.parse_args()
    if sys.stdout:  # names may be of another encoding
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    detector, unread = loaded(options.model), []
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # training takes as many pixels
    files = [file for place in options.images for file in files_in(place)]
    taken = {Path(file).resolve() for file in files}
    for path in files:
        try:
            image = upright_rgb(path)
        except Exception as error:  # Pillow raises many kinds for damaged files
            why = next(iter(str(error).splitlines()), type(error).__name__)
            unread.append(f"{str(path).translate(PLAIN)}: {why}")
            continue
        for name, score, box in detector(image, options.threshold):
            told(path, name, f"{score:.3f}", *(f"{v:.1f}" for v in box))
            ImageDraw.Draw(image).rectangle(box, outline="red", width=3)
        if options.draw:
            drawn_to(options.draw, image, path, taken)
    if not files:
        sys.exit(f"error: no images in {', '.join(options.images)}")
    if unread:
        sys.exit("\n".join([f"error: {len(unread)} image{'s' * (len(unread) > 1)} cannot be read:", *unread]))


if __name__ == "__main__":
    main()

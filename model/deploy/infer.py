"""Detect objects in images: python infer.py IMAGE ... [--threshold 0.4] [--model model.int8.onnx] [--draw FOLDER]

Needs numpy, Pillow and onnxruntime. Class names, size, normalisation and threshold stand in the model file.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def upright_rgb(path):
    """The image as 8-bit RGB, EXIF rotation applied, greys of more bits scaled."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float32)
        top = 65535.0 if image.mode.startswith("I;16") else float(np.max(values))
        white = next((w for w in (1.0, 255.0, 65535.0) if top <= w), top)
        image = Image.fromarray((values / white * 255).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


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
        self.card = self.session.get_modelmeta().custom_metadata_map
        self.names = {c["id"]: c["name"] for c in json.loads(self.card["classes"])}
        self.mean, self.std, self.most = (self._entry(k) for k in ("input_mean", "input_std", "num_select"))
        self.batch, _, self.height, self.width = self.session.get_inputs()[0].shape

    def _entry(self, key):
        return json.loads(self.card[key])

    def __call__(self, image, threshold=None):
        """[(class name, score, (left, top, right, bottom) px)] of a Pillow image, best first."""
        limit = next(v for v in (threshold, self._entry("threshold"), 0.5) if v is not None)
        columns = shrunk(np.asarray(image).swapaxes(0, 1), self.width)
        small = shrunk(columns.swapaxes(0, 1), self.height)
        pixels = ((small / 255 - self.mean) / self.std).astype(np.float32).transpose(2, 0, 1)[None]
        pixels = pixels.repeat(self.batch if isinstance(self.batch, int) else 1, axis=0)
        logits, boxes = self.session.run(["pred_logits", "pred_boxes"], {"inputs": pixels})
        scores = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
        places = np.argsort(-scores, axis=None, kind="stable")[: self.most]
        queries, labels = np.unravel_index(places[scores.flat[places] >= limit], scores.shape)
        x, y, w, h = boxes[0, queries].T
        corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1).clip(0, 1)
        corners = (corners * np.array(image.size * 2)).tolist()
        names = [self.names.get(i, str(i)) for i in labels.tolist()]
        return list(zip(names, scores[queries, labels].tolist(), map(tuple, corners), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--model", default=str(Path(__file__).with_name("model.onnx")))
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--draw", metavar="FOLDER", type=Path)
    options = parser.parse_args()
    detector = Detector(options.model)
    for path in options.images:
        image = upright_rgb(path)
        for name, score, box in detector(image, options.threshold):
            print(path, name, f"{score:.3f}", *(f"{v:.1f}" for v in box), sep="\t")
            ImageDraw.Draw(image).rectangle(box, outline="red", width=3)
        if options.draw:
            options.draw.mkdir(parents=True, exist_ok=True)
            image.save(options.draw / f"{Path(path).stem}.png")

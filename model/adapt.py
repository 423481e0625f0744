"""A detector's weights into a detector of another shape: what fits is taken, layers and queries are cut or repeated,
rows of classes of the same name are kept, and all that is left starts anew and is listed.

Names are the published repository's throughout (`model/weights.py` brings other layouts to them).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from model.errors import number_of

Weights = dict[str, torch.Tensor]

_STACKS = {"encoder": "transformer.encoder.layers.", "decoder": "transformer.decoder.layers."}
_HEADS = ("class_embed.", "bbox_embed.")
_BY_CLASS = ("class_embed.", "denoising.label_enc.")  # a row for each category id
_QUERIES = ("query_embed.weight",)
_PROJECTION = "input_proj."
_BY_LEVEL = re.compile(r"\.(sampling_offsets|attention_weights)\.(weight|bias)$|\.level_embed$")
_COUNTERS = ("num_batches_tracked", "relative_position_index")  # no weights
# COCO's 80 classes by id; the published models' heads have a row for every id up to 90.
COCO_CLASSES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip


@dataclass(frozen=True)
class Adapted:
    """`weights` for every name of the detector; `new`: names of those that keep their start, `partly`: for some levels
    of the feature maps; `left`: found names that it has no place for, without layers that are cut; `changes`: sentences
    on what was cut, repeated or kept in part."""

    weights: Weights
    new: tuple[str, ...]
    partly: tuple[str, ...]
    left: tuple[str, ...]
    changes: tuple[str, ...]


def adapt(
    found: Weights, detector: nn.Module, theirs: Mapping[int, str] | None, ours: Mapping[int, str] | None
) -> Adapted:
    """Weights of another detector for this one. `theirs`, `ours`: {category id: name} of both; None for theirs: not
    known, and a head of as many classes is taken whole; for ours: not yet, and the names of theirs stand for them."""
    wanted = detector.state_dict()
    source = _Source(found)
    rows = None if theirs is None else _same_names(theirs, theirs if ours is None else ours)
    layers = source.layers("decoder")
    shared = _shared_heads(detector)
    levels = _Levels(source, wanted, detector)
    taken, new, partly, changes = {}, [], [], [*_said(source, wanted), *levels.said()]
    left = {n for n in found if not n.startswith((*_STACKS.values(), *_HEADS)) and not n.endswith(_COUNTERS)}
    for name, value in wanted.items():
        origin = source.name_of(name, wanted, shared)
        left.discard(origin or "")
        old = found.get(origin) if origin else None
        if old is not None and origin is not None and name.startswith(_BY_CLASS):
            rates_cells = name.startswith(_HEADS) and _number(origin) == layers
            old = _class_rows(old, value, rows, rates_cells)
        if old is not None and name in _QUERIES and old.shape[1:] == value.shape[1:]:
            old = old.repeat(-(-len(value) // len(old)), 1)[: len(value)]
        if old is not None and (kept := levels.rows(name, old, value)) is not None:
            old = kept
            partly += [name] if None in levels.origins else []
        if old is None or old.shape != value.shape:
            taken[name] = value
            if not name.endswith(_COUNTERS):
                new.append(name)
        else:
            taken[name] = old
    heads = (found.get("class_embed.0.weight"), wanted.get("class_embed.0.weight"))
    if heads[0] is not None and heads[1] is not None:
        changes.append(_said_of_classes(rows, ours, len(heads[0]), len(heads[1])))
    return Adapted(taken, tuple(new), tuple(partly), tuple(n for n in found if n in left), tuple(changes))


def _said_of_classes(
    rows: Mapping[int, int] | None, ours: Mapping[int, str] | None, old: int, new: int
) -> str:
    """What becomes of class heads of `old` rows in ones of `new`."""
    if rows is None and old == new:
        return (
            f"the weights do not name their classes: all {number_of(old, 'row')} of the class heads are "
            "kept, row by category id"
        )
    if rows is None:
        return (
            "class heads start anew: the weights do not name their classes, and have "
            f"{number_of(old, 'row')}, not {new}"
        )
    if ours is None:
        return "class heads keep the rows of classes of the same name"
    if not rows:
        return "class heads start anew: no class has a name that the weights know"
    kept = ", ".join(sorted(ours[own] for own in rows)[:8])
    return f"class heads keep the rows of {kept}" + (" and others" if len(rows) > 8 else "")


class _Source:
    """Which of the found weights a name of ours comes from."""

    def __init__(self, found: Weights) -> None:
        self.found = found
        self.counts = {part: self._count(prefix) for part, prefix in _STACKS.items()}
        self.heads = self._count("bbox_embed.")

    def layers(self, part: str) -> int:
        return self.counts[part]

    def name_of(self, name: str, wanted: Mapping[str, torch.Tensor], shared: bool) -> str | None:
        for part, prefix in _STACKS.items():
            if name.startswith(prefix):
                return _renumbered(name, prefix, min(_number(name), self.counts[part] - 1))
        for prefix in _HEADS:
            if name.startswith(prefix):
                return self._head(name, prefix, _layers_in(wanted), shared)
        if name.startswith(_PROJECTION):
            return self.projection(name, wanted)
        return name

    def _head(self, name: str, prefix: str, our_layers: int, shared: bool) -> str | None:
        """Of decoder layer i, or, the one behind them, of the encoder's cells."""
        theirs, number = self.counts["decoder"], _number(name)
        if number == our_layers:
            return _renumbered(name, prefix, theirs) if self.heads > theirs else None
        return _renumbered(name, prefix, theirs - 1 if shared else min(number, theirs - 1))

    def projection(self, name: str, wanted: Mapping[str, torch.Tensor]) -> str | None:
        """The level that projects maps of the same width by the same kernel."""
        number = _number(name)
        shape = wanted[f"{_PROJECTION}{number}.0.weight"].shape
        for other in range(self._count(_PROJECTION)):
            weight = self.found.get(f"{_PROJECTION}{other}.0.weight")
            if weight is not None and weight.shape == shape:
                return _renumbered(name, _PROJECTION, other)
        return None

    def levels(self) -> int:
        return self._count(_PROJECTION)

    def _count(self, prefix: str) -> int:
        return len({_number(n) for n in self.found if n.startswith(prefix)})


class _Levels:
    """What belongs to one level of the feature maps each, where the detector has another number of them: rows of the
    levels' embedding [L, C], and of the attention's offsets and weights [M * L * P (* 2), C]. `origins`: the number
    that each of our levels has in the found weights, None where it is new."""

    def __init__(self, source: _Source, wanted: Mapping[str, torch.Tensor], detector: nn.Module) -> None:
        names = [n for n in wanted if re.fullmatch(r"input_proj\.\d+\.0\.weight", n)]
        found = [source.projection(name, wanted) for name in names]
        self.origins = [None if name is None else _number(name) for name in found]
        self.theirs = source.levels()
        attention: list[Any] = [m for m in detector.modules() if hasattr(m, "sampling_offsets")]
        self.heads = int(attention[0].heads)

    def rows(self, name: str, old: torch.Tensor, start: torch.Tensor) -> torch.Tensor | None:
        """`start` with the rows of `old` of the same levels; None where the name has no levels, their number is the
        same, nothing fits, or more than levels differs."""
        ours = len(self.origins)
        if not _BY_LEVEL.search(name) or self.theirs == ours or set(self.origins) <= {None}:
            return None
        heads = 1 if name.endswith("level_embed") else self.heads
        alike = old.shape[1:] == start.shape[1:] and len(old) * ours == len(start) * self.theirs
        if not alike or len(old) % (heads * self.theirs):
            return None
        there = old.reshape(heads, self.theirs, -1, *old.shape[1:])
        result = start.clone().reshape(heads, ours, -1, *start.shape[1:])
        for own, their in enumerate(self.origins):
            if their is not None:
                result[:, own] = there[:, their]
        return result.reshape(start.shape)

    def said(self) -> list[str]:
        """A sentence on levels, none where there are as many."""
        if self.theirs in (0, len(self.origins)) or set(self.origins) <= {None}:
            return []
        kept = [str(own + 1) for own, their in enumerate(self.origins) if their is not None]
        new = [str(own + 1) for own, their in enumerate(self.origins) if their is None]
        more = f", and starts anew for {', '.join(new)}" if new else ""
        return [f"attention is taken for feature levels {', '.join(kept)}, of {self.theirs}{more}"]


def _number(name: str) -> int:
    found = re.search(r"\.(\d+)\.", name)
    assert found, name
    return int(found[1])


def _renumbered(name: str, prefix: str, number: int) -> str:
    return re.sub(rf"^{re.escape(prefix)}\d+\.", f"{prefix}{number}.", name)


def _layers_in(weights: Mapping[str, torch.Tensor], part: str = "decoder") -> int:
    return len({_number(n) for n in weights if n.startswith(_STACKS[part])})


def _shared_heads(detector: nn.Module) -> bool:
    """Whether all decoder layers have one and the same head (no box refinement)."""
    heads = list(getattr(detector, "bbox_embed", ()))
    return len(heads) > 1 and heads[0] is heads[1]


def _same_names(theirs: Mapping[int, str], ours: Mapping[int, str]) -> dict[int, int]:
    """{our category id: theirs} of classes whose names are equal but for case and separators."""
    ids = {_plain(name): number for number, name in theirs.items()}
    return {number: ids[_plain(name)] for number, name in ours.items() if _plain(name) in ids}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _class_rows(
    old: torch.Tensor, start: torch.Tensor, rows: Mapping[int, int] | None, rates_cells: bool
) -> torch.Tensor | None:
    """The rows of a class head (of weight or bias) or of the embedding of noised labels: those of the same class from
    `old`, all others as they start. Row 0 of the head that rates a two-stage model's cells means "an object",
    whatever the classes."""
    if old.shape[1:] != start.shape[1:]:
        return None
    if rates_cells or rows is None:
        return old if old.shape == start.shape else (_only_first(old, start) if rates_cells else None)
    if not rows:
        return None
    result = start.clone()
    for own, their in rows.items():
        if own < len(result) and their < len(old):
            result[own] = old[their]
    return result


def _only_first(old: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    result = start.clone()
    result[0] = old[0]
    return result


def _said(source: _Source, wanted: Mapping[str, torch.Tensor]) -> list[str]:
    """Sentences on layers and queries."""
    lines = []
    for part in _STACKS:
        theirs, ours = source.layers(part), _layers_in(wanted, part)
        if 0 < ours < theirs:
            lines.append(f"the first {ours} of {theirs} {part} layers are taken")
        elif 0 < theirs < ours:
            more = f"layers {theirs + 1} to {ours}" if ours > theirs + 1 else f"layer {ours}"
            lines.append(f"{part} layer {theirs} is copied to {more}")
    for name in _QUERIES:
        old, value = source.found.get(name), wanted.get(name)
        if old is not None and value is not None and old.shape[1:] == value.shape[1:]:
            if len(value) < len(old):
                lines.append(f"the first {len(value)} of {len(old)} queries are taken")
            elif len(value) > len(old):
                lines.append(
                    f"{number_of(len(old), 'query')} {'is' if len(old) == 1 else 'are'} repeated to {len(value)}"
                )
    return lines


def summary(names: Iterable[str]) -> str:
    """Names of weights as the modules that hold all of them: "query_embed, input_proj.3 (4 tensors)"."""
    groups: dict[str, int] = {}
    for name in names:
        parts: Sequence[str] = name.split(".")
        numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        modules = len(parts) - (parts[-1] in ("weight", "bias"))
        depth = numbered + 1 if numbered is not None else min(2, modules)
        key = ".".join(parts[: max(1, depth)])
        groups[key] = groups.get(key, 0) + 1
    return ", ".join(f"{key} ({count} tensors)" if count > 1 else key for key, count in groups.items())

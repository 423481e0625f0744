"""What a model file says of itself. An ONNX file carries it in its metadata, in every number format; an engine, which
has no room for it, in `<engine>.json` beside it. Readers take classes, size, normalisation and threshold from there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.parameters import model_file

FORMAT = "detr-automl 1"
LICENSE = "software: Apache-2.0; weights: none stated"
ENGINES = (".engine", ".plan")
OPENVINO_FILES = (".xml", ".bin", ".xml.json")  # suffixes: graph, weights, card
GRAPHS = (".onnx", ".xml", *ENGINES)  # files that hold a finished network
OPENVINO = "the package openvino (pip install 'detr-automl[openvino]')"
ASKED = "threshold_asked"  # in `trained`: the threshold, where a person wanted it so
IMAGE = "image"  # the only input of a graph that stands alone (standalone.py)


@dataclass(frozen=True)
class Card:
    """`classes` [{"id", "name"}]; input `size` (H, W) px; `mean` and `std` of RGB scaled to 0-1; detections kept an
    image; the score `threshold` that suits, if known; which training it is of. None: the file does not say."""

    classes: list[dict[str, Any]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    num_select: int | None = None
    threshold: float | None = None
    trained: dict[str, Any] = field(default_factory=dict)

    def entries(self) -> dict[str, Any]:
        """As plain values, under the names that the files use."""
        return {
            "format": FORMAT, "software": f"detr-automl {version('detr-automl')}", "license": LICENSE,
            "classes": self.classes, "input_size": list(self.size or ()), "input_mean": self.mean,
            "input_std": self.std, "num_select": self.num_select, "threshold": self.threshold,
            "trained": self.trained,
        }  # fmt: skip

    @staticmethod
    def of(entries: Mapping[str, Any]) -> Card:
        """The reverse. Entries that are not ours make an empty card."""
        if not str(entries.get("format", "")).startswith("detr-automl"):
            return Card()
        size = entries.get("input_size")
        return Card(
            list(entries.get("classes") or []), (int(size[0]), int(size[1])) if size else None,
            entries.get("input_mean"), entries.get("input_std"), entries.get("num_select"),
            entries.get("threshold"), dict(entries.get("trained") or {}),
        )  # fmt: skip


def of_checkpoint(checkpoint: Mapping[str, Any], path: Path | str = "") -> Card:
    """The card of a loaded checkpoint (`checkpoint.load`); it fixes no size."""
    spec = checkpoint["spec"]
    augmentation = spec["dataset"]["augmentation"]
    metrics = {k: v for k, v in checkpoint.get("metrics", {}).items() if isinstance(v, (int, float))}
    trained = {
        "run": "/".join(Path(spec.get("results_dir") or "").parts[-3:]), "checkpoint": Path(path).name,
        "epoch": checkpoint.get("epoch"), "metrics": metrics,
    }  # fmt: skip
    return Card(
        classes=checkpoint["classes"], mean=augmentation["input_mean"], std=augmentation["input_std"],
        num_select=spec["model"]["num_select"], threshold=metrics.get("val_threshold"), trained=trained,
    )  # fmt: skip


def in_form(card: Card, form: str, metrics: Mapping[str, float | None] | None = None) -> Card:
    """The card of another `form` of the same training (fewer bits, layers, pixels): nothing of what was measured on the
    whole is true of it, so that it carries what was measured on itself, val_threshold among it, or nothing. A threshold
    that a person wants stays."""
    own = {name: value for name, value in (metrics or {}).items() if value is not None}
    trained = card.trained | {"form": form, "metrics": own}
    return replace(card, threshold=card.trained.get(ASKED, own.get("val_threshold")), trained=trained)


def asked(card: Card, threshold: float | None) -> Card:
    """With a threshold that a person wants, which is not the one that was best on validation; None: as it is."""
    if threshold is None:
        return card
    return replace(card, threshold=threshold, trained=card.trained | {ASKED: threshold})


def put(path: Path, card: Card) -> None:
    """Write the card into an ONNX file, in place of its own."""
    import onnx

    graph = onnx.load(path)
    write_into(graph, card)
    onnx.save(graph, path)


def write_into(graph: Any, card: Card) -> None:
    """Put the card into an onnx.ModelProto's metadata, in place of what is there; each value is JSON."""
    import onnx

    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in card.entries().items()}
    onnx.helper.set_model_props(graph, texts)


def of_texts(texts: Mapping[str, str]) -> Card:
    """The card in an ONNX file's metadata. Raises `UserError` when it is ours and damaged."""
    if not texts.get("format", "").startswith("detr-automl"):
        return Card()
    plain = ("format", "software", "license")
    try:
        return Card.of({k: v if k in plain else json.loads(v) for k, v in texts.items()})
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"the metadata of the ONNX file is damaged: {error}") from None


def read(path: Path | str) -> Card:
    """The card of an ONNX file, an engine or OpenVINO's .xml; an empty one where there is none."""
    path = Path(path)
    if path.suffix != ".onnx":
        return _of_json(beside_engine(path))
    return completed(of_texts({p.key: p.value for p in loaded(path).metadata_props}), path)


def loaded(path: Path) -> Any:
    """An ONNX file as onnx.ModelProto, without weights that lie in other files. Raises `UserError` for what is none."""
    import onnx

    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:
        raise UserError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]})") from None


def completed(card: Card, path: Path) -> Card:
    """Class names of a file without metadata may lie in `<name>.json` beside it, as older exports wrote them."""
    return card if card.classes else replace(card, classes=_of_json(path.with_suffix(".json")).classes)


def beside_engine(engine: Path | str) -> Path:
    """`model.engine` -> `model.engine.json`."""
    return Path(f"{engine}.json")


def _of_json(path: Path) -> Card:
    if not path.is_file():
        return Card()
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    return Card.of({"format": FORMAT} | entries)


def leaves(action: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the model file that an action's spec names says, as leaves {dotted name: value}; `given`: the spec's own.

    They stand between the defaults and what a person wrote. Only files that stand for themselves are asked: ONNX
    and engines. What is missing or no file is left to the action to tell.
    """
    prefix = f"{action}."
    path = model_file(action, {n.removeprefix(prefix): v for n, v in given.items() if n.startswith(prefix)})
    if Path(path).suffix not in GRAPHS or not Path(path).is_file():
        return {}
    card = read(path)
    found: dict[str, Any] = {
        "dataset.augmentation.input_mean": card.mean,
        "dataset.augmentation.input_std": card.std,
        "model.num_select": card.num_select,
    }
    if action in ("evaluate", "inference"):
        height, width = card.size or (None, None)
        found |= {f"{action}.input_height": height, f"{action}.input_width": width}
    if action == "inference":
        found["inference.conf_threshold"] = card.threshold
    return {name: value for name, value in found.items() if value is not None}


def check(card: Card, spec: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` when the spec's normalisation is not the file's: every score would be silently off."""
    for name, wanted in (("input_mean", card.mean), ("input_std", card.std)):
        got = spec["dataset"]["augmentation"][name]
        if wanted is not None and [float(v) for v in got] != [float(v) for v in wanted]:
            raise UserError(
                f"dataset.augmentation.{name} must be {wanted}, as {where} was trained, but got {got}"
            )


def input_shape(path: Path) -> tuple[int | None, tuple[int, int]]:
    """(batch, None when any will do; (H, W) px) of an ONNX file's input. Raises `UserError` for a graph that stands
    alone."""
    graph = loaded(path).graph
    refuse_standalone([each.name for each in graph.input], path)
    dims = graph.input[0].type.tensor_type.shape.dim
    return int(dims[0].dim_value) or None, (int(dims[2].dim_value), int(dims[3].dim_value))


def refuse_standalone(inputs: Sequence[str], path: Path | str) -> None:
    """Raise `UserError` for a graph of this kind, by its inputs' names, where a plain one is wanted."""
    if list(inputs) == [IMAGE]:
        raise UserError(
            f"{path}: has resize and normalisation inside (export.pre_post); a plain graph is wanted here: export "
            "without it"
        )

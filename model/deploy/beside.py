"""A second model that is scored on the same images: as its own file says it is built, sized and normalised, its classes
matched by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from model import checkpoint as ckpt
from model.data.classes import outside_id
from model.data.coco import CocoData
from model.data.problems import listed
from model.data.transforms import exact_size
from model.deploy import card
from model.deploy.runner import Runner
from model.deploy.runners import open_runner
from model.errors import UserError
from model.spec import ARCHITECTURE, TABLE, Spec, put
from model.spec import leaves as leaves_of

OWN = (*ARCHITECTURE, "dataset.augmentation.input_mean", "dataset.augmentation.input_std")
ASKED = ("model.num_select", "model.exact_padding")  # how a network is run: as the first one is


@dataclass(frozen=True)
class Beside:
    """`file`, what runs it by which spec, and {its label: the data's}; None: its labels are the data's."""

    file: str
    spec: Spec
    runner: Runner
    labels: Mapping[int, int] | None

    def relabelled(self, predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predictions by the data's labels, without those of classes that the data lack."""
        if self.labels is None:
            return [dict(each) for each in predictions]
        known = np.array(sorted(self.labels))
        theirs = np.array([self.labels[n] for n in known.tolist()])
        found = []
        for each in predictions:
            arrays = {name: np.asarray(each[name]) for name in ("scores", "labels", "boxes_xyxy_px")}
            rows = {name: values[np.isin(arrays["labels"], known)] for name, values in arrays.items()}
            rows["labels"] = theirs[np.searchsorted(known, rows["labels"])]
            found.append({"image_id": each["image_id"]} | rows)
        return found


def opened(spec: Spec, data: CocoData, counting: Sequence[int], quiet: bool = False) -> Beside | None:
    """`evaluate.beside`, None where none is named. `counting`: the labels that are scored. Raises `UserError` for a
    file that cannot be run, and for one that lacks a class that is scored."""
    file = spec["evaluate"]["beside"]
    if not file:
        return None
    try:
        own = _own_spec(spec, file)
        file = own["evaluate"]["checkpoint"]
        runner = open_runner(own, "evaluate")
    except UserError as error:
        raise UserError(f"evaluate.beside: {error}") from None
    if runner.size and exact_size(own, "evaluate") not in (None, runner.size):
        own["evaluate"] |= {"input_height": runner.size[0], "input_width": runner.size[1]}
        if not quiet:
            print(
                f"data: {file} sees them at {runner.size[1]}x{runner.size[0]} px, which is the size of its input"
            )
    if not runner.classes and not quiet:
        print(f"warning: {file} names no classes; its labels are taken for the category ids of the data")
    boxed = set(data.labels[~data.crowd].tolist()) & set(counting)
    labels = _matched(runner.classes, data.categories, boxed, file) if runner.classes else None
    return Beside(file, own, runner, labels)


def _own_spec(spec: Spec, file: str) -> Spec:
    """The spec with what the file says of its network and of how images are normalised."""
    own: Spec = copy.deepcopy(dict(spec))
    own["evaluate"] |= {"checkpoint": file, "trt_engine": ""}
    asked = {"evaluate": {"checkpoint": file}, "encryption_key": spec.get("encryption_key", "")}
    said = ckpt.complete("evaluate", asked)
    own["evaluate"]["checkpoint"] = said["evaluate"]["checkpoint"]  # the best of a folder
    found = dict(leaves_of(said, TABLE))
    for name, value in {**found, **card.leaves("evaluate", {"evaluate.checkpoint": file})}.items():
        if name in OWN or (name.startswith("model.") and name not in ASKED):
            put(own, name, value)
    return own


def _matched(
    theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]], boxed: Set[int], file: str
) -> dict[int, int]:
    """{label of the second model: the data's}, by name. Raises `UserError` where it lacks one that is `boxed`."""
    labels = {str(c["name"]): int(c["id"]) for c in ours}
    found = {int(c["id"]): labels[str(c["name"])] for c in theirs if str(c["name"]) in labels}
    lacking = [str(c["name"]) for c in ours if int(c["id"]) in boxed - set(found.values())]
    if lacking:
        both = [outside_id(c) for c in ours if int(c["id"]) in boxed & set(found.values())]
        advice = f"; set dataset.eval_class_ids={both} to score what both know" if both else ""
        raise UserError(
            f"evaluate.beside must know every class that is scored, but {file} has no {listed(lacking)}, and has "
            f"{listed([str(c['name']) for c in theirs])}{advice}"
        )
    return found

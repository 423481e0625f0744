"""A search space of two parameters, written by hand, for tests of the study and the loop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


class TinySpace:
    default: Mapping[str, Any] = {"train.lr": 1e-3, "train.depth": 3}
    parameters = ()
    left_out = ()
    digest = "tiny"
    every = None

    @property
    def widest(self) -> TinySpace:
        return self

    def suggest(self, trial: Any) -> dict[str, Any]:
        return {
            "train.lr": trial.suggest_float("train.lr", 1e-5, 1e-1, log=True),
            "train.depth": trial.suggest_int("train.depth", 1, 6),
        }

    def enqueue_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(params)

    def params_of(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return {name: spec.get("train", {}).get(name.split(".")[1]) for name in self.default}

    def apply(self, base: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        full = copy.deepcopy(dict(base))
        for name, value in params.items():
            full["train"][name.split(".")[1]] = value
        return full

"""What is searched, and what is drawn, stays as it is: digests of a space's record and of 300 draws.

A change that is meant is written down by `python -m tests.automl.space.test_guard` and says in its commit why.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from automl.errors import SpaceError
from automl.space import SearchSpace, compile_space, to_record
from tests.automl.space.drawn import drawn
from tests.automl.space.test_builtin import SCHEMA, base, preset
from tests.automl.space.test_groups import RECOMMENDED
from tests.automl.space.test_properties import mutate, mutate_flagged
from tests.automl.space.test_schemas import REAL
from tests.automl.space.zoo import MODELS

STORED = Path(__file__).with_name("guard.json")
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ask dino": ("dino", {"tune": ["train.optim.lr=1e-5:1e-3", "model.dn_number", "dataset.augmentation.scales"]}),
    "ask optimizer": ("dino", {"tune": ["train.optim.optimizer", "train.optim.lr_scheduler", "train.optim.lr_steps"]}),
    "ask length": ("dino", {"tune": ["train.num_epochs=6:24", "train.optim.lr_steps"]}),
    "ask heads": ("mask2former", {"tune": ["model.mask_former.hidden_dim=64:512", "model.mask_former.nheads"]}),
    "ask block": ("rtdetr", {"search": {"train.optim.lr": {"valid_max": 1e-3}, "model.enc_layers": False}}),
    "ask limits": ("dino", {"limits": {"dataset.batch_size": 5}}),
    "ask few classes": ("dino", {"spec": {"dataset": {"num_classes": 2}}}),
    "ask queries": ("dino", {"fix": ["model.num_queries=100", "model.num_select=50"]}),
}  # fmt: skip


def cases() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """name -> (schema, what else `compile_space` is given)."""
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "ours": (SCHEMA, {}),
        "ours, crops": (SCHEMA, {"spec": base()}),
        "ours, preset small": (SCHEMA, {"spec": preset("small")}),
        "ours, preset demo": (SCHEMA, {"spec": preset("demo")}),
        "ours, SGD": (SCHEMA, {"spec": base(train__optim__optimizer="SGD", train__optim__lr_scheduler="StepLR")}),
    }  # fmt: skip
    specs = {"template": base(), "preset small": preset("small"), "preset demo": preset("demo")}
    ours = {"recommended": {"recommended": RECOMMENDED}, "all": {}}
    for name, spec in specs.items():
        for group, more in ours.items():
            found[f"ours, {name}, {group}"] = (SCHEMA, {"spec": spec, "group": group, **more})
    documents = {name: document for name, document in REAL.items() if name != "our own"} | MODELS
    found |= {name: (document, {}) for name, document in documents.items()}
    found |= {f"{name}, all": (document, {"group": "all"}) for name, document in documents.items()}
    return found | {name: (MODELS[model], asked) for name, (model, asked) in REQUESTS.items()}


def mutants(name: str, count: int = 40) -> list[dict[str, Any]]:
    """Copies of a model's schema with slips in them."""
    rng = random.Random(f"guard {name}")
    return [(mutate if i % 2 else mutate_flagged)(MODELS[name], rng) for i in range(count)]


def digest(data: Any) -> str:
    """Of JSON data; floats count to nine digits, so that no mathematics library decides."""
    text = json.dumps(data, sort_keys=True, default=str)
    text = re.sub(r"-?\d+\.\d+(e[+-]?\d+)?", lambda found: f"{float(found[0]):.9g}", text)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def look(space: SearchSpace, draws: int = 300) -> dict[str, str]:
    return {
        "show": digest(to_record(space)),
        "draws": digest(space.sample(draws, seed=11)),
        "prior": digest(space.sample(20, seed=12, prior=True)),
        "optuna": digest({name: repr(found) for name, found in space.distributions.items()}),
    }


def ends_of(asked: list[tuple[dict[str, Any], dict[str, Any]]], draws: int = 20) -> list[str]:
    """Of each (schema, request) what it draws, or its error, eight digits each."""
    found = []
    for document, request in asked:
        try:
            seen = look(compile_space(document, **request), draws)
        except SpaceError as error:
            seen = {"error": str(error)}
        found.append(digest(seen)[:8])
    return found


def look_at_mutants(name: str) -> list[str]:
    return ends_of([(document, {}) for document in mutants(name)])


def look_at_drawn(hundred: int) -> list[str]:
    """A hundred schemas drawn from seeds, one of their parameters fixed in every other one."""
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for seed in range(100 * hundred, 100 * hundred + 100):
        document = drawn(seed)
        leaves = [f"train.{n}" for n in document["properties"]["train"]["properties"] if n != "num_epochs"]
        found.append((document, {"fix": leaves[:1]} if seed % 2 else {}))
    return ends_of(found, draws=40)


def look_at_fixed(name: str) -> list[str]:
    """Every parameter of a model fixed in turn, at what its space has at one end."""
    space = compile_space(MODELS[name])
    ends = {**space.decode([0.0] * space.dimensions), **space.decode([1.0] * space.dimensions)}
    return ends_of([(MODELS[name], {"fix": {p.name: ends.get(p.name, p.default)}}) for p in space.parameters])


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    return dict(json.loads(STORED.read_text()))


@pytest.mark.parametrize("name", cases())
def test_what_is_searched_and_drawn_stays(name: str, stored: dict[str, Any]) -> None:
    document, asked = cases()[name]
    assert look(compile_space(document, asked.get("spec"), **without_spec(asked))) == stored[name]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_slips_end_as_they_did(name: str, stored: dict[str, Any]) -> None:
    assert look_at_mutants(name) == stored[f"slips in {name}"]


@pytest.mark.parametrize("hundred", range(4))
def test_drawn_schemas_end_as_they_did(hundred: int, stored: dict[str, Any]) -> None:
    assert look_at_drawn(hundred) == stored[f"drawn {hundred}"]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_parameter_fixed_ends_as_it_did(name: str, stored: dict[str, Any]) -> None:
    assert look_at_fixed(name) == stored[f"fixed in {name}"]


def without_spec(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if key != "spec"}


def write() -> None:
    found: dict[str, Any] = {
        name: look(compile_space(document, asked.get("spec"), **without_spec(asked)))
        for name, (document, asked) in cases().items()
    }
    found |= {f"slips in {name}": look_at_mutants(name) for name in sorted(MODELS)}
    found |= {f"fixed in {name}": look_at_fixed(name) for name in sorted(MODELS)}
    found |= {f"drawn {hundred}": look_at_drawn(hundred) for hundred in range(4)}
    known = json.loads(STORED.read_text()) if STORED.exists() else {}
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted((known | found).items())]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()

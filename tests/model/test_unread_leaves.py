"""Every setting of every action is read by code that the action can reach, or is refused when it is set."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import model
from model.errors import UserError
from model.parameters import ACTIONS, PARAMETERS, of_action
from model.spec import get, put, resolve
from tests.conftest import TINY

ROOT = Path(model.__file__).parent
# They handle every leaf alike.
TABLES = {"model.parameters", "model.spec", "model.generate", "model.cli"}
BEFORE = {"train": ["model.facts", "model.settings"]}  # entry points that a search calls before it
TRUE_ALREADY = {"export.on_cpu"}  # true is what always is
DEAD = {p.name: p for p in PARAMETERS if p.dead}
OTHERS = {"model.clip_max_norm": 1.0, "model.dld_model_dir_path": "x", "train.optim.monitor_name": "train_loss", "export.gpu_id": 1}  # fmt: skip


@cache
def parsed(module: str) -> ast.Module | None:
    path = ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text()) if file.is_file() else None


def imported(module: str) -> set[str]:
    """Modules of ours that it imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(parsed(module) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "model" and parsed(name)}


@cache
def read_by(action: str) -> frozenset[str]:
    """Words in the code that an action can reach, as keys are written: of texts, formatted ones among them."""
    seen, left = set(), [f"model.actions.{action}", *BEFORE.get(action, [])]
    while left:
        if (module := left.pop()) not in seen | TABLES:
            seen.add(module)
            left += imported(module)
    trees = [tree for module in seen if (tree := parsed(module))]
    texts = [
        n.value
        for t in trees
        for n in ast.walk(t)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    words = [
        word for text in texts for word in text.split() if word.split(".")[0] not in {*ACTIONS} - {action}
    ]
    return frozenset(part for word in words for part in [word, *word.split(".")])


def reads(action: str, key: str) -> bool:
    """By its name or, as in f"{kind}_batch_size", by its end."""
    words = read_by(action)
    return key in words or any(w.startswith("_") and len(w) > 5 and key.endswith(w) for w in words)


def owners(name: str) -> list[str]:
    """The actions that a leaf is for: its section's, for shared sections all that take it."""
    section = name.split(".")[0]
    return [section] if section in ACTIONS else [a for p in PARAMETERS if p.name == name for a in p.actions]


def test_what_no_code_reads_is_refused() -> None:
    names = {p.name for a in ACTIONS for p in of_action(a)}
    unread = {n for n in names if not any(reads(a, n.split(".")[-1]) for a in owners(n))}
    assert unread == set(DEAD) | TRUE_ALREADY


@pytest.mark.parametrize("name", sorted(DEAD))
def test_a_leaf_that_cannot_act_is_refused_with_the_reason(name: str) -> None:
    assert DEAD[name].doc.startswith("Without effect")
    action = name.split(".")[0] if name.split(".")[0] in ACTIONS else "train"
    partial: dict[str, Any] = json.loads(json.dumps(TINY)) if action == "train" else {}
    put(partial, name, DEAD[name].default)
    assert get(resolve(action, partial), name) == DEAD[name].default
    put(partial, name, OTHERS[name])
    with pytest.raises(UserError, match=rf"{name} must stay .*, but got .*Without effect"):
        resolve(action, partial)


def test_a_checkpoint_of_before_that_has_one_is_still_read(tmp_path: Path) -> None:
    import torch

    from model.spec_file import load

    old = resolve("train", TINY)
    put(old, "model.clip_max_norm", 1.0)
    torch.save({"state_dict": {}, "spec": old, "classes": [], "metrics": {}}, tmp_path / "model.pth")
    spec = load("export", None, {"export.checkpoint": str(tmp_path / "model.pth")})
    assert spec["model"] == old["model"] | {"clip_max_norm": 0.1}

"""Specs that name files from where they lie, so that the folder they stand in may be moved, copied and shipped.

A model whose actions read them says so in skill_info: `here: "${here}"`, the word that stands for the folder of the
spec file. The specs that are handed over then hold no absolute path; those of other models hold nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.rundir import write_yaml
from safe_documents import map_texts, placed

if TYPE_CHECKING:
    from automl.bundle import ModelBundle

RESULTS = "results"  # folder beside a handed-over spec for what it brings when it is run again


def write(bundle: ModelBundle, path: Path, full: Mapping[str, Any]) -> None:
    """Write a spec file, with every absolute path in it turned into one from the file's folder, if the model reads
    those."""
    folder = os.path.realpath(path.parent)
    turned = map_texts(full, lambda text: _from(text, folder, bundle)) if bundle.here else full
    write_yaml(path, turned)


def read(bundle: ModelBundle, path: Path) -> dict[str, Any]:
    """The reverse: a spec file with absolute paths in it."""
    full, folder = spec.load(path), os.path.realpath(path.parent)
    return dict(placed(full, folder, bundle.here)) if bundle.here else full


def settle(bundle: ModelBundle, action: str, path: Path) -> None:
    """Let a handed-over spec, whose action has run or never will, write elsewhere from now on: what it is run for
    again must not take the place of the winner's figures."""
    full = read(bundle, path)
    for key in bundle.spec_keys(action, "output_dir"):
        if spec.get(full, key):
            spec.put(full, key, str(path.parent / RESULTS))
    write(bundle, path, full)


def _from(text: str, folder: str, bundle: ModelBundle) -> str:
    """`/run/best/a` -> `${here}/a`, also behind what marks a reference to a secret. The folders above are taken
    without links, as `..` is; the name itself stays, for what a link points to may be called otherwise."""
    before = str((bundle.skill.get("secrets") or {}).get("reference", "")).partition("{path}")[0]
    mark = before if before and text.startswith(f"{before}/") else ""
    path = text[len(mark) :]
    if not path.startswith("/"):
        return text
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    relative = os.path.relpath(real, folder)
    return f"{mark}{bundle.here}" + ("" if relative == "." else f"/{relative}")

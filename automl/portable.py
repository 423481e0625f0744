"""Specs that name what is handed over with them from where they lie, so that the folder may be moved and copied.

A model whose actions read them says so in skill_info: `here: "${here}"`, the word that stands for the folder of the
spec file. Only what lies in the handed-over folder itself is named so, and the run's own secrets. Data, and whatever
else lies outside, keep their absolute paths: where a copy lies, other data may have the same place from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import secret_leaves, spec
from automl.rundir import write_yaml
from safe_documents import map_texts, placed

if TYPE_CHECKING:
    from automl.bundle import ModelBundle

RESULTS = "results"  # folder beside a handed-over spec for what it brings when it is run again


def write(bundle: ModelBundle, path: Path, full: Mapping[str, Any], handed: Path) -> None:
    """Write a spec file, with the paths in it to what lies in the handed-over folder `handed` turned into ones from the
    file's own folder, if the model reads those."""
    inner, folder = os.path.realpath(handed), os.path.realpath(path.parent)
    turned = map_texts(full, lambda text: _from(text, folder, inner, bundle)) if bundle.here else full
    write_yaml(path, turned)


def read(bundle: ModelBundle, path: Path) -> dict[str, Any]:
    """The reverse: a spec file with absolute paths in it."""
    full, folder = spec.load(path), os.path.realpath(path.parent)
    return dict(placed(full, folder, bundle.here)) if bundle.here else full


def settle(bundle: ModelBundle, action: str, path: Path, handed: Path) -> None:
    """Let a handed-over spec, whose action has run or never will, write elsewhere from now on: what it is run for
    again must not take the place of the winner's figures."""
    full = read(bundle, path)
    for key in bundle.spec_keys(action, "output_dir"):
        if spec.get(full, key):
            spec.put(full, key, str(path.parent / RESULTS))
    write(bundle, path, full, handed)


def _from(text: str, folder: str, handed: str, bundle: ModelBundle) -> str:
    """`/run/best/a` -> `${here}/a`; of what lies outside only a secret is named so, behind what marks the reference to
    it. The folders above are taken without links, as `..` is; the name itself stays, for what a link points to may be
    called otherwise."""
    before = secret_leaves.mark(bundle)
    mark = before if before and text.startswith(f"{before}/") else ""
    path = text[len(mark) :]
    if not path.startswith("/"):
        return text
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if not mark and os.path.commonpath([os.path.normpath(real), handed]) != handed:
        return text
    relative = os.path.relpath(real, folder)
    return f"{mark}{bundle.here}" + ("" if relative == "." else f"/{relative}")

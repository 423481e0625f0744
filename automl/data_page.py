"""`automl data`: the model's page about a dataset, with a spec as `automl run` would settle it for these data here."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from automl import bundle as bundles
from automl import plan, policy, spec
from automl.bundle import ModelBundle
from automl.errors import UserError
from automl.machine import find_machine
from automl.request import RunRequest


def write(request: RunRequest, out: Path) -> list[str]:
    """Write the page to `out`; returns what it warns of. Raises `UserError` for data that are not there, for what a
    run would refuse of the spec or this machine, and for a model that shows none."""
    model = bundles.resolve(request.model)
    draw = model.call("picture")
    if draw is None:
        raise UserError(f"{model.name} cannot show data: skill_info.yaml has no entry_points.picture")
    with tempfile.TemporaryDirectory(prefix="automl-data-") as folder:
        settled = _settled(request, model, Path(folder))
        return list(draw(settled, request.data, out, work_dir=Path(folder)))


def _settled(request: RunRequest, model: ModelBundle, work_dir: Path) -> dict[str, Any]:
    """The merged spec with what the model settles for the data and this machine, but without their files, which the
    page looks for itself; as merged where the data have problems, which it shows."""
    merged, keys = plan.merge(request, model)
    full = copy.deepcopy(merged.spec)
    searching = not policy.not_runnable(model) and policy.resolve(
        model, request.policy, keys.get("automl_policy")
    )
    try:
        facts, _, _ = plan.read_data(request, model, merged, work_dir)
    except UserError:
        return full
    machine, _ = find_machine(request, merged.spec, merged.sources, model)
    settled, _, _ = plan.settle(request, model, merged, facts, machine, searching)
    for name, value in settled.items():
        spec.put(full, name, value)
    return full

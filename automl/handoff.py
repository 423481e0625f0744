"""The winner, ready to deploy: specs for every later action, provenance, and the stages that were asked for.

All of the winner's `model.*` and `dataset.*` leaves travel, tuned or not, so that no action can build another
network than the one that was trained; and every spec points at the checkpoint that scored, copied into `best/`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import spec
from automl.bundle import ModelBundle
from automl.errors import AutoMLError
from automl.provenance import sha256, versions
from automl.rundir import RunDir, write_json, write_yaml
from automl.study import Best, Study, best_epoch

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.progress import Progress

TRAVELS = ("model.", "dataset.")
NOT_RUNNABLE = 3  # exit code of an action whose machine lacks something


@dataclass
class StageResult:
    name: str
    ok: bool
    message: str  # what it brought, or why it did not run
    command: str  # to run it again
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    root: Path
    metric: str
    winner: Best
    default: Best | None
    stages: list[StageResult]
    searched: bool = True


def hand_over(plan: Plan, study: Study, run: RunDir, progress: Progress) -> Outcome:
    """Write `best/` and run the stages asked for; a stage that fails is reported and the others go on."""
    winner = study.best()
    if winner is None:
        raise AutoMLError(f"{run.root}: no trial has a metric yet")
    checkpoint = _take_checkpoint(run, winner, run.best / "model.pth")
    trained = spec.load(run.trial(winner.number) / "spec.yaml")
    write_specs(plan.bundle, trained, checkpoint, run.best)
    write_yaml(run.best / "train.yaml", _for_retraining(plan, trained, run.best))
    _write_provenance(plan, winner, checkpoint, run)
    default = default_result(study)
    stages = []
    for name, spec_path in _stages(plan, run, winner, default):
        progress.note(f"{name} ...")
        stages.append(run_stage(plan.bundle, name, spec_path))
    outcome = Outcome(run.root, plan.request.metric, winner, default, stages, plan.searching)
    write_json(run.root / "outcome.json", asdict(outcome))
    return outcome


def default_result(study: Study) -> Best | None:
    """How the default configuration, trial 0, did."""
    trials = study.trials()
    curve = trials[0].intermediate_values if trials else {}
    if not curve:
        return None
    epoch = best_epoch(curve)
    return Best(0, epoch, curve[epoch], {}, trials[0].state.name == "COMPLETE")


def write_specs(bundle: ModelBundle, trained: Mapping[str, Any], checkpoint: Path, folder: Path) -> None:
    """`<folder>/<action>.yaml` for every action but train, from its template, the winner's leaves and the files
    that pass from action to action (skill_info's spec_params say which key plays which role)."""
    for action in bundle.actions:
        if action != "train":
            write_yaml(folder / f"{action}.yaml", action_spec(bundle, action, trained, checkpoint, folder))


def action_spec(
    bundle: ModelBundle, action: str, trained: Mapping[str, Any], checkpoint: Path, folder: Path
) -> dict[str, Any]:
    """One later action's spec."""
    full = bundle.template(action)
    for name, value in spec.leaves(trained):
        if name.startswith(TRAVELS):
            spec.put(full, name, value)
    files = {
        "output_dir": folder,
        "create_onnx_file": folder / "model.onnx",
        "create_engine_file": folder / "model.engine",
        "create_cal_cache": folder / "calibration.json",
    }
    for key, role in bundle.skill.get("spec_params", {}).get(action, {}).items():
        if role in files:
            spec.put(full, key, str(files[role]))
        elif role == "parent_model" and not key.endswith("trt_engine"):
            spec.put(full, key, str(folder / "model.onnx" if key.endswith("onnx_file") else checkpoint))
    for side in ("input_height", "input_width"):
        size = spec.get(trained, f"train.{side}")
        if size and spec.get(full, f"{action}.{side}", "absent") != "absent":
            spec.put(full, f"{action}.{side}", size)
    calibration = "gen_trt_engine.tensorrt.calibration.cal_image_dir"
    if spec.get(full, calibration) is not None:
        sources = spec.get(trained, "dataset.train_data_sources", [])
        spec.put(full, calibration, [source["image_dir"] for source in sources])
    return full


def run_stage(bundle: ModelBundle, name: str, spec_path: Path) -> StageResult:
    """Run one action on a spec file in its own process, its output in `<spec>.log`."""
    action = name.split("_of_")[0]
    command = bundle.command(action, str(spec_path))
    log = spec_path.with_suffix(".log")
    with log.open("w") as out:
        code = subprocess.run(
            [_program(command[0]), *command[1:]], stdout=out, stderr=subprocess.STDOUT
        ).returncode
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
    shown = " ".join(command)
    if code == NOT_RUNNABLE:
        return StageResult(name, False, f"not run: {last}", shown)
    if code != 0:
        return StageResult(name, False, f"failed (exit code {code}): {last}; log: {log}", shown)
    metrics_file = spec_path.with_suffix("") / "metrics.json"
    metrics = json.loads(metrics_file.read_text()) if metrics_file.exists() else {}
    return StageResult(name, True, last, shown, metrics)


def _stages(plan: Plan, run: RunDir, winner: Best, default: Best | None) -> list[tuple[str, Path]]:
    """(name, spec file) of what was asked for and can be: evaluate needs a test set, and is done for the default
    configuration too when that is another trial whose checkpoint is still there."""
    wanted = [name for name in plan.request.stages if name in plan.bundle.actions]
    stages = [(name, run.best / f"{name}.yaml") for name in wanted]
    if not spec.get(plan.spec, "dataset.test_data_sources.json_file"):
        return [stage for stage in stages if stage[0] != "evaluate"]
    if "evaluate" in wanted and default and default.number != winner.number:
        folder = run.best / "default"
        if run.checkpoint(default.number, default.epoch):
            checkpoint = _take_checkpoint(run, default, folder / "model.pth")
            trained = spec.load(run.trial(default.number) / "spec.yaml")
            write_yaml(
                folder / "evaluate.yaml", action_spec(plan.bundle, "evaluate", trained, checkpoint, folder)
            )
            stages.insert(wanted.index("evaluate") + 1, ("evaluate_of_default", folder / "evaluate.yaml"))
    return stages


def _take_checkpoint(run: RunDir, best: Best, target: Path) -> Path:
    """Copy the checkpoint that scored. Raises `AutoMLError` when it is gone."""
    source = run.checkpoint(best.number, best.epoch)
    if source is None:
        raise AutoMLError(f"{run.trial(best.number)}: the checkpoint of epoch {best.epoch + 1} is gone")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
    return target


def _for_retraining(plan: Plan, trained: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The winner's train spec, writing to a folder of its own."""
    full = spec.nest(dict(spec.leaves(trained)))
    spec.put(full, "results_dir", str(folder / "retrain"))
    if spec.get(full, "train.results_dir") is not None:
        spec.put(full, "train.results_dir", "")
    return full


def _write_provenance(plan: Plan, winner: Best, checkpoint: Path, run: RunDir) -> None:
    write_json(
        run.best / "provenance.json",
        {
            "run": str(run.run_json),
            "trial": winner.number,
            "complete": winner.complete,
            "metric": plan.request.metric,
            "value": winner.value,
            "epoch": winner.epoch,
            "params": winner.params,
            "checkpoint": str(checkpoint),
            "checkpoint_sha256": sha256(checkpoint),
            "changed_from_default": spec.diff(plan.spec, spec.load(run.trial(winner.number) / "spec.yaml")),
            "versions": versions(),
        },
    )


def _program(name: str) -> str:
    """The command beside this Python when it is there (an environment that is not activated), else from PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name

"""What the engine keeps of each trial on disk: its spec, its records, its checkpoints, and how it goes on.

A checkpoint is a file or folder that a record names. While a trial runs, nothing is deleted that is newer than the last
record the driver has handled: a driver may be epochs behind, and a checkpoint is there before its line.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from automl import hooks, records, run_history, same_data, secret_leaves, spec, trial_notes
from automl.checkpoints import OWN_FILES, Checkpoints
from automl.documents import load_yaml
from automl.errors import SpecError
from automl.executors.base import TrialJob
from automl.liveness import read_beat
from automl.machine import share_of
from automl.records import BrokenRecord, Record
from automl.run_json import moved
from automl.rundir import RunDir, write_text, write_yaml
from automl.study import DEFAULT
from safe_documents import dump_yaml

if TYPE_CHECKING:
    from automl.plan import Plan
    from automl.study import Study


KEPT_TRIALS = 5  # checkpoints are kept of so many best COMPLETE trials, and of the default


class Trials(Checkpoints):
    """The trial folders of a run. `handled` holds the records that the driver has taken in, by trial."""

    def __init__(self, plan: Plan, run: RunDir) -> None:
        # What is read of its lines: one in which such a value is no number is broken, for whoever reads it.
        numbers = (plan.metric.name, *plan.bundle.finite)
        super().__init__(run, plan.metric, numbers, plan.bundle.checkpoint_glob)
        self.plan = plan
        self.handled: dict[int, list[Record]] = {}
        self._holding: set[int] | None = (
            None  # ended trials whose folders may hold checkpoints; None: unknown
        )

    # ---- specs and jobs -------------------------------------------------------------------------------------

    def job(self, number: int, params: Mapping[str, Any], epoch: int = 0) -> TrialJob:
        """Write the trial's whole spec, checked, and say how to run it, from this epoch on."""
        full = self._spec(number, params)
        self._name_own_gpus(full)
        hooks.check_spec(self.plan.bundle, full)
        path = self.run.trial(number) / "spec.yaml"
        write_yaml(path, full)
        run_history.note(path.parent, self.plan, epoch)
        machine, entry, gpus = self.plan.machine, self.plan.bundle.entry("train"), self._gpus()
        per_gpu = self.plan.bundle.launch("train") == "per_gpu"
        return TrialJob(
            number=number,
            trial_dir=str(path.parent),
            spec_path=str(path),
            entry=entry or "",
            command=() if entry else self.plan.bundle.command("train", str(path)),
            num_gpus=gpus,
            cpus=machine.cpus_per_trial,
            ranks=max(1, int(gpus)) if per_gpu else 1,
            silence_timeout_s=self.plan.request.silence_timeout_s,
            env=self.plan.bundle.trial_env(str(path.parent)),
        )

    def set_aside(self, number: int) -> None:
        """Move away what lies in the folder of a trial that is about to begin: it is of another configuration."""
        folder = self.run.trial(number)
        if (folder / "metrics.jsonl").exists():
            names = (folder.with_name(f"set_aside_{folder.name}_{n}") for n in itertools.count())
            folder.rename(next(name for name in names if not name.exists()))

    def begin(self, number: int, study: Study) -> None:
        """Make room for a new trial, and keep what the study has of it."""
        self.set_aside(number)
        trial_notes.write(self.run.trial(number), study.frozen(number))

    def keep(self, number: int, study: Study) -> None:
        """Keep that a trial ended, waits or goes on, where it has a folder."""
        if self.run.trial(number).is_dir():
            trial_notes.write(self.run.trial(number), study.frozen(number))

    def spec_of(
        self, number: int, params: Mapping[str, Any], say: Callable[[str], Any] = lambda text: None
    ) -> dict[str, Any]:
        """The whole spec that a trial ran with. Its file may be gone, cut off, or somebody has tried something in it:
        then it is made again from the params, and `say` told why."""
        full, path = self._spec(number, params), self.run.trial(number) / "spec.yaml"
        self._name_own_gpus(full)
        if not path.is_file():
            return full
        try:
            found = spec.load(path)
        except SpecError:
            odd = ["it cannot be read"]
        else:
            found = moved(
                found, self._root_in(found, number), self.run.root, secret_leaves.mark(self.plan.bundle)
            )
            # A resumed run may have been told of another place of its data.
            for name in same_data.of_data(self.plan.sources):
                spec.put(found, name, spec.get(full, name))
            # It was trained before its model had them; what is handed over is for the model of now.
            for name, source in self.plan.sources.items():
                if source == spec.LATER and spec.get(found, name, spec.MISSING) is spec.MISSING:
                    spec.put(found, name, spec.get(full, name))
            odd = self._odd(found, full)
        if odd:
            say(f"{path}: {', '.join(odd[:3])}; trial {number} is handed over with what it was given")
        return full if odd else found

    def _root_in(self, full: Mapping[str, Any], number: int) -> str:
        """The run's folder when a trial's spec was written."""
        writes = spec.get(full, self.plan.bundle.output_keys("train")[0])
        return str(writes or "").removesuffix(f"/trials/{number:04d}")

    def _odd(self, found: Mapping[str, Any], full: Mapping[str, Any]) -> list[str]:
        """What a trial's file has otherwise than its spec; where it writes and the GPUs that it had do not count."""
        bundle = self.plan.bundle
        own = {*bundle.output_keys("train"), bundle.skill.get("gpu_ids_key")}
        own = {name for name in own if spec.get(found, str(name), spec.MISSING) is not spec.MISSING}
        names = [name for name, _, _ in spec.diff(found, load_yaml(dump_yaml(full)))]
        return [f"{name} is another" for name in names if name not in own]

    def _gpus(self) -> float:
        """How many GPUs the next trial gets, or its share of one."""
        machine = self.plan.machine
        if (
            not machine.measured or not self.records(self.plan.first)[0]
        ):  # a whole epoch, with its validation, takes the most
            return machine.gpus_per_trial
        return share_of(read_beat(self.run.trial(self.plan.first) / "heartbeat") or {})

    def resumed(self, number: int, params: Mapping[str, Any]) -> TrialJob:
        """The job of a trial that goes on from its last whole checkpoint; epochs after it are run again."""
        found = self._to_go_on_from(number)
        job = self.job(number, params, found[-1].epoch + 1 if found else 0)
        folder, metrics = self.run.trial(number), self.run.trial(number) / "metrics.jsonl"
        self.handled[number] = list(found)
        if metrics.exists():
            write_text(metrics, "".join(json.dumps(dict(record.values)) + "\n" for record in found))
        key = self.plan.bundle.spec_key("train", "resume_model")
        if not found or not key:
            return job
        full = spec.load(folder / "spec.yaml")
        spec.put(full, key, str(self.checkpoint(number, found[-1])))
        path = folder / "resume.yaml"
        write_yaml(path, full)
        command = job.command and self.plan.bundle.command("train", str(path))
        return replace(job, spec_path=str(path), command=command)

    def goes_on_at(self, number: int) -> int:
        """The epoch that a trial would go on with; 0 where it would start from nothing."""
        found = self._to_go_on_from(number)
        return found[-1].epoch + 1 if found else 0

    def _to_go_on_from(self, number: int) -> list[Record]:
        """A trial's lines up to its last whole checkpoint. What follows is run again; without a way to go on, all."""
        found, _ = self.records(number)
        while found and (not self.plan.bundle.can_resume or self.checkpoint(number, found[-1]) is None):
            found.pop()
        return found

    def num_epochs(self, number: int, params: Mapping[str, Any]) -> int | None:
        """The length of the trial's training; None where the model does not say."""
        return self.plan.bundle.epochs(self._spec(number, params))

    def _spec(self, number: int, params: Mapping[str, Any]) -> dict[str, Any]:
        full = self.plan.space.apply(self.plan.spec, params)
        for key in self.plan.bundle.output_keys("train"):
            if spec.get(full, key) is not None:
                spec.put(full, key, str(self.run.trial(number)))
        return full

    def _name_own_gpus(self, full: dict[str, Any]) -> None:
        """A trial sees its own GPUs alone, numbered from 0."""
        key = self.plan.bundle.skill.get("gpu_ids_key")
        if key and self.plan.machine.gpus_per_trial:
            spec.put(full, key, list(range(math.ceil(self.plan.machine.gpus_per_trial))))

    # ---- records and checkpoints --------------------------------------------------------------------------------

    def take(
        self, number: int, line: Mapping[str, Any], num_epochs: int | None = None
    ) -> tuple[Record, float | None]:
        """Take in the next line of a trial, whose training has `num_epochs`: (its record, what the search makes
        better). Raises `BrokenRecord`."""
        record, handled = records.parse(line, self.numbers), self.handled.setdefault(number, [])
        records.check_step(handled[-1].epoch if handled else -1, record.epoch, num_epochs)
        self.check_place(number, record)
        value = record.number(self.plan.metric.name)
        handled.append(record)
        return record, value

    def check_place(self, number: int, record: Record) -> None:
        """Raises `BrokenRecord` for a checkpoint outside the trial's folder, for nothing else is the trial's, and for
        a file there that is the engine's."""
        if os.path.normpath(record.checkpoint or "") in OWN_FILES:
            raise BrokenRecord(f"checkpoint must be a file of the trainer's, but got '{record.checkpoint}'")
        folder = os.path.abspath(self.run.trial(number))
        path = os.path.abspath(os.path.join(folder, record.checkpoint or "inside"))
        if not path.startswith(folder + os.sep):
            raise BrokenRecord(f"checkpoint must lie in the trial's folder, but got '{record.checkpoint}'")

    def scoring(self, number: int) -> set[int]:
        """Of a trial that runs, by the lines that have been handled."""
        return self._counting(self.handled.get(number) or self.records(number)[0])

    def keep_while_running(self, number: int, best_epoch: int | None) -> None:
        """Of what handled records name, keep the best epoch's checkpoint and the last one there is to go on from."""
        handled = self.handled.get(number, [])
        present = [r for r in handled if self.checkpoint(number, r)]
        kept = {r.checkpoint for r in present if r.epoch == best_epoch}
        kept |= {r.checkpoint for r in present[-1:]}
        self._drop(number, {r.checkpoint for r in handled if r.checkpoint} - kept)
        if present:
            self._drop_unnamed(number, present[-1])

    def keep_best(self, study: Study) -> None:
        """Of trials that ended, keep the scoring checkpoint of the best few and of the default."""
        kept = {best.number: best.epoch for best in study.leaders(KEPT_TRIALS)}
        trials = study.trials()
        if trials and trials[DEFAULT].state.is_finished() and trials[DEFAULT].intermediate_values:
            kept[DEFAULT] = study.result(DEFAULT).epoch
        self.keep_of_ended(kept, (t.number for t in trials if t.state.is_finished()))

    def keep_of_ended(self, best_epochs: Mapping[int, int], ended: Iterable[int]) -> None:
        """Of trials that ended, keep only the scoring checkpoint of those in `best_epochs` (number -> epoch)."""
        self._holding = set(ended) if self._holding is None else self._holding | set(best_epochs)
        for number in list(self._holding):
            best = best_epochs.get(number)
            path = self.checkpoint_of(number, best) if best is not None else None
            if best is not None and path is None:
                continue  # nothing would be left of a trial that may have to be handed over
            folder = self.run.trial(number)
            self._drop(number, {name for name in self._all(number) if folder / name != path})
            if best is None:
                self._holding.discard(number)

    def let_go(self, number: int) -> None:
        """A trial ended: it may hold checkpoints until `keep_of_ended` has looked."""
        self.handled.pop(number, None)
        if self._holding is not None:
            self._holding.add(number)

    def _all(self, number: int) -> set[str]:
        """The names of all checkpoints in a trial's folder: those named by its records, and what looks like one."""
        named = {r.checkpoint for r in self.records(number)[0] if r.checkpoint}
        return named | {path.name for path in self._looks_like_one(number)}

    def _drop_unnamed(self, number: int, last: Record) -> None:
        """Delete what looks like a checkpoint, is named by no line and is older than the last one handled (written
        within an epoch, or by a process that died before its line)."""
        newest = self.checkpoint(number, last)
        if newest is None:
            return
        folder, before = self.run.trial(number), newest.stat().st_mtime_ns
        loose = {path.name for path in self._looks_like_one(number) if not path.is_symlink()}
        loose -= {r.checkpoint for r in self.records(number)[0]}
        with contextlib.suppress(FileNotFoundError):
            self._drop(number, {name for name in loose if (folder / name).stat().st_mtime_ns < before})

    def _drop(self, number: int, names: Iterable[str | None]) -> None:
        """Delete checkpoints of a trial by name, and links whose target is gone. Nothing outside its folder."""
        folder = self.run.trial(number)
        for name in names:
            path = folder / str(name)
            if not name or folder.resolve() not in path.resolve().parents:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for link in folder.glob("*"):
            if link.is_symlink() and not link.exists():
                link.unlink(missing_ok=True)

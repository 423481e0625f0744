"""The layout of a run on disk, and how its files are written whole.

run.json              what was asked, seed, versions, base spec, data facts, space digest; `format` numbers it;
                      what later starts had otherwise
storage_url           the database's URL when it holds a password, which run.json leaves out; for its owner's eyes
data_url              the same of the data's URL
run.lock              held by the driver while it lives
best.lock             held by whoever writes in best/
study.db              the Optuna storage (unless a URL was given)
elapsed_s             how long the search has run, beside the database
trials/0007/          spec.yaml, trial.json (what the study has of it), metrics.jsonl, status.json, log.txt,
                      starts.json (which of the run's starts trained it, where another than the first did),
                      model_epoch_*.pth, dd_model_latest.pth; of trackers: tracked.json, tensorboard/
best/                 the winner's specs for every action, provenance.json, what the stages wrote (evaluate/ended.json:
                      of what evaluate ended well)
best_of_trial_3/      what best/ held when another trial became the winner, or best/pareto/0003 when it left the
                      front and somebody had made more of it
best/pareto/0007/     the same of every other trial of a front (--objectives), without the stages
so_far/0007_epoch_12/ the same of the best there was when `automl best --export` was asked, while the run went on
report.html
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl import database_url, run_json, web_url
from automl.errors import UserError
from automl.locks import is_running
from safe_documents import dump_yaml

ELAPSED = "elapsed_s"


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename. `mode`: its permissions, less the umask's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", opener=lambda n, flags: os.open(n, flags, mode)) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise


# What `write_text`, a copy, a look from other machines and a trainer write before it has its name: `.NAME.PID.tmp`.
TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)\.tmp|\.seen-[0-9a-f]{16}")


def clear_temporaries(root: Path) -> None:
    """Delete what writers of a run that were killed have left anywhere in it; call only while holding its lock. What a
    process that lives is writing (a report, an export) stays."""
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            if (found := TEMPORARY.fullmatch(name)) and not _lives(found["pid"]):
                path = Path(folder, name)
                shutil.rmtree(path, ignore_errors=True) if name in folders else path.unlink(missing_ok=True)
        folders[:] = [name for name in folders if not TEMPORARY.fullmatch(name)]


def _lives(pid: str | None) -> bool:
    if pid is None or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def write_json(path: Path, document: Any) -> None:
    write_text(path, json.dumps(document, indent=1, default=str) + "\n")


def write_yaml(path: Path, document: Any) -> None:
    write_text(path, dump_yaml(document))


@dataclass(frozen=True)
class RunDir:
    """`handed_over`: the folder, below `root`, that what is handed over goes to."""

    root: Path
    handed_over: str = "best"

    @property
    def run_json(self) -> Path:
        return self.root / "run.json"

    @property
    def data_url(self) -> Path:
        return self.root / "data_url"

    @property
    def storage_url(self) -> Path:
        return self.root / "storage_url"

    @property
    def best(self) -> Path:
        return self.root / self.handed_over

    def trial(self, number: int) -> Path:
        return self.root / "trials" / f"{number:04d}"

    def trials(self) -> dict[int, Path]:
        """number -> folder of the trials that have one; what else lies there (copies of a trial, notes) is none."""
        named = (f for f in (self.root / "trials").glob("[0-9]*") if f.name.isdecimal() and f.is_dir())
        return {n: f for f in sorted(named) if f == self.trial(n := int(f.name))}

    def failure(self, number: int, reason: str) -> str:
        """How a failed trial is told, with the log that says more."""
        return f"trial {number}: {reason}; log: {self.trial(number) / 'log.txt'}"

    def keep_elapsed(self, seconds: float) -> None:
        """Keep how long the search has run, for the case that its study is lost."""
        write_text(self.root / ELAPSED, f"{seconds}\n")

    def kept_elapsed(self) -> float:
        """The same; 0 where it is not there or no such number."""
        try:
            found = float((self.root / ELAPSED).read_text()) if (self.root / ELAPSED).is_file() else 0.0
        except (OSError, ValueError):
            return 0.0
        return found if math.isfinite(found) and found > 0 else 0.0

    def write_run(self, document: dict[str, Any]) -> None:
        request = dict(document["request"])
        if (url := request["storage"]) and database_url.has_secret(url):
            write_text(self.storage_url, url, mode=0o600)
            request["storage"] = database_url.shown(url)
        else:
            self.storage_url.unlink(missing_ok=True)  # of the place before
        if (url := request.get("data")) and web_url.has_secret(url):
            write_text(self.data_url, url, mode=0o600)
            request["data"] = web_url.shown(url)
        else:
            self.data_url.unlink(missing_ok=True)  # of the place before
        write_json(self.run_json, {"format": run_json.FORMAT} | document | {"request": request})

    def read_run(self) -> dict[str, Any]:
        """run.json. Raises `UserError` when this is no run folder, it is damaged, or of a later format."""
        document = run_json.read(self.run_json)
        url = document["request"].get("storage")
        if url and database_url.has_secret(url):
            document["request"]["storage"] = self._whole_url(url)
        url = document["request"].get("data")
        if url and self.data_url.is_file():
            document["request"]["data"] = self.data_url.read_text().strip()
        return document

    def _whole_url(self, hidden: str) -> str:
        try:
            return self.storage_url.read_text().strip()
        except FileNotFoundError:
            raise UserError(
                f"{self.storage_url}: is gone; write the database's URL with its password ({hidden}) into it, mode 600"
            ) from None


@contextmanager
def leaving_nothing(folder: Path) -> Iterator[None]:
    """What is raised inside leaves no folder where there was none, but for a run that has begun in it or that another
    process prepares there."""
    fresh = not folder.exists()
    try:
        yield
    except BaseException:
        if fresh and not RunDir(folder).run_json.exists() and not is_running(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise

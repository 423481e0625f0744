"""The files of a run as the dashboard's artifacts: each trial's spec, records, log and pictures, its curves, and what
the stages drew of winner and default. They are read where they lie, or drawn when somebody looks; nothing is copied,
changed or deleted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from automl import run_outcome
from automl.comparison import OF_DEFAULT, document_of
from automl.errors import UserError
from automl.report import drawings
from automl.rundir import RunDir
from automl.study import DEFAULT

PREFIX = "artifacts:"  # of Optuna's system attributes that name an artifact
TEXT, SVG, HTML = "text/plain", "image/svg+xml", "text/html"
OF_TRIAL = ("spec.yaml", "metrics.jsonl", "log.txt")
KINDS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
MOST_PICTURES = 12  # of a trial's folder, and of each stage


@dataclass(frozen=True)
class Attachment:
    """`place` is its name within the run; `open` gives its bytes."""

    place: str
    kind: str
    open: Callable[[], BinaryIO]

    @property
    def id(self) -> str:
        return self.place.encode().hex()

    @property
    def document(self) -> str:
        name = self.place.rsplit("/", 1)[-1]
        return json.dumps({"artifact_id": self.id, "filename": name, "mimetype": self.kind, "encoding": None})


class Attachments:
    """An artifact store (optuna.artifacts) of the run in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of_study(self) -> dict[str, str]:
        """The system attributes that name the run's own."""
        return _attributes(self._report())

    def of_trial(self, number: int) -> dict[str, str]:
        """The system attributes that name a trial's."""
        return _attributes(self._of_trial(number))

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Raises `ArtifactNotFound` for what is none of the run's artifacts."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        for each in self._all():
            if each.id == artifact_id:
                return each.open()
        raise ArtifactNotFound(f"{artifact_id} is no artifact of {self.root}")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        raise NotImplementedError("a run folder takes no uploads")

    def remove(self, artifact_id: str) -> None:
        """A study that is deleted leaves the run's folder as it is."""

    def _all(self) -> Iterator[Attachment]:
        yield from self._report()
        for number in RunDir(self.root).trials():
            yield from self._of_trial(number)

    def _report(self) -> Iterator[Attachment]:
        if (self.root / "report.html").is_file():
            yield self._file(self.root / "report.html", HTML)

    def _of_trial(self, number: int) -> Iterator[Attachment]:
        folder = RunDir(self.root).trial(number)
        if (records := folder / "metrics.jsonl").is_file():
            place = f"{folder.relative_to(self.root).as_posix()}/curves.svg"
            yield Attachment(place, SVG, lambda: _drawn(drawings.curves(records)))
        yield from (self._file(folder / name, TEXT) for name in OF_TRIAL if (folder / name).is_file())
        found = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in KINDS and not p.is_symlink()]
        yield from (self._file(path, KINDS[path.suffix.lower()]) for path in found[:MOST_PICTURES])
        yield from self._of_stages(number)

    def _file(self, path: Path, kind: str) -> Attachment:
        return Attachment(path.relative_to(self.root).as_posix(), kind, lambda: open(path, "rb"))

    def _of_stages(self, number: int) -> Iterator[Attachment]:
        """What the stages drew of the winner, and of the default configuration."""
        try:
            outcome = run_outcome.read(self.root)
        except UserError:
            return
        winner = (outcome.get("winner") or {}).get("number")
        stages = outcome.get("stages", ())
        mine = [s for s in stages if number == (DEFAULT if s["name"].endswith(OF_DEFAULT) else winner)]
        for stage in mine:
            if document := document_of(stage, self.root):
                yield from _pictures(str(stage["name"]), document, (self.root / str(stage["report"])).parent)


def _pictures(stage: str, document: dict[str, Any], folder: Path) -> Iterator[Attachment]:
    found = drawings.pictures_of(document)[:MOST_PICTURES]
    for place, (each, marks) in enumerate(found, 1):

        def draw(each: Any = each, marks: Any = marks) -> BinaryIO:
            return _drawn(drawings.picture(each, marks, folder))

        yield Attachment(f"{stage}/{stage}_{place:02d}.svg", SVG, draw)


def _drawn(text: str) -> BinaryIO:
    return io.BytesIO(text.encode())


def _attributes(found: Iterator[Attachment]) -> dict[str, str]:
    return {PREFIX + each.id: each.document for each in found}

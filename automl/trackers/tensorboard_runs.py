"""TensorBoard's files in each trial's folder: `tensorboard --logdir RUN/trials`.

They are written here, record by record as they come, with TensorBoard's own messages. Other writers keep what is not on
disk yet in threads and buffers, which on a full disk end a program with their tracebacks, and import torch.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams.api_pb2 import Experiment, HParamInfo, MetricInfo, MetricName
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from automl.ending import State
from automl.trackers import Run, Trial, flat
from safe_documents import dump_yaml

if TYPE_CHECKING:
    from automl.report.raster import Picture


def check() -> None:
    """Files need nothing more."""


class TensorBoardRun(Run):
    def __init__(self, trial: Trial) -> None:
        self.trial, self.id = trial, "tensorboard"
        folder = trial.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        # One opened in the same second must not write over another.
        count = len(list(folder.glob("events*")))
        self.path = folder / f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{count}"
        self._write(file_version="brain.Event:2")

    def begin(self) -> None:
        self._text("spec", f"```\n{dump_yaml(dict(self.trial.spec))}\n```")

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self._add([{"tag": name, "simple_value": value} for name, value in values.items()], epoch)

    def end(self, state: State, reason: str, figures: Mapping[str, float]) -> None:
        if figures and state != "PAUSED":
            self._add(_of_parameters(flat(self.trial.params), figures))
            self.log(0, figures)
        self._text("end", f"{state}: {reason}")

    def mark(self, won: bool, report: Path | None, pictures: Sequence[Picture] = ()) -> None:
        self._text("winner", f"the winner; report: {report}" if won else "no longer the winner")
        for each in pictures:
            image = {"height": each.height, "width": each.width, "colorspace": 3}
            self._add([{"tag": each.name, "image": {**image, "encoded_image_string": each.png}}])

    def _text(self, name: str, text: str) -> None:
        tensor = {"dtype": 7, "string_val": [text.encode()], "tensor_shape": {"dim": [{"size": 1}]}}
        told = {"plugin_data": {"plugin_name": "text"}}
        self._add([{"tag": f"{name}/text_summary", "metadata": told, "tensor": tensor}])

    def _add(self, values: Sequence[Mapping[str, Any]], step: int = 0) -> None:
        self._write(step=step, summary={"value": list(values)})

    def _write(self, **event: Any) -> None:
        data = record(Event(wall_time=time.time(), **event).SerializeToString())
        with open(self.path, "ab", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError(f"{self.path}: the disk is full")


def record(data: bytes) -> bytes:
    """As TensorBoard's files hold it: its length and the data, each with a masked CRC-32C (TFRecord)."""
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(sums) + data + next(sums)


def _of_parameters(params: Mapping[str, Any], figures: Mapping[str, float]) -> list[dict[str, Any]]:
    """What its page of hyperparameters shows."""
    start, infos = SessionStartInfo(), []
    for name, value in params.items():
        kind, field = (
            (2, "bool_value") if isinstance(value, bool) else (1, "string_value") if isinstance(value, str)
            else (3, "number_value")
        )  # fmt: skip
        setattr(start.hparams[name], field, value)
        infos.append(HParamInfo(name=name, type=kind))
    measured = [MetricInfo(name=MetricName(tag=name)) for name in figures]
    told = {
        "experiment": HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=measured)),
        "session_start_info": HParamsPluginData(session_start_info=start),
        "session_end_info": HParamsPluginData(session_end_info=SessionEndInfo(status=1)),
    }
    return [
        {"tag": f"_hparams_/{name}",
         "metadata": {"plugin_data": {"plugin_name": "hparams", "content": data.SerializeToString()}}}
        for name, data in told.items()
    ]  # fmt: skip


def open_run(trial: Trial, known: str | None, root: Path) -> Run:
    """`known`: None for a trial that is new to it."""
    run = TensorBoardRun(trial)
    if known is None:
        run.begin()
    return run

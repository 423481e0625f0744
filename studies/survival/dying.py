"""`python dying.py N <arguments of automl>`: the driver, killed with SIGKILL just before its N-th durable event: a
database commit, a rename, an unlink or an fsync."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

left = int(sys.argv.pop(1))


def event() -> None:
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(call: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*args: Any, **kwargs: Any) -> Any:
        event()
        return call(*args, **kwargs)

    return counting


for name in ("replace", "rename", "unlink", "remove", "fsync"):
    setattr(os, name, counted(getattr(os, name)))

from sqlalchemy import event as events  # noqa: E402
from sqlalchemy.engine import Engine  # noqa: E402

events.listen(Engine, "commit", lambda connection: event())

from automl.cli import main  # noqa: E402

main()

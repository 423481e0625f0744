"""Ctrl-C and SIGTERM end a run in order: its trials and its cluster are ended, and it says how to go on."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal has ended the run in `root`. No KeyboardInterrupt, which the command line's library takes for itself."""

    def __init__(self, number: int, root: Path) -> None:
        super().__init__(number, root)
        self.exit_code = 128 + number
        self.root = root

    def __str__(self) -> str:
        return f"stopped; go on with: automl resume {shlex.quote(str(self.root))}"


@contextlib.contextmanager
def interruptible(root: Path) -> Iterator[None]:
    """The first of SIGNALS raises KeyboardInterrupt inside, the only one that Ray knows, and `Interrupted` comes out;
    another ends the process at once: the kernel closes its sockets, which ends its trials. What a shell had made the
    process ignore stays ignored."""
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if caught:
            os.write(2, f"stopped at once; go on with: automl resume {shlex.quote(str(root))}\n".encode())
            os._exit(128 + number)
        caught.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    with handlers_kept(SIGNALS):
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
        try:
            yield
        except (Exception, KeyboardInterrupt):
            if not caught:
                raise
            raise Interrupted(caught[0], root) from None


@contextlib.contextmanager
def handlers_kept(numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Give the signals back the handlers that they have now, whatever is done inside."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def handlers_held(numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Nobody replaces the handlers of these signals inside: who tries in Python sets them anew, and who did so in C, as
    Ray's core for SIGTERM does, loses at the next such call, or at the end."""
    replace = signal.signal

    def unless_held(number: int, handler: Any) -> Any:
        return replace(number, signal.getsignal(number) if number in numbers else handler)

    signal.signal = unless_held  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = replace
        for number in numbers:
            replace(number, signal.getsignal(number))

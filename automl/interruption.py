"""Ctrl-C and SIGTERM end a run in order: its trials and its cluster are ended, and it says how to go on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from automl.programs import command

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.05  # until a signal whose exception was dropped is sent once more


class Interrupted(BaseException):
    """A signal has ended the run in `root`. No KeyboardInterrupt, which the command line's library takes for itself."""

    def __init__(self, number: int, root: Path) -> None:
        super().__init__(number, root)
        self.exit_code = 128 + number
        self.root = root

    def __str__(self) -> str:
        return f"stopped; go on with: {command('resume', self.root)}"


@contextlib.contextmanager
def interruptible(root: Path) -> Iterator[None]:
    """The first of SIGNALS raises KeyboardInterrupt inside, the only one that Ray knows, and `Interrupted` comes out;
    another ends the process at once: the kernel closes its sockets, which ends its trials. What a shell had made the
    process ignore stays ignored. Where it comes in the middle of a destructor or a weak reference's callback, Python
    drops what is raised there; then it is raised again. In another thread than the main one, which alone may set
    handlers and be interrupted, those of the program stay."""
    if not _may_set_handlers():
        yield
        return
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if caught:
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, f"stopped at once; go on with: {command('resume', root)}\n".encode())
            os._exit(128 + number)
        caught.append(number)
        raise KeyboardInterrupt

    def again(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def unraisable(what: Any) -> None:
        if not caught or what.exc_type is not KeyboardInterrupt:
            told(what)
            return
        # By the clock and not by a thread: what was interrupted may hold a lock that starting one takes.
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)

    told = sys.unraisablehook
    with handlers_kept((*SIGNALS, signal.SIGALRM)):
        signal.signal(signal.SIGALRM, again)
        answer(stop)
        sys.unraisablehook = unraisable
        try:
            yield
        except (Exception, KeyboardInterrupt):
            if not caught:
                raise
            raise Interrupted(caught[0], root) from None
        finally:
            sys.unraisablehook = told
            signal.setitimer(signal.ITIMER_REAL, 0)


def answer(handler: Callable[[int, FrameType | None], Any]) -> None:
    """Have SIGNALS call `handler`, in the main thread; what a shell had made the process ignore stays ignored."""
    for number in SIGNALS if _may_set_handlers() else ():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _may_set_handlers() -> bool:
    return threading.current_thread() is threading.main_thread()


def no_more_signals() -> None:
    """For a process that exits: another Ctrl-C while Python winds down would end it by the signal."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def handlers_kept(numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Give the signals back the handlers that they have now, whatever is done inside; in the main thread."""
    if not _may_set_handlers():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def waiting(number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """A signal to this process waits until the end; threads that are started inside never take it, processes do.

    Ray's core, once it has taken SIGTERM for itself, ends in a dump of its own until Python's handler is back, a second
    later. The signal waits only while every thread has it blocked, so those that libraries start are to be started
    inside too (`import_with_threads`)."""
    mask, owner = signal.pthread_sigmask, os.getpid()

    def in_children(how: int, numbers: Any) -> Any:
        """Ray's children call it once, before they become what they are."""
        if os.getpid() != owner:
            mask(signal.SIG_UNBLOCK, {number})
        return mask(how, numbers)

    before = mask(signal.SIG_BLOCK, {number})
    signal.pthread_sigmask = in_children  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.pthread_sigmask = mask
        mask(signal.SIG_SETMASK, before)


def import_with_threads() -> None:
    """Import what starts threads when it is first imported, none of which then takes SIGTERM from the main thread."""
    with waiting():
        import numpy  # noqa: F401
        import scipy.linalg  # noqa: F401


@contextlib.contextmanager
def handlers_held(numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Nobody replaces the handlers of these signals inside: who tries in Python sets them anew, and who did so in C, as
    Ray's core for SIGTERM does, loses at the next such call, or at the end; in the main thread."""
    if not _may_set_handlers():
        yield
        return
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

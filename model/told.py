"""That something goes on, said at least every ten seconds: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")
EVERY_S = 8.0  # so that a line a moment late is still within ten


_AT: list[str | Callable[[], str]] = [""]  # what `at` was told last


@contextmanager
def told(what: str, aside: bool = False, say: Callable[[str], object] | None = None) -> Iterator[None]:
    """While the block runs, how long it has taken so far, and where it is by `at`; for work that is not counted as a
    whole. `aside`: on stderr, where what the work finds is printed; `say`: takes the lines in place of a print."""
    began, over = time.monotonic(), threading.Event()
    out = sys.stderr if aside else sys.stdout  # which the block may turn elsewhere
    _AT[0] = ""

    def speak() -> None:
        while not over.wait(EVERY_S):
            where = ""
            with suppress(OSError):  # of files that come and go
                where = _AT[0]() if callable(_AT[0]) else _AT[0]
            where = f"; {where}" if where else ""
            line = f"{what}: {time.monotonic() - began:.0f} s so far{where}"
            if say is not None:
                say(line)
            else:
                print(line, file=out, flush=True)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()


def at(where: str | Callable[[], str]) -> None:
    """Where the work that `told` tells of is, for its next lines; called, where it can be, at each."""
    _AT[0] = where


def counted(
    items: Iterable[T],
    what: str,
    total: int,
    quiet: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """The items, and how many of them are done; no thread, since loaders fork while it runs."""
    from rich.console import Console
    from rich.progress import track

    if quiet or (console := Console()).is_terminal:
        yield from items if quiet else track(items, what, total, console=console, transient=True)
        return
    began = told_at = clock()
    for done, item in enumerate(items, 1):
        yield item
        if (now := clock()) - told_at >= EVERY_S and done < total:
            told_at = now
            left = (now - began) / done * (total - done)
            print(f"{what}: {done} of {total}, about {left:.0f} s left", flush=True)

"""What a run prints is no part of it: a closed pipe or terminal, or a full disk below a log, does not end it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

LOST = "the output can no longer be written ({}); the run goes on without it"


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Within, what can no longer be written to stdout or stderr is dropped, then and later; of stdout the other one
    says so."""
    before = sys.stdout, sys.stderr
    sys.stderr = cast(TextIO, _Lasting(sys.stderr, lambda text: None))
    sys.stdout = cast(TextIO, _Lasting(sys.stdout, lambda text: print(f"note: {text}", file=sys.stderr)))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


class _Lasting:
    """A text stream whose file becomes the null device once it cannot be written; what a child inherits is that too."""

    def __init__(self, stream: TextIO, say: Callable[[str], object]) -> None:
        self._stream, self._say = stream, say

    def write(self, text: str) -> int:
        self._safely(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        self._safely(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _safely(self, act: Callable[..., object], *args: str) -> None:
        try:
            act(*args)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._say(LOST.format((error.strerror or type(error).__name__).lower()))

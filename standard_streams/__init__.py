"""stdout and stderr of a command: a broken one ends nothing, be it `| head`, a closed terminal or a log's full disk.

What is printed from then on is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any


class Output(io.FileIO):
    """A standard stream by its number, below all buffers: whoever prints, and whatever flushes them, ends here."""

    aside = False  # what is printed tells of the work, and is not what the command is for
    failed = ""  # why stdout cannot be written; a reader who went away has had enough

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # another program made it non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            self._drop(error)
            return len(data)

    def _drop(self, error: OSError) -> None:
        """Have the null device in its place, for processes that are started later too."""
        with contextlib.suppress(OSError), open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), self.fileno())
        why, gone = (error.strerror or "").lower(), error.errno == errno.EPIPE
        if self.fileno() == 1 and Output.aside:
            what = "nobody reads stdout any more" if gone else f"stdout cannot be written ({why})"
            with contextlib.suppress(OSError):  # by the number: a buffer may be in use
                os.write(2, f"note: {what}; it goes on without\n".encode())
        elif self.fileno() == 1 and not gone:
            Output.failed = why


def guard() -> None:
    """Make stdout and stderr such streams, unless a program has put its own in their place."""
    _stand_in()
    for name in ("stdout", "stderr"):
        text = getattr(sys, name)
        if text is getattr(sys, f"__{name}__") and isinstance(text, io.TextIOWrapper):
            binary = io.BufferedWriter(Output(text.fileno(), "w", closefd=False))
            lines = (
                text.line_buffering or text.write_through
            )  # what is written through may be written in part
            setattr(sys, name, io.TextIOWrapper(binary, text.encoding, text.errors, line_buffering=lines))


def _stand_in() -> None:
    """Where a shell closed stdout or another (`>&-`), the null device: else the next file that is opened gets its
    number, and what a child prints goes there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which has the lowest free number
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def go_on_without() -> None:
    """Of a command that does more than print: it says on stderr that stdout is lost, and is no failure for that."""
    Output.aside = True


def unsaid() -> str:
    """Why what was printed did not get out, at the end of a command that is there to print; "" where it did."""
    sys.stdout.flush()
    return "" if Output.aside else Output.failed

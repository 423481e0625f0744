"""The longest time in which nothing changes on the screen of a command, in a terminal of its own.

python studies/first_hour/watch.py automl run --demo ...
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import sys
import termios
import time

SHOWN = 5  # longest pauses that are told


def watch(words: list[str]) -> tuple[int, list[tuple[float, float, str]]]:
    """(exit code, [(seconds without output, when it began, the last text before it)], longest first)."""
    child, screen = pty.fork()
    if child == 0:
        os.execvp(words[0], words)
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    began = last = time.monotonic()
    pauses, before = [], ""
    with contextlib.suppress(OSError):  # how a terminal tells its end
        while data := os.read(screen, 65536):
            now = time.monotonic()
            pauses.append((round(now - last, 1), round(last - began, 1), before))
            last, before = now, data.decode(errors="replace").strip()[-100:]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sorted(pauses, reverse=True)[:SHOWN]


if __name__ == "__main__":
    code, longest = watch(sys.argv[1:])
    for pause, at, text in longest:
        print(json.dumps({"pause_s": pause, "at_s": at, "after": text}))
    sys.exit(code)

"""Every error the engine raises on purpose.

AutoMLError              exit 1   something failed that the user did not cause
├── UserError            exit 2   a mistake in the input; one message, never a traceback
│   ├── SpecError                 a spec, a key, a value
│   ├── SpaceError                a search space that cannot be built or a choice outside it
│   ├── PolicyError               AutoML is on but cannot run, and why
│   └── StudyBusy                 another process holds the run folder, what it hands over, or its study
├── StorageError         exit 1   a disk is full, a database does not answer
└── Resumable            exit 1   what the run needs has ended, and nothing is lost; the run says how to go on
    └── StudyGone                 somebody else has changed the study in its database, or deleted it
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutoMLError(Exception):
    exit_code = 1


class UserError(AutoMLError):
    exit_code = 2


class SpecError(UserError):
    pass


class SpaceError(UserError):
    pass


class PolicyError(UserError):
    pass


class StorageError(AutoMLError):
    pass


class StudyBusy(UserError):
    pass


class Resumable(AutoMLError):
    pass


class StudyGone(Resumable):
    pass


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """`"; did you mean 'x'?"` for the nearest known word, or an empty string when none is as like as that (0 to 1)."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f"; did you mean '{near[0]}'?" if near else ""

"""Seeds derived from (study seed, trial number, purpose): the same in every process, on every machine, after
every restart. Python's `hash()` is salted per process and would not be."""

from __future__ import annotations

import hashlib


def derive(study_seed: int, number: int, purpose: str) -> int:
    """A seed in [0, 2**31) for one purpose of one trial."""
    digest = hashlib.sha256(f"{study_seed}/{number}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1

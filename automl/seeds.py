"""Seeds derived from (study seed, trial number, purpose): the same in every process, on every machine, after
every restart. Python's `hash()` is salted per process and would not be."""

from __future__ import annotations

import hashlib


def derive(study_seed: int, number: int, purpose: str) -> int:
    """A seed in [0, 2**31) for one purpose of one trial."""
    digest = hashlib.sha256(f"{study_seed}/{number}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def of_sampler(study_seed: int, number: int, attempt: int = 0) -> int:
    """The seed of the sampler that draws a trial; `attempt`: how many draws were above the limit of latency."""
    return derive(study_seed, number, f"sampler {attempt}" if attempt else "sampler")

"""What a study ran on, for its results.json."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from automl.provenance import versions


def describe() -> dict[str, object]:
    """Processor, cores, memory, GPU, versions and the command line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": cpu or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kb / 2**20, 1),
        "load_before": os.getloadavg()[0],
        "versions": versions(),
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }

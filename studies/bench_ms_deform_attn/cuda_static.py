"""What the CUDA compilers say about the kernels, without a GPU: registers, spills, and instructions per sample of ours
and of the published design, counted in the machine code. Writes results_cuda_static.json beside itself.

    python studies/bench_ms_deform_attn/cuda_static.py

Needs nvcc; nvdisasm comes with triton, which comes with torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.ops import cuda
from studies import machine
from studies.bench_ms_deform_attn import published

HERE = Path(__file__).parent
ARCHITECTURES = (80, 90, 100)
KERNELS = ("FORWARD", "BACKWARD", "EXACT_BACKWARD")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
USUAL = cuda.Problem(torch.float32, torch.float32, 2, 22223, 8, 32, 22223, 4, 4, ((100, 167),) * 4)
SAMPLES = USUAL.L * USUAL.P
CLASSES = {
    "loads": ("LDG",),
    "reductions": ("RED", "REDG", "ATOMG"),
    "shuffles": ("SHFL",),
    "shared memory": ("LDS", "STS"),
    "arithmetic": ("FFMA", "FMUL", "FADD"),
    "branches": ("BRA", "BSSY", "BSYNC", "BAR"),
}


@dataclasses.dataclass(frozen=True)
class Code:
    """One function's machine code: (address, mnemonic, where it jumps to), and what ptxas says of it."""

    instructions: list[tuple[int, str, int | None]]
    registers: int
    spilled_bytes: int


def disassembler() -> str:
    import triton

    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm")


def compiled(source: Path, defines: Mapping[str, object], architecture: int) -> dict[str, Code]:
    """Function name -> its code."""
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    with tempfile.TemporaryDirectory() as folder:
        cubin = str(Path(folder, "kernel.cubin"))
        flags = ["-std=c++17", f"-arch=sm_{architecture}", "-cubin", "-Xptxas", "-v"]
        log = _output(["nvcc", *flags, *macros, str(source), "-o", cubin])
        listing = _output([disassembler(), "-c", cubin])
    usage = re.findall(
        r"Function properties for (\w+).*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
        log, re.DOTALL,
    )  # fmt: skip
    bodies = dict(re.findall(r"^\.text\.(\w+):\n(.*?)(?=^\.text\.|\Z)", listing, re.DOTALL | re.MULTILINE))
    return {
        name: Code(_instructions(bodies[name]), int(registers), int(stores) + int(loads))
        for name, stores, loads, registers in usage
    }


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _instructions(body: str) -> list[tuple[int, str, int | None]]:
    labels: dict[str, int] = {}
    waiting: list[str] = []
    found: list[tuple[int, str, str | None]] = []
    for line in body.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            waiting.append(label[1])
        elif code := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)(.*)", line):
            address = int(code[1], 16)
            labels |= dict.fromkeys(waiting, address)
            waiting.clear()
            target = re.search(r"`\((\.L_x_\d+)\)", code[3]) if code[2] == "BRA" else None
            found.append((address, code[2], target[1] if target else None))
    return [(address, name, labels[to] if to else None) for address, name, to in found]


def executed(code: Code, trips: tuple[int, ...]) -> Counter[str]:
    """Mnemonic -> how often a warp issues it when every sample lies inside its map.

    Loops are the backward jumps; trips[n] is the count of a loop that n others surround. Forward jumps skip what is
    outside the map, so none is taken. What follows the last EXIT is padding.
    """
    end = max(address for address, name, _ in code.instructions if name == "EXIT")
    ends: dict[int, int] = {}  # of the loop that begins there, which may jump back from several places
    for address, _, to in code.instructions:
        if to is not None and to <= address < end:
            ends[to] = max(address, ends.get(to, 0))
    loops = list(ends.items())
    counts: Counter[str] = Counter()
    for address, name, _ in code.instructions:
        if address <= end:
            depth = sum(first <= address <= last for first, last in loops)
            times = 1
            for trip in trips[:depth]:
                times *= trip
            counts[name] += times
    deepest = max((sum(a <= first <= b for a, b in loops) for first, _ in loops), default=0)
    if deepest != len(trips):
        raise RuntimeError(f"the code has loops {deepest} deep, but {len(trips)} trip counts were given")
    return counts


def row(code: Code, trips: tuple[int, ...], queries_per_warp: int) -> dict[str, object]:
    """Per (query, head), which has L*P samples."""
    counts = executed(code, trips)
    per = {name: sum(counts[m] for m in ms) / queries_per_warp for name, ms in CLASSES.items()}
    total = sum(counts.values()) / queries_per_warp
    return {
        "registers": code.registers,
        "spilled_bytes": code.spilled_bytes,
        "instructions_per_query_and_head": total,
        "instructions_per_sample": round(total / SAMPLES, 2),
        "of_which": {name: round(n, 2) for name, n in per.items()},
    }


def ours(kernel: str, value: torch.dtype, architecture: int) -> dict[str, object]:
    problem = dataclasses.replace(USUAL, value=value)
    _, group = cuda.lanes(kernel, problem, architecture)
    defines = dict(cuda._instance(kernel, problem, architecture))
    code = compiled(cuda.source(), defines, architecture)["ms_deform_attn"]
    rounds = SAMPLES // group
    return row(code, (rounds,) if kernel != "FORWARD" and rounds > 1 else (), 32 // group)


def peer(architecture: int) -> dict[str, dict[str, object]]:
    codes = compiled(published.SOURCE, {}, architecture)
    trips = (1, USUAL.L, USUAL.P)  # over the grid, levels, points
    return {kernel.upper(): row(codes[f"published_{kernel}"], trips, 1) for kernel in ("forward", "backward")}


OTHER_TYPES: tuple[dict[str, Any], ...] = (
    dict(D=8), dict(D=20), dict(D=64), dict(D=128), dict(L=1, P=1), dict(L=5, P=16), dict(shapes_hw=((1, 9),) * 4),
)  # fmt: skip


def registers_of_other_types() -> dict[str, list[int]]:
    """[registers, spilled bytes] on sm_90, float32."""
    found = {}
    for change in OTHER_TYPES:
        for kernel in KERNELS:
            problem = dataclasses.replace(USUAL, **change)
            defines = dict(cuda._instance(kernel, problem, 90))
            code = compiled(cuda.source(), defines, 90)["ms_deform_attn"]
            what = (
                "a level one cell high"
                if "shapes_hw" in change
                else ", ".join(f"{k}={v}" for k, v in change.items())
            )
            found[f"{kernel}, {what}"] = [code.registers, code.spilled_bytes]
    return found


def digests() -> dict[str, str]:
    """Of what was counted, so that a test notices counts that are out of date."""
    sources = (cuda.source(), published.SOURCE)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in sources}


def main() -> None:
    results: dict[str, object] = {
        "measured": "nothing ran on a GPU: these are counts in the compilers' output",
        "machine": machine.describe(),
        "nvcc": _output(["nvcc", "--version"]).strip().splitlines()[-1],
        "sources_sha256": digests(),
        "problem": "M=8 heads of D=32, L=4 levels, P=4 points; every sample inside its map",
    }
    for architecture in ARCHITECTURES:
        theirs = peer(architecture)
        mine = {
            f"{kernel} {str(value).removeprefix('torch.')}": ours(kernel, value, architecture)
            for kernel in KERNELS
            for value in DTYPES
        }
        ratios = {
            f"{kernel} float32": round(
                float(str(theirs[kernel]["instructions_per_query_and_head"]))
                / float(str(mine[f"{kernel} float32"]["instructions_per_query_and_head"])),
                2,
            )
            for kernel in ("FORWARD", "BACKWARD")
        }
        results[f"sm_{architecture}"] = {"ours": mine, "published": theirs, "published / ours": ratios}
        print(f"sm_{architecture}: published / ours, instructions: {ratios}", flush=True)
    results["registers and spilled bytes, sm_90, float32"] = registers_of_other_types()
    (HERE / "results_cuda_static.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

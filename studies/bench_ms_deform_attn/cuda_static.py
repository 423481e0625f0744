"""What can be said of the CUDA kernels without a GPU: registers, spills and machine instructions, ours beside the
published design's (published.cu). Writes results_cuda_static.json.

    python studies/bench_ms_deform_attn/cuda_static.py

An instruction count is of a warp's straight path, each loop as often as it runs. It bounds the time from below by what
the schedulers can issue; it says nothing of memory. No time in here was measured.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model.ops import cuda, cuda_compile
from studies.machine import describe

HERE = Path(__file__).resolve().parent
M, D, L, P = 8, 32, 4, 4
SAMPLES = L * P
ARCHITECTURES = (80, 90, 100)
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHAPES = ((100, 167), (50, 84), (25, 42), (13, 21))


def compile_(source: str, defines: list[str], capability: int, folder: Path) -> tuple[str, Path]:
    """(what ptxas says, cubin)."""
    (folder / "kernel.cu").write_text(source)
    target = folder / "kernel.cubin"
    command = ["nvcc", f"-arch=sm_{capability}", "-cubin", "-std=c++17", "-Xptxas", "-v", *defines]
    done = subprocess.run(
        [*command, str(folder / "kernel.cu"), "-o", str(target)], capture_output=True, text=True, check=True
    )
    return done.stderr, target


def usage(log: str) -> list[dict[str, int]]:
    """Per kernel, in the file's order."""
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.findall(r"Used (\d+) registers", log)
    return [
        {"registers": int(r), "spilled_bytes": int(a) + int(b)}
        for r, (a, b) in zip(registers, spills, strict=True)
    ]


def disassembler() -> str:
    import triton

    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm")


def executed(cubin: Path, kernel: str, turns: int) -> int:
    """Machine instructions on a warp's path from start to end, its one loop, if there is one, taken `turns` times.
    Branches that only some warps take are counted as taken."""
    text = subprocess.run(
        [disassembler(), "-c", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    body = text.split(f".text.{kernel}:", 1)[1].split(".section", 1)[0]
    labels: dict[str, int] = {}
    loops: list[int] = []
    last_exit = count = 0
    for line in body.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = count
        elif re.search(r"/\*[0-9a-f]+\*/\s+\S.*;", line):
            jump = re.search(r"BRA.*`\((\.L_x_\d+)\)", line)
            if jump and labels.get(jump[1], count) < count:
                loops.append(count + 1 - labels[jump[1]])
            count += 1
            last_exit = count if re.search(r"\bEXIT\b", line) else last_exit
    assert len(loops) <= 1, loops
    return last_exit + (turns - 1) * sum(loops)


def ours(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    source = cuda.source().read_text()
    for kernel in ("FORWARD", "BACKWARD"):
        for name, dtype in TYPES.items():
            problem = cuda.Problem(dtype, torch.float32, 2, 22223, M, D, 22223, L, P, SHAPES)
            for capability in ARCHITECTURES:
                instance = cuda._instance(kernel, problem, capability)
                log, cubin = compile_(source, [f"-D{k}={v}" for k, v in instance], capability, folder)
                _, group = cuda.lanes(kernel, problem, capability)
                count = executed(cubin, "ms_deform_attn", SAMPLES // group)
                found[f"{kernel.lower()} {name} sm_{capability}"] = usage(log)[0] | per(count, 32 // group)
    return found


def per(count: int, query_heads: int) -> dict[str, float]:
    """A warp's instructions shared by the queries and heads it works on."""
    return {
        "query_heads_per_warp": query_heads,
        "instructions_per_query_head": round(count / query_heads),
        "instructions_per_sample": round(count / query_heads / SAMPLES, 1),
    }


def published(folder: Path) -> dict[str, Any]:
    """A warp is one (query, head) of 32 channels. Registers are of the code with loops, as published."""
    found: dict[str, Any] = {}
    source = (HERE / "published.cu").read_text()
    defines = [f"-DMSDA_{name}={value}" for name, value in zip("MDLP", (M, D, L, P), strict=True)]
    for capability in ARCHITECTURES:
        log, _ = compile_(source, defines, capability, folder)
        _, cubin = compile_(source, [*defines, "-DMSDA_UNROLLED"], capability, folder)
        for place, kernel in enumerate(re.findall(r"Compiling entry function '(\w+)'", log)):
            name = kernel.removeprefix("published_")
            found[f"{name} fp32 sm_{capability}"] = usage(log)[place] | per(executed(cubin, kernel, 1), 1)
    return found


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Times as many instructions as ours in fp32 take the published design."""
    key = "instructions_per_query_head"
    return {name: round(theirs[name][key] / ours[name][key], 1) for name in sorted(theirs)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as text:
        mine, theirs = ours(Path(text)), published(Path(text))
        results = {
            "machine": describe(),
            "nvcc": subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout.splitlines()[
                -1
            ],
            "compilers_of_the_product": [cuda_compile.find().name],
            "samples_per_query_head": SAMPLES,
            "ours": mine,
            "published_design": theirs,
            "published_over_ours": compared(mine, theirs),
        }
    written = json.dumps(results, indent=1)
    (HERE / "results_cuda_static.json").write_text(written + "\n")
    print(written)

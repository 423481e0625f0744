"""Building on first use: once, whoever asks; and threads in a forked process."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.ops import build, native

SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that notes its calls, and a cache of its own. Returns the notes."""
    notes, script = tmp_path / "notes", tmp_path / "c++"
    script.write_text(f'#!/bin/sh\necho "$@" >> {notes}\nexec {build._compiler()} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    return notes


def compilations(notes: Path) -> list[str]:
    return [line for line in notes.read_text().splitlines() if " -c " in line]


def test_several_that_ask_at_once_get_one_build(compiler: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        libraries = {future.result() for future in [pool.submit(build.library) for _ in range(4)]}
    assert len(libraries) == 1
    assert len(compilations(compiler)) == len(build.units())
    assert not any("-march=native" in line for line in compilations(compiler))
    assert {p.suffix for p in next(iter(libraries)).parent.iterdir()} == {
        ".so",
        ".lock",
    }  # no half-built rest


def test_the_cache_knows_sources_and_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = build._key(build._compiler())
    assert build._key(build._compiler()) == before
    other = tmp_path / "c++"
    other.write_text("#!/bin/sh\necho another compiler 1.0\n")
    other.chmod(0o755)
    assert build._key(str(other)) != before
    monkeypatch.setattr(build, "source_dir", lambda: tmp_path)
    assert build._key(build._compiler()) != before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            'case "$*" in *--version*) ;; *) echo "x.cpp:1: error: no such header" >&2; exit 1;; esac',
            "no such header",
        ),
        ("exit 1", "failed"),
    ],
)
def test_a_failing_compiler_is_one_line(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "c++"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(build.BuildError, match=message) as caught:
        build.library()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_without_a_cache_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which attention takes as its sign to run in plain torch."""
    monkeypatch.setenv("DETR_CACHE_DIR", "/proc/nope")
    with pytest.raises(
        build.BuildError, match="/proc/nope: the cache folder must be one that can be written"
    ):
        native.load.__wrapped__()


FORK = """
import os, signal, sys, torch
from model.ops import native
from tests.model.ops.cases import problem
p = problem(B=2, M=8, Q=50, dtype=torch.float32)
args = (p.value, p.shapes, p.locations, p.weights)
before = native.forward(*args, threads=int(sys.argv[1]))
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    os._exit(0 if all(torch.equal(native.forward(*args, threads=n), before) for n in (1, 2, 4)) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("threads", [1, 2], ids="parent used {} threads".format)
def test_a_forked_process_computes_whatever_its_parent_did(threads: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(threads)], cwd=Path(__file__).parents[3], timeout=120, check=False
    )
    assert done.returncode == 0


def test_the_kernels_are_clean_under_sanitizers(tmp_path: Path) -> None:
    """Address and undefined behaviour, every variant, on blocks of exactly the tensors' sizes."""
    compiler, flags = build._compiler(), [f for f in build.FLAGS if f != "-O3"]
    here, objects = Path(__file__).parent, []
    sources = {str(build.source_dir() / name): own for name, own in build.units().items()}
    sources[str(here / "sanitized.cpp")] = (f"-I{build.source_dir()}",)
    commands = []
    for source, own in sources.items():
        objects.append(str(tmp_path / f"{Path(source).stem}.o"))
        commands.append([compiler, *flags, *SANITIZERS, *own, "-c", source, "-o", objects[-1]])
    build._run_all(commands)
    program = str(tmp_path / "sanitized")
    try:
        build._run_all([[compiler, *SANITIZERS, *objects, "-pthread", "-o", program]])
    except build.BuildError as error:
        pytest.skip(f"the compiler has no sanitizers: {error}")
    done = subprocess.run([program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "all equal" in done.stdout

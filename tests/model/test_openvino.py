"""The cases of openvino_cases.py, in a process of their own: in one that has used ONNX Runtime and torch for long before,
OpenVINO now and then ends in SIGSEGV, and takes with it whatever else that process tests."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.timeout(1200)  # exports, on a machine that does much else
@pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")
def test_the_cases(tmp_path: Path) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "cases")]
    ended = subprocess.run(
        [sys.executable, *words, str(Path(__file__).with_name("openvino_cases.py"))],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=1100,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]

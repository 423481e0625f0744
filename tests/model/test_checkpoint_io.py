"""Checkpoint files are whole or not there, and need no room elsewhere."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
import torch

from model import checkpoint as ckpt
from model.checkpoint_io import Checkpoints
from model.errors import ModelError

KEYS = pytest.mark.parametrize("key", ["", "secret"])


@KEYS
def test_written_without_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    files, path = Checkpoints(key), tmp_path / "x.pth"
    files.save_checkpoint({"state": torch.arange(5)}, path)
    assert torch.equal(files.load_checkpoint(path)["state"], torch.arange(5))
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


@KEYS
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_without_room_nothing_new_is_left_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, number: int
) -> None:
    (tmp_path / "x.pth").write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(number, "it is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"no space left for .*x\.pth, which needs 1 MB$"):
        Checkpoints(key).save_checkpoint({"state": torch.zeros(300_000)}, tmp_path / "x.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]
    assert (tmp_path / "x.pth").read_bytes() == b"before"


def test_another_fault_of_the_system_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ckpt.write(tmp_path / "nowhere" / "x.pth", b"")

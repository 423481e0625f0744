"""Checkpoints under a passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model import checkpoint as ckpt
from model import encryption, weights
from model.actions import evaluate, train
from model.build import build_model
from model.errors import UserError
from model.spec import put, resolve
from tests.conftest import with_data

pytestmark = pytest.mark.filterwarnings("ignore::Warning:pytorch_lightning", "ignore::Warning:torch")


@pytest.mark.parametrize("size", [0, 1, 10, 11, 25])
def test_what_goes_in_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(encryption, "PIECE", 10)
    data, path = bytes(range(size)), tmp_path / "f"
    path.write_bytes(encryption.encrypt(data, "secret"))
    assert encryption.is_encrypted(path)
    assert encryption.decrypt(path, "secret") == data
    assert data not in path.read_bytes() or size < 2
    for wrong, message in (("", "give its encryption_key"), ("Secret", "not the one it was written with")):
        with pytest.raises(UserError, match=message):
            encryption.decrypt(path, wrong)


def test_the_same_under_the_same_passphrase_is_the_same_file(tmp_path: Path) -> None:
    """What follows from it, stages and measurements, is then not made anew."""
    (tmp_path / "key").write_text("secret\n")
    file = encryption.encrypt(b"data", "secret")
    assert encryption.encrypt(b"data", f"@{tmp_path}/key") == file
    salts = {file[len(encryption.MAGIC) :][: encryption.SALT]}
    for data, key in ((b"datb", "secret"), (b"data", "Secret"), (b"", "secret")):
        salts.add(encryption.encrypt(data, key)[len(encryption.MAGIC) :][: encryption.SALT])
    assert len(salts) == 4


def test_a_changed_cut_or_lengthened_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "PIECE", 10)
    whole, path = encryption.encrypt(bytes(25), "secret"), tmp_path / "f"
    start = len(encryption.MAGIC) + encryption.SALT
    pieces = [whole[start : start + 26], whole[start + 26 : start + 52]]
    changed = bytearray(whole)
    changed[start + 3] ^= 1
    swapped = whole[:start] + pieces[1] + pieces[0] + whole[start + 52 :]
    for damaged in (bytes(changed), whole[:-1], whole[: start + 52], whole + b"x", swapped, whole[:start]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="or the file is damaged"):
            encryption.decrypt(path, "secret")


def test_where_a_passphrase_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, sealed = tmp_path / "key", tmp_path / "sealed"
    file.write_text("@secret\n")
    sealed.write_bytes(encryption.encrypt(b"data", f"@{file}"))
    assert encryption.decrypt(sealed, f"@{file}") == b"data"
    (tmp_path / "same").write_text("@secret")
    monkeypatch.setenv("DETR_ENCRYPTION_KEY", f"@{tmp_path / 'same'}")
    assert encryption.decrypt(sealed, "") == b"data"
    for content, message in (
        ("\n", "is empty"),
        ("other", "not the one it was written with"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=message):
            encryption.decrypt(sealed, f"@{file}")
    file.unlink()  # in a folder that was copied elsewhere
    assert encryption.decrypt(sealed, f"@{file}") == b"data"
    with pytest.raises(UserError, match="must be a readable file"):  # what is written is never under another
        encryption.encrypt(b"data", f"@{file}")
    monkeypatch.delenv("DETR_ENCRYPTION_KEY")
    with pytest.raises(UserError, match="DETR_ENCRYPTION_KEY"):
        encryption.decrypt(sealed, f"@{file}")


def test_the_environment_may_name_the_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the engine takes it: else what a run wrote could not be read with the variable it was written with."""
    (tmp_path / "sealed").write_bytes(encryption.encrypt(b"data", "secret"))
    (tmp_path / "key").write_text("secret\n")
    monkeypatch.setenv("DETR_ENCRYPTION_KEY", f"@{tmp_path}/key")
    assert encryption.decrypt(tmp_path / "sealed", "") == b"data"
    assert encryption.decrypt(tmp_path / "sealed", f"@{tmp_path}/stayed_behind") == b"data"
    (tmp_path / "key").unlink()
    with pytest.raises(
        UserError, match="the environment variable DETR_ENCRYPTION_KEY: .*/key must be a readable"
    ):
        encryption.decrypt(tmp_path / "sealed", "")


def test_whether_a_passphrase_is_that_of_a_folder_s_files(tmp_path: Path) -> None:
    encryption.check_secret("encryption_key", "any", tmp_path)
    (tmp_path / "plain.pth").write_bytes(b"plain")
    encryption.check_secret("encryption_key", "any", tmp_path)
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "a.pth").write_bytes(encryption.encrypt(b"data", "secret"))
    (tmp_path / "trials" / "damaged.pth").write_bytes(encryption.encrypt(b"", "secret")[:-1])
    encryption.check_secret("encryption_key", "secret", tmp_path)
    for wrong in ("Secret", f"@{tmp_path}/nowhere"):  # it is the passphrase itself, whatever it begins with
        with pytest.raises(UserError, match="encryption_key is not the one it was written with"):
            encryption.check_secret("encryption_key", wrong, tmp_path)


def test_a_passphrase_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe\0abc")
    for key, wanted in (
        (f"@{tmp_path}/key", "key must hold the passphrase as text in UTF-8"),
        (f"@{tmp_path}", "must be a readable file"),
        ("@a\0b", "must be a readable file"),
        ("caf\udce9", " must be the passphrase as text"),
        ("", "DETR_ENCRYPTION_KEY must be the passphrase as text"),
    ):
        monkeypatch.setenv(
            "DETR_ENCRYPTION_KEY", "caf\udce9"
        )  # as Python reads other bytes of the environment
        with pytest.raises(UserError, match=f"^encryption_key.*{wanted}"):
            encryption.encrypt(b"data", key)


def test_an_encrypted_training_is_resumed_evaluated_and_built_upon(
    tiny: dict[str, Any], demo: Path, tmp_path: Path
) -> None:
    spec = with_data(tiny, demo) | {"encryption_key": "secret", "results_dir": str(tmp_path)}
    spec["train"]["num_epochs"] = 1
    path = train.run(resolve("train", spec))["checkpoint"]
    assert encryption.is_encrypted(path)
    with pytest.raises(UserError, match="is encrypted; give its encryption_key"):
        ckpt.load(path)
    saved = ckpt.load(path, "secret")
    assert saved["spec"]["encryption_key"] == ""
    detector = build_model(tiny)
    assert weights.load(detector, path, "secret") == []
    assert torch.equal(detector.query_embed.weight, saved["state_dict"]["query_embed.weight"])
    spec["train"] |= {"num_epochs": 2, "resume_training_checkpoint_path": path}
    again = ckpt.load(train.run(resolve("train", spec))["checkpoint"], "secret")
    assert again["epoch"] == 1
    scored = {k: v for k, v in spec.items() if k != "train"}
    put(scored, "evaluate.checkpoint", path)
    assert "test_mAP" in evaluate.run(resolve("evaluate", scored))
    put(scored, "encryption_key", "other")
    with pytest.raises(UserError, match="not the one it was written with"):
        evaluate.run(resolve("evaluate", scored))


def test_a_file_encrypted_by_tao_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict_encrypted": b"...", "epoch": 1}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="encrypted by TAO"):
        weights.read(tmp_path / "w.pth")

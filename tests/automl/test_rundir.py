import json
from pathlib import Path

import pytest

from automl.errors import StudyBusy, UserError
from automl.rundir import FORMAT, RunDir, write_text
from automl.seeds import derive
from automl.storage import RunLock, is_running


def test_write_text_leaves_no_temporary(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "x")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a run folder"),
        ("{", "not valid JSON"),
        (json.dumps({"format": FORMAT + 1}), "newer than this version"),
    ],
)
def test_read_run_refuses(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=message):
        RunDir(tmp_path).read_run()


def test_only_one_driver(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(StudyBusy, match="another driver"), RunLock(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_seeds_are_fixed_for_ever() -> None:
    # Pinned: a changed derivation would make old runs irreproducible.
    assert derive(0, 0, "sampler") == 1933340843
    assert len({derive(s, n, p) for s in range(5) for n in range(20) for p in ("sampler", "data")}) == 200
    assert all(0 <= derive(1, n, "x") < 2**31 for n in range(100))


def test_a_database_s_password_stays_out_of_run_json(tmp_path: Path) -> None:
    folder, url = RunDir(tmp_path / "run"), "postgresql://ann:s3cret%40x@127.0.0.1:5432/db?sslmode=require"
    for _ in range(2):  # a resume writes again
        folder.write_run({"study": "one", "request": {"storage": url, "seed": 1}})
    assert folder.read_run()["request"] == {"storage": url, "seed": 1}
    assert "s3cret" not in folder.run_json.read_text()
    assert [p.name for p in folder.root.iterdir() if "s3cret" in p.read_text()] == ["storage_url"]
    assert (folder.root / "storage_url").stat().st_mode & 0o077 == 0
    folder = RunDir(tmp_path / "plain")
    folder.write_run({"study": "one", "request": {"storage": None}})
    assert folder.read_run()["request"] == {"storage": None}
    assert not (folder.root / "storage_url").exists()

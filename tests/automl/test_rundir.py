import json
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from automl.database_url import parse, shown, without_secrets
from automl.errors import StudyBusy, UserError
from automl.run_json import FORMAT
from automl.rundir import RunDir, write_text
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


RECORDED = {"study": "one", "spec": {}, "searching": True, "space_digest": "x", "model": "toy"}
URLS = [
    "postgresql://ann:{}@127.0.0.1:5432/db?sslmode=require",
    "postgresql://127.0.0.1/db?user=ann&password={}",
    "postgresql://ann@127.0.0.1/db?sslpassword={}&sslmode=require",
    "mysql+pymysql://ann:{}@db.example/x?ssl_ca=/ca.pem",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("password", ["s3cret%40x", "s3cret/x", "s3cret%23x", "s3cret%3Fx"])
def test_a_database_s_password_stays_out_of_run_json(tmp_path: Path, url: str, password: str) -> None:
    folder, url = RunDir(tmp_path / "run"), url.format(password)
    for _ in range(2):  # a resume writes again
        folder.write_run(RECORDED | {"request": {"storage": url, "seed": 1}})
    assert folder.read_run()["request"] == {"storage": url, "seed": 1}
    assert [p.name for p in folder.root.iterdir() if "s3cret" in p.read_text()] == ["storage_url"]
    assert (folder.root / "storage_url").stat().st_mode & 0o077 == 0
    assert "s3cret" not in without_secrets(f"cannot log in with {url} or {unquote(url)}", url)
    folder.storage_url.unlink()
    with pytest.raises(UserError, match="storage_url: is gone"):
        folder.read_run()


@pytest.mark.parametrize("bare", ["s3cret/x", "s3cret#x", "s3cret?x"])
def test_a_password_with_signs_that_urls_give_a_meaning(bare: str) -> None:
    assert "s3cret" not in shown(f"postgresql://ann:{bare}@127.0.0.1:5432/db")
    assert parse(f"postgresql://ann:{bare}@127.0.0.1:5432/db").password == bare


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3@cret@h/db",
        "postgresql:ann:s3cret@h",
        "//s3cret",
        "postgresql://ann:s3cret@h:port/d",
    ],
)
def test_what_is_no_url_is_refused_and_shown_to_nobody(url: str) -> None:
    assert shown(url) == "***"
    with pytest.raises(UserError, match="must be a database URL") as caught:
        parse(url)
    assert "cret" not in str(caught.value)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'psycopg\[binary\]'"):
        parse("postgresql://ann@h/db")
    with pytest.raises(UserError, match="'foo' is no database"):
        parse("foo://ann@h/db")


def test_without_a_secret_there_is_no_private_file(tmp_path: Path) -> None:
    for number, url in enumerate([None, "postgresql://ann@127.0.0.1/db"]):
        folder = RunDir(tmp_path / str(number))
        folder.write_run(RECORDED | {"request": {"storage": url}})
        assert folder.read_run()["request"] == {"storage": url}
        assert not folder.storage_url.exists()

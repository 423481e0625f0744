import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from automl import handoff, loop, run_json, trial_notes
from automl.attachments import Attachments
from automl.database_url import parse, shown, without_secrets
from automl.errors import StudyBusy, UserError
from automl.locks import is_running, run_lock
from automl.progress import Progress
from automl.request import RunRequest
from automl.run_json import FORMAT
from automl.rundir import RunDir, clear_temporaries, leaving_nothing, write_text
from automl.seeds import derive, of_sampler
from automl.storage import open_storage, read_storage
from tests.automl.toy import toy


def test_write_text_leaves_no_temporary(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "x")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_what_killed_writers_left_is_cleared(tmp_path: Path) -> None:
    """What lives, and what only looks like it, stays."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = (
        f".run.json.{dead.pid}.tmp", f"best/.train.yaml.{dead.pid}.tmp", f"best/default/.model.pth.{dead.pid}.tmp",
        f"trials/0000/.heartbeat.{os.getpid()}.tmp", f"trials/0000/.x.{10**30}.tmp", ".seen-0123456789abcdef",
        f"best/.model.{dead.pid}.tmp/part",
    )  # fmt: skip
    kept = (
        "run.json", f".report.html.{os.getppid()}.tmp", "best/.model.out.before", "trials/0000/a.1.tmp", ".1.tmp", ".seen-it",
    )  # fmt: skip
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    clear_temporaries(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == set(kept)
    assert not (tmp_path / f"best/.model.{dead.pid}.tmp").exists()


OUTSIDE = ("convert.py", "export_dataset.py", "cache.py", "looks.py")  # their files lie in no run


def test_all_that_writes_in_a_run_names_its_temporary_files_alike() -> None:
    """Else nobody clears them away."""
    found = [
        (path.name, name)
        for folder in ("automl", "model")
        for path in (Path(__file__).parents[2] / folder).rglob("*.py")
        for name in re.findall(r'f"([^"]*\{os\.getpid\(\)\}[^"]*)"', path.read_text())
        if path.name not in OUTSIDE
    ]
    assert {"rundir.py", "handoff.py", "checkpoint.py", "status.py"} <= {name for name, _ in found}
    assert [f for f in found if f[1][0] != "." or not f[1].endswith(".{os.getpid()}.tmp")] == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_copy_that_a_full_disk_cuts_off_leaves_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source = tmp_path / "epoch_1.ckpt"
    (source if kind == "file" else source / "weights").parent.mkdir(exist_ok=True)
    (source if kind == "file" else source / "weights").write_text("whole")

    def full(_: object, to: Path, **__: object) -> None:
        Path(to).write_text("wh")
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr("shutil.copyfile", full)
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(OSError, match="No space left"):
        handoff._copied(source, tmp_path / "best")
    assert not list((tmp_path / "best").iterdir())


def test_a_folder_is_removed_only_when_another_stands_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, there = tmp_path / "epoch_1", tmp_path / "best" / "model" / "weights"
    for folder, text in ((source, "new"), (there.parent, "old")):
        folder.mkdir(parents=True)
        (folder / "weights").write_text(text)
    removed: list[tuple[str, str]] = []
    rmtree = shutil.rmtree

    def watched(folder: Path, **rest: Any) -> None:
        if folder.exists():
            removed.append(((folder / "weights").read_text(), there.read_text()))
        rmtree(folder, **rest)

    monkeypatch.setattr("shutil.rmtree", watched)
    assert handoff._copied(source, tmp_path / "best") == there.parent
    assert removed == [("old", "new")]
    assert [path.name for path in there.parent.parent.iterdir()] == ["model"]


def test_a_resumed_run_clears_them(tmp_path: Path) -> None:
    root, model = tmp_path / "run", toy(tmp_path / "toy")
    request = RunRequest(model=str(model), executor="local", stages=(), trials=1)
    loop.run(request, root, Progress(quiet=True))
    for folder in (root, root / "best", root / "trials" / "0000"):
        (folder / f".train.yaml.{2**30}.tmp").write_text("x")
    loop.resume(root, {}, Progress(quiet=True))
    assert list(root.rglob("*.tmp")) == []


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


def test_a_folder_in_which_a_run_is_being_prepared_is_told_as_such(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(UserError, match="a run is being prepared there"):
        RunDir(tmp_path).read_run()


def test_a_refusal_leaves_no_folder_but_one_that_another_prepares(tmp_path: Path) -> None:
    def refused(another: ExitStack, lock: Callable[[Path], AbstractContextManager[None]]) -> None:
        with leaving_nothing(tmp_path / "run"):
            (tmp_path / "run").mkdir()
            another.enter_context(lock(tmp_path / "run"))
            raise UserError("of no use")

    for lock, left in ((nullcontext, False), (run_lock, True)):
        with ExitStack() as another:
            with pytest.raises(UserError, match="of no use"):
                refused(another, lock)
            assert (tmp_path / "run").exists() == left


def test_only_one_driver(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(StudyBusy, match="another driver"), run_lock(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_seeds_are_fixed_for_ever() -> None:
    # Pinned: a changed derivation would make old runs irreproducible.
    assert derive(0, 0, "sampler") == of_sampler(0, 0) == 1933340843
    assert of_sampler(3, 7, attempt=2) == derive(3, 7, "sampler 2")
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
    folder.storage_url.touch()
    folder.write_run(RECORDED | {"request": {"storage": "sqlite:///a.db", "seed": 1}})
    assert not folder.storage_url.exists()


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://ann:s3cret@host.example:8443/x.zip", "https://***@host.example:8443/x.zip"),
        ("https://host.example/x.zip?X-Amz-Signature=s3cret&a=1", "https://host.example/x.zip?***"),
        ("s3://bucket/x", None),
        ("/data/x?y", None),
    ],
)
def test_what_lets_others_in_at_the_data_s_address_stays_out_too(
    tmp_path: Path, url: str, seen: str | None
) -> None:
    folder = RunDir(tmp_path / "run")
    folder.write_run(RECORDED | {"request": {"storage": None, "data": url}})
    assert folder.read_run()["request"]["data"] == url
    assert [p.name for p in folder.root.iterdir() if "s3cret" in p.read_text()] == ["data_url"] * bool(seen)
    assert run_json.read(folder.run_json)["request"]["data"] == (seen or url)
    assert RunRequest(data=url).words() == ["--data", seen or url]
    if seen:
        assert (folder.root / "data_url").stat().st_mode & 0o077 == 0
        folder.data_url.unlink()
        assert folder.read_run()["request"]["data"] == seen
        folder.write_run(RECORDED | {"request": {"storage": None, "data": url}})
        folder.write_run(RECORDED | {"request": {"storage": None, "data": "/data/x"}})
        assert not folder.data_url.exists()


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


@pytest.mark.parametrize(
    ("drivername", "wanted"),
    [
        ("postgresql+asyncpg", "not asynchronous, but got .*; write postgresql://$"),
        ("postgresql+psycopg_async", "not asynchronous, but got .*; write postgresql://$"),
        ("sqlite+aiosqlite", "not asynchronous, but got .*; write sqlite://$"),
        (
            "postgresql+pg8000",
            r"driver of postgresql\+pg8000 is not .*; psycopg is, which postgresql:// takes$",
        ),
    ],
)
def test_a_driver_that_cannot_be_taken_is_not_called_another_one(drivername: str, wanted: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(UserError, match=wanted) as caught:
        parse(f"{drivername}://ann:s3cret@h/db")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            "postgresql://ann:s3cret@127.0.0.1:9/db?foo=1",
            r"options \(foo\) .*psycopg takes, but: .* \"foo\"$",
        ),
        ("postgresql://ann:s3cret@127.0.0.1:9/db?connect_timeout=abc", "options .*connect_timeout: 'abc'$"),
        (
            "postgresql://127.0.0.1:9/db?user=ann&password=s3cret&foo=s3cret",
            "user, password, foo.* takes, but",
        ),
        ("postgresql://ann:s3cret@127.0.0.1:9/db?plugin=foo", r"options \(plugin\) must be ones"),
        ("sqlite:///x.db?timeout=abc", r"options \(timeout\) .* sqlite takes, but: .*'abc'$"),
    ],
)
def test_options_that_the_driver_does_not_take_are_told(
    url: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every driver raises an error of its own for them, which was shown with a traceback."""
    pytest.importorskip("psycopg")
    monkeypatch.chdir(tmp_path)
    for at in (open_storage, read_storage):
        (tmp_path / "x.db").touch()
        with pytest.raises(UserError, match=wanted) as caught:
            at(url, tmp_path)
        assert "s3cret" not in str(caught.value)


def test_a_password_whose_key_is_misspelt_is_hidden() -> None:
    assert "s3cret" not in shown("postgresql://h/db?passwrd=s3cret")


def test_without_a_secret_there_is_no_private_file(tmp_path: Path) -> None:
    for number, url in enumerate([None, "postgresql://ann@127.0.0.1/db"]):
        folder = RunDir(tmp_path / str(number))
        folder.write_run(RECORDED | {"request": {"storage": url}})
        assert folder.read_run()["request"] == {"storage": url}
        assert not folder.storage_url.exists()


def test_what_is_no_trial_beside_the_trials_is_passed_over(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for name in ("0000", "0003", "0003_bak", "0004 (copy)", "12", "notes", "12345"):
        (tmp_path / "trials" / name).mkdir(parents=True)
    (tmp_path / "trials" / "0005").write_text("a file")
    assert run.trials() == {n: run.trial(n) for n in (0, 3, 12345)}
    (tmp_path / "trials" / "0003" / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "trials" / "12" / "metrics.jsonl").write_text("{}\n")
    assert trial_notes.count(tmp_path) == 4
    assert {each.place for each in Attachments(tmp_path)._all()} >= {"trials/0003/metrics.jsonl"}

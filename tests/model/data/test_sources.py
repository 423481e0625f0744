"""Where data come from: folders, archives, URLs; staged once, whole, and never outside their folder."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import lzma
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model.data import archives, sources
from model.data.cache import in_own_words
from model.data.sources import fetch, stage
from model.errors import UserError

CONTENT = {"a.png": b"one", "below/b.png": b"two"}


pytestmark = pytest.mark.usefixtures("cache")


def write_tar(path: Path, content: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, link, 0
            archive.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def read(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    assert stage(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["images.tar.gz", "images.tgz", "images.tar", "images.zip"])
def test_an_archive_is_unpacked_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = (write_zip if name.endswith("zip") else write_tar)(tmp_path / name, CONTENT)
    folder = stage(path)
    assert read(folder) == CONTENT
    monkeypatch.setattr(sources, "unpack", lambda *_: pytest.fail("unpacked again"))
    assert stage(path) == folder
    assert oct(folder.parent.stat().st_mode & 0o777) == "0o700"


def test_a_changed_archive_is_another_folder(tmp_path: Path) -> None:
    first = stage(write_tar(tmp_path / "images.tar", CONTENT))
    second = stage(write_tar(tmp_path / "images.tar", CONTENT | {"a.png": b"other"}))
    assert first != second
    assert read(first) == CONTENT


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png"])
def test_nothing_leaves_its_folder(tmp_path: Path, name: str, cache: Path) -> None:
    with pytest.raises(UserError, match="would leave its folder"):
        stage(write_zip(tmp_path / "bad.zip", {name: b"x"}))
    if name.startswith(".."):  # tar's data filter takes the slash off absolute names instead
        with pytest.raises(UserError, match="cannot be unpacked"):
            stage(write_tar(tmp_path / "bad.tar", {name: b"x"}))
    for link in ("/etc/passwd", "../../passwd"):
        with pytest.raises(UserError, match=r"cannot be unpacked .* by `tar -h` or `zip -r`"):
            stage(write_tar(tmp_path / "link.tar", {"link": b""}, link=link))
    assert not [p for p in cache.rglob("*") if p.is_dir()]


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES"])
def test_an_archive_of_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, limit, 1)
    for path in (write_tar(tmp_path / "a.tar", CONTENT), write_zip(tmp_path / "a.zip", CONTENT)):
        with pytest.raises(UserError, match="more than is unpacked"):
            stage(path)


def test_broken_and_missing_archives(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "images.tar.gz", {"a.png": os.urandom(100_000)})
    whole.write_bytes(whole.read_bytes()[:50_000])
    with pytest.raises(UserError, match=r"images\.tar\.gz: cannot be unpacked"):
        stage(whole)
    with pytest.raises(UserError, match="no such image folder or archive .*has cache, images"):
        stage(tmp_path / "imagse.tar.gz")
    (tmp_path / "data.rar").touch()
    with pytest.raises(UserError, match="must be a folder or one of"):
        stage(tmp_path / "data.rar")


def test_processes_that_start_at_once_unpack_once(tmp_path: Path, cache: Path) -> None:
    path = write_tar(tmp_path / "images.tar", {f"{n}.png": os.urandom(1000) for n in range(200)})
    code = f"from model.data.sources import stage; f = stage({str(path)!r}); print(f, len(list(f.iterdir())))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    printed = {process.communicate(timeout=60)[0] for process in running}
    assert len(printed) == 1
    assert printed.pop().endswith(" 200\n")
    assert not list(cache.glob("*.partial"))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket of an S3 server on loopback."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import socket

    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", url), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):  # fmt: skip
            patch.setenv(name, value)
        for name in ("AWS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
            patch.delenv(name, raising=False)
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen(url, timeout=2)
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            client = boto3.client("s3", endpoint_url=url)
            client.create_bucket(Bucket="data")
            for name, data in CONTENT.items():
                client.put_object(Bucket="data", Key=f"images/{name}", Body=data)
            yield "s3://data"
        finally:
            server.terminate()
            server.wait(20)


def test_a_folder_of_a_bucket_is_fetched_once_and_anew_when_it_changes(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    folder = stage(f"{s3}/images")
    assert read(folder) == CONTENT
    with monkeypatch.context() as patch:
        patch.setattr(sources, "_download", lambda *_: pytest.fail("fetched again"))
        assert stage(f"{s3}/images") == folder
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket="data", Key="images/c.png", Body=b"three")
    assert read(stage(f"{s3}/images")) == CONTENT | {"c.png": b"three"}
    client.delete_object(Bucket="data", Key="images/c.png")


def test_an_archive_and_a_single_file_of_a_bucket(s3: str, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.upload_file(str(write_tar(tmp_path / "x.tar.gz", CONTENT)), "data", "x.tar.gz")
    assert read(stage(f"{s3}/x.tar.gz")) == CONTENT
    assert fetch(f"{s3}/images/a.png").read_bytes() == b"one"
    with pytest.raises(UserError, match="nothing is there"):
        stage(f"{s3}/nowhere")


def test_a_damaged_arrival_is_an_error(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def damaged(remote: list[str], local: list[str]) -> None:
        for path in local:
            Path(path).write_bytes(b"xyz")

    system, _ = fsspec.core.url_to_fs(s3)  # one object per process
    monkeypatch.setattr(system, "get", damaged)
    monkeypatch.setattr(system, "get_file", lambda remote, local: Path(local).write_bytes(b"zyx"))
    with pytest.raises(UserError, match="damaged"):
        stage(f"{s3}/images")


# ---- what archives may be ---------------------------------------------------------------------------------------


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACKED)
def test_a_tar_whose_middle_is_damaged_is_not_taken_for_a_shorter_one(tmp_path: Path, suffix: str) -> None:
    """Python's own reader ends at a header that it cannot read, and says nothing."""
    raw = bytearray(
        write_tar(tmp_path / "plain.tar", {f"{n}.png": bytes(600) for n in range(9)}).read_bytes()
    )
    raw[5 * 1536 + 10] ^= 1  # in the name that the sixth header's sum is taken of
    (tmp_path / f"x.tar{suffix}").write_bytes(PACKED[suffix](bytes(raw)))
    with pytest.raises(UserError, match="cannot be unpacked .*is it whole"):
        stage(tmp_path / f"x.tar{suffix}")


@pytest.mark.parametrize("end", [5 * 1536, 5 * 1536 + 100, 5 * 1536 + 600])
def test_a_tar_that_is_cut_off_is_not_taken_for_a_shorter_one(tmp_path: Path, end: int) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{n}.png": bytes(600) for n in range(9)})
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match="cannot be unpacked .*is it whole"):
        stage(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_two_tars_put_one_behind_the_other_are_not_taken_for_the_first(tmp_path: Path, suffix: str) -> None:
    one, two = (write_tar(tmp_path / f"{n}.tar", {f"{n}.png": b"x"}).read_bytes() for n in (1, 2))
    (tmp_path / f"x.tar{suffix}").write_bytes(PACKED[suffix](one) + PACKED[suffix](two))
    with pytest.raises(UserError, match="more lies behind its end"):
        stage(tmp_path / f"x.tar{suffix}")


def test_a_tar_with_a_name_of_its_own(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        label, info = tarfile.TarInfo("backup of may"), tarfile.TarInfo("a.png")
        label.type, info.size = b"V", 3
        archive.addfile(label)
        archive.addfile(info, io.BytesIO(b"one"))
        archive.addfile(tarfile.TarInfo("empty.png"))
    assert read(stage(tmp_path / "x.tar")) == {"a.png": b"one", "empty.png": b""}


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_packing_that_is_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.tar{suffix}"
    whole = write_tar(tmp_path / "plain.tar", {"a.png": os.urandom(200_000)}).read_bytes()
    raw = bytearray(PACKED[suffix](whole))
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="cannot be unpacked .*is it whole"):
        stage(path)


def test_a_zip_that_is_locked(tmp_path: Path) -> None:
    raw = bytearray(write_zip(tmp_path / "x.zip", {"a.png": b"one"}).read_bytes())
    raw[6] |= 1  # the flag in the member's own header
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # and in the list
    (tmp_path / "x.zip").write_bytes(raw)
    with pytest.raises(UserError, match="x.zip: is locked with a password; unpack it yourself"):
        stage(tmp_path / "x.zip")


def test_names_in_utf_8_of_a_zip_that_does_not_say_so(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "x.zip", {"xx.png": b"one"}).read_bytes()
    (tmp_path / "x.zip").write_bytes(raw.replace(b"xx.png", "é.png".encode()))
    assert read(stage(tmp_path / "x.zip")) == {"é.png": b"one"}


def link_in_zip(path: Path, **links: str) -> Path:
    """A zip of a file and links, as `zip -y` writes them."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, target in links.items():
            info = zipfile.ZipInfo(f"a/{name}.png")
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
        archive.writestr("raw/1.png", b"one")
    return path


def test_links_of_a_zip_are_links(tmp_path: Path) -> None:
    folder = stage(link_in_zip(tmp_path / "x.zip", one="../raw/1.png", other="one.png"))
    assert [(folder / f"a/{name}.png").read_bytes() for name in ("one", "other")] == [b"one", b"one"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x.png", "back.png/../../x.png"])
def test_links_that_leave_the_folder_of_a_zip_are_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the link 'a/one\.png' would leave its folder\); pack it anew with the files"
    ):
        stage(link_in_zip(tmp_path / "x.zip", one=target, back="."))


# ---- what a web server may answer -------------------------------------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with `content`, of which it sends a part to the first `breaks` that ask for all of it."""

    status, content, kind, breaks, told_size, silent_s = 200, b"", "application/zip", 0, True, 0.0

    def do_GET(self) -> None:
        cls = type(self)
        self.send_response(cls.status)
        self.send_header("Content-Type", cls.kind)
        if cls.told_size:
            self.send_header("Content-Length", str(len(cls.content)))
        self.end_headers()
        if self.command == "GET":
            broken, cls.breaks = cls.breaks > 0, cls.breaks - 1
            self.wfile.write(cls.content[: len(cls.content) // 2] if broken else cls.content)
            self.wfile.flush()
            time.sleep(cls.silent_s)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Server], str]]:
    """(what it answers, its URL)."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(sources, "PAUSE_S", 0.0)
    answers = type("Answers", (Server,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield answers, f"http://127.0.0.1:{server.server_port}/of/data.zip?key=SECRET"
    server.shutdown()


@pytest.mark.parametrize(
    ("status", "said"), [(401, "wants to know who asks"), (403, "does not let"), (404, "404"), (503, "503")]
)
def test_what_a_server_refuses(web: tuple[type[Server], str], status: int, said: str) -> None:
    web[0].status = status
    with pytest.raises(
        UserError, match=rf"of/data\.zip: cannot be read; the server answers {status} .*{said}|{said}"
    ) as told:
        sources.stage_dataset(web[1])
    assert "SECRET" not in str(told.value)


def test_a_page_is_no_archive(web: tuple[type[Server], str]) -> None:
    web[0].content = b"<!doctype html><a href=other>"
    for web[0].kind in ("text/html; charset=utf-8", "application/octet-stream"):
        with pytest.raises(
            UserError, match=r"of/data\.zip: must be a file, but is a page of the web"
        ) as told:
            sources.stage_dataset(web[1])
        assert "SECRET" not in str(told.value)


def test_a_download_that_breaks_off_is_tried_again(web: tuple[type[Server], str], tmp_path: Path) -> None:
    web[0].content, web[0].breaks = write_zip(tmp_path / "x.zip", CONTENT).read_bytes(), 2
    assert read(sources.stage_dataset(web[1])) == CONTENT


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(
    web: tuple[type[Server], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web[0].content = write_zip(tmp_path / "x.zip", CONTENT).read_bytes()
    assert sources._patience()["client_kwargs"]["timeout"].total is None  # aiohttp's own is five minutes
    monkeypatch.setattr(sources, "SILENT_S", 0.2)
    web[0].breaks, web[0].silent_s = 9, 1.0
    with pytest.raises(UserError, match=r"of/data\.zip: cannot be fetched; see that .*Timeout"):
        sources.stage_dataset(web[1])


def test_what_arrived_in_part_without_a_word_is_fetched_again_the_next_time(
    web: tuple[type[Server], str], tmp_path: Path
) -> None:
    web[0].content, web[0].told_size = write_zip(tmp_path / "x.zip", CONTENT).read_bytes(), False
    web[0].breaks = 9
    with pytest.raises(UserError) as told:
        sources.stage_dataset(web[1])
    assert re.match(r"http://127.0.0.1:\d+/of/data\.zip: cannot be unpacked", in_own_words(str(told.value)))
    web[0].breaks = 0
    assert read(sources.stage_dataset(web[1])) == CONTENT


def test_what_was_fetched_stays_where_there_is_no_room_to_unpack_it(
    web: tuple[type[Server], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web[0].content = write_zip(tmp_path / "x.zip", CONTENT).read_bytes()
    monkeypatch.setattr(archives, "MAX_FILES", 1)
    with pytest.raises(UserError, match="more than is unpacked"):
        sources.stage_dataset(web[1])
    monkeypatch.setattr(archives, "MAX_FILES", 100)
    monkeypatch.setattr(sources, "_download", lambda *_: pytest.fail("fetched again"))
    assert read(sources.stage_dataset(web[1])) == CONTENT

"""A hub of our own on loopback: answers as Hugging Face's does, counts, and breaks off when told to."""

from __future__ import annotations

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves `files`: {path in a URL: file}; `/<repo>/resolve/<any revision>/<name>` is looked up as `<repo>/<name>`."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self.fetched: list[str] = []  # names of files whose first byte was asked for
        self.ranges: list[str] = []
        self.breaks = 0  # so many answers stop half-way
        self.damages = False
        self.slow_s = 0.0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def find(self, path: str) -> tuple[Path | None, str]:
        """(file, commit) of a URL's path."""
        path = path.partition("?")[0].lstrip("/")
        repo, resolve, rest = path.partition("/resolve/")
        if not resolve:
            return self.files.get(path), ""
        revision, _, name = rest.partition("/")
        commit = revision if len(revision) == 40 else COMMIT
        return self.files.get(f"{repo}/{name}"), commit

    def _handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                if "only_get" in self.path:
                    self.send_error(403)
                else:
                    self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path, commit = hub.find(self.path)
                if path is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = path.read_bytes()
                digest, start = hashlib.sha256(content).hexdigest(), 0
                wanted = self.headers.get("Range", "")
                if body and wanted.startswith("bytes="):
                    hub.ranges.append(wanted)
                    start = int(wanted.removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("ETag", f'"{digest}"')
                if commit:
                    self.send_header("X-Repo-Commit", commit)
                    self.send_header("X-Linked-Size", str(len(content)))
                    self.send_header("X-Linked-ETag", f'"{digest}"')
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if body:
                    self.send_content(path.name, content, start)

            def send_content(self, name: str, content: bytes, start: int) -> None:
                if not start:
                    hub.fetched.append(name)
                time.sleep(hub.slow_s)
                if hub.damages:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                if hub.breaks > 0:
                    hub.breaks -= 1
                    self.wfile.write(content[start : start + (len(content) - start) // 2])
                    self.close_connection = True
                    return
                self.wfile.write(content[start:])

        return Handler

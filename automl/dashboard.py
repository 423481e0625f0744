"""The Optuna dashboard on a run, in real values, on this machine only: for looking, unless writing is asked for.

A page from elsewhere must not get at it: by a name of its own that it lets point to 127.0.0.1 (DNS rebinding), or by
sending requests to this address. So only loopback names are answered, and what writes must come from its own page.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from automl import faults
from automl.errors import AutoMLError, UserError
from automl.interruption import SIGNALS, answer, handlers_kept
from automl.rundir import RunDir
from automl.storage import load_study, open_storage, read_storage

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl.real_values import RealValues

HOST = "127.0.0.1"
NAMES = (HOST, "localhost", "[::1]")
LOOKING = ("GET", "HEAD", "OPTIONS")
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve(root: Path, port: int, write: bool = False) -> None:
    """Serve until interrupted; `write`: studies may be changed and deleted. Raises `UserError` for a port that cannot
    be had."""
    from optuna_dashboard import wsgi

    from automl.real_values import RealValues

    root = root.resolve()
    document = RunDir(root).read_run()
    load_study(document, root)  # what is lost or damaged is told here, and not by each page
    stored = (open_storage if write else read_storage)(document["request"].get("storage"), root)
    storage = RealValues(stored, document, root, notes=not write)
    tell = teller(root)
    # The dashboard's own pages log all that was raised.
    logging.getLogger("optuna_dashboard._bottle_util").addFilter(lambda _: not tell(sys.exc_info()[1]))
    app = with_importances(wsgi(storage, storage.attachments), storage, root, tell)
    with _server(port) as server, handlers_kept(SIGNALS):
        answer(server.stop)
        server.set_app(guarded(app, server.server_port, write))
        address = f"http://{HOST}:{server.server_port}/dashboard{_page(storage, document['study'])}"
        rights = "" if write else "read-only; "
        print(f"dashboard: {address}   ({rights}Ctrl-C ends it)", flush=True)
        server.serve_forever()


class _Request(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """No line per request."""


class _Server(WSGIServer):
    """A signal ends it wherever it comes: what is raised within a request wsgiref takes for an error of the page."""

    signalled = 0
    client: socket.socket | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        if self.signalled:
            os._exit(128 + number)
        self.signalled = number
        with contextlib.suppress(OSError):  # one that says nothing, or does not listen, would be waited for
            if self.client is not None:
                self.client.shutdown(socket.SHUT_RDWR)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.client = request
        return not self.signalled

    def service_actions(self) -> None:
        """After each request, and twice a second."""
        if self.signalled:
            raise SystemExit(128 + self.signalled)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _server(port: int) -> _Server:
    """Raises `UserError`."""
    try:
        if port and _taken(port):
            raise OSError(errno.EADDRINUSE, "")
        return _Server((HOST, port), _Request)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise UserError(f"port {port} {why} on {HOST}; choose another with --port, or 0 for any") from None


def teller(root: Path) -> Callable[[BaseException | None], bool]:
    """Tells of a database that is gone or damaged in a line, once; says of an error whether it was one of these."""
    said: set[str] = set()

    def tell(error: BaseException | None) -> bool:
        told = error if error is None or isinstance(error, AutoMLError) else faults.told(error, root)
        if told is not None and str(told) not in said:
            print(f"error: {told}", file=sys.stderr, flush=True)
            said.add(str(told))
        return told is not None

    return tell


def with_importances(
    app: App, storage: RealValues, root: Path, tell: Callable[[BaseException | None], bool]
) -> App:
    """`app`, but it ranks this run's parameters as the report does: not at all where that is mostly chance."""
    known: dict[tuple[int, int], bytes] = {}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = re.fullmatch(r"/api/studies/(\d+)/param_importances/?", environ["PATH_INFO"])
        if asked is None:
            return app(environ, start_response)
        try:
            if not storage.is_ours(int(asked[1])):
                return app(environ, start_response)
            status, body = "200 OK", ranked(int(asked[1]))
        except Exception as error:
            if not tell(error):
                raise
            status, body = "500 Internal Server Error", b'{"reason": "internal server error"}'
        start_response(status, [("Content-Type", "application/json")])
        return [body]

    def ranked(study: int) -> bytes:
        trials = storage.get_all_trials(study, deepcopy=False)
        at = (len(trials), sum(len(trial.intermediate_values) for trial in trials))
        if at not in known:
            known.clear()
            known[at] = _importances(root, trials)
        return known[at]

    return answer


def _importances(root: Path, trials: Sequence[FrozenTrial]) -> bytes:
    """As the dashboard's page takes them."""
    from automl import report
    from automl.report.gather import facts_of

    kinds = {name: type(kind).__name__ for trial in trials for name, kind in trial.distributions.items()}
    found = report.what_mattered(facts_of(root)).shares if trials else ()
    rows = [
        {"name": s.name, "importance": s.share, "distribution": kinds.get(s.name, "FloatDistribution")}
        for s in found
        if s.found
    ]
    objectives = max((len(trial.values or ()) for trial in trials), default=1)
    others: list[Any] = [[] for _ in range(objectives - 1)]  # latency is computed, not found out
    return json.dumps({"param_importances": [rows, *others]}).encode()


def guarded(app: App, port: int, write: bool) -> App:
    """`app`, for requests to a loopback name and `port`; those that write only with `write` and from its own pages."""
    hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").lower()
        if host not in hosts:
            return _refuse(start_response, f"open it as http://{HOST}:{port}/")
        if environ["REQUEST_METHOD"] not in LOOKING:
            if not write:
                return _refuse(
                    start_response, "this dashboard is for looking; automl dashboard --write may change"
                )
            if environ["PATH_INFO"].rstrip("/").endswith("/rename"):
                return _refuse(start_response, "a run goes by its study's name, which stays as it is")
            if environ.get("HTTP_ORIGIN", "").lower() != f"http://{host}":
                return _refuse(start_response, "only its own pages may change anything")
        return app(environ, start_response)

    return answer


def _refuse(start_response: Callable[..., Any], why: str) -> list[bytes]:
    start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
    return [why.encode() + b"\n"]


def _page(storage: Any, study: str) -> str:
    """The path of the study's page; of the list of studies when it has not begun."""
    try:
        return f"/studies/{storage.get_study_id_from_name(study)}"
    except KeyError:
        return "/"


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0

"""The Optuna dashboard on a run, on this machine only."""

from __future__ import annotations

import socket
from pathlib import Path

from automl.errors import UserError
from automl.rundir import RunDir
from automl.storage import open_storage

HOST = "127.0.0.1"


def serve(root: Path, port: int) -> None:
    """Serve until interrupted. Raises `UserError` when the port is taken."""
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from optuna_dashboard import wsgi

    document = RunDir(root).read_run()
    app = wsgi(open_storage(document["request"]["storage"], root))

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """No line per request."""

    if port and _taken(port):
        raise UserError(f"port {port} is taken on {HOST}; choose another with --port, or 0 for any")
    with make_server(HOST, port, app, handler_class=Quiet) as server:
        print(f"dashboard: http://{HOST}:{server.server_port}/dashboard/   (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0

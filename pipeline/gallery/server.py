"""A web server for the gallery's files, on this machine only."""

from __future__ import annotations

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.errors import MachineError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of every request."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a browser asks for many pictures at once; those that wait beyond are refused

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who leaves before all has come over is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server_of(site: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder on 127.0.0.1; `serve_forever` starts it.

    Raises:
        MachineError: When the port is taken.
    """
    try:
        return _Server(("127.0.0.1", port), functools.partial(_Quiet, directory=str(site)))
    except (OSError, OverflowError) as error:
        raise MachineError(
            "the gallery is shown on a free port",
            found=f"{port}: {error}",
            remedy="choose another --port, or 0 for any free one",
        ) from error

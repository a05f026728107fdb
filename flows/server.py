"""Prefect's API for the flows of this process, in a process of its own; and which web pages a local server answers.

Prefect can start a server by itself, but a Ctrl-C ends that one before the flow has reported its end, and it outlives
a killed flow.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from pipeline.errors import MachineError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

IDLE_SECONDS = 180
"""A starting server that has computed next to nothing for so long has stopped; on a busy machine it may take long."""
PROGRESS_SECONDS = 1.0
"""CPU time that is more than next to nothing."""
LOOK_SECONDS = 0.5
SHUTDOWN_SECONDS = 10.0
"""Time to write the last events: Prefect keeps them in memory for some seconds."""
BUSY = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""A server writes the states of tasks in batches; one by one they take two thirds of its time."""
SETTINGS = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", **BUSY}
"""As Prefect sets them for its temporary server: no user interface, no waiting for other servers."""
HOST = "127.0.0.1"
LOOPBACK = (HOST, "localhost")
PASSWORD, SERVER_PASSWORD = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
"""What clients send, and what a server asks for; in the environment only, which no other user of the machine sees."""

REPORTS = "/reports/"
REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'; "
    "style-src 'self' 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def new_password() -> str:
    """A user and a secret, in Prefect's form."""
    return f"splatyard:{secrets.token_urlsafe(24)}"


@functools.cache
def own_password() -> str:
    """The password of this process's own server."""
    return new_password()


@functools.cache
def api_url() -> str:
    """Start the server on first use; returns the URL of its API once it answers.

    Raises:
        MachineError: When it ends instead, or neither answers nor computes.
    """
    port = free_port()
    url = f"http://{HOST}:{port}/api"
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command(port),
            env={**os.environ, **SETTINGS, "PREFECT_SERVER_UI_API_URL": url, SERVER_PASSWORD: own_password()},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C reaches all processes of a session
        )
        used, since = 0.0, time.monotonic()
        while not answers(f"{url}/health"):
            if process.poll() is None and time.monotonic() < since + IDLE_SECONDS:
                if (now := sum(psutil.Process(process.pid).cpu_times()[:2])) >= used + PROGRESS_SECONDS:
                    used, since = now, time.monotonic()
                time.sleep(0.1)
                continue
            code = process.poll()
            process.kill()
            process.wait()
            errors.seek(0)
            said = last_line(errors.read())
            raise MachineError(
                "Prefect's server must start",
                found=f"it {'stopped before it answered' if code is None else f'ended with {code}'}: {said}",
                remedy="run again; if it stays so, name a running Prefect server in PREFECT_API_URL",
            )
    return url


def last_line(output: bytes) -> str:
    """The last line of what a program printed."""
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "no output"


def command(port: int, host: str = HOST) -> list[str]:
    """The command that serves Prefect's API on a port of this machine until the calling process ends.

    As all that we start it imports nothing from the working folder (-P): that may be a capture of others.
    """
    return [sys.executable, "-Pm", "flows.server", str(port), str(os.getpid()), host]


def require_api() -> None:
    """Have Prefect use the server that its settings name, or else one of our own, from now on.

    For the whole process: Prefect's `temporary_settings` are those of a context, which its own threads don't have. The
    thread that forwards events of worker processes would start a server for itself, which nothing ends.

    Raises:
        MachineError: As `api_url`; when the server that the settings name asks for another password.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

    if url := PREFECT_API_URL.value():
        if not PREFECT_API_KEY.value():  # of Prefect's own servers, which ask for no password
            _require_password(url, PREFECT_API_AUTH_STRING.value())
    else:
        os.environ.update({"PREFECT_API_URL": api_url(), PASSWORD: own_password()})
        refresh_global_settings_context()


def _require_password(url: str, password: str | None) -> None:
    headers = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"} if password else {}
    try:
        urllib.request.urlopen(urllib.request.Request(f"{url}/version", headers=headers), timeout=10).close()
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED:
            raise MachineError(
                "Prefect's server at PREFECT_API_URL asks for a password",
                found=f"{PASSWORD} has another one" if password else f"{PASSWORD} is not set",
                remedy=f'{PASSWORD}="$(cat .splatyard/password)" for that of `splatyard up`, or unset PREFECT_API_URL',
            ) from error
    except OSError:
        pass  # Prefect's client waits for a server that is away


def free_port(port: int = 0, host: str = HOST) -> int:
    """A port of this machine: the given one, or any; an OSError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """Whether a GET of the address succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def own_origins(port: int, *more: str) -> frozenset[str]:
    """The origins of the pages of a server on loopback, and of more addresses that a reverse proxy shows them under."""
    addresses = [*(f"http://{name}:{port}" for name in LOOPBACK), *more]
    return frozenset(f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, addresses))


def refused(host: str | None, origin: str | None, origins: frozenset[str] | None) -> str | None:
    """Why a request is refused, or None.

    A page of another site can send requests to a server of this machine; its browser adds the page's origin. A name
    that its owner points at 127.0.0.1 makes the page look like one of this server; it shows in the Host header.

    Host and origin are the request's headers; `origins` those of the server's own pages, or None for a server that is
    open to the network, under names that it doesn't know.
    """
    if origins is not None:
        names = {urlsplit(one).hostname for one in origins}
        name = re.fullmatch(r"([\w.-]+)(:\d+)?", host or "")
        if name is None or name[1].lower() not in names:
            return "this server has another name"
    if origin is not None and origin not in {*(origins or ()), f"http://{host}"}:
        return "pages of another origin are not answered"
    return None


def own_pages_only(app: ASGIApp, origins: frozenset[str]) -> ASGIApp:
    """The application, answering pages of these origins only, over HTTP and websockets."""
    from starlette.datastructures import Headers
    from starlette.responses import PlainTextResponse

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        why = None
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            why = refused(headers.get("host"), headers.get("origin"), origins)
        answer = app if why is None else PlainTextResponse(why, HTTPStatus.FORBIDDEN)
        await answer(scope, receive, send)

    return guarded


def report_token(folder: Path, password: str) -> str:
    """What a link names a folder by: its name, and a signature that only who knows the password can make."""
    name = base64.urlsafe_b64encode(os.fsencode(folder)).decode().rstrip("=")
    return f"{name}.{hmac.new(password.encode(), name.encode(), hashlib.sha256).hexdigest()[:32]}"


def page_token(password: str) -> str:
    """The secret in the address of the lab's page for phones: who has it learns nothing of the password."""
    return hmac.new(password.encode(), b"the inbox's page", hashlib.sha256).hexdigest()[:32]


def _folder(token: str, password: str) -> Path | None:
    """The folder that a token names, if it is one of ours."""
    try:
        name = token.partition(".")[0]
        folder = Path(os.fsdecode(base64.urlsafe_b64decode(name + "=" * (-len(name) % 4))))
        return folder if hmac.compare_digest(report_token(folder, password), token) else None
    except ValueError:  # no text of base64, or of a path
        return None


def with_reports(app: ASGIApp, password: str) -> ASGIApp:
    """The application, and under `REPORTS` the files that links name; none is followed out of its folder.

    Reports may be of others, and lie where Prefect's page keeps its password: browsers run nothing in them, and take
    them for pages of another origin.
    """
    from starlette.exceptions import HTTPException
    from starlette.responses import PlainTextResponse
    from starlette.staticfiles import StaticFiles

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(REPORTS):
            await app(scope, receive, send)
            return
        token, _, name = scope["path"].removeprefix(REPORTS).partition("/")
        folder = _folder(token, password)
        try:
            if folder is None:
                raise HTTPException(HTTPStatus.NOT_FOUND)
            response = await StaticFiles(directory=folder, check_dir=False).get_response(name, scope)
        except HTTPException as error:
            response = PlainTextResponse(error.detail, error.status_code)
        response.headers.update(REPORT_HEADERS)
        await response(scope, receive, send)

    return answer


def _end_with(parent: int) -> None:
    """End this process as soon as its parent has ended, in whatever way."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SHUTDOWN_SECONDS)
    os._exit(0)


def app(port: int) -> ASGIApp:
    """Prefect's application on a port; it answers its own pages only, and changes need a token of each client.

    Where it has pages, these lead to the reports of runs.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, PREFECT_UI_API_URL, PREFECT_UI_ENABLED

    origins = own_origins(port, PREFECT_UI_API_URL.value())
    # of each setting, the name that Prefect reads first: nothing else in the environment wins
    os.environ["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] = ",".join(sorted(origins))
    os.environ["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] = "true"
    refresh_global_settings_context()
    prefect, password = create_app(final=True), PREFECT_SERVER_API_AUTH_STRING.value()
    return own_pages_only(with_reports(prefect, password) if password and PREFECT_UI_ENABLED else prefect, origins)


def main() -> None:
    """Serve on the port, for the parent process and on the address named on the command line."""
    import uvicorn

    port, parent, host = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    graceful = int(SHUTDOWN_SECONDS / 2)
    uvicorn.run(app(port), host=host, port=port, log_level="error", timeout_graceful_shutdown=graceful)


if __name__ == "__main__":
    main()

"""Prefect's API for the flows of this process, in a process of its own.

Prefect can start one by itself, but that one dies of the user's Ctrl-C before the flow has said goodbye to it, and
outlives a killed flow. This one does neither.
"""

from __future__ import annotations

import base64
import functools
import os
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

from flows.guard import App, OwnPagesOnly, own_origins
from pipeline.errors import MachineError

START_SECONDS = 180
"""Prefect's own limit of 20 s is too short on a busy laptop."""
LOOK_SECONDS = 0.5
FAREWELL_SECONDS = 10.0
"""Time to write down the last events: Prefect keeps them in memory for some seconds."""
BUSY = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""A server writes down what becomes of tasks many at a time; one by one takes two thirds of its work in a batch."""
SETTINGS = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", **BUSY}
"""As Prefect sets them for its temporary server: no user interface, no waiting for other servers."""
HOST = "127.0.0.1"
PASSWORD, SERVER_PASSWORD = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
"""What clients send, and what a server asks for; in the environment only, which no other user of the machine sees."""


def new_password() -> str:
    """A user and a secret, as Prefect wants them."""
    return f"splatyard:{secrets.token_urlsafe(24)}"


@functools.cache
def own_password() -> str:
    """That of this process's own server."""
    return new_password()


@functools.cache
def api_url() -> str:
    """Start the server on first use; returns the URL of its API once it answers.

    Raises:
        MachineError: When it ends or stays silent instead.
    """
    port = _free_port()
    url = f"http://{HOST}:{port}/api"
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command(port),
            env={**os.environ, **SETTINGS, "PREFECT_SERVER_UI_API_URL": url, SERVER_PASSWORD: own_password()},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C reaches all processes of a session
        )
        end = time.monotonic() + START_SECONDS
        while not answers(f"{url}/health"):
            if process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
                continue
            process.kill()
            process.wait()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise MachineError(
                f"Prefect's server must answer within {START_SECONDS} s",
                found=lines[-1] if lines else "silence",
                remedy="run again; if it stays so, name a running Prefect server in PREFECT_API_URL",
            )
    return url


def command(port: int) -> list[str]:
    """What serves Prefect's API on a port of this machine until the calling process ends."""
    return [sys.executable, "-m", "flows.server", str(port), str(os.getpid())]


def require_api() -> None:
    """Have Prefect talk to the server that its settings name, or else to one of our own, from now on.

    For the whole process: Prefect's `temporary_settings` are those of a context, which its own threads don't have. The
    one that passes on what worker processes tell would start a server for itself, which nobody asks and nobody ends.

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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """Whether something at the address says that all is well."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _end_with(parent: int) -> None:
    """End this process as soon as its parent is another one: the flow is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(FAREWELL_SECONDS)
    os._exit(0)


def app(port: int) -> App:
    """Prefect's application; it answers its own pages only, and changes nothing without a token of each client.

    Args:
        port: On which it is served.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_UI_API_URL

    origins = own_origins(port, PREFECT_UI_API_URL.value())
    # of each setting, the name that Prefect reads first: nothing else in the environment wins
    os.environ["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] = ",".join(sorted(origins))
    os.environ["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] = "true"
    refresh_global_settings_context()
    return OwnPagesOnly(create_app(final=True), origins)


def main() -> None:
    """Serve on the port and for the parent process named on the command line."""
    import uvicorn

    port, parent = map(int, sys.argv[1:])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    uvicorn.run(
        app(port),
        host=HOST,
        port=port,
        log_level="error",
        timeout_graceful_shutdown=int(FAREWELL_SECONDS / 2),
    )


if __name__ == "__main__":
    main()

"""Prefect's API for the flows of this process, in a process of its own.

Prefect can start one by itself, but that one dies of the user's Ctrl-C before the flow has said goodbye to it, and
outlives a killed flow. This one does neither.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

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
SETTINGS = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", **BUSY}
"""As Prefect sets them for its temporary server: no user interface, no waiting for other servers."""


@functools.cache
def api_url() -> str:
    """Start the server on first use; returns the URL of its API once it answers.

    Raises:
        MachineError: When it ends or stays silent instead.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(port), str(os.getpid())],
            env={**os.environ, **SETTINGS},
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


def require_api() -> None:
    """Have Prefect talk to the server that its settings name, or else to one of our own, from now on.

    For the whole process: Prefect's `temporary_settings` are those of a context, which its own threads don't have. The
    one that passes on what worker processes tell would start a server for itself, which nobody asks and nobody ends.

    Raises:
        MachineError: As `api_url`.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        os.environ["PREFECT_API_URL"] = api_url()
        refresh_global_settings_context()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
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


def main() -> None:
    """Serve on the port and for the parent process named on the command line."""
    import uvicorn

    port, parent = map(int, sys.argv[1:])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        timeout_graceful_shutdown=int(FAREWELL_SECONDS / 2),
    )


if __name__ == "__main__":
    main()

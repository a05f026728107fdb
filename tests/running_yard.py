"""`splatyard up` as a process of its own, with a password, and what its server's API says."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.paths import ROOT

COMMAND = "import sys; from flows.cli import main; sys.exit(main())"
PASSWORD = "lab:correct-horse-battery"
WAIT = 1200.0
"""A limit for tests that hang [s]; on a busy machine Python alone takes half a minute to start."""


class Yard:
    """A folder, and the command running in it.

    Args:
        folder: With the prefect.yaml that it deploys.
        environment: Of the command; splatyard is importable in any case.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.home, self.port = folder, folder / "home", free_port()
        self._environment = environment
        self.process: subprocess.Popen[str] | None = None
        self.phones = ""

    def command(self) -> list[str]:
        """What a user types."""
        return [sys.executable, "-c", COMMAND, "up", "--home", str(self.home), "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        """Without what this session has set of Prefect."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        password = {"PREFECT_SERVER_API_AUTH_STRING": PASSWORD, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        return ours | password | {"PYTHONPATH": f"{ROOT}:{self.folder}"} | self._environment

    def client(self, password: str = PASSWORD) -> dict[str, str]:
        """The environment of a command in another terminal."""
        address = {"PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api", "PREFECT_API_AUTH_STRING": password}
        return self.environment() | address | {"PREFECT_HOME": str(self.folder / "other-home")}

    def start(self) -> None:
        """Return when it says how to stop it."""
        self.process = subprocess.Popen(
            self.command(), cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        said = []
        while not (line := self.process.stdout.readline()).startswith("stop"):
            said.append(line)
            assert line, said
        assert f"http://127.0.0.1:{self.port} " in "".join(said)
        (self.phones,) = (line.split()[1] for line in said if line.startswith("phones"))

    def stop(self, number: int) -> list[psutil.Process]:
        """What is left of all that it started."""
        assert self.process is not None
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        assert self.process.wait(120) == 0
        return [process for process in started if lives(process.pid)]

    def end(self) -> None:
        """Stop it if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGTERM)

    def ask(self, path: str, password: str = PASSWORD, **content: Any) -> Any:
        """The server's answer to who has a token of its own, as every client of Prefect's gets one."""
        client = str(uuid.uuid4())
        headers = {"Authorization": "Basic " + base64.b64encode(password.encode()).decode()}
        token = self._answer(f"csrf-token?client={client}", headers)["token"]
        headers |= {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token, "Content-Type": "application/json"}
        return self._answer(path, headers, json.dumps(content).encode())

    def _answer(self, path: str, headers: dict[str, str], content: bytes | None = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/{path}", content, headers)
        end = time.monotonic() + WAIT
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    return json.load(reply)
            except OSError as error:  # it starts again, or its database is busy: clients ask again
                if getattr(error, "code", 503) != 503 or time.monotonic() > end:
                    raise
                time.sleep(1)

    def deployments(self) -> dict[str, str]:
        """Ids of the deployments, by name."""
        return {one["name"]: one["id"] for one in self.ask("deployments/filter")}

    def begin(self, name: str, **parameters: Any) -> str:
        """Start a run of a deployment; its id."""
        return self.ask(f"deployments/{self.deployments()[name]}/create_flow_run", parameters=parameters)["id"]

    def state(self, run: str) -> str:
        """Name of a run's state."""
        return self.run(run)["state"]["name"]

    def ended(self, run: str) -> tuple[str, str]:
        """Wait until a run has ended: name and message of its state."""
        wait_for(lambda: self.run(run)["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"))
        state = self.run(run)["state"]
        return state["name"], state["message"] or ""

    def run(self, run: str) -> dict[str, Any]:
        """All that is known of a run."""
        return self.ask("flow_runs/filter", flow_runs={"id": {"any_": [run]}})[0]

    def programs(self, *words: str) -> list[psutil.Process]:
        """Its children whose command holds the words."""
        assert self.process is not None
        children = [one for one in psutil.Process(self.process.pid).children() if lives(one.pid)]
        return [child for child in children if set(words) <= set(child.cmdline())]


def lives(pid: int) -> bool:
    """Whether it runs: one that has ended stays known until its parent, or the machine's first process, looks at it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """On loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)

"""Prefect's server on a Postgres database: a flow lives through a restart of the database."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.server import answers, free_port

SECONDS = 300

FLOW = """
import sys, time
from pathlib import Path
from prefect import flow, task

@task
def step(number):
    return number

@flow
def steps(folder: str):
    done = []
    for number in range(3):
        done.append(step(number))
        if number == 0:
            Path(folder, "ready").touch()
            while not Path(folder, "go").exists():
                time.sleep(0.05)
    assert done == [0, 1, 2]

if __name__ == "__main__":
    steps(sys.argv[1])
"""


@dataclass(frozen=True)
class Postgres:
    """A database server of our own.

    Attributes:
        folder: Its data, its log and its socket.
        programs: Folder of initdb and pg_ctl.
        user: Whom it runs as; it refuses to run as root. None for who runs the tests.
        port: On loopback.
    """

    folder: Path
    programs: Path
    user: str | None
    port: int

    @property
    def url(self) -> str:
        """The database for Prefect."""
        return f"postgresql+asyncpg://splatyard@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """One of its programs, to its end."""
        command = [str(self.programs / program), "-D", str(self.folder / "data"), *arguments]
        # its server keeps what it inherits open: not a pipe, whose end would be waited for
        with (self.folder / "programs.log").open("a+") as log:
            done = subprocess.run(command, user=self.user, cwd=self.folder, stdout=log, stderr=log, timeout=SECONDS)
            log.seek(0)
            assert done.returncode == 0, log.read()

    def start(self) -> None:
        """Returns once it takes connections."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "-w", "-l", str(self.folder / "server.log"), "-o", options, "start")

    def stop(self, mode: str) -> None:
        """Returns once it is gone; "fast" ends its connections, "immediate" also what they are at."""
        self.run("pg_ctl", "-w", "-m", mode, "stop")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Debian's Postgres in a temporary folder, as a user that is not root."""
    found = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
    if found is None:
        pytest.skip("needs Postgres: apt-get install -y postgresql")
    user = None
    if os.getuid() == 0:
        user = next(
            (name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()}), None
        )
        if user is None:
            pytest.skip("Postgres refuses to run as root, and there is no user postgres or nobody")
    with tempfile.TemporaryDirectory(prefix="splatyard-postgres-") as text:
        if user:
            os.chown(text, pwd.getpwnam(user).pw_uid, -1)
        database = Postgres(Path(text), Path(found).resolve().parent, user, free_port())
        database.run("initdb", "-U", "splatyard", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        database.start()
        try:
            yield database
        finally:
            database.stop("immediate")


@pytest.fixture(scope="module")
def environment(postgres, tmp_path_factory) -> dict[str, str]:
    """What a Prefect process on this database needs to know."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url,
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # what the server answers without its database
    }


@pytest.fixture(scope="module")
def server(environment, tmp_path_factory) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real Prefect server on the database, and the URL of its API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        wait_for(lambda: answers(f"{url}/health"), lambda: process.poll() is None, log)
        yield process, url
    finally:
        process.terminate()
        process.wait(SECONDS)


def wait_for(holds: Callable[[], bool], alive: Callable[[], bool], log: Path) -> None:
    """Wait until something holds, while somebody works on it."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert alive(), log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def states(url: str, what: str) -> list[str]:
    """The states of all flow runs or task runs that the server knows."""
    request = urllib.request.Request(
        f"{url}/{what}/filter", data=b"{}", headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return [run["state_type"] for run in json.load(reply)]


@pytest.mark.slow
def test_flow_lives_through_a_restart_of_the_database(postgres, server, environment, tmp_path):
    """The database goes away between two tasks and comes back: the flow waits, completes, and all is on record."""
    process, url = server
    script = tmp_path / "steps.py"
    script.write_text(FLOW)
    log = tmp_path / "log"
    with log.open("w") as file:
        flow = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env=environment | {"PREFECT_API_URL": url},
            cwd=tmp_path,
            stdout=file,
            stderr=file,
        )
    try:
        wait_for((tmp_path / "ready").exists, lambda: flow.poll() is None, log)
        postgres.stop("fast")
        (tmp_path / "go").touch()
        time.sleep(2)  # so that the flow meets a server without a database
        postgres.start()
        assert flow.wait(SECONDS) == 0, log.read_text()
    finally:
        flow.kill()
        flow.wait()
    assert process.poll() is None
    assert states(url, "flow_runs") == ["COMPLETED"]
    wait_for(lambda: states(url, "task_runs") == ["COMPLETED"] * 3, lambda: process.poll() is None, log)

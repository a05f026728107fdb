"""All that a lab needs on one machine: Prefect's server, a worker and splatyard's deployments, until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from flows.server import (
    BUSY,
    HOST,
    PASSWORD,
    SERVER_PASSWORD,
    answers,
    command,
    free_port,
    last_line,
    new_password,
    page_token,
)
from pipeline.errors import BusyError, MachineError
from pipeline.io.files import machine_errors
from pipeline.io.results import locked
from pipeline.parallel import end_with_parent

logger = logging.getLogger(__name__)

POOL, WORKER = "yard", socket.gethostname()
"""Names of the work pool and of this machine's worker in it."""
PASSWORD_FILE = "password"
"""In the server's folder; who knows it can start runs on this machine, and so programs."""
LOOK_SECONDS = 0.5
STABLE_SECONDS = 30.0
"""A program that ends sooner after its start would fail again."""
END_SECONDS = 30.0
"""Time to end; a flow's run tells the server that it was stopped."""
SETTINGS = {
    "PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS": "2",  # how often a waiting stage asks again
    # in files: a server that keeps slots in memory never frees those that are taken when it is restarted
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    **BUSY,
}
SERVER_HOST = "PREFECT_SERVER_API_HOST"
"""Prefect's name for the address that its server listens on; a container's has to listen on all of its own."""
EVERYWHERE = ("0.0.0.0",)
"""Addresses that let in everybody who reaches the machine."""
STARTED_BY = "SPLATYARD_UP"
"""Environment variable by which everything that the worker starts is known, even when the worker is killed."""


def up(home: Path, port: int, on_ready: Callable[[str, str], None], host: str = HOST) -> None:
    """Run server, worker and the inbox's page until Ctrl-C, SIGTERM or the terminal's end; then end all they started.

    The server's database, its password and the logs lie in `home`; `on_ready` is called with the addresses of server
    and page once everything runs. The page listens on `host`, at the port after the server's.

    Raises:
        BusyError: When another one runs in the same folder.
        MachineError: When the port is taken or a program doesn't start.
    """
    home = home.resolve()
    with machine_errors(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with locked(home / "up.lock", "the server", "runs as"):
            _run(home, port, on_ready, host)
    except BusyError as error:
        raise BusyError(
            "one `splatyard up` runs in a folder",
            found=error.found,
            remedy="use that one, stop it by Ctrl-C, or give this one another --home and --port",
            file=home,
        ) from None


def _free(port: int, host: str) -> int:
    try:
        return free_port(port, host)
    except OSError as error:
        found = f"{host}:{port}: {error.strerror}"
        remedy = "choose one with --port; the inbox's page has the next one"
        raise MachineError("the server needs a free port", found=found, remedy=remedy) from error


def _seen_from_outside(host: str) -> str:
    """A name of this machine for those whom an address lets in."""
    if host not in EVERYWHERE:
        return host
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address of documentation: nothing is sent, but a way out is chosen
        return probe.getsockname()[0]
    return socket.gethostname()


def _run(home: Path, port: int, on_ready: Callable[[str, str], None], host: str) -> None:
    server_host = os.environ.get(SERVER_HOST) or HOST
    port = _free(port, server_host)
    page_port = _free(port + 1, host)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    url = f"http://{HOST}:{port}"
    mark = {STARTED_BY: str(os.getpid())}
    environment = {**os.environ, **SETTINGS, **mark, "PREFECT_HOME": str(home), "PREFECT_API_URL": f"{url}/api"}
    secret = environment.pop(SERVER_PASSWORD, None) or kept_password(home)
    services: list[Service] = []

    def start(name: str, program: list[str], setting: str = PASSWORD) -> Service:
        services.append(Service(name, program, {**environment, setting: secret}, home / f"{name}.log"))
        return services[-1]

    try:
        server = start("server", command(port, server_host), SERVER_PASSWORD)
        deployments = start("deployments", [sys.executable, "-Pm", "flows.yard"])
        while deployments.running():
            server.keep()
            time.sleep(LOOK_SECONDS)
        if deployments.process.returncode:
            raise deployments.error()
        options = ("--pool", POOL, "--name", WORKER, "--type", "process")
        worker = start("worker", [sys.executable, "-Pm", "prefect", "worker", "start", *options])
        page = start("inbox", [sys.executable, "-Pm", "flows.lab.page", host, str(page_port)])
        path = f":{page_port}/{page_token(secret)}/"
        while not answers(f"http://{HOST if host in EVERYWHERE else host}{path}"):
            page.keep()
            time.sleep(LOOK_SECONDS)
        on_ready(url, f"http://{_seen_from_outside(host)}{path}")
        while True:
            keep_both(server, worker, url)
            page.keep()
            time.sleep(LOOK_SECONDS)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for service in reversed(services):
            service.stop()
        left = [process for process, starter in processes_with(STARTED_BY) if starter == mark[STARTED_BY]]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(left, timeout=END_SECONDS)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def processes_with(variable: str) -> Iterator[tuple[psutil.Process, str]]:
    """This user's processes that have an environment variable, and its value."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if value := process.environ().get(variable):
                yield process, value


def kept_password(home: Path) -> str:
    """The server's password: made at the first start, kept in a file that nobody else can read.

    Raises:
        MachineError: When the file can't be used, or others can read it.
    """
    file = home / PASSWORD_FILE
    with machine_errors(file):
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as new,
        ):
            new.write(f"{new_password()}\n")
        others, secret = file.stat().st_mode & 0o077, file.read_text(errors="replace").strip()
    if others or ":" not in secret:
        raise MachineError(
            "the server's password is in a file that only its owner reads, as user:secret",
            found="others may read it" if others else "no such line",
            remedy="remove the file: a new one is made; pages and commands then ask for the new password",
            file=file,
        )
    return secret


class Service:
    """A running program, whose output is added to a log file."""

    def __init__(self, name: str, program: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self.program, self.environment, self.log = name, program, environment, log
        self.process, self.started = self._start(), time.monotonic()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start it, out of reach of the terminal's Ctrl-C: `up` decides what ends first."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.program,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signal.SIGTERM),
            )

    def running(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def keep(self) -> None:
        """Start it again if it has ended.

        Raises:
            MachineError: When it ended by itself right after its start.
        """
        if self.running():
            return
        killed = self.process.returncode < 0  # by the system or by hand
        if not killed and time.monotonic() - self.started < STABLE_SECONDS:
            raise self.error()
        logger.warning("the %s has ended and is started again; %s", self.name, self.log)
        self.process, self.started = self._start(), time.monotonic()

    def stop(self) -> None:
        """Ask it to end, and kill it when it doesn't."""
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def error(self) -> MachineError:
        """The error for its end, with the last line of its log."""
        found = last_line(self.log.read_bytes()[-4000:])
        return MachineError(f"the {self.name} must run", found=found, remedy="see its log", file=self.log)


def keep_both(server: Service, worker: Service, url: str) -> None:
    """Start again what has ended; the worker once the server answers, for without it a worker ends at once."""
    server.keep()
    if not worker.running() and answers(f"{url}/api/health"):
        worker.keep()

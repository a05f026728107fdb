"""All that a lab needs on one machine: Prefect's server, a worker and splatyard's deployments, until it is stopped."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from flows.server import BUSY, HOST, PASSWORD, SERVER_PASSWORD, answers, command, new_password
from flows.yard import POOL, WORKER
from pipeline.engine import locked
from pipeline.errors import BusyError, MachineError
from pipeline.files import machine_errors

logger = logging.getLogger(__name__)

PASSWORD_FILE = "password"
"""In the server's folder; who knows it can start runs on this machine, and so programs."""
LOOK_SECONDS = 0.5
CALM_SECONDS = 30.0
"""A program that ends so soon after its start would not do better a second time."""
END_SECONDS = 30.0
"""Time to say goodbye; a flow's run tells the server that it was stopped."""
SETTINGS = {
    "PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS": "2",  # a stage that must wait looks again so soon
    # in files: one that knows places only by heart loses them, taken, when it is started again
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    **BUSY,
}
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # from <sys/prctl.h>


def up(home: Path, port: int, tell: Callable[[str], None]) -> None:
    """Run server and worker until Ctrl-C, SIGTERM or the terminal's end; then end them and all that they started.

    Args:
        home: Folder of the server's database, its password and the logs.
        port: Of the server, on this machine only.
        tell: Called with the server's address once everything runs.

    Raises:
        BusyError: When another one runs in the same folder.
        MachineError: When the port is taken or a program doesn't start.
    """
    home = home.resolve()
    with machine_errors(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(home / "up.lock", "the server"))
        except BusyError as error:
            raise BusyError(
                "one `splatyard up` runs in a folder",
                found=error.found.replace("is being built by", "runs as"),
                remedy="use that one, stop it by Ctrl-C, or give this one another --home and --port",
                file=home,
            ) from None
        _require_free(port)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what outlives a worker becomes our child, and is ended with us
        _run(home, port, tell)


def _run(home: Path, port: int, tell: Callable[[str], None]) -> None:
    url = f"http://{HOST}:{port}"
    environment = {**os.environ, **SETTINGS, "PREFECT_HOME": str(home), "PREFECT_API_URL": f"{url}/api"}
    secret = environment.pop(SERVER_PASSWORD, None) or kept_password(home)

    def service(name: str, program: list[str], setting: str) -> Service:
        return Service(name, program, {**environment, setting: secret}, home / f"{name}.log")

    server = service("server", command(port), SERVER_PASSWORD)
    deployments = service("deployments", [sys.executable, "-m", "flows.yard"], PASSWORD)
    start_worker = ("prefect", "worker", "start", "--pool", POOL, "--name", WORKER, "--type", "process")
    worker = service("worker", [sys.executable, "-m", *start_worker], PASSWORD)
    try:
        server.start()
        deployments.start()
        while deployments.running():
            server.keep()
            time.sleep(LOOK_SECONDS)
        deployments.require_success()
        worker.start()
        tell(url)
        while True:
            look_after(server, worker, url)
            bury({one.process.pid for one in (server, worker) if one.process})
            time.sleep(LOOK_SECONDS)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for one in (worker, deployments, server):
            one.stop()
        _end_the_rest()


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
    """A program of the yard.

    Args:
        name: For messages.
        command: Program and arguments.
        environment: Its environment.
        log: File that takes what it says.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self.command, self.environment, self.log = name, command, environment, log
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def start(self) -> None:
        """Start it, out of reach of the terminal's Ctrl-C: what ends first is decided here."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self.started = time.monotonic()

    def running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def keep(self) -> None:
        """Start it again if it has ended.

        Raises:
            MachineError: When it ended by itself right after its start.
        """
        if self.process is None or self.running():
            return
        killed = self.process.returncode < 0  # by the system or by hand: not its own fault
        if not killed and time.monotonic() - self.started < CALM_SECONDS:
            raise self._error()
        logger.warning("the %s has ended and is started again; %s", self.name, self.log)
        self.start()

    def require_success(self) -> None:
        """Raise a MachineError when it has ended with an error."""
        if self.process is None or self.process.returncode:
            raise self._error()

    def stop(self) -> None:
        """Ask it to end, and end it when it doesn't."""
        if self.process is None or not self.running():
            return
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _error(self) -> MachineError:
        lines = [line for line in self.log.read_text(errors="replace")[-4000:].splitlines() if line.strip()]
        found = lines[-1].strip() if lines else "silence"
        return MachineError(f"the {self.name} must run", found=found, remedy="see its log", file=self.log)


def look_after(server: Service, worker: Service, url: str) -> None:
    """Start again what has ended; the worker once the server answers, for without it a worker ends at once.

    Raises:
        MachineError: When one of them ended by itself right after its start.
    """
    server.keep()
    if not worker.running() and answers(f"{url}/api/health"):
        worker.keep()


def bury(besides: set[int]) -> None:
    """Take leave of ended processes that their parents have left to us, as nobody else can, besides our own."""
    if sys.platform != "linux":  # elsewhere nobody leaves us any
        return
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in besides:
            os.waitpid(ended.si_pid, 0)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            found = f"{HOST}:{port}: {error.strerror}"
            raise MachineError("the server needs a free port", found=found, remedy="choose one with --port") from error


def _end_the_rest() -> None:
    """End what the worker had started and left."""
    import psutil

    rest = psutil.Process().children(recursive=True)
    for process in rest:
        process.terminate()
    for process in psutil.wait_procs(rest, timeout=END_SECONDS)[1]:
        process.kill()


def _end_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)

"""`splatyard up` with Prefect's real server and worker: it deploys, keeps both alive, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import up as module
from flows import yard
from pipeline.errors import BusyError, MachineError
from tests.paths import ROOT

DEPLOYMENTS = """
name: lab
pull:
  - prefect.deployments.steps.set_working_directory:
      directory: "{{ $PWD }}"
deployments:
  - name: quick
    entrypoint: lab_flows.quick
    work_pool: {name: yard}
  - name: endless
    entrypoint: lab_flows.endless
    work_pool: {name: yard}
"""
FLOWS = """
import pathlib, subprocess, sys, time
from prefect import flow

@flow
def quick():
    pathlib.Path("done").touch()

@flow
def endless():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    pathlib.Path("child").write_text(str(child.pid))
    time.sleep(3600)
"""
COMMAND = "import sys; from flows.cli import main; sys.exit(main())"


class Lab:
    """A folder, and the command running in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.port = folder, folder / "home", free_port()
        (folder / "prefect.yaml").write_text(DEPLOYMENTS)
        (folder / "lab_flows.py").write_text(FLOWS)
        self.process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """What a user types."""
        return [sys.executable, "-c", COMMAND, "up", "--home", str(self.home), "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        """Without what this session has set of Prefect."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return ours | {"PYTHONPATH": f"{ROOT}:{self.folder}"}

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

    def stop(self, number: int) -> list[psutil.Process]:
        """What is left of all that it started."""
        assert self.process is not None
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        assert self.process.wait(120) == 0
        return [process for process in started if process.is_running() and process.status() != "zombie"]

    def ask(self, path: str, **content: Any) -> Any:
        """The server's answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:  # its database is busy: clients ask again
                if error.code != 503 or time.monotonic() > end:
                    raise
                time.sleep(1)

    def deployments(self) -> dict[str, str]:
        """Ids of the deployments, by name."""
        return {one["name"]: one["id"] for one in self.ask("deployments/filter")}

    def begin(self, name: str) -> str:
        """Start a run; its id."""
        return self.ask(f"deployments/{self.deployments()[name]}/create_flow_run")["id"]

    def state(self, run: str) -> str:
        """Name of a run's state."""
        wanted = {"id": {"any_": [run]}}
        return self.ask("flow_runs/filter", flow_runs=wanted)[0]["state_name"]

    def programs(self, *words: str) -> list[psutil.Process]:
        """Its children whose command holds the words."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if set(words) <= set(child.cmdline())]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """One with two small deployments of its own; ended with the test."""
    made = Lab(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop(signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_a_lab_from_nothing_to_a_run_and_back(lab: Lab):
    """It deploys and sets limits, refuses a second one, replaces a lost worker, and ends with all that it started."""
    lab.start()
    assert set(lab.deployments()) == {"quick", "endless"}
    limits = {one["name"]: one["limit"] for one in lab.ask("v2/concurrency_limits/filter")}
    assert limits["tag:gpu-stage"] >= 1
    assert limits["tag:cpu-stage"] >= 1
    assert lab.home.stat().st_mode & 0o077 == 0
    server = lab.programs("server")[0]
    assert {connection.laddr.ip for connection in server.net_connections() if connection.status == "LISTEN"} == {
        "127.0.0.1"
    }

    second = subprocess.run(lab.command(), cwd=lab.folder, env=lab.environment(), capture_output=True, text=True)
    assert second.returncode == 2
    assert f"process {lab.process.pid}" in second.stderr

    lab.programs("worker")[0].kill()
    quick = lab.begin("quick")
    wait_for((lab.folder / "done").exists)
    wait_for(lambda: lab.state(quick) == "Completed")

    endless = lab.begin("endless")
    wait_for(lambda: (lab.folder / "child").exists() and (lab.folder / "child").read_text())
    child = int((lab.folder / "child").read_text())
    assert lab.stop(signal.SIGINT) == []
    assert not psutil.pid_exists(child)

    lab.start()
    assert lab.state(quick) == "Completed"
    wait_for(lambda: lab.state(endless) == "Crashed")
    assert lab.stop(signal.SIGTERM) == []


@pytest.mark.slow
def test_a_deployment_that_is_wrong_ends_it(lab: Lab):
    """It says where to look, and nothing is left."""
    (lab.folder / "prefect.yaml").write_text(DEPLOYMENTS.replace("lab_flows.quick", "lab_flows.slow"))
    done = subprocess.run(lab.command(), cwd=lab.folder, env=lab.environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "deployments.log" in done.stderr
    module._require_free(lab.port)


def test_one_a_folder(tmp_path: Path):
    """The message names the process, and what to do."""
    with module.locked(tmp_path / "up.lock", "the server"), pytest.raises(BusyError, match=str(os.getpid())) as caught:
        module.up(tmp_path, free_port(), pytest.fail)
    assert "--home" in caught.value.remedy


def test_a_port_that_is_taken(tmp_path: Path):
    """Nothing is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MachineError, match="--port"):
            module.up(tmp_path, taken.getsockname()[1], pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == ["up.lock"]


def service(tmp_path: Path, code: str) -> module.Service:
    """A program of Python."""
    return module.Service("worker", [sys.executable, "-c", code], dict(os.environ), tmp_path / "worker.log")


def test_what_ends_at_once_is_not_started_again(tmp_path: Path):
    """The error shows what it said last."""
    worker = service(tmp_path, "print('no such pool')")
    worker.start()
    worker.process.wait()
    with pytest.raises(MachineError, match="no such pool"):
        worker.keep()


def test_what_is_killed_is_started_again(tmp_path: Path):
    """However soon, and what runs is left alone."""
    worker = service(tmp_path, "import time; time.sleep(600)")
    worker.start()
    first = worker.process
    worker.keep()
    assert worker.process is first
    first.kill()
    first.wait()
    worker.keep()
    assert worker.running()
    worker.stop()
    assert not worker.running()


def test_what_ends_later_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Even when it ended by itself."""
    monkeypatch.setattr(module, "CALM_SECONDS", 0.0)
    worker = service(tmp_path, "raise SystemExit(1)")
    worker.start()
    first = worker.process
    first.wait()
    worker.keep()
    assert worker.process is not first
    worker.process.wait()


def test_what_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After the time it has for its goodbyes."""
    monkeypatch.setattr(module, "END_SECONDS", 0.5)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    worker = service(tmp_path, code)
    worker.start()
    wait_for(lambda: worker.log.read_text())
    worker.stop()
    assert worker.process.returncode == -signal.SIGKILL


def test_gpus_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As the driver's program lists them; without it there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert yard.gpu_count() == 0
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A (UUID: GPU-1)'\necho 'GPU 1: NVIDIA B (UUID: GPU-2)'\n")
    program.chmod(0o755)
    assert yard.gpu_count() == 2

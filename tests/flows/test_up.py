"""`splatyard up` with Prefect's real server and worker: it deploys, keeps both alive, and leaves nothing behind."""

from __future__ import annotations

import base64
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import psutil
import pytest

from flows import up as module
from flows import yard
from flows.server import page_token
from pipeline.errors import BusyError, MachineError
from tests.prefect_home import prefect_home
from tests.running_yard import PASSWORD, Yard, free_port, lives, wait_for

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

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
  - name: broken
    entrypoint: lab_flows.broken
    work_pool: {name: yard}
  - name: wanting
    entrypoint: lab_flows.wanting
    work_pool: {name: yard}
  - name: scheduled
    entrypoint: lab_flows.scheduled
    work_pool: {name: yard}
    schedules: [{interval: 3600, anchor_date: "2026-01-01T00:00:00+00:00"}]
"""
FLOWS = """
import pathlib, subprocess, sys, time
from prefect import flow
from flows import reports, verdicts
from pipeline.running.records import Scene

@flow
def quick():
    pathlib.Path("done").touch()

@flow
def endless():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    pathlib.Path("child").write_text(str(child.pid))
    time.sleep(3600)

@flow
def scheduled():
    pass

@flow
def wanting():
    page = pathlib.Path("bundle/quality.html")
    page.parent.mkdir()
    page.write_text("<p>one gate")
    pathlib.Path("link").write_text(str(reports.link_to(page)))
    hall = Scene(card=page, name="hall", state="built", bundle=page.parent, failed_gates=("scale",))
    return verdicts.of_scenes([hall])

@flow
def broken():
    raise RuntimeError("the lamp is broken")
"""
HOOK = "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Hook; import sys; Hook(**{})"
HOOK = HOOK.format(
    "{'name': 'lab', 'url': sys.argv[1] + '/{{key}}', 'secrets': {'key': sys.argv[2]}, "
    "'json_data': {'text': '{{subject}} {{body}}'}}"
)
HOOK += ".save('splatyard-failures')"
SECRET = "b2d5f0-hook"


class Hearer:
    """A webhook: what it was sent, by address."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self, *words: str) -> bool:
        """Whether one message holds all the words."""
        return any(path == f"/{SECRET}" and all(word in text for word in words) for path, text in self.heard)


@pytest.fixture
def hearer() -> Iterator[Hearer]:
    """One on loopback."""
    made = Hearer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Yard]:
    """One with small deployments of its own; ended with the test."""
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENTS)
    (tmp_path / "lab_flows.py").write_text(FLOWS)
    made = Yard(tmp_path)
    yield made
    made.end()


@pytest.mark.slow
def test_a_lab_from_nothing_to_a_run_and_back(lab: Yard, hearer: Hearer):
    """It deploys and sets limits, refuses a second one and strangers, tells failures, and ends with all it started."""
    lab.start()
    assert (lab.folder / "inbox").is_dir()
    assert set(lab.deployments()) == {"quick", "endless", "broken", "wanting", "scheduled"}
    limits = {one["name"]: one["limit"] for one in lab.ask("v2/concurrency_limits/filter")}
    assert limits["tag:gpu-stage"] >= 1
    assert limits["tag:cpu-stage"] >= 1
    assert lab.home.stat().st_mode & 0o077 == 0
    with urllib.request.urlopen(lab.phones) as page:
        assert b"Upload a scan" in page.read()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(lab.phones.rstrip("/")[:-1] + "/")
    assert page_token(PASSWORD) in lab.phones
    server = lab.programs("flows.server")[0]
    assert {connection.laddr.ip for connection in server.net_connections() if connection.status == "LISTEN"} == {
        "127.0.0.1"
    }

    second = subprocess.run(lab.command(), cwd=lab.folder, env=lab.environment(), capture_output=True, text=True)
    assert second.returncode == 2
    assert f"process {lab.process.pid}" in second.stderr

    assert not (lab.home / "password").exists(), "one was given"
    for password in ("lab:wrong", "", f"{PASSWORD}!"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            lab.ask("deployments/filter", password)
    start_quick = [sys.executable, "-m", "prefect", "deployment", "run", "quick/quick"]
    refused = subprocess.run(start_quick, env=lab.client("lab:wrong"), capture_output=True, text=True)
    assert refused.returncode != 0
    assert "401" in refused.stdout + refused.stderr
    _do(lab, sys.executable, "-c", HOOK, hearer.url, SECRET)

    lab.programs("worker")[0].kill()
    _do(lab, *start_quick)
    wait_for((lab.folder / "done").exists)
    quick = lab.ask("flow_runs/filter", flows={"name": {"any_": ["quick"]}})[0]["id"]
    assert lab.ended(quick)[0] == "Completed"

    wait_for(lambda: lab.ask("flow_runs/filter", flows={"name": {"any_": ["scheduled"]}}))

    endless = lab.begin("endless")
    wait_for(lambda: (lab.folder / "child").exists() and (lab.folder / "child").read_text())
    child = int((lab.folder / "child").read_text())
    assert lab.stop(signal.SIGINT) == []
    assert not lives(child)

    lab.start()
    assert lab.state(quick) == "Completed"
    assert lab.ended(endless)[0] == "Crashed"
    lab.begin("broken")
    wait_for(lambda: hearer.told("broken", "Failed", "the lamp is broken"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        lab.begin("quick", evil=1)
    assert refused.value.code == 409
    assert "'evil' was unexpected" in refused.value.read().decode()
    wanting = lab.begin("wanting")
    assert lab.ended(wanting) == ("Gates failed", "1 built; failed gates: hall (scale)")
    assert lab.run(wanting)["tags"] == ["gates-failed"]
    wait_for(lambda: hearer.told("wanting", "Gates failed", "hall (scale)"))
    with urllib.request.urlopen((lab.folder / "link").read_text()) as page:  # as a browser does, without a password
        assert page.read() == b"<p>one gate"
    assert not any("quick" in text for _, text in hearer.heard)
    commands = [process.cmdline() for process in psutil.Process(lab.process.pid).children(recursive=True)]
    assert lab.stop(signal.SIGTERM) == []
    kept = {file.name: file.read_bytes() for file in lab.home.rglob("*") if file.is_file()}
    assert {"prefect.db", "server.log", "worker.log", "deployments.log"} <= set(kept)
    for secret in (PASSWORD, SECRET, page_token(PASSWORD), base64.b64encode(PASSWORD.encode()).decode()):
        assert not [name for name, content in kept.items() if secret.encode() in content]
        assert secret not in str(commands)


def _do(lab: Yard, *command: str) -> None:
    """What somebody who knows the password does in another terminal."""
    done = subprocess.run(command, env=lab.client(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_deployment_that_is_wrong_ends_it(lab: Yard):
    """It says where to look, and nothing is left."""
    prefect_home(lab.home)
    (lab.folder / "prefect.yaml").write_text(DEPLOYMENTS.replace("lab_flows.quick", "lab_flows.slow"))
    done = subprocess.run(lab.command(), cwd=lab.folder, env=lab.environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "deployments.log" in done.stderr
    module.free_port(lab.port)


def test_one_a_folder(tmp_path: Path):
    """The message names the process, and what to do."""
    with module.locked(tmp_path / "up.lock", "it"), pytest.raises(BusyError, match=str(os.getpid())) as caught:
        module.up(tmp_path, free_port(), pytest.fail)
    assert caught.value.found == f"the server runs as process {os.getpid()}"
    assert "--home" in caught.value.remedy


def test_a_port_that_is_taken(tmp_path: Path):
    """Nothing is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MachineError, match="--port"):
            module.up(tmp_path, taken.getsockname()[1], pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == ["up.lock"]


def test_the_password_is_made_once_and_for_its_owner_only(tmp_path: Path):
    """One that others may read, or that is none, is refused with the file's name."""
    made = module.kept_password(tmp_path)
    file = tmp_path / "password"
    assert made.startswith("splatyard:")
    assert len(made) > 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert module.kept_password(tmp_path) == made
    file.chmod(0o640)
    with pytest.raises(MachineError, match="others may read it"):
        module.kept_password(tmp_path)
    file.chmod(0o600)
    file.write_text("")
    with pytest.raises(MachineError, match="no such line") as caught:
        module.kept_password(tmp_path)
    assert str(file) in str(caught.value)


class Known:
    """A server that knows these runs, by id: the worker's label of each, or None."""

    def __init__(self, labels: dict[UUID, str | None]) -> None:
        self.labels, self.crashed = labels, set[UUID]()

    def read_flow_runs(self, *, flow_run_filter: Any, work_pool_filter: Any) -> list[SimpleNamespace]:
        """All but those that are not asked for; one at a time, as pages come."""
        assert work_pool_filter.name.any_ == ["yard"]
        left = [id for id in self.labels if id not in (*self.crashed, *flow_run_filter.id.not_any_)]
        worn = {id: {yard.WORKER_LABEL: name} if name else {} for id, name in self.labels.items()}
        return [SimpleNamespace(id=id, labels=worn[id]) for id in left[:1]]

    def set_flow_run_state(self, id: UUID, state: Any, *, force: bool) -> None:
        """Crashed ones."""
        assert force
        assert state.is_crashed()
        self.crashed.add(id)


def test_what_an_earlier_worker_left_crashes_and_what_lives_goes_on():
    """Runs of this machine's worker and of none; not other machines', nor one whose process outlived its worker."""
    ours, nobody, theirs, alive = (uuid4() for _ in range(4))
    server = Known({theirs: "other-machine", ours: yard.WORKER, alive: yard.WORKER, nobody: None})
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": str(alive)}
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    try:
        yard._crash_left_runs(cast("SyncPrefectClient", server))
    finally:
        process.kill()
        process.wait()
    assert server.crashed == {ours, nobody}


def test_a_run_cannot_choose_its_program():
    """Prefect's own template of a process has all three; ours has none, and takes no other name."""
    from prefect.workers.process import ProcessWorker

    default = ProcessWorker.get_default_base_job_template()
    assert set(yard.RUN_CANNOT_CHOOSE) < set(default["variables"]["properties"])
    made = yard.job_template(default)
    assert set(made["variables"]["properties"]) == set(made["job_configuration"]) == {"name", "labels", "stream_output"}
    assert made["variables"]["additionalProperties"] is False


def service(tmp_path: Path, code: str) -> module.Service:
    """A running program of Python."""
    return module.Service("worker", [sys.executable, "-c", code], dict(os.environ), tmp_path / "worker.log")


def test_what_ends_at_once_is_not_started_again(tmp_path: Path):
    """The error shows what it said last."""
    worker = service(tmp_path, "print('no such pool')")
    worker.process.wait()
    with pytest.raises(MachineError, match="no such pool"):
        worker.keep()


def test_what_is_killed_is_started_again(tmp_path: Path):
    """However soon, and what runs is left alone."""
    worker = service(tmp_path, "import time; time.sleep(600)")
    first = worker.process
    worker.keep()
    assert worker.process is first
    first.kill()
    first.wait()
    worker.keep()
    assert worker.running()
    worker.stop()
    assert not worker.running()


def test_the_worker_waits_for_the_server(tmp_path: Path):
    """Both were killed: a worker that is started before the server answers would end, and all with it."""
    server, worker = (service(tmp_path, "import time; time.sleep(600)") for _ in range(2))
    port = free_port()
    try:
        for one in (server, worker):
            one.process.kill()
            one.process.wait()
        module.keep_both(server, worker, f"http://127.0.0.1:{port}")
        assert server.running()
        assert not worker.running()
        (tmp_path / "api" / "health").mkdir(parents=True)
        handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
        with ThreadingHTTPServer(("127.0.0.1", port), handler) as answering:
            threading.Thread(target=answering.serve_forever, daemon=True).start()
            module.keep_both(server, worker, f"http://127.0.0.1:{port}")
            answering.shutdown()
        assert worker.running()
    finally:
        server.stop()
        worker.stop()


def test_a_grandchild_is_known_after_its_parent_is_killed(tmp_path: Path):
    """By the environment that it inherited: a killed worker leaves such processes."""
    environment, file = {**os.environ, module.STARTED_BY: str(tmp_path)}, tmp_path / "pid"
    parent = subprocess.Popen(["sh", "-c", f"sleep 600 & echo $! > {file}; wait"], env=environment)
    wait_for(lambda: file.exists() and file.read_text())
    pid = int(file.read_text())
    parent.kill()
    parent.wait()

    def found() -> list[psutil.Process]:
        return [process for process, value in module.processes_with(module.STARTED_BY) if value == str(tmp_path)]

    wait_for(found)  # it has no environment for the moment in which it becomes another program
    (left,) = found()
    assert left.pid == pid
    left.kill()


def test_what_ends_later_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Even when it ended by itself."""
    monkeypatch.setattr(module, "STABLE_SECONDS", 0.0)
    worker = service(tmp_path, "raise SystemExit(1)")
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

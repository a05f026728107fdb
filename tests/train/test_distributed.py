"""Several processes train as one, and end as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pipeline.errors import TrainError
from pipeline.parallel import THREADS, core_count
from tests.bundles import floor_of, make_bundle
from tests.paths import ROOT
from tests.synthetic import Room
from train.distributed import Nodes, Processes, agreed, first, launch, own_seed, processes_of_this_run, together

LAUNCHER = """
import sys
from pipeline.errors import TrainError
from train.distributed import launch
name, *arguments = sys.argv[1:]
try:
    sys.exit(launch(f"tests.train.ranks:{name}", arguments, 2, "cpu"))
except KeyboardInterrupt:
    sys.exit(130)
except TrainError as error:
    print(error.found, error.file, sep="\\n")
    sys.exit(99)
"""
"""As from a command line: in a process of its own, whatever state that of the tests is in."""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def _logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Processes leave theirs where the test's other files are."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("logs")))


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Two processes of a program of `ranks`, by its name and what it is given."""
    command = [sys.executable, "-c", LAUNCHER, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


def gone(process: int) -> bool:
    """Whether there is no such process any more."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_two_processes_learn_the_same_from_different_episodes(tmp_path: Path, room: Room):
    """Weights are alike before and after, bit for bit, and another; what they see is not; what one wishes all do."""
    bundle = make_bundle(tmp_path, room, regions=floor_of(room))
    done = launched("train_two_iterations", str(bundle), str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    np.testing.assert_array_equal(one["before"], other["before"])
    np.testing.assert_array_equal(one["after"], other["after"])
    assert np.isfinite(one["after"]).all()
    assert (one["before"] != one["after"]).mean() > 0.9
    assert not np.allclose(one["seen"], other["seen"])
    for found in (one, other):
        assert found["wishes"].tolist() == [True, False]


@pytest.mark.slow
def test_each_process_compiles_with_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first run on a machine, where no kernel is compiled yet, is as every other one."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    done = launched("compile_a_kernel", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    share = max(1, core_count() // 2)
    assert [(tmp_path / rank).read_text() for rank in "01"] == [f"{share} {share}"] * 2


@pytest.mark.slow
def test_a_process_that_fails_ends_all(tmp_path: Path):
    """What it said is in the file that the error names."""
    done = launched("fail_in", "1", str(tmp_path))
    assert done.returncode == 99, done.stdout + done.stderr
    found, file = done.stdout.splitlines()
    assert found == "process 1 of 2 ended with 3"
    assert "out of ideas" in Path(file).read_text()
    assert all(gone(int(path.read_text())) for path in tmp_path.iterdir())


@pytest.mark.slow
def test_the_first_process_tells_by_itself_how_it_failed(tmp_path: Path):
    """On the screen; its exit code is that of all."""
    done = launched("fail_in", "0", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "out of ideas\n")
    assert all(gone(int(path.read_text())) for path in tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_comes_to_each_process_once(tmp_path: Path):
    """A terminal sends it to all of its foreground; each can end in order, and then all are gone."""
    command = [sys.executable, "-c", LAUNCHER, "count_interrupts", str(tmp_path)]
    launcher = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    end = time.monotonic() + 240
    while len([path for path in tmp_path.iterdir() if path.read_text()]) < 2:
        assert time.monotonic() < end, "they don't start"
        time.sleep(0.2)
    os.killpg(launcher.pid, signal.SIGINT)
    assert launcher.wait(120) == 130
    for path in tmp_path.iterdir():
        process, times = map(int, path.read_text().split())
        assert times == 1
        assert gone(process)


@pytest.mark.slow
def test_processes_of_one_machine_listen_to_nobody_else(tmp_path: Path):
    """Neither the launcher nor gloo is reached from other machines, and where they meet only this user may look."""
    command = [sys.executable, "-c", LAUNCHER, "wait_together", str(tmp_path / "end")]
    # a cluster's own setting would bind them to its network
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "no-such0"}
    ) as launcher:
        end = time.monotonic() + 240
        while len(list(tmp_path.glob("end.*"))) < 2:
            assert launcher.poll() is None
            assert time.monotonic() < end, "they don't start"
            time.sleep(0.2)
        every = [psutil.Process(launcher.pid), *psutil.Process(launcher.pid).children(recursive=True)]
        sockets = [one for process in every for one in process.net_connections("inet") if one.status == "LISTEN"]
        (store,) = Path(os.environ["TMPDIR"]).glob("splatyard-train-*/store")
        (tmp_path / "end").touch()
        assert launcher.wait(120) == 0
    assert {one.laddr.ip for one in sockets} <= {"127.0.0.1", "::1"}, sockets
    assert len(sockets) >= 2, "gloo listens in each"
    assert not store.parent.exists()


def test_machines_are_told_who_can_run_programs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Before anything is opened; nothing is said of one machine, where nothing is open to others."""
    monkeypatch.setattr(
        "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend._matches_machine_hostname", lambda host: False
    )
    monkeypatch.setattr("train.distributed.MEET_SECONDS", 1)
    with pytest.raises(TrainError, match="nothing answers at"):
        launch("tests.train.ranks:fail_in", ["0", "nowhere"], 1, "cpu", Nodes(2, "127.0.0.1", 9))
    assert "127.0.0.1:9" in caplog.text
    assert "can run any program" in caplog.text


def test_each_process_has_its_place(monkeypatch: pytest.MonkeyPatch):
    """As torchrun tells it; its episodes are others than those of the first one, which alone writes."""
    assert processes_of_this_run() is None
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    processes = processes_of_this_run()
    assert processes == {"global_rank": 3, "local_rank": 1, "world_size": 4}
    assert not first(processes)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes_of_this_run() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "splatyard")  # machines that come and go may be one
    assert processes_of_this_run()
    assert (
        len(
            {
                own_seed(seed, Processes(global_rank=rank, local_rank=0, world_size=4))
                for seed in range(4)
                for rank in range(4)
            }
        )
        == 16
    )


def test_a_process_alone_joins_nobody():
    """It keeps its device and its seed, and does what it wishes."""
    with together("cuda:1", None) as device:
        assert device == "cuda:1"
        assert not torch.distributed.is_initialized()
    assert first(None)
    assert own_seed(10, None) == 10
    assert agreed(True, None)
    assert not agreed(False, None)


TINY = (
    *("num_envs=2", "num_steps_per_env=2", "ppo.num_mini_batches=1", "policy.encoder=none"),
    *("policy.rnn_hidden_dim=8", "policy.actor_hidden_dims=[8]", "policy.critic_hidden_dims=[8]"),
)
STEPS = 4
"""Of an iteration of one process."""


MACHINE = """
import sys
from flows.cli import main
from train import distributed
distributed.LAST_CALL_SECONDS = 5
sys.exit(main(sys.argv[1:]))
"""
"""As a user starts it, but who is left alone waits less for another."""


def killed(machine: subprocess.Popen[bytes]) -> None:
    """As if its power had failed."""
    every = [*psutil.Process(machine.pid).children(recursive=True), machine]
    for process in every:
        process.kill()
    machine.wait()


@pytest.mark.soak  # other tests here start, fail and end processes, and test_session continues with more or fewer
def test_machines_come_and_go(tmp_path: Path, room: Room):
    """Two train, one is killed, the other goes on alone, and with it again; each iteration is done once."""
    bundle = make_bundle(tmp_path, room, regions=floor_of(room))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["train", "navigate", "--scene", str(bundle), "--nodes", "2", "--rendezvous", address]
    words += ["--iterations", "1000000", *(word for setting in TINY for word in ("--set", setting))]

    def machine(number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", MACHINE, *words]
        with (tmp_path / f"{number}.log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=tmp_path, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )

    def steps() -> list[int]:
        """Of each iteration so far."""
        curve = tmp_path / f"runs/navigate-{address.replace(':', '-')}/curve.jsonl"
        lines = curve.read_text().splitlines()[:-1] if curve.is_file() else []
        rows = [json.loads(line) for line in lines]
        assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
        return np.diff([row["steps"] for row in rows], prepend=0).tolist()

    def last_are(count: int) -> None:
        """Wait until so many processes train."""
        end = time.monotonic() + 180
        while steps()[-3:] != [count * STEPS] * 3:
            logs = "".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
            assert time.monotonic() < end, logs
            time.sleep(0.5)

    def meets() -> bool:
        """Whether somebody listens where machines meet: the first of two that have that address."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0

    machines = [machine(0)]
    try:
        end = time.monotonic() + 180
        while not meets():
            assert time.monotonic() < end, (tmp_path / "0.log").read_text()
            time.sleep(0.1)
        machines.append(machine(1))
        last_are(2)
        killed(machines[1])
        last_are(1)
        machines[1] = machine(2)
        last_are(2)
        for one in machines:
            one.send_signal(signal.SIGINT)
        assert [one.wait(120) for one in machines] == [130, 130]
    finally:
        for one in machines:
            if one.poll() is None:
                killed(one)
    assert set(steps()) == {STEPS, 2 * STEPS}


@pytest.mark.parametrize("address", ["29500", "host", "no such host:29500", "127.0.0.1:port", ":29500", "127.0.0.1:"])
def test_machines_meet_at_a_host_and_a_port(address: str):
    """Of which both are told."""
    with pytest.raises(TrainError, match="HOST:PORT"):
        Nodes.at(2, address)


def test_a_machine_knows_its_own_address():
    """On the way to the others."""
    assert Nodes.at(2, "127.0.0.1:29500").own_address() == "127.0.0.1"


def test_nobody_there(monkeypatch: pytest.MonkeyPatch):
    """Where machines are to meet, which is not this one."""
    monkeypatch.setattr(
        "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend._matches_machine_hostname", lambda host: False
    )
    monkeypatch.setattr("train.distributed.MEET_SECONDS", 1)
    with pytest.raises(TrainError, match="nothing answers at"):
        launch("tests.train.ranks:fail_in", ["0", "nowhere"], 1, "cpu", Nodes(2, "127.0.0.1", 9))


def test_fewer_devices_than_processes(monkeypatch: pytest.MonkeyPatch):
    """Are an error before anything starts; it says how many there are."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(TrainError, match="2 for 4 processes") as caught:
        launch("tests.train.ranks:fail_in", ["0", "nowhere"], 4, "cuda")
    assert "--num-gpus 2" in caught.value.remedy

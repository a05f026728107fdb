"""Several processes train as one, and end as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import TrainError
from tests.bundles import floor_of, make_bundle
from tests.paths import ROOT
from tests.synthetic import Room
from train.distributed import agreed, first, launch, own_seed, processes_of_this_run, together

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


def test_each_process_has_its_place(monkeypatch: pytest.MonkeyPatch):
    """As torchrun tells it; its episodes are others than those of the first one, which alone writes."""
    assert processes_of_this_run() is None
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    processes = processes_of_this_run()
    assert processes == {"global_rank": 3, "local_rank": 1, "world_size": 4}
    assert not first(processes)
    assert own_seed(10, processes) == 13


def test_a_process_alone_joins_nobody():
    """It keeps its device and its seed, and does what it wishes."""
    with together("cuda:1", None) as device:
        assert device == "cuda:1"
        assert not torch.distributed.is_initialized()
    assert first(None)
    assert own_seed(10, None) == 10
    assert agreed(True, None)
    assert not agreed(False, None)


def test_fewer_devices_than_processes(monkeypatch: pytest.MonkeyPatch):
    """Are an error before anything starts; it says how many there are."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(TrainError, match="2 for 4 processes") as caught:
        launch("tests.train.ranks:fail_in", ["0", "nowhere"], 4, "cuda")
    assert "--num-gpus 2" in caught.value.remedy

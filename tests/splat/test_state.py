"""Interrupted trainings go on with the same bits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.splat.params import SplatParams
from pipeline.splat.ply import save_splat
from pipeline.splat.state import CHECKPOINT_FILE, Checkpoint
from pipeline.splat.train import train
from tests.splat.conftest import tiny_scene

PARAMS = SplatParams(gaussians=1500, iterations=120)


class StoppedError(Exception):
    """Raised in the middle of a training."""


def finish(folder: Path, observe=None) -> tuple[bytes, float]:
    """Train to the end; gives the splat's file, and the next number of the generator."""
    rng = np.random.default_rng(5)
    trained = train(*tiny_scene(), PARAMS, rng, observe, Checkpoint(folder, "run", seconds=0))
    save_splat(trained.gaussians, folder / "splat.ply")
    return (folder / "splat.ply").read_bytes(), float(rng.random())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[bytes, float]:
    """What a run that nothing stops gives."""
    return finish(tmp_path_factory.mktemp("whole"))


def stop(iteration: int, _gaussians) -> None:
    """Called every 50 steps."""
    raise StoppedError(iteration)


def hang(_iteration: int, _gaussians) -> None:
    """Wait to be killed."""
    time.sleep(600)


def test_stopped_training_goes_on_bit_for_bit(tmp_path, uninterrupted):
    """Growth, exposures, poses and the order of views are all under way when it stops."""
    with pytest.raises(StoppedError, match="50"):
        finish(tmp_path, stop)
    seen = []
    assert finish(tmp_path, lambda iteration, _: seen.append(iteration)) == uninterrupted
    assert seen == [50, 100]  # on from the 49 steps that were saved


def test_killed_training_goes_on_bit_for_bit(tmp_path, uninterrupted):
    """Kill -9 of a process in the middle."""
    process = multiprocessing.get_context("spawn").Process(target=finish, args=(tmp_path, hang))
    process.start()
    deadline = time.monotonic() + 120
    file = tmp_path / CHECKPOINT_FILE
    while not file.exists() or steps_in(file) < 49:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    seen = []
    assert finish(tmp_path, lambda iteration, _: seen.append(iteration)) == uninterrupted
    assert seen == [50, 100]


def test_finished_training_is_not_repeated(tmp_path, uninterrupted):
    """A stage killed after its training finds it done."""
    assert finish(tmp_path) == uninterrupted
    seen = []
    assert finish(tmp_path, lambda iteration, _: seen.append(iteration)) == uninterrupted
    assert seen == []


@pytest.mark.parametrize("damage", ["truncated", "other run", "other parts"])
def test_checkpoint_that_does_not_fit_is_left_alone(tmp_path, uninterrupted, damage, caplog):
    """Training starts again, says so, and comes out right."""
    with pytest.raises(StoppedError):
        finish(tmp_path, stop)
    file = tmp_path / CHECKPOINT_FILE
    with np.load(file) as data:
        saved = dict(data)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "other run":
        np.savez(file, **{**saved, "run": np.array("another")})
    else:
        np.savez(file, **{name: saved[name] for name in saved if name != "iteration"})
    seen = []
    assert finish(tmp_path, lambda iteration, _: seen.append(iteration)) == uninterrupted
    assert seen == [50, 100]
    assert "starts again" in caplog.text


def steps_in(file: Path) -> int:
    """Steps that a checkpoint has behind it."""
    with np.load(file) as data:
        return int(data["iteration"])

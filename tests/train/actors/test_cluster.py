"""Actors on Ray: a process, a learner or a machine is killed, and training goes on; wrong addresses are told."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import parallel
from pipeline.errors import TrainError
from sim.scene.opening import open_scene
from tests.paths import ROOT
from tests.train.actors.simulated import FORM
from train.actors import cluster
from train.actors.trainer import ActorPlan
from train.preset import Preset, load_preset
from train.runs import checkpoint
from train.runs.run import Run
from train.session import train_run

SCENE = "terrain:0:flat"
SMALL = {
    "algorithm": "sac",
    "num_envs": 3,
    "num_steps_per_env": 4,
    "save_interval": 5,
    "policy.actor_hidden_dims": [8],
    "policy.critic_hidden_dims": [8],
    "sac.batch_size": 8,
    "sac.random_steps": 24,
    "sac.replay_size": 1000,
    "actors.memory": 0.5,
}
TRAIN = """
import sys
from sim.scene.opening import open_scene
from train.actors.trainer import ActorPlan
from train.runs.run import Run
from train.session import train_run
run, iterations, count, address = sys.argv[1:]
actors = ActorPlan(int(count), address) if int(count) else None
train_run(Run.open(run), [open_scene("terrain:0:flat")], iterations=int(iterations), actors=actors)
"""
ENDLESS = 10**6


def train(run: Run, iterations: int, actors: int) -> None:
    """To its end, in a process of its own: Ray reads once whether there is a token."""
    command = [sys.executable, "-c", TRAIN, str(run.folder), str(iterations), str(actors), ""]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


def make_run(root: Path, **changes: object) -> Run:
    """In which robots see."""
    return Run.create(root, load_preset("navigate", SMALL | changes), [open_scene(SCENE).lock], [SCENE], seed=3)


@contextlib.contextmanager
def training(run: Run, actors: int, address: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """In a process of its own, which is killed in the end."""
    command = [sys.executable, "-c", TRAIN, str(run.folder), str(ENDLESS), str(actors), address]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        try:
            yield process
        finally:
            process.kill()


def until(run: Run, process: subprocess.Popen[bytes], holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Wait for a row of the curve that is new, and of which that is true."""
    before = len(run.curve.read())
    while process.poll() is None:
        for row in run.curve.read()[before:]:
            if holds(row):
                return row
        time.sleep(0.2)
    raise AssertionError(f"training ended with {process.returncode}")


def both(row: dict[str, float]) -> bool:
    """Whether two actors send."""
    return row["actors/alive"] == 2


def actors_below(pid: int) -> list[psutil.Process]:
    """Processes of actors that a process started."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [child] if "Rollouts" in " ".join(child.cmdline()) else []
    return found


def counters_of(state: checkpoint.Checkpoint) -> dict[str, int]:
    """What was written to the replay and learned."""
    return state["agent"]["counters"]  # type: ignore[index,return-value]


def last_row(run: Run) -> dict[str, float]:
    """The newest of its curve."""
    return run.curve.read()[-1]


@pytest.mark.soak
def test_actors_and_learner_are_killed_and_training_goes_on(tmp_path: Path):
    """By SIGKILL; a run continues from its checkpoint with another number of actors, and with none."""
    run = make_run(tmp_path)
    with training(run, 2) as process:
        until(run, process, both)
        family = psutil.Process(process.pid).children(recursive=True)
        killed = actors_below(process.pid)[0]
        killed.kill()
        row = until(run, process, lambda row: row["actors/replaced"] >= 1 and both(row))
        assert row["actors/refused"] == 0
        assert row["actors/taken"] == row["iteration"]
        until(run, process, lambda newest: newest["iteration"] >= row["iteration"] + 5)  # past a checkpoint
        process.kill()
    _, state = checkpoint.chosen(run)
    done, counters = state["iteration"], counters_of(state)
    assert counters["written"] == 5 * done and counters["updates"] > 0  # four steps and a cut
    train(run, done + 3, actors=1)
    rows = run.curve.read()
    assert [row["iteration"] for row in rows] == list(range(1, done + 4))
    assert rows[-1]["actors/count"] == 1
    assert rows[-1]["actors/taken"] == done + 3
    assert rows[-1]["actors/replaced"] >= 1
    train(run, done + 5, actors=0)
    _, state = checkpoint.chosen(run)
    assert counters_of(state)["written"] == 5 * (done + 3) + 4 * 2
    train(run, done + 6, actors=1)
    assert run.curve.read()[-1]["iteration"] == done + 6
    _, left = psutil.wait_procs(family, timeout=300)  # Ray's own processes take a minute
    assert not left, "what the learner started ends with it"


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes on this machine, with room for an actor each; none listens to the network."""
    monkeypatch.setenv(parallel.ONLY_HERE, "0")
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False)
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")
    monkeypatch.setenv("RAY_health_check_period_ms", "1000")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "5")
    node = {"num_cpus": 1, "num_gpus": 0, "memory": 2**30, "object_store_memory": 2**27, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        made.other = made.add_node(**node)
        made.more = lambda: made.add_node(**node)
        yield made
    finally:
        made.shutdown()


@pytest.mark.slow
def test_actors_of_a_cluster_send(tmp_path: Path, two_nodes: Any):
    """One on each machine. A cluster of another version is refused."""
    run = make_run(tmp_path)
    with training(run, 2, two_nodes.address) as process:
        until(run, process, both)
        process.kill()
    _pretend_version(two_nodes.address, "2.0.0")
    with pytest.raises(TrainError, match=r"(?s)answers at .*Version mismatch|2\.0\.0"):
        train_run(run, [open_scene(SCENE)], iterations=10**6, actors=ActorPlan(2, two_nodes.address))


@pytest.mark.soak  # test_pool has silent actors replaced, without Ray
def test_a_machine_is_killed_and_training_goes_on(tmp_path: Path, two_nodes: Any):
    """By SIGKILL of its Ray; when another one joins, it gets an actor."""
    run = make_run(tmp_path, **{"actors.silent_seconds": 120})
    with training(run, 2, two_nodes.address) as process:
        until(run, process, both)
        (raylet,) = two_nodes.other.all_processes["raylet"]
        os.kill(raylet.process.pid, signal.SIGKILL)
        row = last_row(run)
        until(run, process, lambda newest: newest["iteration"] >= row["iteration"] + 50)
        two_nodes.more()
        until(run, process, lambda newest: newest["actors/replaced"] >= 1 and both(newest))
        process.kill()


def _pretend_version(address: str, version: str) -> None:
    """Change what a cluster says of itself."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    client = GcsClient(address=address)
    about = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
    client.internal_kv_put(b"CLUSTER_METADATA", json.dumps(about | {"ray_version": version}).encode(), True, b"cluster")


@pytest.mark.slow
def test_an_address_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After the time that it has, by one error; the run can be continued."""
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 15)
    run = make_run(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(TrainError, match=rf"(?s)cluster answers at {address}.*no answer in 15 s.*ray start"):
            train_run(run, [open_scene(SCENE)], iterations=1, actors=ActorPlan(1, address))


NOWHERE = f"""
import sys
from pathlib import Path
from sim.scene.opening import open_scene
from train.actors.trainer import ActorPlan
from train.runs.run import Run
from train.session import train_run
run, scene = Run.open(sys.argv[1]), open_scene("{SCENE}")
Path.cwd = lambda: Path("/nowhere")
train_run(run, [scene], iterations=1, actors=ActorPlan(1))
"""


@pytest.mark.slow
def test_actors_that_cannot_start_end_training_with_their_reason(tmp_path: Path):
    """By one error that names it; in a process of its own, as Ray reads once whether there is a token."""
    run = make_run(tmp_path, **{"actors.max_replacements": 1})
    command = [sys.executable, "-c", NOWHERE, str(run.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert re.search(r"(?s)TrainError.*2 were replaced one after another.*no '/nowhere'", done.stderr), done.stderr


def _preset(**changes: object) -> Preset:
    return load_preset(str(changes.pop("task", "navigate")), changes)


@pytest.mark.parametrize(
    ("plan", "preset", "processes", "found"),
    [
        (ActorPlan(2), _preset(), 1, "algorithm: ppo"),
        (ActorPlan(2), _preset(algorithm="bc", demos="x"), 1, "algorithm: bc"),
        (ActorPlan(2), _preset(algorithm="sac"), 4, "4 processes"),
        (ActorPlan(0), _preset(algorithm="sac"), 1, "0 actors"),
        (ActorPlan(2), _preset(task="climb", algorithm="sac", teacher=""), 1, "whose level rises"),
    ],
)
def test_what_actors_cannot_do_is_refused(plan: ActorPlan, preset: Preset, processes: int, found: str):
    """Before anything is started."""
    with pytest.raises(TrainError, match=found):
        plan.check(preset, processes)


def test_a_proxy_is_refused():
    """Ray's own client goes through one."""
    with pytest.raises(TrainError, match=r"(?s)on a machine of the cluster.*ray start"):
        cluster._refuse_a_proxy("ray://head:10001")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    """By pip's command."""
    known = builtins.__import__

    def missing(name: str, *others: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return known(name, *others, **more)

    monkeypatch.setattr("importlib.import_module", missing)
    with (
        pytest.raises(TrainError, match=r"(?s)--actors needs ray.*splatyard\[lab\]"),
        cluster.connected("", 1, FORM, _preset(algorithm="sac")),
    ):
        pass

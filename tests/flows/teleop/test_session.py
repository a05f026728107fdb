"""A session: episodes are started, kept or discarded; what was kept becomes demonstrations, also after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from websockets.sync.client import connect

import sim
from flows.cli import main
from flows.teleop.controls import NOTHING, Held
from flows.teleop.desk import Status
from flows.teleop.session import Session, page_of
from flows.teleop.takes import kept_folder, open_takes
from pipeline.errors import BusyError, TrainError
from sim.env import SceneEnv
from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room
from train.encoders.groups import Images
from train.environment import TrainEnv
from train.preset import load_preset
from train.recording.demonstrations import contract_of, read_demonstrations
from train.recording.steps import about_of

SECONDS = 1.0
"""Time limit of an episode: five steps."""


@pytest.fixture
def bundle(tmp_path: Path, room: Room) -> Path:
    """With room for a rover."""
    return make_bundle(tmp_path, room, regions=floor_of(room))


@pytest.fixture
def env(bundle: Path) -> Iterator[SceneEnv]:
    """One rover."""
    made = sim.make("navigate", [bundle], 1, starts="train", seconds=SECONDS)
    yield made
    made.close()


class Scripted:
    """A desk and a view: each tick takes the next of what a person does."""

    def __init__(self) -> None:
        self.status, self.now, self.clicked, self.shown = Status(), NOTHING, list[str](), 0

    def commands(self) -> list[Any]:
        """What was clicked."""
        clicked, self.clicked = self.clicked, []
        return clicked

    def held(self) -> Held:
        """What is held."""
        return self.now

    def update(self, seen: object, ended: object) -> None:
        """Count what is shown."""
        self.shown += 1

    def wait(self) -> None:
        """Don't."""

    def heading(self) -> float:
        """Along x."""
        return 0.0


def driven(session: Session, person: Scripted, command: str, ticks: int = 1, held: Held = NOTHING) -> Status:
    """The status after a click and some ticks."""
    person.clicked, person.now = [command], held
    for _ in range(ticks):
        session.tick()
    return person.status


def test_episodes_are_started_kept_and_discarded(env: SceneEnv, tmp_path: Path):
    """Only what was kept is recorded: states before actions, the actions that were held, all until the end."""
    person, dataset = Scripted(), tmp_path / "demos"
    with open_takes(dataset, about_of(env, env.reset(seed=0)[0])) as takes:
        session = Session(env, person, person, takes, 0)  # type: ignore[arg-type]
        session.tick()
        assert (person.status.state, person.status.seconds) == ("ready", 0)
        assert driven(session, person, "keep").state == "ready"  # there is nothing yet
        assert driven(session, person, "start", 2).state == "driving"
        assert driven(session, person, "keep").state == "driving"  # not before the end
        assert driven(session, person, "discard").text.startswith("Discarded")
        forward = Held(keys=("ArrowUp", "ArrowLeft"), speed=0.5)
        status = driven(session, person, "start", 5, forward)
        assert (status.state, status.seconds, "Ended by" in status.text) == ("ended", SECONDS, True)
        shown = person.shown
        session.tick()
        assert person.shown == shown  # the end stays on the page
        assert driven(session, person, "keep").kept == 1
        driven(session, person, "start", 5)
        assert driven(session, person, "discard").kept == 1
        driven(session, person, "start", 5, Held(keys=("ArrowDown",), speed=1.0))
        assert driven(session, person, "keep").kept == 2
        assert takes.write() == 0
    assert not kept_folder(dataset).exists()
    learner = TrainEnv(env, [Images("rgb")])
    contract = contract_of(env, load_preset("navigate", {"algorithm": "iql", "demos": "demos"}), learner.groups)
    replay = read_demonstrations(dataset, contract, learner.get_observations(), tmp_path / "replay")
    assert replay.steps == 10
    velocities = env.controller.velocities
    assert velocities
    low, high = velocities.speed
    wanted = [
        velocities.actions(np.array([speed]), np.array([turn]))[0]
        for speed, turn in ((0.5 * high, 0.5 * velocities.yaw_rate), (low, 0.0))
    ]
    actions = replay.sample(300).action.numpy()
    for one in wanted:
        assert 0.3 < (np.abs(actions - one).max(1) < 1e-5).mean() < 0.7


def test_what_was_kept_outlives_a_kill(env: SceneEnv, tmp_path: Path):
    """The next session goes on from it, if it is of the same task; a damaged file is named."""
    person, dataset, about = Scripted(), tmp_path / "demos", about_of(env, env.reset(seed=0)[0])
    with open_takes(dataset, about) as takes:
        session = Session(env, person, person, takes, 0)  # type: ignore[arg-type]
        driven(session, person, "start", 5)
        driven(session, person, "keep")
        with pytest.raises(BusyError, match="one session records a dataset at a time"), open_takes(dataset, about):
            pass
    assert not dataset.exists()  # as if it had been killed here
    with pytest.raises(TrainError, match="of one robot and one task"), open_takes(dataset, {**about, "robot": "go2"}):
        pass
    with open_takes(dataset, about) as takes:
        assert len(takes.files) == 1
        whole = takes.files[0].read_bytes()
        takes.files[0].write_bytes(whole[: len(whole) // 2])
        with pytest.raises(TrainError, match="a kept episode is whole"):
            takes.write()
        assert not dataset.exists()
        takes.files[0].write_bytes(whole)
        takes.write()
    with pytest.raises(TrainError, match="into a new folder"), open_takes(dataset, about):
        pass


def test_a_kept_episode_is_never_overwritten(env: SceneEnv, tmp_path: Path):
    """Where a damaged one was deleted, as the error says, the others stay."""
    person, about = Scripted(), about_of(env, env.reset(seed=0)[0])
    with open_takes(tmp_path / "demos", about) as takes:
        session = Session(env, person, person, takes, 0)  # type: ignore[arg-type]
        for _ in range(2):
            driven(session, person, "start", 5)
            driven(session, person, "keep")
        second = takes.files[1].read_bytes()
        takes.files[0].unlink()
    with open_takes(tmp_path / "demos", about) as takes:
        session = Session(env, person, person, takes, 7)  # type: ignore[arg-type]
        driven(session, person, "start", 5, Held(keys=("ArrowUp",), speed=1.0))
        driven(session, person, "keep")
        assert len(set(takes.files)) == 2
        assert takes.files[0].read_bytes() == second


def test_no_episode_begins_as_a_kept_one(env: SceneEnv, tmp_path: Path):
    """After a restart those that were discarded before count, too."""
    person, about, begun = Scripted(), about_of(env, env.reset(seed=0)[0]), list[bytes]()
    for kept in ((False, False, True), (True, True, True)):
        with open_takes(tmp_path / "demos", about) as takes:
            session = Session(env, person, person, takes, 0)  # type: ignore[arg-type]
            for keep in kept:
                if keep:
                    begun.append(session._take.seen["goal"].tobytes())
                driven(session, person, "start", 5)
                driven(session, person, "keep" if keep else "discard")
    assert len(set(begun)) == 4


def test_what_ended_a_kept_episode_is_recorded(env: SceneEnv, tmp_path: Path):
    """Its time limit, which is not the task's."""
    person = Scripted()
    with open_takes(tmp_path / "demos", about_of(env, env.reset(seed=0)[0])) as takes:
        session = Session(env, person, person, takes, 0)  # type: ignore[arg-type]
        driven(session, person, "start", 5)
        driven(session, person, "keep")
        assert takes._read(takes.files[0]).truncated
        takes.write()
    table = pyarrow.parquet.read_table(tmp_path / "demos/data/chunk-000/file-000.parquet")
    assert table["next.truncated"].to_pylist() == [False] * 4 + [True]


def test_nothing_is_left_where_nothing_was_kept(env: SceneEnv, tmp_path: Path):
    """Neither a dataset nor a hidden folder."""
    with open_takes(tmp_path / "demos", about_of(env, env.reset(seed=0)[0])):
        pass
    assert not list(tmp_path.glob("*demos*"))


def test_the_page_says_what_keys_do(env: SceneEnv):
    """Those of the robot, and no others; a session without a dataset keeps nothing."""
    page = page_of(env, "http://127.0.0.1:1", records=True, nonce="n0nce")
    assert {"ArrowUp", "ArrowLeft"} <= set(re.findall(r'data-key="(\w+)"', page))
    assert "KeyW" not in re.findall(r'data-key="(\w+)"', page)
    assert 'id="keep"' in page
    assert 'id="gripper"' not in page
    assert 'id="keep"' not in page_of(env, "http://127.0.0.1:1", records=False, nonce="n0nce")


def test_a_task_that_nobody_can_drive_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]):
    """By one error, with a task and its robot, before the page is announced."""
    assert main(["teleop", str(bundle), "--task", "climb-joints", "--robot", "go2"]) == 2
    shown = capsys.readouterr()
    assert "a person drives end effectors, wheels and gaits" in " ".join(shown.err.split())
    assert "--task navigate" in shown.err
    assert "teleop " not in shown.out


def command(bundle: Path, folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The running command, in an environment without PyTorch, and the address of its websocket."""
    typed = ["teleop", str(bundle), "--task", "navigate", "--robot", "rover", "--seconds", "0.6", "--port", "19500"]
    program = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())"]
    without = folder / "without"
    without.mkdir(exist_ok=True)
    for module in ("torch", "tensordict", "rsl_rl"):
        (without / f"{module}.py").write_text("raise ModuleNotFoundError(__name__)")
    process = subprocess.Popen(
        [*program, *typed, "--lerobot", "demos"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{without}{os.pathsep}{Path.cwd()}", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"http://\S+token=\S+", line):
            return process, found[0].replace("http://", "ws://").replace("/?", "/held?")
    raise AssertionError("it ended")


def kept(address: str, episodes: int) -> None:
    """Start and keep episodes, as the page does, until so many are kept."""
    with connect(address) as page:
        end = time.monotonic() + 60
        told: dict[str, Any] = {}
        while told.get("kept", 0) < episodes:
            assert time.monotonic() < end
            click = {"ready": "start", "ended": "keep"}.get(str(told.get("state")))
            page.send(json.dumps({"keys": ["ArrowUp"], "command": click}))
            told = json.loads(page.recv(timeout=10))
            time.sleep(0.1)


def test_a_person_needs_no_torch(bundle: Path, tmp_path: Path):
    """An episode is driven and kept, and a dataset written, where nobody can train."""
    process, address = command(bundle, tmp_path)
    kept(address, 1)
    process.send_signal(signal.SIGINT)
    assert process.stdout
    assert "kept       1 episode" in process.stdout.read()
    assert process.wait(60) == 0
    assert json.loads((tmp_path / "demos/meta/info.json").read_text())["total_episodes"] == 1


@pytest.mark.slow
def test_the_command_records_what_a_person_does(bundle: Path, tmp_path: Path):
    """One episode, a kill -9, another one, Ctrl-C: a dataset of both, from which bc learns."""
    process, address = command(bundle, tmp_path)
    kept(address, 1)
    process.kill()
    process.wait(30)
    assert not (tmp_path / "demos").exists()
    process, address = command(bundle, tmp_path)
    kept(address, 2)
    process.send_signal(signal.SIGINT)
    assert process.stdout
    assert "kept       2 episodes" in process.stdout.read()
    assert process.wait(60) == 0
    info = json.loads((tmp_path / "demos/meta/info.json").read_text())
    assert (info["total_episodes"], info["robot_type"], info["codebase_version"]) == (2, "rover", "v3.0")
    typed = ["train", "navigate", "--scene", str(bundle), "--algorithm", "iql", "--demos", str(tmp_path / "demos")]
    small = ["--iterations", "1", "--set", "offline.updates_per_iteration=2", "--runs", str(tmp_path / "runs")]
    assert main([*typed, *small]) == 0

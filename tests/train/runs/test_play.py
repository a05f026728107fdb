"""A trained policy at work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import viser

from flows import sim_view
from flows.cli import main
from pipeline.errors import TrainError
from sim.drivers import EpisodeResult
from sim.scene.floors import held_out
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from tests.bundles import make_bundle
from tests.synthetic import Room
from train.algorithms.agent import make_agent
from train.environment import make_env
from train.preset import load_preset
from train.runs import checkpoint
from train.runs.play import open_play, play
from train.runs.run import Run

CHANGES = {"policy.rnn_type": "gru", "policy.rnn_hidden_dim": 8}


def begun(root: Path, scene: SimScene, source: str, changes: dict[str, Any] | None = None) -> Run:
    """A run that has learned nothing yet."""
    preset = load_preset("navigate", CHANGES | (changes or {}))
    run = Run.create(root, preset, [scene.lock], [source], 0, name="new")
    env = make_env(preset, [scene], num_envs=1, starts="all")
    checkpoint.save(run.checkpoints, {"iteration": 0, "agent": make_agent(preset, env).save()})
    env.env.close()
    return run


@pytest.fixture
def run(tmp_path: Path, room: Room) -> Run:
    """In the tiny bundle."""
    bundle = make_bundle(tmp_path, room)
    return begun(tmp_path / "runs", open_scene(bundle), str(bundle))


class Notes:
    """Notes what it is shown."""

    def __init__(self, *_: object) -> None:
        self.address = "http://127.0.0.1:18123"
        self.looks: list[tuple[dict[str, Any], Mapping[int, EpisodeResult]]] = []

    def update(self, seen: dict[str, Any], ended: Mapping[int, EpisodeResult]) -> None:
        """One more."""
        self.looks.append((seen, dict(ended)))

    def close(self) -> None:
        """Nothing."""


def test_a_policy_plays_as_long_as_it_is_told(run: Run):
    """Watchers see the start, every step and how each episode ended; the last end too. The same seed, the same play."""
    notes, again = Notes(), Notes()
    for viewer in (notes, again):
        env, policy = open_play(run, starts="all", seed=3)
        counts = play(env, policy, [viewer], episodes=2)
        env.env.close()
        assert counts.total() == 2
        assert set(counts) == {"goal", "crash", "tipped", "time"}
    ends = [one for _, ended in notes.looks for one in ended.values()]
    assert len(ends) == 2
    assert notes.looks[0][1] == {}
    assert notes.looks[-1][1] == {0: ends[-1]}
    assert notes.looks[0][0]["rgb"].shape == (1, 48, 64, 3)
    assert [ended for _, ended in again.looks] == [ended for _, ended in notes.looks]
    for (one, _), (other, _) in zip(notes.looks, again.looks, strict=True):
        np.testing.assert_array_equal(one["rgb"], other["rgb"])


def test_memory_begins_anew_with_each_episode(run: Run):
    """A policy that remembered the last episode would act otherwise at the start of the next."""
    env, policy = open_play(run, starts="all", seed=3)
    found = []

    class Memory(Notes):
        def update(self, seen: dict[str, Any], ended: Mapping[int, EpisodeResult]) -> None:
            state = policy.get_hidden_state()
            found.append((bool(ended), 0.0 if state is None else float(state.abs().max())))  # type: ignore[union-attr]

    play(env, policy, [Memory()], episodes=1)
    env.env.close()
    assert found[-1] == (True, 0.0)
    assert all(size > 0 for _, size in found[1:-1])


def test_it_begins_where_training_never_did(tmp_path: Path, room_scene: SimScene, monkeypatch: pytest.MonkeyPatch):
    """At held-out places, unless it is told otherwise."""
    monkeypatch.setattr("sim.scene.opening.open_scene", lambda *_, **__: room_scene)
    run = begun(tmp_path, room_scene, "room@1.0.0")
    places = {}
    for starts in ("held_out", "train"):
        options = {} if starts == "held_out" else {"starts": starts}
        env, _ = open_play(run, seed=0, **options)  # type: ignore[arg-type]
        places[starts] = [env.env.engine.read().position[0, :2].copy()]
        for seed in range(1, 6):
            env.reset(seed)
            places[starts].append(env.env.engine.read().position[0, :2].copy())
        env.env.close()
    assert held_out(np.array(places["held_out"])).all()
    assert not held_out(np.array(places["train"])).any()


def test_the_command_writes_a_film(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As long as its episodes and a second for each end; the table counts these."""
    film = tmp_path / "out" / "film.mp4"
    where = [str(run.folder), "--starts", "all", "--episodes", "1"]
    assert main(["play", *where, "--video", str(film)]) == 0
    printed = capsys.readouterr().out
    assert "navigate: how episodes ended" in " ".join(printed.split())
    assert str(film) in printed
    rows = [line.split() for line in printed.splitlines()]
    assert sum(int(row[3]) for row in rows if len(row) == 5 and row[3].isdigit()) == 1
    with av.open(str(film)) as file:
        frames = len(list(file.decode(video=0)))
    assert frames % 5 == 0
    assert frames >= 25


def test_the_command_shows_a_page(run: Run, monkeypatch: pytest.MonkeyPatch):
    """The one of `splatyard sim`, driven by the policy, on the port that was asked for."""
    made: list[Notes] = []

    def page(env: object, server: viser.ViserServer) -> Notes:
        assert server.get_port() == 18123
        made.append(Notes())
        return made[-1]

    monkeypatch.setattr(sim_view, "SimPage", page)
    where = [str(run.folder), "--starts", "all", "--episodes", "1", "--port", "18123"]
    assert main(["play", *where, "--view"]) == 0
    assert made[0].looks[-1][1]


def test_a_run_without_a_checkpoint_has_nothing_to_play(run: Run):
    """The error says how to get one."""
    for path in run.checkpoints.iterdir():
        path.unlink()
    with pytest.raises(TrainError, match="train --resume"):
        open_play(run, starts="all")


def test_one_of_page_and_film_is_asked_for(capsys: pytest.CaptureFixture[str]):
    """Neither, both, and no episodes at all are refused."""
    for options in ([], ["--view", "--video", "a.mp4"], ["--view", "--episodes", "0"]):
        with pytest.raises(SystemExit):
            main(["play", "some-run", *options])
    assert "--view" in capsys.readouterr().err

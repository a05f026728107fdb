"""Where visitors of a simulation's page look from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import viser

import sim
from flows.view import stop, viser_server
from flows.watching.follower import Follower
from pipeline.geometry.rays import RayCaster
from sim.env import SceneEnv
from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room

NUMBER = 7
UP = np.array([0, 0, 0.2])


class Visitor:
    """A browser: it goes where it is sent, and says so, and where else it is."""

    def __init__(self) -> None:
        self.client_id, self.camera, self.atomic = NUMBER, SimpleNamespace(on_update=self.hear), _nothing
        self.camera.position, self.camera.look_at = np.zeros(3), np.ones(3)

    def hear(self, said: Callable[[Any], None]) -> None:
        """Remember who listens."""
        self.said = said

    def say(self, position: np.ndarray | None = None) -> None:
        """Say where it is, or where somebody has dragged the view."""
        self.said(self.camera if position is None else SimpleNamespace(position=position))


class _nothing:  # noqa: N801 - stands for a function
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[viser.ViserServer]:
    """A viser server on a free port."""
    server = viser_server("127.0.0.1", 0, "test")
    yield server
    stop(server)


@pytest.fixture
def env(tmp_path: Path, room: Room) -> Iterator[SceneEnv]:
    """A rover in a room."""
    env = sim.make("navigate", [make_bundle(tmp_path, room, regions=floor_of(room))], 1, cameras=())
    env.reset(seed=0)
    yield env
    env.close()


def follower_of(
    server: viser.ViserServer, env: SceneEnv, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> Follower:
    """One with a visitor."""
    monkeypatch.setattr(server, "on_client_connect", lambda meet: meet(visitor))
    monkeypatch.setattr(server, "get_clients", lambda: {NUMBER: visitor})
    return Follower(server, env)


def test_visitors_see_the_robot_and_are_inside(server, env, monkeypatch):
    """From near by, no wall between; those who come later begin there, too."""
    visitor = Visitor()
    follower_of(server, env, visitor, monkeypatch).follow(env.engine.read()[:1], 0, 0.2)
    eye, robot = np.array(visitor.camera.position), env.engine.read().position[0].astype(float)
    assert 0.3 < np.linalg.norm(eye - robot) < 2
    ahead = (np.array(visitor.camera.look_at) - eye) / np.linalg.norm(np.array(visitor.camera.look_at) - eye)
    assert ahead @ (robot - eye) / np.linalg.norm(robot - eye) > 0.8
    there = RayCaster(env.scenes[0].collision).cast((robot + UP)[None], (eye - robot - UP)[None])
    assert there.distance[0] > 1 - 1e-3
    np.testing.assert_allclose(server.initial_camera.position, eye)


def test_who_drags_the_view_is_left_alone_until_the_switch_is_ticked(server, env, monkeypatch):
    """What the browser says before it has arrived, or late, is no wish."""
    visitor = Visitor()
    follower = follower_of(server, env, visitor, monkeypatch)
    visitor.say(np.array([9.0, 9, 9]))  # its own first place
    follower.follow(env.engine.read()[:1], 0, 0.2)
    visitor.say(np.array([9.0, 9, 9]))
    visitor.say()
    first = np.array(visitor.camera.position)
    for _ in range(5):
        env.step(np.array([[1.0, 0.3]], np.float32))
        follower.follow(env.engine.read()[:1], 0, 0.2)
    visitor.say(first)  # late
    assert follower._box.value
    assert np.linalg.norm(visitor.camera.position - first) > 0.05
    visitor.camera.position = dragged = first + 3 * UP
    visitor.say()
    assert not follower._box.value
    follower.follow(env.engine.read()[:1], 0, 0.2)
    np.testing.assert_allclose(visitor.camera.position, dragged)
    follower._box.value = True
    follower.follow(env.engine.read()[:1], 0, 0.2)
    assert np.linalg.norm(visitor.camera.position - dragged) > 0.1

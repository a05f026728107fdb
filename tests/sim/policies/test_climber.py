"""The driver of stairs: whom it drives, and what it does when it sees nothing."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from pipeline.geometry import Pose
from sim.climbing.climber import PATIENCE, Climber
from sim.env import SceneEnv
from sim.policies.catalog import ground_of, open_driver, task_of
from sim.scene.scene import SimScene
from sim.sensors.ground.settings import MapSettings
from sim.tasks.settings import TaskSettings

pytest.importorskip("mujoco")


@pytest.fixture
def env() -> SceneEnv:
    """Two robots before staircases, with maps."""
    return sim.make(
        "flights",
        ["terrain:0:flights:12"],
        2,
        robot="go2",
        engine="mujoco-worlds",
        cameras=(),
        ground=MapSettings(),
        seed=0,
    )


def speeds(env: SceneEnv, actions: np.ndarray) -> np.ndarray:
    """Speeds ahead and yaw rates (2, N)."""
    assert env.controller.velocities
    return np.array(env.controller.velocities.of(actions))


def test_it_has_a_task_and_a_map():
    """Which nobody has to ask for; the truth can be asked for, though it doesn't do."""
    assert task_of("stairs") == "flights"
    assert ground_of("stairs") == MapSettings()
    assert ground_of("stairs", "truth") is None
    assert ground_of("auto") is None
    assert ground_of("auto", "map") == MapSettings()


def test_robots_are_driven(env: SceneEnv):
    """They get on; those that begin an episode forget the last one."""
    seen, _ = env.reset(seed=1)
    with open_driver("stairs", env, 0) as policy:
        for _ in range(25):
            seen, *_ = env.step(policy(seen))
        assert (env.scenario._along > 0.2).any()
        env.reset(seed=2)
        assert np.isfinite(policy(seen)).all()


def test_who_sees_nothing_stops(env: SceneEnv):
    """A covered camera: after its patience, and until it sees again."""
    seen, _ = env.reset(seed=1)
    ground = env.senses.ground.mapped
    assert ground
    rig = ground.rig

    class Covered:
        mount: Pose = rig.mount
        dark = True

        def reset(self, envs: np.ndarray, rng: np.random.Generator) -> None:
            rig.reset(envs, rng)

        def arrived(self, now: object, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
            frames, age = rig.arrived(now, rng)
            return ({"depth": np.zeros_like(frames["depth"])} if self.dark else frames), age

    ground.rig = covered = Covered()
    told = list[np.ndarray]()
    with open_driver("stairs", env, 0) as policy:
        for _ in range(round(PATIENCE / env.task.control_period) + 3):
            actions = policy(seen)
            told.append(speeds(env, actions))
            seen, *_ = env.step(actions)
        assert np.abs(told[1]).max() > 0.1
        assert np.abs(told[-1]).max() < 1e-6
        covered.dark = False
        for _ in range(5):
            seen, *_ = env.step(policy(seen))
        assert np.abs(speeds(env, policy(seen))).max() > 0.1


def test_who_finds_no_stairs_says_so(env: SceneEnv, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Once."""
    monkeypatch.setattr(Climber, "given_up", property(lambda _: np.array([True, True])))
    seen, _ = env.reset(seed=1)
    with open_driver("stairs", env, 0) as policy, caplog.at_level("INFO"):
        for _ in range(3):
            seen, *_ = env.step(policy(seen))
    assert [record.message for record in caplog.records if "no stairs" in record.message] == [
        "2 robots see no stairs, or none with steps below 26 cm: they stand"
    ]


def test_steps_that_are_too_high_are_named(caplog: pytest.LogCaptureFixture):
    """Robots don't climb stairs of 32 cm, don't fall, and say how high the steps are, once."""
    env = sim.make(
        "flights",
        ["terrain:0:flights:32"],
        6,
        robot="go2",
        engine="mujoco-worlds",
        cameras=(),
        ground=MapSettings(noise=None, drift=0),
        seed=0,
    )
    seen, _ = env.reset(seed=1)
    with open_driver("stairs", env, 0) as policy, caplog.at_level("INFO"):
        for _ in range(50):
            seen, _, _, _, info = env.step(policy(seen))
            assert not info["ended_by_fall"].any()
    env.close()
    (said,) = (record.message for record in caplog.records if "stop before" in record.message)
    assert float(said.split("steps of ")[1].split(" cm")[0]) == pytest.approx(32, abs=2)
    assert said.endswith("they climb none above 26 cm")


def test_others_are_refused():
    """Wheels, and legs that know the truth."""
    env = sim.make("flights", ["terrain:0:flights"], 1, robot="go2", engine="mujoco-worlds", cameras=())
    with pytest.raises(SimError, match="map of their depth camera"), open_driver("stairs", env, 0):
        pass
    with pytest.raises(SimError, match="robots that walk by a gait"):
        sim.make("navigate", ["terrain:0"], 1, robot="rover", cameras=(), ground=MapSettings())


def reached(env: SceneEnv) -> np.ndarray:
    """Which robots (N,) reach their first goal."""
    seen, _ = env.reset(seed=5)
    running, found = np.full(env.num_envs, True), np.full(env.num_envs, False)
    with open_driver("stairs", env, 0) as policy:
        while running.any():
            seen, _, terminated, truncated, info = env.step(policy(seen))
            ended = (terminated | truncated) & running
            found |= ended & info.get("final_success", ~running)
            running &= ~ended
    env.close()
    return found


@pytest.mark.slow
def test_goals_on_another_level(hall_scene: SimScene):
    """From the floor of the hall up its stairs to the landing."""
    settings = {"ground": MapSettings(drift=0), "cameras": ()}
    env = sim.make("levels", [hall_scene], 1, **settings, task_settings=TaskSettings(seconds=25))
    assert set(env.scenario.kinds()) <= {"up", "down"}
    assert reached(env).all()


def test_goals_on_the_same_level(room_scene: SimScene):
    """Other tasks with a goal are done, too, with no stairs in the place."""
    env = sim.make("navigate", [room_scene], 1, robot="go2", cameras=(), ground=MapSettings())
    assert reached(env).all()

"""The task `walk`: commands, the clock, levels, and a gait's files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

import sim
from pipeline.errors import SimError
from pipeline.io.weights import write_weights
from sim.config import EnvConfig
from sim.control.state import Sensed
from sim.control.trot import TrotController
from sim.controlled import find_robot
from sim.env import SceneEnv
from sim.gaits import SEEN, Gait, GaitCard, GaitController, own_gait
from sim.scene.terrain import KINDS
from sim.tasks.walking.terms import terrain_curriculum
from sim.tasks.walking.walk import WalkState

pytest.importorskip("mujoco")


def walkers(count: int = 6, **settings) -> SceneEnv:
    """Robots on procedural ground."""
    return sim.make("walk", ["terrain:0"], count, robot="go2", engine="mujoco-worlds", cameras=(), **settings)


def test_the_clock_alone_trots_on_the_spot():
    """With actions of zero nobody falls in three seconds, and feet leave the ground in diagonal pairs."""
    env = walkers(8, seed=3)
    env.reset(seed=3)
    swings = []
    for _ in range(150):
        _, _, terminated, _, _ = env.step(np.zeros((8, 12), np.float32))
        assert not terminated.any()
        swings.append(env.controller.stepping().swing)
    swings = np.array(swings)
    moving = swings.max((0, 2)) > 0
    assert moving.sum() >= 5
    assert ((swings[:, moving][..., [0, 3]] > 0).any(-1) & (swings[:, moving][..., [1, 2]] > 0).any(-1)).mean() < 0.01


def test_observations_have_the_sizes_of_the_task():
    """Joints, feet and the scan."""
    env = walkers(2)
    seen, _ = env.reset(seed=0)
    assert {name: seen[name].shape[1] for name in SEEN} == {
        "velocity": 3,
        "angular_velocity": 3,
        "projected_gravity": 3,
        "joint_positions": 12,
        "joint_velocities": 12,
        "action": 12,
        "command": 3,
        "clock": 3,
        "height_scan": 91,
    }
    assert seen["feet_down"].shape == (2, 4)


def test_noise_is_for_training():
    """The same seed without noise sees the truth."""
    (noisy, known), (clean, _) = (walkers(3, observation_noise=noise).reset(seed=5) for noise in (True, False))
    believed = known["truth"]["height_scan"]
    assert (noisy["height_scan"] - believed).std() == pytest.approx(0.015, rel=0.3)
    assert (believed - clean["height_scan"]).any()
    np.testing.assert_array_equal(noisy["command"], clean["command"])


def test_levels_follow_success():
    """Up for a hill that was climbed, down for standing still, unchanged on flat ground."""
    env = walkers(3)
    env.reset(seed=0)
    step = env.senses.now(env.episodes.action)
    state = WalkState(
        step.scenario.command,
        step.scenario.height,
        crossed=np.array([True, False, True]),
        told=np.array([4.0, 4.0, 4.0], np.float32),
        gone=np.array([3.0, 0.2, 3.0], np.float32),
        hill=np.array([True, True, False]),
        fell_behind=np.zeros(3, np.float32),
    )
    from dataclasses import replace

    change = terrain_curriculum(replace(step, scenario=state), np.zeros(3, bool))
    assert change.tolist() == [1, -1, 0]
    change = terrain_curriculum(replace(step, scenario=state), np.ones(3, bool))
    assert change.tolist() == [-1 * 0, -1, 0]


def test_hills_of_a_level_and_flat_ground_of_none():
    """Robots begin on tiles of their level; the first episodes of a training end at different times."""
    env = walkers(200, seed=1, level=6, stagger=True)
    env.reset(seed=1)
    kind, level = env.scenario._kind, env.scenario._level
    assert set(level[kind != KINDS.index("flat")]) == {6}
    assert set(level[kind == KINDS.index("flat")]) == {0}
    assert env.episodes.steps.std() * env.task.control_period > 2


def test_the_past_can_be_repeated():
    """Saved and restored, the same actions give the same future: clock, commands and physics."""
    assert_repeats(walkers(4), "joint_positions")


def assert_repeats(env: SceneEnv, observation: str) -> None:
    """After going back to where it was saved, the same actions lead to the same observations."""
    env.reset(seed=2)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (30, env.num_envs, 12)).astype(np.float32)
    for action in actions[:10]:
        env.step(action)
    saved = env.save()
    first = [env.step(action)[0][observation] for action in actions[10:]]
    env.restore(saved)
    again = [env.step(action)[0][observation] for action in actions[10:]]
    np.testing.assert_array_equal(first, again)


def test_a_mesh_is_no_procedural_ground(room_scene):
    """Gaits are learned on terrain; not on staircases, which test them."""
    with pytest.raises(SimError, match="procedural ground"):
        sim.make("walk", ["terrain:0:flights"], 1, robot="go2", engine="mujoco-worlds", cameras=())
    with pytest.raises(SimError, match="procedural ground"):
        sim.make("walk", [room_scene], 1, robot="go2")


def still_gait(folder: Path, robot_name: str = "go2") -> Path:
    """A gait that adds nothing to the clock."""
    robot, _ = find_robot(robot_name)
    drive = TrotController(robot)
    env = walkers(1)
    sizes = {name: int(env.single_observation_space[name].shape[0]) for name in SEEN}
    count = sum(sizes.values())
    names = tuple(robot.joint_names[column] for column in drive.legs.joints)
    card = GaitCard(
        robot=robot_name,
        joints=names,
        observations=sizes,
        trot=drive.trot,
        sha256="",
        seed=0,
        steps=0,
        scenes=(),
        metrics={},
    )
    zeros = {"weight0": np.zeros((8, count)), "bias0": np.zeros(8), "weight1": np.zeros((len(names), 8))}
    arrays = {**zeros, "bias1": np.zeros(len(names)), "mean": np.zeros(count), "scale": np.ones(count)}
    write_weights(folder / "gait.npz", card, {name: array.astype(np.float32) for name, array in arrays.items()})
    return folder / "gait.npz"


def test_a_gait_is_replaced_whole(tmp_path: Path):
    """New files take the place of the old ones: a kill while they are written leaves those as they were."""
    found, file = own_gait("go2"), tmp_path / "gait.npz"
    assert found
    write_weights(file, found.card, {"mean": np.zeros(3, np.float32)})
    files = {path: path.read_bytes() for path in (file, file.with_suffix(".json"))}
    for path in files:
        os.link(path, tmp_path / f"old-{path.name}")
    write_weights(file, found.card, {"mean": np.ones(3, np.float32)})
    for path, content in files.items():
        assert path.read_bytes() != content
        assert (tmp_path / f"old-{path.name}").read_bytes() == content


def test_a_gait_is_driven_like_wheels(tmp_path: Path):
    """Two numbers, five times a second: the robot stands when told to, and steps when told to go."""
    file = still_gait(tmp_path)
    robot, drive = find_robot("go2", str(file))
    assert isinstance(drive, GaitController)
    velocities = drive.velocities
    np.testing.assert_allclose(velocities.of(velocities.actions(np.array([0.5]), np.array([-0.3]))), [[0.5], [-0.3]])
    drive.start(2)
    state = _standing(robot)
    heights = np.full((2, drive.height_scan.size), -robot.base_height, np.float32)
    action, now = velocities.actions(np.array([0.0, 0.6]), np.zeros(2)), Sensed(state, heights, None)
    moved = [drive.targets(action, now) for _ in range(20)]
    still, stepping = np.ptp(np.array(moved), 0)
    assert still.max() == 0
    assert stepping.max() > 0.2


def test_walls_are_nothing_new_to_a_gait_from_flat_ground(room_scene):
    """Told to stand in a room, G1 stands: half fell in four seconds, since no wall was in what it learned from."""
    env = sim.make("navigate", [room_scene], 16, robot="g1", cameras=(), seed=3)
    env.reset(seed=3)
    ended = sum(int(env.step(env.controller.velocities.actions(*np.zeros((2, 16))))[2].sum()) for _ in range(20))
    assert ended <= 1


def test_what_a_gait_never_saw_counts_as_the_farthest_that_it_did(tmp_path: Path):
    """Three standard deviations from the mean, on either side; what is nearer counts in full."""
    file = still_gait(tmp_path)
    with np.load(file) as saved:
        arrays = dict(saved)
    rng, count = np.random.default_rng(2), len(arrays["mean"])
    arrays |= {"weight0": rng.normal(0, 0.1, (8, count)), "weight1": rng.normal(0, 0.1, (12, 8))}
    arrays |= {"mean": rng.normal(0, 1, count), "scale": rng.uniform(0.5, 20, count)}
    write_weights(file, Gait(file).card, {name: array.astype(np.float32) for name, array in arrays.items()})
    mean, spread, side = arrays["mean"], 1 / arrays["scale"], rng.choice([-1, 1], (5, count))
    acts = [Gait(file).act((mean + far * side * spread).astype(np.float32)) for far in (2.5, 3.0, 30.0)]
    np.testing.assert_allclose(acts[1], acts[2], atol=1e-5)
    assert np.abs(acts[0] - acts[1]).max() > 0.01


def _standing(robot):
    from sim.robots.state import RobotState

    rest = np.tile(robot.default_position, (2, 1)).astype(np.float32)
    return RobotState.at_rest(np.array([[0, 0, robot.base_height]] * 2), np.array([[1.0, 0, 0, 0]] * 2), rest)


def test_foreign_and_damaged_gaits_are_refused(tmp_path: Path):
    """Another robot's, one whose weights were changed, and one without a card."""
    file = still_gait(tmp_path)
    with pytest.raises(SimError, match="goes with the robot"):
        find_robot("bolt", str(file))
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    with pytest.raises(SimError, match="hash"):
        Gait(file)
    file.with_suffix(".json").unlink()
    with pytest.raises(SimError, match="its card"):
        Gait(file)


def changed(file: Path, **values) -> None:
    """Other values in a gait's card."""
    card = json.loads(file.with_suffix(".json").read_text()) | values
    file.with_suffix(".json").write_text(json.dumps(card))


def test_a_hostile_gait_is_refused_before_it_is_unpacked(tmp_path: Path):
    """Much in a small file, weights that are no numbers, and a card that names a file as its robot."""
    file = still_gait(tmp_path)
    for name, fill, shape in (("weight0", 0.0, (2**12, 2**12)), ("bias0", np.nan, (8,))):
        with np.load(file) as arrays:
            content = dict(arrays) | {name: np.full(shape, fill, np.float32)}
        hostile = tmp_path / f"{name}.npz"
        np.savez_compressed(hostile, **content)
        hostile.with_suffix(".json").write_text(file.with_suffix(".json").read_text())
        changed(hostile, sha256=hashlib.sha256(hostile.read_bytes()).hexdigest())
        with pytest.raises(SimError, match=r"bytes of arrays|not finite"):
            Gait(hostile)
    changed(file, robot="../secret.urdf")
    with pytest.raises(SimError, match="its card"):
        Gait(file)


def test_settings_reach_the_simulation():
    """Noise and staggering are off unless asked for."""
    assert not EnvConfig().observation_noise
    assert not EnvConfig().stagger


def test_commands_change_no_faster_than_a_robot_can():
    """From standing to what is wanted, and on to the next."""
    env = sim.make("walk", ["terrain:0:flat"], 20, robot="go2", engine="mujoco-worlds", cameras=())
    env.reset(seed=0)
    commands = [env.scenario.state().command]
    for _ in range(200):
        env.step(np.zeros((20, env.controller.size), np.float32))
        commands.append(env.scenario.state().command)
    env.close()
    assert not commands[0].any()
    change = np.abs(np.diff(commands, axis=0)).max((0, 1))
    np.testing.assert_allclose(change, [0.06, 0.06, 0.12], atol=1e-5)
    assert np.abs(commands[60]).mean(0).min() > 0.1

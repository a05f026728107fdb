"""Robots that carry another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Mesh, Pose, matrix_from_rotvec
from sim.controlled import find_robot
from sim.physics.catalog import find_engine
from sim.robots.catalog import ARM6, ROVER
from sim.robots.kinematics import link_poses
from sim.robots.model import MOUNTED, Mount
from sim.robots.reading import load_robot
from sim.robots.state import RobotState

ASKEW = Pose(matrix_from_rotvec(np.array([0.4, -0.9, 1.3])), np.array([0.07, -0.11, 0.23]))
CARRIER = """
<mujoco><worldbody><body name="hull"><freejoint/><geom size="0.1"/>
  <body name="lift" pos="0.1 0.2 0.1" quat="0.9 0.1 -0.3 0.2">
    <joint name="up" type="slide" axis="0.6 0 0.8" range="0 1"/><geom size="0.05"/></body>
</body></worldbody>
<actuator><position joint="up" kp="9" kv="1"/></actuator>
<keyframe><key name="home" qpos="0 0 0 1 0 0 0 0.3"/></keyframe></mujoco>
"""


@pytest.fixture
def carrier(tmp_path: Path) -> Path:
    """A file of a base with one joint, which is not at zero at rest."""
    path = tmp_path / "carrier.xml"
    path.write_text(CARRIER)
    return path


def test_links_are_where_the_mount_brings_them(carrier: Path) -> None:
    """World from link = world from carrying link, the mount, and the carried robot's own kinematics."""
    base, arm = load_robot(carrier), load_robot(ARM6)
    whole = load_robot(carrier, mount=Mount(ARM6, "lift", ASKEW))
    assert [link.name for link in whole.links] == ["hull", "lift", *(MOUNTED + link.name for link in arm.links)]
    rng, count = np.random.default_rng(3), 5
    position, turn = rng.normal(0, 1, (count, 3)), rng.normal(0, 1, (count, 4))
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    joints = rng.uniform(-0.5, 0.9, (count, 9)).astype(np.float32)
    found = link_poses(whole, RobotState.at_rest(position, turn, joints))
    carrying = link_poses(base, RobotState.at_rest(position, turn, joints[:, :1]))
    origin = np.zeros((count, 3)), np.tile([1.0, 0, 0, 0], (count, 1))
    carried = link_poses(arm, RobotState.at_rest(*origin, joints[:, 1:]))
    np.testing.assert_allclose(found[:, :2], carrying, atol=1e-6)
    np.testing.assert_allclose(found[:, 2:], carrying[:, 1:2] @ ASKEW.matrix @ carried, atol=1e-6)
    assert whole.mass == pytest.approx(base.mass + arm.mass)


def test_both_keep_their_rest_and_their_actuators(carrier: Path) -> None:
    """Whether a file has a keyframe or not."""
    arm = load_robot(ARM6)
    with_key = load_robot(carrier, mount=Mount(ARM6, "lift", ASKEW))
    np.testing.assert_allclose(with_key.default_position, [0.3, *arm.default_position])
    without = load_robot(ROVER, mount=Mount(ARM6, "base", ASKEW))
    np.testing.assert_allclose(without.default_position, [0, 0, 0, 0, *arm.default_position])  # wheels, casters
    assert [actuator.mode for actuator in without.actuators] == ["velocity"] * 2 + ["position"] * 8
    assert without.actuators[2:] == tuple(
        type(own)(MOUNTED + own.joint, own.mode, own.stiffness, own.damping, own.max_force) for own in arm.actuators
    )


@pytest.mark.parametrize("name", ["sapien", "mujoco"])
def test_engines_hold_it_at_rest(name: str) -> None:
    """Two robots on a floor stand still for a second, wheels down, the arm where it was sent but for its weight."""
    corners = np.array([[-3, -3, 0], [3, -3, 0], [3, 3, 0], [-3, 3, 0]])
    floor = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    robot, drive = find_robot("fetcher")
    engine = find_engine(name)(robot, [floor], 2, 0.02)
    rest = np.tile(robot.default_position, (2, 1)).astype(np.float32)
    state = RobotState.at_rest(np.array([[0, 0, 0.0], [1, 1, 0]]), np.tile([1.0, 0, 0, 0], (2, 1)), rest)
    engine.reset(np.arange(2), state, np.zeros(2, np.int64))
    still = drive.command(np.tile([-0.538461, 0], (2, 1)).astype(np.float32))  # 0 m/s of -0.24 to 0.8
    arm = robot.driven[2:]
    np.testing.assert_allclose(still, np.tile([0, 0, *robot.default_position[arm]], (2, 1)), atol=1e-4)
    engine.set_targets(still)
    engine.step(50)
    after = engine.read()
    np.testing.assert_allclose(after.position, state.position, atol=0.01)
    assert np.abs(after.joint_position[:, arm] - rest[:, arm]).max() < 0.01
    assert np.arccos(after.world_from_base[:, 2, 2]).max() < np.deg2rad(1)
    engine.close()


def test_what_carries_nothing_is_refused(carrier: Path) -> None:
    """A link that doesn't exist."""
    with pytest.raises(SimError, match=r"(?s)no link 'deck'.*hull, lift"):
        load_robot(carrier, mount=Mount(ARM6, "deck", ASKEW))

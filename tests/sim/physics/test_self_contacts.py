"""A robot's links touch each other where geometry says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import Mesh
from sim.controlled import find_robot
from sim.physics.catalog import find_engine
from sim.physics.sapien_robot import _grouped
from sim.robots.model import Robot
from sim.robots.reading import load_robot
from sim.robots.self_contacts import with_self_contacts
from sim.robots.state import RobotState

MJCF = """<mujoco><worldbody><body name="base" pos="0 0 1"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="5"/>
<geom type="box" size="0.02 0.3 0.02" pos="0.55 0.5 0" mass="1"/>
<body name="post" pos="0.6 0 0"><joint name="turn" type="hinge" axis="0 0 1" range="-10 10"/>
<geom type="sphere" size="0.03" mass="0.5"/>
<body name="arm"><joint name="lift" type="hinge" axis="0 -1 0" range="-95 95"/>
<geom type="sphere" size="0.05" pos="0 0 0.55" mass="0.2"/></body></body></body></worldbody>
<actuator><position joint="turn" kp="50" kv="5"/><position joint="lift" kp="20" kv="2"/></actuator></mujoco>"""
STOP = np.arccos(0.15 / 0.55)
"""Where the ball on the arm lies on the base's top [rad]."""
FLOOR = Mesh.from_arrays(np.array([[-2, -2, 0], [2, -2, 0], [2, 2, 0], [-2, 2, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))


@pytest.fixture
def folding(tmp_path: Path) -> Robot:
    """A base in the air, a post beside it, and on that an arm that folds onto the base."""
    (tmp_path / "robot.xml").write_text(MJCF)
    return replace(load_robot(tmp_path / "robot.xml"), fixed_base=True, gravity_compensation=True)


def folded(robot: Robot, engine: str) -> tuple[float, float]:
    """Where the arms of two robots in one place stop [rad], and the largest force that the scene is said to exert."""
    made = find_engine(engine)(robot, [FLOOR], 2, 0.004)
    state = RobotState.at_rest(
        np.tile([0, 0, 1.0], (2, 1)), np.tile([1.0, 0, 0, 0], (2, 1)), np.zeros((2, 2), np.float32)
    )
    made.reset(np.arange(2), state, np.zeros(2, np.int64))
    made.set_targets(np.tile([[0, np.pi / 2]], (2, 1)).astype(np.float32))
    made.step(500)
    angles = made.read().joint_position[:, 1]
    assert np.ptp(angles) < 1e-4
    return float(angles[0]), float(np.abs(made.contact_forces()).max())


@pytest.mark.parametrize("engine", ["sapien", "mujoco"])
def test_an_arm_stops_at_its_own_base(folding: Robot, engine: str):
    """Where the ball meets the box, not where it was told to go; that is no contact with the scene."""
    robot = with_self_contacts(folding)
    assert robot.self_contacts == ((0, 2),)
    angle, force = folded(robot, engine)
    assert angle == pytest.approx(STOP, abs=0.01)
    assert force == 0
    assert folded(folding, engine)[0] == pytest.approx(np.pi / 2, abs=0.01)


def test_links_that_are_made_to_overlap_do_not_touch():
    """Those of a joint, or whose hulls overlap wherever they are: Go2's thighs are within its base's hull."""
    robot = with_self_contacts(find_robot("go2")[0])
    names = {frozenset(robot.links[number].name for number in pair) for pair in robot.self_contacts}
    assert {"base", "FL_thigh"} not in names
    assert {"FL_hip", "FL_thigh"} not in names
    assert {"FL_calf", "RL_calf"} in names
    assert {"base", "FL_calf"} in names


def test_an_engine_without_them_says_so(folding: Robot):
    """Rather than a robot that passes through itself."""
    with pytest.raises(SimError, match="pass through each other"):
        find_engine("mujoco-worlds")(with_self_contacts(find_robot("go2")[0]), [FLOOR], 1, 0.005)


def test_few_groups_hold_the_pairs_and_no_others():
    """Three that all don't touch share one; PhysX has 31."""
    pairs = [(0, 1), (0, 2), (1, 2), (2, 3), (5, 7)]
    assert sorted(map(sorted, _grouped(pairs))) == [[0, 1, 2], [2, 3], [5, 7]]
    with pytest.raises(SimError, match="at most 31 groups"):
        _grouped([(n, n + 1) for n in range(0, 64, 2)])

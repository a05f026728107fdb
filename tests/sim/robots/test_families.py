"""Arms of other families: what is found in their files, couplings in both engines, how far they get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SimError
from sim.control.end_effector import ACTIONS, EndEffectorController
from sim.controlled import find_robot
from sim.physics.catalog import ENGINES
from sim.robots.arm import DOWN, Arm
from sim.robots.catalog import PACKAGE
from sim.robots.gripper import find_gripper
from sim.robots.model import Coupling, Robot
from sim.robots.reading import load_robot
from sim.robots.state import RobotState
from sim.tasks.handling.table import size_of
from tests.sim.control.sensed import at
from tests.sim.physics.test_conformance import floor
from tests.sim.robots.arms import FAMILIES, write_arm

pytest.importorskip("mujoco")
JOINTS = {
    "sliding": ("left_slide", "right_slide"),
    "linked": ("drive", "left_finger", "left_inner", "right_outer", "right_finger", "right_inner"),
    "jaw": ("jaw",),
}
WIDTHS = {"sliding": 0.072, "linked": 0.088, "jaw": 0.078}
PLACES = {"sliding": [0, 0, 0.11], "linked": [0, 0, 0.163], "jaw": [0, 0.031, 0.089]}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every one."""
    return request.param


def arm_of(family: str, folder: Path) -> Robot:
    """Loaded as `--robot` does."""
    return find_robot(str(write_arm(family, folder)))[0]


def test_grippers_are_found(family: str, tmp_path: Path) -> None:
    """Their joints, the gap from shut to open, which grows, and a hand between the tips that looks along them."""
    robot = arm_of(family, tmp_path)
    gripper = robot.gripper
    assert gripper
    assert (gripper.joints, gripper.link) == (JOINTS[family], "hand")
    widths = np.array(gripper.widths)
    assert (np.diff(widths) >= 0).all()
    np.testing.assert_allclose([widths[0], widths[-1]], [0, WIDTHS[family]], atol=1e-3)
    np.testing.assert_allclose(gripper.link_from_hand.translation, PLACES[family], atol=1e-3)
    np.testing.assert_allclose(gripper.link_from_hand.rotation[:, 2], [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(gripper.width(gripper.positions(np.array([[0.0], [1.0]]))), widths[[0, -1]], atol=1e-9)


def test_what_a_urdf_says_of_its_joints_is_kept(tmp_path: Path) -> None:
    """Speeds, forces and couplings, of opposite signs too."""
    robot = arm_of("sliding", tmp_path)
    assert [joint.max_speed for joint in robot.joints] == [3] * 6 + [0.3] * 2
    assert [servo.max_force for servo in robot.actuators] == pytest.approx([40, 40, 40, 20, 20, 20, 15, 15])
    follows = robot.joints[-1].follows
    assert follows
    assert (follows.joint, follows.factor, follows.offset) == ("left_slide", pytest.approx(1), pytest.approx(0))
    assert arm_of("linked", tmp_path).joints[-1].follows == Coupling("drive", 1.0, 0.0)


@pytest.mark.parametrize("engine", ["sapien", "mujoco"])
def test_coupled_joints_move_together(family: str, engine: str, tmp_path: Path) -> None:
    """All of a gripper, to half open, within a twentieth of the way."""
    robot = arm_of(family, tmp_path)
    gripper, arm = robot.gripper, Arm(robot)
    assert gripper
    made = ENGINES[engine].make(robot, [floor()], 1, 0.02)
    rest = robot.default_position[None].astype(np.float32)
    made.reset(np.arange(1), RobotState.at_rest(np.array([[0, 0, 1.0]]), np.eye(1, 4), rest), np.zeros(1, int))
    targets = rest.copy()
    targets[:, arm.fingers] = gripper.positions(np.array([[0.5]]))
    made.set_targets(targets)
    made.step(100)
    off = np.abs(made.read().joint_position - targets)
    assert (off[:, arm.fingers] < 0.05 * np.abs(np.subtract(gripper.opened, gripper.closed))).all()
    assert off[:, arm.columns].max() < 0.01
    made.close()


def test_areas_are_within_reach(family: str, tmp_path: Path) -> None:
    """Smaller than Panda's; over most of them the hand gets to the place and points down, as nearly as it can."""
    robot = arm_of(family, tmp_path)
    size, arm = size_of(robot), Arm(robot)
    assert 0.3 < size < 1
    rng, count = np.random.default_rng(3), 100
    aims = np.tile(np.eye(4), (count, 1, 1))
    aims[:, :3, :3] = DOWN
    aims[:, :2, 3] = size * rng.uniform([0.38, -0.22], [0.58, 0.25], (count, 2))
    aims[:, 2, 3] = rng.uniform(0.02, 0.1, count)
    hands = arm.hands(arm.solve(np.tile(robot.default_position, (count, 1)), aims, 100))
    away = np.linalg.norm(hands[:, :3, 3] - aims[:, :3, 3], axis=1)
    assert (away < 3e-3).mean() > 0.9
    assert (hands[:, 2, 2] < -0.8).mean() > 0.9


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="example-robot-data is not installed")
def test_panda_has_size_one() -> None:
    """Exactly."""
    assert size_of(find_robot("panda")[0]) == 1.0


def test_targets_keep_the_limits_of_speed(tmp_path: Path) -> None:
    """In every step, whatever is asked."""
    robot = arm_of("sliding", tmp_path)
    controller, rng = EndEffectorController(robot, ACTIONS["pd_ee_target_delta_pose"], 0.05), np.random.default_rng(0)
    joints = np.tile(robot.default_position, (4, 1)).astype(np.float32)
    controller.start(4)
    controller.reset(np.arange(4), joints, np.random.default_rng(0))
    most, before, fastest = np.array([0.15] * 6 + [0.015] * 2), joints, 0.0
    for _ in range(20):
        sent = controller.targets(rng.choice([-1.0, 1.0], (4, 7)).astype(np.float32), at(before))
        assert (np.abs(sent - before) <= most + 1e-6).all()
        fastest, before = max(fastest, float(np.abs(sent - before)[:, :6].max())), sent.copy()
    assert fastest == pytest.approx(0.15, rel=1e-3)


def test_an_arm_without_its_gripper_is_refused(tmp_path: Path) -> None:
    """Its end is no jaw; the message says what is needed."""
    path = write_arm("sliding", tmp_path)
    text = path.read_text()
    path.write_text(text.replace(text[text.index('<link name="left">') : text.index("</robot>")], ""))
    assert find_gripper(load_robot(path)) is None
    with pytest.raises(SimError):
        find_robot(str(path))

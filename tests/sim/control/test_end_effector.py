"""What the actions of hand drives mean."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F32
from sim.control.end_effector import ACTIONS, EndEffectorController
from sim.controlled import find_robot
from sim.robots.catalog import PACKAGE
from tests.sim.control.sensed import at

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)

PANDA, _ = find_robot("panda")
MEANINGS = {
    "pd_ee_delta_pose": "x y z rx ry rz",
    "pd_ee_target_delta_pose": "x y z rx ry rz",
    "position_yaw": "x y z rz",
    "position": "x y z",
    "position_yaw_10_hz": "x y z rz",
}
REACH = {"pd_ee_delta_pose": 0.1, "pd_ee_target_delta_pose": 0.1, "position_yaw": 0.03, "position": 0.03}
TURN = {"pd_ee_delta_pose": 0.1, "pd_ee_target_delta_pose": 0.1, "position_yaw": 0.12, "position": 0.0}
REACH["position_yaw_10_hz"], TURN["position_yaw_10_hz"] = 0.05, 0.2
EVERY = pytest.mark.parametrize("name", ACTIONS)


def begun(name: str, count: int = 2) -> tuple[EndEffectorController, F32]:
    """A controller of arms that begin near rest, each elsewhere, and their joints."""
    controller = EndEffectorController(PANDA, ACTIONS[name], 0.05)
    joints = np.tile(PANDA.default_position, (count, 1)).astype(np.float32)
    joints[:, :7] += np.random.default_rng(4).uniform(-0.1, 0.1, (count, 7))
    controller.start(count)
    controller.reset(np.arange(count), joints, np.random.default_rng(0))
    return controller, joints


@EVERY
def test_elements_of_an_action(name: str) -> None:
    """Each moves along or turns about one axis of the base, by its own scale; joints follow within a millimetre."""
    meanings = MEANINGS[name].split()
    assert EndEffectorController(PANDA, ACTIONS[name], 0.05).size == len(meanings) + 1
    for element, meaning in enumerate(meanings):
        controller, joints = begun(name)
        before, actions = controller.arm.hands(joints), np.zeros((2, controller.size), np.float32)
        actions[:, element] = [0.5, -1.0]
        controller.targets(actions, at(joints))
        axis = np.eye(3)["xyz".index(meaning[-1])]
        sizes = np.array([[0.5], [-1.0]])
        place, rotation = before[:, :3, 3].copy(), before[:, :3, :3].copy()
        if meaning[0] == "r":
            rotation = matrix_from_rotvec(sizes * TURN[name] * axis) @ rotation
        else:
            place += sizes * REACH[name] * axis
        target = controller.end_effectors().target
        np.testing.assert_allclose(target[:, :3, 3], place, atol=1e-9)
        np.testing.assert_allclose(target[:, :3, :3], rotation, atol=1e-9)
        still = np.zeros((2, controller.size), np.float32)
        for _ in range(8):  # a target stays; one from where the hand is would follow the given joints
            sent = controller.targets(still if ACTIONS[name].from_target else actions, at(joints))
        hands = controller.arm.hands(sent)
        assert np.abs(hands[:, :3, 3] - place).max() < 1e-3
        assert np.abs(hands[:, :3, :3] - rotation).max() < 5e-3


@EVERY
def test_the_last_element_is_the_grippers(name: str) -> None:
    """A switch opens above 0; a position goes from shut at -1 to open at 1; both fingers move alike."""
    controller, joints = begun(name, 5)
    actions = np.zeros((5, controller.size), np.float32)
    actions[:, -1] = [-1, -0.01, 0, 0.5, 1]
    for _ in range(4):  # they do not get there at once
        controller.targets(actions, at(joints))
    fingers = controller.targets(actions, at(joints))[:, controller.arm.fingers]
    expected = [0, 0.0198, 0.02, 0.03, 0.04] if name.startswith("pd") else [0, 0, 0, 0.04, 0.04]
    np.testing.assert_allclose(fingers, np.tile(np.array(expected)[:, None], 2), atol=1e-6)


@pytest.mark.parametrize(("name", "grows"), [("pd_ee_delta_pose", False), ("pd_ee_target_delta_pose", True)])
def test_moves_are_from_the_target_or_from_the_hand(name: str, grows: bool) -> None:
    """The hand hangs behind: three moves go three times as far from where it was sent, or once from where it is."""
    controller, joints = begun(name)
    before = controller.end_effectors().target
    action = np.zeros((2, controller.size), np.float32)
    action[:, [1, 5]] = [[0.2, -0.3], [-0.1, 0.4]]
    for _ in range(3):
        controller.targets(action, at(joints))
    times = 3 if grows else 1
    moved = controller.end_effectors().target
    np.testing.assert_allclose(moved[:, 1, 3] - before[:, 1, 3], [0.02 * times, -0.01 * times], atol=1e-9)
    turns = np.array([[0, 0, -0.03], [0, 0, 0.04]]) * times
    np.testing.assert_allclose(moved[:, :3, :3], matrix_from_rotvec(turns) @ before[:, :3, :3], atol=1e-7)


@pytest.mark.parametrize("name", ["position", "position_yaw"])
def test_windup_bounds_how_far_a_hand_is_sent(name: str) -> None:
    """A hand that doesn't follow is sent 4 cm ahead at most, in the way that it was sent; less is left as it is."""
    controller, joints = begun(name)
    hands, action = controller.arm.hands(joints), np.zeros((2, controller.size), np.float32)
    action[:, :3] = [[1, 0, -1], [0, 0.4, 0]]
    for _ in range(3):
        controller.targets(action, at(joints))
    away = controller.end_effectors().target[:, :3, 3] - hands[:, :3, 3]
    np.testing.assert_allclose(away, [[0.04 / np.sqrt(2), 0, -0.04 / np.sqrt(2)], [0, 0.036, 0]], atol=1e-9)


@EVERY
def test_actions_invert_moves(name: str) -> None:
    """Asked for the pose that an action sends to, a state returns the action; what is too far is clipped."""
    controller, joints = begun(name, 6)
    rng = np.random.default_rng(5)
    for _ in range(3):
        actions = rng.uniform(-0.2, 0.2, (6, controller.size)).astype(np.float32)
        actions[:, -1] = rng.choice([-1, 1], 6)
        state, hands = controller.end_effectors(), controller.arm.hands(joints)
        controller.targets(actions, at(joints))
        target = controller.end_effectors().target
        if len(MEANINGS[name].split()) == 6:  # a yaw alone is about the base's axis too
            assert np.abs(target[:, :3, :3] - hands[:, :3, :3]).max() > 1e-3
        found = state.actions(hands, target[:, :3, 3], target[:, :3, :3], actions[:, -1])
        np.testing.assert_allclose(found, actions, atol=1e-5)
    now = controller.end_effectors()
    far = now.target[:, :3, 3] + [0.5, -0.5, 0]
    clipped = now.actions(controller.arm.hands(joints), far, now.target[:, :3, :3], np.ones(6))
    assert clipped.dtype == np.float32
    assert (clipped[:, :2] == [1, -1]).all()


def test_an_exported_policy_commands_metres_and_radians() -> None:
    """Moves and turns are scaled, the gripper's element is not."""
    controller = EndEffectorController(PANDA, ACTIONS["position_yaw"], 0.05)
    found = controller.command(np.array([[1, -0.5, 0, 0.25, -1]], np.float32))
    np.testing.assert_allclose(found, [[0.03, -0.015, 0, 0.03, -1]], atol=1e-8)


def test_a_reset_leaves_other_arms_and_older_states_alone() -> None:
    """Only the hands of those that begin are sent to where they are; a state that was read before stays as it was."""
    controller, joints = begun("position", 3)
    controller.targets(np.array([[0.5, 0, 0.5, 1]] * 3, np.float32), at(joints))
    state = controller.end_effectors()
    sent = state.target.copy()
    controller.reset(np.array([1]), joints[1:2], np.random.default_rng(0))
    np.testing.assert_array_equal(state.target, sent)
    np.testing.assert_array_equal(controller.end_effectors().target[[0, 2]], sent[[0, 2]])
    np.testing.assert_allclose(controller.end_effectors().target[1], controller.arm.hands(joints[1:2])[0], atol=1e-12)
    assert np.abs(sent[1] - controller.end_effectors().target[1]).max() > 0.01


def test_a_robot_without_hands_is_refused() -> None:
    """Wheels have none."""
    with pytest.raises(SimError, match="an arm has a gripper"):
        EndEffectorController(find_robot("rover")[0], ACTIONS["position"], 0.05)

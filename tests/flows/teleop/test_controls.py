"""What a person holds becomes an action: keys, sticks, buttons, the way they look."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from flows.teleop.controls import KEYS, Held, action, legend, moves, moves_of
from pipeline.errors import SimError
from sim.control.end_effector import ACTIONS, SIX, EndEffectorController, JointStepController
from sim.controlled import find_robot
from sim.robots.catalog import PACKAGE

pytest.importorskip("mujoco")
if not PACKAGE.is_dir():
    pytest.skip("example-robot-data is not installed", allow_module_level=True)


def hand(name: str) -> EndEffectorController:
    """A controller of panda's end effector."""
    return EndEffectorController(find_robot("panda")[0], ACTIONS[name], 0.1)


def test_moves_are_sums_of_all_that_is_held():
    """Opposite keys cancel, a key and a stick don't exceed one, a stick that is let go rests."""
    found = moves(Held(keys=("KeyW", "KeyA", "KeyD", "KeyX"), axes=(0.05, -0.6, 0.5, 0.0), buttons=(0.0,) * 7 + (0.7,)))
    wanted = {"ahead": 1.0, "left": 0.0, "yaw": -0.5, "pitch": 0.7}
    assert found == {move: wanted.get(move, 0.0) for move in found}
    assert set(moves(Held()).values()) == {0.0}
    assert {move for move, _ in KEYS.values()} == set(moves(Held()))


def test_a_hand_moves_as_the_viewer_looks():
    """Away and left are turned by where they look; the gripper's number is last; at a share of the fastest."""
    drive = hand("position_yaw")
    held = Held(keys=("KeyW", "KeyQ", "KeyJ"), speed=0.5)
    np.testing.assert_allclose(action(held, drive, shut=False, view=0.0), [0.5, 0, -0.5, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(action(held, drive, shut=True, view=np.pi / 2), [0, 0.5, -0.5, 0.5, -1], atol=1e-6)
    aside = action(Held(keys=("KeyA",), speed=1.0), drive, shut=False, view=0.3)
    np.testing.assert_allclose(aside[:3], [-np.sin(0.3), np.cos(0.3), 0], atol=1e-6)
    six = action(Held(keys=("KeyO",), speed=1.0), hand("pd_ee_delta_pose"), shut=False, view=np.pi / 2)
    np.testing.assert_allclose(six, [0, 0, 0, 0, 1, 0, 1], atol=1e-6)  # a roll about where they look
    everything = action(Held(keys=tuple(KEYS)[::2], speed=1.0), drive, shut=False, view=0.8)
    assert np.abs(everything).max() <= 1


def test_wheels_get_shares_of_their_fastest():
    """By arrows or by the left stick; back is as slow as the robot is."""
    drive = find_robot("rover")[1]
    velocities = drive.velocities
    assert velocities
    low, high = velocities.speed
    for held, speed, rate in (
        (Held(keys=("ArrowUp", "ArrowLeft"), speed=0.5), 0.5 * high, 0.5),
        (Held(keys=("ArrowDown",), speed=1.0), low, 0.0),
        (Held(axes=(0.8, -0.5), speed=1.0), 0.5 * high, -0.8),
        (Held(), 0.0, 0.0),
    ):
        wanted = velocities.actions(np.array([speed]), np.array([rate * velocities.yaw_rate]))[0]
        np.testing.assert_allclose(action(held, drive, shut=False, view=1.0), wanted, atol=1e-6)


def test_what_nobody_drives_is_refused():
    """Joints by themselves; hands and wheels have the moves that their actions have."""
    assert moves_of(hand("position")) == SIX[:3]
    assert set(legend(moves_of(find_robot("rover")[1])).values()) == {"forward", "back", "wheels left", "wheels right"}
    steps = JointStepController.__new__(JointStepController)
    steps.size, steps.moves = 7, ()
    for drive in (steps, SimpleNamespace(size=12, moves=())):
        with pytest.raises(SimError, match="a person drives end effectors, wheels and gaits"):
            moves_of(drive)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        '{"axes": [NaN]}',
        '{"axes": [1e400]}',
        '{"speed": 2}',
        '{"speed": "1"}',
        '{"buttons": [-0.5]}',
        '{"command": "rm"}',
        '{"keys": ["' + "x" * 40 + '"]}',
        '{"axes": [' + "0.0," * 16 + "0.0]}",
        '{"more": 1}',
        "[]",
        "",
    ],
)
def test_what_no_page_says_is_refused(text: str):
    """Numbers out of range, too many, and other commands."""
    with pytest.raises(ValidationError):
        Held.model_validate_json(text)

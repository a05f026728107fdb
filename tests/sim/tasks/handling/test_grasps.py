"""Where grippers hold bodies."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.errors import SimError
from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F64
from sim.physics.bodies import RigidBody
from sim.tasks.handling.grasps import find_grasp

OPENING = 0.08


def box(low: tuple[float, ...], high: tuple[float, ...]) -> F64:
    """Corners (8, 3)."""
    return np.stack(np.meshgrid(*np.stack([low, high], 1)), -1).reshape(-1, 3)


def body(*hulls: F64, yaw: float = 0.0) -> RigidBody:
    """A body of 0.1 kg, turned about the vertical."""
    turn = matrix_from_rotvec(np.array([0, 0, yaw]))
    return RigidBody("thing", tuple(hull @ turn.T for hull in hulls), 0.1, 0.6)


def round_body(radius: float, height: float, foot: float = 0.0) -> F64:
    """An upright cylinder, or a cone's piece."""
    angle = np.arange(48) * 2 * np.pi / 48
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    low = np.column_stack([ring * (foot or radius), np.zeros(48)])
    return np.concatenate([low, np.column_stack([ring * radius, np.full(48, height)])])


L = (box((-0.06, -0.05, 0), (0.06, 0.05, 0.03)), box((-0.06, -0.05, 0.03), (-0.03, 0.05, 0.09)))


@pytest.mark.parametrize("yaw", np.deg2rad([0, 20, 75, 130]))
def test_a_slab_is_held_by_its_narrow_sides(yaw: float) -> None:
    """4 x 15 x 8 cm, turned: the fingers shut along its short side, at its middle; half a turn later it's the same."""
    grasp = find_grasp(body(box((-0.02, -0.075, 0), (0.02, 0.075, 0.08)), yaw=yaw), OPENING)
    assert grasp.width == pytest.approx(0.04, abs=1e-3)
    closing = grasp.yaw + np.pi / 2
    assert np.sin(closing - yaw) == pytest.approx(0, abs=1e-6)
    assert grasp.turn == pytest.approx(np.pi)
    np.testing.assert_allclose(grasp.place, [0, 0, 0.04], atol=0.004)


@pytest.mark.parametrize("yaw", np.deg2rad([0, 65]))
def test_an_l_is_held_by_its_upright_part(yaw: float) -> None:
    """Its foot is 12 x 10 cm, too wide for the gripper; the part of 3 cm on one end isn't over its origin."""
    grasp = find_grasp(body(*L, yaw=yaw), OPENING)
    assert grasp.width == pytest.approx(0.03, abs=1e-3)
    place = matrix_from_rotvec(np.array([0, 0, -yaw])) @ grasp.place
    assert place[0] == pytest.approx(-0.045, abs=1e-3)
    assert abs(place[1]) < 0.012
    assert 0.03 < place[2] < 0.09
    assert np.sin(grasp.yaw + np.pi / 2 - yaw) == pytest.approx(0, abs=1e-6)


def test_what_looks_alike_after_a_quarter_is_held_alike() -> None:
    """A square section, not a rectangle's."""
    assert find_grasp(body(box((-0.02, -0.02, 0), (0.02, 0.02, 0.05))), OPENING).turn == pytest.approx(np.pi / 2)
    assert find_grasp(body(box((-0.02, -0.03, 0), (0.02, 0.03, 0.05))), OPENING).turn == pytest.approx(np.pi)
    assert find_grasp(body(round_body(0.03, 0.06)), OPENING).width == pytest.approx(0.06, abs=1e-3)


def test_a_tall_thing_is_held_where_the_palm_has_room() -> None:
    """Not at its middle, 15 cm below its top."""
    grasp = find_grasp(body(box((-0.02, -0.03, 0), (0.02, 0.03, 0.3))), OPENING)
    assert 0.25 < grasp.place[2] < 0.3


def test_a_wall_beside_leaves_no_room_for_a_finger() -> None:
    """Between a rib and a wall 2 cm beside it: the fingers go where the wall is not."""
    rib, wall = box((-0.01, -0.06, 0), (0.01, 0.06, 0.05)), box((0.03, 0.0, 0), (0.05, 0.06, 0.05))
    grasp = find_grasp(body(rib, wall), OPENING)
    assert grasp.width == pytest.approx(0.02, abs=1e-3)
    assert grasp.place[1] < -0.01


@pytest.mark.parametrize(
    ("wide", "why"),
    [
        ((box((-0.12, -0.17, 0), (0.12, 0.17, 0.2)),), "too small"),  # all sides
        ((box((-0.037, -0.037, 0), (0.037, 0.037, 0.06)),), "too small"),  # nothing of the opening to spare
        ((box((-0.02, -0.02, 0), (0.02, 0.02, 0.012)),), "get there"),  # flat
        ((round_body(0.12, 0.05, foot=0.01),), "too small"),  # a bowl's foot is narrow, its sides lean
        ((box((-0.02, -0.02, 0), (0.02, 0.02, 0.1)), box((-0.1, -0.1, 0.1), (0.1, 0.1, 0.12))), "too small"),  # a table
    ],
)
def test_what_cannot_be_held_is_refused(wide: tuple[F64, ...], why: str) -> None:
    """In words that say how wide it is, and quickly."""
    begin = time.process_time()
    with pytest.raises(
        SimError, match=rf"(?s)opposed sides of a part 1.5 to 7.0 cm.*none on thing.*{why}.*larger gripper"
    ):
        find_grasp(body(*wide), OPENING)
    assert time.process_time() - begin < 2

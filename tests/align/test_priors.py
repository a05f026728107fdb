"""Scale by usual sizes: rooms, hands and steps."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.align.priors import find_priors, find_rise, scale_from_priors
from pipeline.align.scale import Scale
from pipeline.align.surfaces import Surfaces, find_floor
from pipeline.geometry import Camera, Pose, matrix_from_rotvec
from pipeline.poses.scene import View
from tests.synthetic import look_at

TURN, UNITS = matrix_from_rotvec([0.3, -0.7, 0.2]), 2.5
"""Scene from room, and scene units a metre."""
UP = TURN @ [0, 0, 1.0]
CAMERA = Camera(320, 240, 245.0, 243.0, 158.5, 121.5)


def patch(low: tuple[float, float], high: tuple[float, float], height: float, up: bool = True) -> np.ndarray:
    """Points (N, 6) with normals, 400 a square metre, of a level rectangle."""
    rng = np.random.default_rng(round(100 * height))
    count = int(400 * np.prod(np.subtract(high, low)))
    points = np.column_stack([rng.uniform(low, high, (count, 2)), height + rng.normal(0, 0.003, count)])
    return np.column_stack([points, np.tile([0, 0, 1.0 if up else -1.0], (count, 1))])


def surfaces(*patches: np.ndarray) -> Surfaces:
    rows = np.concatenate(patches)
    return Surfaces(UNITS * rows[:, :3] @ TURN.T, rows[:, 3:] @ TURN.T, np.full(len(rows), UNITS**2 / 400))


def views(outward: bool = True, height: float = 1.4) -> list[View]:
    """Twelve views from the middle to the walls, or from around the middle onto it."""
    found = []
    for k in range(12):
        round_about = np.array([np.cos(0.5 * k), np.sin(0.5 * k), 0])
        eye = np.array([2.5, 2.5, height]) + round_about * (0.5 if outward else 1.2)
        target = np.array([2.5, 2.5, 0.9]) + round_about * 3 * outward + [0, 0, 0.05 * (k % 3)]
        pose = look_at(eye, target)
        found.append(View(f"{k}", "", CAMERA, Pose(TURN @ pose.rotation, UNITS * TURN @ pose.translation), False))
    return found


FLOOR, CEILING = patch((0, 0), (5, 5), 0.0), patch((0, 0), (5, 5), 2.5, up=False)
FLIGHT = [patch((1.0 + 0.28 * k, 1.0), (1.28 + 0.28 * k, 2.0), 0.18 * (k + 1)) for k in range(4)]
TABLE = patch((3, 3), (4, 4.5), 0.74)
UNEVEN = [patch((1.0 + 0.28 * k, 1.0), (1.28 + 0.28 * k, 2.0), height) for k, height in enumerate((0.15, 0.36, 0.5))]
BOXES = [patch((0.2 + 0.9 * k, 4), (0.6 + 0.9 * k, 4.4), 0.3 * (k + 1)) for k in range(3)]


def sources(*patches: np.ndarray, outward: bool = True, on_machine: bool = False) -> dict[str, float]:
    """Name of each hint and its error, relative."""
    seen = surfaces(*patches)
    where = views(outward)
    centres = np.array([view.world_from_camera.translation for view in where])
    priors = find_priors(seen, where, UP, find_floor(seen, UP, centres), on_machine=on_machine)
    return {prior.source: prior.value * UNITS - 1 for prior in priors}


def test_a_room_with_stairs_gives_three_hints():
    """Steps of 0.18 for the usual 0.17, a room of 2.5 for 2.6, and the very height of a hand."""
    assert sources(FLOOR, CEILING, TABLE, *FLIGHT) == {
        "prior of steps": pytest.approx(0.17 / 0.18 - 1, abs=0.01),
        "prior of room height": pytest.approx(2.6 / 2.5 - 1, abs=0.01),
        "prior of camera height": pytest.approx(0.0, abs=0.01),
    }


def test_going_round_a_thing_says_nothing():
    """What is level below may be a table; a ceiling shows that it is a room after all."""
    assert sources(FLOOR, outward=False) == {}
    assert set(sources(FLOOR, CEILING, outward=False)) == {"prior of room height", "prior of camera height"}


def test_a_robots_camera_is_at_no_usual_height():
    """Only the room counts."""
    assert set(sources(FLOOR, CEILING, on_machine=True)) == {"prior of room height"}


def test_without_a_floor_there_are_no_hints():
    """Nothing to measure from."""
    assert find_priors(surfaces(CEILING), views(), UP, None) == []


def rise(*patches: np.ndarray) -> float | None:
    seen, height = surfaces(*patches), UNITS * 1.4
    floor = find_floor(seen, UP, np.array([UP * height]))
    assert floor is not None
    found = find_rise(seen, UP, floor, height)
    return None if found is None else found / UNITS


def test_steps_are_found_whole_and_in_part():
    """Four treads; and with a quarter of one hidden."""
    assert rise(FLOOR, TABLE, *FLIGHT) == pytest.approx(0.18, rel=0.02)
    part = patch((1.28, 1.25), (1.56, 2.0), 0.36)
    assert rise(FLOOR, FLIGHT[0], part, *FLIGHT[2:]) == pytest.approx(0.18, rel=0.02)


@pytest.mark.parametrize("patches", [[TABLE, *FLIGHT[:2]], [TABLE, *BOXES], UNEVEN, FLIGHT[1:], []])
def test_other_level_things_are_no_steps(patches):
    """Two steps, boxes of rising height far apart, unequal ones, a flight that hangs in the air, nothing."""
    assert rise(FLOOR, *patches) is None


def test_hints_are_averaged_by_their_sigmas():
    """In logarithms; contradicting ones doubt each other."""
    mean = scale_from_priors([Scale(1.0, 0.1, "prior of steps"), Scale(1.1, 0.2, "prior of room height")])
    assert mean is not None
    assert mean.value == pytest.approx(1.1**0.2)
    assert mean.sigma == pytest.approx((1 / 0.01 + 1 / 0.04) ** -0.5)
    doubt = scale_from_priors([Scale(1.0, 0.1, "prior of steps"), Scale(2.0, 0.1, "prior of room height")])
    assert doubt is not None
    assert doubt.sigma is not None
    assert doubt.sigma > 0.3
    assert scale_from_priors([]) is None

"""What robots believe, and do about it."""

from __future__ import annotations

import numpy as np
import pytest

from sim.finding.finder import BACK_SPEED, LOOK_ROUND, OFF_CENTRE, STUCK_STEPS, THERE, TURN, Finder
from sim.finding.maps import BARRED, IS_TAKEN, MOST_TAKEN
from tests.sim.finding.views import HEIGHT, LENS, MOUNT, RADIUS, View, camera_at, cell, places, tilted

DOWN = np.array([0.0, 0.0, -1.0])
STILL = np.zeros(3)
FLOOR = View().depth(camera_at(0, 0, 0))


def finder(count: int = 2) -> Finder:
    """Robots that know nothing."""
    return Finder(count, LENS, MOUNT, RADIUS, HEIGHT, 0.0)


def blind(of: Finder, *motion: np.ndarray, sent: np.ndarray | float = 0.0) -> None:
    """A step in which the cameras see nothing but floor, with motions (3,) of each robot, who were told speeds."""
    count = len(of.pose)
    of.see(
        np.tile(FLOOR, (count, 1, 1)),
        np.zeros((count, 12, 24), np.float32),
        np.array(motion),
        np.tile(DOWN, (count, 1)),
        np.broadcast_to(sent, count),
    )


def driven(of: Finder, steps: int) -> None:
    """Steps of 0.2 s in which the robots do what it wants, and see nothing."""
    for _ in range(steps):
        forward, turn = of.speeds()
        blind(of, *np.column_stack([0.2 * forward, 0 * turn, 0.2 * turn]), sent=forward)


def test_a_circle_closes():
    """To the left, and to the right on a wider one backwards; half of it is where it must be."""
    found, steps = finder(), 40
    turn = 2 * np.pi / steps
    one = np.array([0.7 * np.sin(turn), 0.7 * (1 - np.cos(turn)), turn])
    other = np.array([-1.1 * np.sin(turn), 1.1 * (1 - np.cos(turn)), -turn])
    for step in range(steps):
        blind(found, one, other)
        if step == steps // 2 - 1:
            np.testing.assert_allclose(found.pose, [[0, 1.4, np.pi], [0, 2.2, -np.pi]], atol=1e-9)
        if step == steps // 4 - 1:
            np.testing.assert_allclose(found.pose[:, :2], [[0.7, 0.7], [-1.1, 1.1]], atol=1e-9)
    np.testing.assert_allclose(found.pose, [[0, 0, 2 * np.pi], [0, 0, -2 * np.pi]], atol=1e-9)


@pytest.mark.parametrize("tilt", [(0.15, 0.0), (-0.1, 0.0), (0.0, 0.2), (0.1, -0.15)])
def test_gravity_tilts_the_camera(tilt: tuple[float, float]):
    """As the base is pitched and rolled, whatever its heading; a box is where it is."""
    box = np.array([[0.52, 0.73, 0.0], [0.97, 1.08, 0.6]])
    found, pose = finder(1), np.array([0.1, -0.35, 1.1])
    blind(found, pose)
    gravity = tilted(0.0, *tilt).T @ DOWN
    np.testing.assert_allclose(found._cameras(gravity[None])[0], camera_at(*pose, *tilt), atol=1e-9)
    depth = View(boxes=(box,)).depth(camera_at(*pose, *tilt))
    found.see(depth[None], np.zeros((1, 12, 24), np.float32), STILL[None], gravity[None], np.zeros(1))
    taken, (x, y) = found.maps.taken[0] > IS_TAKEN, places()
    assert taken[cell(0.65, 0.75)]
    assert (np.abs(x[taken] - 0.75) < 0.3).all()
    assert (np.abs(y[taken] - 0.9) < 0.25).all()


def test_it_looks_round_first():
    """Turning on the spot, until it has turned so far; then it drives to floor that it hasn't seen."""
    found = finder(1)
    depth = View(boxes=(np.array([[2.6, -9.0, 0.0], [2.8, 9.0, 1.0]]),))
    for _ in range(int(LOOK_ROUND / 0.3)):
        forward, turn = found.speeds()
        assert (forward[0], turn[0]) == (pytest.approx(0, abs=1e-6), pytest.approx(TURN, abs=1e-6))
        pose = camera_at(0, 0, found.pose[0, 2] + 0.3)
        odds, turned = np.zeros((1, 12, 24), np.float32), np.array([[0, 0, 0.3]])
        found.see(depth.depth(pose)[None], odds, turned, DOWN[None], np.zeros(1))
    for _ in range(2):
        blind(found, np.array([0, 0, 0.15]))
    assert found.turned[0] > LOOK_ROUND
    driven(found, 30)
    assert np.linalg.norm(found.pose[0, :2]) > 0.3


def believing(*goals: tuple[float, float]) -> Finder:
    """Robots on floor that were shown a ball at these places, and see nothing any more."""
    found = finder(len(goals))
    found.maps.floor[:] = 1
    for robot, goal in enumerate(goals):
        found.maps.ball[robot][cell(*goal)] = 6
    blind(found, *[STILL] * len(goals))
    return found


def test_it_drives_to_the_ball():
    """Each to its own: one straight on, the other turns to it first."""
    found = believing((1.55, 0.05), (-0.35, 1.25))
    assert found.known.all()
    np.testing.assert_allclose(found.goal, [[1.55, 0.05], [-0.35, 1.25]], atol=0.15)
    forward, turn = found.speeds()
    assert forward[0] > 0.4
    assert abs(turn[0]) < 0.5
    assert forward[1] == pytest.approx(0, abs=1e-6)
    assert turn[1] > 1


def test_who_has_begun_to_turn_goes_on():
    """Round either side of a wall, as long on both, looking straight at it: each to the side that it turns to."""
    found = believing((2.05, 0.05), (2.05, 0.05))
    x, y = places()
    found.maps.taken[:, (np.abs(x - 1.05) < 0.06) & (np.abs(y) < 0.71)] = MOST_TAKEN
    for turn in (-0.3, 0.3):
        blind(found, np.array([0, 0, turn]), np.array([0, 0, -turn]))
    np.testing.assert_allclose(found.pose[:, 2], 0, atol=1e-9)
    _, turn = found.speeds()
    assert turn[0] > 0.3
    assert turn[1] < -0.3


def test_a_ball_that_is_not_there_is_given_up():
    """As soon as the robot stands there; for good, and by that robot only."""
    found, away = believing((1.55, 0.05), (1.55, 0.05)), np.array([1.5 - THERE - 0.2, 0, 0])
    blind(found, away, STILL)
    assert found.known.tolist() == [True, True]
    blind(found, np.array([0.3, 0, 0]), STILL)
    assert found.known.tolist() == [False, True]
    x, y = places()
    barred = found.maps.ball[0] == BARRED
    assert barred[np.hypot(x - 1.55, y - 0.05) < 0.25].all()
    assert not barred[np.hypot(x - 1.55, y - 0.05) > 0.7].any()
    assert not (found.maps.ball[1] == BARRED).any()
    blind(found, STILL, STILL)
    assert found.known.tolist() == [False, True]


def test_the_map_goes_with_the_robot():
    """After ten metres its own place is on the map, and the ball is where it was, as the robot sees it."""
    found = believing((7.0, 3.0), (7.0, 3.0))
    blind(found, STILL, STILL)
    for _ in range(20):
        before = found.goal - found.pose[:, :2]
        blind(found, np.array([0.5, 0, 0]), STILL)
        np.testing.assert_allclose(found.goal - found.pose[:, :2], before - [[0.5, 0], [0, 0]], atol=1e-9)
    assert np.abs(found.pose[0, :2]).max() <= OFF_CENTRE
    np.testing.assert_array_equal(found.pose[1], STILL)
    ahead = cell(*(found.pose[0, :2] + [0.8, 0]))
    assert found.maps.floor[0][ahead] > 0


def test_who_has_seen_all_and_found_nothing_begins_anew():
    """It turns round once more, and then forgets the floor, but not where it stands."""
    found = finder(1)
    found.turned[:], found.maps.floor[:], found.maps.taken[:] = LOOK_ROUND, 1, -1
    driven(found, 10)
    assert (found.maps.floor[0] > 0).mean() > 0.9
    driven(found, 14)
    assert (found.maps.floor[0] > 0).mean() < 0.5


def test_a_surer_ball_is_taken_instead():
    """Not one that is as sure; and one that is doubted is none."""
    found = believing((1.55, 0.05), (1.55, 0.05), (1.55, 0.05))
    found.maps.ball[0][cell(-1.25, 0.65)] = 8
    found.maps.ball[1][cell(-1.25, 0.65)] = 10
    found.maps.ball[2] = 0
    blind(found, STILL, STILL, STILL)
    np.testing.assert_allclose(found.goal[:2], [[1.55, 0.05], [-1.25, 0.65]], atol=0.15)
    assert found.known.tolist() == [True, True, False]


def test_who_is_held_goes_back():
    """By something that isn't seen: it is marked before the robot, which turns round it afterwards."""
    found = believing((2.55, 0.05), (2.55, 0.05))
    for step in range(STUCK_STEPS + 1):
        forward, turn = found.speeds()
        assert (forward[0] > 0) == (step < STUCK_STEPS)
        blind(found, STILL, np.array([0.1, 0, 0]), sent=forward)
    assert forward[0] == pytest.approx(BACK_SPEED, abs=1e-6)
    assert turn[0] == pytest.approx(0, abs=1e-6)
    assert forward[1] > 0.3
    assert found.maps.taken[0][cell(RADIUS + 0.1, 0.05)] > IS_TAKEN
    assert not (found.maps.taken[1] > IS_TAKEN).any()


def test_who_creeps_and_is_held_goes_back():
    """A student that hesitates is freed as one that drives fast; one that moves as it was told goes on."""
    found = believing((2.55, 0.05), (2.55, 0.05))
    for _ in range(STUCK_STEPS):
        blind(found, STILL, np.array([0.016, 0, 0]), sent=0.08)
    forward, _ = found.speeds()
    assert forward[0] == pytest.approx(BACK_SPEED, abs=1e-6)
    assert forward[1] > 0.3


def test_who_was_told_to_stand_is_not_held():
    """As a policy that it teaches may: what it would have done itself doesn't count."""
    found = believing((2.55, 0.05))
    for _ in range(STUCK_STEPS + 2):
        forward, _ = found.speeds()
        blind(found, STILL, sent=0.0)
        assert forward[0] > 0.3
    assert not (found.maps.taken[0] > IS_TAKEN).any()


def wander(found: Finder, steps: int, seed: int) -> list[np.ndarray]:
    """Speeds of robots that see boxes and what may be balls, and move at random."""
    rng, result = np.random.default_rng(seed), []
    box = np.array([[0.9, -0.4, 0.0], [1.3, 0.2, 0.5]])
    for _ in range(steps):
        motion = rng.uniform([-0.05, -0.02, -0.3], [0.15, 0.02, 1.5], (len(found.pose), 3))
        depth = np.stack([View(boxes=(box,)).depth(camera_at(*pose)) for pose in found.pose])
        odds = rng.normal(-2.5, 1, (len(depth), 12, 24)).astype(np.float32)
        found.see(depth, odds, motion, np.tile(DOWN, (len(depth), 1)), rng.uniform(0.0, 0.8, len(depth)))
        result.append(np.stack(found.speeds()))
    return result


def test_all_that_changes_is_saved():
    """After going back it goes on alike; every array with a row for each robot is among what is saved."""
    found = finder(3)
    before = {name: value.copy() for name, value in (vars(found) | vars(found.maps)).items() if _is_row(value)}
    wander(found, 12, 0)
    changed = {name for name, old in before.items() if not np.array_equal(old, (vars(found) | vars(found.maps))[name])}
    saved = {name: array.copy() for name, array in found.arrays().items()}
    assert changed <= {name.rpartition(".")[2] for name in saved}
    assert {"pose", "taken", "floor", "ball", "turned", "_moved"} <= changed
    first = wander(found, 8, 1)
    assert not np.array_equal(first, wander(found, 8, 1))
    found.set_arrays({name: array.copy() for name, array in saved.items()})
    np.testing.assert_array_equal(wander(found, 8, 1), first)
    other = finder(3)
    other.set_arrays(saved)
    np.testing.assert_array_equal(wander(other, 8, 1), first)


def _is_row(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.shape[:1] == (3,)


def test_a_new_episode_forgets_everything_of_one_robot():
    """It acts as one that was just made, and the others as if nothing had happened."""
    found, same = finder(3), finder(3)
    for one in (found, same):
        wander(one, 12, 0)
        one._stuck[:], one._back[:] = 2, 3
    found.reset(np.array([1]))
    fresh = finder(3).arrays()
    for name, array in found.arrays().items():
        np.testing.assert_array_equal(array[1], fresh[name][1], err_msg=name)
        np.testing.assert_array_equal(array[[0, 2]], same.arrays()[name][[0, 2]], err_msg=name)

"""Robots dropped all over the floors of scenes: none falls through, none starts inside a thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.geometry import Mesh, matrix_from_quaternion
from pipeline.types import F64, Mask
from sim.controlled import find_robot
from sim.physics.catalog import find_engine
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.floors import Floors
from sim.scene.scene import SimScene
from sim.sensors.height_scan import HeightScanner
from sim.sensors.scan_grid import ScanGrid
from sim.tasks.driving.driving_tasks import NAVIGATE
from sim.tasks.walking.walking_tasks import CLIMB
from tests.sim.engines import engines_here
from tests.sim.physics.test_conformance import floor

DROP = 0.01
"""Above the height at which they rest [m]; as in environments."""
SECONDS, LOOK_EVERY = 1.5, 0.1
TOLERANCE = 0.02
"""Of the resting place [m]."""
ASIDE = 0.01
"""What falls freely is slower than that sideways, what is pushed out of a thing is not [m/s]."""
ENGINES = engines_here()


@dataclass(frozen=True)
class Landing:
    """What became of N robots.

    Attributes:
        inside: (N,) something touched them before they could have fallen onto the floor, or stood over them.
        lowest: (N,) least height over the place that they were dropped at, at any time [m].
        end: (N, 3) from that place to where they are in the end, in axes of their heading [m].
        upright: (N,) z of their z axis in the end.
    """

    inside: Mask
    lowest: F64
    end: F64
    upright: F64


def starts(scene: SimScene, robot: Robot, count: int = 200) -> tuple[F64, F64]:
    """Where robots rest (N, 3) and their headings (N,): drawn over the whole floor, and all spawn poses with room."""
    floors, rng = Floors([scene], robot), np.random.default_rng(8)
    cells = floors.draw(np.zeros(1, np.int64), count, rng)[0]
    drawn = floors.positions(np.zeros(count, np.int64), cells)
    spawns = scene.regions.spawn_poses
    places = np.array([pose.position for pose in spawns])
    fits = floors.drivable[(0, *floors.cells(np.zeros(len(places), np.int64), places[:, :2]))]
    assert fits.any()
    yaw = np.concatenate([rng.uniform(-np.pi, np.pi, count), np.array([pose.yaw for pose in spawns])[fits]])
    return np.concatenate([drawn, places[fits]]) + np.array([0, 0, robot.base_height]), yaw


def land(name: str, mesh: Mesh, robot: Robot, places: F64, yaw: F64, time_step: float = 0.004) -> Landing:
    """Drop robots from just above places (N, 3) at which their bases would be if nothing gave way."""
    engine = find_engine(name)(robot, [mesh], len(places), time_step)
    nothing, robots, first = np.zeros(len(yaw)), np.arange(len(yaw)), np.zeros(len(yaw), np.int64)
    quaternion = np.column_stack([np.cos(yaw / 2), nothing, nothing, np.sin(yaw / 2)])
    joints = np.tile(robot.default_position.astype(np.float32), (len(yaw), 1))
    engine.reset(robots, RobotState.at_rest(places + np.array([0, 0, DROP]), quaternion, joints), first)
    scan = HeightScanner([mesh], ScanGrid((0, 0), (0, 0), clip=3.0)).read(places, quaternion, first)
    engine.step(1)
    inside = np.abs(engine.contact_forces()).max((1, 2)) > 0
    inside |= np.abs(scan[:, 0] + robot.base_height) > TOLERANCE
    state, lowest = engine.read(), np.full(len(yaw), np.inf)
    inside |= np.linalg.norm(state.linear_velocity[:, :2], axis=1) > ASIDE  # PhysX may report no force for that
    for _ in range(round(SECONDS / LOOK_EVERY)):
        engine.step(round(LOOK_EVERY / time_step))
        state = engine.read()
        lowest = np.minimum(lowest, state.position[:, 2] - places[:, 2])
    engine.close()
    end = np.einsum("nji,nj->ni", matrix_from_quaternion(quaternion), state.position - places)
    return Landing(inside, lowest, end, matrix_from_quaternion(state.quaternion)[:, 2, 2])


def check(name: str, scene: SimScene, robot: Robot, time_step: float) -> None:
    """All robots stand where they were put, as one does on an endless level floor: legs give way a little."""
    level = land(name, floor(), robot, np.array([[0, 0, robot.base_height]]), np.zeros(1), time_step)
    landing = land(name, scene.collision, robot, *starts(scene, robot), time_step)
    assert not landing.inside.any()
    assert landing.lowest.min() > level.lowest[0] - TOLERANCE
    assert np.linalg.norm(landing.end - level.end, axis=1).max() < TOLERANCE
    assert landing.upright.min() > 0.98


@pytest.mark.parametrize("engine", ENGINES)
def test_rovers_stand_all_over_the_hall(engine: str, hall_scene: SimScene, rover: Robot) -> None:
    """200 places and all spawn poses."""
    places, _ = starts(hall_scene, rover)
    assert len(places) > 204
    assert (np.ptp(places[:, :2], axis=0) > 3).all()  # they are all over it
    check(engine, hall_scene, rover, NAVIGATE.time_step)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_quadrupeds_stand_all_over_the_hall(engine: str, hall_scene: SimScene) -> None:
    """Likewise, on four feet."""
    check(engine, hall_scene, find_robot("go2")[0], CLIMB.time_step)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_start_in_a_thing_or_over_a_hole_is_seen(engine: str, room_scene: SimScene, rover: Robot) -> None:
    """Half in the crate, wholly in it, beyond the walls, and one that is well."""
    places = np.array([[3.15, 0.6, 0], [3.45, 0.6, 0.1], [-2.0, 1.0, 0], [2.0, 1.0, 0]])
    landing = land(engine, room_scene.collision, rover, places, np.array([0.3, 0.0, 1.0, 2.0]))
    assert landing.inside.tolist() == [True, True, True, False]
    assert landing.lowest[2] < -1
    assert np.linalg.norm(landing.end[3]) < TOLERANCE

"""What controllers know of the ground around their robots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from pipeline.geometry import Pose
from pipeline.types import F32, I64
from sim.physics.state import PhysicsEngine
from sim.robots.legs import Legs
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.sensors.cameras.settings import Output
from sim.sensors.ground.camera import sight_of
from sim.sensors.ground.mapping import GroundMap
from sim.sensors.ground.odometry import Odometry
from sim.sensors.ground.settings import MapSettings
from sim.sensors.height_scan import HeightScan
from sim.sensors.scan_grid import ScanErrors, ScanGrid
from sim.sensors.sensor import Moment

FIRM = 15.0
"""A foot stands with this force [N]."""


class DepthCamera(Protocol):
    """A depth camera on each of N robots, as `sim.sensors.cameras.rig.CameraRig`."""

    mount: Pose

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        ...

    def arrived(self, now: Moment, rng: np.random.Generator) -> tuple[Mapping[Output, np.ndarray], F32]:
        """Last images by output, N rows each, and their age (N,) [s]."""
        ...


class Ground(Saved):
    """What is known of the ground around N robots: here, what it is.

    Attributes:
        exact: Whether that is the truth.
    """

    exact = True

    def __init__(self, scan: HeightScan) -> None:
        self._scan = scan

    def reset(self, envs: I64, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""

    def update(self, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Go on to a moment, one period of the controller later."""

    @property
    def mapped(self) -> MappedGround | None:
        """Itself, if it is as maps have it."""
        return None

    def true(self, state: RobotState, scene_of: I64) -> F32:
        """True heights (N, K) relative to the bases at the points of the scan [m]."""
        return self._scan.read(state, scene_of)

    def read(self, state: RobotState, scene_of: I64) -> F32:
        """Heights (N, K) as they are known [m]."""
        return self.true(state, scene_of)


class WrongGround(Ground):
    """The ground as bad maps have it: so far ahead, to the left, and so much higher, for a time."""

    ROWS = ("errors",)
    exact = False

    def __init__(self, scan: HeightScan, errors: ScanErrors, count: int, period: float) -> None:
        super().__init__(scan)
        self._chance = period / errors.hold
        self._size = np.array([errors.shift, errors.shift, errors.rise])
        self.errors = np.zeros((count, 3), np.float32)

    def reset(self, envs: I64, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Draw other errors for environments (M,)."""
        self.errors = self.errors.copy()
        self.errors[envs] = self._size * rng.standard_normal((len(envs), 3))

    def update(self, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Draw other errors for some."""
        self.reset(np.flatnonzero(rng.random(len(self.errors)) < self._chance), now, rng)

    def read(self, state: RobotState, scene_of: I64) -> F32:
        """Heights (N, K) [m]."""
        return self._scan.read(state, scene_of, self.errors)


class MappedGround(Ground):
    """Ground as maps have it, that N robots make of their cameras' images, of their odometry, and of their feet.

    Attributes:
        map: What they know.
        odometry: Where they believe they are.
        rig: Their cameras.
    """

    PARTS = ("map", "odometry", "rig")
    exact = False

    def __init__(
        self,
        scan: HeightScan,
        robot: Robot,
        engine: PhysicsEngine,
        rig: DepthCamera,
        grid: ScanGrid,
        settings: MapSettings,
        count: int,
    ) -> None:
        super().__init__(scan)
        self._engine, self.rig, self._feet = engine, rig, [foot.link for foot in Legs(robot).feet]
        self.map = GroundMap(robot, grid, sight_of(settings, count), rig.mount, count)
        self.odometry = Odometry(count, settings.drift, settings.tilt)

    def reset(self, envs: I64, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Begin maps of environments (M,)."""
        moment = now()
        self.rig.reset(envs, rng)
        self.odometry.reset(envs, moment.state[envs], rng)
        self.map.reset(envs, self.odometry.place[envs], self.odometry.rotation[envs], moment.seconds[envs])
        self._look(moment, rng)

    def update(self, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Go on by odometry, take the images that have arrived, and feel the feet."""
        moment = now()
        self.odometry.update(moment.state, rng)
        self.map.move(self.odometry.place, self.odometry.rotation, moment.seconds)
        self._look(moment, rng)
        down = np.linalg.norm(self._engine.foot_forces(self._feet), axis=-1) > FIRM
        self.map.feel(moment.state, down, moment.seconds)

    def _look(self, now: Moment, rng: np.random.Generator) -> None:
        frames, age = self.rig.arrived(now, rng)
        self.map.see(frames, now.seconds - age)

    @property
    def mapped(self) -> MappedGround:
        """Itself."""
        return self

    def read(self, state: RobotState, scene_of: I64) -> F32:
        """Heights (N, K) relative to the bases [m] as the maps have them."""
        return self.map.heights()

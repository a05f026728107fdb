"""What controllers know of the ground around their robots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from pipeline.geometry import Camera, Pose
from pipeline.types import F32, F64, I64
from sim.physics.state import PhysicsEngine
from sim.robots.kinematics import link_poses
from sim.robots.legs import Legs
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.sensors.cameras.settings import CameraSettings, Output, RobotCamera
from sim.sensors.ground.elevation import Elevation, filled
from sim.sensors.ground.eyes import FILE, GroundEyes
from sim.sensors.ground.odometry import Odometry
from sim.sensors.ground.settings import MapSettings
from sim.sensors.height_scan import HEADROOM, HeightScan
from sim.sensors.networks import flat_floor
from sim.sensors.scan_grid import ScanErrors, ScanGrid
from sim.sensors.sensor import Moment

logger = logging.getLogger(__name__)

LENS = Camera(64, 48, 33.7, 43.3, 32.0, 24.0)
"""Of the camera that looks at the ground: 87 by 58 degrees."""
PITCH = np.deg2rad(30)
"""By how much that camera looks down [rad]; level, it would see no ground nearer than a metre."""
NEAR_GROUND = (-1.6, 0.6)
"""What is farther below or above the base is no ground [m]."""
FIRM = 15.0
"""A foot stands with this force [N]."""
HELD, HELD_BELOW = 0.06, 0.1
"""Share of the gap between the feet that stand and the map by which the map follows them in each step; and the largest
gap that counts [m]."""
STOOD_ON = 0.45
"""Around the robot so far [m] the ground is level when an episode begins."""
JUMP = 0.2
"""Odometry that moves so far between two steps is wrong about one of them [m]."""
SLACK = 1e-4
"""Nearer to each other [s] two images are one."""
SHOWS = 0.02
"""An image that shows anything has depths in such a share of its pixels."""
DARK = 8
"""Pixels that aren't brighter show nothing, 0..255."""
TRAIL = 16
"""So many poses are remembered, for images that arrive late."""


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


def ground_camera(robot: Robot, settings: MapSettings) -> tuple[RobotCamera, CameraSettings]:
    """The depth camera for the map: where the robot's file has its camera, looking down."""
    cos, sin = np.cos(PITCH), np.sin(PITCH)
    # x to the right, y down, z ahead
    base_from_camera = np.eye(4)
    base_from_camera[:3, :3] = np.array([[0, -sin, cos], [-1, 0, 0], [0, -cos, -sin]])
    base_from_camera[:3, 3] = robot.base_from_camera.translation
    camera = RobotCamera(
        LENS,
        name="ground",
        link_from_camera=Pose.from_matrix(base_from_camera),
        outputs=("rgb",) if settings.depth_of == "colors" else ("depth",),
        depth_of="mesh" if settings.depth_of == "mesh" else "splat",
    )
    return camera, CameraSettings(
        period=settings.period, latency=settings.latency, noise=settings.grain, depth_noise=settings.noise
    )


Sight = Callable[[Mapping[Output, np.ndarray], I64, F64], tuple[F32, F32 | None]]
"""Depths (M, H, W) [m] of images of robots (M,), and their relative errors if they have any beside noise.

By cameras at poses (M, 4, 4) over the ground on which the robots stand.
"""


def measured(frames: Mapping[Output, np.ndarray], robots: I64, level_from_camera: F64) -> tuple[F32, None]:
    """What a depth camera measured."""
    return np.asarray(frames["depth"][robots], np.float32), None


def by_colors(eyes: GroundEyes) -> Sight:
    """What eyes say of colours."""

    def look(frames: Mapping[Output, np.ndarray], robots: I64, level_from_camera: F64) -> tuple[F32, F32]:
        images = frames["rgb"][robots]
        depth, error = eyes.look(images, flat_floor(LENS, level_from_camera))
        depth[images.max(-1) < DARK] = 0
        return depth, error

    return look


class MappedGround(Ground):
    """Ground as maps have it, that N robots make of depth images, of their odometry, and of where their feet stand.

    Attributes:
        maps: What was seen and felt.
        odometry: Where the robots believe they are.
        rig: Their depth cameras.
        begun: (N,) when the map was begun: with the episode, or after a jump of the odometry [s].
        looked: (N,) when the last image was taken that shows anything [s].
        lowest: (N,) height of the ground under the lowest foot that stood last, in the maps [m].
        highest: (N,) the same under the highest.
    """

    ROWS = ("begun", "looked", "lowest", "highest", "_offset", "_level", "_arrived", "_place", "_rotation", "_when")
    PARTS = ("maps", "odometry", "rig")
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
        self._sight = by_colors(GroundEyes(settings.eyes or FILE)) if settings.depth_of == "colors" else measured
        self._legs, self._engine, self.rig, self._grid = Legs(robot), engine, rig, grid
        self._base_height = robot.base_height
        self.maps, self.odometry = Elevation(count), Odometry(count, settings.drift, settings.tilt)
        self._offset, self._level = np.zeros(count), np.zeros(count)
        self.lowest, self.highest = np.zeros(count), np.zeros(count)
        self.begun, self._arrived, self.looked = np.zeros(count), np.full(count, -np.inf), np.zeros(count)
        self._place, self._rotation = np.zeros((count, TRAIL, 3)), np.zeros((count, TRAIL, 3, 3))
        self._when = np.full((count, TRAIL), np.inf)

    def reset(self, envs: I64, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Begin maps of environments (M,): robots know the level ground that they stand on."""
        moment = now()
        self.rig.reset(envs, rng)
        self.odometry.reset(envs, moment.state[envs], rng)
        self.begun[envs], self._arrived[envs], self.looked[envs] = moment.seconds[envs], -np.inf, 0
        self._level[envs] = self.odometry.place[envs, 2] - self._base_height
        self._begin(envs, moment)
        self._remember(envs, moment)
        self._look(moment, rng)

    def _begin(self, envs: I64, moment: Moment) -> None:
        """Forget all but the level ground under robots (M,)."""
        place = self.odometry.place[envs]
        self.maps.reset(envs, place[:, :2])
        self._offset[envs], self._when[envs] = 0, np.inf
        self.lowest[envs] = self.highest[envs] = self._level[envs]
        around = np.arange(-STOOD_ON, STOOD_ON, 0.02)
        disc = np.stack(np.meshgrid(around, around, indexing="ij"), -1).reshape(-1, 2)
        disc = disc[np.linalg.norm(disc, axis=1) < STOOD_ON]
        feet = np.zeros((len(self._offset), len(disc), 3))
        feet[envs, :, :2] = place[:, None, :2] + disc
        feet[envs, :, 2] = self._level[envs, None]
        down = np.zeros(feet.shape[:2], bool)
        down[envs] = True
        self.maps.stand(feet, down, moment.seconds)

    def update(self, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Go on by odometry, feel the feet, and take the images that have arrived."""
        moment = now()
        self.odometry.update(moment.state, rng)
        moved = self.odometry.place - self._place[:, 0]
        jumped = np.flatnonzero(np.linalg.norm(moved, axis=1) > JUMP)
        if len(jumped):
            logger.info("odometry of %d robots jumped: their maps begin anew", len(jumped))
            self.begun[jumped] = self._arrived[jumped] = moment.seconds[jumped]
            self._level[jumped] += moved[jumped, 2]  # the feet moved along
            self._begin(jumped, moment)
        self.maps.follow(self.odometry.place[:, :2])
        self._remember(np.arange(len(self._offset)), moment)
        self._look(moment, rng)
        self._feel(moment)

    @property
    def mapped(self) -> MappedGround:
        """Itself."""
        return self

    def read(self, state: RobotState, scene_of: I64) -> F32:
        """Heights (N, K) relative to the bases [m] as the maps have them; walls are no ground."""
        forward = self.odometry.rotation[:, :2, 0]
        forward = forward / np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-9)
        left = forward[:, ::-1] * [-1, 1]
        place = self.odometry.place
        xy = place[:, None, :2] + self._grid.points @ np.stack([forward, left], 1)
        found = self.maps.at(xy) + self._offset[:, None].astype(np.float32)
        found[found > place[:, 2:] + HEADROOM] = np.nan
        ground = filled(found.reshape(-1, *self._grid.shape), self._level.astype(np.float32))
        heights = ground.reshape(len(place), -1) - place[:, 2:]
        return np.clip(heights, -self._grid.clip, self._grid.clip).astype(np.float32)

    def _remember(self, envs: I64, now: Moment) -> None:
        """Note where robots (M,) believe they are at this moment."""
        for trail, new in ((self._place, self.odometry.place), (self._rotation, self.odometry.rotation)):
            trail[envs] = np.roll(trail[envs], 1, 1)
            trail[envs, 0] = new[envs]
        self._when[envs] = np.roll(self._when[envs], 1, 1)
        self._when[envs, 0] = now.seconds[envs]

    def _look(self, now: Moment, rng: np.random.Generator) -> None:
        """Fuse images that have arrived, from where they were taken."""
        frames, age = self.rig.arrived(now, rng)
        taken = now.seconds - age
        new = np.flatnonzero(taken > self._arrived + SLACK)
        if not len(new):
            return
        self._arrived[new] = taken[new]
        then = np.abs(self._when[new] - taken[new, None]).argmin(1)
        place, rotation = self._place[new, then], self._rotation[new, then]
        poses = np.tile(np.eye(4), (len(new), 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = rotation, place
        low, high = (place[:, 2] + bound for bound in NEAR_GROUND)
        cameras = poses @ self.rig.mount.matrix
        above = cameras.copy()
        above[:, 2, 3] -= self._level[new]
        depth, error = self._sight(frames, new, above)
        self.looked[new] = np.where((depth > 0).mean((1, 2)) > SHOWS, taken[new], self.looked[new])
        self.maps.see(new, depth, LENS, cameras, low, high, taken[new], error)

    def _feel(self, now: Moment) -> None:
        """Hold the maps to the feet that stand."""
        legs = self._legs
        poses = link_poses(legs.robot, now.state)
        from_base = legs.positions(poses) - now.state.position[:, None]
        inside = np.einsum("nji,nfj->nfi", now.state.world_from_base, from_base)
        feet = self.odometry.place[:, None] + np.einsum("nij,nfj->nfi", self.odometry.rotation, inside)
        feet[..., 2] -= [foot.radius for foot in legs.feet]
        down = np.linalg.norm(self._engine.foot_forces([foot.link for foot in legs.feet]), axis=-1) > FIRM
        gap = feet[..., 2] - self._offset[:, None] - self.maps.at(feet[..., :2])
        near = down & (np.abs(gap) < HELD_BELOW)
        some = near.any(1)
        middle = np.zeros(len(gap))
        middle[some] = np.nanmedian(np.where(near, gap, np.nan)[some], 1)
        self._offset = self._offset + HELD * middle
        feet[..., 2] -= self._offset[:, None]
        self.maps.stand(feet, down, now.seconds)
        standing = down.any(1)
        level = np.where(down, feet[..., 2], 0).sum(1) / np.maximum(down.sum(1), 1) + self._offset
        self._level = np.where(standing, level, self._level)
        self.lowest = np.where(standing, np.where(down, feet[..., 2], np.inf).min(1), self.lowest)
        self.highest = np.where(standing, np.where(down, feet[..., 2], -np.inf).max(1), self.highest)

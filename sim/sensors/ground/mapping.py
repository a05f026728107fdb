"""The map that robots make of the ground, by what they measure themselves: the same in simulation and on a robot."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from pipeline.geometry import Pose
from pipeline.types import F32, F64, I64, Floats, Mask
from sim.robots.kinematics import link_poses
from sim.robots.legs import Legs
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.saved import Saved
from sim.sensors.cameras.settings import Output
from sim.sensors.ground.camera import Sight
from sim.sensors.ground.elevation import Elevation, filled
from sim.sensors.ground.eyes import LENS
from sim.sensors.height_scan import HEADROOM
from sim.sensors.scan_grid import ScanGrid

logger = logging.getLogger(__name__)

NEAR_GROUND = (-1.6, 0.6)
"""What is farther below or above the base is no ground [m]."""
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
TRAIL = 16
"""So many poses are remembered, for images that arrive late."""


class GroundMap(Saved):
    """What N robots know of the ground from images, their odometry, and where their feet stand.

    Attributes:
        maps: What was seen and felt, frame of the odometry.
        begun: (N,) when the map was begun: with the episode, or after a jump of the odometry [s].
        looked: (N,) when the last image was taken that shows anything [s].
        lowest: (N,) height of the ground under the lowest foot that stood last, in the maps [m].
        highest: (N,) the same under the highest.
    """

    ROWS = ("begun", "looked", "lowest", "highest", "_offset", "_level", "_arrived", "_place", "_rotation", "_when")
    PARTS = ("maps", "_sight")

    def __init__(self, robot: Robot, grid: ScanGrid, sight: Sight, base_from_camera: Pose, count: int) -> None:
        self._sight, self._base_from_camera, self._grid = sight, base_from_camera.matrix, grid
        self._base_height, self._legs = robot.base_height, Legs(robot)
        self.maps = Elevation(count)
        self._offset, self._level = np.zeros(count), np.zeros(count)
        self.lowest, self.highest = np.zeros(count), np.zeros(count)
        self.begun, self._arrived, self.looked = np.zeros(count), np.full(count, -np.inf), np.zeros(count)
        self._place, self._rotation = np.zeros((count, TRAIL, 3)), np.zeros((count, TRAIL, 3, 3))
        self._when = np.full((count, TRAIL), np.inf)

    @property
    def planar(self) -> F64:
        """Believed x, y [m] and heading [rad] (N, 3)."""
        rotation = self._rotation[:, 0]
        return np.column_stack([self._place[:, 0, :2], np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])])

    def reset(self, robots: I64, place: F64, rotation: F64, seconds: F64) -> None:
        """Begin maps of robots (M,), which know the level ground that they stand on.

        Of these are the positions (M, 3) and rotations (M, 3, 3), odometry from base, and the times (M,) [s].
        """
        self.begun[robots], self._arrived[robots], self.looked[robots] = seconds, -np.inf, 0
        self._level[robots] = place[:, 2] - self._base_height
        self._begin(robots, place, seconds)
        self._remember(robots, place, rotation, seconds)

    def _begin(self, robots: I64, place: F64, seconds: F64) -> None:
        """Forget all but the level ground under robots (M,)."""
        self.maps.reset(robots, place[:, :2])
        self._sight.reset(robots)
        self._offset[robots], self._when[robots] = 0, np.inf
        self.lowest[robots] = self.highest[robots] = self._level[robots]
        around = np.arange(-STOOD_ON, STOOD_ON, 0.02)
        disc = np.stack(np.meshgrid(around, around, indexing="ij"), -1).reshape(-1, 2)
        disc = disc[np.linalg.norm(disc, axis=1) < STOOD_ON]
        count = len(self._offset)
        feet, down, now = np.zeros((count, len(disc), 3)), np.zeros((count, len(disc)), bool), np.zeros(count)
        feet[robots, :, :2] = place[:, None, :2] + disc
        feet[robots, :, 2] = self._level[robots, None]
        down[robots], now[robots] = True, seconds
        self.maps.stand(feet, down, now)

    def move(self, place: F64, rotation: F64, seconds: F64) -> None:
        """Go on to where all robots believe they are: positions (N, 3), rotations (N, 3, 3) and times (N,) [s]."""
        moved = place - self._place[:, 0]
        jumped = np.flatnonzero(np.linalg.norm(moved, axis=1) > JUMP)
        if len(jumped):
            logger.info("odometry of %d robots jumped: their maps begin anew", len(jumped))
            self.begun[jumped] = self._arrived[jumped] = seconds[jumped]
            self._level[jumped] += moved[jumped, 2]  # the feet moved along
            self._begin(jumped, place[jumped], seconds[jumped])
        self.maps.follow(place[:, :2])
        self._remember(np.arange(len(self._offset)), place, rotation, seconds)

    def _remember(self, robots: I64, place: F64, rotation: F64, seconds: F64) -> None:
        """Note where robots (M,) believe they are at this moment."""
        for trail, new in ((self._place, place), (self._rotation, rotation), (self._when, seconds)):
            trail[robots] = np.roll(trail[robots], 1, 1)
            trail[robots, 0] = new

    def see(self, frames: Mapping[Output, np.ndarray], taken: Floats) -> None:
        """Fuse the images of all robots that are new, by when they were taken (N,) [s], from where that was."""
        new = np.flatnonzero(taken > self._arrived + SLACK)
        if not len(new):
            return
        self._arrived[new] = taken[new]
        then = np.abs(self._when[new] - taken[new, None]).argmin(1)
        place, rotation = self._place[new, then], self._rotation[new, then]
        poses = np.tile(np.eye(4), (len(new), 1, 1))
        poses[:, :3, :3], poses[:, :3, 3] = rotation, place
        low, high = (place[:, 2] + bound for bound in NEAR_GROUND)
        cameras = poses @ self._base_from_camera
        depth, error = self._sight.look(frames, new, cameras, self._level[new])
        self.looked[new] = np.where((depth > 0).mean((1, 2)) > SHOWS, taken[new], self.looked[new])
        self.maps.see(new, depth, LENS, cameras, low, high, taken[new], error, self._sight.cut_off)

    def feel(self, state: RobotState, down: Mask, seconds: F64) -> None:
        """Hold the maps to the feet that stand (N, F), which are where joints and bases of a state have them."""
        legs = self._legs
        from_base = legs.positions(link_poses(legs.robot, state)) - state.position[:, None]
        inside = np.einsum("nji,nfj->nfi", state.world_from_base, from_base)
        feet = self._place[:, 0, None] + np.einsum("nij,nfj->nfi", self._rotation[:, 0], inside)
        feet[..., 2] -= [foot.radius for foot in legs.feet]
        gap = feet[..., 2] - self._offset[:, None] - self.maps.at(feet[..., :2])
        near = down & (np.abs(gap) < HELD_BELOW)
        some = near.any(1)
        middle = np.zeros(len(gap))
        middle[some] = np.nanmedian(np.where(near, gap, np.nan)[some], 1)
        self._offset = self._offset + HELD * middle
        feet[..., 2] -= self._offset[:, None]
        self.maps.stand(feet, down, seconds)
        standing = down.any(1)
        level = np.where(down, feet[..., 2], 0).sum(1) / np.maximum(down.sum(1), 1) + self._offset
        self._level = np.where(standing, level, self._level)
        self.lowest = np.where(standing, np.where(down, feet[..., 2], np.inf).min(1), self.lowest)
        self.highest = np.where(standing, np.where(down, feet[..., 2], -np.inf).max(1), self.highest)

    def heights(self) -> F32:
        """Heights (N, K) relative to the bases at the points of the scan [m]; walls are no ground."""
        place, forward = self._place[:, 0], self._rotation[:, 0, :2, 0]
        forward = forward / np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-9)
        left = forward[:, ::-1] * [-1, 1]
        xy = place[:, None, :2] + self._grid.points @ np.stack([forward, left], 1)
        found = self.maps.at(xy) + self._offset[:, None].astype(np.float32)
        found[found > place[:, 2:] + HEADROOM] = np.nan
        ground = filled(found.reshape(-1, *self._grid.shape), self._level.astype(np.float32))
        heights = ground.reshape(len(place), -1) - place[:, 2:]
        return np.clip(heights, -self._grid.clip, self._grid.clip).astype(np.float32)

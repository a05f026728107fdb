"""What walking robots' cameras see of the ground, drawn anew: on stairs, before and behind them, and anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import TrainError
from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F32, F64, I64, U8, Mask
from sim.climbing.stairs import find_stairs
from sim.robots.model import Robot
from sim.scene.scene import SimScene
from sim.sensors.cameras.measured import MeasuredRenderer
from sim.sensors.cameras.renderer import CPU, Loaded, make_renderer
from sim.sensors.ground.camera import LEAST_APART, ground_camera
from sim.sensors.ground.eyes import FINE, LENS
from sim.sensors.ground.parallax import Before
from sim.sensors.ground.settings import MapSettings
from sim.sensors.networks import flat_floor

ON_STAIRS = 0.9
"""Share of images that are taken on ways over stairs; others from anywhere on the floor."""
ASIDE, ASKEW = 0.35, np.deg2rad(50)
"""How far from the middle of a way [m] they are taken, and turned by how much from it, at most."""
BENT, LEANS = np.deg2rad(6), np.deg2rad(3)
"""By how much robots pitch and roll against the ground below them."""
BOBS, LEVEL = 0.04, 0.015
"""By how much they are higher or lower than at rest, and err in the level of the ground under them [m]."""
AHEAD = 0.2
"""The ground so far before and behind the middle of a base bears it [m]."""
BELOW = 0.25
"""No robot stands where the ground before it is so much higher or lower than that behind it [m]."""
WALKED, SWAYS, BEGINS = 0.45, 0.12, 0.12
"""How far robots walked since an image before, at most [m], turning by so much [rad]; and share of those without."""
MISPLACED, MISTURNED = 0.004, np.deg2rad(0.3)
"""By how much they err in where that was [m, rad]."""
TRIES = 100


@dataclass(frozen=True, eq=False)
class GroundImages:
    """N images by one lens.

    Attributes:
        colors: (N, 2H, 2W, 3).
        depth: (N, H, W) along the camera's z [m], 0 = unknown.
        fine_depth: (N, 2H, 2W) of the colours [m].
        level_from_camera: (N, 4, 4) poses over the true ground under the robots.
        believed: (N, 4, 4) the same over the ground where robots believe it to be.
        before: What the same robots saw a little while ago, as they believe.
        before_depth: (N, 2H, 2W) of that [m].
        before_from_camera: (N, 4, 4) true poses then, from those now.
    """

    colors: U8
    depth: F32
    fine_depth: F32
    level_from_camera: F64
    believed: F64
    before: Before
    before_depth: F32
    before_from_camera: F64

    @property
    def flat(self) -> F32:
        """Depths (N, H, W) of level ground as low as the robots believe that they stand [m]; 0 = none."""
        return flat_floor(LENS, self.believed)


class GroundViews:
    """Draws images in scenes.

    Raises:
        TrainError: When no scene has stairs, or one no floor to stand on.
    """

    def __init__(self, scenes: Sequence[SimScene], robot: Robot) -> None:
        self._scenes, self._robot = scenes, robot
        self._mount = ground_camera(robot, MapSettings())[0].link_from_camera
        splats, meshes = Loaded([scene.splat for scene in scenes]), [scene.collision for scene in scenes]
        self._fine, self._coarse = (
            MeasuredRenderer(make_renderer(splats, CPU), meshes, colors=colors) for colors in (True, False)
        )
        self._ways = [find_stairs(one.regions) for one in scenes]
        self._with_stairs = np.flatnonzero([bool(ways) for ways in self._ways])
        if not len(self._with_stairs):
            raise TrainError(
                "robots learn to see stairs where there are some",
                found=f"none in {len(scenes)} scenes",
                remedy="splatyard scene rooms 64 --with stairs --out stairs makes scenes that have some",
            )

    def draw(self, count: int, rng: np.random.Generator) -> GroundImages:
        """Draw images, each with one from before."""
        mount = self._mount
        assert mount is not None
        scene_of, poses, level, stood = self._poses(count, rng)
        earlier, known = self._earlier(scene_of, stood, rng)
        cameras, cameras_before = poses @ mount.matrix, earlier @ mount.matrix
        rgb, fine_depth = self._fine.render(FINE, cameras, scene_of)
        rgb_before, before_depth = self._fine.render(FINE, cameras_before, scene_of)
        _, depth = self._coarse.render(LENS, cameras, scene_of)
        level_from_camera, believed = cameras.copy(), cameras.copy()
        level_from_camera[:, 2, 3] -= level
        believed[:, 2, 3] -= level + rng.normal(0, LEVEL, count)
        before_from_camera = np.linalg.inv(cameras_before) @ cameras
        err = np.tile(np.eye(4), (count, 1, 1))
        err[:, :3, :3] = matrix_from_rotvec(rng.normal(0, MISTURNED, (count, 3)))
        err[:, :3, 3] = rng.normal(0, MISPLACED, (count, 3))
        before = Before(_bytes(rgb_before), err @ before_from_camera, known)
        return GroundImages(
            _bytes(rgb),
            depth,
            fine_depth,
            level_from_camera,
            believed,
            before,
            before_depth,
            before_from_camera,
        )

    def _poses(self, count: int, rng: np.random.Generator) -> tuple[I64, F64, F64, F64]:
        """Scenes (N,), poses of bases (N, 4, 4), heights of the ground under them (N,), and x, y, heading (N, 3)."""
        scene_of = rng.choice(self._with_stairs, count)
        stood, ground = np.zeros((count, 3)), np.zeros((count, 5))
        for row, scene in enumerate(scene_of.tolist()):
            stood[row], ground[row] = self._stand(scene, rng)
        return scene_of, self._bases(stood, ground, rng), ground.mean(1), stood

    def _bases(self, stood: F64, ground: F64, rng: np.random.Generator) -> F64:
        """Poses of bases (N, 4, 4) at x, y, heading (N, 3) on ground (N, 5) from before to behind them."""
        count = len(stood)
        slope = np.arctan2(ground[:, :2].mean(1) - ground[:, 3:].mean(1), 1.5 * AHEAD)
        zero = np.zeros(count)
        yaw, pitch, roll = stood[:, 2], rng.normal(0, BENT, count) - slope, rng.normal(0, LEANS, count)
        turns = [np.stack(axes, 1) for axes in ((zero, zero, yaw), (zero, pitch, zero), (roll, zero, zero))]
        about, lean, side = (matrix_from_rotvec(turn) for turn in turns)
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, :3, :3], poses[:, :2, 3] = about @ lean @ side, stood[:, :2]
        poses[:, 2, 3] = ground.mean(1) + self._robot.base_height + rng.normal(0, BOBS, count)
        return poses

    def _earlier(self, scene_of: I64, stood: F64, rng: np.random.Generator) -> tuple[F64, Mask]:
        """Poses of bases (N, 4, 4) a little while ago, and which of them are known (N,); others are anywhere."""
        count = len(stood)
        heading = stood[:, 2] + rng.normal(0, SWAYS, count)
        way = rng.uniform(0, WALKED, count)[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
        then = np.column_stack([stood[:, :2] - way, heading + rng.normal(0, SWAYS, count)])
        ground = np.stack([self._below(scene, one) for scene, one in zip(scene_of.tolist(), then, strict=True)])
        known = _is_stood_on(ground) & (rng.random(count) > BEGINS) & (np.linalg.norm(way, axis=1) > LEAST_APART)
        return self._bases(then, np.where(np.isfinite(ground), ground, 0), rng), known

    def _below(self, scene: int, stood: F64) -> F64:
        """Heights (5,) of the ground from before to behind a robot at x, y, heading (3,)."""
        ahead = AHEAD * np.array([np.cos(stood[2]), np.sin(stood[2])])
        return self._heights(scene, stood[:2] + np.linspace(1, -1, 5)[:, None] * ahead)

    def _stand(self, scene: int, rng: np.random.Generator) -> tuple[F64, F64]:
        """Where a robot stands, x, y [m] and heading [rad], and heights (5,) of the ground from before to behind it."""
        for _ in range(TRIES):
            x, y, yaw = self._on_stairs(scene, rng) if rng.random() < ON_STAIRS else self._anywhere(scene, rng)
            stood = np.array([x, y, yaw])
            ground = self._below(scene, stood)
            if _is_stood_on(ground):
                return stood, ground
        raise TrainError(
            "robots see the ground from where they stand",
            found=f"no place to stand in {self._scenes[scene].lock.reference}",
            remedy="leave the scene out",
        )

    def _on_stairs(self, scene: int, rng: np.random.Generator) -> tuple[float, float, float]:
        """A place and a heading on a way over stairs."""
        ways = self._ways[scene]
        path = ways[rng.integers(len(ways))].path
        length = np.linalg.norm(np.diff(path, axis=0), axis=1)
        part = rng.choice(len(length), p=length / length.sum())
        lead = (path[part + 1] - path[part]) / length[part]
        left = np.array([-lead[1], lead[0]])
        x, y = path[part] + rng.uniform(0, length[part]) * lead + rng.uniform(-ASIDE, ASIDE) * left
        return x, y, float(np.arctan2(lead[1], lead[0]) + rng.uniform(-ASKEW, ASKEW))

    def _anywhere(self, scene: int, rng: np.random.Generator) -> tuple[float, float, float]:
        """A place where robots walk, and a heading."""
        regions = self._scenes[scene].regions
        cells = np.argwhere(regions.walkable)
        x, y = np.array(regions.origin) + (cells[rng.integers(len(cells))] + rng.random(2)) * regions.cell
        return float(x), float(y), float(rng.uniform(-np.pi, np.pi))

    def _heights(self, scene: int, xy: F64) -> F64:
        """Heights of the floor (K,) at places (K, 2) [m]; NaN where there is none."""
        regions = self._scenes[scene].regions
        i, j = np.floor((xy - regions.origin) / regions.cell).astype(np.int64).T
        inside = (i >= 0) & (j >= 0) & (i < regions.height.shape[0]) & (j < regions.height.shape[1])
        found = np.full(len(xy), np.nan)
        found[inside] = regions.height[i[inside], j[inside]]
        return found


def _is_stood_on(ground: F64) -> Mask:
    """Whether robots stand on ground (..., 5) from before to behind them."""
    return np.isfinite(ground).all(-1) & (np.abs(ground[..., 0] - ground[..., -1]) < BELOW)


def _bytes(rgb: F32) -> U8:
    return (255 * np.clip(rgb, 0, 1) + 0.5).astype(np.uint8)

"""What walking robots' cameras see of the ground, drawn anew: on stairs, before and behind them, and anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import TrainError
from pipeline.geometry import matrix_from_rotvec
from pipeline.types import F32, F64, I64, U8
from sim.climbing.stairs import find_stairs
from sim.robots.model import Robot
from sim.scene.scene import SimScene
from sim.sensors.cameras.measured import MeasuredRenderer
from sim.sensors.cameras.renderer import CPU, Loaded, make_renderer
from sim.sensors.ground.camera import LENS, ground_camera
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
TRIES = 100


@dataclass(frozen=True, eq=False)
class GroundImages:
    """N images by one lens.

    Attributes:
        colors: (N, H, W, 3).
        depth: (N, H, W) along the camera's z [m], 0 = unknown.
        flat: (N, H, W) the same of level ground as low as the robot believes that it stands; 0 = none.
        level_from_camera: (N, 4, 4) poses over the true ground under the robots.
    """

    colors: U8
    depth: F32
    flat: F32
    level_from_camera: F64


class GroundViews:
    """Draws images in scenes.

    Raises:
        TrainError: When no scene has stairs, or one no floor to stand on.
    """

    def __init__(self, scenes: Sequence[SimScene], robot: Robot) -> None:
        self._scenes, self._robot = scenes, robot
        self._mount = ground_camera(robot, MapSettings())[0].link_from_camera
        self._renderer = MeasuredRenderer(
            make_renderer(Loaded([scene.splat for scene in scenes]), CPU),
            [scene.collision for scene in scenes],
            colors=True,
        )
        self._ways = [find_stairs(one.regions) for one in scenes]
        self._with_stairs = np.flatnonzero([bool(ways) for ways in self._ways])
        if not len(self._with_stairs):
            raise TrainError(
                "robots learn to see stairs where there are some",
                found=f"none in {len(scenes)} scenes",
                remedy="splatyard rooms 64 --with stairs --out stairs makes scenes that have some",
            )

    def draw(self, count: int, rng: np.random.Generator) -> GroundImages:
        """Draw images."""
        scene_of, poses, level = self._poses(count, rng)
        mount = self._mount
        assert mount is not None
        cameras = poses @ mount.matrix
        rgb, depth = self._renderer.render(LENS, cameras, scene_of)
        level_from_camera, believed = cameras.copy(), cameras.copy()
        level_from_camera[:, 2, 3] -= level
        believed[:, 2, 3] -= level + rng.normal(0, LEVEL, count)
        colors = (255 * np.clip(rgb, 0, 1) + 0.5).astype(np.uint8)
        return GroundImages(colors, depth, flat_floor(LENS, believed), level_from_camera)

    def _poses(self, count: int, rng: np.random.Generator) -> tuple[I64, F64, F64]:
        """Scenes (N,), poses of bases (N, 4, 4), and heights of the ground under them (N,) [m]."""
        scene_of = rng.choice(self._with_stairs, count)
        poses, level = np.tile(np.eye(4), (count, 1, 1)), np.zeros(count)
        for row, scene in enumerate(scene_of.tolist()):
            (x, y, yaw), ground = self._stand(scene, rng)
            level[row] = ground.mean()
            pitch = -np.arctan2(ground[:2].mean() - ground[3:].mean(), 1.5 * AHEAD) + rng.normal(0, BENT)
            turn = matrix_from_rotvec(np.array([[0, 0, yaw], [0, pitch, 0], [rng.normal(0, LEANS), 0, 0]]))
            poses[row, :3, :3] = turn[0] @ turn[1] @ turn[2]
            poses[row, :3, 3] = x, y, level[row] + self._robot.base_height + rng.normal(0, BOBS)
        return scene_of, poses, level

    def _stand(self, scene: int, rng: np.random.Generator) -> tuple[tuple[float, float, float], F64]:
        """Where a robot stands, x, y [m] and heading [rad], and heights (5,) of the ground from before to behind it."""
        for _ in range(TRIES):
            x, y, yaw = self._on_stairs(scene, rng) if rng.random() < ON_STAIRS else self._anywhere(scene, rng)
            ahead = AHEAD * np.array([np.cos(yaw), np.sin(yaw)])
            ground = self._heights(scene, np.array([x, y]) + np.linspace(1, -1, 5)[:, None] * ahead)
            if np.isfinite(ground).all() and abs(ground[0] - ground[-1]) < BELOW:
                return (x, y, yaw), ground
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

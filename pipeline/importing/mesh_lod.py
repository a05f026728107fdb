"""The `sim` level of detail of a mesh alone: Gaussians where robots see detail, fitted to images of the mesh itself.

How many Gaussians an area gets follows how many pixels of robots' cameras show it, and how much its colour changes:
for an error that falls with the area of a Gaussian, the sum is least where the number goes with the root of both.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from pipeline.coverage.stage import horizontal_rotation
from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.geometry.surfels import Demand, barycentric, surfels
from pipeline.importing.sim_lod import CAMERA, EYE_HEIGHT
from pipeline.importing.skin import Skin
from pipeline.raster import contiguous
from pipeline.splat.initialization import Initialization
from pipeline.splat.lod import REFIT_POSITION_RATE
from pipeline.splat.params import SplatParams
from pipeline.splat.schedule import Schedule
from pipeline.splat.train import fit
from pipeline.splat.views import training_view
from pipeline.types import F64, I64

logger = logging.getLogger(__name__)

SEED = 0
SAMPLES, RAYS = 40_000, 40_000
"""Points that tell colours, and rays of robots' cameras that tell what these show."""
ALIKE = 9
"""Points around one, with itself, that tell how much colours change there."""
SHOWN_BY = 12
"""Rays that tell how many fall on an area."""
STEEPEST = 0.8
"""Slope of the rays above or below level up to which cameras see."""
LEAST_SHOWN, LEAST_CHANGE = 0.05, 0.03
"""Least pixels on an area relative to the mean, and least change of colour: what nobody sees still gets some."""
VIEWS, ITERATIONS = 64, 220
"""Images of the mesh, and steps of the fit: a few CPU-seconds for a room."""
POSITION_RATE = 3 * REFIT_POSITION_RATE


def sim_lod_of_mesh(skin: Skin, eyes: F64, budget: int) -> Gaussians:
    """About `budget` Gaussians without view-dependent colour, of a mesh in the world frame [m].

    `eyes` (N, 3) stand over its floor; where there are none, the Gaussians lie evenly and are not fitted.
    """
    if not len(eyes):
        return _without_view_dependence(surfels(skin.mesh, budget, skin.colors_at))
    rng = np.random.default_rng(SEED)
    eyes = eyes * [1, 1, 0] + np.array([0, 0, EYE_HEIGHT])
    rough = _without_view_dependence(surfels(skin.mesh, budget, skin.colors_at, _demand(skin, eyes, rng)))
    views = [
        training_view(str(number), (255 * draw(skin, CAMERA, pose)).round().astype(np.uint8), CAMERA, pose, None)
        for number, pose in enumerate(robot_poses(eyes, VIEWS, rng))
    ]
    logger.info("fitting %d Gaussians to %d images of the mesh", len(rough), len(views))
    schedule = Schedule(ITERATIONS, half_from=0, whole_from=0, densify=None, position_rate=POSITION_RATE)
    halves = [replace(view, levels=view.levels[1:]) for view in views]
    params = SplatParams(depth_weight=0)  # the images have no depth
    return fit(
        Initialization(rough, 0), [*views, *halves], schedule, params, rng, description="level of detail"
    ).gaussians


def robot_poses(eyes: F64, count: int, rng: np.random.Generator) -> list[Pose]:
    """World-from-camera poses of cameras that look level in any direction, from some of the eyes (N, 3)."""
    yaws = rng.uniform(0, 2 * np.pi, count)
    chosen = eyes[rng.integers(0, len(eyes), count)]
    return [Pose(horizontal_rotation(yaw), eye) for yaw, eye in zip(yaws, chosen, strict=True)]


def draw(skin: Skin, camera: Camera, world_from_camera: Pose) -> F64:
    """The mesh's colours (H, W, 3), 0..1, at the middle of each pixel; black where there is no mesh."""
    directions = world_from_camera.rotate(camera.rays()).reshape(-1, 3)
    start = world_from_camera.translation
    hits = RayCaster(skin.mesh).cast(np.broadcast_to(start, directions.shape), directions)
    points = start + directions[hits.hit] * hits.distance[hits.hit, None]
    image = np.zeros(directions.shape)
    image[hits.hit] = np.clip(_colors(skin, points, hits.triangle[hits.hit]), 0, 1)
    return image.reshape(camera.height, camera.width, 3)


def _colors(skin: Skin, points: F64, triangles: I64) -> F64:
    corners = skin.mesh.corners()[triangles].astype(np.float64)
    return skin.colors_at(triangles, barycentric(points[:, None], corners)[:, 0])


def _without_view_dependence(gaussians: Gaussians) -> Gaussians:
    return contiguous(replace(gaussians, sh=gaussians.sh[:, :1]))


def _demand(skin: Skin, eyes: F64, rng: np.random.Generator) -> Demand:
    """Gaussians for an area, by what cameras at the eyes (N, 3) show of it and by its colours."""
    points, triangles = sample_surface(skin.mesh, SAMPLES, rng)
    places = points.astype(np.float64)
    tree = KDTree(places)
    around = tree.query(places, ALIKE)[1]
    change = _colors(skin, places, triangles)[around].std(1).mean(1)
    shown = _shown(skin.mesh, eyes, places, rng)
    wanted = np.sqrt(np.maximum(shown, LEAST_SHOWN) * (change**2 + LEAST_CHANGE**2))
    wanted /= wanted.mean()

    def at(asked: F64) -> F64:
        return wanted[tree.query(asked)[1]]

    return at


def _shown(mesh: Mesh, eyes: F64, places: F64, rng: np.random.Generator) -> F64:
    """How densely rays from the eyes (N, 3) hit a mesh about places on it (P, 3), relative to the mean (P,)."""
    yaws, slopes = rng.uniform(0, 2 * np.pi, RAYS), rng.uniform(-STEEPEST, STEEPEST, RAYS)
    directions, starts = np.column_stack([np.cos(yaws), np.sin(yaws), slopes]), eyes[rng.integers(0, len(eyes), RAYS)]
    hits = RayCaster(mesh).cast(starts, directions)
    seen = starts[hits.hit] + directions[hits.hit] * hits.distance[hits.hit, None]
    if len(seen) < SHOWN_BY:
        return np.ones(len(places))
    density = KDTree(seen).query(places, SHOWN_BY)[0][:, -1].clip(1e-3) ** -2.0
    return density / density.mean()

"""Guesses for what no photo shows and a robot may look at: backs of thin things, and holes in the surroundings.

A robot's camera stands lower than the phone did. It sees the table from below, where the splat has only the bright top
from behind, and parts of ceilings and walls that lie outside every photo, where the splat has nothing. Neither looks
like any place on earth. What is put there is a guess from its neighbourhood: plain, and at the right place. The
coverage map doesn't trust it, since it asks what the photos have seen.

Guesses take part in training without being trained: hidden from all photos, they would follow chance gradients; but
what is before them learns to hide them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from pipeline.geometry import SH_C0, Camera, Gaussians, PointCloud, Pose
from pipeline.splat.free_space import FreeSpace
from pipeline.splat.raster import rasterize, render
from pipeline.splat.start import quaternions_to
from pipeline.splat.views import TrainingView
from pipeline.splat.weights import add_weights, grey

SPACING = 0.012
"""Between the discs of a back, as a share of the typical distance from a camera to what it sees."""
DEPTHS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16)
"""Where free space is looked for behind a surface, as shares of that distance: what is thicker is solid."""
THICKNESS = 0.013
"""Of a thing with free space behind it, as a share of that distance: where its back is put."""
SURE = 9.0
"""Sigmas of a front that must fit into that thickness, or its back comes out before it: many, since what a sensor gets
wrong everywhere is not in its sigma."""
RIM_POINTS, RIM_OFFSET = 9, 0.5
"""Nearest points whose mean must lie near a point, and how near [spacings]."""
SMOOTHING = 32
"""Points of the surface whose colours a back averages."""
UPRIGHT_SHADE, UNDER_SHADE = 0.75, 0.5
"""Brightness of a back relative to its front: of an upright one, of one that faces down. Light comes from above."""
OPACITY = 0.95
OBTRUSIVE = 0.05
"""Pixels that a guess may wrongly fill in a view of quarter size, on average over the views."""
LEAST_WEIGHT = 0.02

STANDPOINTS, CANDIDATES = 24, 4000
"""Places in free space from which holes are looked for, and how many are drawn to choose them from."""
CLEARANCE = 0.1
"""Of such a place from the nearest surface, as a share of the typical distance."""
FACE_SIDE, HOLE_STEP = 128, 3
"""Side of each of the six pictures taken from a place, and distance of the discs in a hole [px]."""
MAX_FROM_RIM = 32
"""How far into a hole its rim is continued [px]."""
MAX_HOLE = 0.5
"""Pictures with a larger share of holes look out of the scene: they are left as they are."""
MAX_OPEN = 0.2
"""Where the places see a larger share of holes all around, on average, one side of something was captured and not a
room: what continues its rims would hang in the air. 0.03 in a hall, 0.55 before a wall."""
MAX_FROM_CLOUD = 0.6
"""How far from the cloud a hole is filled, as a share of the typical distance."""
COVERED, SOLID = 0.5, 0.9
"""Pixels with less alpha are holes; with more they tell depth and colour of the rim."""
MAX_CONTINUED = 2.0
"""Largest factor of depth between a rim and where its plane is met."""


@dataclass(frozen=True, eq=False)
class Guessed:
    """What is put into a splat.

    Attributes:
        backs: Discs behind thin surfaces.
        fillings: Discs in holes.
    """

    backs: Gaussians
    fillings: Gaussians

    @property
    def gaussians(self) -> Gaussians:
        """All of them."""
        return joined(self.backs, self.fillings)


def guess_unseen(
    gaussians: Gaussians,
    cloud: PointCloud,
    free: FreeSpace,
    views: Sequence[TrainingView],
    limit: int,
    rng: np.random.Generator,
) -> Guessed:
    """Guess backs and fillings.

    Args:
        gaussians: On the cloud; not changed.
        cloud: The shared cloud, world frame (Z up).
        free: What the views see through; without depth in them nothing is known to be free, and nothing is guessed.
        views: The training views.
        limit: How many of each kind may be added.
        rng: Draws the places from which holes are looked for.
    """
    coefficients = gaussians.sh.shape[1]
    distance = free.typical_depth
    if not distance:
        return Guessed(_none(coefficients), _none(coefficients))
    backs = _unobtrusive(_backs(cloud, free, distance, coefficients), views, unknown=False)[:limit]
    fillings = _fillings(joined(gaussians, backs), cloud, free, distance, rng)
    return Guessed(backs, _unobtrusive(fillings, views, unknown=True)[:limit])


def _unobtrusive(guessed: Gaussians, views: Sequence[TrainingView], *, unknown: bool) -> Gaussians:
    """Those of the guesses that hide no known surface in any view, and with `unknown` no pixel without depth."""
    if not len(guessed):
        return guessed
    plain = grey(guessed)
    wrong = np.zeros(len(guessed))
    for view in views:
        level = view.levels[-1]
        height, width = level.photo.shape[1:]
        raster = rasterize(plain, level.camera, view.world_from_camera)
        weight = (1 - raster.transmittance)[:height, :width]
        if weight.max() < LEAST_WEIGHT:
            continue
        before = np.full(weight.shape, unknown)
        if level.depth is not None:
            shown = raster.planes[3, :height, :width] / np.maximum(weight, LEAST_WEIGHT)
            known = level.depth.depth > 0
            before = np.where(known, shown < level.depth.depth - level.depth.tolerance, unknown)
        add_weights(wrong, raster, plain, before)
    return guessed[np.flatnonzero(wrong < OBTRUSIVE * len(views))]


def joined(a: Gaussians, b: Gaussians) -> Gaussians:
    """Both, one after the other; b gets as many SH coefficients as a has, and is drawn as a is."""
    sh = np.zeros((len(b), *a.sh.shape[1:]), np.float32)
    shared = min(a.sh.shape[1], b.sh.shape[1])
    sh[:, :shared] = b.sh[:, :shared]
    return replace(
        a,
        means=np.concatenate([a.means, b.means]),
        log_scales=np.concatenate([a.log_scales, b.log_scales]),
        quaternions=np.concatenate([a.quaternions, b.quaternions]),
        opacity_logits=np.concatenate([a.opacity_logits, b.opacity_logits]),
        sh=np.concatenate([a.sh, sh]),
    )


def _backs(cloud: PointCloud, free: FreeSpace, distance: float, coefficients: int) -> Gaussians:
    """Discs just behind surfaces that have free space behind them, and no surface of their own there."""
    has_normal = np.flatnonzero(np.linalg.norm(cloud.normals, axis=1) > 0.5)
    if len(has_normal) < SMOOTHING:
        return _none(coefficients)
    all_points = cloud.points[has_normal].astype(np.float64)
    all_normals = cloud.normals[has_normal].astype(np.float64)
    spacing = SPACING * distance
    cells = np.floor(all_points / spacing).astype(np.int64)
    chosen = np.unique(cells, axis=0, return_index=True)[1]
    grid = KDTree(all_points[chosen])
    chosen = chosen[SURE * cloud.sigma[has_normal[chosen]] < THICKNESS * distance]
    points, normals = all_points[chosen], all_normals[chosen]

    behind = np.full(len(points), np.inf)
    for depth in DEPTHS[::-1]:
        through, at = free.votes(points - depth * distance * normals)
        open_there = (through >= 2) & (through > at)
        behind[open_there] = depth * distance
    thin = np.flatnonzero(np.isfinite(behind))
    points, normals, behind = points[thin], normals[thin], behind[thin]
    if not len(points):
        return _none(coefficients)
    tree = KDTree(all_points)
    wanted = _inside(grid, points, spacing) & ~_back_known(tree, all_normals, points, normals, behind, distance)
    points, normals, behind = points[wanted], normals[wanted], behind[wanted]
    if not len(points):
        return _none(coefficients)
    middle = points - np.minimum(0.5 * behind, THICKNESS * distance)[:, None] * normals

    around = np.asarray(tree.query(points, SMOOTHING)[1])
    colors = cloud.colors[has_normal][around].astype(np.float64).mean(1) / 255
    down = np.clip(normals[:, 2], 0, 1)  # the back of what faces up faces down
    shade = UPRIGHT_SHADE + (UNDER_SHADE - UPRIGHT_SHADE) * down
    scales = np.tile([0.6 * spacing, 0.6 * spacing, 0.1 * spacing], (len(points), 1))
    return _gaussians(middle, scales, quaternions_to(normals), colors * shade[:, None], coefficients)


def _inside(grid: KDTree, points: NDArray[np.float64], spacing: float) -> NDArray[np.bool_]:
    """Which points (N,) of the evenly spaced `grid` have others all around: a disc behind a rim is seen past it."""
    around = np.asarray(grid.data)[np.asarray(grid.query(points, RIM_POINTS)[1])]
    return np.linalg.norm(around.mean(1) - points, axis=1) < RIM_OFFSET * spacing


def _back_known(
    tree: KDTree,
    all_normals: NDArray[np.float64],
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    behind: NDArray[np.float64],
    distance: float,
) -> NDArray[np.bool_]:
    """Behind which points (N,) the cloud has a surface that faces the other way: the thing was seen from there too."""
    known = np.zeros(len(points), bool)
    for depth in (0.5 * THICKNESS, *DEPTHS):
        near, neighbours = (np.asarray(v) for v in tree.query(points - depth * distance * normals, 8))
        opposite = np.einsum("nkd,nd->nk", all_normals[neighbours], normals) < -0.3
        found = (opposite & (near < 2 * SPACING * distance)).any(1)
        known |= found & (depth * distance <= 1.5 * behind)
    return known


def _fillings(
    gaussians: Gaussians, cloud: PointCloud, free: FreeSpace, distance: float, rng: np.random.Generator
) -> Gaussians:
    """Discs where somebody standing in free space would look through a hole, at the depth and colour of its rim.

    Those nearest to a rim come first.
    """
    count = len(gaussians)
    camera = Camera(FACE_SIDE, FACE_SIDE, FACE_SIDE / 2, FACE_SIDE / 2, FACE_SIDE / 2, FACE_SIDE / 2)
    poses = [Pose(turn, place) for place in _standpoints(cloud, free, distance, rng) for turn in _faces()]
    openness = [(render(gaussians, camera, pose).alpha < COVERED).mean() for pose in poses]
    if not poses or np.mean(openness) > MAX_OPEN:
        return gaussians[:0]
    from_rim = [np.zeros(0)]
    tree = KDTree(cloud.points)
    for pose in poses:
        added, away = _in_face(gaussians, cloud, tree, free, camera, pose)
        near = np.flatnonzero(np.asarray(tree.query(added.means)[0]) < MAX_FROM_CLOUD * distance)
        gaussians = joined(gaussians, added[near])
        from_rim.append(away[near])
    return gaussians[count + np.argsort(np.concatenate(from_rim), kind="stable")]


def _standpoints(cloud: PointCloud, free: FreeSpace, distance: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Places (N, 3) in free space, away from surfaces and far from each other."""
    low, high = np.percentile(cloud.points.astype(np.float64), [1, 99], axis=0)
    candidates = rng.uniform(low, high, (CANDIDATES, 3))
    candidates = candidates[free.floating(candidates)]
    if len(candidates):
        candidates = candidates[np.asarray(KDTree(cloud.points).query(candidates)[0]) > CLEARANCE * distance]
    chosen: list[NDArray[np.float64]] = []
    apart = np.full(len(candidates), np.inf)
    while len(chosen) < STANDPOINTS and len(candidates) and apart.max() > 0:
        chosen.append(candidates[int(apart.argmax())])
        apart = np.minimum(apart, np.linalg.norm(candidates - chosen[-1], axis=1))
    return np.array(chosen).reshape(-1, 3)


def _faces() -> list[NDArray[np.float64]]:
    """World-from-camera rotations that look along the six axes."""
    rotations = []
    for forward, right in (((1, 0, 0), (0, -1, 0)), ((0, 1, 0), (1, 0, 0)), ((0, 0, 1), (1, 0, 0))):
        for sign in (1, -1):
            z, x = sign * np.array(forward, float), np.array(right, float)
            rotations.append(np.stack([x, np.cross(z, x), z], 1))
    return rotations


def _in_face(
    gaussians: Gaussians, cloud: PointCloud, tree: KDTree, free: FreeSpace, camera: Camera, pose: Pose
) -> tuple[Gaussians, NDArray[np.float64]]:
    """Discs for one picture from a standpoint, and how far from the rim each one is [px]."""
    coefficients = gaussians.sh.shape[1]
    picture = render(gaussians, camera, pose)
    hole = picture.alpha < COVERED
    solid = picture.alpha > SOLID
    if not 0 < hole.mean() <= MAX_HOLE or not solid.any():
        return _none(coefficients), np.zeros(0)
    chosen = np.zeros_like(hole)
    chosen[1::HOLE_STEP, 1::HOLE_STEP] = hole[1::HOLE_STEP, 1::HOLE_STEP]
    rows, columns = np.nonzero(chosen)
    from_rim = np.asarray(distance_transform_edt(hole))
    nearest = np.asarray(distance_transform_edt(~solid, return_distances=False, return_indices=True))
    near = from_rim[rows, columns] <= MAX_FROM_RIM
    rows, columns = rows[near], columns[near]
    rim = nearest[:, rows, columns]
    weight = solid.astype(np.float32)
    smooth = cv2.blur(picture.rgb * weight[..., None], (9, 9)) / np.maximum(cv2.blur(weight, (9, 9)), 1e-3)[..., None]
    colors = smooth[rim[0], rim[1]].astype(np.float64)
    rays = camera.rays(np.stack([columns, rows], -1) + 0.5)
    rim_depth = picture.depth[rim[0], rim[1]].astype(np.float64)
    at_rim = pose.apply(camera.rays(np.stack([rim[1], rim[0]], -1) + 0.5) * rim_depth[:, None])
    known = np.asarray(tree.query(at_rim)[1])  # the mean depth of overlapping Gaussians lies before their surface
    points, normals = cloud.points[known].astype(np.float64), cloud.normals[known].astype(np.float64)
    means = pose.apply(rays * _continued(rim_depth, points, normals, pose, rays)[:, None])
    depth = pose.inverse().apply(means)[:, 2]
    width = 0.7 * HOLE_STEP * depth / camera.fx
    scales = np.stack([width, width, 0.1 * width], 1)
    kept = np.flatnonzero((depth > 0) & ~free.floating(means) & ~free.looked_at(means))
    discs = _gaussians(means, scales, quaternions_to(normals), colors, coefficients)
    return discs[kept], from_rim[rows, columns][kept]


def _continued(
    rim_depth: NDArray[np.float64],
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    pose: Pose,
    rays: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Depths (N,) at which rays meet the plane of their rim; the rim's own where that leads too far."""
    directions = pose.rotate(rays)
    towards = np.einsum("nd,nd->n", normals, directions)
    height = np.einsum("nd,nd->n", normals, points - pose.translation)
    depth = height / np.where(np.abs(towards) > 1e-6, towards, 1e-6)
    near = (depth > rim_depth / MAX_CONTINUED) & (depth < rim_depth * MAX_CONTINUED)
    return np.where(near, depth, rim_depth)


def _gaussians(
    means: NDArray[np.float64],
    scales: NDArray[np.float64],
    quaternions: NDArray[np.float64],
    colors: NDArray[np.float64],
    coefficients: int,
) -> Gaussians:
    sh = np.zeros((len(means), coefficients, 3), np.float32)
    sh[:, 0] = (colors - 0.5) / SH_C0
    return Gaussians(
        means.astype(np.float32),
        np.log(np.maximum(scales, 1e-9)).astype(np.float32),
        quaternions.astype(np.float32),
        np.full(len(means), np.log(OPACITY / (1 - OPACITY)), np.float32),
        sh,
    )


def _none(coefficients: int) -> Gaussians:
    empty = np.zeros((0, 3))
    return _gaussians(empty, empty, np.zeros((0, 4)), empty, coefficients)

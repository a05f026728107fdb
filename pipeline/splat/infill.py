"""Infill: Gaussians for what no photo shows and a robot may see, backs of thin objects and holes in the surroundings.

A robot's camera is lower than the phone was: it sees the table from below, where the splat has only the bright top from
behind, and parts of ceilings and walls outside every photo. What is put there is inpainted from its neighbourhood. It
takes part in training without being trained: hidden from all photos, it would follow random gradients; but what is in
front of it learns to hide it. The coverage map doesn't trust it, since it asks what the photos have seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from pipeline.geometry import Camera, Gaussians, Mesh, PointCloud, Pose, farthest_points, quaternions_from_z
from pipeline.geometry.rays import sample_surface
from pipeline.raster import blending_weights, grey, rasterize, render
from pipeline.splat.priors import BACK_SPACING, FreeSpace
from pipeline.splat.views import TrainingView
from pipeline.types import F64, Mask

DEPTHS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16)
"""Where free space is looked for behind a surface, as shares of the typical distance from a camera to what it sees:
what is thicker is solid."""
THICKNESS = 0.013
"""Assumed thickness of an object with free space behind it, as a share of that distance: where its back is put."""
FRONT_SIGMAS = 9.0
"""Sigmas of a front that must fit into that thickness, or its back comes out in front of it: many, since what a sensor
gets wrong everywhere is not in its sigma."""
RIM_POINTS = 9
"""Nearest points whose mean must lie near a point that is not at a rim."""
RIM_OFFSET = 0.5
"""Largest distance of that mean [spacings]."""
COLOR_POINTS = 32
"""Points of the surface whose mean colour a back gets."""
UPRIGHT_SHADE = 0.75
"""Brightness of an upright back relative to its front."""
UNDER_SHADE = 0.5
"""The same of a back that faces down: light comes from above."""
OPACITY = 0.95
"""Opacity of inpainted Gaussians."""
MIN_SCALE = 1e-9
"""Lower bound of their standard deviations [world units]."""
OBTRUSIVE = 0.05
"""Pixels that an inpainted Gaussian may wrongly fill in a view of quarter size, on average over the views."""
MIN_WEIGHT = 0.02
"""Alpha up to which inpainted Gaussians do not count in a pixel."""

LINING_SPACING, TRIES = 0.01, 30.0
"""Distance of the discs that line guessed faces, at least [typical depth], and places tried for each."""
KNOWN = 0.01
"""Distance from the cloud up to which guessed faces are not lined [typical depth]."""
TURNED = 0.3
"""Distance [typical depth] that a normal turned by a radian counts as, where a guessed face gets the colour of the
nearest points: rather of the surface that it continues."""
CONTINUED = 0.8
"""Cosine to the mean of their normals from which on the face continues them."""
LININGS = 3
"""Times as many such discs as others."""
LINING_OBTRUSIVE = 0.001
"""As `OBTRUSIVE`: these lie at edges, where views see past what is before them."""

VIEWPOINTS = 24
"""Positions in free space from which holes are looked for."""
CANDIDATES = 4000
"""Random positions from which they are chosen."""
CLEARANCE = 0.1
"""Distance of a viewpoint from the nearest surface, as a share of the typical distance."""
FACE_SIDE, FACE_MARGIN = 128, 16
"""Side of each of the six images of a cube map at a viewpoint [px], and what is drawn round it: at the border of an
image Gaussians are cut short, which looks like a hole."""
HOLE_STEP = 5
"""Distance between the discs in a hole [px]."""
MAX_FROM_RIM = 32
"""Distance up to which a rim is continued into its hole [px]."""
MAX_HOLE = 0.5
"""Images with a larger share of holes look out of the scene and are left alone."""
MAX_OPEN = 0.2
"""Where the viewpoints see a larger share of holes all around, on average, one side of something was captured and not a
room: what continues its rims would hang in the air. 0.03 in a hall, 0.55 in front of a wall."""
MAX_FROM_CLOUD = 0.6
"""Distance from the cloud up to which a hole is filled, as a share of the typical distance."""
COVERED = 0.5
"""Pixels with less alpha are holes."""
SOLID = 0.9
"""Pixels with more alpha give depth and colour of the rim."""
MAX_CONTINUED = 2.0
"""Largest factor between the depths of a rim and of the point where its plane is met."""


def infill(
    gaussians: Gaussians,
    cloud: PointCloud,
    free: FreeSpace,
    views: Sequence[TrainingView],
    limit: int,
    rng: np.random.Generator,
    guessed: Mesh | None = None,
) -> tuple[Gaussians, Gaussians]:
    """Discs behind surfaces and discs in holes, at most `limit` of each [world frame, Z up].

    Surfaces are thin, or guessed faces of a mesh continue them: a floor under the camera's own path, the back of what
    stands there. Without depth in the views nothing is known to be free, and nothing is inpainted.
    """
    nothing, distance = gaussians[:0], free.typical_depth
    if not distance:
        return nothing, nothing
    backs = _unobtrusive(_backs(cloud, free, distance, nothing), views, unknown=False)[:limit]
    if guessed is not None and len(guessed.triangles):
        lined = _linings(guessed, cloud, distance, LININGS * limit, nothing)
        lined = _unobtrusive(lined, views, unknown=False, most=LINING_OBTRUSIVE)
        backs = Gaussians.concatenate([lined, backs])
    fillings = _fillings(Gaussians.concatenate([gaussians, backs]), cloud, free, distance, rng)
    return backs, _unobtrusive(fillings, views, unknown=True)[:limit]


def _unobtrusive(
    inpainted: Gaussians, views: Sequence[TrainingView], *, unknown: bool, most: float = OBTRUSIVE
) -> Gaussians:
    """The inpainted Gaussians that hide no known surface in any view, and with `unknown` no pixel without depth."""
    if not len(inpainted):
        return inpainted
    plain = grey(inpainted)
    wrong = np.zeros(len(inpainted))
    for view in views:
        level = view.levels[-1]
        height, width = level.photo.shape[1:]
        raster = rasterize(plain, level.camera, view.world_from_camera)
        weight = (1 - raster.transmittance)[:height, :width]
        if weight.max() < MIN_WEIGHT:
            continue
        in_front = np.full(weight.shape, unknown)
        if level.depth is not None:
            shown = raster.planes[3, :height, :width] / np.maximum(weight, MIN_WEIGHT)
            known = level.depth.depth > 0
            in_front = np.where(known, shown < level.depth.depth - level.depth.tolerance, unknown)
        wrong += blending_weights(raster, plain, in_front)
    return inpainted[np.flatnonzero(wrong < most * len(views))]


def _linings(guessed: Mesh, cloud: PointCloud, distance: float, limit: int, nothing: Gaussians) -> Gaussians:
    """Discs just inside of the guessed faces of a mesh, where the cloud has no points.

    A face that continues a surface has its colour; the back of one is darker.
    """
    area = float(guessed.face_areas().sum())
    spacing = max(LINING_SPACING * distance, np.sqrt(area / limit))
    points, faces = sample_surface(guessed, int(TRIES * area / spacing**2) + 1, np.random.default_rng(0))
    kept = np.unique(np.floor(points / spacing).astype(np.int64), axis=0, return_index=True)[1]
    points, normals = points[kept].astype(np.float64), guessed.face_normals()[faces[kept]]
    unknown = np.asarray(KDTree(cloud.points).query(points, workers=-1)[0]) > KNOWN * distance
    points, normals = points[unknown], normals[unknown]
    if not len(points):
        return nothing
    turn = TURNED * distance
    tree = KDTree(np.concatenate([cloud.points, turn * cloud.normals], 1))
    around = tree.query(np.concatenate([points, turn * normals], 1), min(COLOR_POINTS, len(cloud)), workers=-1)[1]
    around = np.asarray(around).reshape(len(points), -1)
    colors = cloud.colors[around].astype(np.float64).mean(1) / 255
    alike = np.einsum("nd,nd->n", normals, cloud.normals[around].astype(np.float64).mean(1)) > CONTINUED
    shade = UPRIGHT_SHADE + (UNDER_SHADE - UPRIGHT_SHADE) * np.clip(-normals[:, 2], 0, 1)
    shade[alike] = 1.0
    scales = np.tile([0.6 * spacing, 0.6 * spacing, 0.1 * spacing], (len(points), 1))
    middles = points - 0.2 * spacing * normals
    return _discs(middles, scales, quaternions_from_z(-normals), colors * shade[:, None], nothing.sh.shape[1])


def _backs(cloud: PointCloud, free: FreeSpace, distance: float, nothing: Gaussians) -> Gaussians:
    """Discs just behind surfaces that have free space behind them, and no surface of their own there."""
    has_normal = np.flatnonzero(np.linalg.norm(cloud.normals, axis=1) > 0.5)
    if len(has_normal) < COLOR_POINTS:
        return nothing
    all_points = cloud.points[has_normal].astype(np.float64)
    all_normals = cloud.normals[has_normal].astype(np.float64)
    spacing = BACK_SPACING * distance
    cells = np.floor(all_points / spacing).astype(np.int64)
    chosen = np.unique(cells, axis=0, return_index=True)[1]
    grid = KDTree(all_points[chosen])
    chosen = chosen[FRONT_SIGMAS * cloud.sigma[has_normal[chosen]] < THICKNESS * distance]
    points, normals = all_points[chosen], all_normals[chosen]

    behind = np.full(len(points), np.inf)
    for depth in DEPTHS[::-1]:
        through, at, _ = free.votes(points - depth * distance * normals)
        open_there = (through >= 2) & (through > at)
        behind[open_there] = depth * distance
    thin = np.flatnonzero(np.isfinite(behind))
    points, normals, behind = points[thin], normals[thin], behind[thin]
    if not len(points):
        return nothing
    tree = KDTree(all_points)
    # a disc behind a rim is seen past it: points must have others all around
    around = np.asarray(grid.data)[np.asarray(grid.query(points, RIM_POINTS, workers=-1)[1])]
    inside = np.linalg.norm(around.mean(1) - points, axis=1) < RIM_OFFSET * spacing
    usable = inside & ~_back_known(tree, all_normals, points, normals, behind, distance)
    points, normals, behind = points[usable], normals[usable], behind[usable]
    if not len(points):
        return nothing
    middle = points - np.minimum(0.5 * behind, THICKNESS * distance)[:, None] * normals

    around = np.asarray(tree.query(points, COLOR_POINTS, workers=-1)[1])
    colors = cloud.colors[has_normal][around].astype(np.float64).mean(1) / 255
    down = np.clip(normals[:, 2], 0, 1)  # the back of what faces up faces down
    shade = UPRIGHT_SHADE + (UNDER_SHADE - UPRIGHT_SHADE) * down
    scales = np.tile([0.6 * spacing, 0.6 * spacing, 0.1 * spacing], (len(points), 1))
    return _discs(middle, scales, quaternions_from_z(normals), colors * shade[:, None], nothing.sh.shape[1])


def _back_known(tree: KDTree, all_normals: F64, points: F64, normals: F64, behind: F64, distance: float) -> Mask:
    """Behind which points (N,) the cloud has a surface that faces the other way: the object was seen from there too."""
    known = np.zeros(len(points), bool)
    for depth in (0.5 * THICKNESS, *DEPTHS):
        near, neighbours = (np.asarray(v) for v in tree.query(points - depth * distance * normals, 8, workers=-1))
        opposite = np.einsum("nkd,nd->nk", all_normals[neighbours], normals) < -0.3
        found = (opposite & (near < 2 * BACK_SPACING * distance)).any(1)
        known |= found & (depth * distance <= 1.5 * behind)
    return known


def _fillings(
    gaussians: Gaussians, cloud: PointCloud, free: FreeSpace, distance: float, rng: np.random.Generator
) -> Gaussians:
    """Discs where an eye in free space would see a hole, at its rim's depth and colour; nearest to a rim first."""
    count = len(gaussians)
    side = FACE_SIDE + 2 * FACE_MARGIN
    camera = Camera(side, side, FACE_SIDE / 2, FACE_SIDE / 2, side / 2, side / 2)
    poses = [Pose(face, eye) for eye in _viewpoints(cloud, free, distance, rng) for face in _faces()]
    openness = [(render(gaussians, camera, pose).alpha < COVERED).mean() for pose in poses]
    if not poses or np.mean(openness) > MAX_OPEN:
        return gaussians[:0]
    from_rim = [np.zeros(0)]
    tree, farthest = KDTree(cloud.points), MAX_FROM_CLOUD * distance
    for pose in poses:
        added, away = _in_face(gaussians, cloud, tree, free, camera, pose)
        near = np.flatnonzero(np.isfinite(tree.query(added.means, distance_upper_bound=farthest, workers=-1)[0]))
        gaussians = Gaussians.concatenate([gaussians, added[near]])
        from_rim.append(away[near])
    return gaussians[count + np.argsort(np.concatenate(from_rim), kind="stable")]


def _viewpoints(cloud: PointCloud, free: FreeSpace, distance: float, rng: np.random.Generator) -> F64:
    """Positions (N, 3) in free space, away from surfaces and far from each other."""
    low, high = np.percentile(cloud.points.astype(np.float64), [1, 99], axis=0)
    candidates = rng.uniform(low, high, (CANDIDATES, 3))
    candidates = candidates[free.floating(candidates)]
    if len(candidates):
        candidates = candidates[
            np.asarray(KDTree(cloud.points).query(candidates, workers=-1)[0]) > CLEARANCE * distance
        ]
    return candidates[farthest_points(candidates, VIEWPOINTS)] if len(candidates) else candidates


def _faces() -> list[F64]:
    """World-from-camera rotations that look along the six axes."""
    rotations = []
    for forward, right in (((1, 0, 0), (0, -1, 0)), ((0, 1, 0), (1, 0, 0)), ((0, 0, 1), (1, 0, 0))):
        for sign in (1, -1):
            z, x = sign * np.array(forward, float), np.array(right, float)
            rotations.append(np.stack([x, np.cross(z, x), z], 1))
    return rotations


def _in_face(
    gaussians: Gaussians, cloud: PointCloud, tree: KDTree, free: FreeSpace, camera: Camera, pose: Pose
) -> tuple[Gaussians, F64]:
    """Discs for one image from a viewpoint, and the distance of each from the rim [px]."""
    image = render(gaussians, camera, pose)
    hole = image.alpha < COVERED
    solid = image.alpha > SOLID
    if not 0 < hole.mean() <= MAX_HOLE or not solid.any():
        return gaussians[:0], np.zeros(0)
    chosen = np.zeros_like(hole)
    grid = slice(FACE_MARGIN + 1, -FACE_MARGIN, HOLE_STEP)
    chosen[grid, grid] = hole[grid, grid]
    rows, columns = np.nonzero(chosen)
    from_rim = np.asarray(distance_transform_edt(hole))
    nearest = np.asarray(distance_transform_edt(~solid, return_distances=False, return_indices=True))
    near = from_rim[rows, columns] <= MAX_FROM_RIM
    rows, columns = rows[near], columns[near]
    rim = nearest[:, rows, columns]
    weight = solid.astype(np.float32)
    smooth = cv2.blur(image.rgb * weight[..., None], (9, 9)) / np.maximum(cv2.blur(weight, (9, 9)), 1e-3)[..., None]
    colors = smooth[rim[0], rim[1]].astype(np.float64)
    rays = camera.rays(np.stack([columns, rows], -1) + 0.5)
    rim_depth = image.depth[rim[0], rim[1]].astype(np.float64)
    at_rim = pose.apply(camera.rays(np.stack([rim[1], rim[0]], -1) + 0.5) * rim_depth[:, None])
    # the mean depth of overlapping Gaussians lies in front of their surface
    known = np.asarray(tree.query(at_rim, workers=-1)[1])
    points, normals = cloud.points[known].astype(np.float64), cloud.normals[known].astype(np.float64)
    means = pose.apply(rays * _continued(rim_depth, points, normals, pose, rays)[:, None])
    depth = pose.inverse().apply(means)[:, 2]
    width = 0.7 * HOLE_STEP * depth / camera.fx
    scales = np.stack([width, width, 0.1 * width], 1)
    kept = np.flatnonzero((depth > 0) & ~free.floating(means) & ~free.looked_at(means))
    discs = _discs(means, scales, quaternions_from_z(normals), colors, gaussians.sh.shape[1])
    return discs[kept], from_rim[rows, columns][kept]


def _continued(rim_depth: F64, points: F64, normals: F64, pose: Pose, rays: F64) -> F64:
    """Depths (N,) at which rays meet the plane of their rim; the rim's own where that leads too far."""
    directions = pose.rotate(rays)
    towards = np.einsum("nd,nd->n", normals, directions)
    height = np.einsum("nd,nd->n", normals, points - pose.translation)
    depth = height / np.where(np.abs(towards) > 1e-6, towards, 1e-6)
    near = (depth > rim_depth / MAX_CONTINUED) & (depth < rim_depth * MAX_CONTINUED)
    return np.where(near, depth, rim_depth)


def _discs(means: F64, scales: F64, quaternions: F64, colors: F64, coefficients: int) -> Gaussians:
    scales = np.maximum(scales, MIN_SCALE)
    return Gaussians.from_colors(means, scales, quaternions, colors, OPACITY, coefficients)

"""Initialization: the Gaussians that training starts from.

Flat discs on the shared point cloud; a skybox, where a good part of the images shows nothing near, or the sky would be
built from mist in front of other cameras; balls in the photos' colours where the cloud lacks what they show (windows,
lamps, far surfaces): densification only splits what is there, so a part in which nothing starts would stay black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from pipeline.geometry import Gaussians, Mesh, PointCloud, quaternions_from_z
from pipeline.raster import render
from pipeline.splat.infill import infill
from pipeline.splat.params import SplatParams
from pipeline.splat.priors import FreeSpace
from pipeline.splat.schedule import START_SHARE
from pipeline.splat.views import TrainingView
from pipeline.types import F64

CLOUD_OPACITY = 0.5
"""Opacity of the discs on the cloud."""
CLOUD_FLATNESS = 0.3
"""Their standard deviation along the normal, relative to that across."""
NEIGHBOURS = 3
"""Points whose distance gives a disc its size."""
MIN_SPACING = 1e-4
"""Lower bound of that distance, as a share of the cloud's largest side: coincident points get discs of this size."""
MIN_START = 100
"""Lower bound of the number of Gaussians on the cloud, where the cloud has as many points."""
SKYBOX_SHARE = 0.02
"""Largest number of Gaussians of the skybox, as a share of all: too few to change the scene's radius."""
GAP_SHARE = 0.1
"""Largest number of Gaussians for what the cloud lacks, as a share of all."""
INFILL_SHARE = 0.04
"""Largest number of Gaussians for backs of objects, and again for holes that no photo shows, as a share of all."""
MIN_EXTENT = 0.1
"""Lower bound of the cameras' extent, as a share of the scene's radius: a phone that hardly moved still sees a room."""

COVERED = 0.5
"""Pixels with less alpha are open."""
MIN_OPEN_SHARE = 0.05
"""Share of all pixels that must show neither depth nor Gaussians for a skybox; indoors it is less."""
SKYBOX_DISTANCE = 8.0
"""Distance of the skybox from the cameras' centre [radii of the scene]; the steps of training hardly move it."""
SKYBOX_MAX_SIZE = 0.4
"""Largest standard deviation of its Gaussians [radii of a room]: larger ones are pruned."""
SKYBOX_OVERLAP = 0.6
"""Standard deviation over the spacing."""
SKYBOX_OPACITY = float(1 / (1 + np.exp(-2.0)))
"""Opacity of its Gaussians."""
MIN_PIXELS = 2
"""Open pixels (quarter size) that a direction needs to get a Gaussian."""
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))

GAP_SPACING = 4
"""Distance between two new Gaussians in a gap [px at a quarter of the training size]."""
GAP_SIZE = 2.0
"""Standard deviation of a new Gaussian in a gap [px at a quarter of the training size]."""


@dataclass(frozen=True, eq=False)
class Initialization:
    """What a training starts from."""

    gaussians: Gaussians  # all Gaussians, inpainted ones first, then those of an earlier training
    fixed: int = 0  # number of these Gaussians, which training leaves as they are
    background: int = 0  # number of Gaussians of the skybox
    cloud: PointCloud | None = None  # the shared cloud in the world frame; None imposes no priors
    free: FreeSpace | None = None  # free space that the views prove
    earlier: int = 0  # number of those of an earlier training, which hold the exposure that the splat has


def initialize(
    cloud: PointCloud,
    views: Sequence[TrainingView],
    max_gaussians: int,
    params: SplatParams,
    rng: np.random.Generator,
    cloud_share: float = START_SHARE,
    guessed: Mesh | None = None,
    rooms: float = 1.0,
) -> Initialization:
    """Gaussians on the shared cloud [world frame], for the sky, for gaps of the cloud and for what no view shows.

    `cloud_share` of the number that training may reach, `max_gaussians`, is drawn from the cloud. Guessed faces that
    close a mesh (world frame) tell of what no view shows. The place is as large as so many `rooms`.
    """
    gaussians = on_cloud(cloud, int(cloud_share * max_gaussians), params, rng)
    near = len(gaussians)
    if views:
        limit = max(1, int(SKYBOX_SHARE * max_gaussians))
        sky = skybox(gaussians, views, whole_size(views, gaussians)[1], limit, scene_size(views, gaussians, rooms)[1])
        gaussians = Gaussians.concatenate([gaussians, sky])
    background = len(gaussians) - near
    gaussians = fill_gaps(gaussians, views, int(GAP_SHARE * max_gaussians))
    fixed, free = 0, FreeSpace(views)
    if params.infill:
        inpainted = infill(gaussians, cloud, free, views, int(INFILL_SHARE * max_gaussians), rng, guessed)
        gaussians, fixed = Gaussians.concatenate([*inpainted, gaussians]), sum(map(len, inpainted))
    known = (cloud, free) if params.depth_priors else (None, None)
    return Initialization(replace(gaussians, antialiased=params.antialiased), fixed, background, *known)


def scene_size(views: Sequence[TrainingView], gaussians: Gaussians, rooms: float = 1.0) -> tuple[float, float]:
    """`whole_size` of one of so many `rooms` that the place consists of, the median of them.

    What learning rates and priors take as a length must not grow with the place: steps that suit a building are coarse
    for each of its rooms.
    """
    centers = np.array([view.world_from_camera.translation for view in views])
    far = [0]
    while len(far) < min(round(rooms), len(views)):  # the parts begin as far from each other as they can
        far.append(int(KDTree(centers[far]).query(centers)[0].argmax()))
    middles, of_view = kmeans2(centers, centers[far], minit="matrix")
    of_gaussian = np.asarray(KDTree(middles).query(gaussians.means, workers=-1)[1])
    sizes = [
        whole_size(
            [view for view, its in zip(views, of_view, strict=True) if its == part], gaussians[of_gaussian == part]
        )
        for part in np.intersect1d(of_view, of_gaussian)
    ]
    extent, radius = np.median(sizes, axis=0)
    return float(extent), float(radius)


def whole_size(views: Sequence[TrainingView], gaussians: Gaussians) -> tuple[float, float]:
    """Radius [world units] of the cameras about their centre, for learning rates, and of nearly all Gaussians."""
    centers = np.array([view.world_from_camera.translation for view in views])
    middle = centers.mean(0)
    radius = float(np.percentile(np.linalg.norm(gaussians.means - middle, axis=1), 95))
    return max(1.1 * float(np.linalg.norm(centers - middle, axis=1).max()), MIN_EXTENT * radius), radius


def on_cloud(cloud: PointCloud, count: int, params: SplatParams, rng: np.random.Generator) -> Gaussians:
    """`discs_on` at most `count` points of the shared cloud, but `MIN_START` where there are as many."""
    count = max(MIN_START, min(len(cloud), count))
    return discs_on(cloud, count, (params.sh_degree + 1) ** 2, rng, opacity=CLOUD_OPACITY, flatness=CLOUD_FLATNESS)


def discs_on(
    cloud: PointCloud, count: int, sh_coefficients: int, rng: np.random.Generator, *, opacity: float, flatness: float
) -> Gaussians:
    """Discs on at most `count` points of a cloud [world frame], drawn without replacement.

    Each has `sh_coefficients` (1, 4, 9 or 16) per channel, and `flatness` times the standard deviation along its normal
    that it has across.

    Raises:
        ValueError: When the cloud has fewer points than a neighbourhood.
    """
    if len(cloud) <= NEIGHBOURS:
        raise ValueError(f"a splat needs at least {NEIGHBOURS + 1} points to start from, got {len(cloud)}")
    if len(cloud) > count:
        cloud = cloud[np.sort(rng.choice(len(cloud), count, replace=False))]
    points = cloud.points.astype(np.float64)
    distances = np.asarray(KDTree(points).query(points, NEIGHBOURS + 1, workers=-1)[0])[:, 1:]
    smallest = MIN_SPACING * float(np.ptp(points, axis=0).max())
    spacing = np.sqrt((distances**2).mean(1)).clip(smallest)

    normals = cloud.normals.astype(np.float64)
    has_normal = np.linalg.norm(normals, axis=1) > 0.5
    normals[~has_normal] = (0, 0, 1)
    scales = np.repeat(spacing[:, None], 3, 1)
    scales[:, 2] *= np.where(has_normal, flatness, 1.0)

    return Gaussians.from_colors(
        cloud.points, scales, quaternions_from_z(normals), cloud.colors / 255, opacity, sh_coefficients
    )


def skybox(gaussians: Gaussians, views: Sequence[TrainingView], radius: float, limit: int, room: float) -> Gaussians:
    """At most `limit` far Gaussians in open directions, in the photos' mean colours; none where few pixels are open.

    `gaussians` are those on the cloud, `radius` is the scene's and `room` that of one of its rooms [world units].
    """
    directions, colors, pixels = _open_pixels(gaussians, views)
    if len(directions) < MIN_OPEN_SHARE * pixels:
        return gaussians[:0]
    middle = np.mean([view.world_from_camera.translation for view in views], axis=0)
    count = limit
    while True:  # the finest sphere of which no more than `limit` directions are open
        candidate = _sphere(count)
        chosen, mean = _hit(candidate, directions, colors)
        finer = int(count * 1.3) + 1
        if len(_hit(_sphere(finer), directions, colors)[0]) > limit:
            break
        count = finer
    spacing = np.sqrt(4 * np.pi / count)
    distance = min(SKYBOX_DISTANCE * radius, SKYBOX_MAX_SIZE * room / (SKYBOX_OVERLAP * spacing))
    directions, size = candidate[chosen], SKYBOX_OVERLAP * spacing * distance
    return Gaussians.from_colors(
        middle + distance * directions,
        np.tile([size, size, 0.1 * size], (len(directions), 1)),
        quaternions_from_z(directions),
        mean,
        SKYBOX_OPACITY,
        gaussians.sh.shape[1],
    )


def _open_pixels(gaussians: Gaussians, views: Sequence[TrainingView]) -> tuple[F64, F64, int]:
    """World directions (N, 3) and colours (N, 3) in 0..1 of the pixels that show nothing near; number of all pixels."""
    directions, colors, pixels = [np.zeros((0, 3))], [np.zeros((0, 3))], 0
    for view in views:
        level = view.levels[-1]
        is_open = np.asarray(render(gaussians, level.camera, view.world_from_camera).alpha < COVERED)
        if level.depth is not None:
            is_open &= level.depth.depth == 0
        if level.mask is not None:
            is_open &= level.mask
        rays = view.world_from_camera.rotate(level.camera.rays()[is_open])
        directions.append(rays / np.linalg.norm(rays, axis=1, keepdims=True))
        colors.append(np.moveaxis(level.photo, 0, -1)[is_open] / 255)
        pixels += is_open.size
    return np.concatenate(directions), np.concatenate(colors), pixels


def _sphere(count: int) -> F64:
    """Evenly spread unit directions (count, 3): a Fibonacci lattice (R. Swinbank, R. Purser, QJRMS 2006)."""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(GOLDEN_ANGLE * index), ring * np.sin(GOLDEN_ANGLE * index), z], 1)


def _hit(candidates: F64, directions: F64, colors: F64) -> tuple[NDArray[np.intp], F64]:
    """Indices (M,) of the candidates nearest to enough directions, and the mean colours (M, 3) there."""
    nearest = np.asarray(KDTree(candidates).query(directions, workers=-1)[1])
    hits = np.bincount(nearest, minlength=len(candidates))
    sums = np.stack([np.bincount(nearest, colors[:, c], len(candidates)) for c in range(3)], 1)
    chosen = np.flatnonzero(hits >= MIN_PIXELS)
    return chosen, sums[chosen] / hits[chosen, None]


def fill_gaps(gaussians: Gaussians, views: Sequence[TrainingView], limit: int) -> Gaussians:
    """Add at most `limit` balls in the photos' colours where no Gaussian is seen, at the nearest covered pixel's depth.

    Views are worked on one after another, so that a gap is filled once.
    """
    most = len(gaussians) + limit
    for view in views:
        if len(gaussians) >= most:
            break
        gaussians = Gaussians.concatenate([gaussians, _in_gaps(gaussians, view)])[:most]
    return gaussians


def _in_gaps(gaussians: Gaussians, view: TrainingView) -> Gaussians:
    level = view.levels[-1]
    image = render(gaussians, level.camera, view.world_from_camera)
    hole = image.alpha < COVERED
    if level.mask is not None:
        hole &= level.mask
    chosen = np.zeros_like(hole)
    grid = np.s_[GAP_SPACING // 2 :: GAP_SPACING, GAP_SPACING // 2 :: GAP_SPACING]
    chosen[grid] = hole[grid]
    if hole.all():
        chosen[:] = False
    rows, columns = np.nonzero(chosen)
    nearest_row, nearest_column = np.asarray(distance_transform_edt(hole, return_distances=False, return_indices=True))
    depth = image.depth[nearest_row[rows, columns], nearest_column[rows, columns]].astype(np.float64)
    rays = level.camera.rays(np.stack([columns, rows], -1) + 0.5)
    means = view.world_from_camera.apply(rays * depth[:, None])
    scales = np.repeat((GAP_SIZE * depth / level.camera.fx)[:, None], 3, 1)
    upright = np.tile([1.0, 0, 0, 0], (len(means), 1))
    colors = level.photo[:, rows, columns].T / 255
    return Gaussians.from_colors(means, scales, upright, colors, 0.5, gaussians.sh.shape[1])

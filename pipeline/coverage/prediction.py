"""How wrong an image of the splat will be, judged by the training photos and the mesh alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.geometry.jit import njit, prange
from pipeline.geometry.rays import RayCaster
from pipeline.points.mirrors import Mirrors
from pipeline.poses.scene import View, read_image, read_mask
from pipeline.progress import track
from pipeline.raster import render
from pipeline.types import F32, F64, U8, Floats, Mask

PHOTO_SIDE = 320
"""Long side of the finest photos compared with [px]: twice a robot camera's, so that nothing it sees is missing."""
LN_2 = math.log(2)
DEPTH_SIDE = 160
"""Long side of the depth buffers that tell what a photo sees [px]."""
MASKED = -1.0
"""Depth of pixels that show something which isn't part of the scene."""
EXPOSURE_SIDE, MAX_GAIN = 80, 2.0
"""Long side of the images whose brightness is compared [px], and the most that a photo's is changed."""
TOLERANCE, RELATIVE_TOLERANCE = 0.03, 0.03
"""A photo sees what is at most this far behind its depth buffer [m], and as a share of the depth."""
MIN_COSINE = 0.05
"""Surfaces seen at a more grazing angle (87 degrees) show nothing."""
NEAREST = 0.05
"""[m] in front of a photo's camera."""
RESOLUTION_WEIGHT = 0.3
"""Radians of angle that count like a photo of half the resolution."""
BEST = 4
"""Photos whose mean a surface's colour is: each alone is shifted by the errors of its pose and of the mesh."""
PYRAMID = 5
"""Sizes of every photo, each half of the one before: a robot's pixels are coarse."""


@dataclass(frozen=True, eq=False)
class TrainingPhotos:
    """The training photos, and the mesh that tells which of them sees what.

    The photos are an image pyramid from the finest level to the coarsest, each padded where sizes differ; the mesh's
    depth in them is at a fixed fraction of the finest level, 0 = nothing, below 0 where the photo is masked.
    """

    caster: RayCaster  # the mesh in the world frame
    normals: F32  # (F, 3) float32, of its triangles
    camera_from_world: F32  # (V, 3, 4) float32
    intrinsics: F32  # (V, 6) float32: fx, fy, cx, cy [px], width, height of the photos' finest level
    photos: tuple[U8, ...]  # (V, H, W, 3) uint8 each
    depth: F32  # (V, h, w) float32
    mean_color: F64  # (3,) float64, mean colour of all photos, 0..1
    color_variance: float  # variance of all photos' pixels, mean over the channels
    mirrors: Mirrors  # what is seen there depends on the place: no photo tells it of another


@dataclass(frozen=True, eq=False)
class SurfaceColors:
    """What the photos say of rays."""

    rgb: F32  # (N, 3) float32, 0..1; meaningless where nothing was seen
    seen: Mask  # (N,) bool, some photo sees where the ray hits, and it is no mirror
    mirrored: Mask  # (N,) bool, the ray hits a mirror
    surface: Mask  # (N,) bool, the ray hits something at all


def load_photos(
    views: Sequence[View], poses_folder: Path, mesh: Mesh, splat: Gaussians, mirrors: Mirrors | None = None
) -> TrainingPhotos:
    """Load the views' photos, bring them to the splat's exposure, and cast the mesh into each; all in the world frame.

    Raises:
        ValueError: Without a view.
    """
    if not views:
        raise ValueError("coverage needs at least one training view, got none")
    caster = RayCaster(mesh)
    cameras = [_at_side(view.camera, PHOTO_SIDE) for view in views]
    width, height = (
        2 ** (PYRAMID - 1) * math.ceil(max(sides) / 2 ** (PYRAMID - 1))
        for sides in zip(*((c.width, c.height) for c in cameras), strict=True)
    )
    finest = np.zeros((len(views), height, width, 3), np.uint8)
    ratio = DEPTH_SIDE / PHOTO_SIDE
    depth = np.zeros((len(views), round(height * ratio), round(width * ratio)), np.float32)
    total, squares, pixels = np.zeros(3), 0.0, 0
    for index, (view, camera) in enumerate(track(list(zip(views, cameras, strict=True)), "coverage: photos")):
        photo = read_image(poses_folder, view, (camera.width, camera.height))
        photo = (photo * _gain(photo, splat, view)).clip(0, 255).round().astype(np.uint8)
        finest[index, : camera.height, : camera.width] = photo
        values = photo.reshape(-1, 3) / 255.0
        total, squares, pixels = total + values.sum(0), squares + float((values**2).sum()), pixels + len(values)
        small = camera.resized(round(camera.width * ratio), round(camera.height * ratio))
        surface = caster.depth(small, view.world_from_camera)
        counts = read_mask(poses_folder, view, (small.width, small.height))
        depth[index, : small.height, : small.width] = surface if counts is None else np.where(counts, surface, MASKED)
    mean, photos = total / pixels, [finest]
    while len(photos) < PYRAMID:
        width, height = width // 2, height // 2
        halved = [cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA) for photo in photos[-1]]
        photos.append(np.stack(halved).astype(np.uint8))
    matrices = [view.world_from_camera.inverse().matrix[:3] for view in views]
    return TrainingPhotos(
        caster,
        mesh.face_normals().astype(np.float32),
        np.array(matrices, np.float32),
        np.array([[c.fx, c.fy, c.cx, c.cy, c.width, c.height] for c in cameras], np.float32),
        tuple(photos),
        depth,
        mean,
        squares / pixels / 3 - float((mean**2).mean()),
        mirrors or Mirrors.none(),
    )


def surface_colors(
    evidence: TrainingPhotos, origin: Floats, directions: Floats, pixel: float, beyond: Floats
) -> SurfaceColors:
    """The colour of what rays hit, from the photos that show it best at that angle and resolution.

    A surface shows its front only: what a ray meets from behind is not seen. What a mirror shows is seen from where
    the photo was taken only.

    Source: C. Buehler et al., Unstructured Lumigraph Rendering, SIGGRAPH 2001, section 3 (penalties for angle,
    resolution and visibility); of their blend the plain mean of the best is taken.

    Args:
        evidence: The photos.
        origin: (3,) where the rays start [m].
        directions: (N, 3), of any length.
        pixel: Angle between neighbouring rays [rad]: finer detail of the photos is averaged.
        beyond: (N,) where rays end that meet no mesh, in lengths of their direction; 0 where nothing is known.
    """
    hits = evidence.caster.cast(np.broadcast_to(origin, directions.shape), directions)
    distance = np.where(hits.hit, hits.distance, beyond)[:, None]
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    unit = (directions / length).astype(np.float32)
    rgb, seen = np.zeros((len(unit), 3), np.float32), np.zeros(len(unit), np.bool_)
    footprints = (distance * length * pixel)[:, 0].astype(np.float32)
    points = (origin + directions * distance).astype(np.float32)
    _look_up(
        points,
        np.where(hits.hit[:, None], evidence.normals[hits.triangle], -unit),
        unit,
        footprints,
        hits.hit,
        evidence.camera_from_world,
        evidence.intrinsics,
        evidence.depth,
        evidence.photos,
        rgb,
        seen,
    )
    mirrored = evidence.mirrors.hold(points) & hits.hit
    return SurfaceColors(rgb, seen & ~mirrored, mirrored, footprints > 0)


def _at_side(camera: Camera, side: int) -> Camera:
    factor = side / max(camera.width, camera.height)
    return camera.resized(round(camera.width * factor), round(camera.height * factor))


def _gain(photo: U8, splat: Gaussians, view: View) -> F64:
    """What each channel (3,) of a photo must be multiplied with to be as bright as the splat: its exposure undone."""
    camera = _at_side(view.camera, EXPOSURE_SIDE)
    shown = render(splat, camera, view.world_from_camera)
    small = cv2.resize(photo, (camera.width, camera.height), interpolation=cv2.INTER_AREA) / 255.0
    opaque = shown.alpha > 0.5
    fitted = (shown.rgb * small)[opaque].sum(0) / np.maximum((small**2)[opaque].sum(0), 1e-6)
    return np.clip(fitted, 1 / MAX_GAIN, MAX_GAIN) if opaque.mean() > 0.5 else np.ones(3)


@njit(nogil=True, error_model="numpy", cache=True, parallel=True)
def _look_up(
    points: F32,
    normals: F32,
    directions: F32,
    footprints: F32,
    hit: Mask,
    camera_from_world: F32,
    intrinsics: F32,
    depth: F32,
    photos: tuple[U8, ...],
    rgb: F32,
    seen: Mask,
) -> None:
    """`surface_colors` of points (N, 3) of rays with widths `footprints` (N,) [m], 0 where there is no point."""
    ratio = depth.shape[2] / photos[0].shape[2]
    for n in prange(points.shape[0]):
        if footprints[n] <= 0:
            continue
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        here = -(normals[n, 0] * directions[n, 0] + normals[n, 1] * directions[n, 1] + normals[n, 2] * directions[n, 2])
        if here <= 0:
            continue
        own = footprints[n] / math.sqrt(max(here, MIN_COSINE))
        best = np.full((BEST, 4), np.inf)  # penalty, u, v, width of a pixel [m]; the least penalty first
        chosen, count = np.empty(BEST, np.int64), 0
        for view in range(camera_from_world.shape[0]):
            m = camera_from_world[view]
            z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
            if z < NEAREST:
                continue
            x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
            y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
            u = intrinsics[view, 0] * x / z + intrinsics[view, 2]
            v = intrinsics[view, 1] * y / z + intrinsics[view, 3]
            if u < 1 or v < 1 or u >= intrinsics[view, 4] - 1 or v >= intrinsics[view, 5] - 1:
                continue
            surface = depth[view, int(v * ratio), int(u * ratio)]
            if surface == 0 and not hit[n]:
                surface = np.float32(np.inf)  # nothing is in front of what lies beyond the mesh
            if surface <= 0 or z > surface + TOLERANCE + RELATIVE_TOLERANCE * z:
                continue
            # the ray from the photo to the point, in the world
            dx = m[0, 0] * x + m[1, 0] * y + m[2, 0] * z
            dy = m[0, 1] * x + m[1, 1] * y + m[2, 1] * z
            dz = m[0, 2] * x + m[1, 2] * y + m[2, 2] * z
            length = math.sqrt(x * x + y * y + z * z)
            cosine = -(dx * normals[n, 0] + dy * normals[n, 1] + dz * normals[n, 2]) / length
            if cosine < MIN_COSINE:
                continue
            along = (dx * directions[n, 0] + dy * directions[n, 1] + dz * directions[n, 2]) / length
            angle = math.acos(min(max(along, -1.0), 1.0))
            pixel = z / intrinsics[view, 0]
            coarser = math.log(pixel / math.sqrt(cosine) / own) / LN_2
            penalty = angle + RESOLUTION_WEIGHT * max(coarser, 0.0)
            if penalty >= best[BEST - 1, 0]:
                continue
            rank = BEST - 1
            while rank > 0 and penalty < best[rank - 1, 0]:
                for k in range(4):
                    best[rank, k] = best[rank - 1, k]
                chosen[rank] = chosen[rank - 1]
                rank -= 1
            best[rank, 0], best[rank, 1], best[rank, 2], best[rank, 3] = penalty, u, v, pixel
            chosen[rank], count = view, min(count + 1, BEST)
        if count == 0:
            continue
        for k in range(count):
            level = min(max(round(math.log(footprints[n] / best[k, 3]) / LN_2), 0), len(photos) - 1)
            _sample(photos[level][chosen[k]], best[k, 1] / 2**level, best[k, 2] / 2**level, 1 / count, rgb[n])
        seen[n] = True


@njit(nogil=True, error_model="numpy", cache=True, inline="always")
def _sample(photo: U8, u: float, v: float, weight: float, rgb: F32) -> None:
    """Add a weight's share of the bilinear colour 0..1 at a pixel position (centres at +0.5)."""
    x = min(max(u - 0.5, 0.0), photo.shape[1] - 1.001)
    y = min(max(v - 0.5, 0.0), photo.shape[0] - 1.001)
    column, row = int(x), int(y)
    a, b = x - column, y - row
    for channel in range(3):
        top = (1 - a) * photo[row, column, channel] + a * photo[row, column + 1, channel]
        bottom = (1 - a) * photo[row + 1, column, channel] + a * photo[row + 1, column + 1, channel]
        rgb[channel] += weight * ((1 - b) * top + b * bottom) / 255


BLOCK, STRIDE = 2, 4
"""Blocks of BLOCK by BLOCK pixels are compared by their means, one every STRIDE pixels along each side. Finer detail is
shifted by the slightest errors of poses and mesh: its differences say nothing of the splat."""
WEIGHTS = (1.06, 0.32, 0.60)
"""Weights of the first three terms of `image_terms`, fitted by `python benchmarks/coverage.py` to images off the track
of scenes whose truth is known."""
MIN_ALPHA = 0.5
"""Below it the splat says nothing about the pixel's depth."""


def expected_error(terms: Floats, weights: ArrayLike = WEIGHTS) -> F64:
    """Mean squared errors (...) from the terms (..., 4) of images, see `image_terms`.

    A small part that no photo shows is mostly right, since the splat goes on there as next to it. The larger the part,
    the less is known of it.
    """
    apart, unseen, hole, share = np.moveaxis(np.asarray(terms, np.float64), -1, 0)
    of_apart, of_unseen, of_hole = np.asarray(weights, np.float64)
    unknown = np.maximum(of_unseen, share) * unseen + np.maximum(of_hole, share) * hole
    return np.asarray(of_apart * apart + unknown)


def image_terms(evidence: TrainingPhotos, splat: Gaussians, camera: Camera, world_from_camera: Pose) -> F64:
    """What an image's expected error is made of (4,).

    First, its mean squared difference from the photos' colours of the surfaces that it should show: where the splat
    smears, or shows something that floats; in a mirror, whose image is another from every place, from any colour that
    the photos have. The second and third are parts that no photo shows: what lies there may be
    like what is seen next to it, so they are the squared difference from the nearest colour that is seen in the image,
    and the variance of these colours. The second counts where there is a surface, which the splat mostly continues;
    the third where neither mesh nor splat has anything, and the image is black. The fourth is the unseen share.
    Where the mesh ends, the splat's own depth says what the photos must show.

    The pinhole camera has the size at which the image will be used; it need not be near any photo.
    """
    image = render(splat, camera, world_from_camera)
    rows, columns = (np.arange(0, side - BLOCK + 1, STRIDE) for side in (camera.height, camera.width))
    shown = _block_means(np.clip(image.rgb, 0, 1), rows, columns)
    opaque = (image.alpha >= MIN_ALPHA).astype(np.float32)
    depth = _block_means(image.depth * opaque, rows, columns) / np.maximum(_block_means(opaque, rows, columns), 0.1)
    middles = np.stack(np.meshgrid(columns + BLOCK / 2, rows + BLOCK / 2), -1)
    rays = world_from_camera.rotate(camera.rays(middles)).reshape(-1, 3)  # z = 1: lengths are depths
    colors = surface_colors(evidence, world_from_camera.translation, rays, 1 / camera.fx, depth.ravel())
    seen, mirrored, surface = (mask.reshape(shown.shape[:2]) for mask in (colors.seen, colors.mirrored, colors.surface))
    likely, variance = evidence.mean_color, evidence.color_variance
    if seen.any():
        nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
        likely = colors.rgb.reshape(shown.shape)[tuple(np.asarray(nearest))]
        variance = float(colors.rgb[colors.seen].var(0).mean())
    apart = ((shown - likely) ** 2).mean(2)
    of_mirrors = ((shown - evidence.mean_color) ** 2).mean(2) + evidence.color_variance
    known = seen | mirrored
    unseen = ~known & surface
    return np.array(
        [
            np.where(mirrored, of_mirrors, apart * seen).mean(),
            ((apart + variance) * unseen).mean(),
            ((apart + variance) * ~(known | surface)).mean(),
            1 - known.mean(),
        ]
    )


def _block_means(pixels: Floats, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> F64:
    """Means (R, C, ...) of the blocks that begin at rows (R,) and columns (C,)."""
    shifts = [(i, j) for i in range(BLOCK) for j in range(BLOCK)]
    return np.asarray(np.mean([pixels[np.ix_(rows + i, columns + j)] for i, j in shifts], axis=0), np.float64)

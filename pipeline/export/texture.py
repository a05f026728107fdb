"""The image of a mesh's surface: what its splat looks like from the capture's cameras, elsewhere the mesh's colours.

A bundle has no photos. Its splat was fitted to them, and shows them best where they were taken; so it is rendered
there, and each texel takes the mean of the images in which the mesh shows it, sharply in favour of the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from pipeline.export.atlas import Atlas, unwrap
from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.geometry.jit import njit
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.progress import track
from pipeline.raster import contiguous, render
from pipeline.raster.mesh_depth import mesh_depths
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.types import F32, I32, I64, U8, Floats

TEXEL = 0.001
"""Smallest side of a texel [m]; in places larger than a table the atlas' size rules."""
LONG_SIDE = 640
"""Of the images that the splat is rendered in [px]."""
MAX_VIEWS = 64
LEAST_GAIN = 0.002
"""A view must make the surface's best views better by that share, or it isn't rendered."""
SAMPLES = 20_000
"""Points of the surface by which views are chosen."""
MIN_COSINE = 0.15
"""Between a texel's normal and the way to the camera."""
SHARPNESS = 2
"""Power of a view's pixels per area that it is weighted with."""
EDGE = 0.05
"""Part of an image over which views fade out towards its border."""
SLACK = 0.01
"""By how much a texel may lie before or behind the mesh's depth image [m], beside the slope within `MARGIN`."""
MARGIN = 3
"""Pixels round what stands in front that are not taken: a splat's edges are not those of the mesh."""
LEAST_ALPHA = 0.1
"""Opacity of a splat below which it shows nothing; dark surfaces need not be opaque before a black background."""
NEAREST = 3
"""Vertices whose colours make that of a texel that no view shows."""
JPEG_QUALITY = 90


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """A mesh, its layout, and its image (H, W, 3) uint8, sRGB."""

    mesh: Mesh
    atlas: Atlas
    image: U8

    @property
    def vertices(self) -> F32:
        """Vertices (W, 3) of the atlas [m]."""
        return self.mesh.vertices[self.atlas.vertex]


def textured(
    mesh: Mesh, colors: Mesh, splat: Gaussians | None = None, cameras: Sequence[BundleCamera] = (), texel: float = TEXEL
) -> TexturedMesh:
    """Lay a mesh out, and colour it by a splat as cameras see it, in one frame.

    What no camera sees, or all without a splat, has the colours of the nearest vertices of `colors`, which is a finer
    mesh of the same surface. Equal input gives equal images.
    """
    atlas = unwrap(mesh, texel)
    rows, columns = np.nonzero(atlas.shows >= 0)
    triangle = atlas.shows[rows, columns]
    size = np.array(atlas.shows.shape[::-1], np.float32)
    corners = np.concatenate([atlas.uv * size, mesh.vertices[atlas.vertex]], 1)
    places = _places(corners[atlas.triangles], triangle, rows, columns)
    normals = mesh.face_normals().astype(np.float32)
    total, summed = np.zeros(len(places), np.float32), np.zeros((len(places), 3), np.float32)
    if splat is not None:
        caster, drawn = RayCaster(mesh), contiguous(splat)
        for view in track(_chosen(mesh, caster, cameras), "painting the texture"):
            camera = view.camera.within(LONG_SIDE)
            seen = render(drawn, camera, view.world_from_camera)
            depth = _depth(caster, camera, view.world_from_camera)
            depth[seen.alpha < LEAST_ALPHA] = np.inf
            projection, rgb = _projection(camera, view.world_from_camera), np.clip(seen.rgb, 0, 1)
            _add(places, normals, triangle, *projection, depth, _near(depth), rgb, total, summed)
    found = np.empty((len(places), 3), np.float32)
    shown = total > 0
    found[shown] = 255 * summed[shown] / total[shown, None]
    found[~shown] = _nearest(colors, places[~shown])
    image = np.zeros((*atlas.shows.shape, 3), np.uint8)
    image[rows, columns] = np.round(found)
    near: I32 = np.empty((2, *atlas.shows.shape), np.int32)
    distance_transform_edt(atlas.shows < 0, return_distances=False, return_indices=True, indices=near)
    return TexturedMesh(mesh, atlas, np.ascontiguousarray(image[near[0], near[1]]))


def _chosen(mesh: Mesh, caster: RayCaster, cameras: Sequence[BundleCamera]) -> list[BundleCamera]:
    """Views that show the surface best, one after another by how much better they show it than those before."""
    places, triangle = sample_surface(mesh, SAMPLES, np.random.default_rng(0))
    normals = mesh.face_normals().astype(np.float32)
    scores = np.zeros((len(cameras), len(places)), np.float32)
    for view, score in track(zip(cameras, scores, strict=True), "choosing cameras for the texture", len(cameras)):
        camera = view.camera.within(LONG_SIDE // 4)
        depth = _depth(caster, camera, view.world_from_camera)
        black, unused = np.zeros((*depth.shape, 3), np.float32), np.zeros((len(places), 3), np.float32)
        projection = _projection(camera, view.world_from_camera)
        _add(places, normals, triangle, *projection, depth, depth, black, score, unused)
    scores **= 1 / SHARPNESS
    best, chosen = np.zeros(len(places), np.float32), list[BundleCamera]()
    while len(chosen) < min(MAX_VIEWS, len(cameras)):
        gains = np.maximum(scores - best, 0).sum(1)
        view = int(gains.argmax())
        if gains[view] <= LEAST_GAIN * best.sum():
            break
        best = np.maximum(best, scores[view])
        chosen.append(cameras[view])
    return chosen


def _depth(caster: RayCaster, camera: Camera, pose: Pose) -> F32:
    """Depth (H, W) of a mesh [m]; inf where there is none."""
    return mesh_depths([caster], np.zeros(1, np.int64), camera, pose.matrix[None])[0]


def _near(depth: F32) -> F32:
    """The least depth (H, W) within `MARGIN` of each pixel."""
    return np.asarray(cv2.erode(depth, np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)), np.float32)


def _projection(camera: Camera, pose: Pose) -> tuple[F32, F32]:
    """The camera's pixels from the world, (3, 4), not yet divided by depth; and its centre (3,)."""
    pixel_from_world = camera.matrix @ pose.inverse().matrix[:3]
    return pixel_from_world.astype(np.float32), pose.translation.astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _places(corners: F32, triangle: I32, rows: I64, columns: I64) -> F32:
    """Places (P, 3) [m] of texels on triangles with corners (F, 3, 5): in the image [texels] and in the world."""
    places = np.empty((len(triangle), 3), np.float32)
    for texel in range(len(triangle)):
        a, b, c = corners[triangle[texel]]
        x, y = columns[texel] + 0.5, rows[texel] + 0.5
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
        v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
        if not (-1e-3 < u < 1 + 1e-3 and -1e-3 < v < 1 + 1e-3):  # smaller than its only texel
            u = v = 1 / 3
        for axis in range(3):
            places[texel, axis] = u * a[2 + axis] + v * b[2 + axis] + (1 - u - v) * c[2 + axis]
    return places


@njit(cache=True, nogil=True, error_model="numpy")
def _add(
    places: F32,
    normals: F32,
    triangle: I32 | I64,
    pixel_from_world: F32,
    eye: F32,
    depth: F32,
    near: F32,
    image: F32,
    total: F32,
    summed: F32,
) -> None:
    """Add what an image (H, W, 3) shows of places (P, 3) on triangles with normals (F, 3) to weighted sums.

    It shows nothing of a place that lies behind another by the nearest depth (H, W) within `MARGIN` of a pixel, or
    before what the depth image (H, W) has there.
    """
    height, width = depth.shape
    focal = pixel_from_world[0, 0] ** 2 + pixel_from_world[0, 1] ** 2 + pixel_from_world[0, 2] ** 2
    fading = np.float32(EDGE * min(height, width))
    for place in range(len(places)):
        point, normal = places[place], normals[triangle[place]]
        z = pixel_from_world[2, 3]
        x, y = pixel_from_world[0, 3], pixel_from_world[1, 3]
        for axis in range(3):
            x += pixel_from_world[0, axis] * point[axis]
            y += pixel_from_world[1, axis] * point[axis]
            z += pixel_from_world[2, axis] * point[axis]
        if z <= 0:
            continue
        x, y = x / z - np.float32(0.5), y / z - np.float32(0.5)
        if not (x >= 0 and y >= 0 and x < width - 1 and y < height - 1):
            continue
        dx, dy, dz = eye[0] - point[0], eye[1] - point[1], eye[2] - point[2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        cosine = (dx * normal[0] + dy * normal[1] + dz * normal[2]) / length
        if cosine < MIN_COSINE:
            continue
        column, row = int(x), int(y)
        slack = np.float32(SLACK) + np.float32(MARGIN + 2) * z / (np.sqrt(focal) * cosine)
        if z - near[row, column] > slack or depth[row, column] - z > slack:
            continue
        border = min(min(x, width - 1 - x), min(y, height - 1 - y))
        weight = (cosine * focal / (z * z)) ** SHARPNESS * min(np.float32(1), border / fading)
        total[place] += weight
        right, down = x - column, y - row
        for channel in range(3):
            upper = image[row, column, channel] * (1 - right) + image[row, column + 1, channel] * right
            lower = image[row + 1, column, channel] * (1 - right) + image[row + 1, column + 1, channel] * right
            summed[place, channel] += weight * (upper * (1 - down) + lower * down)


def _nearest(mesh: Mesh, places: F32) -> Floats:
    """Colours (P, 3), 0..255, of a mesh's vertices that are nearest to places (P, 3), by their distances."""
    count = min(NEAREST, len(mesh.vertices))
    distance, index = KDTree(mesh.vertices).query(places, k=count, workers=-1)
    weight = 1 / (distance.reshape(-1, count) + 1e-4)
    weight /= weight.sum(1, keepdims=True)
    return np.einsum("nk,nkc->nc", weight, mesh.colors[index.reshape(-1, count)].astype(np.float64))


def textured_bundle(bundle: Bundle) -> TexturedMesh:
    """The whole scene in its frame: the collision mesh, coloured by the full splat.

    Raises:
        BundleError: When a file of it is damaged.
    """
    return textured(bundle.mesh("collision"), bundle.mesh(), bundle.splat(), bundle.cameras)


def textured_rest(bundle: Bundle) -> TexturedMesh:
    """The scene without its objects.

    Raises:
        BundleError: When a file of it is damaged.
    """
    if not bundle.objects:
        return textured_bundle(bundle)
    rest = bundle.mesh("rest_collision")
    return textured(rest, rest, bundle.splat("rest"), bundle.cameras)


def jpeg(image: U8) -> bytes:
    """An image (H, W, 3) as JPEG."""
    made = BytesIO()
    Image.fromarray(image).save(made, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return made.getvalue()

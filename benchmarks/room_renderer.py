"""Images, depth and exact surfaces of synthetic rooms by ray casting: soft direct light, mirrors, glass."""

from __future__ import annotations

import math

import cv2
import numpy as np

from benchmarks.rooms import Face, Lamp, Paint, Room
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.jit import njit, prange
from pipeline.geometry.rays import RayCaster
from pipeline.types import F32, F64, I64

TEXEL = 0.004  # [m] of the paint
LUXEL = 0.06  # [m] of the baked light
LAMP_POINTS = 4  # per lamp in each direction
AMBIENT_RAYS, AMBIENT_REACH = 24, 1.5  # surfaces within this distance [m] block ambient light
OFF = 1e-3  # [m], offset of ray origins from a surface
GLASS_REFLECTION = 0.08  # of a pane at normal incidence
GLASS_TINT = 0.92
MIRROR_TINT = 0.9
JOINT = 0.006  # [m] between rectangular patches


class RenderedRoom:
    """Renders a room; the room's seed determines everything but the camera noise.

    Attributes:
        mesh: The exact surfaces, mirrors included, glass left out.
    """

    def __init__(self, room: Room) -> None:
        self._solid = _solid(room)
        self._glass = [face for face in room.faces if face.kind == "glass"]
        self.mesh = surfaces(room)
        self._caster = RayCaster(self.mesh)
        self._normals = np.array([face.normal for face in self._solid])
        self._mirror = np.array([face.kind == "mirror" for face in self._solid])
        self._origin, self._axes, extent = _frames(self._solid)
        rng = np.random.default_rng([room.seed, 0])
        textures = [
            _paint(
                face.paint, size, rng if face.texture is None else np.random.default_rng([room.seed, face.texture, 1])
            )
            for face, size in zip(self._solid, extent, strict=True)
        ]
        self._texels, self._texel_layout = _packed([np.asarray(texture, np.float32) for texture in textures])
        self._luxels, self._luxel_layout = self._bake(room, extent, rng)

    def image(self, camera: Camera, world_from_camera: Pose, samples: int = 2) -> F32:
        """Linear light (H, W, 3), the mean of samples x samples per pixel."""
        fine = camera.resized(camera.width * samples, camera.height * samples)
        rays = world_from_camera.rotate(fine.rays()).reshape(-1, 3)
        origins = np.broadcast_to(world_from_camera.translation, rays.shape)
        light = self._look(origins, rays, 1)
        return light.reshape(camera.height, samples, camera.width, samples, 3).mean((1, 3)).astype(np.float32)

    def depth(self, camera: Camera, world_from_camera: Pose) -> tuple[F64, F64]:
        """Planar depth (H, W) [m] by time of flight, 0 = nothing, and the cosine of ray and surface.

        Light goes through glass, and comes back from what a mirror shows.
        """
        rays = world_from_camera.rotate(camera.rays()).reshape(-1, 3)
        origins = np.broadcast_to(world_from_camera.translation, rays.shape)
        hits = self._caster.cast(origins, rays)
        distance = np.where(hits.hit, hits.distance, 0).astype(np.float64)
        face = hits.triangle // 2
        cosine = np.abs((rays * self._normals[face]).sum(1)) / np.linalg.norm(rays, axis=1)
        turned = np.flatnonzero(hits.hit & self._mirror[face])
        if len(turned):
            normal, ray = self._normals[face[turned]], rays[turned]
            back = ray - 2 * (ray * normal).sum(1, keepdims=True) * normal
            second = self._caster.cast(origins[turned] + ray * distance[turned, None] + OFF * normal, back)
            distance[turned] += np.where(second.hit, second.distance, 0)
        shape = (camera.height, camera.width)
        return distance.reshape(shape), cosine.reshape(shape)

    def _look(self, origins: F64, rays: F64, bounces: int) -> F32:
        """Light (N, 3) received along rays."""
        hits = self._caster.cast(origins, rays)
        distance = np.where(hits.hit, hits.distance, 1.0).astype(np.float64)
        face = np.where(hits.hit, hits.triangle // 2, 0)
        points = origins + rays * distance[:, None]
        light = np.zeros((len(rays), 3), np.float32)
        _shade(
            points, face, self._origin, self._axes, self._texels, self._texel_layout, self._luxels,
            self._luxel_layout, light,
        )  # fmt: skip
        light[~hits.hit] = 0
        if bounces:
            mirrored = np.flatnonzero(hits.hit & self._mirror[face])
            if len(mirrored):
                seen = self._reflected(points[mirrored], rays[mirrored], self._normals[face[mirrored]], bounces)
                light[mirrored] = MIRROR_TINT * seen
            for pane in self._glass:
                self._through(pane, origins, rays, np.where(hits.hit, hits.distance, np.inf), light, bounces)
        return light

    def _reflected(self, points: F64, rays: F64, normals: F64, bounces: int) -> F32:
        along = (rays * normals).sum(1, keepdims=True)
        return self._look(points - np.sign(along) * OFF * normals, rays - 2 * along * normals, bounces - 1)

    def _through(self, pane: Face, origins: F64, rays: F64, distance: F64, light: F32, bounces: int) -> None:
        """Tint the light through a pane and add its reflection."""
        normal = pane.normal
        along = rays @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = (pane.corner - origins) @ normal / along
        points = origins + rays * np.where(np.isfinite(reach), reach, 0)[:, None]
        inside = np.isfinite(reach) & (reach > 0) & (reach < distance)
        for edge in (pane.along, pane.across):  # a rectangle
            share = (points - pane.corner) @ edge / (edge @ edge)
            inside &= (share >= 0) & (share <= 1)
        index = np.flatnonzero(inside)
        if not len(index):
            return
        cosine = np.abs(along[index]) / np.linalg.norm(rays[index], axis=1)
        share = (GLASS_REFLECTION + (1 - GLASS_REFLECTION) * (1 - cosine) ** 5)[:, None]
        normals = np.broadcast_to(normal, (len(index), 3))
        mirrored = self._reflected(points[index], rays[index], normals, bounces)
        light[index] = (1 - share) * GLASS_TINT * light[index] + share * mirrored

    def _bake(self, room: Room, extent: F64, rng: np.random.Generator) -> tuple[F32, I64]:
        """The light on every face, at nodes on a regular grid."""
        shapes = [np.maximum(2, np.ceil(size / LUXEL).astype(int) + 1) for size in extent]
        places, normals = [], []
        for face, origin, axes, size, (columns, rows) in zip(
            self._solid, self._origin, self._axes, extent, shapes, strict=True
        ):
            s, t = np.meshgrid(np.arange(columns) * LUXEL, np.arange(rows) * LUXEL)
            inset = np.clip(np.stack([s, t], -1), OFF, size - OFF)  # not in the neighbouring surface
            places.append((origin + inset.reshape(-1, 2) @ axes).reshape(-1, 3) + OFF * face.normal)
            normals.append(np.broadcast_to(face.normal, places[-1].shape))
        where, normal = np.concatenate(places), np.concatenate(normals)
        light = np.array(room.ambient) * self._open(where, normal, rng)[:, None]
        for lamp in room.lamps:
            light += self._from_lamp(lamp, where, normal)
        pieces = np.split(light.astype(np.float32), np.cumsum([a * b for a, b in shapes])[:-1])
        packed, layout = _packed([piece.reshape(b, a, 3) for piece, (a, b) in zip(pieces, shapes, strict=True)])
        return packed, layout

    def _open(self, where: F64, normal: F64, rng: np.random.Generator) -> F64:
        """Share (N,) of unoccluded directions in front of a surface."""
        total = np.zeros(len(where))
        for _ in range(AMBIENT_RAYS):
            direction = normal * 1.001 + _unit(rng.standard_normal(where.shape))  # cosine-weighted
            total += np.minimum(self._caster.cast(where, _unit(direction)).distance / AMBIENT_REACH, 1)
        return total / AMBIENT_RAYS

    def _from_lamp(self, lamp: Lamp, where: F64, normal: F64) -> F64:
        """Light (N, 3) of a lamp, with shadows."""
        total = np.zeros(len(where))
        shares = (np.arange(LAMP_POINTS) + 0.5) / LAMP_POINTS
        for a in shares:
            for b in shares:
                away = np.array(lamp.corner) + a * np.array(lamp.along) + b * np.array(lamp.across) - where
                square = (away**2).sum(1)
                facing = np.maximum((away * normal).sum(1), 0) / np.sqrt(square)
                lit = ~(self._caster.cast(where, away).distance < 0.999)
                total += lit * facing / (0.3 + square)
        return total[:, None] / LAMP_POINTS**2 * np.array(lamp.power)


def surfaces(room: Room) -> Mesh:
    """The exact surfaces, mirrors included, glass left out; two triangles for each face, in order."""
    ends = [np.array([0 * face.along, face.along, face.along + face.across, face.across]) for face in _solid(room)]
    corners = [face.corner + end for face, end in zip(_solid(room), ends, strict=True)]
    quads = np.arange(4 * len(corners)).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3)
    return Mesh.from_arrays(np.concatenate(corners), triangles)


def _solid(room: Room) -> list[Face]:
    return [face for face in room.faces if face.kind != "glass"]


def to_srgb(light: F32) -> F32:
    """Linear light as sRGB 0..255, with highlights rolled off."""
    rolled = np.where(light > 0.7, 0.7 + 0.3 * np.tanh((light - 0.7) / 0.3), light)
    return (
        255 * np.where(rolled < 0.0031308, 12.92 * rolled, 1.055 * np.maximum(rolled, 1e-9) ** (1 / 2.4) - 0.055)
    ).astype(np.float32)


def _unit(vectors: F64) -> F64:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _frames(faces: list[Face]) -> tuple[F64, F64, F64]:
    """For every face: origin (N, 3), two unit axes in its plane (N, 2, 3), and its extent along them (N, 2) [m]."""
    origins, axes, extents = [], [], []
    for face in faces:
        first = _unit(face.along)
        second = np.cross(face.normal, first)
        ends = np.array([0 * face.along, face.along, face.across, face.along + face.across])
        places = ends @ np.array([first, second]).T
        low = places.min(0)
        origins.append(face.corner + low @ np.array([first, second]))
        axes.append([first, second])
        extents.append(places.max(0) - low)
    return np.array(origins), np.array(axes), np.array(extents)


def _packed(images: list[F32]) -> tuple[F32, I64]:
    """All images' pixels (M, 3), concatenated, and start, columns and rows of each (N, 3)."""
    sizes = np.array([[image.shape[1], image.shape[0]] for image in images])
    start = np.r_[0, np.cumsum(sizes.prod(1))[:-1]]
    return np.concatenate([image.reshape(-1, 3) for image in images]), np.column_stack([start, sizes])


def _paint(paint: Paint, size: F64, rng: np.random.Generator) -> F32:
    """Reflectance (rows, columns, 3), linear, of a face of this size (2,) [m]."""
    columns, rows = (math.ceil(side / TEXEL) + 2 for side in size)
    base, (a, b) = np.array(paint.base), paint.patch
    if a == b:
        seeds = np.full((rows, columns), 255, np.uint8)
        count = max(3, round(rows * columns * TEXEL**2 / a**2))
        seeds[rng.integers(0, rows, count), rng.integers(0, columns, count)] = 0
        label = np.asarray(
            cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1], np.int64
        )
        joint = np.ones((rows, columns))
    else:
        across, down = np.arange(columns) * TEXEL / a, np.arange(rows) * TEXEL / b
        shifted = across + 0.37 * (np.floor(down)[:, None] % 3)
        label = (np.floor(shifted) + np.floor(down)[:, None] * math.ceil(columns * TEXEL / a + 3)).astype(np.int64)
        near = np.minimum((shifted % 1) * a, (down % 1)[:, None] * b)
        joint = np.where(near < JOINT, 0.65, 1.0)
    patches = int(np.max(label)) + 1
    color = rng.normal(0, paint.contrast, (patches, 3)) * 0.5
    color += rng.normal(0, paint.contrast, (patches, 1)) * 0.85  # patches differ mainly in brightness
    fine = np.sum([_noise(rng, columns, rows, spots) for spots in (2, 6, 18, 50)], 0) * paint.noise / 2
    busy = np.ones((rows, columns))
    if paint.quiet:
        spots = _noise(rng, columns, rows, 200)
        busy = np.where(spots > np.quantile(spots, 1 - paint.quiet), 0.08, 1.0)
    srgb = base + busy[..., None] * (color[label] + base * fine[..., None])
    return ((np.clip(srgb * joint[..., None], 8, 245) / 255) ** 2.2).astype(np.float32)


def _noise(rng: np.random.Generator, width: int, height: int, size: int) -> F64:
    """Smooth noise (height, width) of unit sigma; `size` is the spot size [texels]."""
    coarse = rng.standard_normal((height // size + 2, width // size + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height)), np.float64)


@njit(nogil=True, error_model="numpy", cache=True, parallel=True)
def _shade(
    points: F64,
    face: I64,
    origin: F64,
    axes: F64,
    texels: F32,
    texel_layout: I64,
    luxels: F32,
    luxel_layout: I64,
    light: F32,
) -> None:
    """Paint times light (N, 3) at points (N, 3) on faces (N,)."""
    for n in prange(points.shape[0]):
        f = face[n]
        s, t = 0.0, 0.0
        for k in range(3):
            away = points[n, k] - origin[f, k]
            s += away * axes[f, 0, k]
            t += away * axes[f, 1, k]
        for channel in range(3):
            paint = _bilinear(texels, texel_layout[f], s / TEXEL, t / TEXEL, channel)
            lit = _bilinear(luxels, luxel_layout[f], s / LUXEL, t / LUXEL, channel)
            light[n, channel] = paint * lit


@njit(nogil=True, error_model="numpy", cache=True, inline="always")
def _bilinear(values: F32, layout: I64, x: float, y: float, channel: int) -> float:
    start, columns, rows = layout
    x, y = min(max(x, 0.0), columns - 1.001), min(max(y, 0.0), rows - 1.001)
    column, row = int(x), int(y)
    a, b, first = x - column, y - row, start + row * columns + column
    top = (1 - a) * values[first, channel] + a * values[first + 1, channel]
    bottom = (1 - a) * values[first + columns, channel] + a * values[first + columns + 1, channel]
    return (1 - b) * top + b * bottom

"""Props of a task that cameras see: balls, posts, paint on the floor, and rigid bodies, drawn into images by depth."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np

from pipeline.geometry import Camera
from pipeline.geometry.jit import njit, prange
from pipeline.types import F32, F64, I64, Floats, Mask

PATCH_COLOR = (0.95, 0.8, 0.1)
"""Paint on floor that costs."""

Vector = tuple[np.float32, np.float32, np.float32]


@dataclass(frozen=True, eq=False)
class _Kind:
    @classmethod
    def none(cls, count: int) -> Self:
        """No props for N robots."""
        numbers = ("radius", "height")
        return cls(*(np.zeros((count, 0) if field.name in numbers else (count, 0, 3)) for field in fields(cls)))

    def __getitem__(self, robots: I64 | Mask | slice) -> Self:
        """Props of the chosen robots."""
        return type(self)(*(values[robots] for values in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Balls(_Kind):
    """K balls for each of N robots.

    Attributes:
        center: (N, K, 3), world frame [m].
        radius: (N, K) [m]; 0 draws nothing.
        color: (N, K, 3), 0..1.
    """

    center: Floats
    radius: Floats
    color: Floats


@dataclass(frozen=True, eq=False)
class Posts(_Kind):
    """K upright cylinders for each of N robots.

    Attributes:
        foot: (N, K, 3) middle of the lower end, world frame [m].
        radius: (N, K) [m]; 0 draws nothing.
        height: (N, K) [m].
        color: (N, K, 3), 0..1.
    """

    foot: Floats
    radius: Floats
    height: Floats
    color: Floats


@dataclass(frozen=True, eq=False)
class Patches(Balls):
    """K round patches of paint on the floor for each of N robots, with their centres at the floor's height."""


@dataclass(frozen=True, eq=False)
class Solids(_Kind):
    """K rigid bodies for each of N robots; their shapes are given to the cameras, the same for all robots.

    Attributes:
        pose: (N, K, 4, 4) world from body.
        color: (N, K, 3), 0..1.
    """

    pose: Floats
    color: Floats

    @classmethod
    def none(cls, count: int) -> Self:
        """No bodies for N robots."""
        return cls(np.zeros((count, 0, 4, 4)), np.zeros((count, 0, 3)))


@dataclass(frozen=True, eq=False)
class Lighting:
    """The light on the solids of each of N robots, and the level surface that takes their shadows.

    Attributes:
        toward: (N, 3) unit, towards the light, world axes; upwards.
        surface: (N,) height of the surface, world frame [m].
    """

    toward: F64
    surface: F64

    def __getitem__(self, robots: I64 | Mask | slice) -> Lighting:
        """That of the chosen robots."""
        return Lighting(self.toward[robots], self.surface[robots])


NO_OBJECTS = np.zeros((0, 4, 4))


@dataclass(frozen=True, eq=False)
class Props:
    """Props of a task for each of N robots, and the loose bodies of its scene; each robot sees its own.

    `objects` are the bodies' poses (N, K, 4, 4), world from body; (0, 4, 4) where no scene has any. `solids` has no
    rows where the task has none. Without a `lighting`, solids cast no shadow.
    """

    balls: Balls
    posts: Posts
    patches: Patches
    objects: F64 = field(default_factory=lambda: NO_OBJECTS)
    solids: Solids = field(default_factory=lambda: Solids.none(0))
    lighting: Lighting | None = None

    def __getitem__(self, robots: I64 | Mask | slice) -> Props:
        """Props of the chosen robots."""
        objects = self.objects[robots] if len(self.objects) else self.objects
        solids = self.solids[robots] if len(self.solids.pose) else self.solids
        lighting = self.lighting[robots] if self.lighting else None
        return Props(self.balls[robots], self.posts[robots], self.patches[robots], objects, solids, lighting)

    @staticmethod
    def none(count: int) -> Props:
        """No props for N robots."""
        return Props(Balls.none(count), Posts.none(count), Patches.none(count))


FLOOR_BAND = np.float32(0.05)
"""Paint covers what lies this near to the floor's height [m]: the splat's depth is uneven, and so are floors."""
OPACITY = np.float32(0.75)
"""Opacity of paint; the rest is the floor's own pattern and light."""


def draw_props(rgb: F32, depth: F32, props: Props, world_from_cameras: Floats, lens: Camera) -> None:
    """Draw the balls, posts and paint of each image where they are nearer than its depth; changes both in place.

    Images (B, H, W, 3) are 0..1, depths (B, H, W) along the camera's z [m], 0 = nothing there.
    """
    balls, posts, patches = props.balls, props.posts, props.patches
    poses = np.ascontiguousarray(world_from_cameras, np.float32)
    intrinsics = np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32)
    if patches.radius.size:  # first: what stands on the floor is not painted
        _paint(rgb, depth, poses, intrinsics, *_float32(patches.center, patches.radius, patches.color))
    if balls.radius.size:
        _draw_balls(rgb, depth, poses, intrinsics, *_float32(balls.center, balls.radius, balls.color))
    if posts.radius.size:
        _draw_posts(rgb, depth, poses, intrinsics, *_float32(posts.foot, posts.radius, posts.height, posts.color))


def _float32(*arrays: Floats) -> list[F32]:
    return [np.ascontiguousarray(array, np.float32) for array in arrays]


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _paint(rgb: F32, depth: F32, poses: F32, intrinsics: F32, centers: F32, radii: F32, colors: F32) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for b in prange(count):
        if radii[b].max() <= 0:
            continue
        rotation, eye = poses[b, :3, :3], poses[b, :3, 3]
        for row in range(height):
            v = (row + np.float32(0.5) - cy) / fy
            for column in range(width):
                far = depth[b, row, column]
                if far <= 0:
                    continue
                u = (column + np.float32(0.5) - cx) / fx
                z = eye[2] + far * (rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2])
                for k in range(radii.shape[1]):
                    if abs(z - centers[b, k, 2]) > FLOOR_BAND:
                        continue
                    x = eye[0] + far * (rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2]) - centers[b, k, 0]
                    y = eye[1] + far * (rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2]) - centers[b, k, 1]
                    if x * x + y * y < radii[b, k] * radii[b, k]:
                        for channel in range(3):
                            old = rgb[b, row, column, channel]
                            rgb[b, row, column, channel] = old + OPACITY * (colors[b, k, channel] - old)


@njit(cache=True, nogil=True, error_model="numpy")
def bounds(
    rotation: F32, middle: F32, half: F32, intrinsics: F32, height: int, width: int
) -> tuple[int, int, int, int]:
    """Rows and columns, from first to after the last, that may show a box (all if it is partly behind the camera).

    The box has a middle (3,) from the camera and half edges (3,) along the world's axes [m]; `rotation` is world from
    camera (3, 3).
    """
    fx, fy, cx, cy = intrinsics
    left, top = np.float32(np.inf), np.float32(np.inf)
    right, bottom = -left, -top
    before = 0
    for corner in range(8):
        x = middle[0] + (half[0] if corner & 1 else -half[0])
        y = middle[1] + (half[1] if corner & 2 else -half[1])
        z = middle[2] + (half[2] if corner & 4 else -half[2])
        ahead = rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z
        if ahead <= 1e-3:
            continue
        before += 1
        column = (rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z) / ahead * fx + cx
        row = (rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z) / ahead * fy + cy
        left, right, top, bottom = min(left, column), max(right, column), min(top, row), max(bottom, row)
    if before == 0:
        return 0, 0, 0, 0
    if before < 8:
        return 0, height, 0, width
    rows = max(0, int(max(top, np.float32(0)))), int(min(bottom + 1, np.float32(height)))
    return *rows, max(0, int(max(left, np.float32(0)))), int(min(right + 1, np.float32(width)))


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _draw_balls(rgb: F32, depth: F32, poses: F32, intrinsics: F32, centers: F32, radii: F32, colors: F32) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for b in prange(count):
        rotation, eye = poses[b, :3, :3], poses[b, :3, 3]
        for k in range(radii.shape[1]):
            radius = radii[b, k]
            if radius <= 0:
                continue
            offset = centers[b, k] - eye
            x = rotation[0, 0] * offset[0] + rotation[1, 0] * offset[1] + rotation[2, 0] * offset[2]
            y = rotation[0, 1] * offset[0] + rotation[1, 1] * offset[1] + rotation[2, 1] * offset[2]
            z = rotation[0, 2] * offset[0] + rotation[1, 2] * offset[1] + rotation[2, 2] * offset[2]
            whole = x * x + y * y + z * z - radius * radius
            half = np.full(3, radius, np.float32)
            top, bottom, left, right = bounds(rotation, offset, half, intrinsics, height, width)
            for row in range(top, bottom):
                v = (row + np.float32(0.5) - cy) / fy
                for column in range(left, right):
                    u = (column + np.float32(0.5) - cx) / fx
                    along, square = u * x + v * y + z, u * u + v * v + 1
                    discriminant = along * along - square * whole
                    if discriminant < 0:
                        continue
                    root = np.sqrt(discriminant)
                    near, behind = (along - root) / square, depth[b, row, column]
                    if near <= 0 or 0 < behind < near:
                        continue
                    depth[b, row, column] = near
                    out = (
                        rotation[2, 0] * (u * near - x) + rotation[2, 1] * (v * near - y) + rotation[2, 2] * (near - z)
                    )
                    bright = light(out / radius, root / (radius * np.sqrt(square)))
                    for channel in range(3):
                        rgb[b, row, column, channel] = colors[b, k, channel] * bright


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _draw_posts(
    rgb: F32, depth: F32, poses: F32, intrinsics: F32, feet: F32, radii: F32, heights: F32, colors: F32
) -> None:
    count, height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for b in prange(count):
        rotation, eye = poses[b, :3, :3], poses[b, :3, 3]
        for k in range(radii.shape[1]):
            radius, tall = radii[b, k], heights[b, k]
            if radius <= 0:
                continue
            x, y, z = eye - feet[b, k]  # of the camera, from the foot, in world axes
            inside = x * x + y * y - radius * radius
            half = np.array([radius, radius, tall / 2], np.float32)
            middle = np.array([-x, -y, tall / 2 - z], np.float32)
            top, bottom, left, right = bounds(rotation, middle, half, intrinsics, height, width)
            for row in range(top, bottom):
                v = (row + np.float32(0.5) - cy) / fy
                for column in range(left, right):
                    u = (column + np.float32(0.5) - cx) / fx
                    dx = rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2]
                    dy = rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2]
                    dz = rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2]
                    flat = dx * dx + dy * dy
                    length = np.sqrt(flat + dz * dz)
                    near, up, facing = (tall - z) / dz, np.float32(1), -dz / length
                    if not (z > tall and dz < 0) or (x + near * dx) ** 2 + (y + near * dy) ** 2 > radius * radius:
                        along = x * dx + y * dy
                        discriminant = along * along - flat * inside
                        if discriminant < 0:
                            continue
                        root = np.sqrt(discriminant)
                        near, up, facing = (-along - root) / flat, np.float32(0), root / (radius * length)
                        if not 0 <= z + near * dz <= tall:
                            continue
                    behind = depth[b, row, column]
                    if near <= 0 or 0 < behind < near:
                        continue
                    depth[b, row, column] = near
                    for channel in range(3):
                        rgb[b, row, column, channel] = colors[b, k, channel] * light(up, facing)


AMBIENT = np.float32(0.45)
FROM_ABOVE = np.float32(0.3)
FROM_CAMERA = np.float32(0.25)
"""Shares of a surface's colour; together 1."""


@njit(cache=True, nogil=True, inline="always")
def light(up: np.float32, facing: np.float32) -> np.float32:
    """Brightness, 0..1, of a surface by the cosines of its normal with the vertical and with the way to the camera."""
    return AMBIENT + FROM_ABOVE * max(np.float32(0), up) + FROM_CAMERA * facing


@njit(cache=True, nogil=True, inline="always")
def rotated(pose: F32, direction: F32) -> Vector:
    """A direction (3,) in the axes that a pose (3 or more, 4) leads to."""
    x, y, z = direction[0], direction[1], direction[2]
    return (
        pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z,
        pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z,
        pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z,
    )


@njit(cache=True, nogil=True, inline="always")
def transformed(pose: F32, point: F32) -> Vector:
    """A point (3,) in the axes that a pose (3 or more, 4) leads to."""
    x, y, z = rotated(pose, point)
    return x + pose[0, 3], y + pose[1, 3], z + pose[2, 3]

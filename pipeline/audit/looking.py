"""What robots see of a splat, and where their rays meet what they touch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from scipy import ndimage

from pipeline.check.views import MIN_ALPHA
from pipeline.coaching.wanted import spread
from pipeline.coverage.map import TRUSTED, CoverageMap
from pipeline.coverage.stage import horizontal_rotation
from pipeline.geometry import Camera, Gaussians, Mesh, Pose, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster
from pipeline.progress import track
from pipeline.raster import contiguous, pack, render_batch
from pipeline.regions.regions import Regions
from pipeline.scenes.bundle import BundleCamera
from pipeline.types import F32, F64, I64, Mask

LENS = Camera(96, 72, 54.0, 54.0, 48.0, 36.0)
"""83 degrees across, as robots' cameras have."""
HEIGHTS = ((0.3, 10.0), (0.6, 15.0), (1.2, 30.0))
"""Heights of robots' cameras over the floor [m]: a rover's, a four-legged one's, a humanoid's or a station's; and how
far each looks down [degrees], to see what is underfoot and on tables."""
PLACES, HEADINGS, CAPTURED = 24, 4, 48
"""So many places, headings from each, and views of the capture, which know landings above robots' eyes."""
ROOM = 0.15
"""An eye keeps so much distance from what it could touch [m]."""
SHARP = 0.04
"""Mean and median depth of a pixel of one surface differ by no more than this share of it."""
STEEP = 0.25
"""Least cosine between ray and normal: at grazing angles depth says little about the surface."""
NEAR = 0.08
"""What is seen so near to what is touched, along its normal, is the same surface [m]."""
CLEARLY = 0.06
"""What is seen so far from it, along its normal, is another one [m]."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Pixels that show a surface which can be touched there.

    Attributes:
        view: (N,) number of the view.
        point: (N, 3) where the ray meets the collision mesh [m].
        normal: (N, 3) of the mesh there.
        face: (N,) triangle of the mesh.
        gap: (N,) how far what is seen lies before the mesh, along the normal [m]; negative: behind it.
    """

    view: I64
    point: F64
    normal: F64
    face: I64
    gap: F64

    def chosen(self, mask: Mask) -> Samples:
        """Some of them (N,)."""
        return Samples(*(values[mask] for values in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Looks:
    """Depth images of V views, along the rays' z [m], of the splat and of the collision mesh.

    Attributes:
        poses: (V,) world from camera, all of `LENS`.
        seen: (V, H, W) float32 median depth of the splat; 0 where it shows nothing, or no single surface.
        touched: (V, H, W) float32 depth of the mesh; inf where the ray meets nothing.
        face: (V, H, W) triangle of the mesh; -1 where it meets nothing.
        captured: From which view on they are the capture's.
    """

    splat: Gaussians
    collision: Mesh
    captured: int
    poses: tuple[Pose, ...]
    seen: F32
    touched: F32
    face: I64

    @cached_property
    def directions(self) -> F32:
        """Of the rays (V, H, W, 3), with z = 1 in the camera."""
        return np.stack([pose.rotate(LENS.rays()) for pose in self.poses]).astype(np.float32)

    @cached_property
    def eyes(self) -> F64:
        """Where the cameras are (V, 3) [m]."""
        return np.array([pose.translation for pose in self.poses])

    @cached_property
    def gaps(self) -> F32:
        """How far (V, H, W) what is seen lies before the mesh, along its normal [m].

        NaN where the ray grazes, or one of both isn't there.
        """
        normals = self.collision.face_normals()[self.face].astype(np.float32)
        slope = np.einsum("vhwc,vhwc->vhw", normals, self.directions)
        steep = -slope > STEEP * np.linalg.norm(self.directions, axis=-1)
        known = steep & (self.seen > 0) & (self.face >= 0)
        with np.errstate(invalid="ignore"):
            return np.where(known, (self.seen - self.touched) * slope, np.nan).astype(np.float32)

    @cached_property
    def same(self) -> Samples:
        """Pixels in which what is seen and what is touched are one surface."""
        return self.samples(np.abs(self.gaps) < NEAR)

    def samples(self, mask: Mask) -> Samples:
        """Those pixels (V, H, W), all of which meet the mesh."""
        view, row, column = np.nonzero(mask)
        at, face = (view, row, column), self.face[mask]
        point = self.eyes[view] + self.directions[at] * self.touched[at][:, None].astype(np.float64)
        return Samples(view, point, self.collision.face_normals()[face], face, self.gaps[mask].astype(np.float64))


def whole(mask: Mask) -> Mask:
    """Pixels (V, H, W) whose neighbours are marked, too: outlines lie a pixel off in any image."""
    return cast(Mask, ndimage.binary_erosion(mask, np.ones((1, 3, 3), bool)))


def look_round(
    splat: Gaussians, collision: Mesh, regions: Regions, coverage: CoverageMap, captured: tuple[BundleCamera, ...]
) -> Looks:
    """Look from where robots may stand and where images can be trusted, and from the capture's cameras."""
    caster = RayCaster(collision)
    poses = [*_stances(caster, regions, coverage)]
    every = slice(None, None, -(-len(captured) // CAPTURED) or 1)
    stances = len(poses)
    poses += [view.world_from_camera for view in captured[every]]
    packed = pack(contiguous(splat))
    shape = (len(poses), LENS.height, LENS.width)
    seen, touched, face = np.zeros(shape, np.float32), np.full(shape, np.inf, np.float32), np.full(shape, -1)
    for number, pose in enumerate(track(poses, "looking round")):
        image = render_batch(packed, LENS, [pose], sh_count=1)
        assert image.median_depth is not None
        depth, middle = image.depth[0], image.median_depth[0]
        sharp = (image.alpha[0] >= MIN_ALPHA) & (np.abs(depth - middle) <= SHARP * middle)
        seen[number] = np.where(sharp, middle, 0)
        directions = pose.rotate(LENS.rays()).reshape(-1, 3)
        hits = caster.cast(np.broadcast_to(pose.translation, directions.shape), directions)
        touched[number], face[number] = hits.distance.reshape(shape[1:]), hits.triangle.reshape(shape[1:])
    return Looks(splat, collision, stances, tuple(poses), seen, touched, face)


def _stances(caster: RayCaster, regions: Regions, coverage: CoverageMap) -> Iterator[Pose]:
    """World from camera of robots' cameras."""
    cells = np.column_stack([regions.centres()[regions.walkable], regions.height[regions.walkable]]).astype(np.float64)
    places = spread(cells, PLACES)
    for number, place in enumerate(places):
        for height, down in HEIGHTS:
            eye = place + np.array([0, 0, height])
            if caster.distances(eye[None])[0] < ROOM:
                continue
            pitch = matrix_from_rotvec(np.array([-np.deg2rad(down), 0, 0]))
            headings = 2 * np.pi * (np.arange(HEADINGS) + number / len(places)) / HEADINGS
            trust = coverage.trust(np.repeat(place[None], HEADINGS, 0), headings)
            for heading in headings[trust >= TRUSTED]:
                yield Pose(horizontal_rotation(heading) @ pitch, eye)

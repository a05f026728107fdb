"""The part of a place that a re-scan changes: cubes around all that it shows otherwise. The rest stays bit for bit.

Surface says so where the views of one scan look through what the other has, colour where what the earlier splat shows
from the re-scan's places is not what its photos show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, label

from pipeline.changes.pieces import NARROWEST, clusters
from pipeline.depth.maps import DepthMap, subsampled_to
from pipeline.geometry import Gaussians, Mesh, Pose
from pipeline.objects.find import LEAST_AREA
from pipeline.raster import contiguous, render
from pipeline.splat.views import PyramidLevel
from pipeline.types import F64, I64, Floats, Mask

PART_FILE = "part.npz"
CELL = 0.1
"""Edge of a cube [m]."""
MARGIN = 4
"""Cubes around what changed that change along: edges, contact shadows, and `BORDER` where nothing has changed."""
BORDER = 2
"""Outermost cubes in which the surface is the earlier one, too, so that both meshes meet: more than a truncation."""
CORE = 2
"""Cubes around what changed that earlier photos say nothing of, where later ones show them: what looked alike in some
photos has another colour, too."""
LEAST_CUBES = 6
"""Cubes of another colour that hang together are noise when they are fewer."""
TINT, OPAQUE = 0.1, 0.9
"""A pixel has another colour when the mean difference of its channels is larger, 0..1, where the splat is opaque."""
LOOKS, SHARE = 2, 0.5
"""A cube has another colour when so many views at least show it so, and this share of those that look at it."""
SIDE = 160
"""Depth maps are asked at about this size what they show of a part [px]."""


@dataclass(frozen=True, eq=False)
class Part:
    """Cubes of a place in the world frame: `cells` (X, Y, Z) are its own, `low` (3,) is the first one's corner [m]."""

    low: F64
    cells: Mask

    @staticmethod
    def around(points: Floats, margin: int = MARGIN) -> Part:
        """The cubes that points (N, 3) [m] lie in, and those around, by a margin [cubes]."""
        if not len(points):
            return Part(np.zeros(3), np.zeros((0, 0, 0), bool))
        index = np.floor(points / CELL).astype(np.int64)
        first = index.min(0) - margin
        cells = np.zeros(np.ptp(index, axis=0) + 1 + 2 * margin, bool)
        cells[tuple((index - first).T)] = True
        reach = np.arange(-margin, margin + 1) ** 2
        ball = reach[:, None, None] + reach[:, None] + reach <= margin**2
        return Part(first * CELL, np.asarray(binary_dilation(cells, ball), bool))

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not self.cells.any()

    @property
    def inner(self) -> Part:
        """The same without its border."""
        return Part(self.low, np.asarray(binary_erosion(self.cells, iterations=BORDER), bool))

    def holds(self, points: Floats) -> Mask:
        """Which points (..., 3) [m] lie in it."""
        index = np.floor((points.reshape(-1, 3).astype(np.float64) - self.low) / CELL).astype(np.int64)
        held = np.asarray(((index >= 0) & (index < self.cells.shape)).all(1), bool)
        held[held] = self.cells[tuple(index[held].T)]
        return held.reshape(points.shape[:-1])

    def box(self, margin: float) -> tuple[F64, F64]:
        """The corners of the box around it, which is larger by a margin [m]."""
        return self.low - margin, self.low + np.array(self.cells.shape) * CELL + margin

    def near(self, points: Floats, margin: float) -> Mask:
        """Which points (N, 3) lie in that box."""
        low, high = self.box(margin)
        return np.asarray(((points > low) & (points < high)).all(1), bool)

    def share_of(self, depth_map: DepthMap) -> float:
        """Which share of a map's pixels [m, world frame] shows some of it."""
        small = subsampled_to(depth_map, SIDE)
        known = small.depth > 0
        return float(self.holds(small.points()[known]).sum() / known.size)

    def save(self, folder: Path) -> None:
        """Write into a folder."""
        np.savez_compressed(folder / PART_FILE, **asdict(self))

    @staticmethod
    def load(folder: Path) -> Part:
        """Read what `save` wrote."""
        with np.load(folder / PART_FILE, allow_pickle=False) as data:
            return Part(data["low"], data["cells"])


def changed_surface(meshes: Iterable[Mesh]) -> F64:
    """Points (N, 3) on changed surface [m, world frame], less pieces that are small or narrow: noise along edges."""
    points = [np.zeros((0, 3))]
    for mesh in meshes:
        middles = mesh.corners().mean(1).astype(np.float64)
        if len(middles):
            of = clusters(middles)
            areas = np.bincount(of, mesh.face_areas())
            longest = np.array([np.ptp(middles[of == piece], axis=0).max() for piece in range(len(areas))])
            points.append(middles[((areas >= LEAST_AREA) & (areas > NARROWEST * longest))[of]])
    return np.concatenate(points)


def recolored(splat: Gaussians, looks: Iterable[tuple[PyramidLevel, Pose]]) -> tuple[F64, F64]:
    """Middles (N, 3) of cubes that an earlier splat shows in another colour than photos with depth [m, world frame].

    Each photo comes with its world-from-camera pose, at about the size of `SIDE`. The second are those of all cubes
    that the photos show.
    """
    splat, cells, other = contiguous(splat), [np.zeros((0, 3), np.int64)], [np.zeros(0, bool)]
    for level, pose in looks:
        image = render(splat, level.camera, pose)
        photo = np.moveaxis(level.photo, 0, -1) / np.float32(255)
        known = image.alpha > OPAQUE if level.mask is None else (image.alpha > OPAQUE) & level.mask
        gain = (photo * image.rgb)[known].sum(0) / ((image.rgb**2)[known].sum(0) + np.float32(1e-3))
        off = np.abs(cv2.blur(photo - image.rgb * gain, (3, 3))).mean(-1)
        differs = cv2.morphologyEx((off > TINT).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        depth = np.zeros(known.shape, np.float32) if level.depth is None else level.depth.depth
        known &= depth > 0
        points = pose.apply(level.camera.rays()[known] * depth[known][:, None].astype(np.float64))
        index, of = np.unique(np.floor(points / CELL).astype(np.int64), axis=0, return_inverse=True)
        cells.append(index)
        other.append(np.bincount(of.ravel(), differs[known]) > SHARE * np.bincount(of.ravel()))
    index, of = np.unique(np.concatenate(cells), axis=0, return_inverse=True)
    looked, votes = np.bincount(of.ravel()), np.bincount(of.ravel(), np.concatenate(other))
    other_color = index[(votes >= LOOKS) & (votes > SHARE * looked)]
    together = _together(other_color)
    other_color = other_color[np.bincount(together)[together] >= LEAST_CUBES]
    return _middles(other_color), _middles(index[looked >= LOOKS])


def _middles(cells: I64) -> F64:
    return np.asarray((cells + 0.5) * CELL, np.float64)


def _together(cells: I64) -> I64:
    """Which of the groups of cubes (N, 3) that touch each other each belongs to."""
    if not len(cells):
        return np.zeros(0, np.int64)
    first = cells.min(0)
    filled = np.zeros(np.ptp(cells, axis=0) + 1, bool)
    filled[tuple((cells - first).T)] = True
    numbers = np.asarray(label(filled, np.ones((3, 3, 3)))[0])  # pyright: ignore[reportIndexIssue]
    return numbers[tuple((cells - first).T)].astype(np.int64) - 1

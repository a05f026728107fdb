"""What rooms take over from a real place: colours of its floor, walls and things, their contrast, its brightness."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from pipeline.errors import BundleError
from pipeline.geometry import SH_C0, matrix_from_quaternion
from pipeline.geometry.rays import RayCaster
from pipeline.rooms.paints import Palette
from pipeline.rooms.splat import LUMINANCE
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64, Mask

COLORS = 96
"""Colours of each class that are remembered."""
ON_MESH = 0.06
"""Farthest that a Gaussian may lie off the mesh to count as surface [m]."""
OPAQUE = 0.4
LEVEL, UPRIGHT = 0.85, 0.35
"""Least z of a level surface's normal, and largest of a wall's."""
FLOOR, TABLES = 0.1, 1.2
"""Heights over the floor up to which level surfaces are floor, and everything else is things [m]."""
NEIGHBOURS = 8
FEWEST = 40
"""Gaussians without which a class takes the colours of all."""


def palette_of(bundle: Bundle) -> Palette:
    """The palette of a bundle's splat.

    Raises:
        BundleError: When it is an object by itself, or its splat shows nothing of its mesh.
    """
    remedy = "name the bundle of a place, such as bundles/hall/1.0.0"
    if bundle.manifest.is_object:
        found = f"{bundle.manifest.reference}, an object by itself"
        raise BundleError("rooms are painted like a place", found=found, remedy=remedy, file=bundle.root)
    splat, floor = bundle.splat(), bundle.regions.floor_height
    near = RayCaster(bundle.mesh("collision")).distances(splat.means) < ON_MESH
    splat = splat[near & (splat.opacities > OPAQUE)]
    if len(splat) < FEWEST:
        found = f"{len(splat)} Gaussians on the mesh of {bundle.manifest.reference}"
        raise BundleError("a splat shows the mesh", found=found, remedy=remedy, file=bundle.root)
    colors = np.clip(0.5 + SH_C0 * splat.sh[:, 0].astype(np.float64), 0, 1)
    scales = np.exp(np.sort(splat.log_scales.astype(np.float64), 1))
    shown = splat.opacities * scales[:, 1] * scales[:, 2]
    turns = matrix_from_quaternion(splat.quaternions.astype(np.float64))
    upward = np.abs(turns[np.arange(len(splat)), 2, splat.log_scales.argmin(1)])
    height = splat.means[:, 2] - floor
    on_floor = (upward > LEVEL) & (height < FLOOR)
    on_walls = (upward < UPRIGHT) & (height > TABLES)
    things = ~on_floor & (height < TABLES) & (height > FLOOR)
    local = colors[KDTree(splat.means).query(splat.means, NEIGHBOURS)[1]]
    smooth, off = local.mean(1), local.std(1).mean(1)
    chosen = [_some(smooth, off, shown, mask) for mask in (on_floor, on_walls, things)]
    both = on_floor | on_walls
    bright = colors[both] if both.any() else colors
    brightness = float(np.average(bright @ LUMINANCE, weights=shown[both] if both.any() else shown))
    contrast = (chosen[0][1], chosen[1][1], chosen[2][1])
    return Palette(chosen[0][0], chosen[1][0], chosen[2][0], contrast, brightness)


def _some(colors: F64, off: F64, shown: F64, mask: Mask) -> tuple[F64, float]:
    """Colours of a class (`COLORS`, 3), each as often as it is seen, and how much neighbours differ on the average."""
    if mask.sum() < FEWEST:
        mask = np.ones(len(colors), bool)
    weight = shown[mask] / shown[mask].sum()
    picked = np.random.default_rng(0).choice(int(mask.sum()), COLORS, p=weight)
    return colors[mask][picked], float(off[mask] @ weight)

"""Scale, up and north from where photos were taken by satellites: cameras laid onto the positions by one similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.align.gravity import UpEstimate
from pipeline.align.scale import Scale
from pipeline.capture.model import Capture
from pipeline.geometry import Similarity, fit_similarity
from pipeline.poses.scene import View
from pipeline.types import F64

MIN_PHOTOS = 6
"""Fewest photos with a position."""
MAX_SCALE_SIGMA, MAX_UP_SIGMA_DEG = 0.25, 10.0
"""Where sigmas would be larger, as in a room, positions say nothing."""
SHARED = 0.35
"""Error that neighbours in time have in common, by a single position's sigma: neither averaging nor the residuals show
it. Receivers drift by about a metre during a flight."""
ROUNDS, OUTLIER = 5, 3.0
"""Rounds of the fit, and the distance by the median distance from which on a position counts as wrong."""


@dataclass(frozen=True)
class GpsFit:
    """What positions say of the scene; None where too uncertain.

    Attributes:
        north: (3,) unit vector in the scene's frame.
        north_sigma_deg: One sigma of its direction on a map.
        middle: (3,) the middle of all positions in the scene's frame; known where north is.
        middle_sigma: One sigma of its place on a map [m], with the error that all positions share.
    """

    scale: Scale | None = None
    up: UpEstimate | None = None
    north: F64 | None = None
    north_sigma_deg: float = 0.0
    middle: F64 | None = None
    middle_sigma: float = 0.0


def fit_gps(capture: Capture, views: Sequence[View]) -> GpsFit:
    """Lay the views' positions onto those by satellites.

    The sigmas join the scatter about the fit, which averaging reduces, with the error that positions share.
    """
    given = {frame.name: frame for frame in capture.frames if frame.gps is not None and frame.gps_sigma}
    used = [(view.world_from_camera.translation, given[view.name]) for view in views if view.name in given]
    if len(used) < MIN_PHOTOS:
        return GpsFit()
    scene = np.array([position for position, _ in used])
    metres = np.array([frame.gps for _, frame in used], np.float64)
    stated = np.median([frame.gps_sigma for _, frame in used if frame.gps_sigma], axis=0)
    kept = np.ones(len(used), bool)
    gps_from_scene, off = Similarity.identity(), np.zeros_like(metres)
    for _ in range(ROUNDS):
        gps_from_scene = fit_similarity(scene[kept], metres[kept])
        off = metres - gps_from_scene.apply(scene)
        distance = np.linalg.norm(off, axis=1)
        kept = distance <= max(OUTLIER * float(np.median(distance)), float(stated.min()))
    count = int(kept.sum())
    if count < MIN_PHOTOS:
        return GpsFit()
    freedom = 3 * count / (3 * count - 7)  # of the similarity
    across, height = np.sqrt(freedom * np.mean(off[kept, :2] ** 2)), np.sqrt(freedom * np.mean(off[kept, 2] ** 2))
    centred = metres[kept] - metres[kept].mean(0)
    extent = np.sqrt((centred**2).sum(1).mean())
    narrow = np.sqrt(
        max(0.0, float(np.linalg.eigvalsh(np.cov(centred[:, :2].T))[0]))
    )  # of the positions' shape from above
    scale_sigma = np.hypot(across / count**0.5, SHARED * stated[0]) / max(extent, 1e-9)
    up_sigma = np.rad2deg(np.arctan2(np.hypot(height / count**0.5, SHARED * stated[1]), narrow))
    up = gps_from_scene.rotation.T @ np.array([0.0, 0.0, 1.0])
    upright = up_sigma <= MAX_UP_SIGMA_DEG
    turn_sigma = np.rad2deg(scale_sigma)  # positions turn by as much as they stretch
    fit = GpsFit(
        Scale(gps_from_scene.scale, float(scale_sigma), "gps") if scale_sigma <= MAX_SCALE_SIGMA else None,
        UpEstimate(("gps",), up, float(up_sigma)) if upright else None,
    )
    if not upright or turn_sigma > MAX_UP_SIGMA_DEG:
        return fit
    north = gps_from_scene.rotation.T @ np.array([0.0, 1.0, 0.0])
    middle = gps_from_scene.inverse().apply(np.zeros(3))
    off_map = float(np.hypot(across / count**0.5, stated[0]))
    return replace(fit, north=north, north_sigma_deg=float(turn_sigma), middle=middle, middle_sigma=off_map)

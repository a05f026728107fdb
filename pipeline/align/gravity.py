"""Gravity: estimates of the up direction from sensors, cameras and surfaces, fused by their sigmas."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.align.scale import MAX_DISAGREEMENT
from pipeline.align.surfaces import Surfaces, horizontal_axes
from pipeline.capture.model import Capture
from pipeline.poses.scene import View
from pipeline.types import F64

logger = logging.getLogger(__name__)

ACCELEROMETER_BIAS_DEG = 0.15
"""One sigma of the sensor's misalignment if the capture doesn't state it; averaging doesn't reduce it."""
WRONG_DEG, MAX_SPREAD_DEG = 5.0, 10.0
"""Angle from the others from which on a reading is named as wrong; mean one between the parts of a capture from which
on readings say nothing: the way people hold cameras says as much."""
PARTS = 6
"""Number of parts of a capture whose mean readings are compared: errors of neighbours in time are correlated."""
SURFACES_SIGMA_DEG = 0.15
"""How horizontal floors and how vertical walls are built."""
TURNTABLE_SIGMA_DEG = 0.5
"""How level turntables stand."""
ONE_WALL_SIGMA_DEG = 1.0
"""How vertical a single wall is: it may be a leaning board."""


@dataclass(frozen=True, eq=False)
class UpEstimate:
    """An estimate of the unit up direction (3,) in the scene's frame, by one or several sources such as surfaces.

    With `normal` (3,), that of a single wall, up is only known to be perpendicular to it.
    """

    sources: tuple[str, ...]
    up: F64
    sigma_deg: float
    normal: F64 | None = None

    @property
    def source(self) -> str:
        """All sources in one text, such as "accelerometer+surfaces"."""
        return "+".join(self.sources)

    @property
    def information(self) -> F64:
        """(3, 3) inverse covariance [1/deg^2]."""
        known = np.eye(3) if self.normal is None else np.outer(self.normal, self.normal)
        return known / self.sigma_deg**2

    def off_deg(self, up: F64) -> float:
        """Angle between another up (3,) and this one [deg], in the directions that this one constrains."""
        return tilt_deg(self.up, up) if self.normal is None else float(np.rad2deg(np.arcsin(abs(self.normal @ up))))

    def report(self, result: UpEstimate) -> dict[str, object]:
        """JSON values, compared with the fused result."""
        return {
            "source": self.source,
            "sigma_deg": round(self.sigma_deg, 4),
            "off_the_result_deg": round(self.off_deg(result.up), 4),
        }


def up_from_readings(
    views: Sequence[View], shared_sigma_deg: float | None = None, sources: tuple[str, ...] = ("accelerometer",)
) -> UpEstimate | None:
    """Robust mean of the views' gravity readings, in the order of time, rotated into the scene's frame.

    `shared_sigma_deg` is one sigma of the error that all readings share; None if the capture doesn't state it. Readings
    that are far off the others are left out and named; None with fewer than three, or where they agree on nothing.
    """
    read = [view for view in views if view.gravity is not None]
    readings = np.array([view.world_from_camera.rotate(-view.gravity) for view in read if view.gravity is not None])
    if len(readings) < 3:
        return None
    source, up = "+".join(sources), _unit(np.median(readings, axis=0))
    off = _angles_deg(readings, up)
    limit = max(3 * float(np.median(off)), 0.05)
    if wrong := [view.name for view, angle in zip(read, off, strict=True) if angle > max(limit, WRONG_DEG)]:
        logger.warning(
            "gravity from %s of %d of %d images is %.0f degrees or more off that of the others and left out, first %s",
            source,
            len(wrong),
            len(read),
            max(limit, WRONG_DEG),
            wrong[0],
        )
    kept = readings[off <= limit]
    up = _unit(kept.mean(0))
    parts = np.array([_unit(part.mean(0)) for part in np.array_split(kept, min(PARTS, len(kept)))])
    spread = float(np.sqrt(np.mean(_angles_deg(parts, up) ** 2)))
    shared = ACCELEROMETER_BIAS_DEG if shared_sigma_deg is None else shared_sigma_deg
    if spread > MAX_SPREAD_DEG:
        logger.warning("gravity from %s is not used: readings differ by %.0f degrees from their mean", source, spread)
        return None
    return UpEstimate(sources, up, float(np.hypot(spread / np.sqrt(len(parts)), shared)))


def up_from_capture_world(capture: Capture, views: Sequence[View]) -> UpEstimate | None:
    """The up direction that the capture states for its world, transferred by the poses in both worlds."""
    if capture.up_in_world is None or capture.up_sigma_deg is None:
        return None
    given = {frame.name: frame.world_from_camera for frame in capture.frames}
    ups = [
        view.world_from_camera.rotation @ pose.rotation.T @ capture.up_in_world
        for view in views
        if (pose := given.get(view.name)) is not None
    ]
    return UpEstimate((capture.kind,), _unit(np.median(ups, axis=0)), capture.up_sigma_deg) if ups else None


def up_from_turntable(views: Sequence[View]) -> UpEstimate:
    """The axis that an object turned about before a still camera: the one direction that no view sees move."""
    rotations = np.array([view.world_from_camera.rotation for view in views])
    moved = rotations - rotations.mean(0)
    up = _towards(np.linalg.eigh(np.einsum("nij,nkj->ik", moved, moved))[1][:, 0], -rotations[:, :, 1].mean(0))
    seen = np.einsum("nij,i->nj", rotations, up)
    spread = float(np.sqrt(np.mean(_angles_deg(seen, _unit(seen.mean(0))) ** 2)))
    return UpEstimate(("turntable",), up, float(np.hypot(spread, TURNTABLE_SIGMA_DEG)))


def up_from_cameras(views: Sequence[View]) -> UpEstimate:
    """Up by the way people hold cameras: the images' x axes lie in one horizontal plane, their y axes point down.

    Source: R. Szeliski, Image alignment and stitching, 2006, section 2.4 (up vector of a panorama).
    """
    right = np.array([view.world_from_camera.rotation[:, 0] for view in views])
    up_axes = np.array([-view.world_from_camera.rotation[:, 1] for view in views])
    mean_up = _unit(up_axes.mean(0))
    values, vectors = np.linalg.eigh(right.T @ right / len(right))
    normal = vectors[:, 0] * np.sign(vectors[:, 0] @ mean_up or 1.0)
    # with one viewing direction, the x axes are nearly parallel and don't constrain pitch
    spread_enough = values[1] > 0.05 and normal @ mean_up > 0.5
    up = normal if spread_enough else mean_up
    return UpEstimate(("cameras",), up, 4.0 if spread_enough else 10.0)


def up_from_surfaces(surfaces: Surfaces, rough: UpEstimate) -> UpEstimate | None:
    """Refine a rough up by horizontal surfaces (floors, tables, ceilings) and walls.

    Minimises the area-weighted squared sine between horizontal surfaces' normals and up, and cosine between walls'
    normals and up (the smallest eigenvector of one 3x3 matrix), with decreasing tolerance. The sigma is the
    disagreement of horizontal and vertical surfaces, at least the accuracy of buildings. A single wall only determines
    the direction perpendicular to it.
    """
    if len(surfaces.points) < 500:
        return None
    normals, area = surfaces.normals, np.minimum(surfaces.area, np.percentile(surfaces.area, 95))
    up = rough.up
    start = float(np.clip(3 * rough.sigma_deg, 5, 25))
    for tolerance in np.geomspace(start, 3.0, 8):
        matrix = np.zeros((3, 3))
        for _ in range(3):
            horizontal, vertical = _weights(normals, area, up, float(tolerance))
            matrix = _scatter(normals, vertical) - _scatter(normals, horizontal)
            if horizontal.sum() + vertical.sum() < 0.05 * area.sum():
                return None
            # a small weight of the rough up, for the direction along a single wall
            matrix -= 1e-3 * (horizontal.sum() + vertical.sum()) * np.outer(rough.up, rough.up)
            up = _towards(np.linalg.eigh(matrix)[1][:, 0], up)
    horizontal, vertical = _weights(normals, area, up, 3.0)
    total = horizontal.sum() + vertical.sum()
    ups = []
    if horizontal.sum() > 0.15 * total:
        ups.append(_towards(np.linalg.eigh(-_scatter(normals, horizontal))[1][:, 0], up))
    walls = np.linalg.eigh(_scatter(normals, vertical))
    if vertical.sum() > 0.15 * total and walls[0][1] > 0.1 * walls[0][2]:  # walls of two directions
        ups.append(_towards(walls[1][:, 0], up))
    if not ups and vertical.sum() > 0.15 * area.sum():
        return UpEstimate(("surfaces",), up, ONE_WALL_SIGMA_DEG, normal=walls[1][:, 2])
    if not ups:
        return None
    if len(ups) == 2:
        disagreement = tilt_deg(*ups) / 2
        return UpEstimate(("surfaces",), up, float(np.hypot(SURFACES_SIGMA_DEG, disagreement)))
    return UpEstimate(("surfaces",), up, 0.5)


def fuse(estimates: Sequence[UpEstimate]) -> UpEstimate:
    """Information-weighted mean of estimates, at least one without `normal`; contradictions increase its sigma."""
    information = np.sum([estimate.information for estimate in estimates], axis=0)
    up = _unit(np.linalg.solve(information, np.sum([e.information @ e.up for e in estimates], axis=0)))
    chi2 = sum((estimate.off_deg(up) / estimate.sigma_deg) ** 2 for estimate in estimates)
    degrees = sum(2 if estimate.normal is None else 1 for estimate in estimates) - 2  # a direction has two
    inflation = max(1.0, np.sqrt(chi2 / degrees)) if degrees else 1.0
    axes = horizontal_axes(up)
    smallest = float(np.linalg.eigvalsh(axes.T @ information @ axes)[0])
    min_sigma = min(estimate.sigma_deg for estimate in estimates)
    sources = tuple(s for estimate in estimates if estimate.sigma_deg < 3.2 * min_sigma for s in estimate.sources)
    return UpEstimate(sources, up, float(inflation / np.sqrt(smallest)))


def log_up_contradictions(estimates: Sequence[UpEstimate]) -> None:
    """Warn of every estimate that differs by more than three sigma from the one with the lowest sigma."""
    best = min(estimates, key=lambda estimate: (estimate.normal is not None, estimate.sigma_deg))
    for estimate in estimates:
        off, sigma = estimate.off_deg(best.up), float(np.hypot(estimate.sigma_deg, best.sigma_deg))
        if off > MAX_DISAGREEMENT * sigma:
            logger.warning(
                "gravity from %s is %.2f degrees off that from %s: %.1f sigma; one of them is wrong",
                estimate.source,
                off,
                best.source,
                off / sigma,
            )


def dominant_wall_direction(surfaces: Surfaces, up: F64, views: Sequence[View]) -> F64:
    """Horizontal unit direction (3,) along the walls; of the four, the one nearest to the first camera's view.

    Walls of a room meet at right angles, so azimuths are averaged modulo 90 degrees (four-fold phase).
    """
    look = views[0].world_from_camera.rotation[:, 2]
    east = _unit(look - (look @ up) * up if abs(look @ up) < 0.99 else np.cross(up, np.eye(3)[np.argmin(np.abs(up))]))
    north = np.cross(up, east)
    walls = np.abs(surfaces.normals @ up) < np.sin(np.deg2rad(10))
    if walls.sum() < 100:
        return east
    azimuth = np.arctan2(surfaces.normals[walls] @ north, surfaces.normals[walls] @ east)
    counts, edges = np.histogram(np.mod(azimuth, np.pi / 2), 90, (0, np.pi / 2), weights=surfaces.area[walls])
    peak = edges[np.argmax(np.convolve(np.r_[counts[-1], counts, counts[0]], np.ones(3), "valid"))] + np.pi / 360
    off = np.mod(azimuth - peak + np.pi / 4, np.pi / 2) - np.pi / 4
    near = np.abs(off) < np.deg2rad(4)
    angle = peak + float(np.average(off[near], weights=surfaces.area[walls][near]))
    angle = np.mod(angle + np.pi / 4, np.pi / 2) - np.pi / 4
    return np.cos(angle) * east + np.sin(angle) * north


def tilt_deg(a: F64, b: F64) -> float:
    """Angle [deg] between two unit directions (3,)."""
    return float(_angles_deg(a[None], b)[0])


def _weights(normals: F64, area: F64, up: F64, tolerance_deg: float) -> tuple[F64, F64]:
    cosine = normals @ up
    limit = np.sin(np.deg2rad(tolerance_deg))
    sine = np.sqrt(np.maximum(0, 1 - cosine**2))
    horizontal = np.where(sine < limit, (1 - (sine / limit) ** 2) ** 2, 0) * area  # Tukey's biweight
    vertical = np.where(np.abs(cosine) < limit, (1 - (cosine / limit) ** 2) ** 2, 0) * area
    return horizontal, vertical


def _scatter(normals: F64, weights: F64) -> F64:
    return (normals * weights[:, None]).T @ normals


def _towards(direction: F64, like: F64) -> F64:
    return direction if direction @ like >= 0 else -direction


def _unit(vector: np.ndarray) -> F64:
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def _angles_deg(directions: F64, reference: F64) -> F64:
    """Angles (N,) [deg]; exact for small ones, unlike arccos."""
    sine = np.linalg.norm(np.cross(directions, reference), axis=-1)
    return np.rad2deg(np.arctan2(sine, directions @ reference))

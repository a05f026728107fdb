"""Gravity: estimates of the up direction from sensors, cameras and surfaces, fused with their sigmas."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.align.scale import MAX_DISAGREEMENT
from pipeline.align.surfaces import Surfaces, level_axes
from pipeline.capture.model import Capture
from pipeline.poses.scene import View

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]

ACCELEROMETER_BIAS_DEG = 0.15
"""What averaging over frames can't remove, where the capture doesn't say: the sensor's own misalignment."""
ALIKE_PARTS = 6
"""Parts of a capture whose mean readings are compared: neighbours in time err alike."""

LEVEL_SURFACES_SIGMA_DEG = 0.15
"""How level floors and how plumb walls are built."""

ONE_WALL_SIGMA_DEG = 1.0
"""How plumb the only wall is that was seen: it may be a board that leans."""


@dataclass(frozen=True, eq=False)
class UpEstimate:
    """One opinion on where up is.

    Attributes:
        source: accelerometer, arkit, surfaces, lines or cameras.
        up: (3,) unit, scene frame.
        sigma_deg: One sigma [deg].
        across: (3,) unit, of an estimate that only says what up is at right angles to (a single wall's normal).
    """

    source: str
    up: Array
    sigma_deg: float
    across: Array | None = None

    @property
    def information(self) -> Array:
        """(3, 3) inverse covariance [1/deg^2]."""
        known = np.eye(3) if self.across is None else np.outer(self.across, self.across)
        return known / self.sigma_deg**2

    def off_deg(self, up: Array) -> float:
        """How far another up (3,) is from this one [deg], as far as this one says anything."""
        return tilt_deg(self.up, up) if self.across is None else float(np.rad2deg(np.arcsin(abs(self.across @ up))))

    def report(self, result: UpEstimate) -> dict[str, object]:
        """What people are told of it, beside the up that came out of all: plain JSON values."""
        return {
            "source": self.source,
            "sigma_deg": round(self.sigma_deg, 4),
            "off_the_result_deg": round(self.off_deg(result.up), 4),
        }


def up_from_accelerometer(views: Sequence[View], shared_sigma_deg: float | None = None) -> UpEstimate | None:
    """Robust mean of the frames' gravity readings, turned into the scene's frame.

    Args:
        views: In the order of time.
        shared_sigma_deg: One sigma that all readings have in common [deg]; None where the capture doesn't say.
    """
    readings = [view.world_from_camera.rotate(-view.gravity) for view in views if view.gravity is not None]
    if len(readings) < 3:
        return None
    up = np.median(readings, axis=0)
    up /= np.linalg.norm(up)
    off = _angles_deg(np.array(readings), up)
    kept = np.array(readings)[off <= max(3 * float(np.median(off)), 0.05)]
    up = _unit(kept.mean(0))
    parts = np.array([_unit(part.mean(0)) for part in np.array_split(kept, min(ALIKE_PARTS, len(kept)))])
    spread = float(np.sqrt(np.mean(_angles_deg(parts, up) ** 2)))
    shared = ACCELEROMETER_BIAS_DEG if shared_sigma_deg is None else shared_sigma_deg
    return UpEstimate("accelerometer", up, float(np.hypot(spread / np.sqrt(len(parts)), shared)))


def up_from_capture_world(capture: Capture, views: Sequence[View]) -> UpEstimate | None:
    """The up direction that the source says its world has, carried over by the poses of both worlds."""
    if capture.up_in_world is None or capture.up_sigma_deg is None:
        return None
    given = {frame.name: frame.world_from_camera for frame in capture.frames}
    ups = []
    for view in views:
        pose = given.get(view.name)
        if pose is not None:
            ups.append(view.world_from_camera.rotation @ pose.rotation.T @ capture.up_in_world)
    return UpEstimate(capture.kind, _unit(np.median(ups, axis=0)), capture.up_sigma_deg) if ups else None


def up_from_cameras(views: Sequence[View]) -> UpEstimate:
    """People hold cameras level: the pictures' x axes lie in one horizontal plane, their y axes point down.

    Source: R. Szeliski, Image alignment and stitching, 2006, section 2.4 (up vector of a panorama).
    """
    right = np.array([view.world_from_camera.rotation[:, 0] for view in views])
    up_axes = np.array([-view.world_from_camera.rotation[:, 1] for view in views])
    mean_up = _unit(up_axes.mean(0))
    values, vectors = np.linalg.eigh(right.T @ right / len(right))
    normal = vectors[:, 0] * np.sign(vectors[:, 0] @ mean_up or 1.0)
    # looking one way only, the x axes are nearly parallel and say nothing about pitch
    spread_enough = values[1] > 0.05 and normal @ mean_up > 0.5
    up = normal if spread_enough else mean_up
    return UpEstimate("cameras", up, 4.0 if spread_enough else 10.0)


def up_from_surfaces(surfaces: Surfaces, rough: UpEstimate) -> UpEstimate | None:
    """Refine a rough up: floors, tables and ceilings are level, walls are plumb.

    Minimises the area-weighted squared sine between level normals and up, and cosine between plumb normals
    and up (the smallest eigenvector of one 3x3 matrix), in rounds of falling tolerance. The sigma is what the
    level and the plumb surfaces disagree by, but no less than how straight rooms are built. Where there is only
    one wall, it says what up is at right angles to.
    """
    if len(surfaces.points) < 500:
        return None
    normals, area = surfaces.normals, np.minimum(surfaces.area, np.percentile(surfaces.area, 95))
    up = rough.up
    start = float(np.clip(3 * rough.sigma_deg, 5, 25))
    for tolerance in np.geomspace(start, 3.0, 8):
        matrix = np.zeros((3, 3))
        for _ in range(3):
            level, plumb = _weights(normals, area, up, float(tolerance))
            matrix = _scatter(normals, plumb) - _scatter(normals, level)
            if level.sum() + plumb.sum() < 0.05 * area.sum():
                return None
            # a trace of the rough up, for what a single wall leaves open
            matrix -= 1e-3 * (level.sum() + plumb.sum()) * np.outer(rough.up, rough.up)
            up = _towards(np.linalg.eigh(matrix)[1][:, 0], up)
    level, plumb = _weights(normals, area, up, 3.0)
    total = level.sum() + plumb.sum()
    opinions = []
    if level.sum() > 0.15 * total:
        opinions.append(_towards(np.linalg.eigh(-_scatter(normals, level))[1][:, 0], up))
    walls = np.linalg.eigh(_scatter(normals, plumb))
    if plumb.sum() > 0.15 * total and walls[0][1] > 0.1 * walls[0][2]:  # walls of two directions
        opinions.append(_towards(walls[1][:, 0], up))
    if not opinions and plumb.sum() > 0.15 * area.sum():
        return UpEstimate("surfaces", up, ONE_WALL_SIGMA_DEG, across=walls[1][:, 2])
    if not opinions:
        return None
    if len(opinions) == 2:
        disagreement = float(_angles_deg(opinions[0][None], opinions[1])[0]) / 2
        return UpEstimate("surfaces", up, float(np.hypot(LEVEL_SURFACES_SIGMA_DEG, disagreement)))
    return UpEstimate("surfaces", up, 0.5)


def fuse(estimates: Sequence[UpEstimate]) -> UpEstimate:
    """Information-weighted mean; where opinions differ by more than their sigmas allow, the sigma grows.

    Args:
        estimates: At least one of them without `across`.
    """
    information = np.sum([estimate.information for estimate in estimates], axis=0)
    up = _unit(np.linalg.solve(information, np.sum([e.information @ e.up for e in estimates], axis=0)))
    chi2 = sum((estimate.off_deg(up) / estimate.sigma_deg) ** 2 for estimate in estimates)
    degrees = sum(2 if estimate.across is None else 1 for estimate in estimates) - 2  # a direction has two
    inflation = max(1.0, np.sqrt(chi2 / degrees)) if degrees else 1.0
    level = level_axes(up)
    least = float(np.linalg.eigvalsh(level.T @ information @ level)[0])
    surest = min(estimate.sigma_deg for estimate in estimates)
    source = "+".join(estimate.source for estimate in estimates if estimate.sigma_deg < 3.2 * surest)
    return UpEstimate(source, up, float(inflation / np.sqrt(least)))


def log_up_contradictions(estimates: Sequence[UpEstimate]) -> None:
    """Warn of every estimate that is more than three sigma off the surest one."""
    surest = min(estimates, key=lambda estimate: (estimate.across is not None, estimate.sigma_deg))
    for estimate in estimates:
        off, sigma = estimate.off_deg(surest.up), float(np.hypot(estimate.sigma_deg, surest.sigma_deg))
        if off > MAX_DISAGREEMENT * sigma:
            logger.warning(
                "gravity from %s is %.2f degrees off that from %s: %.1f sigma; one of them is wrong",
                estimate.source,
                off,
                surest.source,
                off / sigma,
            )


def dominant_wall_direction(surfaces: Surfaces, up: Array, views: Sequence[View]) -> Array:
    """Horizontal unit direction (3,) along the walls, of the four the one nearest to the first camera's view.

    Walls of a room meet at right angles, so azimuths are averaged modulo 90 degrees (four-fold phase).
    """
    look = views[0].world_from_camera.rotation[:, 2]
    east = _unit(look - (look @ up) * up if abs(look @ up) < 0.99 else np.cross(up, np.eye(3)[np.argmin(np.abs(up))]))
    north = np.cross(up, east)
    plumb = np.abs(surfaces.normals @ up) < np.sin(np.deg2rad(10))
    if plumb.sum() < 100:
        return east
    azimuth = np.arctan2(surfaces.normals[plumb] @ north, surfaces.normals[plumb] @ east)
    counts, edges = np.histogram(np.mod(azimuth, np.pi / 2), 90, (0, np.pi / 2), weights=surfaces.area[plumb])
    peak = edges[np.argmax(np.convolve(np.r_[counts[-1], counts, counts[0]], np.ones(3), "valid"))] + np.pi / 360
    off = np.mod(azimuth - peak + np.pi / 4, np.pi / 2) - np.pi / 4
    near = np.abs(off) < np.deg2rad(4)
    angle = peak + float(np.average(off[near], weights=surfaces.area[plumb][near]))
    angle = np.mod(angle + np.pi / 4, np.pi / 2) - np.pi / 4
    return np.cos(angle) * east + np.sin(angle) * north


def tilt_deg(a: Array, b: Array) -> float:
    """Angle [deg] between two unit directions (3,)."""
    return float(_angles_deg(a[None], b)[0])


def _weights(normals: Array, area: Array, up: Array, tolerance_deg: float) -> tuple[Array, Array]:
    cosine = normals @ up
    limit = np.sin(np.deg2rad(tolerance_deg))
    sine = np.sqrt(np.maximum(0, 1 - cosine**2))
    level = np.where(sine < limit, (1 - (sine / limit) ** 2) ** 2, 0) * area  # Tukey's biweight
    plumb = np.where(np.abs(cosine) < limit, (1 - (cosine / limit) ** 2) ** 2, 0) * area
    return level, plumb


def _scatter(normals: Array, weights: Array) -> Array:
    return (normals * weights[:, None]).T @ normals


def _towards(direction: Array, like: Array) -> Array:
    return direction if direction @ like >= 0 else -direction


def _unit(vector: NDArray[Any]) -> Array:
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def _angles_deg(directions: Array, reference: Array) -> Array:
    """Small angles exactly: arccos loses them."""
    sine = np.linalg.norm(np.cross(directions, reference), axis=-1)
    return np.rad2deg(np.arctan2(sine, directions @ reference))

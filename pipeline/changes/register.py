"""Where the second scan of a place lies in the first: both are metric and upright, and part of the place moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter

from pipeline.changes.surfaces import BEND, FACING, UPRIGHT, Surface, fit
from pipeline.errors import BundleError
from pipeline.geometry import Mesh, Pose, matrix_from_rotvec, rotvec_from_matrix
from pipeline.geometry.rays import RayCaster
from pipeline.objects.listing import views_of
from pipeline.objects.views import Views
from pipeline.scenes.bundle import Bundle
from pipeline.types import F32, F64, I64, Mask

SEED = 0
POINTS, FEW, FEWEST = 30_000, 5000, 1200
"""Surface points of the last fit, of those before, and of the first look."""
CELL, BANDS = 0.1, (0.25, 0.8, 1.4, 2.2)
"""Cells of the plans that are laid on each other, and the heights over the floor that bound them [m]."""
MAX_PLAN = 512
"""Longest side of a plan [cells]; of larger places they are coarser."""
YAWS = 72
"""In how many directions the second is looked at."""
STARTS, REFINED = 16, 4
"""So many of the best positions are tried, and refined."""
SAME = 0.3
"""Positions are one when the middle of the second lies nearer than this [m], and it is turned by less [rad]."""
LEVEL = 0.5
"""Floors lie on each other anywhere: what is more level than this doesn't tell places apart."""
ON_IT = 0.05
"""Surface as near to the other's is seen in both [m]."""
THROUGH = 0.12
"""A view looks through what lies before its surface by more than this [m]."""
AGREE, COVERED = 0.6, 0.25
"""Least share of what one scan has and the other looked at that is there, and of all that it has; else the places are
two."""
SCALE = 0.03
"""Largest difference in scale."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan of a place in its own frame."""

    mesh: Mesh
    views: Views
    floor: float

    @staticmethod
    def of(bundle: Bundle) -> Scan:
        """That of a bundle."""
        mesh = bundle.mesh("open")
        return Scan(mesh, views_of(bundle, mesh), bundle.regions.floor_height)

    @cached_property
    def caster(self) -> RayCaster:
        """Of its mesh."""
        return RayCaster(self.mesh)

    def has(self, points: F64, normals: F64, near: float) -> Mask:
        """Whether it has surface before or behind points (N, 3), as near [m], that faces along their normals (N, 3)."""
        hits = self.caster.cast(points + near * normals, -normals)
        facing = np.einsum("nc,nc->n", self._normals[hits.triangle], normals) > FACING
        return hits.hit & facing & (hits.distance < 2 * near)

    @cached_property
    def _normals(self) -> F64:
        return self.mesh.face_normals()

    @cached_property
    def measured(self) -> Mesh:
        """Its mesh without what was guessed."""
        return self.mesh.with_faces(~self.mesh.face_guessed())


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the second scan lies in the first.

    Attributes:
        first_from_second: The second's frame in the first's.
        residual: Root mean square distance of surfaces that didn't move, along their normals [m].
        sigma: Of the second's middle [m].
        sigma_deg: Of its direction [degrees].
        agreement: Share of the upright surface that one has and the other looked at which is there.
    """

    first_from_second: Pose
    residual: float
    sigma: float
    sigma_deg: float
    agreement: float


def require_two(first: Bundle, second: Bundle) -> None:
    """Refuse to compare a bundle with itself.

    Raises:
        BundleError: When both are one.
    """
    if first.files.sha256 == second.files.sha256:
        raise BundleError(
            "what moved is found between two scans",
            found=f"{first.manifest.reference} twice",
            remedy="name the bundle of another scan of the place",
        )


def register_scans(first: Scan, second: Scan) -> Registration:
    """Lay the second scan of a place on the first.

    Plans of both at several heights are correlated over all directions; the best are refined by robust ICP.

    Raises:
        BundleError: When they are not scans of one place, or not of one scale.
    """
    rng = np.random.default_rng(SEED)
    surfaces = _surfaces(first, second, rng)
    few, fewest = ([surface.some(count, rng) for surface in surfaces] for count in (FEW, FEWEST))
    rough = [
        fit(fewest[1], fewest[0], start, np.geomspace(0.5, 0.1, 12), UPRIGHT).target_from_source
        for start in _starts(first, second, *surfaces)
    ]
    order = np.argsort([-_likeness(first, second, fewest[0], fewest[1], pose)[0] for pose in rough], kind="stable")
    chosen = list[Pose]()
    for number in order:
        if len(chosen) < REFINED and not any(_alike(rough[number], other, second) for other in chosen):
            chosen.append(rough[number])
    fine = [fit(few[1], few[0], pose, np.geomspace(0.15, 0.04, 12)).target_from_source for pose in chosen]
    found = [(_likeness(first, second, few[0], few[1], pose), pose) for pose in fine]
    (_, agreement, covered), pose = max(found, key=lambda one: one[0][0])
    if agreement < AGREE or covered < COVERED:
        raise _two_places(
            f"where they fit best, {agreement:.0%} of what one has and the other looked at is there, "
            f"{covered:.0%} of all that it has"
        )
    return _exact(surfaces, pose, agreement)


def register_near(first: Scan, second: Scan, first_from_second: Pose) -> Registration:
    """Lay the second scan of a place on the first, from where it is to within a few centimetres.

    Raises:
        BundleError: When one has no surface, or they are not of one scale.
    """
    rng = np.random.default_rng(SEED)
    surfaces = _surfaces(first, second, rng)
    found = _exact(surfaces, first_from_second, 0.0)
    few = [surface.some(FEW, rng) for surface in surfaces]
    return replace(found, agreement=_likeness(first, second, few[0], few[1], found.first_from_second)[1])


def _surfaces(first: Scan, second: Scan, rng: np.random.Generator) -> list[Surface]:
    surfaces = [Surface.of_mesh(scan.measured, POINTS, rng) for scan in (first, second)]
    if min(len(surface.points) for surface in surfaces) < POINTS:
        raise _two_places("one of them has no surface")
    return surfaces


def _exact(surfaces: list[Surface], pose: Pose, agreement: float) -> Registration:
    last = fit(surfaces[1], surfaces[0], pose, np.geomspace(0.06, 0.02, 12))
    _check_scale(surfaces, last.target_from_source)
    turn, shift = last.covariance[:3, :3], last.covariance[3:, 3:]
    return Registration(
        last.target_from_source,
        last.residual,
        float(np.sqrt(np.trace(shift) / 3)),
        float(np.rad2deg(np.sqrt(np.trace(turn) / 3))),
        agreement,
    )


def _two_places(found: str) -> BundleError:
    return BundleError(
        "what moved is found between two scans of one place",
        found=found,
        remedy="name a bundle of the same place; scan it from about the same places",
    )


def _starts(first: Scan, second: Scan, of_first: Surface, of_second: Surface) -> list[Pose]:
    """Where the plans of both lie on each other best, by cross-correlation in every direction."""
    size = max(float(np.linalg.norm(np.ptp(one.points[:, :2], axis=0))) for one in (of_first, of_second))
    cell = max(CELL, 2 * size / MAX_PLAN)
    side = int(2 ** np.ceil(np.log2(2 * size / cell + 2)))
    low = of_first.points[:, :2].min(0)
    fixed = np.fft.rfft2(_plan(of_first, first.floor, low, cell, side))
    found = list[tuple[float, float, F64]]()
    for yaw in np.linspace(-np.pi, np.pi, YAWS, endpoint=False):
        turn = matrix_from_rotvec([0, 0, yaw])
        turned = of_second.moved(Pose(turn, np.zeros(3)))
        corner = turned.points[:, :2].min(0)
        moving = np.fft.rfft2(_plan(turned, second.floor, corner, cell, side))
        score = np.fft.irfft2((fixed * moving.conj()).sum(0), s=(side, side))
        for _ in range(2):
            best = np.unravel_index(int(score.argmax()), score.shape)
            shift = np.array([one - side if one > side // 2 else one for one in map(int, best)]) * cell
            found.append((float(score[best]), float(yaw), np.append(low + shift - corner, first.floor - second.floor)))
            around = np.ix_(*(np.arange(one - 4, one + 5) % side for one in map(int, best)))
            score[around] = -np.inf
    found.sort(key=lambda one: -one[0])
    return [Pose(matrix_from_rotvec([0, 0, yaw]), shift) for _, yaw, shift in found[:STARTS]]


def _plan(surface: Surface, floor: float, low: F64, cell: float, side: int) -> F32:
    """Upright surface by height (B, X, Y), blurred, from a corner (2,) on."""
    band = np.digitize(surface.points[:, 2] - floor, BANDS) - 1
    chosen = (band >= 0) & (band < len(BANDS) - 1) & (np.abs(surface.normals[:, 2]) < LEVEL)
    plan = np.zeros((len(BANDS) - 1, side, side), np.float32)
    cells: I64 = np.clip(np.floor((surface.points[chosen, :2] - low) / cell).astype(np.int64), 0, side - 1)
    plan[band[chosen], cells[:, 0], cells[:, 1]] = 1
    return np.asarray(gaussian_filter(plan, (0, 1, 1)), np.float32)


def _likeness(
    first: Scan, second: Scan, of_first: Surface, of_second: Surface, pose: Pose
) -> tuple[float, float, float]:
    """How alike two scans are in a position; the lesser agreement and cover of the two, see `AGREE`."""
    tint = 0.0
    shares, covers = list[float](), list[float]()
    for mine, other, there in ((of_second, first, pose), (of_first, second, pose.inverse())):
        upright = np.abs(mine.normals[:, 2]) < LEVEL
        points = there.apply(mine.points[upright])
        near = other.caster.distances(points) < ON_IT
        empty = looked_through(other, points, ~near)
        shares.append(float(near.sum() / max(near.sum() + empty.sum(), 1)))
        covers.append(float(near.mean()) if len(near) else 0.0)
    asked = np.column_stack([pose.apply(of_second.points), BEND * pose.rotate(of_second.normals)])
    apart, nearest = map(np.asarray, of_first.tree.query(asked, workers=2))
    alike = apart < 2 * of_first.spacing
    if alike.any():
        tint = float(np.abs(of_first.colors[nearest[alike]] - of_second.colors[alike]).mean())
    return min(shares) + min(covers) - tint, min(shares), max(covers)


def looked_through(scan: Scan, points: F64, asked: Mask, margin: float = THROUGH, least: int = 2) -> Mask:
    """Which of the points (N, 3) that are asked for are empty: views look through them by more than a margin [m]."""
    result = np.asarray(asked, bool).copy()
    result[result] = scan.views.look_through(points[result], margin) >= least
    return result


def _alike(one: Pose, other: Pose, second: Scan) -> bool:
    middle = second.mesh.vertices.mean(0).astype(np.float64)
    apart = float(np.linalg.norm(one.apply(middle) - other.apply(middle)))
    return apart < SAME and float(np.linalg.norm(rotvec_from_matrix(one.rotation.T @ other.rotation))) < SAME


def _check_scale(surfaces: list[Surface], pose: Pose) -> None:
    """Both are metric: what is left along the surfaces doesn't grow with the distance from the middle."""
    here = surfaces[1].moved(pose)
    nearest = surfaces[0].tree.query(np.column_stack([here.points, BEND * here.normals]), workers=2)[1]
    normals, arms = surfaces[0].normals[nearest], here.points - here.points.mean(0)
    off = np.einsum("nc,nc->n", here.points - surfaces[0].points[nearest], normals)
    reach = np.einsum("nc,nc->n", arms, normals)
    known = np.abs(off) < ON_IT
    growth = float((reach * off)[known].sum() / max((reach[known] ** 2).sum(), 1e-9))
    if abs(growth) > SCALE:
        raise BundleError(
            "both scans are metric",
            found=f"the second is {1 + growth:.3f} times as large as the first",
            remedy="build both with a known scale, such as --known-length",
        )

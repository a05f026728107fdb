"""All measurements of an audit, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.audit.bodies import measure_hulls
from pipeline.audit.faults import FAULTS, Finding, place_of
from pipeline.audit.frame import Fit, blocks, fit, floor_columns, frame_columns, level
from pipeline.audit.friction import wrong_friction
from pipeline.audit.looking import Looks, look_round
from pipeline.audit.patches import Patches, deviation, find_patches
from pipeline.audit.steps import Steps, measure_steps
from pipeline.audit.support import Piece, find_missing, find_phantoms
from pipeline.check.quality import Quality
from pipeline.errors import BundleError
from pipeline.regions.regions import Regions
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64, Mask

FLOOR = 0.08
"""Level patches so near to the floor's height are floor [m]."""
FEW = 12
"""Patches from which on a frame or a floor can be told."""
UNSEEN = "too little of it is seen from where robots may stand"
HEIGHTS = (0.2, 1.3)
"""Level surfaces between these heights over the floor are tops to put things on [m]."""
REACH = 1.5
"""Height over the floor up to which robots reach walls and objects [m]."""
UNDERFOOT = "floor underfoot"


@dataclass(frozen=True, eq=False)
class Surface:
    """How well what is seen of one kind of surface agrees with what is touched."""

    kind: str
    patches: int
    median: float  # signed [m]; positive: seen before what is touched
    ninety: float  # of the absolute gap [m]
    worst: float  # largest absolute gap of a patch [m]
    place: tuple[float, float, float]  # of the worst patch [m]
    bend_deg: float | None  # median angle between normals
    measured_area: float  # of the collision mesh [m^2]
    guessed_area: float


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found: a verdict for each kind of fault, and a row for each kind of surface that is touched."""

    reference: str
    looks: Looks
    quality: Quality
    surfaces: tuple[Surface, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of what is wrong."""
        return self.quality.failed

    def values(self) -> dict[str, object]:
        """All figures, as plain JSON values."""
        gates = [{**gate.model_dump(mode="json"), "passed": gate.passed} for gate in self.quality.gates]
        remedies = {name: FAULTS[name].remedy for name in self.faults}
        surfaces = [vars(one) for one in self.surfaces]
        return {
            "bundle": self.reference,
            "passed": self.quality.passed,
            "faults": self.faults,
            "remedies": remedies,
            "gates": gates,
            "surfaces": surfaces,
            "views": len(self.looks.poses),
        }


def audit(bundle: Bundle) -> Audit:
    """Compare what is seen with what is touched, everywhere that a robot comes near to.

    Raises:
        BundleError: When the bundle is an object by itself, has no floor to stand on, or a file is damaged.
    """
    regions = bundle.regions
    if bundle.manifest.is_object or not regions.walkable.any():
        raise BundleError(
            "an audit looks from where robots may stand",
            found=f"{bundle.manifest.reference} has no walkable floor",
            remedy="audit a scene with a floor",
            file=bundle.root,
        )
    collision = bundle.mesh("collision")
    looks = look_round(bundle.splat(), collision, regions, bundle.coverage, bundle.cameras)
    patches = find_patches(looks.same, collision.face_guessed())
    floor = on_floor(patches, regions)
    findings = [*seen_findings(looks, patches, floor, regions), _hulls_finding(bundle), _friction_finding(bundle)]
    gates = tuple(finding.gate for finding in findings)
    return Audit(bundle.manifest.reference, looks, Quality(gates=gates), _surfaces(looks, patches, floor, regions))


def seen_findings(looks: Looks, patches: Patches, floor: Mask, regions: Regions) -> list[Finding]:
    """All that the comparison of what is seen with what is touched tells."""
    steps = measure_steps(looks, regions, deviation(patches.gap[floor]))
    return [
        *frame_findings(patches, floor),
        _steps_finding(steps),
        _support_finding("phantom", find_phantoms(looks, regions.floor_height)),
        _support_finding("missing_support", find_missing(looks, regions.floor_height)),
    ]


def on_floor(patches: Patches, regions: Regions) -> Mask:
    """Patches (P,) of the walkable floor."""
    return level(patches) & (np.abs(patches.point[:, 2] - _floor_at(patches.point, regions)) < FLOOR)


def _floor_at(points: F64, regions: Regions) -> F64:
    """Height of the walkable floor at points (N, 3) [m]; NaN off it."""
    index, inside = regions.cells_of(points)
    height = np.full(len(points), np.nan)
    height[inside] = np.where(regions.walkable, regions.height, np.nan)[tuple(index[inside].T)]
    return height


def frame_findings(patches: Patches, floor: Mask) -> list[Finding]:
    """Shift, turn and scale of everything, and the floor's own height and tilt, each only where no other explains it.

    The scale is looked for first, as one that is wrong shifts everything, then the turn, then the shift.
    """
    names = ("splat_scaled", "collider_turned", "collider_shifted", "floor_height", "floor_tilted")
    if len(patches) < FEW:
        return [Finding(name, None, UNSEEN) for name in names]
    about = patches.point.mean(0)
    groups = np.where(floor, -1 - blocks(patches) % 2**40, patches.surface).astype(np.int64)
    columns, rest, others = frame_columns(patches, about), ~floor, patches.chosen(~floor)
    simple, few = columns[:, [0, 1, 2, 7]], len(others) < FEW
    whole = None if few else fit(columns[rest], others, groups[rest])
    scale, turn = _scale(whole), _turn(whole)
    explained = not (scale.gate.passed and turn.gate.passed)
    shift = _shift(fit(simple, patches, groups), patches, explained=explained)
    height, tilt = Finding("floor_height", None, UNSEEN), Finding("floor_tilted", None, UNSEEN)
    if floor.sum() >= FEW:
        ground = patches.chosen(floor)
        middle = ground.point.mean(0)
        own = fit(floor_columns(ground, middle), ground, groups[floor])
        tilt = _tilt(own, whole, middle)
        around = None if few else fit(simple[rest], others, groups[rest])
        height = _height(own, around, middle, explained=explained)
    return [shift, turn, scale, height, tilt]


def _scale(whole: Fit | None) -> Finding:
    if whole is None:
        return Finding("splat_scaled", None, UNSEEN)
    factor = 1 + float(whole.values[6])
    how = f"what is seen is {factor:.4f} times as large as what is touched"
    return Finding("splat_scaled", abs(factor - 1), how, float(whole.sigma(6)), detail={"factor": round(factor, 5)})


def _turn(whole: Fit | None) -> Finding:
    if whole is None:
        return Finding("collider_turned", None, UNSEEN)
    vector = -whole.values[3:6]
    value, sigma = _length(vector, whole.covariance[3:6, 3:6])
    axis = "xyz"[int(np.abs(vector).argmax())]
    how = f"against what is seen of walls and furniture, mostly about {axis}"
    detail = {"degrees": np.rad2deg(vector).round(3).tolist()}
    return Finding("collider_turned", float(np.rad2deg(value)), how, float(np.rad2deg(sigma)), detail=detail)


def _shift(simple: Fit, patches: Patches, *, explained: bool) -> Finding:
    if explained:
        return Finding("collider_shifted", None, "not told apart from the turn or the scale")
    vector = -simple.values[:3]
    value, sigma = _length(vector, simple.covariance[:3, :3])
    said = ", ".join(f"{1000 * one:+.0f}" for one in vector)
    how = f"by {said} mm along x, y, z against what is seen, over {len(patches)} patches"
    return Finding("collider_shifted", value, how, sigma, detail={"shift_m": vector.round(4).tolist()})


def _height(own: Fit, simple: Fit | None, middle: F64, *, explained: bool) -> Finding:
    """How much higher the floor is than what surrounds it says; the splat's fuzz is that of all surfaces."""
    if simple is None or explained:
        return Finding("floor_height", None, "nothing else says where it should be")
    up = np.array([0, 0, 1.0, 1.0])
    value = -float(own.values[0] - up @ simple.values)
    sigma = float(np.hypot(own.sigma(0), np.sqrt(up @ simple.covariance @ up)))
    how = f"{1000 * value:+.0f} mm against what is seen, relative to all other surfaces"
    return Finding("floor_height", abs(value), how, sigma, place_of(middle))


def _tilt(own: Fit, whole: Fit | None, middle: F64) -> Finding:
    """The floor's own tilt: what walls and furniture share with it is a turn of everything."""
    slope, covariance = -own.values[1:], own.covariance[1:, 1:]
    if whole is not None:
        turned = -np.array([-whole.values[4], whole.values[3]])  # slopes along x and y
        turn, known = _length(turned, whole.covariance[3:5, 3:5][::-1, ::-1])
        if turn > max(np.deg2rad(FAULTS["collider_turned"].least), 3 * known):
            slope, covariance = slope - turned, covariance + whole.covariance[3:5, 3:5][::-1, ::-1]
    value, sigma = _length(slope, covariance)
    towards = np.rad2deg(np.arctan2(slope[1], slope[0]))
    how = f"against what is seen of it, rising towards {towards:.0f} degrees from x"
    return Finding("floor_tilted", float(np.rad2deg(value)), how, float(np.rad2deg(sigma)), place_of(middle))


def _length(vector: F64, covariance: F64) -> tuple[float, float]:
    """Length of a vector, and its sigma along it."""
    length = float(np.linalg.norm(vector))
    along = vector / max(length, 1e-12)
    return length, float(np.sqrt(along @ covariance @ along))


def _steps_finding(steps: Steps | None) -> Finding:
    if steps is None:
        return Finding("risers", None, "there are no steps in sight")
    typical, sigma = steps.typical
    worst = int(np.abs(steps.error).argmax())
    how = (
        f"{1000 * typical:+.0f} mm over {len(steps.error)} edges of steps, "
        f"worst {1000 * steps.error[worst]:+.0f} of {1000 * steps.riser[worst]:.0f} mm"
    )
    rows = np.column_stack([steps.place, steps.riser, steps.error]).round(4).tolist()
    names = ("x", "y", "z", "riser_m", "error_m")
    detail: dict[str, object] = {"edges": [dict(zip(names, row, strict=True)) for row in rows]}
    return Finding("risers", abs(typical), how, sigma, place_of(steps.place[worst]), detail)


def _support_finding(name: str, pieces: list[Piece]) -> Finding:
    what = {"phantom": "of the collision mesh that views look through", "missing_support": "in view that isn't there"}
    if not pieces:
        return Finding(name, 0.0, f"no surface {what[name]}")
    largest = pieces[0]
    facing = f", {largest.level:.0%} of it level" if name == "phantom" else ""
    how = f"largest piece {what[name]}{facing}; {len(pieces)} in all"
    return Finding(name, largest.area, how, place=place_of(largest.middle))


def _hulls_finding(bundle: Bundle) -> Finding:
    measured = [gap for one in bundle.objects if (gap := measure_hulls(one))]
    if not measured:
        return Finding("hull", None, "no object was cut out, or none is seen")
    worst = max(measured, key=lambda one: one.gap - max(FAULTS["hull"].least, 3 * one.sigma))
    how = f"{worst.name}: {1000 * worst.gap:+.0f} mm over {worst.sides} sides; worst of {len(measured)} objects"
    detail: dict[str, object] = {one.name: round(one.gap, 4) for one in measured}
    return Finding("hull", worst.gap, how, worst.sigma, worst.place, detail)


def _friction_finding(bundle: Bundle) -> Finding:
    regions = bundle.regions
    if not regions.areas:
        return Finding("friction", None, "no area has a friction of its own")
    wrong = wrong_friction(bundle.manifest, regions)
    if not wrong:
        return Finding("friction", 0.0, f"{len(regions.areas)} areas have the friction that was declared")
    name, told, has, middle = max(wrong, key=lambda one: abs(one[2] - one[1]))
    how = f"area {name}: {has:g}, declared {told:g}"
    return Finding("friction", abs(has - told), how, place=place_of(np.append(middle, regions.floor_height)))


def _surfaces(looks: Looks, patches: Patches, floor: Mask, regions: Regions) -> tuple[Surface, ...]:
    """A row for each kind of surface that robots touch, as far as any of it is seen."""
    mesh = looks.collision
    centres, normals = mesh.corners().mean(1).astype(np.float64), mesh.face_normals()
    faces = _kinds(centres, normals, np.abs(centres[:, 2] - _floor_at(centres, regions)) < FLOOR, regions)
    kinds = _kinds(patches.point, patches.normal, floor, regions)
    guessed, areas, found = mesh.face_guessed(), mesh.face_areas(), list[Surface]()
    for kind, mine in kinds.items():
        if not mine.any():
            continue
        some = patches.chosen(mine)
        worst, bend = int(np.abs(some.gap).argmax()), some.bend[np.isfinite(some.bend)]
        row = Surface(
            kind=kind,
            patches=len(some),
            median=round(float(np.median(some.gap)), 4),
            ninety=round(float(np.median(some.ninety)), 4),
            worst=round(float(some.gap[worst]), 4),
            place=place_of(some.point[worst]),
            bend_deg=round(float(np.rad2deg(np.median(bend))), 2) if len(bend) else None,
            measured_area=round(float(areas[faces[kind] & ~guessed].sum()), 2),
            guessed_area=round(float(areas[faces[kind] & guessed].sum()), 2),
        )
        found.append(row)
    return tuple(found)


def _kinds(points: F64, normals: F64, floor: Mask, regions: Regions) -> dict[str, Mask]:
    """Which points (N, 3) with normals (N, 3) belong to each kind of surface, of which some are floor (N,)."""
    high, up = points[:, 2] - regions.floor_height, normals[:, 2] > 0.9
    low, tall = HEIGHTS
    main = floor & up & (np.abs(high) < FLOOR)
    side = (np.abs(normals[:, 2]) < 0.3) & (high < REACH)
    return {
        UNDERFOOT: main,
        "steps and other levels": floor & up & ~main,
        "tops of tables and furniture": up & ~floor & (high > low) & (high < tall),
        "walls and sides in reach": side,
        "other surfaces in reach": ~(floor & up) & ~side & (high < REACH) & ~(up & (high > low) & (high < tall)),
    }

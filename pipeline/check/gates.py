"""The gates: one entry each in `GATES`, and the measuring of all of them.

An entry names the function that measures it. Such a function takes a `CheckedScene` and returns what it measured by the
gate's name; one function may measure several gates.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.check.quality import Gate

if TYPE_CHECKING:
    from pipeline.check.scene import CheckedScene

NO_PHOTOS = "the scene was imported without the photos that it was made from"


@dataclass(frozen=True)
class GateKind:
    """What is promised of every bundle.

    `scenes` are those that it has a meaning for: some "with photos" were built from a capture, "imported" ones not.
    """

    title: str  # what it says, for people
    unit: str
    comparison: Literal["<=", ">="]  # whether the metric must be at most or at least the threshold
    threshold: float  # the default; a card may overrule it, and the bundle says so
    measured_by: str  # "module:function" that measures it; empty where the import hands the measurement in
    meaning: str  # what it means, for people who have not read the documentation
    scenes: Literal["all", "with photos", "imported"] = "all"


GATES: dict[str, GateKind] = {
    "registration": GateKind(
        "Splat and mesh show the same scene", "m", "<=", 0.03, "",
        "How far the surface of an imported splat lies from the mesh that came with it, typically.",
        "imported",
    ),
    "overlap": GateKind(
        "Splat and mesh show the same surfaces", "", ">=", 0.7, "",
        "The share of the surfaces that an imported splat and its mesh both show. A splat of another scene has little.",
        "imported",
    ),
    "held_out_psnr": GateKind(
        "Images match held-out photos (PSNR)", "dB", ">=", 24.0, "pipeline.check.views:view_gates",
        "Images rendered from the splat were compared with held-out photos. 24 dB looks alike at a glance, above 30 dB "
        "differences are hard to find.",
        "with photos",
    ),
    "held_out_ssim": GateKind(
        "Images match held-out photos (SSIM)", "", ">=", 0.75, "pipeline.check.views:view_gates",
        "The same comparison by structure instead of brightness: 1 is identical.",
        "with photos",
    ),
    "splat_mesh_depth": GateKind(
        "Splat to mesh distance (median)", "m", "<=", 0.025, "pipeline.check.views:view_gates",
        "How far what a robot sees (the splat) lies from what it bumps into (the mesh), typically.",
    ),
    "splat_mesh_depth_p90": GateKind(
        "Splat to mesh distance (90th percentile)", "m", "<=", 0.15, "pipeline.check.views:view_gates",
        "The same distance for the worst tenth of the image.",
    ),
    "mesh_held_out_depth": GateKind(
        "Mesh matches held-out depth images", "m", "<=", 0.02, "pipeline.check.surface:depth_gates",
        "How far the mesh lies from depth images that it was not made from.",
        "with photos",
    ),
    "invented": GateKind(
        "Mesh in observed free space", "", "<=", 0.01, "pipeline.check.surface:depth_gates",
        "The share of the mesh in the air: three depth images or more saw what lies behind it. A robot would bump into "
        "something that isn't there.",
        "with photos",
    ),
    "missing": GateKind(
        "Level surfaces missing from the collision mesh", "m2", "<=", 0.1, "pipeline.check.surface:depth_gates",
        "Floor, landings, steps and tables that three depth images or more saw, where the collision mesh has a hole: a "
        "robot would step into it.",
        "with photos",
    ),
    "gravity": GateKind(
        "Gravity uncertainty", "degrees", "<=", 1.0, "pipeline.check.frame:frame_gates",
        "One sigma of the vertical. One degree off is a slope that a robot feels.",
    ),
    "scale": GateKind(
        "Scale uncertainty", "", "<=", 0.03, "pipeline.check.frame:frame_gates",
        "One relative sigma of the scale. 0.01 means that a room of 10 m may be 10 cm longer or shorter.",
    ),
    "registered": GateKind(
        "Photos registered", "", ">=", 0.9, "pipeline.check.frame:pose_gates",
        "The share of photos whose position in the scene was found.",
        "with photos",
    ),
    "reprojection": GateKind(
        "Reprojection error", "px", "<=", 1.5, "pipeline.check.frame:pose_gates",
        "How far points of the map land from where the photos show them.",
        "with photos",
    ),
    "walkable": GateKind(
        "Walkable floor", "m2", ">=", 1.0, "pipeline.check.ground:ground_gates",
        "The floor on which a robot of half a metre fits and which it can reach.",
    ),
    "floor_holes": GateKind(
        "Holes in the walkable floor", "m2", "<=", 0.01, "pipeline.check.ground:ground_gates",
        "Floor that looks solid and has nothing under it to stand on.",
    ),
    "floaters": GateKind(
        "Floaters on the camera path", "m2", "<=", 0.0, "pipeline.check.ground:ground_gates",
        "Surface in the air where the camera went through, so where nothing can be.",
    ),
    "drop_test": GateKind(
        "Drop test: bodies lost or thrown out", "", "<=", 0.0, "pipeline.check.ground:ground_gates",
        "The number of balls and boxes, of a thousand dropped over the floor, that fell through or were thrown out.",
    ),
    "drop_height": GateKind(
        "Drop test: largest height error at rest", "m", "<=", 0.02, "pipeline.check.ground:ground_gates",
        "How far above or below the floor the dropped bodies came to rest, at worst.",
    ),
    "coverage": GateKind(
        "Render coverage", "", ">=", 0.25, "pipeline.check.coverage:coverage_gates",
        "The share of positions and headings from which a robot's images can be trusted. Elsewhere the capture has "
        "seen too little.",
        "with photos",
    ),
}  # fmt: skip
"""By name, in the order in which people want to read them."""

THRESHOLDS: dict[str, float] = {name: kind.threshold for name, kind in GATES.items()}
"""Default thresholds, in the gates' units."""


@dataclass(frozen=True)
class Measured:
    """What was measured for one gate."""

    value: float | None  # the metric; one that is None or not finite counts as unknown, which fails
    how: str  # how it was measured, or why it could not be
    applies: bool = True  # whether it has a meaning for the scene
    detail: Mapping[str, object] = field(default_factory=dict)  # further metrics, plain JSON values


def measure_gates(
    scene: CheckedScene, thresholds: Mapping[str, float], given: Mapping[str, Measured] | None = None
) -> tuple[Gate, ...]:
    """All gates that have a meaning for a scene of this kind, in the order of `GATES`.

    `thresholds` replace the defaults, measurements `given` the gates' own.
    """
    measured = dict(given or {})
    with_photos = scene.photos is not None
    needed = [name for name, kind in GATES.items() if kind.scenes != ("imported" if with_photos else "with photos")]
    for function in dict.fromkeys(GATES[name].measured_by for name in needed if name not in measured):
        module, _, name = function.partition(":")
        measured = getattr(importlib.import_module(module), name)(scene) | measured
    gates = []
    for name, kind in GATES.items():
        if name in needed:
            gates.append(judged(name, measured[name], thresholds))
        elif kind.scenes == "with photos":
            gates.append(judged(name, Measured(None, NO_PHOTOS, applies=False), thresholds))
    return tuple(gates)


def judged(name: str, measured: Measured, thresholds: Mapping[str, float]) -> Gate:
    """The gate of that name with its measurement; `thresholds` replace the defaults."""
    kind = GATES[name]
    overruled = {"default_threshold": kind.threshold} if name in thresholds else {}
    return Gate(
        name=name,
        title=kind.title,
        value=rounded(measured.value),
        unit=kind.unit,
        threshold=thresholds.get(name, kind.threshold),
        comparison=kind.comparison,
        applies=measured.applies,
        how=measured.how,
        detail={**measured.detail, **overruled},
    )


def rounded(value: float | None) -> float | None:
    """To six digits after the point; None where it is not a finite number."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)

"""The gates: measurements turned into figure, threshold and verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.check.coverage import Coverage
from pipeline.check.drop import DropTest
from pipeline.check.floaters import Floaters
from pipeline.check.floor import FloorHoles
from pipeline.check.quality import Gate
from pipeline.check.surface import DepthDifference
from pipeline.check.views import ViewCheck
from pipeline.regions.regions import Regions

THRESHOLDS: dict[str, float] = {
    "held_out_psnr": 24.0,
    "held_out_ssim": 0.75,
    "splat_mesh_depth": 0.025,
    "splat_mesh_depth_p90": 0.15,
    "mesh_held_out_depth": 0.02,
    "gravity": 1.0,
    "scale": 0.03,
    "registered": 0.9,
    "reprojection": 1.5,
    "walkable": 1.0,
    "floor_holes": 0.01,
    "floaters": 0.0,
    "drop_test": 0.0,
    "drop_height": 0.02,
    "coverage": 0.25,
    "registration": 0.03,
    "overlap": 0.7,
}
"""Default thresholds, in the gates' units; a card may overrule them, and the bundle says so."""


class Gates:
    """Collects gates, each with its own threshold."""

    def __init__(self, overrides: Mapping[str, float]) -> None:
        self._thresholds = {**THRESHOLDS, **overrides}
        self._overridden = set(overrides)
        self.gates: list[Gate] = []

    def add(
        self,
        name: str,
        title: str,
        value: float | None,
        unit: str,
        comparison: Literal["<=", ">="],
        how: str,
        *,
        applies: bool = True,
        **detail: Any,
    ) -> None:
        """Add one gate; a figure that isn't a finite number counts as unknown, which fails."""
        known = value is not None and np.isfinite(value)
        if name in self._overridden:
            detail["default_threshold"] = THRESHOLDS[name]
        self.gates.append(
            Gate(
                name=name,
                title=title,
                value=round(float(value), 6) if known and value is not None else None,
                unit=unit,
                threshold=self._thresholds[name],
                comparison=comparison,
                applies=applies,
                how=how,
                detail=detail,
            )
        )


def add_view_gates(gates: Gates, checks: Sequence[ViewCheck], size: str) -> None:
    """Pictures and depths from held-out views."""
    views = f"{len(checks)} views that neither map nor training used, at {size}"
    psnr = [check.psnr for check in checks]
    gates.add(
        "held_out_psnr",
        "Pictures match held-out photos (PSNR)",
        _mean(psnr),
        "dB",
        ">=",
        f"mean over {views}, the splat in the exposure that their neighbours in time let expect",
        worst=_rounded(min(psnr, default=None)),
        in_mean_exposure=_mean([check.plain_psnr for check in checks]),
        after_exposure_fit=_mean([check.fitted_psnr for check in checks]),
    )
    ssim = [check.ssim for check in checks]
    gates.add(
        "held_out_ssim",
        "Pictures match held-out photos (SSIM)",
        _mean(ssim),
        "",
        ">=",
        f"mean over {views}",
        worst=_rounded(min(ssim, default=None)),
    )
    difference = np.concatenate([check.depth_difference for check in checks]) if checks else np.zeros(0)
    median, p90 = np.percentile(np.abs(difference), [50, 90]) if len(difference) else (None, None)
    how = f"expected depth of the splat minus depth of the mesh, all pixels of {views}"
    bias = _rounded(float(np.median(difference))) if len(difference) else None
    share = _mean([check.compared for check in checks])
    gates.add(
        "splat_mesh_depth", "Splat lies on the mesh (median)", median, "m", "<=", how, bias=bias, compared_share=share
    )
    gates.add("splat_mesh_depth_p90", "Splat lies on the mesh (90 %)", p90, "m", "<=", how)


def add_mesh_depth_gate(gates: Gates, difference: DepthDifference | None) -> None:
    """The mesh against depth images that it was not made from."""
    if difference is None:
        gates.add(
            "mesh_held_out_depth",
            "Mesh matches held-out depth images",
            None,
            "m",
            "<=",
            "the capture has no depth images",
            applies=False,
        )
        return
    gates.add(
        "mesh_held_out_depth",
        "Mesh matches held-out depth images",
        difference.median,
        "m",
        "<=",
        f"median over {difference.pixels} pixels of the held-out views' sensor depth",
        p90=_rounded(difference.p90),
        bias=_rounded(difference.bias),
        covered=_rounded(difference.covered),
    )


def add_gravity_gate(gates: Gates, alignment: Alignment) -> None:
    """How sure up is."""
    gates.add(
        "gravity",
        "Gravity is known",
        alignment.gravity_sigma_deg,
        "degrees",
        "<=",
        f"one sigma, from {alignment.gravity_source}",
        source=alignment.gravity_source,
    )


def add_frame_gates(gates: Gates, alignment: Alignment) -> None:
    """Gravity and scale."""
    add_gravity_gate(gates, alignment)
    assumed = alignment.scale_sigma is None
    how = (
        "scale: assumed - nothing in the capture gives it; add --known-length or --camera-height"
        if assumed
        else f"relative one sigma, from {alignment.scale_source}"
        + (" of usual sizes; add --known-length" if alignment.scale_source == "hints" else "")
    )
    gates.add("scale", "Scale is known", alignment.scale_sigma, "", "<=", how, source=alignment.scale_source)


def add_pose_gates(gates: Gates, keyframes: int, registered: int, reprojection: float | None) -> None:
    """How many keyframes have a pose, and how well the points fit."""
    how = f"{registered} of {keyframes} keyframes have a pose"
    gates.add("registered", "Photos registered", registered / max(1, keyframes), "", ">=", how)
    how = "mean over the map's observations"
    gates.add("reprojection", "Reprojection error", reprojection, "px", "<=", how, applies=reprojection is not None)


def add_ground_gates(gates: Gates, regions: Regions, holes: FloorHoles, floaters: Floaters, drop: DropTest) -> None:
    """What a robot stands on."""
    walkable = regions.walkable_area > 0
    gates.add(
        "walkable",
        "Walkable floor",
        regions.walkable_area,
        "m2",
        ">=",
        "where the robot's footprint fits and steps are low enough",
        spawn_poses=len(regions.spawn_poses),
    )
    gates.add(
        "floor_holes",
        "Holes in the walkable floor",
        holes.hole_area if walkable else None,
        "m2",
        "<=",
        "rays from above on a 2 cm grid" if walkable else "there is no walkable floor",
        applies=walkable,
        largest_diameter_m=_rounded(holes.largest_diameter),
        guessed_area_m2=_rounded(holes.guessed_area),
        expected_area_m2=_rounded(holes.expected_area),
    )
    gates.add(
        "floaters",
        "Mesh where the camera went",
        floaters.area,
        "m2",
        "<=",
        f"area within 15 cm of {floaters.path_length:.1f} m of camera track",
        triangles=floaters.triangles,
        opaque_gaussians=floaters.gaussians,
    )
    dropped = drop.dropped > 0
    half = drop.dropped // 2
    how = f"{half} spheres of 12 cm, {half} boxes of 10 cm, 3 s in PhysX" if dropped else "there is no walkable floor"
    gates.add(
        "drop_test",
        "Dropped bodies that fall through or are thrown out",
        drop.fell_through + drop.thrown_out if dropped else None,
        "",
        "<=",
        how,
        applies=dropped,
        fell_through=drop.fell_through,
        thrown_out=drop.thrown_out,
    )
    gates.add(
        "drop_height",
        "Dropped bodies rest on the floor (largest error)",
        drop.largest_error,
        "m",
        "<=",
        how,
        applies=dropped,
        median=_rounded(drop.median_error),
        off_by_more_than_2_cm=drop.off_height,
    )


def add_coverage_gate(gates: Gates, regions: Regions, coverage: Coverage) -> None:
    """How far a robot can trust what it sees."""
    walkable = regions.walkable_area > 0
    gates.add(
        "coverage",
        "Pictures can be trusted where a robot stands",
        coverage.trusted,
        "",
        ">=",
        "share of the walkable floor's places and headings, by the coverage map"
        if walkable
        else "there is no walkable floor",
        applies=walkable,
        floor_with_a_trusted_heading=_rounded(coverage.reached),
        least_trust_of_a_spawn_pose=_rounded(min((pose.trust for pose in regions.spawn_poses), default=None)),
    )


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 6) if len(values) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 6)

"""Scenes as gates see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.check.gates import Measured, judged
from pipeline.check.quality import Gate
from pipeline.check.scene import CheckedScene, Photos, ViewCheck
from pipeline.coverage.map import CoverageMap
from pipeline.depth.maps import DepthMap
from pipeline.geometry import Gaussians, Mesh, Similarity
from pipeline.poses.scene import PosedScene, SparsePoints, View
from pipeline.regions.regions import Regions

NO_POINTS = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), *([np.zeros(0, np.int32)] * 2))
NO_MESH = Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
NOWHERE = Regions.without_floor(0.1, "no floor")


def checked(
    *,
    mesh: Mesh = NO_MESH,
    regions: Regions = NOWHERE,
    alignment: Alignment | None = None,
    views: Sequence[View] = (),
    keyframes: int = 0,
    reprojection: float | None = None,
    checks: Sequence[ViewCheck] = (),
    depth: Sequence[DepthMap] = (),
    held_out_depth: Sequence[DepthMap] = (),
    coverage: CoverageMap | None = None,
) -> CheckedScene:
    """A scene of which only what is named is known."""
    report = {} if reprojection is None else {"reprojection_error_px": reprojection}
    photos = Photos(
        PosedScene(tuple(views), NO_POINTS, 0.01, 1.0, report),
        checks,
        (160, 120),
        depth,
        held_out_depth,
        keyframes,
        coverage or CoverageMap(np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32), 0.25, 0.3, 1.0),
    )
    alignment = alignment or Alignment(Similarity.identity(), ("floor",), 0.1, "sensor", 0.01, True, {})
    splat = Gaussians(*(np.zeros((0, *shape), np.float32) for shape in ((3,), (3,), (4,), (), (1, 3))))
    return CheckedScene(alignment, splat, mesh, mesh, regions, np.zeros((0, 3)), photos)


def verdicts(measured: dict[str, Measured]) -> dict[str, Gate]:
    """The gates of measurements, with the default thresholds."""
    return {name: judged(name, one, {}) for name, one in measured.items()}

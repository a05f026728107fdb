"""The list of stages; nothing else knows their order."""

from __future__ import annotations

from typing import Any

from pipeline.align.params import AlignParams
from pipeline.bundle.params import BundleParams
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.check.params import CheckParams
from pipeline.coverage.params import CoverageParams
from pipeline.depth.params import DepthParams, PointsParams
from pipeline.depth.params import choose as choose_depth
from pipeline.machine import Machine
from pipeline.mesh.params import MeshParams
from pipeline.mesh.params import choose as choose_mesh
from pipeline.poses.params import PosesParams
from pipeline.poses.params import choose as choose_poses
from pipeline.regions.params import RegionsParams
from pipeline.splat.params import SplatParams
from pipeline.splat.params import choose as choose_splat
from pipeline.stage import Choice, Stage, Traits


def _only(_traits: Traits, _params: Any, _machine: Machine) -> Choice:
    return Choice("cpu", "there is only one")


def _reader(traits: Traits, _params: Any, _machine: Machine) -> Choice:
    return Choice(traits.kind, "the files look like it")


STAGES: tuple[Stage, ...] = (
    Stage("capture", 5, ("source",), CaptureParams, "pipeline.capture.stage:run", _reader),
    Stage("select", 1, ("capture",), SelectParams, "pipeline.capture.select_stage:run", _only),
    Stage("poses", 3, ("capture", "select"), PosesParams, "pipeline.poses.stage:run", choose_poses),
    Stage("depth", 4, ("capture", "poses"), DepthParams, "pipeline.depth.stage:run", choose_depth),
    Stage("align", 2, ("capture", "poses", "depth"), AlignParams, "pipeline.align.stage:run", _only),
    Stage("points", 2, ("poses", "depth", "align"), PointsParams, "pipeline.depth.points_stage:run", _only),
    Stage("mesh", 3, ("poses", "depth", "align", "points"), MeshParams, "pipeline.mesh.stage:run", choose_mesh),
    Stage("splat", 4, ("poses", "depth", "align", "points"), SplatParams, "pipeline.splat.stage:run", choose_splat),
    Stage("coverage", 2, ("poses", "align", "mesh", "splat"), CoverageParams, "pipeline.coverage.stage:run", _only),
    Stage("regions", 2, ("poses", "align", "mesh", "coverage"), RegionsParams, "pipeline.regions.stage:run", _only),
    Stage(
        "check",
        4,
        ("capture", "select", "poses", "depth", "align", "mesh", "splat", "coverage", "regions"),
        CheckParams,
        "pipeline.check.stage:run",
        _only,
    ),
    Stage(
        "bundle",
        3,
        ("capture", "select", "poses", "align", "points", "mesh", "splat", "coverage", "regions", "check"),
        BundleParams,
        "pipeline.bundle.stage:run",
        _only,
    ),
)

PARAMS: dict[str, type] = {stage.name: stage.params for stage in STAGES}

"""The list of stages; nothing else knows their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.align.params import AlignParams
from pipeline.bundle.params import BundleParams
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.check.params import CheckParams
from pipeline.coverage.params import CoverageParams
from pipeline.depth import params as depth
from pipeline.joining.params import PREFIX, JoinParams
from pipeline.machine import Machine
from pipeline.mesh import params as mesh
from pipeline.parameters import Settings
from pipeline.points.params import PointsParams
from pipeline.poses import params as poses
from pipeline.regions.params import RegionsParams
from pipeline.splat import params as splat
from pipeline.stage import Backend, Choice, Stage, Traits


def _reader(traits: Traits, _params: Settings, _machine: Machine) -> Choice:
    return Choice(traits.kind, "by the capture's files")


def _readers(traits: Traits, _params: Settings, _machine: Machine) -> Choice:
    return Choice(traits.kind, "captures of one place")


def _blur_models(params: CaptureParams) -> dict[str, str]:
    """What looks for faces and number plates: other models blur again."""
    if not (params.blur_faces or params.blur_plates):
        return {}
    from pipeline.capture.blur import detectors_for

    return {"blur_models": ",".join(detector.name for detector in detectors_for(params))}


def _libraries(backends: Mapping[str, Backend]) -> dict[str, tuple[str, ...]]:
    return {name: backend.libraries for name, backend in backends.items()}


STAGES: tuple[Stage, ...] = (
    Stage("capture", 7, ("source",), CaptureParams, _reader, depends_on=_blur_models),
    Stage("select", 1, ("capture",), SelectParams, function="pipeline.capture.select:run"),
    Stage("poses", 7, ("capture", "select"), poses.PosesParams, poses.choose, poses.LIBRARIES),
    Stage("depth", 6, ("capture", "poses"), depth.DepthParams, depth.choose, _libraries(depth.BACKENDS)),
    Stage("align", 4, ("capture", "poses", "depth"), AlignParams),
    Stage("points", 7, ("poses", "depth", "align"), PointsParams),
    Stage(
        "mesh",
        10,
        ("poses", "depth", "align", "points"),
        mesh.MeshParams,
        mesh.choose,
        _libraries(mesh.BACKENDS),
        function="pipeline.objects.closing:run",
    ),
    Stage("splat", 12, ("poses", "depth", "align", "points", "mesh"), splat.SplatParams, splat.choose, splat.LIBRARIES),
    Stage("coverage", 5, ("poses", "align", "points", "mesh", "splat"), CoverageParams),
    Stage("regions", 3, ("capture", "poses", "align", "mesh", "coverage"), RegionsParams),
    Stage(
        "check",
        9,
        ("capture", "select", "poses", "depth", "align", "mesh", "splat", "coverage", "regions"),
        CheckParams,
    ),
    Stage(
        "bundle",
        7,
        ("capture", "select", "poses", "align", "points", "mesh", "splat", "coverage", "regions", "check"),
        BundleParams,
        function="pipeline.objects.loosening:run",
    ),
)

LONE = {
    "mesh": "write_near_mesh",
    "coverage": "write_no_coverage",
    "regions": "write_no_regions",
    "bundle": "write_lone_bundle",
}
"""Functions of `pipeline.objects.alone` for the stages that are others where the bundle is an object by itself."""
LONE_STAGES: tuple[Stage, ...] = tuple(
    replace(stage, function=f"pipeline.objects.alone:{LONE[stage.name]}") if stage.name in LONE else stage
    for stage in STAGES
)


def joined_stages(sources: Iterable[str]) -> tuple[Stage, ...]:
    """The stages of a build from several sources: each is read by itself; what `capture` makes is one of them all."""
    own = tuple(replace(STAGES[0], name=PREFIX + name, function="pipeline.capture.stage:run") for name in sources)
    needs = tuple(stage.name for stage in own)
    return *own, Stage("capture", 2, needs, JoinParams, _readers, function="pipeline.joining.stage:run"), *STAGES[1:]


PARAMS: dict[str, type[Settings]] = {stage.name: stage.params for stage in STAGES if stage.name != "bundle"}
"""What users may set, by stage; the plan makes the bundle stage's parameters."""

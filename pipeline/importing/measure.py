"""The gates of an imported scene: what can be measured is, the rest says that it wasn't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.check.gates import Measured, measure_gates
from pipeline.check.quality import Quality
from pipeline.check.report import colored_depth, write_jpeg
from pipeline.check.scene import CheckedScene
from pipeline.check.views import MIN_ALPHA
from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.importing.registration import Registration
from pipeline.raster import contiguous, render
from pipeline.regions.regions import Regions
from pipeline.types import F32, F64, U8

LENS = Camera(320, 240, 200.0, 200.0, 160.0, 120.0)
"""Camera of the lookouts: 77 degrees across."""
MAX_VIEWS = 24
IMAGES = 4
NO_CAMERAS = "the imported files don't say where cameras looked, and elsewhere splats are worse"


@dataclass(frozen=True, eq=False)
class Lookout:
    """The splat's image (H, W, 3), and depths (H, W) of splat and mesh [m], 0 = nothing, from one pose."""

    image: U8
    splat_depth: F32
    mesh_depth: F32


def look(splat: Gaussians, mesh: Mesh, poses: Sequence[Pose]) -> list[Lookout]:
    """What both show from up to 24 of the poses, spread over them."""
    drawn, caster = contiguous(splat), RayCaster(mesh)
    chosen = np.unique(np.linspace(0, len(poses) - 1, min(MAX_VIEWS, len(poses))).round().astype(int))
    found = []
    for index in chosen:
        rendering = render(drawn, LENS, poses[index])
        depth = np.where(rendering.alpha >= MIN_ALPHA, rendering.depth, 0).astype(np.float32)
        image = (255 * np.clip(rendering.rgb, 0, 1)).round().astype(np.uint8)
        found.append(Lookout(image, depth, caster.depth(LENS, poses[index])))
    return found


def measure(
    registration: Registration,
    alignment: Alignment,
    splat: Gaussians,
    mesh: Mesh,
    collision: Mesh,
    regions: Regions,
    track: F64,
    views: Sequence[Lookout],
    *,
    from_cameras: bool,
) -> Quality:
    """All gates; splat, meshes, regions and the cameras' track (N, 3) in the world frame [m].

    The registration is in units of the imported mesh, the alignment from there into the world. `from_cameras` says that
    the views, results of `look`, are those of the capture's cameras.
    """
    scene = CheckedScene(alignment, splat, mesh, collision, regions, track)
    given = {
        **_registration_gates(registration, alignment.world_from_scene.scale),
        **_depth_gates(views, from_cameras=from_cameras),
    }
    if alignment.scale_sigma is None:
        source = alignment.scale_source
        how = f"nobody says how sure the scale is ({source}); import with --scale METRES+-SIGMA"
        given["scale"] = Measured(None, how, detail={"source": source})
    return Quality(gates=measure_gates(scene, {}, given))


def _registration_gates(registration: Registration, metres: float) -> dict[str, Measured]:
    pose = "was estimated" if registration.source == "estimated" else f"is given: {registration.source}"
    how = f"median distance of the splat's surface to the mesh; the pose of the splat {pose}"
    if registration.ambiguous:
        how = "not known: the splat fits the mesh in two ways that are nearly as good"
    return {
        "registration": Measured(
            None if registration.ambiguous else registration.residual * metres,
            how,
            detail={"source": registration.source},
        ),
        "overlap": Measured(
            registration.overlap,
            "least share of either surface that lies within 10 cm of the other",
            detail={
                "of_splat": round(registration.overlap_of_splat, 4),
                "of_mesh": round(registration.overlap_of_mesh, 4),
            },
        ),
    }


def _depth_gates(views: Sequence[Lookout], *, from_cameras: bool) -> dict[str, Measured]:
    both = [(view.splat_depth > 0) & (view.mesh_depth > 0) for view in views]
    off = np.concatenate(
        [np.abs(view.splat_depth - view.mesh_depth)[seen] for view, seen in zip(views, both, strict=True)]
        or [np.zeros(0, np.float32)]
    )
    median, p90 = np.percentile(off, [50, 90]) if len(off) else (None, None)
    share = round(float(np.mean([seen.mean() for seen in both])), 4) if both else None
    where = "of the capture's cameras" if from_cameras else "over the floor"
    how = f"expected depth of the splat minus depth of the mesh, all pixels of {len(views)} views {where}"
    over_the_floor = None if p90 is None or from_cameras else round(float(p90), 4)
    return {
        "splat_mesh_depth": Measured(median, how, detail={"compared_share": share}),
        "splat_mesh_depth_p90": Measured(
            p90 if from_cameras else None,
            how if from_cameras else NO_CAMERAS,
            from_cameras,
            {"over_the_floor": over_the_floor},
        ),
    }


def write_lookouts(views: Sequence[Lookout], folder: Path) -> None:
    """Image of the splat, its depth and the mesh's side by side, for up to four views."""
    chosen = np.unique(np.linspace(0, len(views) - 1, min(IMAGES, len(views))).round().astype(int))
    for number, index in enumerate(chosen):
        view = views[index]
        seen = view.mesh_depth[view.mesh_depth > 0]
        far = float(np.percentile(seen, 98)) if len(seen) else 1.0
        row = [view.image, colored_depth(view.splat_depth, far), colored_depth(view.mesh_depth, far)]
        write_jpeg(folder / f"lookout_{number}.jpg", np.concatenate(row, 1))

"""The gates of a drawn room: what can differ from the truth is measured, the rest is the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.check.gates import NO_PHOTOS, Measured, measure_gates
from pipeline.check.quality import Quality
from pipeline.check.scene import CheckedScene
from pipeline.check.views import MIN_ALPHA
from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.importing.measure import Lookout
from pipeline.raster import contiguous, render
from pipeline.regions.regions import Regions

LENS = Camera(240, 180, 150.0, 150.0, 120.0, 90.0)
"""Camera of the lookouts: 77 degrees across."""
EXACT = "the mesh is the room as it was drawn: where floor ends or has a hole, it was meant to"
DRAWN = "the room was drawn, and not captured"


def look(splat: Gaussians, mesh: Mesh, poses: Sequence[Pose]) -> list[Lookout]:
    """What splat and mesh [m, world frame] show from the poses."""
    drawn, caster, found = contiguous(splat), RayCaster(mesh), list[Lookout]()
    for pose in poses:
        rendering = render(drawn, LENS, pose)
        depth = np.where(rendering.alpha >= MIN_ALPHA, rendering.depth, 0).astype(np.float32)
        image = (255 * np.clip(rendering.rgb, 0, 1)).round().astype(np.uint8)
        found.append(Lookout(image, depth, caster.depth(LENS, pose)))
    return found


def measure(alignment: Alignment, splat: Gaussians, mesh: Mesh, regions: Regions, views: Sequence[Lookout]) -> Quality:
    """All gates; splat, mesh and regions in the world frame [m], the views are results of `look`."""
    both = [(view.splat_depth > 0) & (view.mesh_depth > 0) for view in views]
    off = np.concatenate([np.abs(v.splat_depth - v.mesh_depth)[seen] for v, seen in zip(views, both, strict=True)])
    median, p90 = np.percentile(off, [50, 90]) if len(off) else (None, None)
    how = f"expected depth of the splat minus depth of the mesh, all pixels of {len(views)} views over the floor"
    surface = RayCaster(mesh).distances(splat.means)
    exact = Measured(None, EXACT, applies=False)
    given = {
        "registration": Measured(float(np.median(surface)), "median distance of the splat's Gaussians to the mesh"),
        "overlap": Measured(None, DRAWN, applies=False),
        "splat_mesh_depth": Measured(median, how),
        "splat_mesh_depth_p90": Measured(p90, how),
        "walkable": Measured(
            regions.walkable_area,
            "where the robot's footprint fits and steps are low enough",
            detail={"spawn_poses": len(regions.spawn_poses)},
        ),
        "floor_holes": exact,
        "floaters": Measured(None, DRAWN, applies=False),
        "drop_test": exact,
        "drop_height": exact,
    }
    scene = CheckedScene(alignment, splat, mesh, mesh, regions, np.zeros((0, 3)))
    gates = measure_gates(scene, {}, given)
    return Quality(gates=tuple(g.model_copy(update={"how": DRAWN}) if g.how == NO_PHOTOS else g for g in gates))

"""The gates of an imported scene: what can be measured is, the rest says that it wasn't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.align.alignment import Alignment
from pipeline.check.drop import drop_bodies
from pipeline.check.floaters import Floaters, measure_floaters
from pipeline.check.floor import measure_floor_holes
from pipeline.check.gates import Gates, add_gravity_gate, add_ground_gates
from pipeline.check.pictures import colored_depth, write_jpeg
from pipeline.check.quality import Gate, Quality
from pipeline.check.views import MIN_ALPHA, cast_depth
from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.importing.registration import Registration
from pipeline.mesh.rays import RayCaster
from pipeline.regions.regions import Regions
from pipeline.splat.raster import contiguous, render

LENS = Camera(320, 240, 200.0, 200.0, 160.0, 120.0)
"""Of the lookouts: 77 degrees across."""
MOST_VIEWS = 24
PICTURES = 4
NOT_MEASURED: Mapping[str, tuple[str, str, str]] = {
    "held_out_psnr": ("Pictures match held-out photos (PSNR)", "dB", ">="),
    "held_out_ssim": ("Pictures match held-out photos (SSIM)", "", ">="),
    "mesh_held_out_depth": ("Mesh matches held-out depth images", "m", "<="),
    "registered": ("Photos registered", "", ">="),
    "reprojection": ("Reprojection error", "px", "<="),
    "coverage": ("Pictures can be trusted where a robot stands", "", ">="),
}
"""Title, unit and comparison of the gates that need the capture's photos."""
NO_PHOTOS = "the scene was imported without the photos that it was made from"
NO_TRACK = "the imported files don't say where cameras went"
NO_CAMERAS = "the imported files don't say where cameras looked, and elsewhere splats are worse"


@dataclass(frozen=True, eq=False)
class Lookout:
    """A view of splat and mesh from where a robot or a camera is.

    Attributes:
        picture: (H, W, 3) uint8 of the splat.
        splat_depth: (H, W) float32 [m], 0 = nothing.
        mesh_depth: (H, W) float32 [m], 0 = nothing.
    """

    picture: NDArray[np.uint8]
    splat_depth: NDArray[np.float32]
    mesh_depth: NDArray[np.float32]


def look(splat: Gaussians, mesh: Mesh, poses: Sequence[Pose]) -> list[Lookout]:
    """What both show from up to 24 of the poses, spread over them."""
    drawn, caster = contiguous(splat), RayCaster(mesh)
    chosen = np.unique(np.linspace(0, len(poses) - 1, min(MOST_VIEWS, len(poses))).round().astype(int))
    found = []
    for index in chosen:
        rendering = render(drawn, LENS, poses[index])
        depth = np.where(rendering.alpha >= MIN_ALPHA, rendering.depth, 0).astype(np.float32)
        picture = (255 * np.clip(rendering.rgb, 0, 1)).round().astype(np.uint8)
        found.append(Lookout(picture, depth, cast_depth(caster, LENS, poses[index])))
    return found


def measure(
    registration: Registration,
    alignment: Alignment,
    splat: Gaussians,
    mesh: Mesh,
    collision: Mesh,
    regions: Regions,
    track: NDArray[np.float64],
    views: Sequence[Lookout],
    *,
    from_cameras: bool,
) -> Quality:
    """All gates.

    Args:
        registration: Of splat and mesh, in units of the imported mesh.
        alignment: From there into the world.
        splat: World frame [m], as the next ones.
        mesh: The full one.
        collision: For physics.
        regions: The walkable floor.
        track: Places (N, 3) where cameras went; none where nobody knows.
        views: What `look` gave.
        from_cameras: Whether `views` are those of the capture's cameras.
    """
    gates = Gates({})
    _add_registration(gates, registration, alignment.world_from_scene.scale)
    _add_depth(gates, views, from_cameras=from_cameras)
    _add_frame(gates, alignment)
    floaters = measure_floaters(mesh, splat, track) if len(track) else Floaters(0.0, 0, 0.0, 0, 0.0)
    holes = measure_floor_holes(collision, regions)
    add_ground_gates(gates, regions, holes, floaters, drop_bodies(collision, regions))
    if not len(track):
        gates.gates = [_unmeasured(gate) if gate.name == "floaters" else gate for gate in gates.gates]
    for name, (title, unit, comparison) in NOT_MEASURED.items():
        gates.add(name, title, None, unit, ">=" if comparison == ">=" else "<=", NO_PHOTOS, applies=False)
    return Quality(gates=tuple(gates.gates))


def _add_registration(gates: Gates, registration: Registration, metres: float) -> None:
    how = "median distance of the splat's surface to the mesh; "
    how += (
        "the pose of the splat was estimated"
        if registration.source == "estimated"
        else f"the pose of the splat is given: {registration.source}"
    )
    if registration.ambiguous:
        how = "not known: the splat fits the mesh in two ways that are nearly as good"
    gates.add(
        "registration",
        "Splat and mesh are one place",
        None if registration.ambiguous else registration.residual * metres,
        "m",
        "<=",
        how,
        source=registration.source,
    )
    gates.add(
        "overlap",
        "Splat and mesh show the same surfaces",
        registration.overlap,
        "",
        ">=",
        "least share of either surface that lies within 10 cm of the other",
        of_splat=round(registration.overlap_of_splat, 4),
        of_mesh=round(registration.overlap_of_mesh, 4),
    )


def _add_depth(gates: Gates, views: Sequence[Lookout], *, from_cameras: bool) -> None:
    both = [(view.splat_depth > 0) & (view.mesh_depth > 0) for view in views]
    off = np.concatenate(
        [np.abs(view.splat_depth - view.mesh_depth)[seen] for view, seen in zip(views, both, strict=True)]
        or [np.zeros(0, np.float32)]
    )
    median, p90 = np.percentile(off, [50, 90]) if len(off) else (None, None)
    share = round(float(np.mean([seen.mean() for seen in both])), 4) if both else None
    where = "of the capture's cameras" if from_cameras else "over the floor"
    how = f"expected depth of the splat minus depth of the mesh, all pixels of {len(views)} views {where}"
    gates.add("splat_mesh_depth", "Splat lies on the mesh (median)", median, "m", "<=", how, compared_share=share)
    gates.add(
        "splat_mesh_depth_p90",
        "Splat lies on the mesh (90 %)",
        p90 if from_cameras else None,
        "m",
        "<=",
        how if from_cameras else NO_CAMERAS,
        applies=from_cameras,
        over_the_floor=None if p90 is None or from_cameras else round(float(p90), 4),
    )


def _add_frame(gates: Gates, alignment: Alignment) -> None:
    add_gravity_gate(gates, alignment)
    sigma, source = alignment.scale_sigma, alignment.scale_source
    how = f"relative one sigma, from {source}"
    if sigma is None:
        how = f"nobody says how sure the scale is ({source}); import with --scale METRES+-SIGMA"
    gates.add("scale", "Scale is known", sigma, "", "<=", how, source=source)


def _unmeasured(gate: Gate) -> Gate:
    return gate.model_copy(update={"value": None, "applies": False, "how": NO_TRACK, "detail": {}})


def write_lookouts(views: Sequence[Lookout], folder: Path) -> list[tuple[str, str]]:
    """Picture of the splat, its depth and the mesh's side by side, for up to four views; (file name, caption) each."""
    names = []
    for index in np.unique(np.linspace(0, len(views) - 1, min(PICTURES, len(views))).round().astype(int)):
        view = views[index]
        seen = view.mesh_depth[view.mesh_depth > 0]
        far = float(np.percentile(seen, 98)) if len(seen) else 1.0
        row = [view.picture, colored_depth(view.splat_depth, far), colored_depth(view.mesh_depth, far)]
        name = f"lookout_{len(names)}.jpg"
        write_jpeg(folder / name, np.concatenate(row, 1))
        names.append((name, "Picture of the splat, its depth, depth of the mesh"))
    return names

"""What has been filmed of a place: from a bundle, or from a build that has come as far as its mesh."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import BundleError, MissingBundleError
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.references import Reference
from pipeline.scenes.resolver import bundles_folder

if TYPE_CHECKING:
    from pipeline.coverage.map import CoverageMap
    from pipeline.geometry import Camera, Gaussians, Mesh, Pose
    from pipeline.types import F32

SEED = 0
LIGHT = "sim"
"""The level of detail that pictures are drawn from."""


@dataclass(frozen=True, eq=False)
class Filmed:
    """A place as far as it has been filmed, in the world frame.

    Attributes:
        name: Of the bundle or the build.
        mesh: Its collision surface, which is within a centimetre of the full one; what is guessed is marked.
        cameras: Lens and world-from-camera pose of every view that the mesh was made of, in the order of the walk.
        floor: (N, 3) float32, centres of the floor's cells where a person can stand [m].
        cell: Edge of such a cell [m].
        coverage: How far a robot's images can be trusted; None while nobody knows.
        splat: For pictures; None while there is none.
    """

    name: str
    mesh: Mesh
    cameras: tuple[tuple[Camera, Pose], ...]
    floor: F32
    cell: float
    coverage: CoverageMap | None = None
    splat: Gaussians | None = None


def filmed_place(name: str) -> Filmed:
    """The bundle of that name; without one, the build of that name in the bundles folder that stands at the mesh.

    Raises:
        BundleError: When there is neither, or the bundle lacks its mesh, its cameras or a floor to stand on.
        ReconstructionError: When a build found no floor.
    """
    try:
        bundle = Bundle.open(name)
    except MissingBundleError:
        work = _work_folder(name)
        if work is None:
            raise
        return _of_build(work)
    return of_bundle(bundle)


def of_bundle(bundle: Bundle) -> Filmed:
    """What a bundle shows.

    Raises:
        BundleError: When it has no cameras or no floor to stand on, or a file is missing or damaged.
    """
    cameras = tuple((view.camera, view.world_from_camera) for view in bundle.cameras if not view.held_out)
    regions, reference = bundle.regions, bundle.manifest.reference
    lacks = "" if cameras else "cameras.json lists no camera"
    lacks = lacks or (f"no floor: {regions.note or 'no cell is walkable'}" if not regions.walkable.any() else "")
    if lacks:
        raise BundleError(
            "coaching needs the cameras of a capture and a floor to stand on",
            found=f"{reference}: {lacks}",
            remedy="name a bundle that was built from a capture, or capture more of the floor",
            file=bundle.root,
        )
    floor = np.column_stack([regions.centres()[regions.walkable], regions.height[regions.walkable]]).astype(np.float32)
    splat = bundle.splat(LIGHT) if LIGHT in bundle.manifest.splats else None
    return Filmed(reference, bundle.mesh("collision"), cameras, floor, regions.cell, bundle.coverage, splat)


def _work_folder(name: str) -> Path | None:
    """Where a build of that name keeps the results of its stages; None if nothing was built under it."""
    with suppress(BundleError):
        reference = Reference.parse(name)
        folder = bundles_folder() / ".work" / reference.name
        if not reference.address and "@" not in name and folder.is_dir():
            return folder
    return None


def _of_build(work: Path) -> Filmed:
    """What the newest mesh in a build's work folder shows."""
    from pipeline.align.alignment import load_world_scene
    from pipeline.geometry import Mesh
    from pipeline.mesh.params import WalkableParams
    from pipeline.mesh.stage import COLLISION_FILE
    from pipeline.mesh.walkable import find_walkable

    folders = _stages_of_mesh(work)
    views = load_world_scene(folders["poses"], folders["align"]).training
    mesh, params = Mesh.load(folders["mesh"] / COLLISION_FILE), WalkableParams()
    track = np.array([view.world_from_camera.translation for view in views])
    grid = find_walkable(mesh, track, params, np.random.default_rng(SEED))
    places = grid.origin + (np.argwhere(grid.walkable) + 0.5) * params.cell
    floor = np.column_stack([places, grid.height[grid.walkable]]).astype(np.float32)
    return Filmed(work.name, mesh, tuple((view.camera, view.world_from_camera) for view in views), floor, params.cell)


def _stages_of_mesh(work: Path) -> dict[str, Path]:
    """The newest mesh in a build's work folder, and the poses and the alignment that it was made of."""
    from pipeline.running.building import read_records

    for record in reversed(read_records(work.glob("mesh/.*.run.json"))):
        more = record.model_extra or {}
        keys = {**more.get("inputs", {}), "mesh": more.get("key", "")}
        folders = {stage: work / stage / str(keys.get(stage)) for stage in ("poses", "align", "mesh")}
        if all(folder.is_dir() for folder in folders.values()):
            return folders
    raise MissingBundleError(
        "coaching needs a bundle, or a build that has its mesh",
        found=f"a build of {work.name} that has none yet",
        remedy=f"run `splatyard build CAPTURE --name {work.name} --until mesh` first",
        file=work,
    )

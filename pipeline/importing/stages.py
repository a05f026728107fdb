"""The stages of an import: from others' files to a bundle in one metric frame, with measured gates."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from pydantic import PositiveFloat

from pipeline.align.alignment import Alignment
from pipeline.align.gravity import UpEstimate
from pipeline.bundle.params import BundleParams
from pipeline.bundle.stage import SplatInfo, write_cameras, write_manifest
from pipeline.check.report import overview_pose, write_mesh_images
from pipeline.coverage.map import CoverageMap
from pipeline.coverage.stage import horizontal_rotation
from pipeline.errors import CardError, ReconstructionError
from pipeline.geometry import Gaussians, Mesh, PointCloud, Pose, Similarity, sigmoid
from pipeline.geometry.rays import sample_surface
from pipeline.importing.drawn_mesh import mesh_of_splat
from pipeline.importing.frame import ROUGH_UP_DEG, Given, eyes_over_floor, facing, find_world
from pipeline.importing.layouts.notes import copy_notes, save_notes
from pipeline.importing.measure import LENS, look, measure, write_lookouts
from pipeline.importing.mesh_lod import sim_lod_of_mesh
from pipeline.importing.registration import Registration, register
from pipeline.importing.sim_lod import sim_lod_from_renders
from pipeline.importing.source import MESH_OF_CAPTURE, ImportSource, read_source
from pipeline.machine import Machine
from pipeline.mesh.decimate import decimate
from pipeline.mesh.params import COLLISION_TRIANGLES
from pipeline.parameters import Settings
from pipeline.place import by_place, seen_surface
from pipeline.points.stage import write_points_ply
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions
from pipeline.regions.sheet import copy_plans, write_plans
from pipeline.regions.stage import find_regions
from pipeline.scenes.bundle import BundleCamera, load_cameras
from pipeline.scenes.manifest import SceneOrigin
from pipeline.splat.params import SIM_GAUSSIANS
from pipeline.splat.ply import drawing_mode, load_splat, save_splat
from pipeline.splat.sog import save_sog
from pipeline.stage import Choice, Stage, Traits
from pipeline.types import F64

logger = logging.getLogger(__name__)

CLOUD_POINTS = 100_000
NO_COVERAGE = CoverageMap(np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32), 1.0, 0.3, np.pi / 2)
"""Without photos nothing says which images can be trusted."""
LOOKOUT_HEIGHT = 0.5
"""Height of the lookouts over the floor [m]."""
IMPORT_FILE = "import.json"


class ImportParams(Settings):
    """What the user says about the frame and the origin of imported files."""

    up: Literal["x", "y", "z", "-x", "-y", "-z"] | None = None
    """Axis of the mesh's file that points up; null for the one of the source's form."""
    up_sigma: PositiveFloat | None = None
    """One sigma of it [deg]."""
    scale: PositiveFloat | None = None
    """Metres per unit of the mesh (of the capture for nerfstudio); null for what the form says."""
    scale_sigma: PositiveFloat | None = None
    """Relative one sigma of it."""
    generated: bool = False
    """A model generated the scene."""


@dataclass(frozen=True, eq=False)
class Imported:
    """Result of the first stage, in the world frame [m], next to `mesh.ply` and `splat.ply`.

    Attributes:
        registration: Of the splat on the mesh, in units of the imported mesh.
        track: Positions (N, 3) of cameras; none where the files don't have them.
        eyes: The track, or positions over the floor where there is none.
        cameras: Those with intrinsics.
        turned: Number of triangles that were turned to face the eyes.
        origin: As `Provenance` has it.
        parent: The bundle that the files were exported from, or "".
    """

    alignment: Alignment
    registration: Registration
    track: F64
    eyes: F64
    cameras: tuple[BundleCamera, ...]
    turned: int
    origin: SceneOrigin
    parent: str

    def save(self, folder: Path) -> None:
        """Write all of it."""
        self.alignment.save(folder)
        write_cameras(self.cameras, folder)
        pose = self.registration.mesh_from_splat
        content = {
            "registration": {
                **vars(self.registration),
                "mesh_from_splat": [pose.scale, pose.rotation.tolist(), pose.translation.tolist()],
            },
            "track": self.track.tolist(),
            "eyes": self.eyes.tolist(),
            "turned": self.turned,
            "origin": self.origin,
            "parent": self.parent,
        }
        (folder / IMPORT_FILE).write_text(json.dumps(content))

    @staticmethod
    def load(folder: Path) -> Imported:
        """Read what `save` wrote."""
        content = json.loads((folder / IMPORT_FILE).read_text())
        if "generated" in content:  # a result of an earlier version
            content["origin"] = "generated" if content.pop("generated") else "captured"
        scale, rotation, translation = content["registration"].pop("mesh_from_splat")
        pose = Similarity(scale, np.array(rotation), np.array(translation))
        positions = {name: np.array(content.pop(name), np.float64).reshape(-1, 3) for name in ("track", "eyes")}
        registration = Registration(mesh_from_splat=pose, **content.pop("registration"))
        return Imported(
            Alignment.load(folder),
            registration,
            cameras=load_cameras(folder / "cameras.json"),
            **positions,
            **content,
        )


def read(inputs: Mapping[str, Path], params: ImportParams, out_dir: Path) -> None:
    """Read the files, register the splat on the mesh, and bring both into the world frame.

    Raises:
        BundleError: When the files are damaged.
        CardError: When nobody says which axis points up, or how long a unit of a splat alone is.
        ReconstructionError: When the mesh has no floor.
        SimError: When a GaussGym scene has no direction of gravity.
    """
    source = read_source(inputs["source"], inputs["mesh_file"])
    if not len(source.mesh.triangles):
        metres = _scale(params, source)
        _check_scale(source, metres)
        source = replace(source, mesh=mesh_of_splat(source.gaussians, _up(params, source), metres.value))
    registration = register(source.gaussians, source.mesh, source.given, _scale(params, source).value)
    mesh, turned = facing(source.mesh, source.track)
    alignment = find_world(mesh, _up(params, source), _scale(params, source, registration), source.track)
    world_from_mesh = alignment.world_from_scene
    mesh = mesh.transformed(world_from_mesh)
    track = world_from_mesh.apply(source.track)
    eyes = track if len(track) else eyes_over_floor(mesh)
    if not len(track):
        mesh, turned = facing(mesh, eyes)
    cameras = tuple(
        replace(camera, world_from_camera=world_from_mesh.apply_pose(camera.world_from_camera))
        for camera in source.cameras
    )
    world_from_splat = world_from_mesh @ registration.mesh_from_splat
    splat = source.gaussians.transformed(world_from_splat)
    if source.skin is not None:
        skin = replace(source.skin, mesh=source.skin.mesh.transformed(world_from_mesh))
        save_splat(sim_lod_of_mesh(skin, eyes, SIM_GAUSSIANS), out_dir / "sim.ply")
    stated = cast(SceneOrigin, source.origin.get("origin", "captured"))
    origin = "generated" if params.generated else stated
    parent = source.origin.get("bundle", "")
    mesh.save(out_dir / "mesh.ply")
    save_splat(splat, out_dir / "splat.ply")
    if source.notes is not None:
        save_notes(source.notes.transformed(world_from_mesh), out_dir)
    Imported(alignment, registration, track, eyes, cameras, turned, origin, parent).save(out_dir)


def _up(params: ImportParams, source: ImportSource) -> UpEstimate:
    sigma = params.up_sigma or ROUGH_UP_DEG
    if params.up is not None:
        axis = np.eye(3)["xyz".index(params.up[-1])]
        return UpEstimate(("given",), -axis if params.up[0] == "-" else axis, sigma)
    if source.up is not None:
        return UpEstimate((source.form,), source.up, sigma)
    raise CardError(
        "somebody must say roughly which axis of the mesh, or of a splat alone, points up",
        found="the files don't",
        remedy="--up z, or y, -y ...; floor and walls then tell it exactly",
    )


def _scale(params: ImportParams, source: ImportSource, registration: Registration | None = None) -> Given:
    """Metres per unit of the mesh; only the registration knows which frame nerfstudio's mesh is in."""
    in_capture = registration is not None and registration.source == MESH_OF_CAPTURE
    by_form = 1.0 if in_capture else source.metres_per_unit
    if params.scale is None:
        return Given(by_form, params.scale_sigma, source.scale_source)
    return Given(by_form * params.scale, params.scale_sigma, "given")


def _check_scale(source: ImportSource, metres: Given) -> None:
    """Refuse to draw the mesh of a splat whose unit nobody knows: it is built for robots of some size."""
    if metres.source == "assumed":
        low, high = np.percentile(source.gaussians.means, [2, 98], axis=0)
        raise CardError(
            "somebody must say how many metres a unit of a splat without a mesh is",
            found="most of it is {:.3g} x {:.3g} x {:.3g} units".format(*(high - low)),
            remedy="--scale METRES+-SHARE, such as --scale 1+-0.05 where a unit is a metre",
        )


def simplify(inputs: Mapping[str, Path], _params: Settings, out_dir: Path) -> None:
    """Make the collision mesh, and a cloud of points sampled from the mesh."""
    mesh = Mesh.load(inputs["capture"] / "mesh.ply")
    collider_of(mesh).save(out_dir / "collision.ply")
    points, faces = sample_surface(mesh, CLOUD_POINTS, np.random.default_rng(0))
    corners = mesh.triangles[faces]
    count = len(points)
    cloud = PointCloud(
        points,
        mesh.face_normals()[faces].astype(np.float32),
        mesh.colors[corners].astype(np.float64).mean(1).round().astype(np.uint8),
        np.zeros(count, np.float32),
        np.zeros(count, np.int32),
        np.asarray(mesh.guessed[corners].any(1)),
    )
    write_points_ply(out_dir / "points.ply", cloud)


def collider_of(mesh: Mesh) -> Mesh:
    """The mesh for physics, of as many triangles as its place may have."""
    return decimate(mesh, by_place(COLLISION_TRIANGLES, seen_surface(mesh), "collision triangles"))


def find_floor(inputs: Mapping[str, Path], params: RegionsParams, out_dir: Path) -> None:
    """Find the walkable floor; a scene without one gets none."""
    collision, imported = Mesh.load(inputs["mesh"] / "collision.ply"), Imported.load(inputs["capture"])
    try:
        regions = find_regions(collision, imported.eyes, NO_COVERAGE, params)
    except ReconstructionError as error:
        logger.warning("no walkable floor: %s", error.found)
        regions = Regions.without_floor(params.cell, f"{error.rule}; found: {error.found}")
    regions.save(out_dir)
    write_plans(Mesh.load(inputs["capture"] / "mesh.ply"), collision, regions, params, out_dir)


def make_levels(inputs: Mapping[str, Path], _params: Settings, out_dir: Path) -> None:
    """Make the levels of detail for robots' cameras, unless the source has one, and for the web."""
    splat, regions = load_splat(inputs["capture"] / "splat.ply"), Regions.load(inputs["regions"])
    given = inputs["capture"] / "sim.ply"
    if given.exists():
        small = load_splat(given)
    else:
        surface = seen_surface(Mesh.load(inputs["capture"] / "mesh.ply"))
        count = by_place(SIM_GAUSSIANS, surface, "Gaussians for simulators")
        small = sim_lod_from_renders(splat, regions, count) if regions.spawn_poses else _strongest(splat, count)
    save_splat(small, out_dir / "sim.ply")
    save_sog(splat, out_dir / "web.sog")


def _strongest(splat: Gaussians, count: int) -> Gaussians:
    """So many Gaussians that show most, without view-dependent colour, for a scene where no robot can stand."""
    opacity = sigmoid(splat.opacity_logits)
    shown = opacity * np.exp(np.sort(splat.log_scales, 1)[:, 1:].sum(1))
    chosen = splat[np.sort(np.argsort(-shown, kind="stable")[:count])]
    return replace(chosen, sh=chosen.sh[:, :1])


def write_bundle(inputs: Mapping[str, Path], params: BundleParams, out_dir: Path) -> None:
    """Measure the gates, draw the images and gather everything in a bundle."""
    imported, regions = Imported.load(inputs["capture"]), Regions.load(inputs["regions"])
    splat, small = load_splat(inputs["capture"] / "splat.ply"), load_splat(inputs["splat"] / "sim.ply")
    mesh, track = Mesh.load(inputs["capture"] / "mesh.ply"), imported.track
    for stage, names in COPIED.items():
        for name in names:
            shutil.copyfile(inputs[stage] / name, out_dir / name)
    copy_plans(inputs["regions"], out_dir)
    NO_COVERAGE.save(out_dir)
    lookouts = _lookouts(regions, mesh)
    cameras = imported.cameras or [
        BundleCamera(f"lookout_{number:02d}", LENS, pose, held_out=True, thumbnail=None)
        for number, pose in enumerate(lookouts)
    ]
    write_cameras(cameras, out_dir)
    views = look(splat, mesh, [camera.world_from_camera for camera in cameras])
    quality = measure(
        imported.registration,
        imported.alignment,
        splat,
        mesh,
        Mesh.load(out_dir / "collision.ply"),
        regions,
        track,
        views,
        from_cameras=bool(imported.cameras),
    )
    quality.save(out_dir)
    (out_dir / "images").mkdir()
    write_lookouts(views, out_dir / "images")
    around = track if len(track) else np.array([pose.translation for pose in lookouts])
    write_mesh_images(mesh, around, out_dir / "images")
    full = SplatInfo(len(splat), round(np.sqrt(splat.sh.shape[1])) - 1, drawing_mode(splat))
    report = {
        "registration": _registration_report(imported.registration),
        "cameras": "of the capture" if imported.cameras else f"{len(cameras)} lookouts, which no camera took",
        "turned_triangles": imported.turned,
        "points": "sampled from the mesh",
        **copy_notes(inputs["capture"], out_dir, regions),
    }
    write_manifest(
        out_dir,
        params,
        imported.alignment,
        {"full": full, "sim": SplatInfo(len(small), 0, drawing_mode(small)), "web": full},
        origin=imported.origin,
        report={"align": imported.alignment.report, "import": report},
        parents=(imported.parent,) if imported.parent else (),
    )


def _lookouts(regions: Regions, mesh: Mesh) -> list[Pose]:
    """Poses over spawn poses and goals, in four directions each; one from above where nobody can stand."""
    feet = [np.array(pose.position) for pose in (*regions.spawn_poses, *regions.goals)]
    return [
        Pose(horizontal_rotation(quarter * np.pi / 2), position + np.array([0, 0, LOOKOUT_HEIGHT]))
        for position in feet
        for quarter in range(4)
    ] or [overview_pose(mesh, LENS, 40.0, 35.0)]


def _registration_report(registration: Registration) -> dict[str, object]:
    """What a bundle's manifest says of how the splat lies on the mesh."""
    pose = registration.mesh_from_splat
    return {
        "source": registration.source,
        "ambiguous": registration.ambiguous,
        "scale": pose.scale,
        "rotation": pose.rotation.tolist(),
        "translation": pose.translation.tolist(),
    }


COPIED = {
    "capture": ("mesh.ply", "splat.ply"),
    "mesh": ("collision.ply", "points.ply"),
    "regions": ("regions.json", "walkable.npz"),
    "splat": ("sim.ply", "web.sog"),
}


def _form(traits: Traits, _params: Settings, _machine: Machine) -> Choice:
    return Choice(traits.kind, "imported: splat and mesh are somebody else's")


IMPORT_STAGES = (
    Stage("capture", 3, ("source", "mesh_file"), ImportParams, _form, function=f"{__name__}:read"),
    Stage("mesh", 3, ("capture",), Settings, function=f"{__name__}:simplify"),
    Stage("regions", 2, ("capture", "mesh"), RegionsParams, function=f"{__name__}:find_floor"),
    Stage("splat", 2, ("capture", "regions"), Settings, function=f"{__name__}:make_levels"),
    Stage("bundle", 6, ("capture", "mesh", "regions", "splat"), BundleParams, function=f"{__name__}:write_bundle"),
)

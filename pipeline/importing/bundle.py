"""From others' files to a bundle: one frame, a floor, and measured gates."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.align.gravity import UpEstimate
from pipeline.bundle.params import BundleParams, version_for
from pipeline.bundle.stage import SplatInfo, write_cameras, write_manifest
from pipeline.card import name_from
from pipeline.check.report import overview_pose, quality_page, write_mesh_images
from pipeline.coverage.map import CoverageMap
from pipeline.coverage.stage import horizontal_rotation
from pipeline.errors import CardError, ReconstructionError
from pipeline.files import machine_errors
from pipeline.geometry import Gaussians, Mesh, PointCloud, Pose, sigmoid
from pipeline.geometry.rays import sample_surface
from pipeline.importing.frame import ROUGH_UP_DEG, Given, eyes_over_floor, facing, find_world
from pipeline.importing.measure import LENS, look, measure, write_lookouts
from pipeline.importing.registration import Registration, register
from pipeline.importing.sim_lod import sim_lod_from_renders
from pipeline.importing.source import MESH_OF_CAPTURE, ImportSource, read_source
from pipeline.mesh.decimate import decimate
from pipeline.mesh.params import MeshParams
from pipeline.points.stage import write_points_ply
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions
from pipeline.regions.stage import find_regions
from pipeline.scenes.bundle import BundleCamera
from pipeline.scenes.manifest import MANIFEST_FILE, StageRecord
from pipeline.splat.params import SplatParams
from pipeline.splat.ply import drawing_mode, save_splat
from pipeline.splat.sog import save_sog
from pipeline.types import F64

logger = logging.getLogger(__name__)

IMPORT_VERSION = 1
"""Raised when the same files give another bundle."""
CLOUD_POINTS = 100_000
NO_COVERAGE = CoverageMap(np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32), 1.0, 0.3, np.pi / 2)
"""Without photos nothing says which images can be trusted."""
LOOKOUT_HEIGHT = 0.5
"""Height of the lookouts over the floor [m]."""
AXES = {sign + name: (-1.0 if sign else 1.0) * np.eye(3)[axis] for axis, name in enumerate("xyz") for sign in ("", "-")}


@dataclass(frozen=True)
class ImportRequest:
    """What a user asks for.

    Attributes:
        source: A folder, or a splat's PLY.
        mesh: The mesh's file, where it lies elsewhere.
        name: Name of the scene; from the source's name when not given.
        out: Folder of bundles.
        about: Where it comes from, for people; the source's name when not given.
        generated: Whether a model generated it.
        up: The axis of the mesh's file that points up: x, y, z, -x, -y or -z; None for the form's own.
        up_sigma: One sigma of it [deg].
        scale: Metres per unit of the mesh, or None for what the form says.
        scale_sigma: Relative one sigma.
        version: Version of the bundle; the next free one when not given.
    """

    source: Path
    mesh: Path | None = None
    name: str | None = None
    out: Path = Path("bundles")
    licence: str | None = None
    about: str | None = None
    description: str = ""
    generated: bool = False
    up: str | None = None
    up_sigma: float | None = None
    scale: float | None = None
    scale_sigma: float | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if self.up is not None and self.up not in AXES:
            raise ValueError(f"up must be one of {', '.join(AXES)}, got {self.up!r}")
        for name in ("up_sigma", "scale", "scale_sigma"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")


@dataclass(frozen=True, eq=False)
class _World:
    """The scene in the world frame [m]."""

    alignment: Alignment
    splat: Gaussians
    mesh: Mesh
    collision: Mesh
    track: F64
    cameras: tuple[BundleCamera, ...]
    regions: Regions
    turned: int


def import_bundle(request: ImportRequest) -> Path:
    """Make a bundle of others' files; returns its folder. The same files and options again give the same version.

    Raises:
        BundleError: When the files are of no form that can be read, or damaged.
        CardError: When an option is missing, or contradicts what the files say.
        ReconstructionError: When the mesh has no floor.
        SimError: When a GaussGym scene has no direction of gravity.
    """
    source = read_source(request.source.expanduser(), request.mesh)
    about = _about(request, source)
    name = name_from(request.name or request.source.resolve().stem)
    options = {
        "up": request.up,
        "up_sigma": request.up_sigma,
        "scale": request.scale,
        "scale_sigma": request.scale_sigma,
    }
    content = [IMPORT_VERSION, source.sha256, options, about, request.description, name]
    build_key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    scene = request.out.resolve() / name
    folder = scene / version_for(scene, build_key, request.version)
    if (folder / MANIFEST_FILE).exists():
        return folder
    up = _up(request, source)
    registration = register(source.gaussians, source.mesh, source.given, _scale(request, source).value)
    world = _into_world(source, registration, up, _scale(request, source, registration))
    capture = StageRecord(
        name="capture",
        key=source.sha256[:20],
        backend=source.form,
        reason="imported: splat and mesh are somebody else's",
        params=options,
    )
    regions = StageRecord(
        name="regions", key=build_key, backend="cpu", reason="the only one", params=RegionsParams().model_dump()
    )
    params = BundleParams(
        name=name,
        version=folder.name,
        build_key=build_key,
        source=about["source"],
        licence=about["licence"],
        description=request.description,
        stages=(capture, regions),
    )
    with machine_errors(scene):
        scene.mkdir(parents=True, exist_ok=True)
    with machine_errors(scene), tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=scene) as kept:
        made = Path(kept) / folder.name
        (made / "images").mkdir(parents=True)
        splats, report = _write_parts(made, world, registration)
        generated = about["origin"] == "generated"
        write_manifest(
            made,
            params,
            world.alignment,
            splats,
            origin="generated" if generated else "captured",
            report={"align": world.alignment.report, "import": report},
            parents=tuple(filter(None, [about["parent"]])),
        )
        made.rename(folder)
    return folder


def _about(request: ImportRequest, source: ImportSource) -> dict[str, str]:
    """Where it comes from: what an export of ours says counts; the user may state the rest."""
    kept = source.origin
    licence = kept.get("licence", "unknown")
    if request.licence and licence != "unknown" and request.licence != licence:
        raise CardError(
            "a scene keeps the licence that it came with",
            found=f"--licence {request.licence}, but its origin.json says {licence}",
            remedy="leave --licence out; only whose capture it is can change it",
            file=request.source,
        )
    generated = request.generated or kept.get("origin") == "generated"
    return {
        "source": request.about or kept.get("source") or request.source.resolve().name,
        "licence": licence if licence != "unknown" else request.licence or "unknown",
        "origin": "generated" if generated else "captured",
        "parent": kept.get("bundle", ""),
    }


def _up(request: ImportRequest, source: ImportSource) -> UpEstimate:
    sigma = request.up_sigma or ROUGH_UP_DEG
    if request.up is not None:
        return UpEstimate(("given",), AXES[request.up], sigma)
    if source.up is not None:
        return UpEstimate((source.form,), source.up, sigma)
    raise CardError(
        "somebody must say roughly which axis of the mesh points up",
        found=f"{request.source.name} doesn't",
        remedy="--up z, or y, -y ...; floor and walls then tell it exactly",
    )


def _scale(request: ImportRequest, source: ImportSource, registration: Registration | None = None) -> Given:
    """Metres per unit of the mesh; only the registration knows which frame nerfstudio's mesh is in."""
    in_capture = registration is not None and registration.source == MESH_OF_CAPTURE
    by_form = 1.0 if in_capture else source.metres_per_unit
    if request.scale is None:
        return Given(by_form, request.scale_sigma, source.scale_source)
    return Given(by_form * request.scale, request.scale_sigma, "given")


def _into_world(source: ImportSource, registration: Registration, up: UpEstimate, scale: Given) -> _World:
    mesh, turned = facing(source.mesh, source.track)
    alignment = find_world(mesh, up, scale, source.track)
    world_from_mesh = alignment.world_from_scene
    mesh = mesh.transformed(world_from_mesh)
    track = world_from_mesh.apply(source.track)
    eyes = track if len(track) else eyes_over_floor(mesh)
    if not len(track):
        mesh, turned = facing(mesh, eyes)
    cameras = tuple(
        BundleCamera(c.name, c.camera, world_from_mesh.apply_pose(c.world_from_camera), c.held_out, None)
        for c in source.cameras
    )
    collision = decimate(mesh, MeshParams().collision_triangles)
    try:
        regions = find_regions(collision, eyes, NO_COVERAGE, RegionsParams())
    except ReconstructionError as error:
        logger.warning("no walkable floor: %s", error.found)
        regions = Regions.without_floor(RegionsParams().cell, f"{error.rule}; found: {error.found}")
    splat = source.gaussians.transformed(world_from_mesh @ registration.mesh_from_splat)
    return _World(alignment, splat, mesh, collision, track, cameras, regions, turned)


def _write_parts(
    folder: Path, world: _World, registration: Registration
) -> tuple[dict[str, SplatInfo], dict[str, object]]:
    """Write all files but the manifest; returns the levels of detail, and the report."""
    alignment, splat, regions = world.alignment, world.splat, world.regions
    # over spawn poses and goals, in four directions each; from above where nobody can stand
    feet = [np.array(pose.position) for pose in (*regions.spawn_poses, *regions.goals)]
    lookouts = [
        Pose(horizontal_rotation(quarter * np.pi / 2), position + np.array([0, 0, LOOKOUT_HEIGHT]))
        for position in feet
        for quarter in range(4)
    ] or [overview_pose(world.mesh, LENS, 40.0, 35.0)]
    world.mesh.save(folder / "mesh.ply")
    world.collision.save(folder / "collision.ply")
    write_points_ply(folder / "points.ply", _cloud(world.mesh))
    small = sim_lod_from_renders(splat, regions) if regions.spawn_poses else _strongest(splat)
    save_splat(splat, folder / "splat.ply")
    save_splat(small, folder / "sim.ply")
    save_sog(splat, folder / "web.sog")
    regions.save(folder)
    NO_COVERAGE.save(folder)
    cameras = world.cameras or [
        BundleCamera(f"lookout_{number:02d}", LENS, pose, held_out=True, thumbnail=None)
        for number, pose in enumerate(lookouts)
    ]
    write_cameras(cameras, folder)
    views = look(splat, world.mesh, [camera.world_from_camera for camera in cameras])
    quality = measure(
        registration,
        alignment,
        splat,
        world.mesh,
        world.collision,
        regions,
        world.track,
        views,
        from_cameras=bool(world.cameras),
    )
    quality.save(folder)
    captions = [(f"images/{file}", caption) for file, caption in write_lookouts(views, folder / "images")]
    around = world.track if len(world.track) else np.array([pose.translation for pose in lookouts])
    meshes = [f"images/{file}" for file in write_mesh_images(world.mesh, around, folder / "images")]
    page = quality_page(quality, "Quality of the imported bundle", captions, meshes, None)
    (folder / "quality.html").write_text(page)
    full = SplatInfo(len(splat), round(np.sqrt(splat.sh.shape[1])) - 1, drawing_mode(splat))
    levels = {"full": full, "sim": SplatInfo(len(small), 0, drawing_mode(small)), "web": full}
    pose = registration.mesh_from_splat
    return levels, {
        "registration": {
            "source": registration.source,
            "ambiguous": registration.ambiguous,
            "scale": pose.scale,
            "rotation": pose.rotation.tolist(),
            "translation": pose.translation.tolist(),
        },
        "cameras": "of the capture" if world.cameras else f"{len(cameras)} lookouts, which no camera took",
        "turned_triangles": world.turned,
        "points": "sampled from the mesh",
    }


def _strongest(splat: Gaussians) -> Gaussians:
    """The Gaussians that show most, without view-dependent colour, for a scene where no robot can stand."""
    opacity = sigmoid(splat.opacity_logits)
    shown = opacity * np.exp(np.sort(splat.log_scales, 1)[:, 1:].sum(1))
    chosen = splat[np.sort(np.argsort(-shown, kind="stable")[: SplatParams().sim_gaussians])]
    return replace(chosen, sh=chosen.sh[:, :1])


def _cloud(mesh: Mesh) -> PointCloud:
    points, faces = sample_surface(mesh, CLOUD_POINTS, np.random.default_rng(0))
    corners = mesh.triangles[faces]
    count = len(points)
    return PointCloud(
        points,
        mesh.face_normals()[faces].astype(np.float32),
        mesh.colors[corners].astype(np.float64).mean(1).round().astype(np.uint8),
        np.zeros(count, np.float32),
        np.zeros(count, np.int32),
        np.asarray(mesh.guessed[corners].any(1)),
    )

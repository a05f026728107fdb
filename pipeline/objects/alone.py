"""A bundle that is one object by itself: what a capture looks at from all sides, without what it stands on.

Some stages of such a build differ from a place's (`pipeline.running.stages.LONE_STAGES`): the mesh is that of the
surroundings of the point which the cameras look at, finer than that of a room, and there is no floor for robots.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.bundle.params import BundleParams
from pipeline.bundle.stage import SplatInfo, finish
from pipeline.check.quality import Gate, Quality
from pipeline.check.report import write_mesh_images
from pipeline.check.settle import settled
from pipeline.coverage.map import CoverageMap
from pipeline.coverage.params import CoverageParams
from pipeline.depth.maps import DepthMap, StoredMaps
from pipeline.errors import ReconstructionError
from pipeline.geometry import Gaussians, Mesh, PointCloud, Pose, Similarity, angle_deg, matrix_from_quaternion
from pipeline.geometry.rays import RayCaster
from pipeline.geometry.winding import winding
from pipeline.mesh.params import MeshParams
from pipeline.mesh.stage import COLLISION_FILE, write_mesh
from pipeline.mesh.stage import MESH_FILE as SURFACE_FILE
from pipeline.objects.close import CELL, THINNEST, Body, close_body
from pipeline.objects.cut import cut_splat
from pipeline.objects.cutting import DISCS, FRICTION, settling_gates
from pipeline.objects.find import Standing, find_objects
from pipeline.objects.hulls import hulls_of
from pipeline.objects.listing import SceneObject
from pipeline.objects.shapes import UPRIGHT, along_sides
from pipeline.objects.version import write_object
from pipeline.objects.views import Views
from pipeline.points.stage import write_points_ply
from pipeline.poses.scene import View
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import AN_OBJECT, Regions
from pipeline.scenes.objects import FOLDER, MESH_FILE, SPLAT_FILES
from pipeline.splat.ply import load_splat
from pipeline.splat.sog import save_sog
from pipeline.types import F64, Mask

ARM = 1.5
"""Distance that objects of a place are filmed from [m]: what is filmed from nearer is enlarged to that before it is
looked for and closed, so that all lengths there are in proportion."""
MISSES, CROSSING = 0.35, 0.02
"""Cameras look at one point where their axes miss it by less than this share of their distance, in the median, and
their directions differ: the least eigenvalue of the mean projection across them."""
SURROUNDINGS = 0.75
"""How far around that point there is a mesh [distances of the cameras]."""
OFF_POINT, LARGEST = 0.2, 1.2
"""An object is no farther from that point than the first, and no longer than the second [distances of the cameras]."""
POINTS_OFF = 0.02
"""Points of the cloud this near to its surface are an object's [m, from `ARM`]."""
SIGMAS, STICKS_OUT = 2.0, 0.03
"""A Gaussian is no object's by itself that goes so many sigmas farther out of it than that [m, from `ARM`]."""
FACES, SEEN, UNSEEN_SIDE = 0.7, 0.3, 0.3
"""A side are faces whose normals are as near to its direction as the first. It was seen where more than the second of
their area was; else the length is unknown by the third of it."""
SIZE_SIGMA = 0.1
"""Largest relative sigma of a size."""
WIDE = 5.0
"""Half of the side of the level plane that it is left to itself on [m]."""


@dataclass(frozen=True, eq=False)
class LoneObject:
    """What a capture looks at.

    Attributes:
        arm_from_world: Enlarges what was filmed from near.
        standing: Its triangles, of the mesh in that frame.
        body: Its closed surface in that frame.
        views: What the cameras saw there.
        mesh: The whole mesh there.
    """

    arm_from_world: Similarity
    standing: Standing
    body: Body
    views: Views
    mesh: Mesh

    @property
    def body_from_world(self) -> Similarity:
        """Into its own frame [m]."""
        smaller = Similarity(1 / self.arm_from_world.scale, np.eye(3), np.zeros(3))
        return smaller @ Similarity.from_pose(self.body.world_from_body.inverse()) @ self.arm_from_world

    @property
    def surface(self) -> Mesh:
        """Its closed surface in its own frame [m]."""
        return self.body.mesh.transformed(self.body_from_world @ self.arm_from_world.inverse())


def looked_at(views: Sequence[View], file: Path) -> tuple[F64, float]:
    """The point (3,) that the optical axes of views pass nearest to, and the median distance of the cameras.

    Raises:
        ReconstructionError: When they don't look at one point.
    """
    eyes = np.array([view.world_from_camera.translation for view in views])
    axes = np.array([view.world_from_camera.rotation[:, 2] for view in views])
    across = np.eye(3) - axes[:, :, None] * axes[:, None]
    if np.linalg.eigvalsh(across.mean(0))[0] < CROSSING:
        found = "all look the same way"
    else:
        point = np.linalg.solve(across.sum(0), np.einsum("nij,nj->i", across, eyes))
        ahead = ((point - eyes) * axes).sum(1)
        off = np.linalg.norm(point - eyes - ahead[:, None] * axes, axis=1)
        away = float(np.median(ahead))
        if away > 0 and np.median(off) < MISSES * away:
            return point, away
        found = f"their axes miss each other by {np.median(off):.2f} m"
    raise ReconstructionError(
        "the images of an object by itself look at one thing, from several sides",
        found=found,
        remedy="walk round one thing, which stays in the middle of the image; without --object it is a place",
        file=file,
    )


def find_alone(mesh: Mesh, views: Sequence[View], floor_found: bool, file: Path) -> LoneObject:
    """The object that views look at, of a mesh (world frame) of its surroundings; with what stands on it.

    Raises:
        ReconstructionError: When there is none, or its surface goes round nothing.
    """
    point, away = looked_at(views, file)
    arm_from_world = Similarity(max(1.0, ARM / away), np.eye(3), np.zeros(3))
    point, away = arm_from_world.apply(point), arm_from_world.scale * away
    mesh = mesh.transformed(arm_from_world)
    cameras = [(view.camera, arm_from_world.apply_pose(view.world_from_camera)) for view in views]
    floor = 0.0 if floor_found or not len(mesh.vertices) else float(mesh.vertices[:, 2].min())
    found = find_objects(mesh, floor)
    off = [float(np.linalg.norm(np.maximum(np.maximum(one.low - point, point - one.high), 0))) for one in found]
    compact = [float((one.high - one.low).max()) < LARGEST * away for one in found]
    near = [number for number in range(len(found)) if compact[number] and off[number] < OFF_POINT * away]
    if not near:
        metres = 1 / arm_from_world.scale
        raise ReconstructionError(
            "an object by itself stands where the images look",
            found=f"nothing that stands free within {OFF_POINT * away * metres:.2f} m of that point",
            remedy="put it where light falls on all sides, and walk round it. Glass, mirrors and black gloss are "
            "measured when they are dusted or taped",
            file=file,
        )
    # what encloses the point, and of these the smallest: a table does, too
    chosen = min(near, key=lambda number: (round(off[number], 3), np.prod(found[number].high - found[number].low)))
    whole = found[chosen].triangles.copy()
    own = {chosen}
    for number, one in enumerate(found):  # the lowest first
        if one.on in own:
            own.add(number)
            whole |= one.triangles
    points = mesh.corners()[whole].reshape(-1, 3).astype(np.float64)
    standing = replace(found[chosen], triangles=whole, low=points.min(0), high=points.max(0))
    seen = Views(mesh, cameras)
    body = close_body(mesh, standing, seen)
    if body is None or body.size.min() < THINNEST:
        raise ReconstructionError(
            "an object's surface goes round something",
            found=f"{mesh.face_areas()[whole].sum() / arm_from_world.scale**2:.3f} m^2 that go round nothing",
            remedy="film it from more sides; glass, mirrors and black gloss are measured when they are dusted or taped",
            file=file,
        )
    return LoneObject(arm_from_world, standing, _along_its_sides(body), seen, mesh)


def _along_its_sides(body: Body) -> Body:
    """A body whose frame has x along the longer one of its sides."""
    normals, areas = body.mesh.face_normals(), body.mesh.face_areas()
    side = np.abs(normals[:, 2]) < UPRIGHT
    rotation = along_sides(normals[side], areas[side])
    extent = np.ptp(body.mesh.vertices @ rotation, axis=0)
    if extent[1] > extent[0]:
        rotation = rotation @ np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])
    places = body.mesh.vertices.astype(np.float64) @ rotation
    low, high = places.min(0), places.max(0)
    foot = np.array([*(low + high)[:2] / 2, low[2]])
    return replace(body, world_from_body=Pose(rotation, rotation @ foot), size=high - low)


def write_near_mesh(inputs: Mapping[str, Path], params: MeshParams, out_dir: Path) -> None:
    """Read poses, depth, align and points; write the meshes of what is near the point that the cameras look at.

    Raises:
        ReconstructionError: When no object stands there, before hours are spent on its splat.
    """
    alignment, scene = Alignment.load(inputs["align"]), load_world_scene(inputs["poses"], inputs["align"])
    point, away = looked_at(scene.training, inputs["poses"])
    maps = [_near(one, point, SURROUNDINGS * away) for one in StoredMaps(inputs["depth"], alignment.world_from_scene)]
    finer = params.changed(close_floor=False, island_volume=params.island_volume * min(1.0, away / ARM) ** 3)
    write_mesh(inputs, finer, out_dir, maps)
    find_alone(Mesh.load(out_dir / SURFACE_FILE), scene.training, alignment.floor_found, inputs["poses"])


def _near(depth_map: DepthMap, point: F64, reach: float) -> DepthMap:
    return depth_map.without(np.linalg.norm(depth_map.points() - point, axis=-1) > reach)


def write_no_coverage(_inputs: Mapping[str, Path], params: CoverageParams, out_dir: Path) -> None:
    """Write the coverage map of what nobody stands on."""
    errors = np.zeros((0, params.headings), np.float32)
    field_of_view = float(np.deg2rad(params.field_of_view))
    CoverageMap(np.zeros((0, 3), np.float32), errors, params.cell, params.camera_height, field_of_view).save(out_dir)


def write_no_regions(_inputs: Mapping[str, Path], params: RegionsParams, out_dir: Path) -> None:
    """Write the regions of what nobody stands on."""
    Regions.without_floor(params.cell, AN_OBJECT).save(out_dir)


def write_lone_bundle(inputs: Mapping[str, Path], params: BundleParams, out_dir: Path) -> None:
    """Read all stages' results; write the bundle of the object, in its own frame.

    Raises:
        ReconstructionError: When the splat has nothing of it.
    """
    alignment, scene = Alignment.load(inputs["align"]), load_world_scene(inputs["poses"], inputs["align"])
    mesh = Mesh.load(inputs["mesh"] / SURFACE_FILE)
    lone = find_alone(mesh, scene.training, alignment.floor_found, inputs["poses"])
    surface, small = lone.surface, 1 / lone.arm_from_world.scale
    own = {level: _own_splat(lone, load_splat(inputs["splat"] / file), level) for level, file in LEVELS.items()}
    if not all(map(len, own.values())):
        raise ReconstructionError(
            "an object has Gaussians of its own",
            found="none of the splat's lie on its body",
            remedy="train it longer: --set splat.seconds=300",
            file=inputs["splat"],
        )
    body = replace(lone.body, world_from_body=Pose.identity(), size=small * lone.body.size, mesh=surface)
    one = SceneObject(params.name, lone.standing, body, "nothing", "", float(1 - surface.guessed.mean()))
    enlarged = Similarity(1 / small, np.eye(3), np.zeros(3))
    hulls = [small * _on_its_foot(hull) for hull in hulls_of(surface.transformed(enlarged))]
    folder = out_dir / FOLDER / params.name
    write_object(folder, one, surface, own, hulls)
    for file in (SURFACE_FILE, COLLISION_FILE):
        shutil.copyfile(folder / MESH_FILE, out_dir / file)
    for level, file in LEVELS.items():
        shutil.copyfile(folder / SPLAT_FILES[level], out_dir / file)
    save_sog(own["full"], out_dir / "web.sog")
    cloud = PointCloud.load(inputs["points"] / "cloud.npz").transformed(lone.body_from_world)
    near = RayCaster(surface).distances(cloud.points) < POINTS_OFF * small
    write_points_ply(out_dir / "points.ply", cloud[np.asarray(near)])
    for stage, names in COPIED.items():
        for name in names:
            shutil.copyfile(inputs[stage] / name, out_dir / name)
    shutil.copytree(inputs["check"] / "images", out_dir / "images")
    track = np.array([view.world_from_camera.translation for view in scene.training])
    write_mesh_images(surface, lone.body_from_world.apply(track), out_dir / "images")
    measured = Quality.load(inputs["check"])
    gates = (*measured.gates, *_stands(one, hulls), _size_gate(one, alignment.scale_sigma))
    Quality(gates=gates, metrics=measured.metrics).save(out_dir)
    training = json.loads((inputs["splat"] / "training.json").read_text())
    full = SplatInfo(len(own["full"]), training["sh_degree"], training["antialiasing"])
    sim = SplatInfo(len(own["sim"]), 0, training["antialiasing"])
    alignment = replace(alignment, floor_found=False)
    finish(inputs, params, out_dir, alignment, lone.body_from_world, {"full": full, "sim": sim, "web": full})


LEVELS = {"full": "splat.ply", "sim": "sim.ply"}
"""The splat stage's files by level of detail."""
COPIED = {
    "coverage": ("coverage.npz",),
    "regions": ("regions.json", "walkable.npz"),
}
"""What is as in every bundle."""


def _within(own: Gaussians, body: Body) -> Mask:
    """Which Gaussians (N,) end near a body: large ones of its stand reach away from it, where nothing hides them."""
    longest = own.log_scales.argmax(1)
    axes = matrix_from_quaternion(own.quaternions)[np.arange(len(own)), :, longest]
    reach = SIGMAS * np.exp(own.log_scales.max(1).astype(np.float64))[:, None] * axes
    caster, corners, kept = RayCaster(body.mesh), body.mesh.corners().astype(np.float64), np.ones(len(own), bool)
    for end in (own.means + reach, own.means - reach):
        inside = winding(corners, end) > 0.5
        kept &= inside | (caster.distances(end) < STICKS_OUT)
        kept &= end[:, 2] > body.world_from_body.translation[2] - STICKS_OUT / 2
    return kept


def _on_its_foot(hull: F64) -> F64:
    """Corners (V, 3) of a convex piece, level where it stands: carved edges are round, and it would rock."""
    low = hull[:, 2] < CELL
    height = np.where(low & (hull[:, 2].max() > 2 * CELL), 0, hull[:, 2])
    return np.column_stack([hull[:, :2], height])


def _own_splat(lone: LoneObject, splat: Gaussians, level: str) -> Gaussians:
    """The object's Gaussians in its own frame."""
    around = lone.mesh.with_faces(~lone.standing.triangles)
    own = cut_splat(splat.transformed(lone.arm_from_world), lone.body, around, (), lone.views, DISCS[level]).own
    own = own[_within(own, lone.body)]
    return own.transformed(lone.body_from_world @ lone.arm_from_world.inverse())


def _stands(one: SceneObject, hulls: Sequence[F64]) -> tuple[Gate, Gate]:
    """Whether it stands by itself on a level plane."""
    corners = WIDE * np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    plane = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    (after,) = settled(plane, [(hulls, Pose.identity(), FRICTION)])
    moved, turned = float(np.linalg.norm(after.translation)), float(angle_deg(np.eye(3), after.rotation))
    return settling_gates([one], [moved], [turned], "3 s in PhysX, on a level plane")


def _size_gate(one: SceneObject, scale_sigma: float | None) -> Gate:
    """How well its size is known: by the scale, and by which of its sides were seen."""
    size, mesh = one.body.size, one.body.mesh
    normals, areas, seen = mesh.face_normals(), mesh.face_areas(), ~mesh.face_guessed()
    unseen, names = np.zeros(3), list[str]()
    for axis, name in enumerate("xyz"):
        for sign in (-1, 1) if axis < 2 else (1,):  # what it stands on tells its foot
            facing = sign * normals[:, axis] > FACES
            if areas[facing & seen].sum() <= SEEN * areas[facing].sum():
                unseen[axis] += UNSEEN_SIDE
                names.append("-+"[sign > 0] + name)
    relative = np.hypot(1.0 if scale_sigma is None else scale_sigma, unseen)
    how = "by the sigma of the scale"
    how += f"; its sides {', '.join(names)} are unobserved and guessed" if names else ""
    sigmas = dict(zip("xyz", np.round(relative * size, 4).tolist(), strict=True))
    return Gate(
        name="object_size",
        title="The object's size is known (largest relative sigma)",
        value=round(float(relative.max()), 4),
        unit="",
        threshold=SIZE_SIGMA,
        comparison="<=",
        how=how,
        detail={"sigma_m": sigmas, "seen": round(one.seen, 3)},
    )

"""A room with a table and boxes whose truth is known, as a mesh and as a bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from flows.cli import main
from pipeline.coverage.map import CoverageMap
from pipeline.geometry import Camera, Gaussians, Mesh, matrix_from_rotvec, quaternions_from_z
from pipeline.geometry.rays import sample_surface
from pipeline.mesh.marching_cubes import zero_crossing
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import AN_OBJECT, Regions
from pipeline.regions.stage import find_regions
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import Manifest, file_sha256, list_files
from pipeline.scenes.objects import FOLDER, MESH_FILE, RECORD_FILE, SPLAT_FILES
from pipeline.splat.ply import save_splat
from pipeline.types import F64
from tests.bundles import make_bundle
from tests.synthetic import Room, look_at

CELL = 0.025
ROOM = np.array([3.2, 2.4, 2.2])  # [m], its corner at the origin
TABLE = ((1.5, 0.9), (1.1, 0.7), 0.7, 0.08)
"""Middle, size, height and thickness of the top [m]."""
BOXES = {  # middle of the foot, size [m], yaw [rad]
    "crate": ((0.8, 1.7, 0.0), (0.5, 0.3, 0.35), 0.3),
    "parcel on the table": ((1.7, 0.8, 0.7), (0.3, 0.2, 0.24), -0.5),
    "mug on the table": ((1.2, 1.05, 0.7), (0.09, 0.08, 0.14), 0.2),
    "parcel on the crate": ((0.78, 1.68, 0.35), (0.2, 0.15, 0.2), 0.9),
}


def to_box(points: F64, foot: tuple[float, ...], size: tuple[float, ...], yaw: float) -> F64:
    """Signed distances (...) of points (..., 3) from a box [m]."""
    local = (points - np.array(foot)) @ matrix_from_rotvec([0, 0, yaw])
    beyond = np.abs(local - [0, 0, size[2] / 2]) - np.array(size) / 2
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(-1), 0)


def to_surface(points: F64) -> F64:
    """Signed distances (...) of points (..., 3) from walls, table and boxes [m]."""
    distance = np.minimum(points, ROOM - points).min(-1)
    (x, y), (length, width), height, thick = TABLE
    parts = [((x, y, height - thick), (length, width, thick), 0.0), *BOXES.values()]
    for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        parts.append(((x + sx * (length / 2 - 0.08), y + sy * (width / 2 - 0.08), 0.0), (0.1, 0.1, height), 0.0))
    for part in parts:
        distance = np.minimum(distance, to_box(points, *part))
    return distance


def scanned_room() -> Mesh:
    """The room as a scan that saw everything."""
    origin = np.full(3, -2 * CELL)
    count = int(np.ceil(ROOM.max() / CELL)) + 5
    inside = [(np.arange(int(size / CELL) + 4) + 0.5) * CELL + origin[0] for size in ROOM]
    field, outside = np.ones((1, count, count, count), np.float32), np.ones((1, count, count, count), bool)
    places = np.stack(np.meshgrid(*inside, indexing="ij"), -1)
    z, y, x = (slice(len(index)) for index in reversed(inside))
    field[0, z, y, x], outside[0, z, y, x] = to_surface(places).transpose(2, 1, 0), False
    vertices, triangles = zero_crossing(np.zeros((1, 3), np.int32), field, ~outside)
    mesh = Mesh.from_arrays((vertices + 0.5) * CELL + origin, triangles)
    colors = np.round(255 * colors_of(mesh.vertices.astype(np.float64))).astype(np.uint8)
    return replace(mesh, colors=colors)


JOINT = {
    "kind": "hinge",
    "axis": [0.0, 0.6, 0.8],
    "point": [0.9, 1.5, 0.1],
    "range": [0.0, 0.7],
    "sigma_deg": 0.2,
    "sigma": 0.004,
    "sigma_travel": 0.01,
}
"""Neither upright nor through the body's origin."""


COLORS = {  # by the object that is the nearest
    "crate": (0.7, 0.2, 0.1),
    "parcel on the table": (0.1, 0.3, 0.8),
    "mug on the table": (0.8, 0.8, 0.2),
    "parcel on the crate": (0.2, 0.7, 0.3),
}


def colors_of(points: F64) -> F64:
    """Colours (N, 3) of points on surfaces: stripes on the room, one colour for each box."""
    shade = 0.5 + 0.15 * np.sin(9 * points[:, 0] + 7 * points[:, 1] + 5 * points[:, 2])
    colors = shade[:, None] * np.array([1.0, 0.9, 0.7])
    for name, box in BOXES.items():
        colors[to_box(points, *box) < CELL / 2] = COLORS[name]
    return colors


def splat_of(mesh: Mesh, count: int) -> Gaussians:
    """Flat Gaussians on a mesh's surface."""
    points, faces = sample_surface(mesh, count, np.random.default_rng(0))
    scales = np.tile([0.025, 0.025, 0.002], (count, 1))
    quaternions = quaternions_from_z(mesh.face_normals()[faces])
    return Gaussians.from_colors(points.astype(np.float64), scales, quaternions, colors_of(points), 0.95, 4)


def furnished_bundle(
    root: Path,
    room: Room,
    mesh: Mesh,
    regions: Regions | None = None,
    closing: Mesh | None = None,
    gaussians: tuple[int, int] = (40_000, 9_000),
) -> Path:
    """Write a bundle of the room, filmed from all around, and closed by further faces."""
    folder = make_bundle(root, room, regions=regions)
    camera, views = Camera(160, 120, 110.0, 111.0, 81.0, 59.0), []
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, 24, endpoint=False)):
        eye = ROOM / 2 + np.array(
            [0.42 * ROOM[0] * np.cos(angle), 0.4 * ROOM[1] * np.sin(angle), 0.3 + 0.2 * (number % 3)]
        )
        pose = look_at(eye, np.array([1.3, 1.2, 0.3]))
        views.append({"name": f"{number}.jpg", "camera": camera.to_json(), "world_from_camera": pose.matrix.tolist()})
    content = {"cameras": [{**view, "held_out": False} for view in views]}
    (folder / "cameras.json").write_text(json.dumps(content))
    splats = {name: splat_of(mesh, count) for name, count in zip(("full", "sim"), gaussians, strict=True)}
    mesh.save(folder / "mesh.ply", closing)
    (mesh.joined(closing) if closing else mesh).save(folder / "collision.ply")
    for name, file in (("full", "splat.ply"), ("sim", "sim.ply")):
        save_splat(splats[name], folder / file)
    manifest = json.loads((folder / "bundle.json").read_text())
    del manifest["splats"]["web"]
    (folder / "web.sog").unlink()
    (folder / "bundle.json").unlink()
    for name, splat in splats.items():
        manifest["splats"][name]["gaussians"] = len(splat)
    manifest["files"] = {name: entry.model_dump() for name, entry in list_files(folder).items()}
    (folder / "bundle.json").write_text(Manifest.model_validate(manifest).model_dump_json())
    return folder


def cut_bundle(root: Path, room: Room) -> Path:
    """Write the bundle, and, by the command, the version in which all boxes are loose; see `before_the_cut`."""
    mesh = scanned_room()
    trusted = CoverageMap(np.array([[1.6, 1.2, 0.0]], np.float32), np.full((1, 8), 1e-3, np.float32), 5.0, 5.0, np.pi)
    track = np.array([[2.4, 1.8, 1.2], [1.4, 0.5, 1.2]])
    regions = find_regions(mesh, track, trusted, RegionsParams(radius=0.15))
    whole, out = furnished_bundle(root, room, mesh, regions), root / "cut"
    assert main(["objects", str(whole), "--all-movable", "--out", str(out)]) == 0
    return out / "room" / "1.1.0"


def before_the_cut(cut: Path) -> Path:
    """The bundle that `cut_bundle` cut."""
    return cut.parents[2] / "room" / "1.0.0"


def lone_bundle(root: Path, room: Room, cut: Path, *, like: str = "parcel on the crate", name: str = "parcel") -> Path:
    """Write a bundle that is an object by itself: one of those of `cut_bundle`."""
    bundle = Bundle.open(cut)
    one = min(bundle.objects, key=lambda one: np.linalg.norm(one.world_from_body.translation - BOXES[like][0]))
    folder = make_bundle(root, room, regions=Regions.without_floor(0.05, AN_OBJECT))
    own = folder / FOLDER / name
    own.mkdir(parents=True)
    for file in (MESH_FILE, *SPLAT_FILES.values()):
        shutil.copyfile(bundle.path(one.file(file)), own / file)
    standing = [[float(i == j) for j in range(4)] for i in range(4)]
    record = {**one.record.model_dump(), "name": name, "on": "nothing", "world_from_body": standing}
    (own / RECORD_FILE).write_text(json.dumps(record))
    shutil.copyfile(own / MESH_FILE, folder / "mesh.ply")
    shutil.copyfile(own / MESH_FILE, folder / "collision.ply")
    for level, file in (("full", "splat.ply"), ("sim", "sim.ply")):
        shutil.copyfile(own / SPLAT_FILES[level], folder / file)
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").unlink()
    (folder / "web.sog").unlink()
    del manifest["splats"]["web"]
    manifest["name"] = name
    for level, count in one.record.gaussians.items():
        manifest["splats"][level]["gaussians"] = count
    manifest["files"] = {file: entry.model_dump() for file, entry in list_files(folder).items()}
    (folder / "bundle.json").write_text(Manifest.model_validate(manifest).model_dump_json())
    target = root / name / manifest["version"]
    target.parent.mkdir()
    return folder.rename(target)


def with_joint(cut_room: Path, folder: Path, joint: object) -> Path:
    """A copy of a bundle with a joint in the record of its first object."""
    shutil.copytree(cut_room, folder)
    file = sorted((folder / "objects").glob("*/object.json"))[0]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"joint": joint}))
    manifest = json.loads((folder / "bundle.json").read_text())
    entry = manifest["files"][file.relative_to(folder).as_posix()]
    entry["bytes"], entry["sha256"] = file.stat().st_size, file_sha256(file)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder

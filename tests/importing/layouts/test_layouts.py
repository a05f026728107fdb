"""Scenes as collections lay them out: every frame is turned and shifted, so that no two can be mixed up.

The files are written from the layouts that their sources describe, as none may be copied here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gsply
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Mesh, Similarity, matrix_from_rotvec, rotvec_from_matrix
from pipeline.geometry.rays import RayCaster
from pipeline.importing.source import find_source, read_source
from pipeline.splat.ply import save_splat
from tests.importing.conftest import splat_on
from tests.synthetic import Room, walk

SPLAT_FROM_CAPTURE = Similarity(0.37, matrix_from_rotvec([-0.2, 0.5, 2.1]), 0.37 * np.array([0.7, -2.0, 0.3]))
"""nerfstudio's transform and scale."""
AWAY = Similarity(1.0, matrix_from_rotvec([0, 0, 0.7]), np.array([3.0, -1.5, 0.8]))
"""A capture's world, z up, from the room's."""
ROLLED = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
"""GaussGym's world from a capture of GrandTour or ARKitScenes."""


def write_splatfacto(folder: Path, splat: Gaussians, capture_from_room: Similarity) -> None:
    """The splat as nerfstudio has it, and the transform that it says."""
    (folder / "splatfacto").mkdir(parents=True)
    save_splat(splat.transformed(SPLAT_FROM_CAPTURE @ capture_from_room), folder / "splatfacto" / "splat.ply")
    shift = SPLAT_FROM_CAPTURE.translation / SPLAT_FROM_CAPTURE.scale
    content = {"transform": np.column_stack([SPLAT_FROM_CAPTURE.rotation, shift]).tolist(), "scale": 0.37}
    (folder / "splatfacto" / "dataparser_transforms.json").write_text(json.dumps(content))


def write_arkit(folder: Path, room: Room, splat: Gaussians) -> Similarity:
    """A scene of ARKitScenes; returns capture_from_room."""
    capture_from_room = Similarity(1.0, np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, -1]]), np.zeros(3)) @ AWAY
    write_splatfacto(folder, splat, capture_from_room)
    room.mesh.transformed(AWAY).save(folder / "47331606_3dod_mesh_filled_decimated.ply")
    lines = []
    for number, pose in enumerate(walk(12)):
        inverse = AWAY.apply_pose(pose).inverse()
        values = [number / 10, *rotvec_from_matrix(inverse.rotation), *inverse.translation]
        lines.append(" ".join(f"{value:.9f}" for value in values))
    (folder / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
    return capture_from_room


def write_grandtour(folder: Path, room: Room, splat: Gaussians) -> Similarity:
    """A chunk of GrandTour, z down; returns capture_from_room."""
    capture_from_room = Similarity(1.0, ROLLED.T, np.zeros(3)) @ AWAY
    write_splatfacto(folder, splat, capture_from_room)
    room.mesh.transformed(capture_from_room).save(folder / "mesh_filled_decimated.ply")
    frames = [
        _frame(f"images/hdr_front_{n}.png", capture_from_room.apply(p.translation)) for n, p in enumerate(walk(12))
    ]
    frames.insert(1, _frame("images/hdr_left_0.png", np.array([90.0, 0, 0])))
    (folder / "transforms.json").write_text(json.dumps({"fl_x": "984.4", "frames": frames}))
    return capture_from_room


def write_veo(folder: Path, room: Room, splat: Gaussians) -> Similarity:
    """A film by Veo, y down; returns capture_from_room."""
    import trimesh

    capture_from_room = Similarity(1.0, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([1.0, 2, 3])) @ AWAY
    write_splatfacto(folder, splat, capture_from_room)
    mesh = room.mesh.transformed(capture_from_room)
    trimesh.Trimesh(mesh.vertices, mesh.triangles, process=False).export(folder / "dense_mesh.glb")
    frames = [_frame(f"images/{n}.png", capture_from_room.apply(p.translation)) for n, p in enumerate(walk(12))]
    (folder / "transforms.json").write_text(json.dumps({"frames": [_frame("w", np.array([90.0, 0, 0]))] * 8 + frames}))
    return capture_from_room


def _frame(file: str, position: np.ndarray) -> dict[str, object]:
    pose = np.eye(4)
    pose[:3, 3] = position
    return {"file_path": file, "transform_matrix": pose.tolist()}


def write_interior(folder: Path, room: Room, splat: Gaussians) -> Similarity:
    """A scene of InteriorGS with all its files; returns its frame from the room's."""
    folder.mkdir(parents=True)
    placed = splat.transformed(AWAY)
    data = gsply.GSData(
        means=placed.means,
        scales=placed.log_scales,
        quats=placed.quaternions,
        opacities=placed.opacity_logits,
        sh0=placed.sh[:, 0].copy(),
        shN=np.zeros((len(placed), 0, 3), np.float32),
    )
    gsply.plywrite(str(folder / "3dgs.ply"), data, compressed=True)
    next(folder.glob("3dgs*")).rename(folder / "3dgs_compressed.ply")
    low, high = np.zeros(3), np.array([1.0, 0.5, 0.8])
    corners = AWAY.apply(np.array([[(low, high)[k >> axis & 1][axis] for axis in range(3)] for k in range(8)]))
    boxed = {
        "ins_id": "7",
        "label": "sofa",
        "bounding_box": [dict(zip("xyz", row, strict=True)) for row in corners.tolist()],
    }
    (folder / "labels.json").write_text(json.dumps([boxed, {"ins_id": "8", "label": "air"}]))
    rooms = [{"room_type": "kitchen", "profile": AWAY.apply(np.diag([4.0, 3, 0]))[:, :2].tolist()}]
    (folder / "structure.json").write_text(json.dumps({"rooms": rooms, "walls": [], "holes": []}))
    (folder / "occupancy.json").write_text(json.dumps({"scale": 0.5, "lower": [-1.0, -2.0, 0], "min": [0, 0, 0]}))
    pixels = np.full((3, 4), 127, np.uint8)
    pixels[0, 2] = 255
    pixels[1, 1] = 0
    Image.fromarray(pixels).save(folder / "occupancy.png")
    return AWAY


def write_habitat(folder: Path, room: Room, splat: Gaussians) -> Similarity:
    """A scene of Habitat-GS, y up; returns its frame from the room's."""
    folder.mkdir(parents=True)
    frame = Similarity(1.0, np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.zeros(3)) @ AWAY
    save_splat(splat.transformed(frame), folder / "scene01.gs.ply")
    room.mesh.transformed(frame).save(folder / "scene01.mesh.ply")
    (folder / "scene01.navmesh").write_bytes(b"MSET")
    return frame


def write_arrays(folder: Path, room: Room, splat: Gaussians) -> Similarity:
    """A scene of SceneSplat; returns its frame from the room's."""
    folder.mkdir(parents=True)
    placed = splat.transformed(AWAY)
    np.save(folder / "coord.npy", placed.means)
    np.save(folder / "color.npy", (np.clip(0.5 + 0.28209479 * placed.sh[:, 0], 0, 1) * 255).astype(np.uint8))
    np.save(folder / "scale.npy", np.exp(placed.log_scales))
    np.save(folder / "quat.npy", placed.quaternions)
    np.save(folder / "opacity.npy", placed.opacities[:, None])
    np.save(folder / "segment.npy", np.zeros(len(placed), np.int16))
    return AWAY


WRITERS: dict[str, Callable[[Path, Room, Gaussians], Similarity]] = {
    "arkit": write_arkit,
    "grandtour": write_grandtour,
    "veo": write_veo,
    "interiorgs": write_interior,
    "habitat-gs": write_habitat,
    "scenesplat": write_arrays,
}
WITH_MESH, WITH_TRACK = ("arkit", "grandtour", "veo", "habitat-gs"), ("arkit", "grandtour", "veo")


@pytest.mark.parametrize("form", WRITERS)
def test_mesh_splat_and_track_lie_in_one_frame(form: str, room: Room, splat: Gaussians, tmp_path: Path) -> None:
    """Where the room has them, with its up, by what each layout says of its frames."""
    frame = WRITERS[form](tmp_path / "scene", room, splat)
    assert find_source(tmp_path / "scene").form == form
    source = read_source(tmp_path / "scene")
    ((_, mesh_from_splat),) = source.given.items()
    back = frame.inverse() @ mesh_from_splat
    np.testing.assert_allclose(np.sort(back.apply(source.gaussians.means), 0), np.sort(splat.means, 0), atol=5e-3)
    if form in WITH_MESH:
        found = source.mesh.transformed(frame.inverse())
        assert RayCaster(room.mesh).distances(found.vertices).max() < 1e-4
        assert len(found.triangles) == len(room.mesh.triangles)
    else:
        assert not len(source.mesh.triangles)
    track = np.array([pose.translation for pose in walk(12)]) if form in WITH_TRACK else np.zeros((0, 3))
    np.testing.assert_allclose(frame.inverse().apply(source.track), track, atol=1e-5)
    if form == "scenesplat":
        assert source.up is None
        assert source.scale_source == "assumed"
        return
    assert source.up is not None
    np.testing.assert_allclose(frame.inverse().rotate(source.up), [0, 0, 1], atol=1e-9)
    assert source.metres_per_unit * frame.scale == 1.0
    assert source.origin.get("origin", "captured") == ("generated" if form == "veo" else "captured")


def test_labels_rooms_and_the_map(room: Room, splat: Gaussians, tmp_path: Path) -> None:
    """As InteriorGS has them, the map's first row at the lower y; objects without a box are left out."""
    write_interior(tmp_path / "scene", room, splat)
    notes = read_source(tmp_path / "scene").notes
    assert notes is not None
    ((label, corners),) = notes.objects
    assert label == "sofa"
    np.testing.assert_allclose(AWAY.inverse().apply(corners).max(0), [1, 0.5, 0.8], atol=1e-9)
    ((kind, outline),) = notes.rooms
    assert (kind, outline.shape) == ("kitchen", (3, 3))
    assert notes.free is not None
    np.testing.assert_allclose(notes.free[0], [[-1 + 2.5 * 0.5, -2 + 0.25, 0]])
    moved = notes.transformed(AWAY.inverse())
    np.testing.assert_allclose(moved.objects[0][1].min(0), [0, 0, 0], atol=1e-9)


@pytest.mark.parametrize("form", WRITERS)
def test_a_missing_file_is_named(form: str, room: Room, splat: Gaussians, tmp_path: Path) -> None:
    """By its path in the scene."""
    WRITERS[form](tmp_path / "scene", room, splat)
    first = find_source(tmp_path / "scene").files[0]
    if form == "habitat-gs":
        pytest.skip("its splat is what it is known by")
    if form == "scenesplat":
        first = tmp_path / "scene" / "opacity.npy"
    first.unlink()
    with pytest.raises(BundleError, match=f"{form} has all its files[^$]*no .*{first.name}"):
        read_source(tmp_path / "scene")


MUTATED = {
    "arkit": "lowres_wide.traj",
    "grandtour": "transforms.json",
    "interiorgs": "labels.json",
    "interiorgs structure": "structure.json",
    "interiorgs map": "occupancy.json",
    "interiorgs image": "occupancy.png",
    "scenesplat": "scale.npy",
    "scenesplat turns": "quat.npy",
}


@pytest.mark.parametrize("name", MUTATED)
def test_mutated_files_end_in_one_error(name: str, room: Room, tmp_path: Path) -> None:
    """Or in finite numbers."""
    form, rng, folder = name.split()[0], np.random.default_rng(4), tmp_path / "scene"
    few = splat_on(room.mesh, 40)
    WRITERS[form](folder, room, few)
    path = folder / MUTATED[name]
    data = path.read_bytes()
    for number in range(100):
        changed = bytearray(data)
        for at in rng.integers(0, len(data) if number % 2 else min(len(data), 200), 1 + number % 4):
            changed[at] = rng.integers(256)
        path.write_bytes(changed[: rng.integers(len(data))] if number % 10 == 0 else changed)
        try:
            source = read_source(folder)
        except BundleError:
            continue
        assert np.isfinite(source.track).all()
        assert np.isfinite(source.gaussians.log_scales).all()
        assert source.notes is None or all(np.isfinite(corners).all() for _, corners in source.notes.objects)


def test_hostile_numbers_are_refused(room: Room, splat: Gaussians, tmp_path: Path) -> None:
    """Far away, without a size, or too many."""
    write_interior(tmp_path / "scene", room, splat)
    for file, text in (
        ("occupancy.json", '{"scale": 1e300, "lower": [0, 0]}'),
        ("occupancy.json", '{"scale": 0, "lower": [0, 0]}'),
        ("labels.json", '[{"bounding_box": [{"x": 1e30, "y": 0, "z": 0}]}]'),
        ("structure.json", '{"rooms": [{"profile": "x"}]}'),
        ("labels.json", "[" * 100_000),
    ):
        kept = (tmp_path / "scene" / file).read_text()
        (tmp_path / "scene" / file).write_text(text)
        with pytest.raises(BundleError, match=r"\.json"):
            read_source(tmp_path / "scene")
        (tmp_path / "scene" / file).write_text(kept)


def test_a_mesh_is_no_layout(room: Room, tmp_path: Path) -> None:
    """Names alone decide: a folder with a mesh of any other name is what it was."""
    room.mesh.save(tmp_path / "a_mesh_filled_decimated.ply")
    Mesh.load(tmp_path / "a_mesh_filled_decimated.ply")
    with pytest.raises(BundleError):
        read_source(tmp_path)

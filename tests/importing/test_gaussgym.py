"""Scenes in GaussGym's layout: every frame is turned, shifted and scaled, so that no two can be mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import BundleError, SimError
from pipeline.geometry import Camera, Gaussians, Pose, Similarity, matrix_from_quaternion, matrix_from_rotvec
from pipeline.importing.gaussgym import is_gaussgym, read_gaussgym, write_gaussgym
from pipeline.raster import render
from pipeline.splat.ply import load_splat, save_splat
from pipeline.types import Mask
from tests.synthetic import Room, look_at, walk

CAPTURE_FROM_WORLD = matrix_from_rotvec([0.4, -1.3, 0.8])
SPLAT_FROM_CAPTURE = matrix_from_rotvec([-0.2, 0.5, 2.1]), np.array([0.7, -2.0, 0.3]), 0.37
"""nerfstudio's transform (rotation, translation) and scale."""
OFFSETS, YAWS = ([3.0, -1.5, 0.8], [2.2, 0.4, -1.0]), (0.0, 0.9)
COUNT = 3000
CAMERA = Camera(64, 48, 50.0, 52.0, 30.0, 25.0)


def some_gaussians(room: Room) -> Gaussians:
    """Flat ones on the room's surfaces, whose colour changes with the view [world frame]."""
    rng = np.random.default_rng(8)
    means = room.mesh.corners()[rng.integers(0, len(room.mesh.triangles), COUNT)]
    means = np.einsum("nk,nkc->nc", rng.dirichlet(np.ones(3), COUNT), means)
    return Gaussians(
        means.astype(np.float32),
        np.log(rng.uniform([0.01, 0.02, 0.04], [0.02, 0.05, 0.1], (COUNT, 3))).astype(np.float32),
        rng.normal(size=(COUNT, 4)).astype(np.float32),
        rng.normal(1, 1, COUNT).astype(np.float32),
        rng.normal(0, 0.3, (COUNT, 9, 3)).astype(np.float32),
    )


def halves(room: Room) -> list[Mask]:
    """Two overlapping choices of the room's triangles."""
    x = room.mesh.corners()[..., 0].mean(1)
    return [x < 2.5, x > 1.5]


def released(folder: Path, room: Room) -> Path:
    """A scene as GaussGym's generator leaves it: two slices, each centred and turned to its own Z-up frame."""
    (folder / "meshes").mkdir(parents=True)
    (folder / "splatfacto").mkdir()
    for number, (keep, offset, yaw) in enumerate(zip(halves(room), OFFSETS, YAWS, strict=True)):
        part = room.mesh.with_faces(keep)
        capture_from_slice = CAPTURE_FROM_WORLD @ matrix_from_rotvec([0, 0, yaw])
        into_slice = lambda points, r=capture_from_slice, o=offset: (points @ CAPTURE_FROM_WORLD.T - o) @ r  # noqa: E731
        np.savez(
            folder / "meshes" / f"slice_{number:04d}.npz",
            vertices=into_slice(part.vertices.astype(np.float64)),
            triangles=part.triangles,
            cam_trans=into_slice(np.array([pose.translation for pose in walk(12)])),
            cam_quat=np.tile([0.1, -0.7, 0.2, 0.6], (12, 1)),
            offset=np.array([offset]),
            from_ig_rotation=capture_from_slice,
        )
    rotation, translation, scale = SPLAT_FROM_CAPTURE
    splat_from_world = Similarity(scale, rotation @ CAPTURE_FROM_WORLD, scale * translation)
    save_splat(some_gaussians(room).transformed(splat_from_world), folder / "splatfacto" / "splat.ply")
    transform = np.column_stack([rotation, translation]).tolist()
    content = json.dumps({"transform": transform, "scale": scale})
    (folder / "splatfacto" / "dataparser_transforms.json").write_text(content)
    return folder


def test_mesh_and_track_come_out_in_one_frame(tmp_path: Path, room: Room):
    """Both slices lie where the room is, in metres and Z up, as do the places along their ways."""
    scene = read_gaussgym(released(tmp_path, room))
    expected = np.concatenate([room.mesh.corners()[keep] for keep in halves(room)])
    np.testing.assert_allclose(scene.collision.corners(), expected, atol=1e-5)
    track = np.array([pose.translation for pose in walk(12)])
    np.testing.assert_allclose(scene.track, np.concatenate([track, track]), atol=1e-5)


def test_images_are_those_that_gaussgym_draws(tmp_path: Path, room: Room):
    """GaussGym moves cameras into the splat's frame (batch_gs_renderer.py); here the splat moves into the world."""
    folder = released(tmp_path, room)
    rotation, translation, scale = SPLAT_FROM_CAPTURE
    raw, gaussians = load_splat(folder / "splatfacto" / "splat.ply"), read_gaussgym(folder).gaussians
    eyes = np.array([[2.6, 0.9, 1.3], [0.7, 0.6, 1.5]])  # far from all: the near plane is no farther in a smaller splat
    for eye in eyes:
        pose = look_at(eye, np.array([1.5, 2.4, 0.6]), roll_deg=20)
        capture = CAPTURE_FROM_WORLD @ pose.rotation, CAPTURE_FROM_WORLD @ pose.translation
        inside = Pose(rotation @ capture[0], scale * (rotation @ capture[1] + translation))
        theirs, ours = render(raw, CAMERA, inside), render(gaussians, CAMERA, pose)
        assert theirs.rgb.std() > 0.1
        assert np.abs(ours.rgb - theirs.rgb).mean() < 0.1 / 255
        np.testing.assert_allclose(ours.depth, theirs.depth / scale, rtol=0.01)


def test_what_is_written_is_read_again(tmp_path: Path, room: Room):
    """The same mesh, once though each of two slices has it, the same splat, and the ways."""
    gaussians = some_gaussians(room)
    ways = [np.array([pose.matrix for pose in walk(count)]) for count in (7, 4)]
    write_gaussgym(tmp_path, room.mesh, gaussians, ways)
    scene = read_gaussgym(tmp_path)
    assert is_gaussgym(tmp_path)
    np.testing.assert_array_equal(scene.collision.vertices, room.mesh.vertices)
    np.testing.assert_array_equal(scene.collision.triangles, room.mesh.triangles)
    np.testing.assert_array_equal(scene.track, np.concatenate(ways)[:, :3, 3])
    np.testing.assert_allclose(scene.gaussians.means, gaussians.means, atol=1e-6)
    np.testing.assert_allclose(scene.gaussians.sh, gaussians.sh, atol=1e-5)


def test_slices_are_as_gaussgym_reads_them(tmp_path: Path, room: Room):
    """Its names, shapes and conventions (scene_ingest.py): xyzw, and cameras of OpenGL, whose y is up and z back."""
    way = np.array([pose.matrix for pose in walk(7)])
    write_gaussgym(tmp_path, room.mesh, some_gaussians(room), [way])
    with np.load(tmp_path / "meshes" / "slice_0000.npz", allow_pickle=False) as arrays:
        assert arrays["offset"][0].tolist() == [0, 0, 0]
        np.testing.assert_array_equal(arrays["from_ig_rotation"], np.eye(3))
        np.testing.assert_array_equal(arrays["cam_trans"], way[:, :3, 3])
        x, y, z, w = arrays["cam_quat"].T
        axes = matrix_from_quaternion(np.column_stack([w, x, y, z]))
        np.testing.assert_allclose(axes[:, :, 0], way[:, :3, 0], atol=1e-9)
        np.testing.assert_allclose(axes[:, :, 1], -way[:, :3, 1], atol=1e-9)
        np.testing.assert_allclose(axes[:, :, 2], -way[:, :3, 2], atol=1e-9)


def test_hash_tells_every_file(tmp_path: Path, room: Room):
    """A changed byte anywhere, or another name, is another scene."""
    folder = released(tmp_path / "one", room)
    first = read_gaussgym(folder).sha256
    assert read_gaussgym(released(tmp_path / "two", room)).sha256 == first
    transforms = folder / "splatfacto" / "dataparser_transforms.json"
    transforms.write_text(transforms.read_text() + " ")
    second = read_gaussgym(folder).sha256
    (folder / "meshes" / "slice_0001.npz").rename(folder / "meshes" / "slice_0007.npz")
    assert len({first, second, read_gaussgym(folder).sha256}) == 3


def test_older_slices_have_no_rotation(tmp_path: Path, room: Room):
    """Then the capture is Z up."""
    write_gaussgym(tmp_path, room.mesh, some_gaussians(room), [np.array([pose.matrix for pose in walk(7)])])
    change(tmp_path, from_ig_rotation=None, offset=np.array([[1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(
        read_gaussgym(tmp_path).collision.vertices, room.mesh.vertices + np.array([1, 2, 3]), atol=1e-6
    )


def change(folder: Path, slice_: str = "slice_0000", **arrays: NDArray | None) -> None:
    """Replace arrays of a slice; None takes one away."""
    path = folder / "meshes" / f"{slice_}.npz"
    with np.load(path) as old:
        content = {**old, **arrays}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})  # type: ignore[arg-type]


def test_two_directions_of_gravity_are_refused(tmp_path: Path, room: Room):
    """A slice that leans by five degrees against the first."""
    folder = released(tmp_path, room)
    change(folder, "slice_0001", from_ig_rotation=CAPTURE_FROM_WORLD @ matrix_from_rotvec([np.deg2rad(5), 0, 0]))
    with pytest.raises(SimError, match=r"slice_0001.npz is 5.0 degrees off up in slice_0000"):
        read_gaussgym(folder)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"vertices": None}, "no array vertices"),
        ({"triangles": np.array([[0, 1, 10_000]])}, "triangles"),
        ({"triangles": np.array([[0, 1, -1]])}, "triangles"),
        ({"triangles": np.array([[0, 1, 2.5]])}, "triangles"),
        ({"cam_trans": np.array([[0, 0, np.nan]])}, "cam_trans"),
        ({"from_ig_rotation": np.diag([1.0, 1, -1])}, "a rotation"),
        ({"offset": np.array([{"code": "runs"}])}, "plain arrays"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_slices_are_refused(tmp_path: Path, room: Room, arrays: dict, told: str):
    """With what is wrong; nothing is unpickled."""
    folder = released(tmp_path, room)
    change(folder, **arrays)
    with pytest.raises(BundleError, match=told):
        read_gaussgym(folder)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"transform": [[1, 0, 0, 0]], "scale": 1}',
        '{"scale": NaN',
        '{"transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": 1}' + " " * 70_000,
    ],
)
def test_bad_transforms_are_refused(tmp_path: Path, room: Room, content: str):
    """What isn't a scale and a rotation with a translation."""
    folder = released(tmp_path, room)
    (folder / "splatfacto" / "dataparser_transforms.json").write_text(content)
    with pytest.raises(BundleError, match="a scale and a transform"):
        read_gaussgym(folder)


@pytest.mark.parametrize(
    "name", ["meshes/slice_0000.npz", "splatfacto/splat.ply", "splatfacto/dataparser_transforms.json"]
)
def test_missing_and_cut_files_are_refused(tmp_path: Path, room: Room, name: str):
    """Whichever it is."""
    folder = released(tmp_path, room)
    path = folder / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BundleError):
        read_gaussgym(folder)
    path.unlink()
    (folder / "meshes" / "slice_0001.npz").unlink()
    with pytest.raises(BundleError, match=r"no such file|1 to 1000 slices"):
        read_gaussgym(folder)

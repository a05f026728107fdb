"""Forms are known by their files; damaged and hostile ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from pipeline.errors import BundleError
from pipeline.geometry import CV_FROM_GL, Gaussians, Mesh, Similarity, matrix_from_rotvec
from pipeline.importing import meshes
from pipeline.importing.meshes import read_mesh
from pipeline.importing.source import read_source
from pipeline.splat.ply import save_splat
from tests.synthetic import Room, walk

NORMALISED = Similarity(0.31, matrix_from_rotvec([0.2, 0.1, 1.9]), np.array([0.1, -0.3, 0.2]))
"""nerfstudio's frame from the capture's."""


def nerfstudio(
    folder: Path,
    splat: Gaussians,
    mesh: Mesh,
    capture_from_world: Similarity = Similarity.identity(),  # noqa: B008
) -> Path:
    """An export: splat and mesh in the normalised frame, cameras in the capture's, GL axes."""
    save_splat(splat.transformed(NORMALISED @ capture_from_world), folder / "splat.ply")
    mesh.transformed(NORMALISED @ capture_from_world).save(folder / "mesh.ply")
    shift = (NORMALISED.translation / NORMALISED.scale)[:, None]
    content = {"transform": np.hstack([NORMALISED.rotation, shift]).tolist(), "scale": NORMALISED.scale}
    (folder / "dataparser_transforms.json").write_text(json.dumps(content))
    frames = []
    for number, pose in enumerate(walk(8)):
        matrix = capture_from_world.apply_pose(pose).matrix
        matrix[:3, :3] = matrix[:3, :3] @ CV_FROM_GL
        frames.append({"file_path": f"images/{number}.png", "transform_matrix": matrix.tolist()})
    lens = {"w": 320, "h": 240, "fl_x": 250.0, "fl_y": 251.0, "cx": 160, "cy": 120}
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    return folder


def test_a_pair_in_one_folder(pair: Path, room: Room):
    """Told apart by what they hold; nothing is known of up and scale."""
    source = read_source(pair)
    np.testing.assert_array_equal(source.mesh.vertices, room.mesh.vertices)
    assert (source.form, len(source.gaussians), source.up) == ("pair", 6000, None)


def test_a_pair_of_files(pair: Path, room: Room, tmp_path: Path):
    """The mesh may lie elsewhere."""
    room.mesh.save(tmp_path / "other.ply")
    (pair / "mesh.ply").unlink()
    source = read_source(pair / "splat.ply", tmp_path / "other.ply")
    assert len(source.mesh.triangles) == len(room.mesh.triangles)


def test_nerfstudios_cameras_lie_in_the_meshs_frame(tmp_path: Path, splat: Gaussians, room: Room):
    """Though the mesh is normalised and the file's poses aren't; a metre is told by the normalisation."""
    source = read_source(nerfstudio(tmp_path, splat, room.mesh))
    expected = NORMALISED.apply([pose.translation for pose in walk(8)])
    np.testing.assert_allclose(source.track, expected, atol=1e-9)
    np.testing.assert_allclose(
        source.cameras[3].world_from_camera.rotation, NORMALISED.rotation @ walk(8)[3].rotation, atol=1e-9
    )
    assert source.cameras[0].camera.fy == 251.0
    assert source.metres_per_unit == pytest.approx(1 / 0.31)
    assert set(source.given) == {
        "both files have one frame",
        "the mesh is in the capture's frame",
        "the splat is in the capture's frame",
    }


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".off", ".glb"])
def test_mesh_formats(suffix: str, room: Room, tmp_path: Path):
    """The same surface; glTF's y-up is turned to z-up."""
    path = tmp_path / f"mesh{suffix}"
    vertices = room.mesh.vertices[:, [0, 2, 1]] * [1, 1, -1] if suffix == ".glb" else room.mesh.vertices
    trimesh.Trimesh(vertices, room.mesh.triangles, process=False).export(path)
    mesh = read_mesh(path)
    expected = np.sort(room.mesh.corners().mean(1), axis=0)
    np.testing.assert_allclose(np.sort(mesh.corners().mean(1), axis=0), expected, atol=1e-5)


def test_an_obj_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither the material that it names, wherever that lies, nor its texture."""
    secret = tmp_path / "secret.mtl"
    secret.write_text("newmtl a\nmap_Kd secret.png\n")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "mesh.obj").write_text("mtllib ../secret.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\n")
    opened: list[str] = []
    true_open = Path.open

    def watched(self: Path, *rest: Any, **more: Any) -> Any:
        opened.append(str(self))
        return true_open(self, *rest, **more)

    monkeypatch.setattr("builtins.open", lambda file, *_, **__: opened.append(str(file)))
    monkeypatch.setattr(Path, "open", watched)
    assert len(read_mesh(folder / "mesh.obj").triangles) == 1
    assert [name for name in opened if "secret" in name or "mesh.obj" in name] == [str(folder / "mesh.obj")]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("mesh.ply", b"ply\nformat ascii 1.0\nelement face 9\nend_header\n", "PLY of triangles"),
        ("mesh.obj", b"v 0 0 0\n", ""),
        ("mesh.obj", b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "1 that aren't"),
        ("mesh.stl", b"\x80\x04junk", ""),
        ("mesh.glb", b"glTF", ""),
    ],
)
def test_bad_meshes_are_refused(name: str, content: bytes, found: str, pair: Path):
    """Damaged, empty, not finite."""
    (pair / "mesh.ply").unlink()
    (pair / name).write_bytes(content)
    with pytest.raises(BundleError) as error:
        read_source(pair)
    assert found in str(error.value)
    assert name in str(error.value)


def test_sizes_are_bounded(pair: Path, monkeypatch: pytest.MonkeyPatch):
    """Before anything is read, and after."""
    monkeypatch.setattr(meshes, "MAX_TRIANGLES", 10)
    with pytest.raises(BundleError, match="1 to 10 triangles"):
        read_source(pair)
    monkeypatch.setattr(meshes, "MAX_MESH_BYTES", 100)
    with pytest.raises(BundleError, match="at most 100 bytes"):
        read_source(pair)


def test_half_a_pair(pair: Path):
    """A mesh alone is enough where it has colours; a splat alone is, unless somebody names a mesh."""
    assert read_source(pair / "splat.ply").form == "splat"
    with pytest.raises(BundleError, match="a mesh is a"):
        read_source(pair / "splat.ply", pair / "missing.ply")
    (pair / "splat.ply").unlink()
    with pytest.raises(BundleError, match="a mesh without a splat has colours"):
        read_source(pair)


@pytest.mark.parametrize("name", ["missing", "missing.ply"])
def test_nothing_there(name: str, tmp_path: Path):
    """Is said so."""
    with pytest.raises(BundleError, match="nothing there"):
        read_source(tmp_path / name)


def test_two_meshes_are_refused(pair: Path, room: Room):
    """Nobody guesses which one is meant; a point cloud is none."""
    (pair / "points.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n")
    assert read_source(pair).form == "pair"
    room.mesh.save(pair / "again.ply")
    with pytest.raises(BundleError, match=r"2 of a mesh \(again.ply, mesh.ply\)"):
        read_source(pair)


def test_a_splat_with_nan_is_refused(pair: Path):
    """As everywhere."""
    data = bytearray((pair / "splat.ply").read_bytes())
    data[-4:] = b"\0\0\xc0\x7f"
    (pair / "splat.ply").write_bytes(data)
    with pytest.raises(BundleError, match="finite"):
        read_source(pair)


@pytest.mark.parametrize("text", ["{", "[]", '{"bundle": 1}', '{"origin": "painted"}', "[" * 100_000, " " * 70_000])
def test_bad_origins_are_refused(text: str, pair: Path):
    """A licence that can't be read is not thrown away."""
    (pair / "origin.json").write_text(text)
    with pytest.raises(BundleError, match=r"origin\.json"):
        read_source(pair)


FRAME = '"frames": [{"file_path": "x", "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}]'


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("transforms.json", "{}"),
        ("transforms.json", '{"frames": [{"file_path": "../../x", "transform_matrix": []}]}'),
        ("transforms.json", '{"w": -3, "frames": [{"file_path": "x", "transform_matrix": [[1]]}]}'),
        ("transforms.json", f'{{"cx": 1e9, {FRAME}}}'),
        ("transforms.json", f'{{"fl_x": -1, {FRAME}}}'),
        ("transforms.json", f'{{"fl_x": 1e-300, {FRAME}}}'),
        ("dataparser_transforms.json", '{"scale": 0, "transform": [[1,0,0,0],[0,1,0,0],[0,0,1,0]]}'),
    ],
)
def test_bad_nerfstudio_files_are_refused(file: str, text: str, tmp_path: Path, splat: Gaussians, room: Room):
    """As bundles' errors, naming the file."""
    nerfstudio(tmp_path, splat, room.mesh)
    (tmp_path / file).write_text(text)
    with pytest.raises(BundleError, match=file.replace(".", r"\.")):
        read_source(tmp_path)

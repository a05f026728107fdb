"""Splat and mesh in one GLB: by the rules of the extension, by trimesh, and the same to a camera."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.export.form import Y_UP
from pipeline.export.glb_splat import export_glb_splat
from pipeline.importing.splats import read_splat
from pipeline.scenes.bundle import Bundle
from tests.export.conftest import image, y_up

pytestmark = pytest.mark.usefixtures("small_textures")
REQUIRED = {
    "POSITION": ("VEC3", 5126),
    "KHR_gaussian_splatting:SCALE": ("VEC3", 5126),
    "KHR_gaussian_splatting:ROTATION": ("VEC4", 5126),
    "KHR_gaussian_splatting:OPACITY": ("SCALAR", 5126),
    "KHR_gaussian_splatting:SH_DEGREE_0_COEF_0": ("VEC3", 5126),
}
SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
BYTES = {5126: 4, 5125: 4, 5121: 1}


@pytest.fixture
def file(bundle: Bundle, tmp_path: Path) -> Path:
    """The export."""
    export_glb_splat(bundle, tmp_path)
    return tmp_path / "scene.glb"


def test_it_follows_the_extension(file: Path, bundle: Bundle):
    """Attributes, types, degrees that are whole, unit rotations; each accessor within its view, each on four bytes."""
    content = file.read_bytes()
    magic, version, length, size, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    told, binary = json.loads(content[20 : 20 + size]), content[28 + size :]
    assert told["buffers"][0]["byteLength"] == len(binary)
    for accessor in told["accessors"]:
        view = told["bufferViews"][accessor["bufferView"]]
        need = accessor["count"] * SIZES[accessor["type"]] * BYTES[accessor["componentType"]]
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + need <= len(binary)
        assert need == view["byteLength"]
    mesh, splat = (told["meshes"][told["nodes"][told["scenes"][at]["nodes"][0]]["mesh"]] for at in (1, 0))
    assert "indices" in mesh["primitives"][0]
    (primitive,) = splat["primitives"]
    assert (primitive["mode"], told["scene"]) == (0, 0)
    assert primitive["extensions"]["KHR_gaussian_splatting"]["kernel"] == "ellipse"
    assert "KHR_gaussian_splatting" in told["extensionsUsed"]
    found = {name: told["accessors"][at] for name, at in primitive["attributes"].items()}
    assert {name: (found[name]["type"], found[name]["componentType"]) for name in REQUIRED} == REQUIRED
    assert {one["count"] for one in found.values()} == {len(bundle.splat())}
    assert len([name for name in found if ":SH_" in name]) == bundle.splat().sh.shape[1]
    view = told["bufferViews"][found["KHR_gaussian_splatting:ROTATION"]["bufferView"]]
    turns = np.frombuffer(binary, "<f4", found["POSITION"]["count"] * 4, view["byteOffset"]).reshape(-1, 4)
    np.testing.assert_allclose(np.linalg.norm(turns, axis=1), 1, atol=1e-6)


def test_a_camera_sees_the_same_splat(file: Path, bundle: Bundle):
    """Y up: within 1/255 of the bundle's, for classic viewers."""
    pose = bundle.cameras[2].world_from_camera
    there = image(read_splat(file), y_up(pose))
    assert np.abs(there - image(bundle.classic_splat(), pose)).max() < 1 / 255


def test_others_read_points_and_mesh(file: Path, bundle: Bundle):
    """Trimesh knows no splats."""
    read = trimesh.load_scene(file)
    points = [part for part in read.geometry.values() if isinstance(part, trimesh.PointCloud)]
    np.testing.assert_allclose(points[0].vertices, bundle.splat().transformed(Y_UP).means, atol=1e-6)

"""GLB: read by trimesh and by Open3D; Y up, in metres, with its texture."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import open3d
import pytest
import trimesh

from pipeline.export.glb import export_glb
from pipeline.export.texture import textured_bundle
from pipeline.geometry import Mesh
from pipeline.scenes.bundle import Bundle
from tests.export.conftest import change, hits, y_up

pytestmark = pytest.mark.usefixtures("small_textures")


def loaded(bundle: Bundle, folder: Path) -> Any:
    """The mesh of an export, as trimesh reads it."""
    export_glb(bundle, folder)
    scene: Any = trimesh.load(folder / "scene.glb", process=False)
    (mesh,) = scene.geometry.values()
    assert (scene.graph.get(scene.graph.nodes_geometry[0])[0] == np.eye(4)).all()
    return mesh


def content(path: Path) -> dict[str, Any]:
    """The file's JSON."""
    data = path.read_bytes()
    magic, version, size, length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, size, kind) == (b"glTF", 2, len(data), b"JSON")
    assert length % 4 == size % 4 == 0
    return json.loads(data[20 : 20 + length])


def test_rays_hit_the_same_mesh(bundle: Bundle, tmp_path: Path):
    """From the camera, turned with the world, the same depths and triangles."""
    read = loaded(bundle, tmp_path)
    mesh, pose = Mesh.from_arrays(read.vertices, read.faces), bundle.cameras[2].world_from_camera
    depth, triangle = hits(mesh, y_up(pose))
    expected, of_triangle = hits(bundle.mesh("collision"), pose)
    np.testing.assert_allclose(depth, expected, atol=1e-5)
    assert np.mean(triangle == of_triangle) > 0.999  # an edge may fall to either side


def test_the_texture_comes_back(bundle: Bundle, tmp_path: Path):
    """But for JPEG's losses, at the coordinates that it was made for; trimesh turns glTF's v over."""
    read, made = loaded(bundle, tmp_path), textured_bundle(bundle)
    image = np.asarray(read.visual.material.baseColorTexture.convert("RGB"), np.float64)
    assert image.shape == made.image.shape
    assert np.abs(image - made.image).mean() < 3
    np.testing.assert_allclose(read.visual.uv * [1, -1] + [0, 1], made.atlas.uv, atol=1e-6)


def test_open3d_finds_the_material(bundle: Bundle, tmp_path: Path):
    """Its reader is Assimp, which other programs have as well."""
    export_glb(bundle, tmp_path)
    read = open3d.io.read_triangle_model(str(tmp_path / "scene.glb"))
    (part,), (material,) = read.meshes, read.materials
    assert len(part.mesh.triangles) == len(bundle.mesh("collision").triangles)
    assert np.asarray(material.albedo_img).shape == textured_bundle(bundle).image.shape


def test_licence_and_mark_are_in_the_file(folder: Path, tmp_path: Path):
    """The copyright is what viewers show."""
    export_glb(change(folder, origin="generated", licence="CC-BY-4.0"), tmp_path)
    asset = content(tmp_path / "scene.glb")["asset"]
    assert asset["copyright"] == "CC-BY-4.0"
    assert asset["extras"]["origin"] == "generated"
    assert asset["extras"]["bundle"] == "room@1.0.0"

"""GLB: read by trimesh; Y up, in metres, with the mesh's very colours."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pipeline.export.glb import export_glb
from pipeline.geometry import Mesh
from pipeline.scenes.bundle import Bundle
from tests.export.conftest import change, hits, y_up


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
    assert length % 4 == 0
    return json.loads(data[20 : 20 + length])


def test_rays_hit_the_same_mesh(bundle: Bundle, tmp_path: Path):
    """From the camera, turned with the world, the same depths and triangles."""
    read = loaded(bundle, tmp_path)
    mesh, pose = Mesh.from_arrays(read.vertices, read.faces), bundle.cameras[2].world_from_camera
    depth, triangle = hits(mesh, y_up(pose))
    expected, of_triangle = hits(bundle.mesh(), pose)
    np.testing.assert_allclose(depth, expected, atol=1e-5)
    assert np.mean(triangle == of_triangle) > 0.999  # an edge may fall to either side


def test_colours_come_back(bundle: Bundle, tmp_path: Path):
    """All 256 values of a channel, made sRGB again as a viewer does."""
    read, colors = loaded(bundle, tmp_path), bundle.mesh().colors
    raw = content(tmp_path / "scene.glb")
    view = raw["bufferViews"][raw["accessors"][1]["bufferView"]]
    data = (tmp_path / "scene.glb").read_bytes()
    begin = len(data) - raw["buffers"][0]["byteLength"] + view["byteOffset"]
    linear = np.frombuffer(data[begin : begin + view["byteLength"]], "<u2").reshape(-1, 4) / 65535
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(np.round(255 * srgb[:, :3]), colors)
    assert (linear[:, 3] == 1).all()
    given = read.visual.vertex_attributes["color"]
    np.testing.assert_allclose(np.asarray(given)[:, :3] / np.iinfo(given.dtype).max, linear[:, :3], atol=1 / 255)


def test_every_srgb_value_survives():
    """Of 256, none falls on another's 16 bits."""
    from pipeline.export.glb import linear_from_srgb

    stored = np.round(linear_from_srgb(np.arange(256, dtype=np.uint8)) * 65535)
    assert len(np.unique(stored)) == 256
    assert (stored[0], stored[255]) == (0, 65535)


def test_licence_and_mark_are_in_the_file(folder: Path, tmp_path: Path):
    """The copyright is what viewers show."""
    export_glb(change(folder, origin="generated", licence="CC-BY-4.0"), tmp_path)
    asset = content(tmp_path / "scene.glb")["asset"]
    assert asset["copyright"] == "CC-BY-4.0"
    assert asset["extras"]["origin"] == "generated"
    assert asset["extras"]["bundle"] == "room@1.0.0"

"""OBJ: read by trimesh and by Open3D; the bundle's frame, with its texture where it was made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open3d
import trimesh

from pipeline.export.obj import export_obj
from pipeline.export.texture import textured_bundle
from pipeline.scenes.bundle import Bundle


def test_trimesh_reads_mesh_and_texture(bundle: Bundle, tmp_path: Path):
    """Corner by corner, since readers split vertices as they like; the image is whole, without losses."""
    export_obj(bundle, tmp_path)
    made = textured_bundle(bundle)
    read: Any = trimesh.load(tmp_path / "scene.obj", process=False)
    np.testing.assert_allclose(read.vertices[read.faces], made.mesh.corners(), atol=1e-6)
    np.testing.assert_allclose(
        read.visual.uv[read.faces] * [1, -1] + [0, 1], made.atlas.uv[made.atlas.triangles], atol=2e-6
    )
    np.testing.assert_array_equal(np.asarray(read.visual.material.image.convert("RGB")), made.image)


def test_open3d_finds_the_material(bundle: Bundle, tmp_path: Path):
    """Its reader is Assimp, which other programs have as well."""
    export_obj(bundle, tmp_path)
    read = open3d.io.read_triangle_model(str(tmp_path / "scene.obj"))
    (part,), (material,) = read.meshes, read.materials
    assert len(part.mesh.triangles) == len(bundle.mesh("collision").triangles)
    assert np.asarray(material.albedo_img).shape == textured_bundle(bundle).image.shape

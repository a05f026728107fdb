"""What the 3-D view is given."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from pipeline import Bundle
from pipeline.gallery import layers
from pipeline.geometry import Gaussians


@pytest.fixture
def bundle(yard) -> Bundle:
    """The room."""
    return Bundle.open(yard / "room" / "1.0.0")


def test_full_splat_is_what_viser_sends(rng):
    """The same bytes a Gaussian, in another order: opaque and large ones before faint and small ones."""
    count = 300
    splat = Gaussians(
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.uniform(-4, -2, (count, 3)).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.normal(size=count).astype(np.float32),
        rng.normal(size=(count, 4, 3)).astype(np.float32),
    )
    with layers._server() as server:
        layers.show_splat(server, splat, "/splat")
        (sent,) = (handle.buffer for name, handle in server.scene._handle_from_node_name.items() if name == "/splat")
    packed = np.frombuffer(layers.full_splat(SimpleNamespace(classic_splat=lambda: splat)), np.uint32).reshape(-1, 8)
    assert sorted(map(bytes, packed)) == sorted(map(bytes, np.ascontiguousarray(sent)))
    shown = packed.view(layers.GAUSSIAN)[:, 0]
    extent = shown["covariance"].astype(float)[:, [0, 3, 5]].sum(1) * shown["rgba"][:, 3]
    assert extent[:100].mean() > 3 * extent[-100:].mean()


def test_full_mesh_is_the_mesh(bundle):
    """As a GLB that others read."""
    mesh = trimesh.load(io.BytesIO(layers.full_mesh(bundle)), file_type="glb", force="mesh")
    assert len(mesh.faces) == len(bundle.mesh().triangles)
    assert np.allclose(mesh.bounds, [bundle.mesh().vertices.min(0), bundle.mesh().vertices.max(0)], atol=1e-5)


def test_no_camera_is_drawn_round_the_one_who_looks(bundle, monkeypatch):
    """The view begins where a photo was taken: that frustum would be all that one sees."""
    drawn = []
    monkeypatch.setattr(layers, "_add_cameras", lambda _server, cameras: drawn.extend(shot.name for shot in cameras))
    x, y, z = bundle.cameras[3].world_from_camera.translation
    layers.record(bundle, "sim", (float(x), float(y), float(z)))
    assert bundle.cameras[3].name not in drawn
    assert len(drawn) >= len(bundle.cameras) - 2

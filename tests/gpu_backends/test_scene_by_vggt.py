"""A whole build with VGGT's stand-in for poses and depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import BuildRequest, Bundle, build
from pipeline.geometry import fit_similarity
from pipeline.machine import Gpu, Machine
from tests.fakes import scene
from tests.fakes.simulated_network import Simulated, Truth
from tests.fakes.weights import install, save_weights
from tests.synthetic import CAMERA, Room, walk, write_polycam

FRAMES = 18
SETTINGS = (
    "splat.gaussians=1500",
    "splat.iterations=40",
    "splat.sim_gaussians=800",
    "splat.sim_iterations=5",
    "mesh.voxel_size=0.05",
    "mesh.collision_triangles=4000",
    "poses.backend=vggt",
    "depth.backend=vggt",
)


@pytest.mark.soak  # tests/poses and tests/depth check each stage with the same stand-in
def test_a_scan_is_built_by_vggt(tmp_path, monkeypatch, room: Room):
    """Forced onto VGGT, a phone's scan becomes the room: upright, in metres, with walls where they are."""
    poses = walk(FRAMES)
    write_polycam(tmp_path / "scan", room, poses)
    install(monkeypatch)
    able = Machine(Gpu("Some GPU", 24 * 2**30, 20 * 2**30, (8, 9)), frozenset({"torch", "vggt"}))
    monkeypatch.setattr("pipeline.running.building.this_machine", lambda *_: able)
    camera = CAMERA.resized(518, 392)
    network = Simulated(Truth(camera, poses, [room.cast(camera, pose)[1] for pose in poses]), capacity=10)
    scene.show(scene.SeenPlace(network, [room.render(CAMERA, pose)[0] for pose in poses]))
    weights = save_weights(tmp_path / "weights")
    settings = (*SETTINGS, f"poses.weights={weights}", "splat.backend=cpu", "mesh.backend=tsdf")
    result = build(BuildRequest(tmp_path / "scan", name="room", out=tmp_path / "out", settings=settings))
    assert result.bundle is not None
    bundle = Bundle.open(Path(result.bundle))
    assert {r.name: r.backend for r in bundle.manifest.provenance.stages}["depth"] == "vggt"
    assert len(bundle.cameras) == FRAMES
    assert bundle.quality.gate("gravity").passed and bundle.quality.gate("scale").passed
    vertices = bundle.mesh().vertices
    low, high = np.percentile(vertices, 0.5, axis=0), np.percentile(vertices, 99.5, axis=0)
    assert low[2] == pytest.approx(0, abs=0.1)
    assert sorted(high[:2] - low[:2]) == pytest.approx([3.0, 4.0], abs=0.25)
    found = np.array([c.world_from_camera.translation for c in bundle.cameras])
    true = np.array([pose.translation for pose in poses])
    fit = fit_similarity(found, true, with_scale=False)
    assert np.linalg.norm(fit.apply(found) - true, axis=1).max() < 0.05

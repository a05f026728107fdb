"""A tiny valid bundle for tests of whatever reads bundles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipeline.check.quality import Gate, Quality
from pipeline.coverage.map import CoverageMap
from pipeline.geometry import Gaussians
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions, RobotPose
from pipeline.regions.stage import find_regions
from pipeline.scenes.manifest import Frame, Manifest, Measured, Provenance, Splats, StageRecord, list_files
from pipeline.splat.ply import save_splat
from pipeline.splat.sog import save_sog
from tests.synthetic import CAMERA, Room, walk


def floor_of(room: Room) -> Regions:
    """All that a robot can drive on in the room: enough to hold places out."""
    trusted = CoverageMap(np.array([[2.0, 1.5, 0.0]], np.float32), np.full((1, 8), 1e-3, np.float32), 5.0, 5.0, np.pi)
    return find_regions(room.mesh, np.array([pose.translation for pose in walk(16)]), trusted, RegionsParams())


def make_bundle(
    root: Path, room: Room, *, failing: bool = False, version: str = "1.0.0", regions: Regions | None = None
) -> Path:
    """Write `root/room/<version>`: the exact room, 200 Gaussians on its surfaces, two gates, a tiny floor."""
    folder = root / "room" / version
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "view_0.jpg").write_bytes(b"not really an image")
    room.mesh.save(folder / "mesh.ply")
    room.mesh.save(folder / "collision.ply")
    rng = np.random.default_rng(0)
    corners = room.mesh.corners()[rng.integers(0, len(room.mesh.triangles), 200)]
    splat = Gaussians(
        corners.mean(1).astype(np.float32),
        np.full((200, 3), -3, np.float32),
        rng.normal(size=(200, 4)).astype(np.float32),
        np.zeros(200, np.float32),
        rng.normal(size=(200, 4, 3)).astype(np.float32),
    )
    save_splat(splat, folder / "splat.ply")
    save_splat(splat, folder / "sim.ply")
    save_sog(splat, folder / "web.sog")
    views = [
        {
            "name": f"{i:04d}.jpg",
            "camera": CAMERA.to_json(),
            "world_from_camera": pose.matrix.tolist(),
            "held_out": i % 8 == 0,
        }
        for i, pose in enumerate(walk(9))
    ]
    (folder / "cameras.json").write_text(json.dumps({"cameras": views}))
    free = np.zeros((8, 6), bool)
    free[3:6, 1:4] = True
    spawn, goal = RobotPose((1.7, 0.8, 0.0), 0.4, 0.9), RobotPose((2.4, 0.9, 0.0), 0.0, 0.7)
    tiny = Regions((0.0, 0.0), 0.5, np.zeros((8, 6), np.float32), free, free, ~free, 0.0, (spawn,), (goal,))
    (regions or tiny).save(folder)
    errors = np.full((1, 8), 0.1, np.float32)
    errors[0, 0] = 1e-3  # along +x all is well
    CoverageMap(np.array([[1.8, 0.9, 0.0]], np.float32), errors, 0.5, 0.3, np.pi / 4).save(folder)
    gates = (
        Gate(name="held_out_psnr", title="PSNR", value=29.5, unit="dB", threshold=25, comparison=">=", how="made up"),
        Gate(
            name="scale",
            title="scale",
            value=None if failing else 0.01,
            unit="",
            threshold=0.03,
            comparison="<=",
            how="made up",
        ),
    )
    quality = Quality(gates=gates)
    quality.save(folder)
    (folder / "quality.html").write_text("<!doctype html>")
    record = StageRecord(name="mesh", key="0" * 20, backend="tsdf", reason="default", params={"voxel_size": 0.02})
    manifest = Manifest(
        name="room",
        version=version,
        frame=Frame(
            gravity_from=Measured(source="accelerometer", sigma=0.1),
            scale_from=Measured(source="sensor", sigma=0.01),
            floor_found=True,
        ),
        splats={
            "full": Splats(file="splat.ply", gaussians=200, sh_degree=1, antialiasing="classic"),
            "sim": Splats(file="sim.ply", gaussians=200, sh_degree=1, antialiasing="classic"),
            "web": Splats(file="web.sog", gaussians=200, sh_degree=1, antialiasing="classic"),
        },
        files=list_files(folder),
        quality_passed=quality.passed,
        failed_gates=quality.failed,
        provenance=Provenance(
            build_key="k",
            source="made by a test",
            licence="CC0-1.0",
            description="a room",
            stages=(record,),
            packages={},
            machine={},
        ),
        report={},
    )
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    return folder

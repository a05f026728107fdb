"""One drawn room as a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.bundle.params import BundleParams
from pipeline.bundle.stage import LEVEL_FILES, SplatInfo, write_cameras, write_manifest
from pipeline.geometry import Mesh, PointCloud
from pipeline.geometry.rays import sample_surface
from pipeline.gpu_backends.catalog import OURS
from pipeline.importing.measure import write_lookouts
from pipeline.points.stage import write_points_ply
from pipeline.rooms.made import ALIGNMENT, coverage_of, make_room
from pipeline.rooms.quality import LENS
from pipeline.rooms.recipe import Recipe, name_of
from pipeline.scenes.bundle import BundleCamera
from pipeline.scenes.manifest import StageRecord
from pipeline.splat.ply import drawing_mode, save_splat

VERSION = "1.0.0"
POINTS = 5_000
"""Of the cloud, which only other programs read."""


def write_room(folder: Path, seed: int, recipe: Recipe) -> None:
    """Write the bundle of a seed's room into an empty folder, the same bytes on one machine every time.

    Raises:
        ReconstructionError: As `make_room`.
    """
    made = make_room(seed, recipe)
    for level, splat in made.splats.items():
        save_splat(splat, folder / LEVEL_FILES[level])
    made.mesh.save(folder / "mesh.ply")
    made.mesh.save(folder / "collision.ply")
    made.regions.save(folder)
    coverage_of(made.room).save(folder)
    write_points_ply(folder / "points.ply", _cloud(made.mesh))
    cameras = (
        BundleCamera(f"lookout_{number:02d}", LENS, pose, held_out=True, thumbnail=None)
        for number, pose in enumerate(made.lookouts)
    )
    write_cameras(cameras, folder)
    made.quality.save(folder)
    (folder / "images").mkdir()
    write_lookouts(made.views, folder / "images")
    drawn = {"seed": seed, "alike": made.room.alike, "ends": list(made.room.ends), "scanned": round(made.scanned, 4)}
    write_manifest(
        folder,
        _params(seed, recipe),
        ALIGNMENT,
        {level: SplatInfo(len(splat), 0, drawing_mode(splat)) for level, splat in made.splats.items()},
        origin="rendered",
        report={"room": drawn},
        parents=(recipe.like,) if recipe.like else (),
    )


def _cloud(mesh: Mesh) -> PointCloud:
    """Points spread over the mesh."""
    points, faces = sample_surface(mesh, POINTS, np.random.default_rng(0))
    corners = mesh.triangles[faces]
    return PointCloud(
        points,
        mesh.face_normals()[faces].astype(np.float32),
        mesh.colors[corners].astype(np.float64).mean(1).round().astype(np.uint8),
        np.zeros(POINTS, np.float32),
        np.zeros(POINTS, np.int32),
        np.zeros(POINTS, bool),
    )


def _params(seed: int, recipe: Recipe) -> BundleParams:
    """What the bundle says of itself."""
    key = recipe.key(seed)
    stated = {"seed": seed, "scanned": recipe.scanned, "like": recipe.like, "with": recipe.feature}
    return BundleParams(
        name=name_of(seed),
        version=VERSION,
        build_key=key,
        source=f"splatyard scene rooms, seed {seed}" + (f", painted like {recipe.like}" if recipe.like else ""),
        licence=recipe.licence,
        description="a room drawn by a seed",
        stages=(
            StageRecord(name="rooms", key=key, backend="drawn", reason="asked for", params=stated, licence=OURS.text),
        ),
    )

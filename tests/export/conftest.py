"""A bundle whose splat looks wrong when mirrored, turned or read in another order; and what cameras see of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.geometry import SH_C0, Camera, Gaussians, Mesh, PointCloud, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.points.stage import write_points_ply
from pipeline.raster import contiguous, render
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import MANIFEST_FILE, list_files, manifest_text, read_manifest
from pipeline.splat.ply import load_splat, save_splat
from tests.bundles import make_bundle
from tests.synthetic import CAMERA, Room

SMALL = CAMERA.resized(160, 120)
WITH_THUMBNAIL = 7
"""So many of the nine cameras have one."""


def splat_of(room: Room, coefficients: int = 9) -> Gaussians:
    """1500 long, thin Gaussians on the room's surfaces, in its colours, and of other colours from other sides."""
    rng = np.random.default_rng(3)
    faces = room.mesh.corners()[rng.integers(0, len(room.mesh.triangles), 1500)]
    means = np.einsum("nk,nkc->nc", rng.dirichlet(np.ones(3), 1500), faces)
    sh = rng.normal(0, 0.15, (1500, coefficients, 3))
    sh[:, 0] = (np.abs(np.sin(means * [1.3, 2.1, 3.7])) - 0.5) / SH_C0
    return Gaussians(
        means.astype(np.float32),
        np.log(rng.uniform([0.1, 0.03, 0.01], [0.25, 0.08, 0.03], (1500, 3))).astype(np.float32),
        (rng.normal(size=(1500, 4)) * 2).astype(np.float32),
        rng.normal(1, 1, 1500).astype(np.float32),
        sh.astype(np.float32),
    )


def cloud_of(room: Room) -> PointCloud:
    """500 coloured points."""
    rng = np.random.default_rng(4)
    places = rng.uniform(0, [4, 3, 2.5], (500, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (500, 3), dtype=np.uint8)
    ones = np.ones(500)
    return PointCloud(
        places, np.tile(np.float32([0, 0, 1]), (500, 1)), colors, ones.astype("f4"), ones.astype("i4"), ones > 1
    )


def change(folder: Path, **provenance: object) -> Bundle:
    """The bundle after its files were changed, and what its manifest says of where it comes from."""
    manifest = read_manifest(folder / MANIFEST_FILE)
    (folder / MANIFEST_FILE).unlink()
    about = manifest.provenance.model_copy(update=provenance)
    full = manifest.splats["full"].model_copy(update={"gaussians": len(load_splat(folder / "splat.ply"))})
    told = {"files": list_files(folder), "provenance": about, "splats": {**manifest.splats, "full": full}}
    text = manifest_text(manifest.model_copy(update=told))
    (folder / MANIFEST_FILE).write_text(text)
    return Bundle.open(folder)


@pytest.fixture
def folder(tmp_path: Path, room: Room) -> Path:
    """Its folder: with points and thumbnails, of which two are missing."""
    folder = make_bundle(tmp_path / "bundles", room)
    colors = np.random.default_rng(5).integers(0, 256, room.mesh.vertices.shape, dtype=np.uint8)
    replace(room.mesh, colors=colors).save(folder / "mesh.ply")
    save_splat(splat_of(room), folder / "splat.ply")
    write_points_ply(folder / "points.ply", cloud_of(room))
    (folder / "thumbnails").mkdir()
    content = json.loads((folder / "cameras.json").read_text())
    for number, entry in enumerate(content["cameras"][:WITH_THUMBNAIL]):
        entry["thumbnail"] = f"thumbnails/{number:04d}.jpg"
        image = Image.new("RGB", (128, 96), (20 * number, 90, 40))
        image.save(folder / entry["thumbnail"])
    (folder / "cameras.json").write_text(json.dumps(content))
    change(folder)
    return folder


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    """The same, opened."""
    return Bundle.open(folder)


def image(gaussians: Gaussians, pose: Pose, camera: Camera = SMALL) -> np.ndarray:
    """What a camera sees (H, W, 3), 0..1."""
    return np.clip(render(contiguous(gaussians), camera, pose).rgb, 0, 1)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """How alike two images are [dB]."""
    return float(-10 * np.log10(max(np.mean((a - b) ** 2), 1e-12)))


def hits(mesh: Mesh, pose: Pose, camera: Camera = SMALL) -> tuple[np.ndarray, np.ndarray]:
    """Depth (N,) [m] and triangle (N,) of every pixel."""
    rays = pose.rotate(camera.rays()).reshape(-1, 3)
    found = RayCaster(mesh).cast(np.broadcast_to(pose.translation, rays.shape), rays)
    return found.distance, found.triangle


def turned(matrix: list[list[float]]) -> Callable[[Pose], Pose]:
    """Poses in a world that a rotation leads into."""
    rotation = np.array(matrix, float)
    return lambda pose: Pose(rotation @ pose.rotation, rotation @ pose.translation)


y_up = turned([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
"""glTF's and SPZ's world, by hand: the bundle's (x, y, z) lies at (x, z, -y)."""


@pytest.fixture
def webp(monkeypatch: pytest.MonkeyPatch):
    """Pillow opens gsply's WebP images here; the library that it wants for them is large."""

    def decode(data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)))

    monkeypatch.setattr("gsply.sog_reader.imagecodecs", SimpleNamespace(webp_decode=decode))

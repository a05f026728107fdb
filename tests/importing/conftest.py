"""The room as others would give it: its mesh, and flat Gaussians on its surfaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry import SH_C0, Gaussians, Mesh, quaternion_from_matrix, rotation_between
from pipeline.geometry.rays import sample_surface
from tests.synthetic import BOXES, SIZE, Room, box_faces

ASIDE = np.array([0.6, 0.4, 0.0])
"""Of the other room's furniture [m]."""


def splat_on(mesh: Mesh, count: int = 6000) -> Gaussians:
    """Flat, opaque ones on the surfaces, 6 cm wide, a centimetre off, of colours that depend on the place."""
    rng = np.random.default_rng(3)
    points, faces = sample_surface(mesh, count, rng)
    normals = mesh.face_normals()[faces]
    turns = np.array([rotation_between([0, 0, 1.0], normal) for normal in mesh.face_normals()])[faces]
    places = points + normals * rng.normal(0, 0.01, (count, 1))
    colors = np.abs(np.sin(points * [1.3, 2.1, 3.7]))
    return Gaussians(
        places.astype(np.float32),
        np.tile(np.log(np.float32([0.06, 0.06, 0.005])), (count, 1)),
        quaternion_from_matrix(turns).astype(np.float32),
        np.full(count, 2.0, np.float32),
        ((colors[:, None] - 0.5) / SH_C0).astype(np.float32),
    )


def other_room() -> Mesh:
    """A room of other proportions, its furniture elsewhere."""
    parts = [box_faces(np.zeros(3), SIZE * np.array([1.0, 1.5, 0.9]), inward=True)]
    parts += [box_faces(np.array(low) + ASIDE, np.array(high) + ASIDE) for _, low, high, _ in BOXES[:4]]
    first = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    triangles = np.concatenate([faces + start for (_, faces), start in zip(parts, first, strict=True)])
    return Mesh.from_arrays(np.concatenate([vertices for vertices, _ in parts]), triangles)


@pytest.fixture(scope="session")
def splat(room: Room) -> Gaussians:
    """Of the room."""
    return splat_on(room.mesh)


@pytest.fixture(autouse=True)
def _few_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the drop test: what it finds is its own tests' matter."""
    monkeypatch.setattr("pipeline.check.ground.DROPS", 20)


@pytest.fixture
def pair(room: Room, splat: Gaussians, tmp_path: Path) -> Path:
    """A folder with both, in one frame."""
    from pipeline.splat.ply import save_splat

    folder = tmp_path / "pair"
    folder.mkdir()
    room.mesh.save(folder / "mesh.ply")
    save_splat(splat, folder / "splat.ply")
    return folder

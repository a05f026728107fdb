"""A splat alone: its mesh lies where its surfaces are, all of it guessed, once up and metres are said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import Bundle
from pipeline.align.gravity import UpEstimate
from pipeline.errors import CardError, ReconstructionError
from pipeline.export.web import save_spz
from pipeline.geometry import Gaussians, Mesh, Similarity, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.geometry.surfels import surfels
from pipeline.importing import drawn_mesh
from pipeline.importing.bundle import ImportRequest, import_bundle
from pipeline.importing.drawn_mesh import mesh_of_splat
from pipeline.importing.source import find_source
from pipeline.splat.ply import save_splat
from tests.importing.conftest import splat_on
from tests.synthetic import Room, box_faces

Y_UP = Similarity(2.0, matrix_from_rotvec(np.array([-np.pi / 2, 0, 0])), np.array([1.0, 5.0, 2.0]))
"""A splat's frame, in half metres, from the room's."""


def closed(room: Room) -> Gaussians:
    """The room's splat, without gaps."""
    return surfels(room.mesh, 20_000)


def test_what_isnt_known_is_asked(splat: Gaussians, tmp_path: Path) -> None:
    """Up and metres, unless the format says: an SPZ has y up, in units of no length."""
    save_splat(splat, tmp_path / "a.ply")
    request = ImportRequest(tmp_path / "a.ply", out=tmp_path / "out")
    assert find_source(tmp_path).form == "splat"
    with pytest.raises(CardError, match="how many metres a unit"):
        import_bundle(replace(request, up="z"))
    with pytest.raises(CardError, match="points up"):
        import_bundle(replace(request, scale=1.0))
    save_spz(splat, tmp_path / "a.spz")
    with pytest.raises(CardError, match=r"how many metres a unit[\s\S]* x .* units"):
        import_bundle(replace(request, source=tmp_path / "a.spz"))


def test_without_a_floor() -> None:
    """A wall alone is no place."""
    wall = Mesh.from_arrays(*box_faces(np.zeros(3), np.array([4.0, 0.1, 2.5])))
    sides = wall.with_faces(np.abs(wall.face_normals()[:, 2]) < 0.5)
    with pytest.raises(ReconstructionError, match="has a floor"):
        mesh_of_splat(splat_on(sides), UpEstimate(("given",), np.array([0, 0, 1.0]), 4.0), 1.0)


def test_cameras_stand_where_there_is_room(room: Room) -> None:
    """On the floor, away from walls and furniture, and not where the ceiling is low."""
    points = sample_surface(room.mesh, 60_000, np.random.default_rng(0))[0].astype(np.float64)
    places = drawn_mesh._places(points)
    assert len(places) >= drawn_mesh.FEWEST_PLACES
    for height in drawn_mesh.EYES:
        eyes = places + np.array([0, 0, height])
        assert RayCaster(room.mesh).distances(eyes).min() > drawn_mesh.ASIDE - drawn_mesh.CELL
        inside = RayCaster(room.mesh).cast(eyes, np.array([0, 0, -1.0]))
        np.testing.assert_allclose(inside.distance, height, atol=0.01)
    with pytest.raises(ReconstructionError, match="none of it free"):
        drawn_mesh._places(points[points[:, 2] < 1.0] * np.array([0.1, 0.1, 1]))


@pytest.mark.slow
def test_a_splat_alone_is_a_bundle(room: Room, tmp_path: Path) -> None:
    """Its mesh lies on the room's, within 5 cm, the floor at 0; nothing of it was measured, and the gates say so."""
    save_splat(closed(room).transformed(Y_UP), tmp_path / "room.ply")
    request = ImportRequest(tmp_path / "room.ply", out=tmp_path / "out", up="y", scale=0.5, scale_sigma=0.01)
    bundle = Bundle.open(import_bundle(request))
    mesh = bundle.mesh()
    assert mesh.guessed.all()
    assert bundle.quality.gate("registration").detail["source"] == "the mesh is drawn from the splat"
    truth = room.mesh.transformed(Similarity(0.5, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3)) @ Y_UP)
    floor = float(truth.vertices[:, 2].min())
    truth = truth.transformed(Similarity(1.0, np.eye(3), np.array([0, 0, -floor])))
    points, _ = sample_surface(truth, 5000, np.random.default_rng(0))
    assert (RayCaster(mesh).distances(points) < 0.05).mean() > 0.85  # undersides aren't seen
    points, triangles = sample_surface(mesh, 5000, np.random.default_rng(0))
    assert (RayCaster(truth).distances(points) < 0.05).mean() > 0.95
    level = points[(mesh.face_normals()[triangles, 2] > 0.95) & (np.abs(points[:, 2]) < 0.05)]
    assert abs(np.median(level[:, 2])) < 0.01
    assert bundle.quality.gate("drop_test").passed
    assert bundle.spawn_poses

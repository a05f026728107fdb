"""A splat finds its mesh from anywhere; what doesn't belong together, or fits in two ways, is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.check.gates import THRESHOLDS
from pipeline.geometry import Gaussians, Mesh, Similarity, matrix_from_rotvec, rotvec_from_matrix
from pipeline.importing.registration import register
from tests.importing.conftest import splat_on
from tests.synthetic import SIZE, Room, box_faces

MOVED = Similarity(0.37, matrix_from_rotvec([0.4, -1.3, 0.8]), np.array([3.0, -2.0, 0.7]))
SAME = {"one frame": Similarity.identity()}


def test_moved_turned_and_scaled(room: Room, splat: Gaussians):
    """The splat comes back to within a centimetre everywhere, half a degree and a percent."""
    found = register(splat.transformed(MOVED), room.mesh, SAME)
    rest = found.mesh_from_splat @ MOVED
    assert np.linalg.norm(rest.apply(splat.means) - splat.means, axis=1).max() < 0.01
    assert np.rad2deg(np.linalg.norm(rotvec_from_matrix(rest.rotation))) < 0.5
    assert rest.scale == pytest.approx(1, abs=0.01)
    assert (found.source, found.ambiguous) == ("estimated", False)
    assert found.residual < THRESHOLDS["registration"]
    assert found.overlap > THRESHOLDS["overlap"]


def test_frames_that_fit_are_taken_as_they_are(room: Room, splat: Gaussians):
    """Of several that the files may mean, the one that fits; nothing is moved."""
    given = {"wrong": Similarity(1.0, np.eye(3), np.ones(3)), "right": MOVED.inverse()}
    found = register(splat.transformed(MOVED), room.mesh, given)
    assert found.source == "right"
    assert found.mesh_from_splat is given["right"]
    assert found.overlap_of_mesh > 0.9
    assert found.residual < 0.01


def test_a_loose_splat_keeps_the_frame_that_its_file_gives(room: Room, splat: Gaussians):
    """It doesn't fit well, and the metric says so; an estimate would fit no better, and be off."""
    rng = np.random.default_rng(3)
    apart = rng.normal(0, 0.09, splat.means.shape).astype(np.float32)
    loose = replace(splat, means=splat.means + apart)
    found = register(loose.transformed(MOVED), room.mesh, {"file": MOVED.inverse()})
    assert found.source == "file"
    assert np.abs((found.mesh_from_splat @ MOVED).apply(splat.means) - splat.means).max() < 1e-6
    assert found.residual > THRESHOLDS["registration"]


def test_an_empty_box_fits_in_many_ways():
    """Nothing tells which wall is which: the pose is not known, however well it fits."""
    vertices, triangles = box_faces(np.zeros(3), SIZE, inward=True)
    box = Mesh.from_arrays(vertices, triangles)
    found = register(splat_on(box, 3000).transformed(MOVED), box, SAME)
    assert found.residual < THRESHOLDS["registration"]
    assert found.ambiguous

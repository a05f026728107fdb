"""Meshes: files and selections."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Mesh


def example() -> Mesh:
    mesh = Mesh.from_arrays(
        np.array([[0.0, 0, 0], [1, 0, 0.5], [0, 2, 0], [3, 3, 3]]), np.array([[0, 1, 2], [1, 3, 2]])
    )
    colors = np.arange(12, dtype=np.uint8).reshape(4, 3)
    return Mesh(mesh.vertices, mesh.triangles, colors, np.array([False, True, False, True]))


def test_ply_round_trip(tmp_path):
    """Vertices, triangles, colours and marks survive the file."""
    example().save(tmp_path / "mesh.ply")
    read = Mesh.load(tmp_path / "mesh.ply")
    for name in ("vertices", "triangles", "colors", "guessed"):
        np.testing.assert_array_equal(getattr(read, name), getattr(example(), name))


def test_selected_faces_drop_unused_vertices():
    """Keeping the second triangle leaves its three vertices and renumbers them."""
    kept = example().with_faces(np.array([False, True]))
    assert len(kept.vertices) == 3
    np.testing.assert_array_equal(kept.corners(), example().corners()[1:])


def test_joined_keeps_both():
    """Joining shifts the second mesh's indices."""
    joined = example().joined(example())
    np.testing.assert_array_equal(joined.corners()[2:], example().corners())


@pytest.mark.parametrize("content", [b"", b"ply\nformat ascii 1.0\nelement vertex 1000000000\n", b"\x80\x04pickle"])
def test_damaged_files_are_refused(tmp_path, content):
    """Truncated, lying and foreign files raise a clear error."""
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(ValueError, match="not a PLY of triangles"):
        Mesh.load(tmp_path / "bad.ply")


def test_index_outside_is_refused(tmp_path):
    """A triangle that names a missing vertex is an error, not a crash later."""
    bad = example()
    Mesh(bad.vertices, np.array([[0, 1, 9]], np.int32), bad.colors, bad.guessed).save(tmp_path / "bad.ply")
    with pytest.raises(ValueError, match="outside"):
        Mesh.load(tmp_path / "bad.ply")

"""Layouts of meshes: every part of the surface has texels of its own, of one size, wherever it folds."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import BundleError
from pipeline.export import atlas as atlas_module
from pipeline.export.atlas import Atlas, unwrap
from pipeline.geometry import Mesh
from tests.synthetic import Room

TEXEL = 0.02


def ramp(turns: float = 2.5, steps: int = 200) -> Mesh:
    """A winding ramp of gentle slope: one connected surface above itself."""
    angle = np.linspace(0, 2 * np.pi * turns, steps)
    around = np.stack([np.cos(angle), np.sin(angle)], 1)
    rise = 0.1 * angle[:, None]
    vertices = np.concatenate([np.hstack([around, rise]), np.hstack([2 * around, rise])])
    inner, outer = np.arange(steps - 1), np.arange(steps - 1) + steps
    quads = np.concatenate([np.stack([inner, outer, outer + 1], 1), np.stack([inner, outer + 1, inner + 1], 1)])
    return Mesh.from_arrays(vertices, quads)


def texels_of(atlas: Atlas, count: int) -> np.ndarray:
    """How many texels show each triangle."""
    return np.bincount(atlas.shows[atlas.shows >= 0], minlength=count)


def sizes(atlas: Atlas) -> np.ndarray:
    """Areas of the triangles in the image [texels]."""
    corners = (atlas.uv * atlas.shows.shape[::-1])[atlas.triangles]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2


@pytest.mark.parametrize("turns", [0.5, 2.5])
def test_nothing_lies_on_another(turns: float):
    """A ramp above itself has as many texels as it is large, and no triangle's are another's."""
    mesh = ramp(turns)
    atlas = unwrap(mesh, TEXEL)
    shown = texels_of(atlas, len(mesh.triangles))
    assert shown.sum() == pytest.approx(sizes(atlas).sum(), rel=0.02)
    np.testing.assert_allclose(shown, sizes(atlas), atol=30, rtol=0.1)  # long edges lie on either side
    assert (atlas.charts == 1) == (turns < 1)


def test_walls_keep_their_size(room: Room):
    """What is flat is neither stretched nor shrunk, and no chart touches another."""
    atlas = unwrap(room.mesh, TEXEL)
    np.testing.assert_allclose(sizes(atlas), room.mesh.face_areas() / TEXEL**2, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(atlas.vertex[atlas.triangles], room.mesh.triangles)
    chart = np.full(len(room.mesh.triangles), -1)  # by shared vertices
    for number, triangle in enumerate(atlas.triangles):
        same = np.isin(atlas.triangles[:number], triangle).any(1)
        chart[:number][np.isin(chart[:number], chart[:number][same])] = number
        chart[number] = number
    owner = np.where(atlas.shows >= 0, chart[atlas.shows], -1)
    for axis in (0, 1):
        one, other = np.moveaxis(owner, axis, 0)[:-1], np.moveaxis(owner, axis, 0)[1:]
        assert not ((one != other) & (one >= 0) & (other >= 0)).any()


def test_flat_triangles_and_slivers_have_a_place():
    """Of a triangle without area and one thinner than a texel."""
    vertices = [[0, 0, 0], [1, 0, 0], [0.5, 0, 0], [0, 1, 0], [1, 1e-4, 0.0]]
    mesh = Mesh.from_arrays(np.array(vertices), np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]))
    atlas = unwrap(mesh, TEXEL)
    assert np.isfinite(atlas.uv).all()
    assert ((atlas.uv >= 0) & (atlas.uv <= 1)).all()
    assert texels_of(atlas, 3).min() >= 1


def test_large_places_have_larger_texels(room: Room, monkeypatch: pytest.MonkeyPatch):
    """The image stays within its bounds."""
    monkeypatch.setattr(atlas_module, "MAX_TEXELS", 50_000)
    monkeypatch.setattr(atlas_module, "MAX_SIDE", 300)
    atlas = unwrap(room.mesh, 0.001)
    assert atlas.shows.size <= 50_000
    assert max(atlas.shows.shape) <= 300


def test_equal_meshes_have_equal_atlases(room: Room):
    """To the bit."""
    one, other = unwrap(room.mesh, TEXEL), unwrap(room.mesh, TEXEL)
    for name in ("vertex", "triangles", "uv", "shows"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_mesh_of_too_many_pieces_is_refused(monkeypatch: pytest.MonkeyPatch):
    """However large texels get, each piece takes some."""
    monkeypatch.setattr(atlas_module, "MAX_TEXELS", 10_000)
    corners = np.random.default_rng(0).normal(0, 1, (400, 1, 3)) + np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    pieces = Mesh.from_arrays(corners.reshape(-1, 3), np.arange(1200).reshape(-1, 3))
    with pytest.raises(BundleError, match="400 parts"):
        unwrap(pieces, TEXEL)

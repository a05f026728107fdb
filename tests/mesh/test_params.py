"""Mesh parameters."""

from __future__ import annotations

import pytest

from pipeline.machine import Gpu, Machine
from pipeline.mesh.params import MeshParams, choose
from pipeline.stage import Traits

PHOTOS = Traits(kind="photos", frames=40, has_poses=False, has_depth=False, has_gravity=False, ordered=False)


@pytest.mark.parametrize(
    "values",
    [
        {"backend": "marching"},
        {"voxel_size": -0.01},
        {"truncation_voxels": 1.0},
        {"min_views": 0},
        {"poisson_depth": 20},
        {"nksr_detail": 1.5},
        {"island_volume": -1.0},
        {"collision_error": 0.0},
        {"collision_triangles": 10},
    ],
)
def test_refuses_impossible_values(values):
    """The message names the field and what it got."""
    with pytest.raises(ValueError, match=next(iter(values))):
        MeshParams(**values)


def test_auto_is_tsdf():
    """Whatever the depth comes from."""
    assert choose(PHOTOS, MeshParams(), Machine()).backend == "tsdf"


def test_auto_with_a_gpu():
    """NKSR where it can run; else what it lacks is said, and without a GPU nothing is."""
    gpu = Gpu("NVIDIA L4", 24 * 2**30, 23 * 2**30, (8, 9))
    choice = choose(PHOTOS, MeshParams(), Machine(gpu, frozenset({"torch", "nksr"})))
    assert choice.backend == "nksr"
    assert "NVIDIA L4" in choice.reason and "research" in choice.reason
    choice = choose(PHOTOS, MeshParams(), Machine(gpu, frozenset({"torch"})))
    assert choice.backend == "tsdf"
    assert choice.reason.endswith("; nksr is not installed")
    assert "nksr" not in choose(PHOTOS, MeshParams(), Machine(None, frozenset({"torch", "nksr"}))).reason


def test_what_is_asked_for_is_chosen():
    """And said to be asked for."""
    choice = choose(PHOTOS, MeshParams(backend="poisson"), Machine())
    assert (choice.backend, choice.reason) == ("poisson", "asked for")

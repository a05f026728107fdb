"""Colours from the cloud."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.mesh.color import colored
from tests.mesh.scenes import cloud, grid_floor


def test_vertices_take_the_nearest_points_colour():
    """Green on the floor of a cloud that is red above 1 m."""
    mesh = colored(grid_floor((1, 0.6), (2, 1.6)), cloud())
    assert (mesh.colors == [10, 190, 30]).all()


def test_guessed_points_make_guessed_vertices():
    """Where x > 1.5 the cloud is guessed."""
    marked = replace(cloud(), guessed=cloud().points[:, 0] > 1.5)
    mesh = colored(grid_floor((1, 0.6), (2, 1.6)), marked)
    assert mesh.guessed[mesh.vertices[:, 0] > 1.6].all()
    assert not mesh.guessed[mesh.vertices[:, 0] < 1.4].any()


def test_an_empty_cloud_changes_nothing():
    """Grey stays grey."""
    mesh = grid_floor((0, 0), (0.2, 0.2))
    assert np.array_equal(colored(mesh, cloud()[:0]).colors, mesh.colors)

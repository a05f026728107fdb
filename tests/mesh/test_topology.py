"""Components and borders."""

from __future__ import annotations

import numpy as np

from pipeline.mesh.canonical import canonical
from pipeline.mesh.topology import border_report, triangle_components
from tests.mesh.scenes import box, grid_floor


def test_separate_boxes_are_components():
    """Two boxes, two labels."""
    mesh = box((0, 0, 0), (1, 1, 1)).joined(box((2, 0, 0), (3, 1, 1)))
    labels = triangle_components(mesh.triangles)
    assert len(np.unique(labels[:12])) == len(np.unique(labels[12:])) == 1
    assert labels[0] != labels[12]


def test_a_turned_triangle_is_a_patch_of_its_own():
    """Only when winding matters."""
    mesh = grid_floor((0, 0), (0.4, 0.4))
    turned = mesh.triangles.copy()
    turned[7] = turned[7, ::-1]
    labels = triangle_components(turned, same_winding=True)
    assert (labels == labels[7]).sum() == 1
    assert len(np.unique(triangle_components(turned))) == 1


def test_a_box_is_watertight_and_a_sheet_is_not():
    """Border of a 1 x 0.4 m sheet: 2.8 m."""
    assert border_report(box((0, 0, 0), (1, 1, 1)))["watertight"]
    sheet = border_report(canonical(grid_floor((0, 0), (1, 0.4))))
    assert not sheet["watertight"]
    assert abs(sheet["border_length"] - 2.8) < 1e-3
    assert sheet["edges_of_opposite_winding"] == 0

"""Parameters of the points stage."""

from __future__ import annotations

import pytest

from pipeline.points.params import PointsParams


@pytest.mark.parametrize(
    "wrong", [{"voxel": 0.0}, {"stride": 0}, {"max_points": 0}, {"neighbours": 0}, {"max_deviation": 0.0}]
)
def test_wrong_points_parameters_name_rule_and_value(wrong):
    """The message names the parameter and what it was."""
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"(?s){name}.*{value}"):
        PointsParams(**wrong)

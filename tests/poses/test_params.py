"""Parameters of the poses stage and the choice of its backend."""

from __future__ import annotations

import pytest

from pipeline.poses.params import PosesParams, choose
from pipeline.stage import Traits


def traits(*, poses: bool) -> Traits:
    """Traits of a capture with or without poses."""
    return Traits("rgbd", 40, has_poses=poses, has_depth=True, has_gravity=False, ordered=True)


def test_given_poses_are_refined():
    """Auto refines what the sensor gives and maps pictures where it gives nothing."""
    assert choose(traits(poses=True), PosesParams()).backend == "refined"
    assert choose(traits(poses=False), PosesParams()).backend == "colmap"
    assert choose(traits(poses=True), PosesParams(backend="sensor")).backend == "sensor"


@pytest.mark.parametrize(
    "values",
    [
        {"image_size": 10},
        {"features": 5},
        {"sensor_sigma_position": 0.0},
        {"seed": -1},
    ],
)
def test_wrong_values_are_refused(values: dict):
    """The message names the parameter."""
    with pytest.raises(ValueError, match=r"poses\."):
        PosesParams(**values)

"""Parameters of the poses stage and the choice of its backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.machine import Gpu, Machine
from pipeline.poses.params import PosesParams, choose
from pipeline.stage import Traits


def traits(*, poses: bool) -> Traits:
    """Traits of a capture with or without poses."""
    return Traits("rgbd", 40, has_poses=poses, has_depth=True, has_gravity=False, ordered=True)


def test_given_poses_are_refined():
    """Auto refines what the sensor gives and maps images where it gives nothing."""
    assert choose(traits(poses=True), PosesParams(), Machine()).backend == "refined"
    assert choose(traits(poses=False), PosesParams(), Machine()).backend == "colmap"
    assert choose(traits(poses=True), PosesParams(backend="sensor"), Machine()).backend == "sensor"


GPU = Gpu("Some GPU", 24 * 2**30, 20 * 2**30, (8, 9))


def test_auto_takes_vggt_where_it_can_run_and_nothing_metric_is_known():
    """A GPU with memory and the packages: images alone go to VGGT, a sensor's metric poses don't."""
    able = Machine(GPU, frozenset({"torch", "vggt"}))
    metric = replace(traits(poses=True), has_scale=True)
    assert choose(traits(poses=False), PosesParams(), able).backend == "vggt"
    assert choose(traits(poses=True), PosesParams(), able).backend == "vggt"
    assert choose(metric, PosesParams(), able).backend == "refined"
    unable = [
        Machine(GPU, frozenset({"torch"})),
        Machine(None, able.modules),
        Machine(replace(GPU, memory=2**30), able.modules),
    ]
    for machine in unable:
        assert choose(traits(poses=False), PosesParams(), machine).backend == "colmap"
    forced = choose(metric, PosesParams(backend="depth_anything_3"), Machine())
    assert (forced.backend, forced.reason) == ("depth_anything_3", "asked for")


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
    with pytest.raises(ValueError, match=next(iter(values))):
        PosesParams(**values)

"""Parameters of the depth and points stages."""

from dataclasses import replace

import pytest

from pipeline.depth.params import DepthParams, choose
from pipeline.machine import Gpu, Machine
from pipeline.stage import Traits


def traits(has_depth: bool, kind: str = "rgbd") -> Traits:
    return Traits(
        kind, 10, has_poses=False, has_depth=has_depth, has_gravity=False, ordered=True, fine_depth=kind == "rgbd"
    )


@pytest.mark.parametrize(
    ("has_depth", "kind", "backend"),
    [
        (True, "rgbd", "sensor"),
        (True, "polycam", "combined"),
        (True, "kitti", "combined"),
        (False, "polycam", "mvs"),
        (False, "photos", "mvs"),
    ],
)
def test_auto_takes_the_sensor_where_there_is_one(has_depth, kind, backend):
    """Auto stands for the sensor's depth, with stereo where a phone measured; else for stereo."""
    assert choose(traits(has_depth, kind), DepthParams(), Machine()).backend == backend


def test_auto_takes_vggt_where_it_can_run_and_nothing_metric_is_known():
    """On a machine for it, depth comes from the network unless the source measured it or knows its poses in metres."""
    able = Machine(Gpu("Some GPU", 24 * 2**30, 20 * 2**30, (8, 9)), frozenset({"torch", "vggt"}))
    assert choose(traits(False, "photos"), DepthParams(), able).backend == "vggt"
    assert choose(traits(True, "polycam"), DepthParams(), able).backend == "combined"
    metric = replace(traits(False, "polycam"), has_poses=True, has_scale=True)
    assert choose(metric, DepthParams(), able).backend == "mvs"


def test_a_backend_asked_for_is_taken():
    """A capture with depth can still be matched by its images."""
    assert choose(traits(True), DepthParams(backend="mvs"), Machine()).backend == "mvs"


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "guesswork"},
        {"image_size": 8},
        {"source_views": 0},
        {"min_agreeing": 13},
        {"min_range": 5.0},
        {"min_confidence": 256},
    ],
)
def test_wrong_depth_parameters_name_rule_and_value(wrong):
    """The message names the parameter and what it was."""
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"(?s){name}.*{value}"):
        DepthParams(**wrong)

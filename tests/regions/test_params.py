"""Regions parameters."""

from __future__ import annotations

import pytest

from pipeline.regions.params import RegionsParams, choose
from pipeline.stage import Traits


@pytest.mark.parametrize(
    "values",
    [{"cell": 0.0}, {"radius": -0.1}, {"max_step": 0.6}, {"max_drive_step": 0.3}, {"spawn_poses": 0}, {"goals": -1}],
)
def test_refuses_impossible_values(values):
    """With the field's name in the message."""
    with pytest.raises(ValueError, match=next(iter(values))):
        RegionsParams(**values)


def test_there_is_one_backend():
    """Named cpu."""
    assert choose(Traits("photos", 9, False, False, False, False), RegionsParams()).backend == "cpu"

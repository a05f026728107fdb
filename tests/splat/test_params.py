"""Parameters of the splat stage."""

from __future__ import annotations

import pytest

from pipeline.splat.params import SplatParams, choose
from pipeline.stage import Traits


def test_backend_is_chosen_with_a_reason():
    """The CPU trainer runs everywhere."""
    choice = choose(Traits("photos", 20, False, False, False, True), SplatParams())
    assert choice.backend == "cpu"
    assert choice.reason


@pytest.mark.parametrize(
    "values",
    [
        {"gaussians": 5},
        {"iterations": -1},
        {"seconds": -2},
        {"seconds": 3, "iterations": 7},
        {"sh_degree": 4},
        {"image_size": 7},
        {"depth_weight": -1},
        {"ssim_weight": 2},
    ],
)
def test_impossible_values_are_refused(values):
    """The message quotes what was given."""
    with pytest.raises(ValueError, match=str(next(iter(values.values())))):
        SplatParams(**values)

"""Parameters of the splat stage."""

from __future__ import annotations

import pytest

from pipeline.machine import Gpu, Machine
from pipeline.splat.params import SplatParams, choose
from pipeline.stage import Traits


def test_backend_is_chosen_with_a_reason():
    """The CPU trainer runs everywhere."""
    choice = choose(Traits("photos", 20, False, False, False, True), SplatParams(), Machine())
    assert choice.backend == "cpu"
    assert choice.reason


GPU = Gpu("A GPU", 24 * 2**30, 20 * 2**30, (8, 9))
WHOLE = Machine(GPU, frozenset({"torch", "gsplat"}))


@pytest.mark.parametrize(
    ("machine", "params", "backend", "reason"),
    [
        (WHOLE, SplatParams(), "gsplat", "A GPU"),
        (WHOLE, SplatParams(backend="cpu"), "cpu", "asked for"),
        (WHOLE, SplatParams(seconds=60), "cpu", "CPU-seconds"),
        (Machine(GPU, frozenset({"torch"})), SplatParams(), "cpu", "gsplat is not installed"),
        (Machine(None, frozenset({"torch", "gsplat"})), SplatParams(), "cpu", "runs on every machine"),
        (Machine(), SplatParams(backend="gsplat"), "gsplat", "asked for"),
    ],
)
def test_gsplat_is_taken_where_it_runs(machine, params, backend, reason):
    """On a machine with a GPU and its packages, unless the parameters say otherwise."""
    choice = choose(Traits("photos", 20, False, False, False, True), params, machine)
    assert choice.backend == backend
    assert reason in choice.reason


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
        {"normal_weight": -1},
        {"seconds": 5, "backend": "gsplat"},
        {"ssim_weight": 2},
    ],
)
def test_impossible_values_are_refused(values):
    """The message quotes what was given."""
    with pytest.raises(ValueError, match=str(next(iter(values.values())))):
        SplatParams(**values)

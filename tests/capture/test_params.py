"""Parameters of the capture and select stages."""

from __future__ import annotations

import pytest

from pipeline.capture.params import CaptureParams, SelectParams


@pytest.mark.parametrize("values", [{"min_frames": 1}, {"max_bad_share": 1.0}, {"min_track": -0.1}])
def test_impossible_capture_params_are_refused(values: dict[str, float]) -> None:
    """The message names the parameter and the value."""
    ((name, value),) = values.items()
    with pytest.raises(ValueError, match=f"(?s){name}.*{value}"):
        CaptureParams(**values)


@pytest.mark.parametrize("values", [{"max_keyframes": 2}, {"held_out_every": 1}, {"max_blur": 1.5}])
def test_impossible_select_params_are_refused(values: dict[str, float]) -> None:
    """The message names the parameter and the value."""
    ((name, value),) = values.items()
    with pytest.raises(ValueError, match=f"(?s){name}.*{value}"):
        SelectParams(**values)

"""Runs one reader on one source, as the capture stage does, and compares what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader
from pipeline.capture.source import open_source
from pipeline.geometry import Camera, Pose, angle_deg


def read_with(reader: Reader, path: Path, out: Path, params: CaptureParams | None = None) -> Capture:
    """What `reader` makes of `path`, written to `out`; checks that it recognises it and promises what it then gives."""
    with open_source(path) as source:
        seen = source if reader.recognise(source) else source.below(source.folders()[0])
        assert reader.recognise(seen)
        traits, files = reader.traits(reader.survey(seen)), reader.survey(seen).files
        assert set(files) <= set(seen.names)
        capture = reader.read(seen, out, params or CaptureParams())
        assert traits.kind == reader.kind == capture.kind
        assert (traits.has_poses, traits.has_depth) == (capture.has_poses, capture.has_depth)
        assert traits.has_scale == (capture.scale_sigma is not None)
        read = len(capture.frames)
        assert read <= traits.frames <= read + len(capture.skipped) or params
        return capture


def same_camera(found: Camera | None, truth: Camera) -> bool:
    """Whether both have the same size and, to rounding, the same numbers."""
    assert found is not None
    sizes = (found.width, found.height) == (truth.width, truth.height)
    return sizes and np.allclose(found.matrix, truth.matrix, atol=1e-9) and found.distortion == truth.distortion


def assert_poses(capture: Capture, poses: Sequence[Pose]) -> None:
    """The frames have these poses, world from camera, within 0.1 mm and 0.01 degrees."""
    assert len(capture.frames) == len(poses)
    for frame, pose in zip(capture.frames, poses, strict=True):
        assert frame.world_from_camera is not None
        assert np.linalg.norm(frame.world_from_camera.translation - pose.translation) < 1e-4
        assert angle_deg(frame.world_from_camera.rotation, pose.rotation) < 0.01

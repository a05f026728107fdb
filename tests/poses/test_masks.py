"""Masks on their way through the poses stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.images import save_mask
from pipeline.capture.model import Capture, Selection
from pipeline.geometry import Camera
from pipeline.poses.keyframes import load_keyframes, pinhole_for, undistort, undistort_mask
from pipeline.poses.matching import extract
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene, read_mask
from pipeline.poses.stage import run
from tests.poses.conftest import Rendered, write_capture

MASKED = slice(130, 200), slice(20, 150)


def hidden() -> np.ndarray:
    """Ignores a rectangle of the 320 x 240 image that no symmetry maps to itself."""
    mask = np.ones((240, 320), bool)
    mask[MASKED] = False
    return mask


def write_masked(folder: Path, rendered: Rendered, count: int) -> dict[str, Path]:
    """A posed capture whose images all but the first have the mask."""
    inputs = write_capture(folder, rendered.images[:count], rendered.camera, poses=rendered.poses[:count])
    capture = Capture.load(inputs["capture"])
    frames = [
        replace(frame, mask=save_mask(hidden(), capture.root, f"{i}") if i else None)
        for i, frame in enumerate(capture.frames)
    ]
    replace(capture, frames=tuple(frames)).save()
    return inputs


def test_no_feature_lies_where_the_mask_ignores(rendered: Rendered, tmp_path: Path):
    """The unmasked first image has features there, the masked ones none; elsewhere they stay."""
    inputs = write_masked(tmp_path, rendered, 3)
    keyframes = load_keyframes(Capture.load(inputs["capture"]), Selection.load(inputs["select"]), 960)
    inside = []
    for features in extract(inputs["capture"], keyframes, 1000):
        column, row = np.floor(features.pixels).astype(int).T
        inside.append(~hidden()[row, column])
    assert inside[0].sum() > 10
    assert not inside[1].any()
    assert not inside[2].any()
    assert len(inside[1]) > 0.7 * len(inside[0])


def test_views_carry_their_masks(rendered: Rendered, tmp_path: Path):
    """A view has the mask of its image, at any size; a view without one has none."""
    out = tmp_path / "out"
    out.mkdir()
    run(write_masked(tmp_path, rendered, 6), PosesParams(backend="sensor"), out)
    views = PosedScene.load(out).views
    assert read_mask(out, views[0]) is None
    for view in views[1:]:
        mask = read_mask(out, view)
        assert mask is not None
        np.testing.assert_array_equal(mask, hidden())
        half = read_mask(out, view, (160, 120))
        assert half is not None
        np.testing.assert_array_equal(half, hidden().reshape(120, 2, 160, 2).all((1, 3)))
    third = read_mask(out, views[1], (107, 80))
    assert third is not None
    # whatever lies partly in the masked rectangle is out
    assert not third[43:67, 6:50].any()
    assert third[:42].all()


def test_undistorted_mask_covers_what_the_image_shows_of_it():
    """No masked pixel of a distorted image leaks into one that counts, and hardly more than it is lost."""
    lens = Camera(320, 240, 260.0, 262.0, 157.0, 121.0, (-0.18, 0.05, 0.001, -0.002))
    pinhole = pinhole_for(lens)
    grey = np.full((240, 320, 3), 128, np.uint8)
    grey[MASKED] = 255
    shown = undistort(grey, lens, pinhole)[..., 0]
    mask = undistort_mask(hidden(), lens, pinhole)
    assert (shown[mask] == 128).all()
    near = cv2.dilate((shown != 128).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert mask[~near].all()
    assert 0.1 < (~mask).mean() < 0.2

"""Data sets of nerfstudio: poses as its documents tell them, and read by the reader of transforms.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.reconstructions.nerfstudio import READER
from pipeline.export.datasets import export_nerfstudio
from pipeline.geometry import Camera, Pose, angle_deg
from pipeline.scenes.bundle import Bundle
from pipeline.splat.ply import load_splat
from tests.capture.writers.reading import read_with
from tests.export.conftest import WITH_THUMBNAIL, image, psnr


@pytest.fixture
def out(bundle: Bundle, tmp_path: Path) -> Path:
    """An export."""
    folder = tmp_path / "out"
    folder.mkdir()
    export_nerfstudio(bundle, folder)
    return folder


def frames_of(out: Path) -> list[dict[str, Any]]:
    """The frames."""
    return json.loads((out / "transforms.json").read_text())["frames"]


def test_a_camera_sees_the_same_splat(bundle: Bundle, out: Path):
    """OpenGL's: the third column points back, the second up; the PLY lies in the same frame."""
    frame, view = frames_of(out)[2], bundle.cameras[2]
    right, up, back, place = np.array(frame["transform_matrix"])[:3].T
    pose = Pose(np.stack([right, -up, -back], 1), place)
    camera = Camera(*(frame[key] for key in ("w", "h", "fl_x", "fl_y", "cx", "cy")))
    assert up[2] > 0.5  # the camera stands upright in a Z-up world
    small = view.camera.resized(128, 96)
    seen = image(load_splat(out / "splat.ply"), pose, camera)
    assert psnr(seen, image(bundle.splat(), view.world_from_camera, small)) > 80


def test_thumbnails_stand_in_for_photos(bundle: Bundle, out: Path):
    """Where there is one; else the photo's name and size."""
    frames = frames_of(out)
    for frame, view in zip(frames[:WITH_THUMBNAIL], bundle.cameras, strict=False):
        assert (frame["w"], frame["h"]) == (128, 96)
        with Image.open(out / frame["file_path"]) as copied, Image.open(bundle.path(str(view.thumbnail))) as kept:
            assert copied.getpixel((5, 5)) == kept.getpixel((5, 5))
    for frame, view in zip(frames[WITH_THUMBNAIL:], bundle.cameras[WITH_THUMBNAIL:], strict=True):
        assert (frame["w"], frame["file_path"]) == (view.camera.width, f"images/{view.name}")


def test_the_split_is_the_bundles(bundle: Bundle, out: Path):
    """Views that the splat never saw are what nerfstudio evaluates on."""
    content = json.loads((out / "transforms.json").read_text())
    held = [f["file_path"] for f, view in zip(content["frames"], bundle.cameras, strict=True) if view.held_out]
    assert content["test_filenames"] == content["val_filenames"] == held
    assert len(held) == 2
    assert len(content["train_filenames"]) == len(bundle.cameras) - 2


def test_the_reader_takes_it(bundle: Bundle, out: Path, tmp_path: Path):
    """All frames with an image, at their intrinsics and headings."""
    content = json.loads((out / "transforms.json").read_text())
    content["frames"] = content["frames"][:WITH_THUMBNAIL]
    (out / "transforms.json").write_text(json.dumps(content))
    capture = read_with(READER, out, tmp_path / "canonical")
    for frame, view in zip(capture.frames, bundle.cameras[:WITH_THUMBNAIL], strict=True):
        assert frame.world_from_camera is not None
        assert angle_deg(frame.world_from_camera.rotation, view.world_from_camera.rotation) < 0.01
        assert frame.camera == view.camera.resized(128, 96)

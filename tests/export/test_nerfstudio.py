"""Data sets of nerfstudio: by the rules of its documents and its parser, and read by the reader of transforms.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import open3d
import pytest
from PIL import Image

from pipeline.capture.reconstructions.nerfstudio import READER
from pipeline.export.datasets import export_nerfstudio
from pipeline.geometry import Camera, Pose, angle_deg
from pipeline.scenes.bundle import Bundle
from pipeline.splat.ply import load_splat
from tests.capture.writers.reading import read_with
from tests.export.conftest import WITH_THUMBNAIL, cloud_of, image, psnr
from tests.synthetic import Room


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


def test_its_parser_finds_what_it_asks_for(bundle: Bundle, out: Path):
    """nerfstudio_dataparser.py: an intrinsic in each frame or above them, files of each split among the frames."""
    content = json.loads((out / "transforms.json").read_text())
    assert content["camera_model"] == "PINHOLE"
    assert content["orientation_override"] == "none"
    for frame in content["frames"]:
        assert all(float(frame[key]) > 0 for key in ("fl_x", "fl_y", "cx", "cy", "h", "w"))
        np.testing.assert_array_equal(np.array(frame["transform_matrix"])[3], [0, 0, 0, 1])
    files = [frame["file_path"] for frame in content["frames"]]
    assert len(set(files)) == len(files)
    assert all(set(content[f"{split}_filenames"]) <= set(files) for split in ("train", "val", "test"))
    np.testing.assert_array_equal(np.array(content["applied_transform"]), np.eye(4)[:3])


def test_others_read_its_plys(bundle: Bundle, out: Path, room: Room):
    """The cloud by Open3D, as nerfstudio's parser does; the splat by gsply."""
    cloud = open3d.io.read_point_cloud(str(out / "points.ply"))
    np.testing.assert_allclose(np.asarray(cloud.points), cloud_of(room).points, atol=1e-6)
    np.testing.assert_allclose(np.asarray(cloud.colors) * 255, cloud_of(room).colors, atol=1e-6)
    read, splat = gsply.plyread(out / "splat.ply"), bundle.classic_splat()
    np.testing.assert_array_equal(read.means, splat.means)
    np.testing.assert_array_equal(read.scales, splat.log_scales)
    np.testing.assert_array_equal(read.sh0, splat.sh[:, 0])


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

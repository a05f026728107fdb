"""ROS messages into images, depth, lenses and points."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.capture.bags.messages import depth_of, image_of, lens_of, points_of
from pipeline.capture.frames import undistorted_image
from pipeline.capture.lens import camera_of
from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from pipeline.io.image_files import BadImageError
from tests.capture.conftest import asymmetric
from tests.capture.writers.rosbag import png

RGB = np.asarray(asymmetric())
LENS = Camera(320, 240, 245.0, 243.0, 158.5, 121.5)


def image(encoding: str, pixels: np.ndarray, *, big: int = 0, padding: int = 5) -> Any:
    """An Image whose rows are padded."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    height, width = pixels.shape[:2]
    return SimpleNamespace(
        encoding=encoding, width=width, height=height, step=rows.shape[1], is_bigendian=big, data=rows.ravel()
    )


def info(model: str, d: list[float], **changes: Any) -> Any:
    """A CameraInfo of ROS 2, whose pixel centres are integers."""
    k = LENS.matrix
    k[:2, 2] -= 0.5
    p = np.concatenate([k, np.zeros((3, 1))], 1)
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    values = {
        "width": 320,
        "height": 240,
        "k": k.ravel(),
        "p": p.ravel(),
        "d": d,
        "roi": roi,
        "distortion_model": model,
    }
    return SimpleNamespace(**{**values, "binning_x": 0, "binning_y": 0, **changes})


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])),
        ("bgra8", np.dstack([RGB[..., ::-1], np.full(RGB.shape[:2], 255, np.uint8)])),
    ],
)
def test_colours_come_back_exactly(encoding: str, stored: np.ndarray) -> None:
    """Whatever the order of channels, and with padded rows."""
    assert np.array_equal(np.asarray(image_of(image(encoding, stored)).image), RGB)


@pytest.mark.parametrize(("encoding", "red"), [("rggb", (0, 0)), ("bggr", (1, 1)), ("gbrg", (1, 0)), ("grbg", (0, 1))])
def test_bayer_patterns(encoding: str, red: tuple[int, int]) -> None:
    """Named by the first row's first two pixels; areas of one colour come back but for their edges."""
    mosaic = RGB[..., 1].copy()
    row, column = red
    mosaic[row::2, column::2] = RGB[row::2, column::2, 0]
    mosaic[1 - row :: 2, 1 - column :: 2] = RGB[1 - row :: 2, 1 - column :: 2, 2]
    found = np.asarray(image_of(image(f"bayer_{encoding}8", mosaic)).image)
    for v, u in ((16, 8), (8, 36), (24, 36)):
        assert np.array_equal(found[v, u], RGB[v, u])


def test_grey_and_yuv() -> None:
    """mono8 becomes three equal channels; yuv422 is UYVY."""
    grey = RGB[..., 1]
    assert np.array_equal(np.asarray(image_of(image("mono8", grey)).image)[..., 2], grey)
    uyvy = np.dstack([np.tile([90, 160], 24)[None].repeat(32, 0), np.full((32, 48), 120)]).astype(np.uint8)
    found = np.asarray(image_of(image("yuv422", uyvy)).image)
    assert np.array_equal(found, cv2.cvtColor(uyvy, cv2.COLOR_YUV2RGB_UYVY))
    assert found[5, 5, 0] > found[5, 5, 2]


@pytest.mark.parametrize(
    "changes", [{"encoding": "tiff"}, {"step": 10}, {"height": 10**6}, {"data": np.zeros(9, np.uint8)}]
)
def test_images_that_lie_are_bad(changes: dict[str, Any]) -> None:
    """An unknown encoding, or a size that the data don't have."""
    with pytest.raises(BadImageError):
        image_of(SimpleNamespace(**{**vars(image("rgb8", RGB)), **changes}))


def test_depth_in_millimetres_and_metres() -> None:
    """16UC1 of either byte order, 32FC1 with NaN; compressed as PNG after a header of 12 bytes."""
    depth = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 321
    depth[1, 2] = 0
    assert np.array_equal(depth_of(image("16UC1", depth), "x"), depth)
    assert np.array_equal(depth_of(image("16UC1", depth.astype(">u2"), big=1), "x"), depth)
    metres = np.where(depth > 0, depth / 1000, np.nan).astype(np.float32)
    assert np.array_equal(depth_of(image("32FC1", metres), "x"), depth)
    packed = SimpleNamespace(format="16UC1; compressedDepth png", data=bytes(12) + png(depth))
    assert np.array_equal(depth_of(packed, "x"), depth)


def test_inverse_depth_comes_back() -> None:
    """32FC1 is packed as a / depth + b, both in the header (compressed_depth_image_transport)."""
    metres = np.linspace(0.5, 6, 12).reshape(3, 4)
    a, b = 100.0 * 101.0, 1 - 100.0 * 101.0 / 10
    stored = np.round(a / metres + b).astype(np.uint16)
    stored[0, 0] = 0
    message = SimpleNamespace(format="32FC1; compressedDepth", data=struct.pack("<iff", 0, a, b) + png(stored))
    found = depth_of(message, "x") / 1000
    assert found[0, 0] == 0
    assert np.allclose(found.ravel()[1:], metres.ravel()[1:], atol=0.003)


def test_depth_for_the_eye_is_refused() -> None:
    """Colours show no distances; other compressions than PNG are named."""
    with pytest.raises(CaptureError, match="16UC1"):
        depth_of(image("bgr8", RGB), "topic /depth")
    with pytest.raises(CaptureError, match="header of 12 bytes"):
        depth_of(SimpleNamespace(format="16UC1; compressedDepth rvl", data=bytes(40)), "topic /depth")


def test_lens_is_kept_where_it_can_be() -> None:
    """k1, k2, p1, p2, with the pixel centres moved by half a pixel."""
    camera = camera_of(lens_of(info("plumb_bob", [0.1, -0.05, 0.001, 0.002, 0.0]), "x"), "x")
    assert (camera.fx, camera.cy, camera.distortion) == (245.0, 121.5, (0.1, -0.05, 0.001, 0.002))


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("plumb_bob", [-0.28, 0.09, 0.001, -0.001, -0.02]),
        ("rational_polynomial", [0.4, -0.3, 0.0004, -0.0002, 0.2, 0.7, -0.25, 0.1]),
        ("equidistant", [-0.03, 0.004, -0.002, 0.0005]),
    ],
)
def test_other_lenses_are_straightened(model: str, d: list[float]) -> None:
    """A spot where the lens shows some direction moves to where the pinhole camera has it."""
    ray = np.array([0.25, -0.2, 1.0])
    lens = lens_of(info(model, d), "x")
    k = LENS.matrix
    k[:2, 2] -= 0.5
    zero = np.zeros(3)
    if model == "equidistant":
        spot = cv2.fisheye.projectPoints(ray.reshape(1, 1, 3), zero, zero, k, np.array(d))[0].ravel()
    else:
        spot = cv2.projectPoints(ray.reshape(1, 1, 3), zero, zero, k, np.array(d))[0].ravel()
    v, u = np.mgrid[:240, :320]
    blob = (255 * np.exp(-((u - spot[0]) ** 2 + (v - spot[1]) ** 2) / 18)).astype(np.uint8)
    decoded = image_of(image("mono8", blob))
    camera = camera_of(lens, "x")
    straight = np.asarray(undistorted_image(decoded, None, lens, camera).image, float)[..., 0]
    found = np.array([(straight * (u + 0.5)).sum(), (straight * (v + 0.5)).sum()]) / straight.sum()
    assert camera.is_pinhole
    assert np.allclose(found, camera.project(ray), atol=0.1)


def test_rectified_images_use_p() -> None:
    """image_rect has the projection matrix's intrinsics and no distortion."""
    p = np.array([[200.0, 0, 150, 0], [0, 201, 119, 0], [0, 0, 1, 0]]).ravel()
    camera = camera_of(lens_of(info("plumb_bob", [0.1, 0, 0, 0, 0], p=p), "x", rectified=True), "x")
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (200.0, 201.0, 150.5, 119.5)
    assert camera.is_pinhole


def test_binning_and_region() -> None:
    """A driver that sends half the pixels of a part of the sensor."""
    roi = SimpleNamespace(x_offset=40, y_offset=20, width=240, height=200)
    camera = camera_of(lens_of(info("plumb_bob", [], roi=roi, binning_x=2, binning_y=2), "x"), "x")
    assert (camera.width, camera.height, camera.fx) == (120, 100, 122.5)
    assert (camera.cx, camera.cy) == pytest.approx(((158.5 - 40) / 2, (121.5 - 20) / 2))


def test_unknown_lens_is_refused() -> None:
    """With the way out."""
    with pytest.raises(CaptureError, match="plumb_bob") as error:
        lens_of(info("omni", [1.0, 0.1, 0.1, 0.1, 0.1]), "x")
    assert "rectify" in error.value.remedy


def cloud(points: np.ndarray, **changes: Any) -> Any:
    """A PointCloud2 with z before x, as nobody forbids."""
    fields = [SimpleNamespace(name=n, offset=o, datatype=7) for n, o in (("z", 0), ("x", 4), ("y", 12))]
    data = np.zeros((len(points), 4), np.float32)
    data[:, [1, 3, 0]] = points
    values = {"fields": fields, "is_bigendian": False, "point_step": 16, "width": len(points), "height": 1}
    return SimpleNamespace(**{**values, "data": np.frombuffer(data.tobytes(), np.uint8), **changes})


def test_points_come_back_without_nan() -> None:
    """By the fields' names and offsets."""
    points = np.array([[1.0, 2, 3], [np.nan, 0, 0], [-4, 5, -6]], np.float32)
    assert np.array_equal(points_of(cloud(points), "x"), points[[0, 2]])


@pytest.mark.parametrize("changes", [{"width": 10**7}, {"point_step": 8}, {"fields": []}])
def test_cloud_that_lies_is_refused(changes: dict[str, Any]) -> None:
    """More points than bytes, fields beyond a point, or none."""
    with pytest.raises(CaptureError, match="point cloud"):
        points_of(cloud(np.zeros((4, 3), np.float32), **changes), "x")

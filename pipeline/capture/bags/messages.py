"""ROS messages in our own types: images, depth, cameras and clouds.

Sources: sensor_msgs (Image, CompressedImage, CameraInfo, PointCloud2), REP 103, REP 118 and the image_transport plugin
compressed_depth_image_transport. A message is what `rosbags` deserialised: ROS 1 and 2 alike but for CameraInfo's
names, which are D, K, P in ROS 1 and d, k, p in ROS 2.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from PIL import Image

from pipeline.capture.depth_images import decode_png, depth_of_png, millimetres
from pipeline.capture.images import DecodedImage, load_image
from pipeline.capture.lens import Lens, checked_lens, opencv_lens
from pipeline.capture.model import Size
from pipeline.errors import CaptureError
from pipeline.io.image_files import MAX_PIXELS, BadImageError
from pipeline.types import F32, F64, U16

if TYPE_CHECKING:
    from rosbags.typesys.stores.ros2_humble import sensor_msgs__msg__CameraInfo as CameraInfo
    from rosbags.typesys.stores.ros2_humble import sensor_msgs__msg__Image as RawImage
    from rosbags.typesys.stores.ros2_humble import sensor_msgs__msg__PointCloud2 as PointCloud2
    from rosbags.typesys.stores.ros2_humble import std_msgs__msg__Header as Header

DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")
_ENCODINGS = {
    "rgb8": (3, None),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    # OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by the first row's first two
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}
"""Channels and OpenCV's conversion into RGB of each encoding of visible images."""
_PNG = b"\x89PNG"
_DEPTH_HEADER = 12
_POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


def is_image(encoding: str) -> bool:
    """Whether an encoding is that of a visible image."""
    return encoding in _ENCODINGS


class WithHeader(Protocol):
    """A message, or a part of one, with a header."""

    header: Header


def stamp_of(message: WithHeader) -> float | None:
    """The header's time [s], or None where it is zero."""
    stamp = message.header.stamp
    return stamp.sec + 1e-9 * stamp.nanosec or None


def image_of(message: Any) -> DecodedImage:
    """The image of an Image or CompressedImage.

    Raises:
        BadImageError: When its encoding isn't known or its data are incomplete.
    """
    if not hasattr(message, "encoding"):
        return load_image(bytes(message.data), upright=False)
    if message.encoding not in _ENCODINGS:
        raise BadImageError(f"the encoding {message.encoding!r}; known are {', '.join(_ENCODINGS)} and JPEG or PNG")
    channels, conversion = _ENCODINGS[message.encoding]
    pixels = np.ascontiguousarray(_pixels(message, np.dtype(np.uint8), channels))
    rgb = pixels if conversion is None else cv2.cvtColor(pixels, conversion)
    return DecodedImage(Image.fromarray(np.ascontiguousarray(rgb)))


def depth_of(message: Any, file: str) -> U16:
    """Depth (H, W) [mm], 0 = unknown, of an Image or CompressedImage; 16-bit integers are millimetres (REP 118).

    Raises:
        BadImageError: When it can't be decoded.
        CaptureError: When it holds no depth.
    """
    if not hasattr(message, "encoding"):
        return _compressed_depth(bytes(message.data), message.format, file)
    if message.encoding == "32FC1":
        return millimetres(_pixels(message, np.dtype(np.float32), 1))
    if message.encoding in DEPTH_ENCODINGS:
        depth = _pixels(message, np.dtype(np.uint16), 1)
        return np.where(depth == 65535, 0, depth).astype(np.uint16)
    raise CaptureError(
        "depth must be 16UC1 (millimetres) or 32FC1 (metres)",
        found=f"the encoding {message.encoding!r}",
        remedy="name the topic of raw depth",
        file=file,
    )


def _compressed_depth(data: bytes, form: str, file: str) -> U16:
    """PNG after a header of 12 bytes: an enum and, for 32-bit depth, the two parameters of its inverse."""
    start = 0 if data.startswith(_PNG) else _DEPTH_HEADER
    if not data[start:].startswith(_PNG):
        raise CaptureError(
            "compressed depth must be a PNG, after a header of 12 bytes or by itself",
            found=f"the format {form!r}, which is none",
            remedy="republish it uncompressed (image_transport republish compressedDepth raw)",
            file=file,
        )
    if start == 0 or not form.startswith("32FC1"):
        return depth_of_png(data[start:], file)
    slope, offset = struct.unpack_from("<ff", data, 4)
    inverse = np.asarray(decode_png(data[start:]), np.float64)
    if inverse.ndim != 2:
        raise BadImageError("its PNG can't be decoded")
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = slope / (inverse - offset)
    return millimetres(np.where(inverse > 0, metres, 0))


def _pixels(message: RawImage, dtype: np.dtype, channels: int) -> np.ndarray:
    """(H, W) or (H, W, channels); rows may be padded."""
    width, height, step = int(message.width), int(message.height), int(message.step)
    if not 0 < width * height <= MAX_PIXELS:
        raise BadImageError(f"{width} x {height} pixels")
    row = width * channels * dtype.itemsize
    data = np.asarray(message.data, np.uint8)
    if step < row or len(data) < step * (height - 1) + row:
        raise BadImageError(f"{len(data)} bytes, too few for {width} x {height} of {channels * dtype.itemsize} each")
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
    values = np.ascontiguousarray(rows).view(dtype.newbyteorder(">" if message.is_bigendian else "<"))
    return values.reshape((height, width) if channels == 1 else (height, width, channels)).astype(dtype, copy=False)


def lens_of(info: CameraInfo, file: str, *, rectified: bool = False) -> Lens:
    """The lens of a CameraInfo for the images that the driver sends: a region of the sensor, binned.

    Pixel centres move from integers to +0.5. Of rectified images P counts instead of K, and no distortion.

    Raises:
        CaptureError: When the camera isn't calibrated, or its model isn't known.
    """
    matrix = _numbers(info, "K").reshape(3, 3)
    if rectified:
        projection = _numbers(info, "P").reshape(3, 4)[:, :3]
        matrix = projection if projection[0, 0] > 0 else matrix
    width, height = int(info.width), int(info.height)
    roi, binning = info.roi, np.maximum([info.binning_x, info.binning_y], 1).astype(np.float64)
    if roi.width and roi.height and (roi.width, roi.height) != (width, height):
        matrix[:2, 2] -= roi.x_offset, roi.y_offset
        width, height = int(roi.width), int(roi.height)
    if (binning > 1).any():
        matrix[:2, 2] = (matrix[:2, 2] + 0.5) / binning - 0.5
        matrix[[0, 1], [0, 1]] /= binning
    coefficients = np.zeros(0) if rectified else _numbers(info, "D")
    size = int(width // binning[0]), int(height // binning[1])
    return calibrated_lens(matrix, size, info.distortion_model or "plumb_bob", coefficients, file)


def calibrated_lens(matrix: F64, size: Size, model: str, coefficients: F64, file: str) -> Lens:
    """A lens by its matrix (3, 3), pixel centres at integers, without distortion where all coefficients are zero.

    Raises:
        CaptureError: When the camera isn't calibrated, its model isn't known, or the numbers don't fit the size.
    """
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CaptureError(
            "a CameraInfo must hold the camera's calibration",
            found=f"fx, fy = {matrix[0, 0]:g}, {matrix[1, 1]:g}: the camera is not calibrated",
            remedy="calibrate it (camera_calibration) or leave its camera_info topic out of the bag",
            file=file,
        )
    intrinsics = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    if not coefficients.any():
        return checked_lens("PINHOLE", size, [*intrinsics[:2], *(matrix[:2, 2] + 0.5)], file)
    return opencv_lens(intrinsics, size, model, coefficients, file)


def _numbers(info: CameraInfo, name: str) -> F64:
    """A copy of one of its arrays, by the name in ROS 1."""
    return np.array(getattr(info, name if hasattr(info, name) else name.lower()), np.float64)


def points_of(cloud: PointCloud2, file: str) -> F32:
    """Finite points (N, 3) [m] of a PointCloud2, in its own frame.

    Raises:
        CaptureError: When it has no x, y, z or fewer data than it declares.
    """
    fields = {field.name: field for field in cloud.fields}
    order = ">" if cloud.is_bigendian else "<"
    step, count = int(cloud.point_step), int(cloud.width) * int(cloud.height)
    known = [fields[name] for name in "xyz" if name in fields and fields[name].datatype in _POINT_TYPES]
    types = [order + _POINT_TYPES[field.datatype] for field in known]
    offsets = [int(field.offset) for field in known]
    fits = all(at >= 0 and at + np.dtype(kind).itemsize <= step for at, kind in zip(offsets, types, strict=True))
    data = np.asarray(cloud.data, np.uint8)
    if len(known) != 3 or not fits or len(data) < count * step or count > MAX_PIXELS:
        raise CaptureError(
            "a point cloud must have x, y and z and as many bytes as it declares",
            found=f"fields {sorted(fields)}, {len(data)} bytes for {count} points of {step}",
            remedy="record the cloud again, or leave its topic out",
            file=file,
        )
    layout = np.dtype({"names": list("xyz"), "formats": types, "offsets": offsets, "itemsize": step})
    values = np.frombuffer(data[: count * step].tobytes(), layout)
    points = np.stack([values[name].astype(np.float32) for name in "xyz"], -1)
    return points[np.isfinite(points).all(-1)]

"""Reader of Meshroom's cameras: AliceVision's SfMData as .sfm or .json.

Source: AliceVision's src/aliceVision/sfmDataIO/jsonIO.cpp (versions of the file, Eigen's matrices column by column)
and src/aliceVision/camera/Distortion*.cpp. A pose is the rotation camera-from-world and the camera's centre, in
OpenCV's axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from pydantic.alias_generators import to_camel

from pipeline.capture.beside.programs import MESHROOM
from pipeline.capture.checks import checked_pose
from pipeline.capture.frames import Size
from pipeline.capture.lens import Lens, brown_lens, checked_lens
from pipeline.capture.reconstructions.posed import PosedImage, Reconstruction, broken_poses, plain, posed_reader
from pipeline.capture.source import CaptureSource

CENTRED, IN_MILLIMETRES, ASPECT_OF_PIXELS = (1, 2, 1), (1, 2, 2), (1, 2, 5)
"""Versions from which the principal point is measured from the middle, the focal length in millimetres of the sensor,
and pixelRatio that of pixels."""
_RADIAL = {"": 0, "none": 0, "pinhole": 0, "radial1": 1, "radialk1": 1, "radial3": 3, "radialk3": 3}
"""Number of radial terms by model; the name is that of the camera or, in later versions, of its distortion."""


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Transform(_Part):
    rotation: Annotated[list[float], Field(min_length=9, max_length=9)]
    center: Annotated[list[float], Field(min_length=3, max_length=3)]


class _CameraPose(_Part):
    transform: _Transform


class _Pose(_Part):
    pose_id: str
    pose: _CameraPose


class _View(_Part):
    path: str
    pose_id: str = ""
    intrinsic_id: str = ""


class _Intrinsic(_Part):
    intrinsic_id: str
    width: int
    height: int
    type: str
    distortion_type: str = ""
    sensor_width: FiniteFloat = 36.0
    focal_length: FiniteFloat = 0.0
    px_focal_length: FiniteFloat | list[FiniteFloat] = 0.0
    pixel_ratio: FiniteFloat = 1.0
    principal_point: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]
    distortion_params: list[FiniteFloat] | str = ""


class _Content(_Part):
    version: Annotated[list[int], Field(min_length=3, max_length=3)]
    views: list[_View] = []
    intrinsics: list[_Intrinsic] = []
    poses: list[_Pose] = []
    rigs: list[object] = []


def _pinhole(of: _Intrinsic, version: tuple[int, ...]) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy [px]."""
    if version >= IN_MILLIMETRES:
        fx = of.focal_length / of.sensor_width * of.width if of.sensor_width else 0.0
        ratio = of.pixel_ratio if version >= ASPECT_OF_PIXELS else 1 / of.pixel_ratio if of.pixel_ratio else 0.0
        fy = fx * ratio
    else:
        stated = of.px_focal_length if isinstance(of.px_focal_length, list) else [of.px_focal_length]
        fx, fy = stated[0], stated[-1]
    middle = (of.width / 2, of.height / 2) if version >= CENTRED else (0.0, 0.0)
    return fx, fy, middle[0] + of.principal_point[0], middle[1] + of.principal_point[1]


def _lens(of: _Intrinsic, version: tuple[int, ...], file: str) -> Callable[[Size], Lens]:
    model = (of.distortion_type or of.type) if of.type == "pinhole" else of.type
    size, pinhole = (of.width, of.height), _pinhole(of, version)
    terms = of.distortion_params if isinstance(of.distortion_params, list) else []
    if model in _RADIAL:
        return lambda _any: brown_lens(pinhole, size, (terms + [0.0] * 3)[: _RADIAL[model]], (0.0, 0.0), file)
    if model == "brown" and len(terms) == 5:
        return lambda _any: brown_lens(pinhole, size, terms[:3], (terms[3], terms[4]), file)
    if model in ("fisheye", "fisheye4") and len(terms) == 4:
        return lambda _any: checked_lens("OPENCV_FISHEYE", size, [*pinhole, *terms], file)
    raise ValueError(f"a camera of the model {model!r:.40} with {len(terms)} terms")


def _parse(source: CaptureSource, name: str) -> Reconstruction:
    content, file = source.read_model(name, _Content), source.where(name)
    version = tuple(content.version)
    rule = "cameras must be pinholes with radial or Brown's distortion or fisheyes, and of no rig"
    try:
        if content.rigs:
            raise ValueError(f"{len(content.rigs)} rigs")
        if any(len(of.px_focal_length) == 0 for of in content.intrinsics if isinstance(of.px_focal_length, list)):
            raise ValueError("pxFocalLength without a number")
        used = {view.intrinsic_id for view in content.views}
        lenses = {of.intrinsic_id: _lens(of, version, file) for of in content.intrinsics if of.intrinsic_id in used}
    except ValueError as error:
        raise broken_poses(source, name, MESHROOM, rule, str(error)) from error
    poses: Mapping[str, _Transform] = {entry.pose_id: entry.pose.transform for entry in content.poses}
    images, unposed = [], []
    for view in content.views:
        listed, transform, lens = plain(view.path), poses.get(view.pose_id), lenses.get(view.intrinsic_id)
        if transform is None or lens is None:
            unposed.append(listed)
            continue
        world_from_camera = np.reshape(transform.rotation, (3, 3))  # by columns, camera from world: its transpose
        matrix = np.c_[world_from_camera, transform.center]
        images.append(PosedImage(listed, checked_pose(matrix, f"{file}: {listed}"), lens))
    return Reconstruction([name], images, unposed)


READER = posed_reader(
    "meshroom",
    MESHROOM,
    "cameras of Meshroom (folder or zip): cameras.sfm (or sfm.json) and the images",
    _parse,
    "poses, lens distortion",
)

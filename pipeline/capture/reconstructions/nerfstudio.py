"""Reader of transforms.json: nerfstudio, instant-ngp, NeRF-synthetic (Blender) and NeRFCapture write it.

Sources: nerfstudio's docs "Data conventions" and its nerfstudio_dataparser.py; instant-ngp's nerf_loader.cu and
nerfcapture2nerf.py; DatasetWriter.swift of github.com/jc211/NeRFCapture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.capture.checks import checked_camera, checked_pose
from pipeline.capture.frames import FrameFiles, ListedFrame, sensor_capture, thinned, through_lens
from pipeline.capture.lens import Lens, checked_lens
from pipeline.capture.model import Capture, Size, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit import ARKIT, up_by_first
from pipeline.capture.reader import Reader, Sensors, Survey, require_images
from pipeline.capture.reconstructions.posed import NO_FILE, keys_and_names, notes_on, room_sized
from pipeline.capture.reconstructions.transforms_json import (
    MAIN,
    SPLITS,
    Depth,
    Entry,
    depth_of,
    json_files,
    list_frames,
    masks_of,
)
from pipeline.capture.source import CaptureSource
from pipeline.geometry import Camera, Pose
from pipeline.types import F64

_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_NO_IMAGE = ("ftheta_p0", "latlong", "equirectangular")


def _survey(source: CaptureSource) -> Survey:
    listed = list_frames(source)
    entries = [entry for entry in listed if entry.image]
    depth, images = depth_of(source, entries), [entry.image for entry in entries if entry.image]
    return Survey(
        sorted({*json_files(source), *images, *depth.files.values(), *masks_of(source, entries).values()}),
        len(entries),
        has_poses=True,
        has_depth=bool(depth.files),
        has_gravity=bool(listed) and _up(listed[0]) is not None,
        has_scale=_is_metric(entries, depth=bool(depth.files)),
        missing=tuple(entry.listed for entry in listed if entry.image is None),
    )


def _is_metric(entries: Sequence[Entry], *, depth: bool) -> bool:
    """Whether the poses are in metres: those of files with depth are, and those of NeRFCapture (ARKit's)."""
    return depth or (bool(entries) and all(entry.is_nerfcapture for entry in entries))


def _focal(given: float | None, degrees: float | None, radians: float | None, pixels: int) -> float | None:
    """Focal length along one axis [px], given, or by the angle of view over that many pixels."""
    angle = radians if degrees is None else math.radians(degrees)
    if given is not None or angle is None:
        return given
    return 0.5 * pixels / math.tan(0.5 * angle) if 0 < angle < math.pi else math.nan


def _intrinsics(entry: Entry, size: Size) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy [px] of an image of that size, in our convention."""
    fx = _focal(entry.fl_x, entry.x_fov, entry.camera_angle_x, size[0])
    fy = _focal(entry.fl_y, entry.y_fov, entry.camera_angle_y, size[1])
    fx, fy = (fy if fx is None else fx), (fx if fy is None else fy)
    if fx is None or fy is None:
        rule = "a frame needs a focal length: fl_x, x_fov or camera_angle_x, of its own or at the top of the file"
        raise entry.broken(rule, "none of them", "write the cameras again with the tool that made the file")
    half = 0.5 if entry.is_nerfcapture else 0.0  # ARKit counts from the middle of the first pixel
    cx, cy = (0.5 * side if at is None else at + half for at, side in zip((entry.cx, entry.cy), size, strict=True))
    return fx, fy, cx, cy


def _optics(entry: Entry) -> Lens | Callable[[Size], Camera]:
    """The frame's lens, or a pinhole camera where the images' size is not given."""
    model, ks = entry.camera_model, (entry.k1, entry.k2, entry.k3, entry.k4)
    distorted = any((*ks, entry.p1, entry.p2))
    panorama = [key for key in _NO_IMAGE if getattr(entry, key)]
    fisheye = model == "OPENCV_FISHEYE" or (entry.is_fisheye and distorted)
    if panorama or not (fisheye or model in _PERSPECTIVE):
        rule = f"camera_model must be one of {', '.join(_PERSPECTIVE)} or OPENCV_FISHEYE"
        found = f"{model!r}"[:80] if not panorama else f"a panorama or f-theta lens ({panorama[0]})"
        remedy = "render straight images from it, or undistort the images, and write their cameras"
        raise entry.broken(rule, found, remedy)
    if entry.w is None or entry.h is None:
        if fisheye or distorted:
            rule = "a lens with distortion needs the size of its images"
            raise entry.broken(rule, "no w and h", "write w and h [px] into the file")
        return lambda any_size: checked_camera(_intrinsics(entry, any_size), any_size, entry.where)
    size = round(entry.w), round(entry.h)
    middle = _intrinsics(entry, size)
    if fisheye:
        radius = entry.fisheye_crop_radius or None
        return checked_lens("OPENCV_FISHEYE", size, [*middle, *ks], entry.where, radius)
    if entry.k4:
        rule = "a perspective camera may have the distortion k1, k2, k3, p1 and p2"
        remedy = "a fisheye has camera_model OPENCV_FISHEYE; else undistort the images"
        raise entry.broken(rule, f"k4 = {entry.k4:g}", remedy)
    params = [*middle, entry.k1, entry.k2, entry.p1, entry.p2]
    if entry.k3:
        return checked_lens("FULL_OPENCV", size, [*params, entry.k3, 0, 0, 0], entry.where)
    return checked_lens("OPENCV", size, params, entry.where)


def _applied_transform(entry: Entry) -> Pose:
    """What the writer did to the world: saved = applied_scale * (applied_transform @ original)."""
    return checked_pose(entry.applied_transform or np.eye(4), f"{entry.where}, applied_transform")


def original_pose(entry: Entry) -> Pose:
    """World from camera, in CV axes and the world before `applied_transform` and `applied_scale`."""
    if entry.transform_matrix is None:
        rule = "a frame needs transform_matrix: 4x4 numbers, camera-to-world"
        raise entry.broken(rule, "no such key", "remove the frame, or write it again")
    saved = checked_pose(entry.transform_matrix, f"{entry.where}, transform_matrix", axes="GL")
    return _applied_transform(entry).inverse() @ Pose(saved.rotation, saved.translation / entry.applied_scale)


def _up(entry: Entry) -> F64 | None:
    """The world's up direction (3,) by the first frame: the file's, else ARKit's where NeRFCapture wrote it."""
    if entry.up is None:
        return up_by_first(original_pose(entry)) if entry.is_nerfcapture else None
    up = np.array(entry.up)
    if up.shape != (3,) or not np.isfinite(up).all() or not np.linalg.norm(up) > 0:
        raise entry.broken("up must be a direction of three numbers", f"{up.tolist()}", "remove it")
    return _applied_transform(entry).inverse().rotate(up / np.linalg.norm(up))


def _frames(source: CaptureSource, entries: Sequence[Entry], depth: Depth, poses: Sequence[Pose]) -> list[ListedFrame]:
    """Frames of entries that have an image, through their lenses."""
    images = [entry.image for entry in entries if entry.image]
    files = FrameFiles(source, masks_of(source, entries), depth.units_per_metre)
    timed = all(entry.timestamp is not None for entry in entries)
    frames = []
    for entry, image, (key, name), pose in zip(entries, images, keys_and_names(images), poses, strict=True):
        optics, time = _optics(entry), entry.timestamp if timed else None
        frame = files.frame(key, image, time, depth.files.get(entry.listed))
        frame = replace(frame, name=name, world_from_camera=pose)
        through = isinstance(optics, Lens)
        frames.append(through_lens(frame, optics, source.where(image)) if through else replace(frame, camera=optics))
    return frames


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listed = list_frames(source)
    entries, missing = [entry for entry in listed if entry.image], [e.listed for e in listed if e.image is None]
    require_images(len(entries), missing, params, source.folder)
    depth = depth_of(source, entries)
    poses, notes = [original_pose(entry) for entry in entries], depth.notes
    metric, factor = _is_metric(entries, depth=bool(depth.files)), 1.0
    if not metric:
        poses, factor, scale_notes = room_sized(poses)
        notes += scale_notes
    if ignored := sum(entry.shadowed for entry in entries):
        notes += (f"{ignored} frames have intrinsics of their own; those at the top of the file are used",)
    frames = _frames(source, entries, depth, poses)
    if elsewhere := [entry.image for entry in entries if not entry.is_in_place]:
        notes += (f"{len(elsewhere)} images are not where they are listed: found by their names, first {elsewhere[0]}",)
    notes += notes_on(map(_optics, entries), depth=bool(depth.files))
    return sensor_capture(
        READER,
        thinned(frames, params),
        source,
        out_dir,
        params,
        metric=metric,
        up_in_world=_up(listed[0]),
        up_sigma_deg=ARKIT.up_sigma_deg if listed[0].is_nerfcapture and listed[0].up is None else None,
        skipped=[Skipped(name, NO_FILE) for name in missing],
        notes=notes,
        one_camera=False,
        source_scale=1 / factor,
    )


READER = Reader(
    kind="nerfstudio",
    form="a nerfstudio, instant-ngp, NeRFCapture or NeRF-synthetic folder (or zip): transforms.json (or "
    "transforms_train.json ...) and the images it names",
    yields="poses, lens distortion; depth and metric scale where the file has them",
    recognise=lambda source: any("frames" in source.read_object(name) for name in json_files(source)[:1]),
    survey=_survey,
    read=_read,
    index="|".join(map(re.escape, (MAIN, *SPLITS))),
    # depth in millimetres or ARKit gives the scale, of which sensor the file does not say; people set "up" by hand
    sensors=Sensors(scale_sigma=0.02, up_sigma_deg=3.0),
)

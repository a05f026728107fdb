"""Reader of transforms.json: nerfstudio, instant-ngp, NeRF-synthetic (Blender) and NeRFCapture write it.

Sources: nerfstudio's docs "Data conventions" and its nerfstudio_dataparser.py; instant-ngp's nerf_loader.cu and
nerfcapture2nerf.py; DatasetWriter.swift of github.com/jc211/NeRFCapture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.checks import checked_camera, checked_pose, read_object
from pipeline.capture.frames import Size, sensor_capture, thinned
from pipeline.capture.lens import Lens, checked_lens
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader
from pipeline.capture.reconstructions.posed import keys_and_names, notes_on, posed_frame, room_sized, without_missing
from pipeline.capture.reconstructions.transforms_json import (
    Entry,
    depth_of,
    depth_reader,
    json_files,
    list_frames,
    masks_of,
)
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.stage import Traits

SCALE_SIGMA = 0.02
"""Where depth in millimetres or ARKit gives the scale; which sensor it was, the file does not say."""
UP_SIGMA_DEG = 3.0
"""Of a file's "up", which people set by hand."""
_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_NO_PICTURE = ("ftheta_p0", "latlong", "equirectangular")


def _recognise(source: CaptureSource) -> bool:
    files = json_files(source)
    return bool(files) and "frames" in read_object(source.read(files[0]), source.where(files[0]))


def _traits(source: CaptureSource) -> Traits:
    listed = list_frames(source)
    entries = [entry for entry in listed if entry.picture is not None]
    depth, up = bool(depth_of(source, entries).files), bool(entries) and _up(entries[0]) is not None
    return Traits(
        "nerfstudio",
        len(entries),
        has_poses=True,
        has_depth=depth,
        has_gravity=up,
        ordered=True,
        has_scale=_is_metric(entries, depth=depth),
        missing=tuple(entry.listed for entry in listed if entry.picture is None),
    )


def _is_metric(entries: Sequence[Entry], *, depth: bool) -> bool:
    """Whether the poses are in metres: those beside depth are, and those of NeRFCapture (ARKit's)."""
    return depth or (bool(entries) and all(map(_is_nerfcapture, entries)))


def _files(source: CaptureSource) -> list[str]:
    entries = [entry for entry in list_frames(source) if entry.picture]
    pictures = [entry.picture for entry in entries if entry.picture]
    extra = [*depth_of(source, entries).files, *masks_of(source, entries).values()]
    return sorted({*json_files(source), *pictures, *extra})


def _size(entry: Entry) -> Size | None:
    if "w" not in entry.values or "h" not in entry.values:
        return None
    return round(entry.number("w")), round(entry.number("h"))


def _focal(entry: Entry, axis: str, pixels: int) -> float | None:
    """Focal length along "x" or "y" [px], given, or by the angle of view in degrees or radians."""
    if f"fl_{axis}" in entry.values:
        return entry.number(f"fl_{axis}")
    if f"{axis}_fov" in entry.values:
        angle = math.radians(entry.number(f"{axis}_fov"))
    elif f"camera_angle_{axis}" in entry.values:
        angle = entry.number(f"camera_angle_{axis}")
    else:
        return None
    return 0.5 * pixels / math.tan(0.5 * angle) if 0 < angle < math.pi else math.nan


def _intrinsics(entry: Entry, size: Size) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy [px] of a picture of that size, in our convention.

    Raises:
        CaptureError: When there is no focal length.
    """
    fx, fy = _focal(entry, "x", size[0]), _focal(entry, "y", size[1])
    fx, fy = (fy if fx is None else fx), (fx if fy is None else fy)
    if fx is None or fy is None:
        raise CaptureError(
            "a frame needs a focal length: fl_x, x_fov or camera_angle_x, of its own or at the top of the file",
            found="none of them",
            remedy="write the cameras again with the tool that made the file",
            file=entry.place,
        )
    half = 0.5 if _is_nerfcapture(entry) else 0.0  # ARKit counts from the middle of the first pixel
    return fx, fy, entry.number("cx", size[0] / 2 - half) + half, entry.number("cy", size[1] / 2 - half) + half


def _optics(entry: Entry) -> Lens | Callable[[Size], Camera]:
    """The frame's lens, or a pinhole camera where the pictures' size is not given.

    Raises:
        CaptureError: When its model is none that can be read, or its numbers make no sense.
    """
    model = entry.values.get("camera_model", "OPENCV")
    ks = {key: entry.number(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2")}
    panorama = [key for key in _NO_PICTURE if entry.values.get(key)]
    fisheye = model == "OPENCV_FISHEYE" or (entry.values.get("is_fisheye") is True and any(ks.values()))
    if panorama or not (fisheye or model in _PERSPECTIVE):
        raise CaptureError(
            f"camera_model must be one of {', '.join(_PERSPECTIVE)} or OPENCV_FISHEYE",
            found=f"{model!r}"[:80] if not panorama else f"a panorama or f-theta lens ({panorama[0]})",
            remedy="render straight pictures from it, or undistort the pictures, and write their cameras",
            file=entry.place,
        )
    size = _size(entry)
    if size is None:
        if fisheye or any(ks.values()):
            raise CaptureError(
                "a lens with distortion needs the size of its pictures",
                found="no w and h",
                remedy="write w and h [px] into the file",
                file=entry.place,
            )
        return lambda any_size: checked_camera(_intrinsics(entry, any_size), any_size, entry.place)
    middle = list(_intrinsics(entry, size))
    radius = entry.number("fisheye_crop_radius") if entry.values.get("fisheye_crop_radius") else None
    if fisheye:
        return checked_lens("OPENCV_FISHEYE", size, [*middle, *list(ks.values())[:4]], entry.place, radius)
    if ks["k4"]:
        raise CaptureError(
            "a perspective camera may have the distortion k1, k2, k3, p1 and p2",
            found=f"k4 = {ks['k4']:g}",
            remedy="a fisheye has camera_model OPENCV_FISHEYE; else undistort the pictures",
            file=entry.place,
        )
    params = [*middle, ks["k1"], ks["k2"], ks["p1"], ks["p2"]]
    if ks["k3"]:
        return checked_lens("FULL_OPENCV", size, [*params, ks["k3"], 0, 0, 0], entry.place)
    return checked_lens("OPENCV", size, params, entry.place)


def _is_nerfcapture(entry: Entry) -> bool:
    return "depth_integer_scale" in entry.shared and "timestamp" in entry.own


def _numbers(value: object, rule: str, place: str) -> NDArray[np.float64]:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise CaptureError(rule, found=str(error), remedy="export the file again", file=place) from error


def _applied(entry: Entry) -> tuple[Pose, float]:
    """What the writer did to the world: saved = scale * (transform @ original)."""
    matrix = _numbers(entry.values.get("applied_transform", np.eye(4)), "applied_transform must be 3x4", entry.place)
    scale = entry.number("applied_scale", 1.0)
    if scale <= 0:
        raise CaptureError(
            "applied_scale must be positive", found=f"{scale:g}", remedy="export the file again", file=entry.place
        )
    return checked_pose(matrix, f"{entry.place}, applied_transform"), scale


def original_pose(entry: Entry) -> Pose:
    """World from camera, in CV axes and the world before `applied_transform` and `applied_scale`."""
    rule = "a frame needs transform_matrix: 4x4 numbers, camera-to-world"
    if "transform_matrix" not in entry.own:
        raise CaptureError(rule, found="no such key", remedy="remove the frame, or write it again", file=entry.place)
    saved = checked_pose(_numbers(entry.own["transform_matrix"], rule, entry.place), entry.place, axes="GL")
    transform, scale = _applied(entry)
    return transform.inverse() @ Pose(saved.rotation, saved.translation / scale)


def _up(entry: Entry) -> NDArray[np.float64] | None:
    """The world's up direction (3,), where the file states one."""
    if "up" not in entry.shared:
        return None
    up = _numbers(entry.shared["up"], "up must be a direction", entry.place)
    if up.shape != (3,) or not np.isfinite(up).all() or not np.linalg.norm(up) > 0:
        raise CaptureError(
            "up must be a direction of three numbers", found=f"{up.tolist()}", remedy="remove it", file=entry.place
        )
    return _applied(entry)[0].inverse().rotate(up / np.linalg.norm(up))


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listed = list_frames(source)
    skipped = without_missing([e.picture for e in listed], [e.listed for e in listed], source, params)
    entries = [entry for entry in listed if entry.picture is not None]
    depth, masks = depth_of(source, entries), masks_of(source, entries)
    files = dict(zip((entry.listed for entry in entries), depth.files, strict=False))
    pictures = [entry.picture for entry in entries if entry.picture is not None]
    poses, notes = [original_pose(entry) for entry in entries], depth.notes
    metric = _is_metric(entries, depth=bool(depth.files))
    if not metric:
        poses, about_scale = room_sized(poses)
        notes += about_scale
    if ignored := sum(entry.shadowed for entry in entries):
        notes += (f"{ignored} frames have intrinsics of their own; those at the top of the file are used",)
    timed = all("timestamp" in entry.own for entry in entries)
    lenses = [_optics(entry) for entry in entries]
    frames = [
        posed_frame(
            source,
            picture,
            names,
            lens,
            pose,
            mask=(lambda name=masks[picture]: source.read(name)) if picture in masks else None,
            depth=depth_reader(source, files[entry.listed], depth.units_per_metre) if depth.files else None,
            depth_name=files.get(entry.listed, ""),
            time=entry.number("timestamp") if timed else None,
        )
        for entry, picture, names, lens, pose in zip(
            entries, pictures, keys_and_names(pictures), lenses, poses, strict=True
        )
    ]
    if elsewhere := sum(not entry.is_in_place for entry in entries):
        notes += (f"{elsewhere} pictures are not where they are listed: found by their names, first {pictures[0]}",)
    notes += notes_on(lenses, depth=bool(depth.files))
    up = _up(listed[0]) if listed else None
    return sensor_capture(
        "nerfstudio",
        thinned(frames, params),
        source,
        out_dir,
        params,
        up_in_world=up,
        up_sigma_deg=None if up is None else UP_SIGMA_DEG,
        scale_sigma=SCALE_SIGMA if metric else None,
        skipped=skipped,
        notes=notes,
        one_camera=False,
    )


READER = Reader(
    kind="nerfstudio",
    form="a nerfstudio, instant-ngp, NeRFCapture or NeRF-synthetic folder (or zip): transforms.json (or "
    "transforms_train.json ...) and the pictures it names",
    yields="poses, lens distortion; depth and metric scale where the file has them",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)

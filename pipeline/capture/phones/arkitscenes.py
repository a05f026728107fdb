"""Reader of Apple's ARKitScenes: one video of the `raw` or the `3dod` data set, as its downloader lays it out.

Layout: DATA.md, raw/README.md and threedod/README.md of github.com/apple/ARKitScenes; the trajectory's direction and
the rounding of file names: its tenFpsDataLoader.py; axes and gravity: its issues 78 and 81.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.depth_images import confidence_of_png, depth_of_png
from pipeline.capture.frames import ListedFrame, Size, declared_camera, sensor_capture, thinned
from pipeline.capture.masks import find_masks
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkit_files import (
    DEPTH,
    FILE,
    STREAMS,
    TRAJECTORY,
    Moment,
    files_by_folder,
    moments_of,
    read_camera,
    read_trajectory,
    stream_folder,
)
from pipeline.capture.phones.phone_depth import scaled_camera
from pipeline.capture.pictures import Picture, load_picture
from pipeline.capture.reader import Reader
from pipeline.capture.source import CaptureSource
from pipeline.capture.trajectory import check_clocks
from pipeline.errors import CaptureError
from pipeline.geometry import Camera
from pipeline.stage import Traits

SCALE_SIGMA = 0.01
UP_SIGMA_DEG = 1.0
"""What ARKit reaches; the poses were optimised afterwards, the world's z stayed up."""
MIN_COVERAGE = 0.5
"""A better resolved stream is taken when its frames show at least this share of the seconds that another shows."""
_SIDES = {"Up": (0, -1), "Left": (-1, 0), "Down": (0, 1), "Right": (1, 0)}
"""Directions in a picture (x right, y down), by their names in metadata.csv."""


@dataclass(frozen=True)
class _Plan:
    """What is read of a video, seen from the folder `root` that holds its streams."""

    root: CaptureSource
    moments: tuple[Moment, ...]
    notes: tuple[str, ...]


def _recognise(source: CaptureSource) -> bool:
    return stream_folder(source) is not None


def _plan(source: CaptureSource) -> _Plan:
    """Choose the stream and join its files.

    Raises:
        CaptureError: When no stream has pictures with all they need.
    """
    root = stream_folder(source)
    assert root is not None
    trajectory, folders = read_trajectory(root), files_by_folder(root)
    streams = {stream: moments_of(stream, folders, trajectory) for stream in STREAMS if stream in folders}
    if not streams:
        raise CaptureError(
            f"an ARKitScenes video must have pictures in one of {', '.join(STREAMS)}",
            found=root.summary(),
            remedy="download that asset too and unpack its archive",
            file=root.path / root.prefix,
        )
    check_clocks(np.concatenate([folders[stream].times for stream in streams]), trajectory, root.where(TRAJECTORY))
    seconds = {stream: len({int(m.time) for m in moments}) for stream, (moments, _) in streams.items()}
    if not any(seconds.values()):
        lists = [f"{stream}: {len(folders[stream].names)} pictures, {_listed(of[1])}" for stream, of in streams.items()]
        raise CaptureError(
            "pictures must have intrinsics, a pose and depth of their time",
            found="; ".join(lists),
            remedy="download all assets of one stream: pictures, its intrinsics, lowres_depth and the trajectory",
            file=root.path / root.prefix,
        )
    chosen = next(stream for stream in streams if seconds[stream] >= MIN_COVERAGE * max(seconds.values()))
    moments, lacking = streams[chosen]
    notes = [f"pictures of {chosen}"]
    passed = list(streams)[: list(streams).index(chosen)]
    notes += [f"{s} passed over: it shows {seconds[s]} s of the video, {chosen} {seconds[chosen]} s" for s in passed]
    notes += [f"left out: {_listed(lacking)}"] if lacking else []
    notes += [] if DEPTH in folders else [f"there is no {DEPTH}"]
    notes += [_upright(source, root, moments), *_mesh(source)]
    return _Plan(root, tuple(moments), tuple(notes))


def _listed(lacking: Counter[str]) -> str:
    return ", ".join(f"{count} without {what}" for what, count in lacking.items())


def _upright(source: CaptureSource, root: CaptureSource, moments: Sequence[Moment]) -> str:
    """Where up is in the pictures, by their poses; metadata.csv says it per video and is wrong in places."""
    ups = np.array([moment.pose.rotation[2, :2] for moment in moments])  # the world's z in camera axes
    nearest_side = (ups @ np.array(list(_SIDES.values())).T).argmax(1)
    side, count = Counter(list(_SIDES)[index] for index in nearest_side).most_common(1)[0]
    text = f"up is {side} in {count / len(moments):.0%} of the pictures, by their poses"
    declared = _sky_direction(source, root)
    return text if declared in (None, side) else f"{text}; metadata.csv says {declared}, which is not used"


def _sky_direction(source: CaptureSource, root: CaptureSource) -> str | None:
    """What metadata.csv, if it lies with the video, says of it."""
    place = next((place for place in (source, root) if "metadata.csv" in place.names), None)
    match = next((match for name in root.names if (match := FILE.fullmatch(name))), None)
    if place is None or match is None:
        return None
    lines = place.read("metadata.csv").decode(errors="replace").splitlines()
    try:
        rows = [row for row in csv.DictReader(lines) if row.get("video_id") == match["video"]]
    except csv.Error:
        return None
    return rows[0].get("sky_direction") if rows else None


def _mesh(source: CaptureSource) -> list[str]:
    return [f"ARKit's mesh {name} is not used" for name in source.names if name.endswith("_3dod_mesh.ply")][:1]


def _picture(root: CaptureSource, name: str) -> Picture:
    return load_picture(root.read(name), upright=False)


def _picture_camera(root: CaptureSource, moment: Moment, size: Size) -> Camera:
    return declared_camera(read_camera(root, moment.camera), root.where(moment.picture))(size)


def _depth(root: CaptureSource, name: str) -> NDArray[np.uint16]:
    return depth_of_png(root.read(name), root.where(name))


def _depth_camera(root: CaptureSource, moment: Moment, size: Size) -> Camera:
    camera = read_camera(root, moment.depth_camera or moment.camera)
    return scaled_camera(camera, root.where(moment.depth or moment.picture), "depth image")(size)


def _confidence(root: CaptureSource, name: str) -> NDArray[np.uint8]:
    return confidence_of_png(root.read(name), root.where(name), levels=(0, 1, 2))


def _traits(source: CaptureSource) -> Traits:
    moments = _plan(source).moments
    has_depth = all(moment.depth for moment in moments)
    return Traits("arkitscenes", len(moments), True, has_depth, has_gravity=True, ordered=True, has_scale=True)


def _files(source: CaptureSource) -> list[str]:
    plan = _plan(source)
    inner = plan.root.prefix.removeprefix(source.prefix)
    masks = find_masks(plan.root, [moment.picture for moment in plan.moments]).values()
    names = {TRAJECTORY, *masks, *(name for moment in plan.moments for name in moment.files())}
    around = {name for name in (f"{inner}metadata.csv", "metadata.csv") if name in source.names}
    return sorted({*(inner + name for name in names), *around})


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    plan = _plan(source)
    root = plan.root
    masks = find_masks(root, [moment.picture for moment in plan.moments])
    listed = [
        ListedFrame(
            key=moment.picture.rpartition("/")[2].rpartition(".")[0],
            name=moment.picture,
            picture=partial(_picture, root, moment.picture),
            camera=partial(_picture_camera, root, moment),
            time=moment.time,
            source_time=moment.time,
            world_from_camera=moment.pose,
            depth=partial(_depth, root, moment.depth) if moment.depth else None,
            depth_name=moment.depth or "",
            depth_camera=partial(_depth_camera, root, moment),
            confidence=partial(_confidence, root, moment.confidence) if moment.confidence else None,
            mask=partial(root.read, masks[moment.picture]) if moment.picture in masks else None,
        )
        for moment in plan.moments
    ]
    return sensor_capture(
        "arkitscenes",
        thinned(listed, params),
        root,
        out_dir,
        params,
        up_in_world=np.array([0.0, 0.0, 1.0]),
        up_sigma_deg=UP_SIGMA_DEG,
        scale_sigma=SCALE_SIGMA,
        notes=plan.notes,
    )


READER = Reader(
    kind="arkitscenes",
    form=f"a video of ARKitScenes, raw or 3dod (folder or zip): {TRAJECTORY}, lowres_wide/, lowres_wide_intrinsics/, "
    "lowres_depth/",
    yields="poses, depth, confidence, gravity, times, metric scale",
    recognise=_recognise,
    traits=_traits,
    files=_files,
    read=_read,
)

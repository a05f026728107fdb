"""Poses by a network on the training pictures: chunks, stitched, anchored to what the source knows, then adjusted.

The stitched poses play the part that a sensor's play elsewhere: matches are triangulated under them and everything is
adjusted at once. The network's depth is kept for the depth stage.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.poses.adjust import Adjuster, Prior
from pipeline.poses.chunks import Chunk, Chunks, Runner
from pipeline.poses.drift import held_by_sensor
from pipeline.poses.keyframes import Keyframe, read_picture
from pipeline.poses.network import network_session, way_through
from pipeline.poses.network_depth import NetworkDepth
from pipeline.poses.reconstruct import (
    Backend,
    Workbench,
    explained_share,
    onto_track,
    points_only,
    scale_onto,
    track_scale_sigma,
)
from pipeline.poses.sensor_track import Track
from pipeline.poses.sparse_map import SparseMap
from pipeline.poses.stitching import Stitched, stitch
from pipeline.poses.undistort import pinhole_for, undistort

LEAST_VIEWS = 3


def from_network(bench: Workbench) -> Backend:
    """Poses of the training pictures; in metres, and in the source's frame, where the capture has metric poses.

    Raises:
        MachineError: When the network can't run.
        ReconstructionError: When too few pictures fit together.
    """
    params, training = bench.params, bench.training
    links = {(m.i + 1, m.j + 1): len(m.features) for m in bench.matches}
    times = {k.image_id: k.frame.time for k in training}
    in_time = None not in times.values()
    order = sorted(times, key=lambda i: times[i] or 0.0) if in_time else way_through(list(times), links)
    depth = NetworkDepth(bench.out_dir)
    with tempfile.TemporaryDirectory(dir=bench.out_dir) as scratch:
        pictures = {k.image_id: _undistorted(k, bench.root, Path(scratch)) for k in training}
        size = training[0].camera.width, training[0].camera.height
        with network_session(params) as (session, about):
            chunks = Runner(session, pictures, links, depth.keep).run(order, size, in_time=in_time)
    known = bench.sensor_poses(training) if bench.metric else {}
    sigma = params.sensor_sigma_position, params.sensor_sigma_rotation_deg
    stitched = stitch(chunks.found, known, sigma, params.seed)
    if len(stitched.poses) < LEAST_VIEWS:
        raise ReconstructionError(
            "a network must find poses that fit together",
            found=f"{len(stitched.poses)} of {len(training)} pictures",
            remedy="use the pictures alone: --set poses.backend=colmap",
            file=bench.root,
        )
    scales = {(chunks.found[n].number, i): s for n, s in stitched.scales.items() for i in chunks.found[n].seen}
    depth.finish(params.backend, scales, {k.image_id: (k.name, k.lens(k.camera)) for k in training})
    found = _adjusted(bench, stitched, _cameras(bench.keyframes, chunks.found), known)
    blank = held_by_sensor(Track(bench.keyframes, stitched.poses, sigma), bench.matches, found.poses)
    report = {
        **about,
        **_report(bench.keyframes, chunks, stitched),
        "matches_explained": explained_share(bench, found),
        "held_by_network": [bench.keyframes[i - 1].name for i in blank],
    }
    found = replace(found, poses={**found.poses, **blank})
    scale_sigma = track_scale_sigma(_both(found.poses, known), known) if stitched.anchored else None
    return Backend(found, scale_sigma, Pose.identity(), report, bench.matches)


def _undistorted(keyframe: Keyframe, root: Path, folder: Path) -> Path:
    """The picture without the lens's distortion as far as it is declared, written for the network."""
    lens = keyframe.lens(keyframe.camera)
    picture = undistort(read_picture(root, keyframe), lens, pinhole_for(lens))
    path = folder / f"{keyframe.image_id:06d}.png"
    _, data = cv2.imencode(".png", picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    data.tofile(path)
    return path


def _cameras(keyframes: Sequence[Keyframe], chunks: Sequence[Chunk]) -> dict[int, Camera]:
    """Intrinsics by camera id: as declared, the network's focal length where that was guessed."""
    cameras = {k.camera_id: k.camera for k in keyframes}
    for camera_id, camera in cameras.items():
        guessed = {k.image_id for k in keyframes if k.camera_id == camera_id and k.frame.focal_source == "guessed"}
        seen = [s.camera for c in chunks for i, s in c.seen.items() if i in guessed]
        if seen:
            focal = np.median([s.resized(camera.width, camera.height).fx for s in seen])
            cameras[camera_id] = replace(camera, fx=float(focal), fy=float(focal) * camera.fy / camera.fx)
    return cameras


def _adjusted(
    bench: Workbench, stitched: Stitched, cameras: Mapping[int, Camera], known: Mapping[int, Pose]
) -> SparseMap:
    """The map under the stitched poses, adjusted where that is asked for; frame and scale as all known poses say."""
    if bench.params.adjust:
        prior = None
        if stitched.anchored:
            prior = Prior({i: pose.translation for i, pose in known.items()}, bench.params.sensor_sigma_position)
        found = Adjuster(bench.database, stitched.poses, cameras, bench.params.seed).refine(prior)
    else:
        found = points_only(bench, stitched.poses, cameras)
    frame = known if stitched.anchored else stitched.poses
    if len(_both(found.poses, frame)) < LEAST_VIEWS:
        raise ReconstructionError(
            "the pictures must match where a network's poses are adjusted on them",
            found=f"{len(found.poses)} pictures with enough matches that the poses explain",
            remedy="keep the network's poses as they are: --set poses.adjust=false",
            file=bench.root,
        )
    poses, track = _both(found.poses, frame), _both(frame, found.poses)
    return found.transformed(onto_track(poses, track, scale_onto(poses, track)))


def _both(poses: Mapping[int, Pose], others: Mapping[int, Pose]) -> dict[int, Pose]:
    return {i: pose for i, pose in poses.items() if i in others}


def _report(keyframes: Sequence[Keyframe], chunks: Chunks, stitched: Stitched) -> dict[str, Any]:
    def names(ids: Sequence[int]) -> list[str]:
        return [keyframes[i - 1].name for i in ids]

    return {
        "chunks": {
            "runs": 1 + max(chunk.number for chunk in chunks.found),
            "pictures_at_once": chunks.room,
            "memory_halved": chunks.halved,
            "loops": chunks.loops,
            "joints": stitched.joints,
            "joints_dropped": len(stitched.dropped),
            "anchored": stitched.anchored,
        },
        "not_finite": names(chunks.failed),
        "left_out": [names(ids) for ids in stitched.apart],
    }

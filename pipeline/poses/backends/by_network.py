"""The backends of networks: from matched keyframes to the sparse map of the training views.

A network's stitched poses are used like a sensor's: matches are triangulated under them, then all is adjusted together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.poses.backends.paths import in_both, onto_path, path_scale_sigma, scale_onto
from pipeline.poses.backends.shared import Inputs, Result, adjusted, explained_share, given_poses, names_of, points_only
from pipeline.poses.epipolar import check_given_poses
from pipeline.poses.keyframes import Keyframe, write_undistorted
from pipeline.poses.network import Chunk, ChunkRunner, NetworkDepth, network_session, order_by_matches
from pipeline.poses.report import BackendReport
from pipeline.poses.sensor_path import SensorPath, keep_sensor_poses
from pipeline.poses.sparse_map import SparseMap
from pipeline.poses.stitching import Stitched, stitch

MIN_NETWORK_VIEWS = 3
"""Least number of views whose poses of a network are consistent."""


def from_network(inputs: Inputs) -> Result:
    """Poses of the training images by a network; metric and in the source's frame if the capture has metric poses."""
    params, images, training = inputs.params, inputs.images, inputs.images.training
    known = given_poses(training) if inputs.metric else {}
    if known:
        check_given_poses(images, inputs.capture)
    links = {(m.i + 1, m.j + 1): len(m.features) for m in images.matches}
    times = {k.image_id: k.frame.time for k in training}
    in_time = None not in times.values()
    order = sorted(times, key=lambda i: times[i] or 0.0) if in_time else order_by_matches(list(times), links)
    depth = NetworkDepth(inputs.out_dir)
    with tempfile.TemporaryDirectory(dir=inputs.out_dir) as scratch:
        files = {k.image_id: Path(scratch) / f"{k.image_id:06d}.png" for k in training}
        for k in training:
            write_undistorted(inputs.capture.root, k, k.lens(k.camera), files[k.image_id])
        size = training[0].camera.width, training[0].camera.height
        with network_session(params.backend, params) as (session, about):
            chunks = ChunkRunner(session, files, links, depth.keep).run(order, size, in_time=in_time)
    stitched = stitch(chunks.chunks, known, inputs.sensor_sigma, params.seed)
    if len(stitched.poses) < MIN_NETWORK_VIEWS:
        raise ReconstructionError(
            "a network must give poses that fit together",
            found=f"{len(stitched.poses)} of {len(training)} images",
            remedy="use the images alone: --set poses.backend=colmap",
            file=inputs.capture.root,
        )
    scales = {(chunks.chunks[n].run, i): s for n, s in stitched.scales.items() for i in chunks.chunks[n].views}
    depth.finish(params.backend, scales, {k.image_id: (k.name, k.lens(k.camera)) for k in training})
    sparse_map = _adjusted_network(inputs, stitched, _network_cameras(images.keyframes, chunks.chunks), known)
    path = SensorPath(images.keyframes, stitched.poses, inputs.sensor_sigma)
    blank = keep_sensor_poses(path, images.matches, sparse_map.poses)
    report: BackendReport = {
        "weights": about["weights"],
        "licence": about["licence"],
        "chunks": {
            "runs": 1 + max(chunk.run for chunk in chunks.chunks),
            "images_at_once": chunks.capacity,
            "memory_halved": chunks.halved,
            "loops": chunks.loops,
            "joints": stitched.joints,
            "joints_dropped": len(stitched.dropped),
            "anchored": stitched.anchored,
        },
        "not_finite": names_of(images, chunks.failed),
        "left_out": [names_of(images, ids) for ids in stitched.apart],
        "matches_explained": explained_share(images, sparse_map),
        "kept_network_poses": names_of(images, list(blank)),
    }
    sparse_map = replace(sparse_map, poses={**sparse_map.poses, **blank})
    scale_sigma = path_scale_sigma(in_both(sparse_map.poses, known), known) if stitched.anchored else None
    return Result(sparse_map, scale_sigma, Pose.identity(), report, images.matches)


def _adjusted_network(
    inputs: Inputs, stitched: Stitched, cameras: Mapping[int, Camera], known: Mapping[int, Pose]
) -> SparseMap:
    """The map under the stitched poses, adjusted if requested; its frame and scale agree with all known poses."""
    if inputs.params.adjust:
        sparse_map = adjusted(inputs, stitched.poses, cameras, known if stitched.anchored else {})
    else:
        sparse_map = points_only(inputs, stitched.poses, cameras)
    frame = known if stitched.anchored else stitched.poses
    poses, path = in_both(sparse_map.poses, frame), in_both(frame, sparse_map.poses)
    if len(poses) < MIN_NETWORK_VIEWS:
        raise ReconstructionError(
            "the images must match where a network's poses are adjusted on them",
            found=f"{len(sparse_map.poses)} images with enough matches that the poses explain",
            remedy="keep the network's poses as they are: --set poses.adjust=false",
            file=inputs.capture.root,
        )
    return sparse_map.transformed(onto_path(poses, path, scale_onto(poses, path)))


def _network_cameras(keyframes: Sequence[Keyframe], chunks: Sequence[Chunk]) -> dict[int, Camera]:
    """Intrinsics by camera id: as declared, with the network's focal length where that was guessed."""
    cameras = {k.camera_id: k.camera for k in keyframes}
    for camera_id, camera in cameras.items():
        guessed = {k.image_id for k in keyframes if k.camera_id == camera_id and k.frame.focal_source == "guessed"}
        seen = [view.camera for chunk in chunks for i, view in chunk.views.items() if i in guessed]
        if seen:
            focal = np.median([s.resized(camera.width, camera.height).fx for s in seen])
            cameras[camera_id] = replace(camera, fx=float(focal), fy=float(focal) * camera.fy / camera.fx)
    return cameras

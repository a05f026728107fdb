"""Which reader understands a capture, decided by what its files hold, never by the name of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.capture import photos
from pipeline.capture.bags import grandtour, rosbag
from pipeline.capture.beside.unused import listed, unused
from pipeline.capture.depth_cameras import redwood, rgbd, tum
from pipeline.capture.phones import arkitscenes, polycam, record3d, scanner_app, stray_scanner
from pipeline.capture.reader import Reader, in_threads
from pipeline.capture.reconstructions import bundler, colmap, meshroom, metashape, nerfstudio, opensfm, realitycapture
from pipeline.capture.slam import euroc, kitti, lidar_slam
from pipeline.capture.source import CaptureSource, open_source
from pipeline.capture.videos import video
from pipeline.errors import CaptureError
from pipeline.stage import Traits

READERS: tuple[Reader, ...] = (
    polycam.READER,
    record3d.READER,
    stray_scanner.READER,
    scanner_app.READER,
    arkitscenes.READER,
    tum.READER,
    euroc.READER,
    kitti.READER,
    lidar_slam.READER,
    nerfstudio.READER,
    colmap.READER,
    meshroom.READER,
    metashape.READER,
    realitycapture.READER,
    opensfm.READER,
    bundler.READER,
    redwood.READER,
    rgbd.READER,
    grandtour.READER,
    rosbag.READER,
    video.GENERATED,
    video.READER,
    photos.READER,
)
"""All formats, the most particular first: a Polycam export also holds photos, nerfstudio's folders COLMAP's models."""


def probe(path: Path) -> Traits:
    """What the capture holds, by names and small files; no image is decoded.

    Raises:
        CaptureError: When no reader understands it or files are missing.
    """
    with open_capture(path) as (reader, source):
        survey = reader.survey(source)
        return replace(reader.traits(survey), unused=unused(source, survey.files, reader.spare))


def probe_and_digest(path: Path) -> tuple[Traits, str]:
    """As `probe`, with the SHA-256 (hex) over names and contents of all files that the reader uses, and its kind.

    The digest is the same for a folder and for a zip of it; files next to the capture's own don't matter.

    Raises:
        CaptureError: As `probe`, and when a file can't be read.
    """
    with open_capture(path) as (reader, source):
        survey = reader.survey(source)
        names = sorted(survey.files)
        total = hashlib.sha256(reader.kind.encode())
        for name, digest in zip(names, in_threads(source.digest, names, "hashing the capture"), strict=True):
            total.update(name.encode() + b"\0" + digest)
        traits = replace(reader.traits(survey), unused=unused(source, survey.files, reader.spare))
        return traits, total.hexdigest()


@contextmanager
def open_capture(path: Path) -> Iterator[tuple[Reader, CaptureSource]]:
    """The reader and the source seen from the capture's root: the folder itself or the only one inside that fits.

    Raises:
        CaptureError: When none or several fit.
    """
    with open_source(path) as source:
        yield _recognise(source)


def _recognise(source: CaptureSource) -> tuple[Reader, CaptureSource]:
    inner = [source.below(folder) for folder in source.folders()]
    for reader in READERS:
        if reader.recognise(source):
            return reader, source
        fitting = [below for below in inner if reader.recognise(below)]
        if len(fitting) > 1:
            raise CaptureError(
                "one capture at a time",
                found=f"{len(fitting)} {reader.kind} captures: {', '.join(below.prefix for below in fitting[:5])}",
                remedy="name one of these folders",
                file=source.path,
            )
        if fitting:
            return reader, fitting[0]
    raise CaptureError(
        "a capture must have a form that can be read: photos, a video, a phone's scan, a robot's recording ...",
        found=listed(source, source.names),
        remedy="`splatyard formats` lists the forms, and what lies on disk of each",
        file=source.path,
    )

"""Which reader understands a capture, decided by what its files hold, never by the name of a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from pipeline.capture.bags import grandtour, rosbag
from pipeline.capture.beside.unused import listed, unused
from pipeline.capture.depth_cameras import redwood, rgbd, tum
from pipeline.capture.phones import arkitscenes, polycam, record3d, scanner_app, stray_scanner
from pipeline.capture.photos import photo
from pipeline.capture.reader import Reader, Survey, in_threads, suffix_of
from pipeline.capture.reconstructions import bundler, colmap, meshroom, metashape, nerfstudio, opensfm, realitycapture
from pipeline.capture.slam import euroc, kitti, lidar_slam
from pipeline.capture.source import MAX_FOLDER_DEPTH, CaptureSource, open_source
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
    photo.READER,
)
"""All formats, the most particular first: a Polycam export also holds photos, nerfstudio's folders COLMAP's models."""

CONVERTED = {
    ".insv": "in Insta360 Studio, export straight (reframed) video as MP4: 360-degree recordings aren't read",
    ".360": "in GoPro Player, export straight (reframed) video as MP4: 360-degree recordings aren't read",
    ".insp": "in Insta360 Studio, export stitched (equirectangular) panoramas as JPEG",
    ".dng": "export the raw photos as JPEG or TIFF",
}
"""What is done with recordings of other forms before they can be read, by suffix."""
MAX_FOLDERS = 200
"""Number of folders of one depth that are looked at."""


def probe(path: Path) -> Traits:
    """What the capture holds, by names and small files; no image is decoded.

    Raises:
        CaptureError: When no reader understands it or files are missing.
    """
    with open_capture(path) as (reader, source):
        return _traits(reader, source, reader.survey(source))


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
        return _traits(reader, source, survey), total.hexdigest()


def _traits(reader: Reader, source: CaptureSource, survey: Survey) -> Traits:
    return replace(reader.traits(survey), unused=unused(source, survey.files, reader.spare))


def capture_root(path: Path) -> Path:
    """The path itself, or the folder of the capture where that is one of the capture's indices."""
    parts = path.absolute().parts
    if path.is_file():
        for count in range(MAX_FOLDER_DEPTH, 0, -1):
            if any(re.fullmatch(reader.index, "/".join(parts[-count:])) for reader in READERS if reader.index):
                return Path(*parts[:-count])
    return path


@contextmanager
def open_capture(path: Path) -> Iterator[tuple[Reader, CaptureSource]]:
    """The reader and the source seen from the capture's root: the folder itself or the only one inside that fits.

    What lies deeper counts only where nothing above it fits.

    Raises:
        CaptureError: When none or several fit.
    """
    with open_source(capture_root(path)) as source:
        yield _recognise(source)


def _recognise(source: CaptureSource) -> tuple[Reader, CaptureSource]:
    depths = range(1, MAX_FOLDER_DEPTH + 1)
    below = [[source.below(name) for name in source.folders(depth)[:MAX_FOLDERS]] for depth in depths]
    # a scan's own folder beside a picture of it: a particular reader's there counts before any reader's further up
    for tier in [[[source], below[0]], *([folders] for folders in below[1:])]:
        for reader, folders in product(READERS, tier):
            fitting = {folder.folder.resolve(): folder for folder in folders if reader.recognise(folder)}
            if len(fitting) > 1:
                named = ", ".join(folder.prefix for folder in [*fitting.values()][:5])
                raise CaptureError(
                    "one capture at a time",
                    found=f"{len(fitting)} {reader.kind} captures: {named}",
                    remedy="name one of these folders",
                    file=source.folder,
                )
            if fitting:
                return reader, next(iter(fitting.values()))
    suffixes = {suffix_of(name) for name in source.names}
    known = "`splatyard scene formats` lists the forms, and what lies on disk of each"
    raise CaptureError(
        "a capture must have a form that can be read: photos, a video, a phone's scan, a robot's recording ...",
        found=listed(source, source.names),
        remedy=next((how for suffix, how in CONVERTED.items() if suffix in suffixes), known),
        file=source.folder,
    )

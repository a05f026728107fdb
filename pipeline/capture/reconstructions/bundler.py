"""Reader of Bundler's bundle.out, version 0.3, and the list of its images.

Source: N. Snavely, Bundler User's Manual (bundler v0.4): P = R X + t, p = -P / P.z, p' = f r(p) p with
r = 1 + k1 |p|^2 + k2 |p|^4, from the image's middle, x right and y up: the camera looks along -z.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from pipeline.capture.beside.programs import BUNDLER
from pipeline.capture.checks import checked_pose
from pipeline.capture.frames import Size
from pipeline.capture.images import IMAGE_SUFFIXES
from pipeline.capture.lens import Lens, brown_lens
from pipeline.capture.reader import suffix_of
from pipeline.capture.reconstructions.posed import PosedImage, Reconstruction, broken_poses, plain, posed_reader
from pipeline.capture.source import MAX_FILES, CaptureSource
from pipeline.geometry import CV_FROM_GL

LISTS = re.compile(r"(?:.*/)?[^/]*(?:list|images)[^/]*\.txt")
"""Names of files that may list the images, one a line; Bundler puts a 0 and a focal length behind some names."""
MAX_LISTS = 8


def _names(source: CaptureSource, count: int) -> tuple[str, list[str]] | None:
    """The file that lists as many images as there are cameras, and their names."""
    for name in [name for name in source.names if LISTS.fullmatch(name) and name.count("/") <= 2][:MAX_LISTS]:
        listed = [plain(row[0]) for row in source.read_table(name)]
        if len(listed) == count and all(suffix_of(one) in IMAGE_SUFFIXES for one in listed):
            return name, listed
    return None


def _lens(focal: float, k1: float, k2: float, where: str) -> Callable[[Size], Lens]:
    return lambda size: brown_lens((focal, focal, size[0] / 2, size[1] / 2), size, (k1, k2), (0.0, 0.0), where)


def _parse(source: CaptureSource, name: str) -> Reconstruction:
    rows = source.read_table(name)
    try:
        count = int(rows[0][0])
        if not 0 < count <= MAX_FILES:
            raise ValueError(f"{count} cameras")
        values = np.array([[float(word) for word in row] for row in rows[1 : 1 + 5 * count]])
        if values.shape != (5 * count, 3):
            raise ValueError(f"{len(values)} of {5 * count} lines of cameras")
    except (ValueError, IndexError) as error:
        rule = "behind its first line the file has the numbers of cameras and points, then five lines of three a camera"
        raise broken_poses(source, name, BUNDLER, rule, str(error)) from error
    found = _names(source, count)
    if found is None:  # whose poses they are nobody knows
        return Reconstruction([name], [])
    images, unposed = [], []
    for listed, camera in zip(found[1], values.reshape(count, 5, 3), strict=True):
        if not camera[0, 0]:
            unposed.append(listed)
            continue
        where = f"{source.where(name)}: {listed}"
        pose = checked_pose(CV_FROM_GL @ np.c_[camera[1:4], camera[4]], where).inverse()
        focal, k1, k2 = camera[0].tolist()
        images.append(PosedImage(listed, pose, _lens(focal, k1, k2, where)))
    return Reconstruction([name, found[0]], images, unposed)


READER = posed_reader(
    "bundler",
    BUNDLER,
    "a Bundler project (folder or zip): bundle.out, list.txt and the images",
    _parse,
    "poses, lens distortion",
)

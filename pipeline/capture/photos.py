"""Reader of a folder of photos: JPEG, PNG, HEIC, WebP and TIFF, any mix of cameras; what is known is EXIF and XMP.

Photos that show nothing new are left out: exact copies under another name, bursts, images from one spot.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.capture.beside.images import kind_of_folder, no_photos
from pipeline.capture.cameras import drones, panoramas
from pipeline.capture.cameras.panoramas import FACES, NADIR_DEG, panorama_of
from pipeline.capture.cameras.xmp import MAX_BYTES, StatedGravity, text_of
from pipeline.capture.images import (
    IMAGE_FOLDER,
    IMAGE_SUFFIXES,
    exif_camera,
    find_masks,
    image_mask,
    load_image,
    note_on_shrinking,
    save_mask,
    turned,
)
from pipeline.capture.metadata import Credentials, GpsPosition, from_middle, location_of
from pipeline.capture.model import Capture, Credentialed, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import (
    FEW_IMAGES,
    Reader,
    Survey,
    folder_of,
    in_threads,
    number_of,
    split_results,
    suffix_of,
)
from pipeline.capture.select import Quality, follow, measure_quality
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.io.image_files import BadImageError
from pipeline.progress import track
from pipeline.types import F32

BURST_SECONDS = 1.0
"""Photos of one camera that lie no further apart in time may be a burst."""
BURST_MOVEMENT = 0.02
"""Movement within a burst [share of the long side]: hands tremble."""
SAME = 0.0015
"""Movement below which images show the same whenever they were taken, and parallax below which those of a burst do
[share of the long side]. Neighbours of a walk have 0.002 and more of parallax even where they move by as little."""
MAX = 90
"""Percent of the features that must agree; the others may lie on what moves."""
ALIKE = 0.9
"""Correlation of two thumbnails from which on the images themselves are compared."""
_SIDE = 32
_BURST_NAME = re.compile(r"(?P<before>.*?)burst[ _-]*(?P<digits>[0-9]+)", re.IGNORECASE)
_STAMP_DIGITS = 8


@dataclass(frozen=True, eq=False)
class Shot:
    """Features of a photo by which repetitions are found, and what else its file states.

    Attributes:
        file: Name at the source.
        image: The image as it was written.
        taken: Time by its camera's clock [s], or None.
        digest: Digest of the pixels.
        thumbnail: (1024,) float32, of zero mean and unit length; zero where the image has no contrast.
    """

    file: str
    image: Path
    camera: str
    taken: float | None
    pixels: int
    digest: bytes
    thumbnail: F32
    position: GpsPosition | None = None
    credentials: Credentials | None = None
    gravity: StatedGravity | None = None


def shot_of(decoded: Image.Image, file: str, image: Path, camera: str, taken: float | None) -> Shot:
    """A photo's shot from its pixels."""
    small = np.asarray(decoded.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("L"), np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    digest = hashlib.blake2b(decoded.tobytes(), digest_size=16, key=repr(decoded.size).encode()).digest()
    unit = small / length if length > 1 else 0 * small
    return Shot(file, image, camera, taken, decoded.width * decoded.height, digest, unit)


def find_repeats(shots: Sequence[Shot]) -> dict[int, str]:
    """Which photos are left out, and why; of each group one stays: of known camera, the largest, the sharpest.

    A photo joins the group of the first photo that it repeats. It is compared with that one, never with the one before
    it, so that photos of a walk are not drawn together step by step.
    """

    @lru_cache(maxsize=64)
    def measured(shot: Shot) -> Quality:
        return measure_quality(shot.image, keep_small=True)

    thumbnails = np.array([shot.thumbnail for shot in shots])
    groups: dict[int, list[int]] = {}
    for index, shot in enumerate(shots):
        for first in np.flatnonzero(thumbnails[:index] @ shot.thumbnail >= ALIKE).tolist():
            if first in groups and _repeats(shot, shots[first], measured):
                groups[first].append(index)
                break
        else:
            groups[index] = [index]

    def worth(index: int) -> tuple[bool, int, float, int, int]:
        shot = shots[index]
        return bool(shot.camera), shot.pixels, measured(shot).laplacian, -len(shot.file), -index

    left_out: dict[int, str] = {}
    for group in groups.values():
        kept = max(group, key=worth) if len(group) > 1 else group[0]
        left_out |= {index: _reason(shots[index], shots[kept]) for index in group if index != kept}
    return left_out


def _repeats(shot: Shot, first: Shot, measured: Callable[[Shot], Quality]) -> bool:
    if shot.digest == first.digest:
        return True
    before, after = measured(first).small, measured(shot).small
    assert before is not None and after is not None
    followed = follow(before, after)
    if followed is None:
        return False
    long_side = max(before.shape)
    steps = np.linalg.norm(followed[1] - followed[0], axis=1) / long_side
    if np.percentile(steps, MAX) < SAME:
        return True
    return (
        _of_one_burst(shot, first)
        and float(np.median(steps)) < BURST_MOVEMENT
        and _parallax(*followed, SAME * long_side) < SAME * long_side
    )


def _parallax(before: F32, after: F32, tolerance: float) -> float:
    """Distance [px] of points (N, 2) from where a camera that only rotated would see them: from their homography."""
    homography, _ = cv2.findHomography(before, after, cv2.RANSAC, tolerance)
    if homography is None:
        return np.inf
    seen = cv2.perspectiveTransform(before[None], homography)[0]
    return float(np.percentile(np.linalg.norm(seen - after, axis=1), MAX))


def _reason(shot: Shot, kept: Shot) -> str:
    if shot.digest == kept.digest:
        return f"the same image as another: {kept.file}"
    if _of_one_burst(shot, kept):
        return f"of one burst with a sharper one: {kept.file}"
    return f"shows the same as another: {kept.file}"


def _of_one_burst(a: Shot, b: Shot) -> bool:
    if a.camera != b.camera:
        return False
    if a.taken is not None and b.taken is not None:
        return abs(a.taken - b.taken) <= BURST_SECONDS
    name = _burst_name(a.file)
    return name is not None and name == _burst_name(b.file)


def _burst_name(file: str) -> str | None:
    """Common part of the names of a burst's photos: a time stamp behind "burst", else what comes before it."""
    match = _BURST_NAME.match(file.rpartition("/")[2])
    if match is None:
        return None
    return match["digits"] if len(match["digits"]) >= _STAMP_DIGITS else match["before"]


def _images(source: CaptureSource) -> list[str]:
    """The photos of the folder itself, or where it holds none but masks for those of one inner folder, of that."""
    if source.beside and kind_of_folder(source.prefix):
        return []  # a folder beside others, named after what is in it: masks/, depth/
    here = [name for name in source.names if suffix_of(name) in IMAGE_SUFFIXES]
    photos = _photos_in(source, here, "")
    if not photos:
        inner = [files for folder in source.folders() if (files := _photos_in(source, here, folder))]
        photos = inner[0] if len(inner) == 1 and find_masks(source, inner[0]) else _of_cameras(source, here)
    return sorted(photos, key=lambda name: (number_of(name)[0], name))


def _photos_in(source: CaptureSource, images: Sequence[str], folder: str) -> list[str]:
    if kind_of_folder(folder):
        return []
    names = [name for name in images if folder_of(name) == folder]
    others = no_photos(source, names)
    return [name for name in names if name not in others]


def _of_cameras(source: CaptureSource, images: Sequence[str]) -> list[str]:
    """Photos in two folders or more of images/, where COLMAP and rigs have one for each camera; else none.

    The source may be images/ itself, or the folder that it lies in.
    """
    root = "" if source.folder.name == IMAGE_FOLDER else f"{IMAGE_FOLDER}/"
    images = [name for name in images if not any(map(kind_of_folder, name.split("/")[:-1]))]
    separate = all(name.startswith(root) and name.count("/") == root.count("/") + 1 for name in images)
    folders = sorted(set(map(folder_of, images))) if separate else []
    return [name for folder in folders for name in _photos_in(source, images, folder)] if len(folders) > 1 else []


def _recognise(source: CaptureSource) -> bool:
    """By its images; a few of them beside a folder with more are pictures of what is in there."""
    names = [name for name in source.names if suffix_of(name) in IMAGE_SUFFIXES]
    folders = Counter(folder for name in names if not kind_of_folder(folder := folder_of(name)))
    count = len(_images(source))
    return count >= FEW_IMAGES or 0 < count == max(folders.values(), default=0)


def _one_of_each(names: list[str]) -> tuple[list[str], list[Skipped]]:
    """Phones export the same shot as JPEG and HEIC: the first suffix of IMAGE_SUFFIXES stays.

    Photos of one format whose names differ in case are different ones, of two phones.
    """
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(name[: -len(suffix_of(name))].lower(), []).append(name)
    kept, skipped = [], []
    for same in by_stem.values():
        first, *others = sorted(same, key=lambda name: (IMAGE_SUFFIXES.index(suffix_of(name)), name))
        again = [other for other in others if suffix_of(other) != suffix_of(first)]
        kept += [name for name in same if name not in again]
        skipped += [Skipped(other, f"the same name as another: {first}") for other in again]
    return kept, skipped


def _stems_and_names(files: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of each file: a stem that differs from all others in more than case, and a unique name.

    The name is that of the file, behind its folder's where there are several.
    """
    parts = 1 + (len(set(map(folder_of, files))) > 1)
    result: dict[str, tuple[str, str]] = {}
    stems, names = set[str](), set[str]()
    for number, file in enumerate(files):
        name = "_".join(file.split("/")[-parts:])
        name = f"{number:06d}_{name}" if name in names else name
        stem = name[: -len(suffix_of(name))]
        while stem.casefold() in stems:
            stem = f"{stem}_{number:06d}"
        stems.add(stem.casefold())
        names.add(name)
        result[file] = stem, name
    return result


def _survey(source: CaptureSource) -> Survey:
    images = _images(source)
    masks, photos = find_masks(source, images).values(), _one_of_each(images)[0]
    head = source.head(photos[0], MAX_BYTES) if photos else b""  # the others are as the first, or the plan is off
    is_panorama = text_of(head, "GPano:ProjectionType") is not None
    return Survey(
        [*images, *masks],
        len(photos) * (len(FACES) if is_panorama else 1),
        estimated=is_panorama,
        has_gravity=is_panorama or drones.gimbal_of(head) is not None,
        ordered=False,
    )


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    shots: dict[str, Shot] = {}

    def read_one(name: str) -> Frame | Skipped:
        try:
            data = source.read(name)
            image = load_image(data)
            vertical = panorama_of(data, image)
            gimbal = drones.gimbal_of(data)
            mask = image_mask(image, source.read(masks[name]) if name in masks else None)
        except BadImageError as error:
            return Skipped(name, str(error), error.remedy)
        stem, file = named[name]
        written = image.save(out_dir / "images" / stem)
        camera, focal_source = exif_camera(image)
        mask_path = None if mask is None or vertical else save_mask(mask, out_dir, stem)
        device, size = image.exif.camera, "{1} x {0}".format(*sorted(image.size))
        folder = folder_of(name).rpartition("/")[2]
        device = f"{folder}: {device or size}" if in_folders else device or f"unknown, {size}"
        shot = shot_of(image.image, file, written, image.exif.camera, image.exif.taken)
        shots[file] = replace(
            shot, position=image.exif.position, credentials=image.credentials, gravity=vertical or gimbal
        )
        path = f"images/{written.name}"
        return Frame(
            file,
            path,
            camera,
            focal_source,
            mask=mask_path,
            source_size=image.whole,
            sensor=device,
            gravity=gimbal and turned(gimbal.direction, image.rotation),
            gps_sigma=drones.position_sigma(data),
        )

    names, same_stem = _one_of_each(_images(source))
    masks, named = find_masks(source, names), _stems_and_names(names)
    in_folders = len(set(map(folder_of, names))) > 1
    results = in_threads(read_one, names, "reading photos")
    frames, bad = split_results(results, source, params)
    repeats = find_repeats([shots[frame.name] for frame in frames])
    skipped = [*bad, *same_stem, *(Skipped(frames[i].name, reason) for i, reason in repeats.items())]
    for i in repeats:
        for path in (frames[i].image, frames[i].mask):
            if path:
                (out_dir / path).unlink()
    kept = [frame for i, frame in enumerate(frames) if i not in repeats]
    metres = from_middle([shots[frame.name].position for frame in kept])
    placed = zip(kept, metres, strict=True)
    kept = [replace(frame, gps=at, gps_sigma=None if at is None else frame.gps_sigma) for frame, at in placed]
    if len(kept) < params.min_frames:
        raise CaptureError(
            f"a capture needs at least {params.min_frames} different photos",
            found=f"{len(kept)}; {len(repeats)} repeat them",
            remedy="walk round the scene and take 40 or more that overlap by two thirds (docs/capture-guide.md)",
            file=source.folder,
        )
    credentials = Credentialed.of([shots[frame.name].credentials for frame in kept])
    positions = [shots[frame.name].position for frame in kept] if params.keep_gps else []
    stated = [gravity for frame in kept if (gravity := shots[frame.name].gravity)]
    file_of = {file: name for name, (_, file) in named.items()}

    def faces(frame: Frame) -> list[Frame]:
        """The frame itself, or those that are cut from it where it is a panorama."""
        gravity, name = shots[frame.name].gravity, file_of[frame.name]
        if gravity is None or gravity.source != panoramas.SOURCE:
            return [frame]
        mask = source.read(masks[name]) if name in masks else None
        return panoramas.cut(frame, source.read(name), mask, named[name][0], gravity, out_dir)

    kept = [face for frame in track(kept, "cutting panoramas") for face in faces(frame)]
    cameras = list(dict.fromkeys(frame.sensor for frame in kept))
    kept = sorted(kept, key=lambda frame: cameras.index(frame.sensor))
    if len(cameras) == 1:  # a single camera needs no name
        kept = [replace(frame, sensor=None) for frame in kept]
    return Capture(
        out_dir,
        "photos",
        tuple(kept),
        ordered=False,
        location=location_of([position for position in positions if position]),
        skipped=tuple(skipped),
        notes=tuple(_notes(kept, credentials)),
        credentials=credentials,
        gravity_sigma_deg=max((gravity.sigma_deg for gravity in stated), default=None),
        gravity_sources=tuple(sorted({gravity.source for gravity in stated})),
        on_machine=any(gravity.source == drones.SOURCE for gravity in stated),
    )


def _notes(frames: Sequence[Frame], credentials: Credentialed | None) -> Iterator[str]:
    counts = Counter(frame.sensor for frame in frames if frame.in_rig is None)
    if len(counts) > 1:
        listed = ", ".join(f"{camera} ({count} photos)" for camera, count in counts.items())
        yield f"{len(counts)} cameras, each with intrinsics of its own: {listed}"
    if guessed := sum(frame.focal_source == "guessed" for frame in frames):
        yield f"the focal length of {guessed} of {len(frames)} photos is guessed (none in EXIF)"
    if spheres := {frame.shot for frame in frames if frame.in_rig}:
        yield (
            f"{len(spheres)} panoramas are cut into {len(FACES)} faces each, whose lenses and rotations are exact; "
            f"what lies within {NADIR_DEG:g} degrees of straight down is left out"
        )
    yield from note_on_shrinking(frames)
    if credentials and credentials.generated:
        yield f"{credentials.generated} photos state that a model generated them: the bundle is marked as generated"


READER = Reader(
    kind="photos",
    form="a folder (or zip) of photos and panoramas: *.jpg, *.png, *.heic, *.webp, *.tif (with masks/<photo>.png)",
    yields="focal lengths; gravity of panoramas and drones, scale by GPS outdoors",
    recognise=_recognise,
    survey=_survey,
    read=_read,
)

"""Reader of a folder of photos: JPEG, PNG and HEIC, any mix of cameras; nothing but EXIF is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.capture.credentials import Credentials
from pipeline.capture.exif import Place, location_of
from pipeline.capture.masks import MASK_FOLDER, find_masks, picture_mask, save_mask
from pipeline.capture.model import Capture, Credentialed, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import (
    PICTURE_SUFFIXES,
    BadPictureError,
    camera_of,
    load_picture,
    note_on_shrinking,
)
from pipeline.capture.reader import Reader, in_threads, number_of, split_results, suffix_of
from pipeline.capture.repeats import Shot, find_repeats, shot_of
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.stage import Traits


def _pictures(source: CaptureSource) -> list[str]:
    """The pictures of the folder itself, or where it holds none but masks/ and images/ (as COLMAP's), of images/."""
    here = [name for name in source.names if suffix_of(name) in PICTURE_SUFFIXES]
    names = [name for name in here if "/" not in name]
    if not names and any(name.startswith(f"{MASK_FOLDER}/") for name in here):
        names = [name for name in here if name.rpartition("/")[0] == "images"]
    return sorted(names, key=lambda name: (number_of(name)[0], name))


def _files(source: CaptureSource) -> list[str]:
    pictures = _pictures(source)
    return [*pictures, *find_masks(source, pictures).values()]


def _one_of_each(names: list[str]) -> tuple[list[str], list[Skipped]]:
    """Phones export the same shot as JPEG and HEIC: the first suffix of PICTURE_SUFFIXES stays."""
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(name[: -len(suffix_of(name))].lower(), []).append(name)
    kept, skipped = [], []
    for same in by_stem.values():
        first, *others = sorted(same, key=lambda name: (PICTURE_SUFFIXES.index(suffix_of(name)), name))
        kept.append(first)
        skipped += [Skipped(other, f"the same name as another: {first}") for other in others]
    return kept, skipped


def _traits(source: CaptureSource) -> Traits:
    count = len(_one_of_each(_pictures(source))[0])
    return Traits("photos", count, has_poses=False, has_depth=False, has_gravity=False, ordered=False)


@dataclass(frozen=True, eq=False)
class _Photo:
    """A photo that was read, and what else it says of itself."""

    frame: Frame
    shot: Shot
    place: Place | None
    credentials: Credentials | None


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    photos: dict[str, _Photo] = {}

    def read_one(name: str) -> Frame | Skipped:
        try:
            picture = load_picture(source.read(name))
            mask = picture_mask(picture, source.read(masks[name]) if name in masks else None)
        except BadPictureError as error:
            return Skipped(name, str(error))
        file = name.rpartition("/")[2]
        stem = file[: -len(suffix_of(file))]
        written = picture.save(out_dir / "images" / stem)
        camera, focal_source = camera_of(picture)
        mask_path = None if mask is None else save_mask(mask, out_dir, stem)
        device = picture.exif.camera or "unknown, {1} x {0}".format(*sorted(picture.size))
        frame = Frame(
            file,
            f"images/{written.name}",
            camera,
            focal_source,
            mask=mask_path,
            source_size=picture.whole,
            sensor=device,
        )
        shot = shot_of(picture.image, file, written, picture.exif.camera, picture.exif.taken)
        photos[file] = _Photo(frame, shot, picture.exif.place, picture.credentials)
        return frame

    names, same_stem = _one_of_each(_pictures(source))
    masks = find_masks(source, names)
    frames, bad = split_results(in_threads(read_one, names, "reading photos"), source, params)
    repeats = find_repeats([photos[frame.name].shot for frame in frames])
    skipped = [*bad, *same_stem, *(Skipped(frames[i].name, reason) for i, reason in repeats.items())]
    for i in repeats:
        for path in (frames[i].image, frames[i].mask):
            if path:
                (out_dir / path).unlink()
    kept = [frame for i, frame in enumerate(frames) if i not in repeats]
    if len(kept) < params.min_frames:
        raise CaptureError(
            f"a capture needs at least {params.min_frames} different photos",
            found=f"{len(kept)}; {len(repeats)} repeat them",
            remedy="walk round the place and take 40 or more that overlap by two thirds (docs/capture-guide.md)",
            file=source.path,
        )
    credentials = Credentialed.of([photos[frame.name].credentials for frame in kept])
    notes = [*_on_cameras(kept), *_on_focal_lengths(kept), *note_on_shrinking(kept), *_on_credentials(credentials)]
    places = [photo.place for frame in kept if (photo := photos[frame.name]).place] if params.keep_gps else []
    return Capture(
        out_dir,
        "photos",
        _by_camera(kept),
        ordered=False,
        location=location_of([place for place in places if place]),
        skipped=tuple(skipped),
        notes=tuple(notes),
        credentials=credentials,
    )


def _on_credentials(told: Credentialed | None) -> list[str]:
    generated = told.generated if told else 0
    return [f"{generated} photos say that a model generated them: the bundle is marked as generated"] * bool(generated)


def _by_camera(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Camera by camera where there are several; the only one has no name."""
    cameras = list(dict.fromkeys(frame.sensor for frame in frames))
    if len(cameras) == 1:
        return tuple(replace(frame, sensor=None) for frame in frames)
    return tuple(sorted(frames, key=lambda frame: cameras.index(frame.sensor)))


def _on_cameras(frames: Sequence[Frame]) -> list[str]:
    counts = Counter(frame.sensor for frame in frames)
    if len(counts) == 1:
        return []
    listed = ", ".join(f"{camera} ({count} photos)" for camera, count in counts.items())
    return [f"{len(counts)} cameras, each with intrinsics of its own: {listed}"]


def _on_focal_lengths(frames: Sequence[Frame]) -> list[str]:
    guessed = sum(frame.focal_source == "guessed" for frame in frames)
    return [f"the focal length of {guessed} of {len(frames)} photos is guessed (no EXIF)"] if guessed else []


READER = Reader(
    kind="photos",
    form="a folder (or zip) of photos: *.jpg, *.png or *.heic (with masks/<photo>.png where there are any)",
    yields="focal lengths",
    recognise=lambda source: bool(_pictures(source)),
    traits=_traits,
    files=_files,
    read=_read,
)

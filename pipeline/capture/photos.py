"""Reader of a folder of photos: JPEG, PNG and HEIC, any mix of cameras; nothing but EXIF is known."""

from __future__ import annotations

from pathlib import Path

from pipeline.capture.masks import MASK_FOLDER, find_masks, picture_mask, save_mask
from pipeline.capture.model import Capture, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import PICTURE_SUFFIXES, BadPictureError, camera_of, load_picture
from pipeline.capture.reader import Reader, in_threads, number_of, split_results, suffix_of
from pipeline.capture.source import CaptureSource
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
        skipped += [Skipped(other, f"the same name as {first}") for other in others]
    return kept, skipped


def _traits(source: CaptureSource) -> Traits:
    count = len(_one_of_each(_pictures(source))[0])
    return Traits("photos", count, has_poses=False, has_depth=False, has_gravity=False, ordered=False)


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    (out_dir / "images").mkdir(parents=True, exist_ok=True)

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
        return Frame(file, f"images/{written.name}", camera, focal_source, mask=mask_path)

    names, repeated = _one_of_each(_pictures(source))
    masks = find_masks(source, names)
    frames, bad = split_results(in_threads(read_one, names, "reading photos"), source, params)
    guessed = sum(frame.focal_source == "guessed" for frame in frames)
    notes = [f"the focal length of {guessed} of {len(frames)} photos is guessed (no EXIF)"] if guessed else []
    return Capture(out_dir, "photos", frames, ordered=False, skipped=(*bad, *repeated), notes=tuple(notes))


READER = Reader(
    kind="photos",
    form="a folder (or zip) of photos: *.jpg, *.png or *.heic (with masks/<photo>.png where there are any)",
    recognise=lambda source: bool(_pictures(source)),
    traits=_traits,
    files=_files,
    read=_read,
)

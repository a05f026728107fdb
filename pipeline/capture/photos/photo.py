"""Reader of a folder of photos: JPEG, PNG, HEIC, WebP and TIFF, any mix of cameras; what is known is EXIF and XMP.

Photos that show nothing new are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.capture.beside.images import kind_of_folder, no_photos
from pipeline.capture.cameras import drones, panoramas
from pipeline.capture.cameras.panoramas import FACES, NADIR_DEG, panorama_of
from pipeline.capture.cameras.xmp import MAX_BYTES, text_of
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
from pipeline.capture.metadata import from_middle, location_of
from pipeline.capture.model import Capture, Credentialed, Frame, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.photos.repeats import Shot, find_repeats, shot_of
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
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.io.image_files import BadImageError
from pipeline.progress import track


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


@dataclass(frozen=True, eq=False)
class _Photos:
    """Photos on their way from a source into a capture.

    Attributes:
        masks: Files of their masks, by photo; not all have one.
        named: Stem and name in the capture, by photo.
        in_folders: Whether each camera has a folder of its own.
        shots: By name in the capture, of all that have been read.
    """

    source: CaptureSource
    out_dir: Path
    masks: Mapping[str, str]
    named: Mapping[str, tuple[str, str]]
    in_folders: bool
    shots: dict[str, Shot] = field(default_factory=dict)

    def read(self, name: str) -> Frame | Skipped:
        """Write a photo and its mask into the capture."""
        try:
            data = self.source.read(name)
            image = load_image(data)
            vertical = panorama_of(data, image)
            gimbal = drones.gimbal_of(data)
            mask = image_mask(image, self._mask(name))
        except BadImageError as error:
            return Skipped(name, str(error), error.remedy)
        stem, file = self.named[name]
        written = image.save(self.out_dir / "images" / stem)
        camera, focal_source = exif_camera(image)
        mask_path = None if mask is None or vertical else save_mask(mask, self.out_dir, stem)
        device, size = image.exif.camera, "{1} x {0}".format(*sorted(image.size))
        folder = folder_of(name).rpartition("/")[2]
        device = f"{folder}: {device or size}" if self.in_folders else device or f"unknown, {size}"
        shot = shot_of(image.image, file, written, image.exif.camera, image.exif.taken)
        self.shots[file] = replace(
            shot, position=image.exif.position, credentials=image.credentials, gravity=vertical or gimbal
        )
        return Frame(
            file,
            f"images/{written.name}",
            camera,
            focal_source,
            mask=mask_path,
            source_size=image.whole,
            sensor=device,
            gravity=gimbal and turned(gimbal.direction, image.rotation),
            gps_sigma=drones.position_sigma(data),
        )

    def faces(self, name: str, frame: Frame) -> list[Frame]:
        """The frame of a photo itself, or those that are cut from it where it is a panorama."""
        gravity = self.shots[frame.name].gravity
        if gravity is None or gravity.source != panoramas.SOURCE:
            return [frame]
        stem, _ = self.named[name]
        return panoramas.cut(frame, self.source.read(name), self._mask(name), stem, gravity, self.out_dir)

    def _mask(self, name: str) -> bytes | None:
        return self.source.read(self.masks[name]) if name in self.masks else None


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    names, same_stem = _one_of_each(_images(source))
    in_folders = len(set(map(folder_of, names))) > 1
    photos = _Photos(source, out_dir, find_masks(source, names), _stems_and_names(names), in_folders)
    shots = photos.shots
    results = in_threads(photos.read, names, "reading photos")
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
    photo_of = {file: name for name, (_, file) in photos.named.items()}
    cut = track(kept, "cutting panoramas")
    kept = [face for frame in cut for face in photos.faces(photo_of[frame.name], frame)]
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

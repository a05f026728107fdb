"""Reader of COLMAP projects: the poses and lenses of a model, and its pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pipeline.capture.frames import sensor_capture, thinned
from pipeline.capture.lens import Lens
from pipeline.capture.masks import MASK_FOLDER
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.pictures import PICTURE_SUFFIXES
from pipeline.capture.reader import Reader, suffix_of
from pipeline.capture.reconstructions.colmap_model import ModelImage, broken_model, read_cameras, read_images
from pipeline.capture.reconstructions.posed import keys_and_names, notes_on, posed_frame, room_sized, without_missing
from pipeline.capture.source import CaptureSource
from pipeline.image_files import BadPictureError, open_image
from pipeline.stage import Traits

_MODEL = re.compile(
    r"(?P<folder>(?:(?:colmap|dense(?:/\d+)?|distorted)/)?(?:sparse[^/]*/)?(?:\d+/)?)images\.(?P<form>bin|txt)"
)
"""Where COLMAP, nerfstudio and 3D Gaussian splatting put models; a folder's name is part of these layouts."""
_PART = re.compile(_MODEL.pattern.replace("images", "(?P<part>cameras|images|points3D)"))
_HEADS = {"cameras": b"# Camera list", "images": b"# Image list", "points3D": b"# 3D point list"}
"""How COLMAP's text files begin: cameras.txt may be anything."""


def _models(source: CaptureSource) -> list[tuple[str, str]]:
    """Folder and form of all models; binary files win over text beside them, as COLMAP has it."""
    found: dict[str, str] = {}
    names = frozenset(source.names)
    for name in source.names:  # sorted: .bin comes before .txt
        if (match := _MODEL.fullmatch(name)) and f"{match['folder']}cameras.{match['form']}" in names:
            found.setdefault(match["folder"], match["form"])
    return sorted(found.items(), key=lambda item: (len(item[0]), item[0]))


def _fragments(source: CaptureSource) -> list[str]:
    """Files of models of which a part is missing, where no model is whole."""
    found = []
    for name in source.names if not _models(source) else ():
        if match := _PART.fullmatch(name):
            sure = match["form"] == "bin" or "sparse" in match["folder"]
            if sure or source.read(name).startswith(_HEADS[match["part"]]):
                found.append(name)
    return found


@dataclass(frozen=True, eq=False)
class _Listing:
    """The model that is read.

    Attributes:
        model: Names of its two files.
        cameras: By id.
        images: The registered pictures.
        files: The pictures' names in the capture, None where there is none.
        masks: Mask files by picture.
        notes: Other models, pictures outside the model.
    """

    model: tuple[str, str]
    cameras: Mapping[int, Lens]
    images: Sequence[ModelImage]
    files: Sequence[str | None]
    masks: Mapping[str, str]
    notes: tuple[str, ...]


def _list(source: CaptureSource) -> _Listing:
    """The model with the most pictures, the first such.

    Raises:
        CaptureError: When a model is broken or names cameras that it doesn't have.
    """
    models = _models(source)
    if fragments := _fragments(source):
        found = f"{', '.join(fragments[:6])} without the other part"
        raise broken_model(
            source, fragments[0], found, "a COLMAP model needs cameras and images, both .bin or both .txt"
        )
    images = {model: read_images(source, *model) for model in models}
    folder, form = max(models, key=lambda model: len(images[model]))
    chosen, cameras = images[folder, form], read_cameras(source, folder, form)
    for image in chosen:
        if image.camera not in cameras:
            raise broken_model(
                source, f"{folder}images.{form}", f"{image.name!r} of camera {image.camera}, of {[*cameras]}"
            )
    root = _picture_root(source, folder, chosen, cameras)
    names = frozenset(source.names)
    files = [root + image.name if root is not None and root + image.name in names else None for image in chosen]
    used = frozenset(file for file in files if file)
    notes: list[str] = []
    others = [(at or "./", len(images[at, f])) for at, f in models if at != folder]
    if others:
        listed = ", ".join(f"{at} with {count}" for at, count in others[:4])
        notes.append(f"of {len(models)} models {folder or './'} was read, with {len(chosen)} pictures; not {listed}")
    masks = {file: mask for file, image in zip(files, chosen, strict=True) if file and (mask := _mask(image, names))}
    spare = [
        name
        for name in source.names
        if root and name.startswith(root) and suffix_of(name) in PICTURE_SUFFIXES and name not in used
    ]
    if spare:
        notes.append(f"{len(spare)} pictures in {root} are not in the model, first {spare[0]}")
    return _Listing((f"{folder}cameras.{form}", f"{folder}images.{form}"), cameras, chosen, files, masks, tuple(notes))


def _picture_root(
    source: CaptureSource, folder: str, images: Sequence[ModelImage], cameras: Mapping[int, Lens]
) -> str | None:
    """The folder from which the model names its pictures, "" or ending in "/"; None where none of them is there.

    Smaller copies (images_4/) have the same names: of folders that hold equally many, the first one counts whose
    pictures have their camera's size.
    """
    names, wanted = frozenset(source.names), {image.name for image in images}
    ends = {image.name.rpartition("/")[2]: image.name for image in images}
    roots: dict[str, int] = {}
    for name in source.names:
        end = ends.get(name.rpartition("/")[2])
        if end is not None and (name == end or name.endswith("/" + end)) and f"{MASK_FOLDER}/" not in name:
            roots.setdefault(name[: len(name) - len(end)], 0)
    for root in roots:
        roots[root] = sum(root + name in names for name in wanted)
    beside = folder.partition("sparse")[0]

    def rank(root: str) -> tuple[int, bool, bool, str]:
        return -roots[root], root != f"{beside}images/", not root.endswith("images/"), root

    best = [root for root in sorted(roots, key=rank) if roots[root] == max(roots.values())]
    for root in best if len(best) > 1 else ():
        image = next(image for image in images if root + image.name in names)
        try:
            with open_image(source.read(root + image.name)) as opened:
                size = opened.size
        except BadPictureError:
            continue
        if size == (cameras[image.camera].width, cameras[image.camera].height):
            return root
    return best[0] if best else None


def _mask(image: ModelImage, names: frozenset[str]) -> str | None:
    """The mask file that COLMAP would take for a picture: `masks/<name>.png`, else `masks/<stem>.png`."""
    stem = image.name[: len(image.name) - len(suffix_of(image.name))]
    return next((name for part in (image.name, stem) if (name := f"{MASK_FOLDER}/{part}.png") in names), None)


def _traits(source: CaptureSource) -> Traits:
    listing = _list(source)
    missing = tuple(image.name for image, file in zip(listing.images, listing.files, strict=True) if file is None)
    count = len(listing.files) - len(missing)
    return Traits("colmap", count, has_poses=True, has_depth=False, has_gravity=False, ordered=True, missing=missing)


def _files(source: CaptureSource) -> list[str]:
    listing = _list(source)
    return sorted({*listing.model, *(file for file in listing.files if file), *listing.masks.values()})


def _sensors(pairs: Sequence[tuple[ModelImage, str]]) -> list[str | None]:
    """The camera of a rig that each picture is of, else None: a camera a folder, one name for what is of one moment."""
    folders: list[str | None] = [file.rpartition("/")[0].rpartition("/")[2] for _, file in pairs]
    cameras = [image.camera for image, _ in pairs]
    a_folder_each = len({*zip(folders, cameras, strict=True)}) == len({*folders}) == len({*cameras}) > 1
    same_names = len({file.rpartition("/")[2] for _, file in pairs}) < len(pairs)
    return folders if a_folder_each and same_names else [None] * len(pairs)


def _read(source: CaptureSource, out_dir: Path, params: CaptureParams) -> Capture:
    listing = _list(source)
    skipped = without_missing(listing.files, [image.name for image in listing.images], source, params)
    pairs = [(image, file) for image, file in zip(listing.images, listing.files, strict=True) if file]
    poses, about_scale = room_sized([image.pose() for image, _ in pairs])
    lenses = [listing.cameras[image.camera] for image, _ in pairs]
    files = [file for _, file in pairs]
    sensors = _sensors(pairs)
    of_cameras = [[file for file, _ in group] for _, group in groupby(zip(files, sensors, strict=True), itemgetter(1))]
    names = [name for of_camera in of_cameras for name in keys_and_names(of_camera)]
    frames = [
        replace(
            posed_frame(
                source,
                file,
                name,
                lens,
                pose,
                mask=(lambda name=listing.masks[file]: source.read(name)) if file in listing.masks else None,
            ),
            sensor=sensor,
        )
        for file, name, lens, pose, sensor in zip(files, names, lenses, poses, sensors, strict=True)
    ]
    notes = (*about_scale, *listing.notes, *notes_on(lenses, depth=False))
    chosen = thinned(frames, params)
    return sensor_capture("colmap", chosen, source, out_dir, params, skipped=skipped, notes=notes, one_camera=False)


READER = Reader(
    kind="colmap",
    form="a COLMAP project (folder or zip): sparse/0/{cameras,images}.bin (or .txt), images/",
    yields="poses, lens distortion",
    recognise=lambda source: bool(_models(source) or _fragments(source)),
    traits=_traits,
    files=_files,
    read=_read,
)

"""Content of a transforms.json: frames, and the images, depth and masks that they name.

Sources: nerfstudio's nerfstudio_dataparser.py and colmap_utils.py; instant-ngp's nerf_loader.cu; DatasetWriter.swift of
github.com/jc211/NeRFCapture.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat

from pipeline.capture.images import IMAGE_SUFFIXES, MASK_FOLDER
from pipeline.capture.reader import folder_of, natural, suffix_of
from pipeline.capture.reconstructions.posed import found_by_ends, plain
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.parameters import checked

MAIN = "transforms.json"
SPLITS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
MILLIMETRES = 1000.0
"""Units of a metre in depth images without a scale of their own, as nerfstudio has it."""
_MAX_PATH = 1024
_NERFSTUDIO = ("camera_model", "applied_transform", "applied_scale", "ply_file_path", "orientation_override")
_NO_IMAGES = ("depth_file_path", "depth_path", "mask_path")
_LENS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2")


Number = FiniteFloat | None


class Entry(BaseModel):
    """A frame: its own values and those of the file, by the file's keys; numbers may be written as text.

    Attributes:
        where: File and number of the frame, for messages.
        listed: Path of the image as the file names it.
        image: Name of the image in the capture, or None where it is missing.
        shadowed: Whether the frame's own intrinsics differ from the file's, which win.
    """

    where: str
    listed: str
    image: str | None
    shadowed: bool
    timestamp: Number = None
    transform_matrix: list[list[float]] | None = None
    applied_transform: list[list[float]] | None = None
    applied_scale: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    up: list[float] | None = None
    camera_model: str = "OPENCV"
    w: Number = None
    h: Number = None
    fl_x: Number = None
    fl_y: Number = None
    x_fov: Number = None
    y_fov: Number = None
    camera_angle_x: Number = None
    camera_angle_y: Number = None
    cx: Number = None
    cy: Number = None
    k1: FiniteFloat = 0.0
    k2: FiniteFloat = 0.0
    k3: FiniteFloat = 0.0
    k4: FiniteFloat = 0.0
    p1: FiniteFloat = 0.0
    p2: FiniteFloat = 0.0
    is_fisheye: bool = False
    fisheye_crop_radius: Number = None
    ftheta_p0: object = None
    latlong: object = None
    equirectangular: object = None
    depth_file_path: str | None = None
    depth_path: str | None = None
    integer_depth_scale: FiniteFloat = 0.0
    enable_depth_loading: bool = True
    depth_integer_scale: object = None
    colmap_im_id: object = None
    mask_path: str | None = None

    def broken(self, rule: str, found: str, remedy: str) -> CaptureError:
        """The error of this frame."""
        return CaptureError(rule, found=found, remedy=remedy, file=self.where)

    @property
    def is_in_place(self) -> bool:
        """Whether the image lies where it is listed."""
        return self.image in _with_suffixes(posixpath.normpath(self.listed))

    @property
    def is_nerfcapture(self) -> bool:
        """Whether NeRFCapture wrote it: poses and pixels are ARKit's."""
        return self.depth_integer_scale is not None and self.timestamp is not None


def json_files(source: CaptureSource) -> list[str]:
    """The one file of all frames, else the existing files of the splits."""
    return [MAIN] if MAIN in source.names else [name for name in SPLITS if name in source.names]


def _listed(value: object) -> str:
    """A path as listed, with "/"; empty where it is none."""
    return value.replace("\\", "/") if isinstance(value, str) and len(value) <= _MAX_PATH else ""


def _with_suffixes(name: str) -> list[str]:
    return [name, *(name + suffix for low in IMAGE_SUFFIXES for suffix in (low, low.upper()))]


def _resolved(
    value: object, names: frozenset[str], where: str, elsewhere: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, str | None]:
    """A path as listed, and the file it means, with or without its suffix; None where there is none.

    `elsewhere` has files by path that are not where they are listed.
    """
    path = _listed(value)
    name = plain(path)
    if path and name in elsewhere:
        return path, elsewhere[name]
    if not path or name.startswith(("/", "../")) or ":" in name.partition("/")[0]:
        raise CaptureError(
            "a frame must name its files relative to the capture's folder",
            found=f"{value!r}"[:200],
            remedy="copy the files into the folder and write their paths from there: images/0001.jpg",
            file=where,
        )
    return path, next((candidate for candidate in _with_suffixes(name) if candidate in names), None)


def _elsewhere(names: frozenset[str], frames: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Images by listed path, where none lies where it is listed: those of the folder that holds most of them.

    Of equal ones the folder of transforms.json itself comes first, then images/. Folders of depth and masks don't
    count.
    """
    paths = {plain(path) for frame in frames if (path := _listed(frame.get("file_path")))}
    searched = {name: path for path in paths for name in _with_suffixes(path)}
    if not names.isdisjoint(searched):
        return {}
    listed_others = (_listed(frame.get(key)) for frame in frames for key in _NO_IMAGES)
    others = {MASK_FOLDER, *(posixpath.dirname(plain(path)) for path in listed_others)} - {""}
    images = [name for name in names if suffix_of(name) in IMAGE_SUFFIXES and folder_of(name) not in others]
    folders = found_by_ends(searched, sorted(images))
    best = max(folders, key=lambda folder: (len(folders[folder]), folder == "", folder == "images/"), default="")
    return {searched[name]: file for name, file in folders.get(best, {}).items()}


def list_frames(source: CaptureSource) -> list[Entry]:
    """All frames, those of the training split first, in the order of time or names.

    Equal ones count once: where nobody needs a validation split, a copy of the test split stands for it.
    """
    names = frozenset(source.names)
    contents: list[tuple[str, dict[str, object], list[dict[str, object]]]] = []
    for name in json_files(source):
        file, shared = source.where(name), source.read_object(name)
        frames = shared.pop("frames", None)
        if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
            raise source.broken(name, 'the file must hold a list of "frames"', f"{frames!r}"[:80], "export it again")
        contents.append((file, shared, frames))
    elsewhere = _elsewhere(names, [frame for _, _, frames in contents for frame in frames])
    entries: list[Entry] = []
    for file, shared, frames in contents:
        # nerfstudio takes the file's intrinsics where it has some, instant-ngp the frame's
        lens = {key: shared[key] for key in _LENS if key in shared} if not shared.keys().isdisjoint(_NERFSTUDIO) else {}
        found = []
        for number, own in enumerate(frames):
            where = f"{file}, frames[{number}]"
            listed, image = _resolved(own.get("file_path"), names, where, elsewhere)
            shadowed = any(own[key] != lens[key] for key in own.keys() & lens.keys())
            known = {"where": where, "listed": listed, "image": image, "shadowed": shadowed}
            found.append(checked(Entry, {**shared, **own, **lens, **known}, "frame", CaptureError, where))
        entries += sorted(found, key=lambda entry: natural(entry.listed))
    seen: dict[str, Entry] = {}
    for entry in entries:
        first = seen.setdefault(entry.image or entry.listed, entry)
        if first != entry.model_copy(update={"where": first.where, "listed": first.listed}):
            found = f"{entry.listed!r} again with other values, first in {first.where.rpartition('/')[2]}"
            raise entry.broken("each image must be listed once", found, "remove one of the two frames")
    entries = [*seen.values()]
    timed = all(entry.timestamp is not None for entry in entries)
    return sorted(entries, key=lambda entry: entry.timestamp or 0.0) if timed else entries


@dataclass(frozen=True, eq=False)
class Depth:
    """Depth that is used: files by `Entry.listed`, units of their numbers in a metre, and why some is left out."""

    files: Mapping[str, str] = field(default_factory=dict)
    units_per_metre: float = MILLIMETRES
    notes: tuple[str, ...] = ()


def depth_of(source: CaptureSource, entries: Sequence[Entry]) -> Depth:
    """The depth files that can be used.

    Raises:
        CaptureError: When some frames have depth and others don't, or a file is missing.
    """
    in_millimetres = any(entry.depth_file_path for entry in entries)
    key = "depth_file_path" if in_millimetres else "depth_path"
    paths = [entry.depth_file_path if in_millimetres else entry.depth_path for entry in entries]
    if not any(paths):
        return Depth()
    first, reason, units = entries[0], "", MILLIMETRES
    if first.depth_integer_scale is not None:
        reason = "NeRFCapture writes it through 8-bit images that end at 1 m"
    elif any(entry.colmap_im_id is not None for entry in entries):
        reason = "it is made of COLMAP's points, in COLMAP's unit, not measured"
    elif not in_millimetres and (first.integer_depth_scale <= 0 or not first.enable_depth_loading):
        reason = "its unit, integer_depth_scale, is not given or it is switched off"
    elif not in_millimetres:
        units = 1 / first.integer_depth_scale
    if reason:
        return Depth(notes=(f"depth left out: {reason}",))
    without = [entry for entry, path in zip(entries, paths, strict=True) if not path]
    names = frozenset(source.names)
    files: dict[str, str] = {}
    missing = []
    for entry, path in zip(entries, paths, strict=True):
        if path:
            listed, name = _resolved(path, names, entry.where)
            files |= {entry.listed: name} if name else {}
            missing += [] if name else [listed]
    if without or missing:
        found = f"{len(without)} of {len(entries)} frames without {key}"
        found += f", first {without[0].listed!r}" if without else ""
        found += f"; {len(missing)} files missing, first {missing[0]!r}" if missing else ""
        remedy = f"copy the missing files, or remove {key} from all frames"
        raise (without or entries)[0].broken("all frames must have depth, or none", found, remedy)
    return Depth(files, units)


def masks_of(source: CaptureSource, entries: Sequence[Entry]) -> dict[str, str]:
    """Mask files by image, for the frames that have one."""
    names, result = frozenset(source.names), {}
    for entry in entries:
        if entry.mask_path and entry.image:
            listed, name = _resolved(entry.mask_path, names, entry.where)
            if name is None:
                rule, remedy = "a mask that a frame names must exist", "copy the masks, or remove mask_path"
                raise entry.broken(rule, f"no {listed!r}", remedy)
            result[entry.image] = name
    return result

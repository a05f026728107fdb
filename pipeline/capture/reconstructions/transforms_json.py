"""Content of a transforms.json: frames, and the images, depth and masks that they name.

Sources: nerfstudio's nerfstudio_dataparser.py and colmap_utils.py; instant-ngp's nerf_loader.cu; DatasetWriter.swift of
github.com/jc211/NeRFCapture.
"""

from __future__ import annotations

import math
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from pipeline.capture.depth_images import array_of_npy, depth_of_png, millimetres
from pipeline.capture.images import IMAGE_SUFFIXES, MASK_FOLDER
from pipeline.capture.reader import natural, suffix_of
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from pipeline.types import U16

MAIN = "transforms.json"
SPLITS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
MILLIMETRES = 1000.0
"""Units of a metre in depth images without a scale of their own, as nerfstudio has it."""
_MAX_PATH = 1024
_NERFSTUDIO = ("camera_model", "applied_transform", "applied_scale", "ply_file_path", "orientation_override")
_NO_IMAGES = ("depth_file_path", "depth_path", "mask_path")
_LENS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2")


@dataclass(frozen=True, eq=False)
class Entry:
    """A frame of a file: its own values, those of the file, and where they stand.

    Attributes:
        values: Values of frame and file together, those that win on top.
        shadowed: Whether the frame's own intrinsics differ from the file's, which win.
        own: Values of the frame.
        shared: Values of the file.
        where: File and number of the frame, for messages.
        listed: Path of the image as the file names it.
        image: Name of the image in the capture, or None where it is missing.
    """

    values: Mapping[str, Any]
    shadowed: bool
    own: Mapping[str, Any]
    shared: Mapping[str, Any]
    where: str
    listed: str
    image: str | None

    @property
    def is_in_place(self) -> bool:
        """Whether the image lies where it is listed."""
        return self.image in _with_suffixes(posixpath.normpath(self.listed))

    def number(self, key: str, default: float | None = None) -> float:
        """A number, also one written as text.

        Raises:
            CaptureError: When it is none, or missing without a default.
        """
        value = self.values.get(key, default)
        try:
            number = math.nan if isinstance(value, bool) or value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise CaptureError(
                f"{key} must be a finite number",
                found=f"{value!r}"[:80] if key in self.values else "no such key",
                remedy="write the cameras again with the tool that made the file",
                file=self.where,
            )
        return number


def json_files(source: CaptureSource) -> list[str]:
    """The one file of all frames, else those of the splits that there are."""
    return [MAIN] if MAIN in source.names else [name for name in SPLITS if name in source.names]


def _parts(value: object) -> tuple[str, str]:
    """A path as listed, with "/", and its last name."""
    path = value.replace("\\", "/") if isinstance(value, str) and len(value) <= _MAX_PATH else ""
    return path, posixpath.basename(posixpath.normpath(path))


def _with_suffixes(name: str) -> list[str]:
    return [name, *(name + suffix for low in IMAGE_SUFFIXES for suffix in (low, low.upper()))]


def _resolved(
    value: object, names: frozenset[str], where: str, elsewhere: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, str | None]:
    """A path as listed, and the file it means, with or without its suffix; None where there is none.

    Args:
        value: What is listed.
        names: Of the files.
        where: Where it is listed, for messages.
        elsewhere: Files that are not where they are listed, by last name.

    Raises:
        CaptureError: When it is no path inside the capture.
    """
    path, last = _parts(value)
    at = next((elsewhere[name] for name in _with_suffixes(last) if name in elsewhere), None)
    if path and at:
        return path, at
    name = posixpath.normpath(path)
    if not path or name.startswith(("/", "../")) or ":" in name.partition("/")[0]:
        raise CaptureError(
            "a frame must name its files relative to the capture's folder",
            found=f"{value!r}"[:200],
            remedy="copy the files into the folder and write their paths from there: images/0001.jpg",
            file=where,
        )
    return path, next((candidate for candidate in _with_suffixes(name) if candidate in names), None)


def _elsewhere(names: frozenset[str], frames: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Images by last name, where none lies where it is listed: those of the folder that holds most of them.

    Of equal ones the folder of transforms.json itself comes first, then images/. Folders of depth and masks don't
    count, nor do names that are listed twice.
    """
    listed = [_parts(frame.get("file_path")) for frame in frames]
    if any(name in names for path, _ in listed for name in _with_suffixes(posixpath.normpath(path))):
        return {}
    last_names = Counter(last for _, last in listed)
    searched = {name for last, count in last_names.items() if last and count == 1 for name in _with_suffixes(last)}
    listed_others = (_parts(frame.get(key))[0] for frame in frames for key in _NO_IMAGES)
    others = {MASK_FOLDER, *(posixpath.dirname(posixpath.normpath(path)) for path in listed_others)} - {""}
    folders: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        folder, _, last = name.rpartition("/")
        if last in searched and suffix_of(last) in IMAGE_SUFFIXES and folder not in others:
            folders.setdefault(folder, {})[last] = name
    best = max(folders, key=lambda folder: (len(folders[folder]), folder == "", folder == "images"), default="")
    return folders.get(best, {})


def list_frames(source: CaptureSource) -> list[Entry]:
    """All frames, those of the training split first, in the order of time or names."""
    names = frozenset(source.names)
    contents: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = []
    for name in json_files(source):
        file, shared = source.where(name), source.read_object(name)
        frames = shared.pop("frames", None)
        if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
            raise CaptureError(
                'the file must hold a list of "frames"', found=f"{frames!r}"[:80], remedy="export it again", file=file
            )
        contents.append((file, shared, frames))
    elsewhere = _elsewhere(names, [frame for _, _, frames in contents for frame in frames])
    entries: list[Entry] = []
    for file, shared, frames in contents:
        nerfstudio = any(key in shared for key in _NERFSTUDIO)
        found = []
        for number, own in enumerate(frames):
            where = f"{file}, frames[{number}]"
            listed, image = _resolved(own.get("file_path"), names, where, elsewhere)
            # nerfstudio takes the file's intrinsics where it has some, instant-ngp the frame's.
            values = {**own, **{key: shared[key] for key in _LENS if key in shared}} if nerfstudio else own
            shadowed = nerfstudio and any(own[key] != shared[key] for key in _LENS if key in own and key in shared)
            found.append(Entry({**shared, **values}, shadowed, own, shared, where, listed, image))
        entries += sorted(found, key=lambda entry: natural(entry.listed))
    _check_once(entries)
    timed = all("timestamp" in entry.own for entry in entries)
    return sorted(entries, key=lambda entry: entry.number("timestamp")) if timed else entries


def _check_once(entries: Sequence[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        file = entry.image or entry.listed
        if file in seen:
            raise CaptureError(
                "each image must be listed once",
                found=f"{entry.listed!r} again, first in {seen[file].rpartition('/')[2]}",
                remedy="remove one of the two frames",
                file=entry.where,
            )
        seen[file] = entry.where


@dataclass(frozen=True, eq=False)
class Depth:
    """Depth files of the frames, in their order.

    Attributes:
        files: Names of the files; empty where no depth is used.
        units_per_metre: Units of the stored numbers in a metre.
        notes: Why existing depth is left out.
    """

    files: tuple[str, ...] = ()
    units_per_metre: float = MILLIMETRES
    notes: tuple[str, ...] = ()


def depth_of(source: CaptureSource, entries: Sequence[Entry]) -> Depth:
    """The depth files that can be used.

    Raises:
        CaptureError: When some frames have depth and others don't, or a file is missing.
    """
    key = next((k for k in ("depth_file_path", "depth_path") if any(e.own.get(k) for e in entries)), None)
    if key is None:
        return Depth()
    units = _depth_units(entries, key)
    if isinstance(units, str):
        return Depth(notes=(f"depth left out: {units}",))
    without = [entry for entry in entries if not entry.own.get(key)]
    names = frozenset(source.names)
    files = [_resolved(value, names, e.where) for e in entries if (value := e.own.get(key))]
    missing = [listed for listed, name in files if name is None]
    if without or missing:
        raise CaptureError(
            "all frames must have depth, or none",
            found=f"{len(without)} of {len(entries)} frames without {key}"
            + (f", first {without[0].listed!r}" if without else "")
            + (f"; {len(missing)} files missing, first {missing[0]!r}" if missing else ""),
            remedy=f"copy the missing files, or remove {key} from all frames",
            file=(without or entries)[0].where,
        )
    return Depth(tuple(name for _, name in files if name is not None), units)


def _depth_units(entries: Sequence[Entry], key: str) -> float | str:
    """Units per metre of depth files that frames list under `key`, or why they can't be used."""
    first = entries[0]
    if "depth_integer_scale" in first.shared:
        return "NeRFCapture writes it through 8-bit images that end at 1 m"
    if any("colmap_im_id" in entry.own for entry in entries):
        return "it is made of COLMAP's points, in COLMAP's unit, not measured"
    if key == "depth_file_path":
        return MILLIMETRES
    scale = first.number("integer_depth_scale", 0.0)
    if scale <= 0 or first.values.get("enable_depth_loading") is False:
        return "its unit, integer_depth_scale, is not given or it is switched off"
    return 1 / scale


def masks_of(source: CaptureSource, entries: Sequence[Entry]) -> dict[str, str]:
    """Mask files by image, for the frames that have one."""
    names, result = frozenset(source.names), {}
    for entry in entries:
        if entry.own.get("mask_path") and entry.image:
            listed, name = _resolved(entry.own["mask_path"], names, entry.where)
            if name is None:
                raise CaptureError(
                    "a mask that a frame names must exist",
                    found=f"no {listed!r}",
                    remedy="copy the masks, or remove mask_path",
                    file=entry.where,
                )
            result[entry.image] = name
    return result


def depth_reader(source: CaptureSource, name: str, units_per_metre: float) -> Callable[[], U16]:
    """Reads depth (H, W) [mm] of a PNG or numpy file; raises as `ListedFrame.depth` may, and `CaptureError`."""
    decode = _depth_of_npy if suffix_of(name) == ".npy" else depth_of_png
    return lambda: decode(source.read(name), source.where(name), units_per_metre)


def _depth_of_npy(data: bytes, file: str, units_per_metre: float) -> U16:
    """Depth (H, W) [mm] of a numpy file, whose numbers are in the unit of the PNGs.

    Raises:
        BadImageError: When it can't be decoded.
        CaptureError: When it doesn't hold (H, W) or (H, W, 1) numbers.
    """
    values = array_of_npy(data)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2:
        raise CaptureError(
            "a depth array must have the shape (H, W)",
            found=f"{values.dtype} of shape {values.shape}",
            remedy="write depth as 16-bit PNG in millimetres",
            file=file,
        )
    return millimetres(values.astype(np.float64) / units_per_metre)

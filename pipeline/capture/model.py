"""The canonical capture, which every reader produces and every stage starts from, and the choice of its keyframes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from pipeline.geometry import Camera, Pose
from pipeline.types import F64

T = TypeVar("T")

CAPTURE_FILE = "capture.json"
SELECTION_FILE = "selection.json"
FORMAT_VERSION = 1
MAX_LISTED = 1000
"""Number of files listed per reason in reports; `capture.json` and `selection.json` name all of them."""

FocalSource = Literal["exact", "given", "exif", "guessed"]
"""Where a lens is from; an exact one is computed, and nothing changes it."""
Credentials = Literal["generated", "signed"]
Size = tuple[int, int]
"""Width and height [px]."""
_Vector = Annotated[
    F64, PlainValidator(lambda values: np.asarray(values, np.float64)), PlainSerializer(np.ndarray.tolist)
]
_Pose = Annotated[Pose, PlainValidator(Pose.from_matrix), PlainSerializer(lambda pose: pose.matrix.tolist())]


@dataclass(frozen=True, eq=False)
class InRig:
    """Where an image's camera is in a rig of several that are fixed to each other and take their images at once.

    Attributes:
        rig: Name of the rig.
        shot: Name of that moment: the images that were taken then have it in common.
        rig_from_camera: The camera's pose in the rig, exact [capture's unit].
    """

    rig: str
    shot: str
    rig_from_camera: _Pose


@dataclass(frozen=True, eq=False)
class Frame:
    """One image and what its source knows of it. Paths are relative to the capture's root, with `/`.

    Attributes:
        name: Unique within the capture; the image's file name at the source.
        image: Path of the RGB image, EXIF orientation already applied.
        camera: Intrinsics of that image, lens distortion included.
        time: Seconds since the capture's first frame, or None for unordered photos.
        source_time: The source's own clock, in its own unit, or None.
        world_from_camera: Camera-to-world pose in the capture's own world [m], or None.
        depth: Path of a 16-bit PNG [mm], 0 = unknown, or None.
        depth_camera: Intrinsics of the depth image, or None.
        confidence: Path of an 8-bit PNG, 0 = worst, 255 = best, of the depth image's size, or None.
        gravity: (3,) unit direction of gravity in the camera's axes, or None.
        mask: Path of an 8-bit PNG of the image's size, 0 = ignore, 255 = use, or None where all pixels count.
        source_size: Width and height of the image at its source, where it was shrunk as it was read, or None.
        gps: (3,) east, north and up by satellites, from the middle of all photos [m], or None.
        gps_sigma: One sigma of it, horizontal and vertical [m], or None.
        sensor: Name of the camera where there are several (of a rig, of several phones), or None.
        in_rig: Its place among the images that were taken with it, where that is exact (faces of a panorama), or None.
    """

    name: str
    image: str
    camera: Camera
    focal_source: FocalSource
    time: float | None = None
    source_time: float | None = None
    world_from_camera: _Pose | None = None
    depth: str | None = None
    depth_camera: Camera | None = None
    confidence: str | None = None
    gravity: _Vector | None = None
    mask: str | None = None
    source_size: Size | None = None
    gps: _Vector | None = None
    gps_sigma: tuple[float, float] | None = None
    sensor: str | None = None
    in_rig: InRig | None = None

    @property
    def shot(self) -> str:
        """What the images of one moment and place have in common."""
        return self.in_rig.shot if self.in_rig else self.name


def as_named(images: Mapping[str, T]) -> dict[str, T]:
    """What images are by their names, and by names without the suffix where no image is called so."""
    return {PurePath(name).stem: image for name, image in images.items()} | dict(images)


@dataclass(frozen=True)
class Location:
    """Where a capture was made (WGS 84): the median over the `images` that state their position.

    `spread_m` is their median horizontal distance from it.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None
    spread_m: float
    images: int


@dataclass(frozen=True)
class Origin:
    """Where the world of a capture's poses lies in its source's own: x_source = scale * x + position.

    Worlds of maps (UTM, ECEF) are centred on reading: what computes with millions of metres has no digits left.
    """

    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0


@dataclass(frozen=True)
class Blurred:
    """Number of blurred faces and number plates (None: not searched for) and of images with any, by which detectors."""

    faces: int | None
    plates: int | None
    images: int
    detectors: tuple[str, ...]


@dataclass(frozen=True)
class Credentialed:
    """Number of the source's files that state who made them, by content credentials (C2PA) or IPTC's terms.

    Those that state that a model generated them are not counted as signed, too.
    """

    signed: int
    generated: int

    @staticmethod
    def of(credentials: Sequence[Credentials | None]) -> Credentialed | None:
        """Counts over files; None where no file states anything."""
        signed, generated = credentials.count("signed"), credentials.count("generated")
        return Credentialed(signed, generated) if signed or generated else None


@dataclass(frozen=True)
class Skipped:
    """A source file that was left out, why, and what to do if it should not be."""

    file: str
    reason: str
    remedy: str = field(default="", compare=False)


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture in one form, whatever it came from.

    Attributes:
        root: Folder that the frames' paths are relative to.
        kind: The reader that made it: photos, video, polycam ...
        frames: Frames in order of time, or of name for unordered photos; those of a rig camera by camera.
        ordered: Whether neighbours in `frames` of one camera are neighbours in time (a video or a scan).
        up_in_world: (3,) unit up direction in the poses' world, when the source states it (ARKit: +y), or None.
        up_sigma_deg: One sigma of it [deg], or None.
        gravity_sigma_deg: One sigma that the frames' gravity has in common, whatever their number [deg], or None.
        gravity_sources: What the frames' gravity is from.
        scale_sigma: Relative one sigma of the metric scale of poses and depth, or None where there is no scale.
        depth_range: Farthest depth that its sensor measures well [m], or None for what is usual indoors.
        turntable: Whether the camera stood still before an object that turned; masks leave out all else.
        on_machine: Whether a robot, drone or car carried the cameras, at any height.
        world_origin: Where the poses' world lies in the source's own, or None without poses.
        location: Where it was made, when `CaptureParams.keep_gps` is set and the source states it, or None.
        notes: What a person should know of how it was read.
        assumed: What the reader assumed and couldn't check, a clause each; the bundle's report repeats it.
    """

    root: Path
    kind: str
    frames: tuple[Frame, ...]
    ordered: bool
    up_in_world: _Vector | None = None
    up_sigma_deg: float | None = None
    gravity_sigma_deg: float | None = None
    gravity_sources: tuple[str, ...] = ("accelerometer",)
    scale_sigma: float | None = None
    depth_range: float | None = None
    turntable: bool = False
    on_machine: bool = False
    world_origin: Origin | None = None
    location: Location | None = None
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    blurred: Blurred | None = None
    credentials: Credentialed | None = None
    assumed: tuple[str, ...] = ()

    @property
    def has_depth(self) -> bool:
        """Whether every frame has a depth image."""
        return bool(self.frames) and all(frame.depth for frame in self.frames)

    @property
    def has_poses(self) -> bool:
        """Whether every frame has a pose."""
        return bool(self.frames) and all(frame.world_from_camera for frame in self.frames)

    def save(self) -> None:
        """Write `capture.json` into the root: every field under its name."""
        content = _capture_adapter().dump_python(self, mode="json", exclude={"root"})
        header = {"format": "splatyard.capture", "version": FORMAT_VERSION}
        (self.root / CAPTURE_FILE).write_text(json.dumps(header | content, indent=1))

    @staticmethod
    def load(root: Path) -> Capture:
        """Read the canonical capture folder `root`."""
        content = json.loads((root / CAPTURE_FILE).read_text())
        return _capture_adapter().validate_python({**content, "root": root})


@cache
def _capture_adapter() -> TypeAdapter[Capture]:
    return TypeAdapter(Capture)


@dataclass(frozen=True)
class Keyframe:
    """A frame that is used; held out, by the check only.

    `sharpness` is the variance of the Laplacian of the grey image at 640 px, relative to the neighbours' median.
    """

    name: str
    held_out: bool
    sharpness: float


@dataclass(frozen=True)
class Dropped:
    """A frame that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """Keyframes in the capture's order, and what was dropped."""

    keyframes: tuple[Keyframe, ...]
    dropped: tuple[Dropped, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all keyframes, held-out ones included."""
        return tuple(keyframe.name for keyframe in self.keyframes)

    @property
    def held_out(self) -> frozenset[str]:
        """Names of the held-out keyframes."""
        return frozenset(keyframe.name for keyframe in self.keyframes if keyframe.held_out)

    def save(self, folder: Path) -> None:
        """Write `selection.json`."""
        (folder / SELECTION_FILE).write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(folder: Path) -> Selection:
        """Read what `save` wrote."""
        return TypeAdapter(Selection).validate_json((folder / SELECTION_FILE).read_bytes())


@dataclass(frozen=True)
class LeftOut:
    """Images that were left out for one reason; of the files at most `MAX_LISTED` are listed."""

    reason: str
    count: int
    files: Annotated[list[str], Field(min_length=1)]


@dataclass(frozen=True)
class ImageReport:
    """Number of images of a capture, and which of them the capture and the select stage left out."""

    images: int
    left_out: list[LeftOut]
    not_used: list[LeftOut]


def left_out_by_reason(left_out: Iterable[Skipped | Dropped]) -> list[LeftOut]:
    """Images that were left out by reason, the most frequent reason first.

    What a reason says of its one file, behind a colon or in brackets, is left away.
    """
    files: dict[str, list[str]] = {}
    for item in left_out:
        file = item.file if isinstance(item, Skipped) else item.name
        files.setdefault(re.split(r": | \(", item.reason)[0], []).append(file)
    ranked = sorted(files.items(), key=lambda item: -len(item[1]))
    return [LeftOut(reason, len(names), names[:MAX_LISTED]) for reason, names in ranked]


def image_report(capture: Capture, selection: Selection) -> ImageReport:
    """Number of images, and those that the two stages left out."""
    images = len(capture.frames) + len(capture.skipped)
    return ImageReport(images, left_out_by_reason(capture.skipped), left_out_by_reason(selection.dropped))


def left_out_lines(report: object) -> list[tuple[str, str]]:
    """An `ImageReport` for people: which images, and `left_out_line` of them; nothing where all are used.

    A report of another form, as bundles from elsewhere may hold, gives nothing either.
    """
    try:
        known = TypeAdapter(ImageReport).validate_python(report)
    except ValidationError:
        return []
    named = (("images left out", known.left_out), ("images not used", known.not_used))
    return [(name, left_out_line(reasons, known.images)) for name, reasons in named if reasons]


def left_out_line(reasons: Sequence[LeftOut], images: int) -> str:
    """One line about a capture of that many images: "4 of 24: no depth (3), image file is truncated (IMG_7.jpg)"."""
    counts = [f"{item.reason} ({item.count if item.count > 1 else item.files[0]})" for item in reasons]
    return f"{sum(item.count for item in reasons)} of {images}: {', '.join(counts)}"

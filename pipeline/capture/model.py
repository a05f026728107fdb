"""The canonical capture: what every reader produces and every stage starts from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.capture.credentials import Credentials
from pipeline.geometry import Camera, Pose

CAPTURE_FILE = "capture.json"
FORMAT_VERSION = 1

FocalSource = Literal["given", "exif", "guessed"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture and what its source knows of it. Paths are relative to the capture's root, with `/`.

    Attributes:
        name: Unique within the capture; the picture's file name at the source.
        image: Path of the RGB picture, EXIF orientation already applied.
        camera: Intrinsics of that picture, lens distortion included.
        focal_source: Whether the focal length was given, read from EXIF or guessed.
        time: Seconds since the capture's first frame, or None for unordered photos.
        source_time: The source's own clock, in its own unit, or None.
        world_from_camera: Camera-to-world pose in the capture's own world [m], or None.
        depth: Path of a 16-bit PNG [mm], 0 = unknown, or None.
        depth_camera: Intrinsics of the depth image, or None.
        confidence: Path of an 8-bit PNG, 0 = worst, 255 = best, of the depth image's size, or None.
        gravity: (3,) unit direction of gravity in the camera's axes, or None.
        mask: Path of an 8-bit PNG of the picture's size, 0 = ignore, 255 = use, or None where all pixels count.
        source_size: Width and height of the picture at its source, where it was shrunk as it was read, or None.
        sensor: Which of several cameras (of a rig, of several phones) took it, or None where there is only one.
    """

    name: str
    image: str
    camera: Camera
    focal_source: FocalSource
    time: float | None = None
    source_time: float | None = None
    world_from_camera: Pose | None = None
    depth: str | None = None
    depth_camera: Camera | None = None
    confidence: str | None = None
    gravity: NDArray[np.float64] | None = None
    mask: str | None = None
    source_size: tuple[int, int] | None = None
    sensor: str | None = None


@dataclass(frozen=True)
class Location:
    """Where a capture was made (WGS 84): the median of its pictures.

    Attributes:
        latitude_deg: North is positive.
        longitude_deg: East is positive.
        altitude_m: Above sea level, or None.
        spread_m: Median horizontal distance of the pictures from it.
        pictures: How many say where they were taken.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None
    spread_m: float
    pictures: int


@dataclass(frozen=True)
class Blurred:
    """What was made unrecognisable in a capture's pictures.

    Attributes:
        faces: How many; None where they weren't looked for.
        plates: Likewise, of number plates.
        pictures: How many had any.
        detectors: What looked for them, with the beginning of their models' SHA-256.
    """

    faces: int | None
    plates: int | None
    pictures: int
    detectors: tuple[str, ...]


@dataclass(frozen=True)
class Credentialed:
    """How many of the source's files say by content credentials (C2PA) or IPTC's words who made them.

    Attributes:
        signed: With credentials that don't call them generated.
        generated: That say that a model generated them.
    """

    signed: int
    generated: int

    @staticmethod
    def of(told: Sequence[Credentials | None]) -> Credentialed | None:
        """The sum of what files say; None where none says anything."""
        signed, generated = told.count("signed"), told.count("generated")
        return Credentialed(signed, generated) if signed or generated else None


@dataclass(frozen=True)
class Skipped:
    """A source file that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture in one form, whatever it came from.

    Attributes:
        root: Folder that the frames' paths are relative to.
        kind: The reader that made it: photos, video, polycam ...
        frames: In order of time, or of name for unordered photos; those of a rig camera by camera.
        ordered: Whether neighbours in `frames` of one camera are neighbours in time (a video or a scan).
        up_in_world: (3,) unit up direction in the poses' world, when the source says so (ARKit: +y), or None.
        up_sigma_deg: One sigma of it [deg], or None.
        gravity_sigma_deg: One sigma that the frames' gravity has in common, whatever their number [deg], or None.
        scale_sigma: Relative one sigma of the metric scale of poses and depth, or None where there is no scale.
        depth_range: Farthest depth that its sensor measures well [m], or None for what is usual indoors.
        location: Where it was made, when `CaptureParams.keep_gps` asks for it and the source says so, or None.
        skipped: Source files left out.
        notes: What a person should know of how it was read.
        blurred: What was made unrecognisable, or None where nothing was looked for.
        credentials: What its files say of who made them, or None.
        assumed: What the reader took for granted and couldn't check, a clause each; the bundle's report tells it.
    """

    root: Path
    kind: str
    frames: tuple[Frame, ...]
    ordered: bool
    up_in_world: NDArray[np.float64] | None = None
    up_sigma_deg: float | None = None
    gravity_sigma_deg: float | None = None
    scale_sigma: float | None = None
    depth_range: float | None = None
    location: Location | None = None
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = field(default=())
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

    def frame(self, name: str) -> Frame:
        """The frame of that name.

        Raises:
            KeyError: When there is none.
        """
        for candidate in self.frames:
            if candidate.name == name:
                return candidate
        raise KeyError(f"no frame {name!r}; there are {[f.name for f in self.frames[:5]]} ...")

    def save(self) -> None:
        """Write `capture.json` into the root."""
        content = {
            "format": "splatyard.capture",
            "version": FORMAT_VERSION,
            "kind": self.kind,
            "ordered": self.ordered,
            "up_in_world": _list(self.up_in_world),
            "up_sigma_deg": self.up_sigma_deg,
            "gravity_sigma_deg": self.gravity_sigma_deg,
            "scale_sigma": self.scale_sigma,
            "depth_range": self.depth_range,
            "location": None if self.location is None else asdict(self.location),
            "blurred": None if self.blurred is None else asdict(self.blurred),
            "credentials": None if self.credentials is None else asdict(self.credentials),
            "skipped": [{"file": s.file, "reason": s.reason} for s in self.skipped],
            "notes": list(self.notes),
            "assumed": list(self.assumed),
            "frames": [_frame_to_json(frame) for frame in self.frames],
        }
        (self.root / CAPTURE_FILE).write_text(json.dumps(content, indent=1))

    @staticmethod
    def load(root: Path) -> Capture:
        """Read the canonical capture folder `root`."""
        content = json.loads((root / CAPTURE_FILE).read_text())
        return Capture(
            root=root,
            kind=content["kind"],
            frames=tuple(_frame_from_json(values) for values in content["frames"]),
            ordered=content["ordered"],
            up_in_world=_array(content["up_in_world"]),
            up_sigma_deg=content["up_sigma_deg"],
            gravity_sigma_deg=content.get("gravity_sigma_deg"),
            scale_sigma=content["scale_sigma"],
            depth_range=content.get("depth_range"),
            location=Location(**content["location"]) if content.get("location") else None,
            skipped=tuple(Skipped(**values) for values in content["skipped"]),
            notes=tuple(content["notes"]),
            assumed=tuple(content.get("assumed", ())),
            blurred=_blurred(content.get("blurred")),
            credentials=Credentialed(**content["credentials"]) if content.get("credentials") else None,
        )


def _blurred(values: dict[str, Any] | None) -> Blurred | None:
    return Blurred(**{**values, "detectors": tuple(values["detectors"])}) if values else None


def _list(values: NDArray[np.float64] | None) -> list[float] | None:
    return None if values is None else [float(v) for v in values]


def _array(values: Sequence[float] | None) -> NDArray[np.float64] | None:
    return None if values is None else np.asarray(values, np.float64)


def _frame_to_json(frame: Frame) -> dict[str, Any]:
    pose = frame.world_from_camera
    return {
        "name": frame.name,
        "image": frame.image,
        "camera": frame.camera.to_json(),
        "focal_source": frame.focal_source,
        "time": frame.time,
        "source_time": frame.source_time,
        "world_from_camera": None if pose is None else pose.matrix.tolist(),
        "depth": frame.depth,
        "depth_camera": None if frame.depth_camera is None else frame.depth_camera.to_json(),
        "confidence": frame.confidence,
        "gravity": _list(frame.gravity),
        "mask": frame.mask,
        "source_size": frame.source_size,
        "sensor": frame.sensor,
    }


def _frame_from_json(values: dict[str, Any]) -> Frame:
    pose, depth_camera = values["world_from_camera"], values["depth_camera"]
    return Frame(
        name=values["name"],
        image=values["image"],
        camera=Camera.from_json(values["camera"]),
        focal_source=values["focal_source"],
        time=values["time"],
        source_time=values["source_time"],
        world_from_camera=None if pose is None else Pose.from_matrix(pose),
        depth=values["depth"],
        depth_camera=None if depth_camera is None else Camera.from_json(depth_camera),
        confidence=values["confidence"],
        gravity=_array(values["gravity"]),
        mask=values.get("mask"),
        source_size=tuple(values["source_size"]) if values.get("source_size") else None,
        sensor=values.get("sensor"),
    )

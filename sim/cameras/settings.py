"""The cameras of a robot: lens, mount and outputs; and how they behave: clock, exposure, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.capture.lens import Lens
from pipeline.geometry import Camera, Pose

Output = Literal["rgb", "depth", "normals"]


@dataclass(frozen=True, eq=False)
class RobotCamera:
    """A camera of a robot.

    Attributes:
        lens: A pinhole, OpenCV's, or one of COLMAP's models (`pipeline.capture.lens.LAYOUTS`).
        name: Observations are called `<name>_rgb` and so on; without a name just `rgb`.
        link: Name of the link that carries it; None for the base.
        link_from_camera: Its mount; None for the site `camera` of the base in the robot's file.
        outputs: `rgb` (H, W, 3) uint8; `depth` (H, W) float32 along the camera's z [m], 0 = unknown; `normals`
            (H, W, 3) float32 from the depth, in the camera's axes, towards it, 0 = unknown.

    Raises:
        ValueError: When an output is unknown or there is none, or a link is named without a mount on it.
    """

    lens: Camera | Lens
    name: str = ""
    link: str | None = None
    link_from_camera: Pose | None = None
    outputs: tuple[Output, ...] = ("rgb",)

    def __post_init__(self) -> None:
        if not self.outputs or not set(self.outputs) <= set(get_args(Output)):
            raise ValueError(f"outputs must be some of {', '.join(get_args(Output))}, got {self.outputs}")
        if self.link is not None and self.link_from_camera is None:
            raise ValueError(f"a camera on link {self.link!r} needs a link_from_camera")

    def key(self, output: Output) -> str:
        """Name of an observation."""
        return f"{self.name}_{output}" if self.name else output


Range = tuple[float, float]


@dataclass(frozen=True)
class CameraSettings:
    """Ranges to draw from uniformly, for each environment at the beginning of each episode.

    Attributes:
        period: Time between two images [s]; 0 takes one at every control step.
        latency: Time between exposure and arrival [s].
        dropped: Fraction of images that never arrive.
        exposure: Exposure time, in which an image blurs along the camera's motion [s].
        blur_samples: Number of images that are averaged for that.
        mount_translation: Largest offset of the mount along each axis [m].
        mount_rotation: Largest rotation of the mount about each axis [rad].
        gain: Factor of the brightness.
        white_balance: Factor of each colour channel.
        noise: Standard deviation of the read-out noise, 0..1.
        jpeg_quality: 1..100 of a JPEG between camera and agent; None for none.
    """

    period: Range = (0.0, 0.0)
    latency: Range = (0.0, 0.0)
    dropped: float = 0.0
    exposure: float = 0.0
    blur_samples: int = 5
    mount_translation: float = 0.0
    mount_rotation: float = 0.0
    gain: Range = (1.0, 1.0)
    white_balance: Range = (1.0, 1.0)
    noise: float = 0.0
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        for name in ("period", "latency", "gain", "white_balance"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be a range of numbers from 0 on, got {low} to {high}")
        for name in ("exposure", "mount_translation", "mount_rotation", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.dropped < 1:
            raise ValueError(f"dropped must lie in [0, 1), got {self.dropped}")
        if self.blur_samples < 2:
            raise ValueError(f"blur_samples must be at least 2, got {self.blur_samples}")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}")

"""The cameras of a robot: lens, mount and outputs; and how they behave: clock, exposure, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from pipeline.capture.lens import Lens
from pipeline.geometry import Camera, Pose
from pipeline.parameters import Settings
from sim.ranges import NotNegative, PositiveRange, Range

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
        depth_of: What depths are of: the splat, as fast as colours; or the mesh, as a depth camera measures it, unknown
            where there is none. A splat is made to look right: near the floor its depths are off by a tenth and more.

    Raises:
        ValueError: When an output is unknown or there is none, or a link is named without a mount on it.
    """

    lens: Camera | Lens
    name: str = ""
    link: str | None = None
    link_from_camera: Pose | None = None
    outputs: tuple[Output, ...] = ("rgb",)
    depth_of: Literal["splat", "mesh"] = "splat"

    def __post_init__(self) -> None:
        if not self.outputs or not set(self.outputs) <= set(get_args(Output)):
            raise ValueError(f"outputs must be some of {', '.join(get_args(Output))}, got {self.outputs}")
        if self.link is not None and self.link_from_camera is None:
            raise ValueError(f"a camera on link {self.link!r} needs a link_from_camera")

    def key(self, output: Output) -> str:
        """Name of an observation."""
        return f"{self.name}_{output}" if self.name else output


class DepthNoise(Settings):
    """How a depth camera differs from an ideal one; by default about as a stereo camera with a baseline of 5 cm."""

    noise: Annotated[float, Field(ge=0, le=1)] = 0.004
    """Standard deviation of the inverse depth [1/m]: 4 mm at 1 m, 16 mm at 2 m."""
    step: Annotated[float, Field(ge=0, le=1)] = 0.006
    """Step of the inverse depth, the smallest difference that it knows [1/m]."""
    range: Range = (0.2, 6.0)
    """Smallest and largest depth [m]; beyond there is none."""
    edge_loss: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the pixels beside jumps of the depth that have none."""
    gloss: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the image in patches that have none, as where something shines."""


@checked_dataclass(frozen=True)
class CameraSettings:
    """Ranges to draw from, for each environment at the beginning of each episode.

    Attributes:
        period: Time between two images [s]; 0 takes one at every control step.
        latency: Time between exposure and arrival [s].
        dropped: Fraction of images that never arrive.
        exposure: Exposure time, in which an image blurs along the camera's motion [s].
        blur_samples: Number of images that are averaged for that.
        mount_translation: Largest offset of the mount along each axis [m].
        mount_rotation: Largest rotation of the mount about each axis [rad].
        stand_translation: The same in addition for a camera that stands beside a fixed base [m].
        stand_rotation: The same in addition for such a camera [rad].
        focal: Factor of the focal length.
        gain: Factor of the brightness.
        white_balance: Factor of each colour channel. With either, the light on an arm's table comes from anywhere.
        noise: Standard deviation of the read-out noise, 0..1.
        jpeg_quality: 1..100 of a JPEG between camera and agent; None for none.
        depth_noise: How depths differ from true ones; None for ideal ones. Normals stay those of true depths.
    """

    period: Range = (0.0, 0.0)
    latency: Range = (0.0, 0.0)
    dropped: Annotated[float, Field(ge=0, lt=1)] = 0.0
    exposure: NotNegative = 0.0
    blur_samples: Annotated[int, Field(ge=2)] = 5
    mount_translation: NotNegative = 0.0
    mount_rotation: NotNegative = 0.0
    stand_translation: NotNegative = 0.0
    stand_rotation: NotNegative = 0.0
    focal: PositiveRange = (1.0, 1.0)
    gain: Range = (1.0, 1.0)
    white_balance: Range = (1.0, 1.0)
    noise: NotNegative = 0.0
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = None
    depth_noise: DepthNoise | None = None

    @property
    def varies_light(self) -> bool:
        """Whether brightness or colour differ between episodes."""
        return self.gain != (1.0, 1.0) or self.white_balance != (1.0, 1.0)

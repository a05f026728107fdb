"""Which cameras a robot carries, where, and what they give."""

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
        lens: A pinhole, OpenCV's, or any of COLMAP's models (`pipeline.capture.lens.LAYOUTS`).
        name: Observations are called `<name>_rgb` and so on; without a name just `rgb`.
        link: Name of the link that carries it; None for the base.
        link_from_camera: The mount; None for the place that the robot's file names (site `camera` of the base).
        outputs: `rgb` (H, W, 3) uint8; `depth` (H, W) float32 along the camera's z [m], 0 = unknown; `normals`
            (H, W, 3) float32 of what is seen there, from the depth, in the camera's axes, towards it, 0 = unknown.

    Raises:
        ValueError: When it gives nothing or something unknown, or a link is named without a mount on it.
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
        """The name of an observation."""
        return f"{self.name}_{output}" if self.name else output

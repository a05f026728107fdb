"""What a map of the ground is made from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.parameters import Settings
from sim.ranges import NotNegative, Range
from sim.sensors.cameras.settings import DepthNoise


class MapSettings(Settings):
    """The depth camera and the odometry from which a robot makes its map of the ground."""

    depth_of: Literal["splat", "mesh", "colors"] = "mesh"
    """What the camera sees the depth of; of colors it sees none, and the robot's eyes say it."""
    eyes: Path | None = None
    """The file .npz of these eyes; None for those that come with splatyard."""
    period: Range = (0.06, 0.06)
    """Time between two images [s]."""
    latency: Range = (0.08, 0.08)
    """Time until an image is in the map [s]."""
    noise: DepthNoise | None = DepthNoise(range=(0.25, 3.0))
    """Noise and holes of the depth; None for true depths."""
    grain: NotNegative = 0.01
    """Noise of colours, 0..1."""
    drift: Annotated[float, Field(ge=0, le=0.5)] = 0.01
    """By how much odometry is wrong, as a share of the way."""
    tilt: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """By how much a robot is wrong about its roll and pitch [rad]."""

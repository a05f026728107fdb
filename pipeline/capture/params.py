"""Parameters of the capture and select stages."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.constants import DECLARED
from pipeline.parameters import Known, Settings, zero_or

Share = Annotated[float, Field(ge=0, le=1)]


class CaptureParams(Settings):
    """How a source is read into the canonical capture."""

    min_frames: Annotated[int, Field(ge=2)] = 3
    """Fewest readable images that are worth starting with."""
    max_bad_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest share of unreadable images that are skipped and reported; above it reading stops."""
    min_track: Annotated[float, Field(ge=0)] = 0.05
    """Smallest extent of the camera path [m], where poses are given."""
    start: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after the first frame before which frames are left out; recordings only."""
    end: float | None = None
    """Seconds after the first frame from which on frames are left out; recordings only."""
    stride: Annotated[int, Field(ge=1)] = 1
    """Every stride-th frame of a recording is read."""
    one_object: bool = False
    """Whether the capture shows one object, from all sides or on a turntable, and the bundle is that object."""
    origin: Literal["auto", "filmed", "rendered", "generated"] = "auto"
    """Whether a capture was filmed, rendered by a program or made by a model; auto: generated where its content
    credentials say so, else filmed."""
    cameras: Known = "first"
    """Which cameras of a rig are read: first (the best one), all, or names with commas between them."""
    keep_gps: bool = False
    """Whether the photos' location (GPS) is kept in the bundle's manifest; outdoors its origin's place on the Earth and
    heading as well."""
    pose_convention: Known = DECLARED
    """What the given poses are, where not what their format declares: a name that the error of wrong poses gives."""
    blur_faces: bool = False
    """Whether faces are blurred before any later step sees the images."""
    blur_plates: bool = False
    """Whether number plates are blurred, too."""
    topics: dict[Known, Known] = Field(default_factory=dict)
    """Topics of a ROS bag by role (camera, camera_info, depth, depth_info, cloud, imu, odometry). Those not given are
    guessed; "none" leaves a role empty, "tf" for odometry takes poses from tf."""

    def content(self) -> dict[str, object]:
        """As of all settings; captures keep the results that they had before there were objects and conventions."""
        newer = {"one_object": False, "pose_convention": DECLARED}
        return {name: value for name, value in super().content().items() if name not in newer or value != newer[name]}

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end must be after start, got {self.start} and {self.end}")
        return self


KEYFRAMES = 240
"""Of a room."""


class SelectParams(Settings):
    """Which frames become keyframes, and which of those are held out."""

    max_keyframes: Annotated[int, zero_or(3)] = 0
    """Largest number of keyframes; above it the sharpest of evenly spread groups stay. 0 is 240 for a room, more in
    larger places, whose size depth and given poses tell."""
    held_out_every: Annotated[int, Field(ge=2)] = 8
    """Keyframe 0, 8, 16 ... is kept from map and training to measure them; nothing is held out of fewer than this."""
    min_sharpness: Share = 0.15
    """Smallest variance of the Laplacian relative to the neighbours' median; softer frames are dropped as blurred."""
    max_blur: Share = 0.7
    """Largest blur (0 sharp, 1 blurred: share of gradients that survive another blur) whatever the neighbours."""
    min_parallax: Share = 0.0015
    """Smallest median movement since the last keyframe [share of the long side]; ordered captures only."""
    min_usable_share: Share = 0.5
    """Smallest share of frames that are neither black nor blurred; below it the capture is refused."""

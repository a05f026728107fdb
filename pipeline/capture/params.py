"""Parameters of the capture and select stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pipeline.parameters import Known, Means


@dataclass(frozen=True)
class CaptureParams:
    """How a source is read into the canonical capture."""

    min_frames: int = 3
    """Fewest readable pictures that are worth starting with."""
    max_bad_share: float = 0.2
    """Largest share of unreadable pictures that are skipped and reported; above it reading stops."""
    min_track: float = 0.05
    """Smallest extent of the camera track [m], where poses are given."""
    start: float = 0.0
    """Seconds after the first frame before which frames are left out; recordings only."""
    end: float | None = None
    """Seconds after the first frame from which on frames are left out; recordings only."""
    stride: int = 1
    """Every how many frames of a recording one is read."""
    origin: Literal["auto", "filmed", "generated"] = "auto"
    """Whether a capture was filmed or made by a model; auto: generated where its content credentials say so."""
    cameras: Known = "first"
    """Which cameras of a rig are read: first (the best one), all, or names with commas between them."""
    keep_gps: bool = False
    """Whether the place where photos were taken (GPS) is kept and told in the bundle's manifest."""
    blur_faces: bool = False
    """Whether faces are made unrecognisable before anything else sees the pictures."""
    blur_plates: bool = False
    """Likewise number plates."""
    blur_models: Annotated[tuple[str, ...], Means("planned")] = ()
    """What looks for them; the plan fills it in, so that another model blurs anew."""
    topics: dict[Known, Known] = field(default_factory=dict)
    """Topics of a ROS bag by role (camera, camera_info, depth, depth_info, cloud, imu, odometry): those that aren't
    given are guessed; "none" leaves a role empty, "tf" for odometry takes poses from tf."""

    def __post_init__(self) -> None:
        if self.min_frames < 2:
            raise ValueError(f"min_frames must be at least 2, got {self.min_frames}")
        if not 0 <= self.max_bad_share < 1:
            raise ValueError(f"max_bad_share must lie in [0, 1), got {self.max_bad_share}")
        if self.min_track < 0:
            raise ValueError(f"min_track must not be negative, got {self.min_track}")
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError(f"start must not be negative and end lie after it, got {self.start} and {self.end}")
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, got {self.stride}")


@dataclass(frozen=True)
class SelectParams:
    """Which frames become keyframes, and which of those are held out."""

    max_keyframes: int = 240
    """Most keyframes; above it the sharpest of evenly spread groups stay."""
    held_out_every: int = 8
    """Keyframe 0, 8, 16 ... is kept from map and training to measure them; nothing is held out of fewer than this."""
    min_sharpness: float = 0.15
    """Least variance of the Laplacian relative to the neighbours' median; softer frames are dropped as blurred."""
    max_blur: float = 0.7
    """Largest blur (0 sharp, 1 blurred: share of gradients that survive another blur) whatever the neighbours."""
    min_parallax: float = 0.0015
    """Least median movement against the last keyframe [share of the long side]; ordered captures only."""
    min_usable_share: float = 0.5
    """Smallest share of frames that are neither black nor blurred; below it the capture is refused."""

    def __post_init__(self) -> None:
        if self.max_keyframes < 3:
            raise ValueError(f"max_keyframes must be at least 3, got {self.max_keyframes}")
        if self.held_out_every < 2:
            raise ValueError(f"held_out_every must be at least 2, got {self.held_out_every}")
        for name in ("min_sharpness", "max_blur", "min_parallax", "min_usable_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

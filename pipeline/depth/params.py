"""Parameters of the depth and points stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.learned.backends import lacking
from pipeline.machine import Machine
from pipeline.parameters import Interpreter, Weights
from pipeline.stage import Choice, Traits

DepthBackend = Literal["auto", "sensor", "mvs", "combined", "vggt", "depth_anything_3"]
DEPTH_CAMERAS = ("rgbd", "tum", "redwood")
"""Captures whose depth is as fine as the picture: a Kinect's. Phones smooth a few hundred points, LiDARs leave gaps."""
INDOORS = 5.0
"""Range of depth sensors that say nothing of theirs [m]."""


@dataclass(frozen=True)
class DepthParams:
    """How depth maps are made.

    Attributes:
        backend: `sensor` uses the capture's depth images, `mvs` matches the pictures, `combined` does both and averages
            where they agree, `vggt` and `depth_anything_3` are networks for CUDA GPUs; `auto` takes a depth camera's as
            it is, combines what is coarser than the picture (phones, LiDARs), and where there is none takes vggt if it
            can run and matches if not.
        image_size: mvs, combined: longer side of the pictures that are matched [px].
        source_views: mvs, combined: pictures each picture is matched with.
        min_agreeing: all but sensor: other views that must find the same depth for a pixel to be kept; mvs, combined:
            one where it is sure.
        fill: mvs, combined: whether patches without texture are filled by the plane around them, marked as guessed.
        min_range: sensor, combined: nearer depth is dropped [m].
        max_range: sensor, combined: farther depth is dropped [m]; 0 = what the capture's sensor measures well: 30 m
            for LiDARs, else 5 m, beyond which phones and structured light are noisy.
        min_confidence: sensor, combined: pixels below it are dropped (0 = worst, 255 = best).
        weights: vggt, depth_anything_3: as poses.weights; depth that the poses stage found is taken as it is.
        python: vggt, depth_anything_3: as poses.python.
    """

    backend: DepthBackend = "auto"
    image_size: int = 640
    source_views: int = 12
    min_agreeing: int = 2
    fill: bool = True
    min_range: float = 0.2
    max_range: float = 0.0
    min_confidence: int = 1
    weights: Weights = ""
    python: Interpreter = ""

    def __post_init__(self) -> None:
        if self.backend not in get_args(DepthBackend):
            raise ValueError(f"backend must be one of {', '.join(get_args(DepthBackend))}, got {self.backend!r}")
        if not 64 <= self.image_size <= 4096:
            raise ValueError(f"image_size must be in 64..4096 px, got {self.image_size}")
        if not 1 <= self.source_views <= 32:
            raise ValueError(f"source_views must be in 1..32, got {self.source_views}")
        if not 1 <= self.min_agreeing <= self.source_views:
            raise ValueError(f"min_agreeing must be in 1..source_views ({self.source_views}), got {self.min_agreeing}")
        if not 0 <= self.min_range < self.farthest:
            raise ValueError(f"0 <= min_range < max_range must hold, got {self.min_range} and {self.max_range}")
        if not 0 <= self.min_confidence <= 255:
            raise ValueError(f"min_confidence must be in 0..255, got {self.min_confidence}")

    @property
    def farthest(self) -> float:
        """`max_range`, that of rooms where it is 0 [m]."""
        return self.max_range or INDOORS


@dataclass(frozen=True)
class PointsParams:
    """How depth maps are fused into one cloud.

    Attributes:
        voxel: Points are merged within cells of this size [m].
        stride: Every stride-th pixel of the maps is used, in both directions.
        max_points: The cells grow until no more points than this are left.
        neighbours: Other maps that each map is compared with.
        max_deviation: Two maps agree within this many standard deviations.
    """

    voxel: float = 0.01
    stride: int = 2
    max_points: int = 2_000_000
    neighbours: int = 8
    max_deviation: float = 3.0

    def __post_init__(self) -> None:
        if self.voxel <= 0:
            raise ValueError(f"voxel must be positive, got {self.voxel}")
        if not 1 <= self.stride <= 16:
            raise ValueError(f"stride must be in 1..16, got {self.stride}")
        if self.max_points < 1:
            raise ValueError(f"max_points must be at least 1, got {self.max_points}")
        if not 1 <= self.neighbours <= 64:
            raise ValueError(f"neighbours must be in 1..64, got {self.neighbours}")
        if self.max_deviation <= 0:
            raise ValueError(f"max_deviation must be positive, got {self.max_deviation}")


def choose(traits: Traits, params: DepthParams, machine: Machine) -> Choice:
    """The backend that `auto` stands for."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    if traits.has_depth and traits.kind in DEPTH_CAMERAS:
        return Choice("sensor", "every frame has a depth image")
    if traits.has_depth:
        return Choice("combined", "every frame has a depth image, coarser than the picture")
    if lacking("vggt", machine) is None and not (traits.has_poses and traits.has_scale):
        return Choice("vggt", "the capture has no depth images, and the machine has a GPU and vggt")
    return Choice("mvs", "the capture has no depth images")

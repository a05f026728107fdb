"""Parameters of the depth stage and the choice of its backend."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.machine import Machine
from pipeline.poses.params import NetworkParams
from pipeline.stage import Backend, Choice, Traits

INDOORS = 5.0
"""Range of depth sensors that don't state theirs [m]."""


class DepthParams(NetworkParams):
    """How depth maps are made."""

    backend: Literal["auto", "sensor", "mvs", "combined", "vggt", "depth_anything_3"] = "auto"
    """`sensor` uses the capture's depth images, `mvs` matches the images, `combined` does both and averages where they
    agree, `vggt` and `depth_anything_3` are networks for CUDA GPUs; `auto` takes a depth camera's as it is, combines
    what is coarser than the image (phones, LiDARs), and where there is none takes vggt if it can run and else matches.
    """
    image_size: Annotated[int, Field(ge=64, le=4096)] = 640
    """mvs, combined: longer side of the images that are matched [px]."""
    source_views: Annotated[int, Field(ge=1, le=32)] = 12
    """mvs, combined: images that each image is matched with."""
    min_agreeing: Annotated[int, Field(ge=1)] = 2
    """all but sensor: other views that must find the same depth for a pixel to be kept; mvs, combined: one where it is
    certain."""
    fill: bool = True
    """mvs, combined: whether patches without texture are filled by the plane around them, marked as guessed."""
    min_range: Annotated[float, Field(ge=0)] = 0.2
    """sensor, combined: nearer depth is dropped [m]."""
    max_range: Annotated[float, Field(ge=0)] = 0.0
    """sensor, combined: farther depth is dropped [m]; 0 = what the capture's sensor measures well: 30 m for LiDARs,
    else 5 m, beyond which phones and structured light are noisy."""
    min_confidence: Annotated[int, Field(ge=0, le=255)] = 1
    """sensor, combined: pixels below it are dropped (0 = worst, 255 = best)."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.min_agreeing > self.source_views:
            raise ValueError(
                f"min_agreeing must be at most source_views ({self.source_views}), got {self.min_agreeing}"
            )
        if not self.min_range < self.farthest:
            raise ValueError(f"min_range must be less than max_range, got {self.min_range} and {self.max_range}")
        return self

    @property
    def farthest(self) -> float:
        """`max_range`, or that of rooms where it is 0 [m]."""
        return self.max_range or INDOORS


BACKENDS = {
    "sensor": Backend("pipeline.depth.sensor:write_maps"),
    "mvs": Backend("pipeline.depth.mvs:write_maps", ("numba",)),
    "combined": Backend("pipeline.depth.sensor_and_stereo:write_maps", ("numba",)),
    "vggt": Backend("pipeline.depth.network:write_maps"),
    "depth_anything_3": Backend("pipeline.depth.network:write_maps"),
}
"""The function of each writes the maps: (scene, input folders, params, out_dir) to their names and a report."""


def choose(traits: Traits, params: DepthParams, machine: Machine) -> Choice:
    """The backend that `auto` stands for."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    if traits.has_depth and traits.fine_depth:
        return Choice("sensor", "every frame has a depth image")
    if traits.has_depth:
        return Choice("combined", "every frame has a depth image, coarser than the colour image")
    reason, lacks = "the capture has no depth images", machine.lacks("vggt")
    if machine.gpu is None or (traits.has_poses and traits.has_scale):
        return Choice("mvs", reason)
    if lacks is None:
        return Choice("vggt", f"{reason}, and the machine has a GPU and vggt")
    return Choice("mvs", f"{reason}; {lacks}")

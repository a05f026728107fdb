"""Eyes: a small network that says which parts of an image show the ball; its files need no PyTorch.

Those that see colours alone say what is on the floor and where it ends, too: they are given the depths of a flat floor,
and an obstacle is as far away as the floor where it begins.

Eyes are two files: NAME.npz with the weights, and NAME.json, the card, with the hash of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import SimError
from pipeline.geometry import Camera
from pipeline.io.weights import WeightsCard, read_weights, weights_errors
from pipeline.types import F32, U8
from sim.sensors.cameras.settings import Output
from sim.sensors.networks import CHANNELS, KERNEL, convolved, whitened

FIND = "find"
EYES = {FIND: Path(__file__).parent / "find.npz"}
"""Those that come with splatyard, by what they and the drivers by them are called."""
Modality = Literal["rgbd", "rgb"]
"""What eyes see: colours and depths, or colours alone."""
MAX_BYTES = 2**21
PART, DETAIL = 4, 2
"""Pixels along a part of an image that shows the ball, and along one that shows obstacles or missing floor."""
DETAILS = (PART // DETAIL) ** 2
"""Of a part."""


@dataclass(frozen=True)
class Build:
    """How eyes are built: of layers of 3 by 3.

    Attributes:
        sees: What of a camera they are given.
        strides: Of the layers.
        dilations: Of the layers.
        outputs: Log-odds of each part of an image: that it shows the ball, and of each of its details: that it shows
            an obstacle, and that floor is missing there.
    """

    sees: tuple[Output, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    outputs: int


BUILDS: dict[Modality, Build] = {
    "rgbd": Build(("rgb", "depth"), (2, 2, 1, 1, 1), (1, 1, 1, 2, 1), 1),  # a part sees 43 by 43 pixels
    "rgb": Build(("rgb",), (2, 2, 1, 1, 1, 1, 1), (1, 1, 1, 2, 4, 1, 1), 1 + 2 * DETAILS),  # 83 by 83
}
_NAMES = {
    modality: [f"{part}{layer}" for layer in range(len(build.strides)) for part in ("weight", "bias")]
    for modality, build in BUILDS.items()
}


class EyesCard(WeightsCard):
    """What is known of eyes.

    Attributes:
        modality: What they see.
        width: Of the images that they were trained with [px].
        height: Of these images [px].
        focal: Focal length of the camera [px].
        images: Number of images that they saw in training.
    """

    format: Literal["splatyard.eyes.1"] = "splatyard.eyes.1"
    modality: Modality = "rgbd"
    width: Annotated[int, Field(ge=8, le=4096)]
    height: Annotated[int, Field(ge=8, le=4096)]
    focal: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    images: Annotated[int, Field(ge=0)]


class Eyes:
    """A convolutional network with ReLUs.

    Attributes:
        card: What is known of it.
        arrays: Its weights (3, 3, C, D) and biases (D,) by name.

    Raises:
        SimError: When files are missing, damaged or don't belong together.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        rule = "eyes are NAME.npz with their card NAME.json, as splatyard writes them"
        remedy = "train some: splatyard train find --scene 'yard/*', which ends with eyes.npz in its folder"
        with weights_errors(rule, remedy, file):
            self.card, self.arrays = read_weights(file, EyesCard, _NAMES["rgbd"], _NAMES["rgb"], limit=MAX_BYTES)
            self._build = build = BUILDS[self.card.modality]
            self._layers = [(self.arrays[f"weight{i}"], self.arrays[f"bias{i}"]) for i in range(len(build.strides))]
            sizes = [CHANNELS, *(bias.size for _, bias in self._layers)]
            shapes = [(weight.shape, bias.shape) for weight, bias in self._layers]
            expected = [((KERNEL, KERNEL, *pair), pair[1:]) for pair in pairwise(sizes)]
            if shapes != expected or sizes[-1] != build.outputs or min(sizes) < 1:
                raise ValueError(f"layers {shapes}")

    def check_lens(self, lens: Camera) -> None:
        """Check that they were trained with such a camera.

        Raises:
            SimError: When they were not.
        """
        own = self.card.width, self.card.height, self.card.focal
        if (lens.width, lens.height) != own[:2] or abs(lens.fx - own[2]) > 0.02 * own[2]:
            raise SimError(
                "eyes see by the camera that they were trained with",
                found=f"{lens.width} x {lens.height} pixels with a focal length of {lens.fx:.1f}",
                remedy=f"a camera of {own[0]} x {own[1]} pixels with {own[2]:.1f}, which --task find has",
                file=self.file,
            )

    def look(self, rgb: U8, depth: F32) -> tuple[F32, F32]:
        """What images (N, H, W, 3) with depths (N, H, W) [m] show.

        Args:
            rgb: Colours.
            depth: As measured; for eyes that see colours alone that of a flat floor. 0 = unknown.

        Returns:
            Log-odds (N, H / 4, W / 4) that parts of the images show the ball, and the depths, by what eyes that see
            colours alone take for obstacles.
        """
        x = whitened(rgb, depth)
        for (weight, bias), stride, dilation in zip(
            self._layers, self._build.strides, self._build.dilations, strict=True
        ):
            x = convolved(np.maximum(x, 0) if x.shape[-1] != CHANNELS else x, weight, stride, dilation) + bias
        return x[..., 0], depth_of(depth, x[..., 1:])


def eyes_named(name: str) -> Path | None:
    """The file of eyes by what is typed: a name of `EYES`, or FILE.npz; None if it is no name of eyes."""
    return EYES.get(name) or (Path(name) if name.endswith(".npz") else None)


def depth_of(floor: F32, said: F32) -> F32:
    """Depths (N, H, W) [m] by those of a flat floor, and by what eyes say of the details of parts (N, h, w, 8 or 0).

    Obstacles are as far away as the lowest of what they cover of the floor; where floor is missing nothing is known.
    Those who say nothing of details were given depths that were measured.
    """
    if not said.shape[-1]:
        return floor
    count, rows, columns, _ = said.shape
    across = PART // DETAIL
    details = said.reshape(count, rows, columns, 2, across, across).transpose(3, 0, 1, 4, 2, 5)
    thing, missing = details.reshape(2, count, rows * across, columns * across) > 0
    low = floor[:, DETAIL - 1 :: DETAIL, ::DETAIL]  # what is lowest in each detail
    found = np.where(missing, 0, low)
    begins, covered = low[:, -1], np.zeros_like(thing[:, 0])
    for row in reversed(range(low.shape[1])):
        begins = np.where(covered, begins, low[:, row])
        found[:, row] = np.where(thing[:, row], begins, found[:, row])
        covered = thing[:, row]
    return np.ascontiguousarray(found.repeat(DETAIL, 1).repeat(DETAIL, 2), np.float32)

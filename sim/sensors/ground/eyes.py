"""Eyes that see by colours how far away the ground is; their files need no PyTorch.

They are given colours, and the depths of level ground as low as the robot stands, which say how high the camera is and
how it leans. They say depths, and how sure they are of each. Layers: three that halve the image, two that see far, two
that double it with what was there before; after R. Ronneberger et al., U-Net, MICCAI 2015.

Eyes are two files: NAME.npz with the weights, and NAME.json, the card, with the hash of the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from pipeline.io.weights import WeightsCard, read_weights, weights_errors
from pipeline.types import F32, U8
from sim.sensors.networks import KERNEL, convolved, nearness

FILE = Path(__file__).parent / "eyes.npz"
"""Those that come with splatyard."""
MAX_BYTES = 2**21
GIVEN = 5
"""Channels of what the network is given, see `given`."""
DOWN, MIDDLE, UP = (16, 32, 64), (64, 64), (32, 24)
"""Channels of the layers."""
DILATIONS = (1, 2)
"""Of the layers in the middle."""
SAID = 8
"""Of each four pixels: logarithms of the depths over those of level ground, and of their relative errors."""
LAYERS = {
    **{f"down{i}": pair for i, pair in enumerate(zip((GIVEN, *DOWN), DOWN, strict=False))},
    **{f"middle{i}": pair for i, pair in enumerate(zip((DOWN[-1], *MIDDLE), MIDDLE, strict=False))},
    "up0": (MIDDLE[-1] + DOWN[1], UP[0]),
    "up1": (UP[0] + DOWN[0], UP[1]),
    "said": (UP[1], SAID),
}
"""Channels before and behind each layer."""
NAMES = [f"{layer}_{part}" for layer in LAYERS for part in ("weight", "bias")]
EVEN, BLANK, NEAR_BY = 0.02, 0.1, 4
"""Deviations of images and of neighbours that are nothing, and how far these are [pixels]."""
FAR = 3.0
"""Level ground farther away is as if it were so far [m]; depths beyond are not said."""
NEAR = 0.25
AT_ONCE = 64
"""Images that the network sees together: more need much memory, and are no faster."""
UNSURE = 0.3
"""Depths with larger relative errors are not said, either."""


class GroundEyesCard(WeightsCard):
    """What is known of eyes for the ground.

    Attributes:
        images: Number of images that they saw in training.
        robot: Of the camera that they see by.
    """

    format: Literal["splatyard.ground-eyes.1"] = "splatyard.ground-eyes.1"
    images: Annotated[int, Field(ge=0)]
    robot: str


class GroundEyes:
    """The network.

    Attributes:
        card: What is known of it.
        arrays: Its weights (3, 3, C, D) and biases (D,) by name.

    Raises:
        SimError: When files are missing, damaged or don't belong together.
    """

    def __init__(self, file: Path) -> None:
        rule = "eyes for the ground are NAME.npz with their card NAME.json, as splatyard writes them"
        remedy = "make some: splatyard pretrain-ground --scenes 'stairs/*' --out NAME.npz"
        with weights_errors(rule, remedy, file):
            self.card, self.arrays = read_weights(file, GroundEyesCard, NAMES, limit=MAX_BYTES)
            for layer, pair in LAYERS.items():
                shapes = self.arrays[f"{layer}_weight"].shape, self.arrays[f"{layer}_bias"].shape
                if shapes != ((KERNEL, KERNEL, *pair), pair[1:]):
                    raise ValueError(f"{layer} of {shapes}")

    def look(self, rgb: U8, flat: F32) -> tuple[F32, F32]:
        """Depths (N, H, W) [m] of what images (N, H, W, 3) show, 0 = unknown, and their relative errors (N, H, W).

        `flat` (N, H, W) are the depths of level ground, 0 above it.
        """
        parts = [self._said(rgb[i : i + AT_ONCE], flat[i : i + AT_ONCE]) for i in range(0, len(rgb), AT_ONCE)]
        farther, error = np.concatenate(parts, 1)
        return depths_of(flat, farther, error), np.exp(error)

    def _said(self, rgb: U8, flat: F32) -> F32:
        """Logarithms (2, N, H, W) of how much farther than level ground images are, and of the errors."""
        x, before = given(rgb * np.float32(1 / 255), flat), list[F32]()
        for i in range(len(DOWN)):
            x = np.maximum(self._layer(f"down{i}", x, stride=2), 0)
            before.append(x)
        for i, dilation in enumerate(DILATIONS):
            x = np.maximum(self._layer(f"middle{i}", x, dilation=dilation), 0)
        for i in range(len(UP)):
            x = np.concatenate([x.repeat(2, 1).repeat(2, 2), before[-2 - i]], -1)
            x = np.maximum(self._layer(f"up{i}", x), 0)
        said = self._layer("said", x)
        count, rows, columns, _ = said.shape
        fine = said.reshape(count, rows, columns, 2, 2, 2).transpose(3, 0, 1, 4, 2, 5)
        return fine.reshape(2, count, 2 * rows, 2 * columns)

    def _layer(self, name: str, x: F32, stride: int = 1, dilation: int = 1) -> F32:
        return convolved(x, self.arrays[f"{name}_weight"], stride, dilation) + self.arrays[f"{name}_bias"]


def given(colors: F32, flat: F32) -> F32:
    """What the network is given (N, H, W, 5) of colours (N, H, W, 3), 0..1, and depths of level ground (N, H, W).

    Colours and greys as they differ from the mean of the image and from what is around them, whatever the light; and
    nearness.
    """
    colors = colors - colors.mean((1, 2), keepdims=True)
    colors /= colors.std((1, 2, 3), keepdims=True) + EVEN
    grey = colors.mean(-1)
    own = grey - around(grey)
    own /= np.sqrt(around(own**2)) + BLANK
    return np.concatenate([colors / 2, own[..., None] / 2, nearness(flat)[..., None] - np.float32(0.5)], -1)


def around(x: F32) -> F32:
    """Means (N, H, W) over squares about each pixel, of those of the image."""
    count = np.ones((1, *x.shape[1:]), np.float32)
    for axis in (1, 2):
        x, count = (_sums(one, axis) for one in (x, count))
    return x / count


def _sums(x: F32, axis: int) -> F32:
    """Sums over neighbours along an axis, nothing beyond the borders."""
    pad = [(0, 0)] * x.ndim
    pad[axis] = (NEAR_BY, NEAR_BY)
    return sliding_window_view(np.pad(x, pad), 2 * NEAR_BY + 1, axis).sum(-1)


def reference(flat: F32) -> F32:
    """What depths are said over: those of level ground, where it is near."""
    return np.where((flat > 0) & (flat < FAR), flat, np.float32(FAR))


def depths_of(flat: F32, farther: F32, error: F32) -> F32:
    """Depths [m] by logarithms of how much farther than level ground they are, and of their errors; 0 = unknown."""
    depth = reference(flat) * np.exp(farther)
    sure = (error < np.log(UNSURE)) & (depth > NEAR) & (depth < FAR)
    return np.where(sure, depth, 0).astype(np.float32)

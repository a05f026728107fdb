"""Eyes that see by colours how far away the ground is; their files need no PyTorch.

They are given colours, the depths of level ground as low as the robot stands, which say how high the camera is and how
it leans, and how well an image from before fits, if things were nearer or farther than level ground. They say depths,
and how sure they are of each. Layers: three that halve the image, two that see far, two
that double it with what was there before; after R. Ronneberger et al., U-Net, MICCAI 2015.

Eyes are two files: NAME.npz with the weights, and NAME.json, the card, with the hash of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from pipeline.geometry import Camera
from pipeline.io.weights import WeightsCard, read_weights, weights_errors
from pipeline.types import F32, F64, U8
from sim.sensors.ground.parallax import FARTHER, Before, unlike
from sim.sensors.networks import KERNEL, convolved, flat_floor, nearness

FILE = Path(__file__).parent / "eyes.npz"
"""Those that come with splatyard."""
LENS = Camera(64, 48, 33.7, 43.3, 32.0, 24.0)
"""Of the depths that they say: 87 by 58 degrees."""
FINE = Camera(128, 96, 2 * LENS.fx, 2 * LENS.fy, 64.0, 48.0)
"""Of the camera that they see by: of four pixels each, one depth is said."""
MAX_BYTES = 2**21
GIVEN = 5 + len(FARTHER)
"""Channels of what the network is given, see `given`."""
DOWN, MIDDLE, UP = (24, 32, 64), (64, 64), (32, 24)
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
UNSURE, UNSURE_BELOW = 0.3, 0.13
"""Depths with larger relative errors are not said, either: of what is as high as the ground or higher, and of what is
lower. Unsure of where a drop begins, eyes see a ramp."""
LOWER = 0.1
"""What is so much farther than level ground (logarithm) is lower."""


class GroundEyesCard(WeightsCard):
    """What is known of eyes for the ground.

    Attributes:
        images: Number of images that they saw in training.
        robot: Of the camera that they see by.
    """

    format: Literal["splatyard.ground-eyes.2"] = "splatyard.ground-eyes.2"
    images: Annotated[int, Field(ge=0)]
    robot: str


@dataclass(frozen=True, eq=False)
class Seen:
    """What eyes make of N images.

    Attributes:
        colors: (N, H, W, 3) of four pixels each.
        fits: (N, H, W, K) how different what was seen before is, see `parallax.unlike`.
    """

    colors: U8
    fits: F32


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
        remedy = "make some: splatyard policy pretrain-ground --scene 'stairs/*' --out NAME.npz"
        with weights_errors(rule, remedy, file):
            self.card, self.arrays = read_weights(file, GroundEyesCard, NAMES, limit=MAX_BYTES)
            for layer, pair in LAYERS.items():
                shapes = self.arrays[f"{layer}_weight"].shape, self.arrays[f"{layer}_bias"].shape
                if shapes != ((KERNEL, KERNEL, *pair), pair[1:]):
                    raise ValueError(f"{layer} of {shapes}")

    def look(self, rgb: U8, level_from_camera: F64, before: Before) -> tuple[F32, F32]:
        """Depths (N, H, W) [m] of what images (N, 2H, 2W, 3) show, 0 = unknown, and their relative errors (N, H, W).

        By cameras at poses (N, 4, 4) over the ground on which the robots stand; `before` are images from elsewhere.
        """
        flat, parts = flat_floor(LENS, level_from_camera), [slice(i, i + AT_ONCE) for i in range(0, len(rgb), AT_ONCE)]
        said = [self._said(seen(rgb[part], level_from_camera[part], before[part]), flat[part]) for part in parts]
        farther, error = np.concatenate(said, 1)
        return depths_of(flat, farther, error), np.exp(error)

    def _said(self, images: Seen, flat: F32) -> F32:
        """Logarithms (2, N, H, W) of how much farther than level ground images are, and of the errors."""
        x = given(images.colors * np.float32(1 / 255), flat, images.fits)
        halved = list[F32]()
        for i in range(len(DOWN)):
            x = np.maximum(self._layer(f"down{i}", x, stride=2), 0)
            halved.append(x)
        for i, dilation in enumerate(DILATIONS):
            x = np.maximum(self._layer(f"middle{i}", x, dilation=dilation), 0)
        for i in range(len(UP)):
            x = np.concatenate([x.repeat(2, 1).repeat(2, 2), halved[-2 - i]], -1)
            x = np.maximum(self._layer(f"up{i}", x), 0)
        said = self._layer("said", x)
        count, rows, columns, _ = said.shape
        fine = said.reshape(count, rows, columns, 2, 2, 2).transpose(3, 0, 1, 4, 2, 5)
        return fine.reshape(2, count, 2 * rows, 2 * columns)

    def _layer(self, name: str, x: F32, stride: int = 1, dilation: int = 1) -> F32:
        return convolved(x, self.arrays[f"{name}_weight"], stride, dilation) + self.arrays[f"{name}_bias"]


def seen(rgb: U8, level_from_camera: F64, before: Before) -> Seen:
    """What cameras at poses (N, 4, 4) over level ground saw, in images (N, 2H, 2W, 3)."""
    now, then = (_plain(images * np.float32(1 / 255))[1] for images in (rgb, before.colors))
    depth = reference(flat_floor(FINE, level_from_camera))
    fits = unlike(now, then, depth, FINE, before.before_from_camera, before.known)
    colors = rgb.reshape(len(rgb), LENS.height, 2, LENS.width, 2, 3).mean((2, 4), dtype=np.float32)
    return Seen((colors + np.float32(0.5)).astype(np.uint8), fits)


def given(colors: F32, flat: F32, fits: F32) -> F32:
    """What the network is given (N, H, W, C) of colours (N, H, W, 3), 0..1, and depths of level ground (N, H, W).

    Colours and greys as they differ from the mean of the image and from what is around them, whatever the light;
    nearness; and how well images from before fit (N, H, W, K).
    """
    colors, own = _plain(colors)
    half = np.float32(0.5)
    return np.concatenate([half * colors, half * own[..., None], nearness(flat)[..., None] - half, fits], -1)


def _plain(colors: F32) -> tuple[F32, F32]:
    """Colours (N, H, W, 3) by the mean and the contrast of their image, and greys (N, H, W) by those around them."""
    colors = colors - colors.mean((1, 2), keepdims=True)
    colors /= colors.std((1, 2, 3), keepdims=True) + EVEN
    grey: F32 = colors.mean(-1)
    own: F32 = grey - around(grey)
    own /= np.sqrt(around(own**2)) + BLANK
    return colors, own


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
    sure = error < np.log(np.where(farther > LOWER, UNSURE_BELOW, UNSURE))
    sure &= (depth > NEAR) & (depth < FAR)
    return np.where(sure, depth, 0).astype(np.float32)

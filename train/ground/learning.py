"""How eyes for the ground learn, and how far off they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import TrainError
from pipeline.io.weights import write_weights
from pipeline.parallel import core_count
from pipeline.types import F32, F64, U8, Mask
from sim.robots.model import Robot
from sim.scene.scene import SimScene
from sim.sensors.cameras.rig import normals_of
from sim.sensors.ground.eyes import FINE, LENS, GroundEyes, GroundEyesCard, given, reference, seen
from sim.sensors.ground.parallax import FARTHER, MOST, UNSEEN
from sim.sensors.networks import rises
from train.eyes import PATTERNS, patches, varied
from train.files import writing
from train.fitting import Watch, fit
from train.ground.network import GroundEyesNetwork
from train.ground.painting import painted
from train.ground.views import GroundImages, GroundViews

IMAGES, AT_ONCE = 20_480, 512
"""Number of images to learn from, and how many are drawn at a time."""
BATCH, LEARNING_RATE = 64, 2e-3
CLOSEST, FARTHEST = 0.1, 5.0
"""Depths are learned between these [m]."""
SUREST, LEAST_SURE = -5.0, 1.0
"""Logarithms of relative errors that are believed."""
TESTS = 1024
"""Images by which eyes are tested."""
NEAR, STEP = 2.0, 0.6
"""What is nearer, and no higher or lower over the ground under the robot [m], is what eyes are for;"""
RAISED, STEPS, OTHERS = 0.05, 3.0, 0.1
"""What is so much higher or lower [m] is of steps, and has so much weight; and the weight of all that is not near."""
GRAIN = 0.008
"""Noise of colours."""
STEEP, NEAR_EDGE = 0.3, 0.05
"""What faces so little up is the face of a step; those farther off than this are counted [m]."""


@dataclass(frozen=True)
class GroundError:
    """How far off eyes are where the ground is near, in scenes.

    Attributes:
        said: Share of pixels of which they say a depth.
        depth: Median relative error of these.
        height: Median error of the heights of what they see [m].
        nearer: Share of the faces of steps that they take for nearer by 5 cm or more.
        farther: The same of those they take for farther.
    """

    said: float
    depth: float
    height: float
    nearer: float
    farther: float


def learn(
    scenes: Sequence[SimScene],
    robot: Robot,
    file: Path,
    iterations: int,
    seed: int = 0,
    watch: Watch = lambda iteration, loss: None,
) -> None:
    """Train eyes on images of scenes and write their file, see `train.fitting.fit`.

    Raises:
        TrainError: When no scene has stairs, a loss isn't finite, or the file is no .npz or can't be written.
    """
    if file.suffix != ".npz":
        raise TrainError(
            "eyes are a file NAME.npz", found=f"{file}", remedy=f"--out {file.with_suffix('.npz')}", file=file
        )
    torch.manual_seed(seed)
    torch.set_num_threads(core_count())
    network, views = GroundEyesNetwork(), GroundViews(scenes, robot)
    patterns = patches(PATTERNS, FINE.height, FINE.width).permute(0, 2, 3, 1).numpy()
    size = LENS.height, LENS.width
    colors, fits = (torch.empty((IMAGES, *size, many), dtype=torch.uint8) for many in (3, len(FARTHER)))
    depth, flat, weight = torch.empty((3, IMAGES, *size))
    for part, first in enumerate(range(0, IMAGES, AT_ONCE)):
        rng, rows = np.random.default_rng([seed, part]), slice(first, first + AT_ONCE)
        images = views.draw(AT_ONCE, rng)
        now, before = painted(images, patterns, rng)
        before = replace(before, colors=_grainy(before.colors, rng))
        shown = seen(_grainy(now, rng), images.believed, before)
        colors[rows], fits[rows] = torch.from_numpy(shown.colors), torch.from_numpy(_packed(shown.fits))
        for into, values in ((depth, images.depth), (flat, images.flat), (weight, _weights(images))):
            into[rows] = torch.from_numpy(values)

    def loss_of(iteration: int) -> torch.Tensor:
        torch.manual_seed(int(np.random.default_rng([seed, iteration]).integers(2**31)))
        rows = torch.randint(IMAGES, (BATCH,))
        shown, level = varied(colors[rows].float() / 255, GRAIN / 2) + 0.5, flat[rows]
        fed = given(shown.numpy(), level.numpy(), _unpacked(fits[rows].numpy()))
        batch = [torch.from_numpy(fed), depth[rows], level, weight[rows]]
        mirrored = torch.rand(BATCH) < 0.5
        for one in batch:
            one[mirrored] = one[mirrored].flip(2)
        return _loss(network, *batch)

    def write() -> None:
        card = GroundEyesCard(
            sha256="",
            seed=seed,
            scenes=tuple(scene.lock.reference for scene in scenes),
            metrics={},
            images=iterations * BATCH,
            robot=robot.name,
        )
        with writing(file):
            write_weights(file, card, network.arrays())

    depends_on = [seed, robot.name, *(scene.lock.reference for scene in scenes)]
    fit(network, loss_of, iterations, LEARNING_RATE, file, depends_on, write, watch)


def _grainy(colors: U8, rng: np.random.Generator) -> U8:
    """Colours with a camera's noise."""
    return np.clip(colors + rng.normal(0, 255 * GRAIN, colors.shape), 0, 255).astype(np.uint8)


def _packed(fits: F32) -> U8:
    """Differences of images in a byte each; the last is for what was not seen."""
    return np.where(fits < 0, 255, fits * np.float32(254 / MOST)).astype(np.uint8)


def _unpacked(packed: U8) -> F32:
    return np.where(packed == 255, np.float32(UNSEEN), packed * np.float32(MOST / 254)).astype(np.float32)


def _heights(images: GroundImages, rise: F64) -> F64:
    """Heights (N, H, W) of what pixels show over the ground under the robots [m], by how much rays rise for a metre."""
    return images.level_from_camera[:, 2, 3, None, None] + images.depth * rise


def _is_low(images: GroundImages, heights: F64) -> Mask:
    """Pixels that show what is near and about as low as the ground."""
    return (images.depth > 0) & (images.depth < NEAR) & (np.abs(heights) < STEP)


def _weights(images: GroundImages) -> F32:
    """How much pixels (N, H, W) count; most of them show level ground, which is easy."""
    heights = _heights(images, rises(LENS, images.level_from_camera)[0])
    near = np.where(np.abs(heights) > RAISED, STEPS, 1.0)
    return (np.where(_is_low(images, heights), near, OTHERS) * (images.depth > CLOSEST)).astype(np.float32)


def _loss(
    network: GroundEyesNetwork, fed: torch.Tensor, depth: torch.Tensor, flat: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """How unlikely true depths are by what is said: Laplace's distribution, about the logarithm of the depth."""
    farther, error = network(fed.permute(0, 3, 1, 2)).unbind(1)
    error = error.clamp(SUREST, LEAST_SURE)
    truth = (depth.clamp(CLOSEST, FARTHEST) / torch.from_numpy(reference(flat.numpy()))).log()
    unlikely = (farther - truth).abs() * torch.exp(-error) + error
    return (unlikely * weight).sum() / weight.sum()


def note(file: Path, error: GroundError) -> None:
    """Write into the card of eyes how far off they are.

    Raises:
        TrainError: When it can't be written.
    """
    eyes = GroundEyes(file)
    metrics = {name: value for name, value in asdict(error).items() if np.isfinite(value)}
    with writing(file):
        write_weights(file, eyes.card.model_copy(update={"metrics": metrics}), eyes.arrays)


def measure(eyes: GroundEyes, scenes: Sequence[SimScene], robot: Robot, seed: int = 1) -> GroundError:
    """How far off eyes are in scenes, by images that are always the same.

    Raises:
        TrainError: When no scene has stairs.
    """
    images = GroundViews(scenes, robot).draw(TESTS, np.random.default_rng(seed))
    (said, _), depth = eyes.look(images.colors, images.believed, images.before), images.depth
    rise, along = rises(LENS, images.level_from_camera)
    near = _is_low(images, _heights(images, rise))
    both = near & (said > 0)
    upright = np.einsum("ni,nhwi->nhw", images.level_from_camera[:, 2, :3], normals_of(depth, LENS))
    faces = both & (np.abs(upright) < STEEP)
    off = ((said - depth) * along)[faces]
    return GroundError(
        float(both.sum() / near.sum()),
        _over(np.median, np.abs(said / np.where(both, depth, 1) - 1)[both]),
        _over(np.median, np.abs((said - depth) * rise)[both]),
        _over(np.mean, off < -NEAR_EDGE),
        _over(np.mean, off > NEAR_EDGE),
    )


def _over(what: Callable[[np.ndarray], np.floating], values: np.ndarray) -> float:
    """A figure of values (K,); NaN of none."""
    return float(what(values)) if len(values) else np.nan

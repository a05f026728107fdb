"""How eyes for the ground learn, and how far off they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.io.weights import write_weights
from pipeline.parallel import core_count
from sim.robots.model import Robot
from sim.scene.scene import SimScene
from sim.sensors.cameras.rig import normals_of
from sim.sensors.ground.eyes import FAR, GroundEyes, GroundEyesCard, reference
from sim.sensors.ground.ground import LENS
from sim.sensors.networks import nearness, rises
from train.eyes import varied
from train.files import writing
from train.fitting import Watch, fit
from train.ground.network import GroundEyesNetwork
from train.ground.views import GroundViews

IMAGES, AT_ONCE = 24_576, 512
"""Number of images to learn from, and how many are drawn at a time."""
BATCH, LEARNING_RATE = 64, 2e-3
CLOSEST, FARTHEST = 0.1, 5.0
"""Depths are learned between these [m]."""
SUREST, LEAST_SURE = -5.0, 1.0
"""Logarithms of relative errors that are believed."""
TESTS = 1024
"""Images by which eyes are tested."""
STEEP, STEP, NEAR_EDGE = 0.3, 0.6, 0.05
"""What faces so little up and is no higher or lower than this over the ground under the robot is the face of a step
[m]; edges farther off than this are counted [m]."""


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
        TrainError: When no scene has stairs, a loss isn't finite, or the file can't be written.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(core_count())
    network, views = GroundEyesNetwork(), GroundViews(scenes, robot)
    drawn = [views.draw(AT_ONCE, np.random.default_rng([seed, part])) for part in range(IMAGES // AT_ONCE)]
    colors = torch.from_numpy(np.concatenate([one.colors for one in drawn]))
    depth = torch.from_numpy(np.concatenate([one.depth for one in drawn]))
    flat = torch.from_numpy(np.concatenate([one.flat for one in drawn]))
    del drawn

    def loss_of(iteration: int) -> torch.Tensor:
        torch.manual_seed(int(np.random.default_rng([seed, iteration]).integers(2**31)))
        rows = torch.randint(len(colors), (BATCH,))
        seen, truth, level = varied(colors[rows].float() / 255), depth[rows], flat[rows]
        mirrored = torch.rand(BATCH) < 0.5
        for one in (seen, truth, level):
            one[mirrored] = one[mirrored].flip(2)
        return _loss(network, seen, truth, level)

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


def _loss(network: GroundEyesNetwork, seen: torch.Tensor, depth: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """How unlikely true depths are by what is said: Laplace's distribution, about the logarithm of the depth."""
    near = torch.from_numpy(nearness(flat.numpy())) - 0.5
    farther, error = network(torch.cat([seen.permute(0, 3, 1, 2), near[:, None]], 1)).unbind(1)
    error = error.clamp(SUREST, LEAST_SURE)
    truth = (depth.clamp(CLOSEST, FARTHEST) / torch.from_numpy(reference(flat.numpy()))).log()
    return ((farther - truth).abs() * torch.exp(-error) + error)[depth > CLOSEST].mean()


def measure(eyes: GroundEyes, scenes: Sequence[SimScene], robot: Robot, seed: int = 1) -> GroundError:
    """How far off eyes are in scenes, by images that are always the same.

    Raises:
        TrainError: When no scene has stairs.
    """
    images = GroundViews(scenes, robot).draw(TESTS, np.random.default_rng(seed))
    said, depth = eyes.look(images.colors, images.flat), images.depth
    near = (depth > 0) & (depth < FAR)
    both = near & (said > 0)
    rise, along = rises(LENS, images.level_from_camera)
    upright = np.einsum("ni,nhwi->nhw", images.level_from_camera[:, 2, :3], normals_of(depth, LENS))
    height = images.level_from_camera[:, 2, 3, None, None] + depth * rise
    faces = both & (np.abs(upright) < STEEP) & (np.abs(height) < STEP)
    off = ((said - depth) * along)[faces]
    return GroundError(
        float(both.sum() / near.sum()),
        float(np.median(np.abs(said / np.where(both, depth, 1) - 1)[both])),
        float(np.median(np.abs((said - depth) * rise)[both])),
        float((off < -NEAR_EDGE).mean()),
        float((off > NEAR_EDGE).mean()),
    )

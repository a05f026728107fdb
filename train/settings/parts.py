"""What may be set of networks, actors and randomisation, as parts of a preset."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import TrainError
from pipeline.parameters import Settings, require_known
from sim.finding.eyes import Modality
from sim.randomisation import MAX_BASE_HEIGHT, MAX_DISTRACTORS
from sim.ranges import PositiveRange
from sim.sensors.cameras.settings import DepthNoise, Output
from train.settings.encoders import DEFAULT, ENCODERS, Encoder

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
MODALITIES: dict[str, tuple[Output, ...]] = {"rgb": ("rgb",), "depth": ("depth",), "rgbd": ("rgb", "depth")}
"""Outputs of cameras, by what a policy sees by."""
Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class VoxelSettings(Settings):
    """The head that predicts voxels around the robot, an auxiliary loss for the hidden state."""

    weight: Positive = 0.5
    """Weight of the loss."""
    epochs: Count = 1
    """Passes over each rollout."""


class PolicySettings(Settings):
    """The actor; the critic is an MLP with all observations."""

    encoder: str = DEFAULT
    """Encoder of its images, a name in `train.settings.encoders`; none for a blind policy."""
    encoder_file: str = ""
    """Weights of the encoder gaussian_regressor, a file that `splatyard policy pretrain-encoder` wrote."""
    encoder_sha256: str = ""
    """Hash of that file when the run began; filled in by itself."""
    modality: Literal["rgb", "depth", "rgbd"] = "rgb"
    """What its camera measures: colours, depths, or both."""
    eyes: Modality = "rgbd"
    """What the encoder detector sees: colours and depths, or colours alone."""
    rnn_type: Literal["none", "gru", "lstm"] = "gru"
    """Memory of the policy; none for a feed-forward one."""
    rnn_hidden_dim: Count = 64
    """Units of the RNN."""
    actor_hidden_dims: tuple[Count, ...] = (128,)
    """Units of each layer after the RNN."""
    critic_hidden_dims: tuple[Count, ...] = (128, 128)
    """Units of each layer of the critic."""
    init_std: Positive = 1.0
    """Initial standard deviation of the actions."""
    std_range: tuple[Positive, Positive] = (0.1, 1.5)
    """Smallest and largest standard deviation of the actions."""
    output_scale: Positive = 1.0
    """Factor of the last layer's initial weights: small for policies that only add to what works already."""
    obs_normalization: bool = False
    """Whether the actor's vectors are normalised by their running mean and deviation; the critic's always are."""
    voxels: VoxelSettings | None = None
    """Auxiliary loss on voxels; null for none."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Outputs of the robot's cameras that its encoder reads."""
        outputs = find_encoder(self).outputs
        return MODALITIES[self.modality] if outputs is None else outputs

    @model_validator(mode="after")
    def _uses_its_file(self) -> Self:
        """Check that no file is named which nobody reads."""
        encoder = ENCODERS.get(self.encoder)
        if encoder and not encoder.has_file and (self.encoder_file or self.encoder_sha256):
            others = ", ".join(name for name, one in ENCODERS.items() if one.has_file)
            raise ValueError(f"encoder_file is for policy.encoder={others}")
        return self


def find_encoder(policy: PolicySettings) -> Encoder:
    """Find a policy's encoder.

    Raises:
        TrainError: When there is no such encoder, or it doesn't support the modality.
    """
    name = policy.encoder
    require_known(name, ENCODERS, "encoder", TrainError, rule="an encoder has a known name")
    found = ENCODERS[name]
    if found.outputs and policy.modality not in found.outputs:
        raise TrainError(
            f"the encoder {name} was trained on colours",
            found=f"policy.modality: {policy.modality}",
            remedy="policy.modality: rgb",
        )
    return found


class ActorSettings(Settings):
    """Actors that act apart from the learner (`splatyard train --actors N`); each simulates `num_envs` environments."""

    max_staleness: Annotated[int, Field(ge=3, le=1000)] = 8
    """Iterations that the policy of a chunk may be behind, for each of the actors; older chunks are dropped."""
    silent_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """Time in which an actor sends something, its start included; otherwise it is killed and replaced [s]."""
    max_replacements: Annotated[int, Field(ge=1, le=1000)] = 3
    """Replacements of each actor, on average, while none sends anything usable; after more of them training ends."""
    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """Cores of an actor."""
    memory: Annotated[float, Field(gt=0, le=4096)] = 2.0
    """Memory that is set aside for an actor [GiB]."""


class CameraRandomisation(Settings):
    """Ranges drawn for each training episode, so that a policy doesn't rely on one camera; unused in evaluation."""

    gain: Range = (0.85, 1.15)
    """Smallest and largest factor of the brightness."""
    white_balance: Range = (0.95, 1.05)
    """Smallest and largest factor of each colour channel."""
    mount_translation: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Largest offset of the camera along each axis [m]."""
    mount_rotation: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Largest rotation of the camera about each axis [rad]."""
    stand_translation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest further offset along each axis of a camera that stands beside a fixed base [m]."""
    stand_rotation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest further rotation about each axis of such a camera [rad]."""
    focal: PositiveRange = (1.0, 1.0)
    """Smallest and largest factor of the focal length."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Standard deviation of the noise of a pixel [share of white]."""
    depth_noise: DepthNoise | None = None
    """Noise of depths; null for ideal ones. In evaluation depths are ideal."""


class DynamicsRandomisation(Settings):
    """Ranges drawn for each training episode, see `sim.randomisation.Randomisation`; unused in evaluation."""

    friction: Range = (1.0, 1.0)
    """Smallest and largest factor of the robot's friction."""
    mass: Range = (1.0, 1.0)
    """Smallest and largest factor of the base's mass."""
    strength: Range = (1.0, 1.0)
    """Smallest and largest factor of the motors' stiffness, damping and largest force."""
    latency: Range = (0.0, 0.0)
    """Shortest and longest delay of an action [s]."""
    push_interval: Range = (0.0, 0.0)
    """Shortest and longest time between two pushes [s]."""
    push_speed: Annotated[float, Field(ge=0)] = 0.0
    """Largest change of the velocity by a push [m/s]."""
    base_height: Annotated[float, Field(ge=0, le=MAX_BASE_HEIGHT)] = 0.0
    """How far an arm's base may be above or below the surface that things lie on [m]."""
    distractors: Annotated[int, Field(ge=0, le=MAX_DISTRACTORS)] = 0
    """Number of things on an arm's table that have nothing to do with its task."""

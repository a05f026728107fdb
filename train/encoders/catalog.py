"""All encoders by name: what each reads of a simulation, and the network that encodes it.

Nothing here needs torch.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import TrainError
from pipeline.parameters import require_known

if TYPE_CHECKING:
    from torch import nn

    from sim.env import SceneEnv
    from sim.sensors.cameras.settings import Output
    from train.encoders.groups import ObservationGroup
    from train.settings import PolicySettings


@dataclass(frozen=True)
class Encoder:
    """An encoder; "module:name" is imported when it is used.

    Attributes:
        group: Function that makes its observation group, of a simulation, a policy's settings and a device; "" for
            policies that see nothing.
        network: Class of its network, made of the shape of one robot's observation and with an attribute `size`, the
            number of its outputs; "" for vectors.
        outputs: Outputs of the robot's cameras; None for the one of the policy's modality.
        observed: Whether its group is made of a simulation's observations alone, which may be in another process.
        exported: Whether ONNX files have it.
        has_file: Whether its weights are in `policy.encoder_file`.
    """

    group: str = ""
    network: str = ""
    outputs: tuple[Output, ...] | None = ()
    observed: bool = False
    exported: bool = True
    has_file: bool = False

    def groups(self, env: SceneEnv, policy: PolicySettings, device: str = "cpu") -> list[ObservationGroup]:
        """Make the observation groups of a simulation: one or none.

        Raises:
            TrainError: When a pretrained network is missing.
        """
        return [pkgutil.resolve_name(self.group)(env, policy, device)] if self.group else []

    def outputs_for(self, policy: PolicySettings) -> tuple[Output, ...]:
        """Outputs of the robot's cameras."""
        return (policy.modality,) if self.outputs is None else self.outputs


IMAGES, TOKENS = "train.encoders.groups:images", "train.encoders.gaussians:SetTransformer"
ENCODERS = {
    "cnn": Encoder(IMAGES, "train.encoders.images:ImageCNN", None, observed=True),
    "dinov2": Encoder("train.encoders.dinov2:features", "train.encoders.dinov2:FeatureNetwork", ("rgb",)),
    "gaussian_regressor": Encoder("train.encoders.gaussian_regressor:features", TOKENS, ("rgb",), has_file=True),
    "gaussians": Encoder("train.encoders.gaussians:tokens", TOKENS),
    "none": Encoder(observed=True),
    "points": Encoder("train.encoders.depth_points:points", TOKENS, ("rgb", "depth"), exported=False),
    "resnet": Encoder(IMAGES, "train.encoders.images:ImageResNet", None, observed=True),
    "truth": Encoder("train.encoders.groups:truth", observed=True, exported=False),
    "voxels": Encoder(
        "train.encoders.depth_points:voxels", "train.encoders.depth_points:VoxelCNN", ("rgb", "depth"), exported=False
    ),
}
DEFAULT, BLIND = "cnn", "none"


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


def make_encoder(name: str, shape: tuple[int, ...]) -> nn.Module:
    """Make the network of an encoder; the shape is that of one robot's observation.

    Raises:
        TrainError: When there is no such encoder.
        ValueError: For the blind one.
    """
    require_known(name, ENCODERS, "encoder", TrainError, rule="an encoder has a known name")
    if not (network := ENCODERS[name].network):
        raise ValueError(f"the encoder {name!r} has nothing to read, got observations of shape {shape}")
    return pkgutil.resolve_name(network)(shape)

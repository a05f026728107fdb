"""All encoders by name: what each reads of a simulation, and the network that encodes it.

Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.sensors.cameras.settings import Output


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


IMAGES, TOKENS = "train.encoders.groups:images", "train.encoders.gaussians:SetTransformer"
ENCODERS = {
    "cnn": Encoder(IMAGES, "train.encoders.images:ImageCNN", None, observed=True),
    "detector": Encoder("train.eyes:sight", outputs=("rgb", "depth"), exported=False),
    "dinov2": Encoder("train.encoders.dinov2:features", "train.encoders.dinov2:FeatureNetwork", ("rgb",)),
    "episode_map": Encoder("train.encoders.maps:maps", "train.encoders.maps:MapCNN", ("rgb", "depth"), exported=False),
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

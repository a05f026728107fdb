"""The network behind its interface."""

from dataclasses import dataclass

import numpy as np
from huggingface_hub import PyTorchModelHubMixin
from PIL import Image
from torch import nn

from tests.fakes import scene


@dataclass
class Prediction:
    """What it says of N images."""

    depth: np.ndarray  # N, H, W
    is_metric: int
    conf: np.ndarray | None = None  # N, H, W
    extrinsics: np.ndarray | None = None  # N, 3, 4
    intrinsics: np.ndarray | None = None  # N, 3, 3


class DepthAnything3(nn.Module, PyTorchModelHubMixin):
    """Answers by `tests.fakes.scene`, whatever its weights."""

    def __init__(self, model_name="da3-large", **kwargs):
        super().__init__()
        self.model = nn.Linear(4, 4)

    def inference(
        self, image, extrinsics=None, intrinsics=None, process_res=504, process_res_method="upper_bound_resize"
    ):
        """Depth, confidence and cameras of images (paths)."""
        assert process_res_method == "upper_bound_resize"
        images = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in image]
        poses, camera, depths, confidences = scene.current().see_images(images)
        return Prediction(
            depth=np.array(depths),
            is_metric=0,
            conf=np.array(confidences),
            extrinsics=np.array([pose.inverse().matrix[:3] for pose in poses], np.float32),
            intrinsics=np.array([camera.matrix for _ in poses], np.float32),
        )

"""The network."""

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from pipeline.geometry import quaternion_from_matrix
from tests.fakes import scene


class VGGT(nn.Module, PyTorchModelHubMixin):
    """Answers by `tests.fakes.scene`, whatever its weights."""

    def __init__(
        self,
        img_size=518,
        patch_size=14,
        embed_dim=1024,
        enable_camera=True,
        enable_point=True,
        enable_depth=True,
        enable_track=True,
    ):
        super().__init__()
        self.aggregator = nn.Linear(4, 4)
        self.camera_head = nn.Linear(4, 9) if enable_camera else None
        self.point_head = nn.Linear(4, 4) if enable_point else None
        self.depth_head = nn.Linear(4, 2) if enable_depth else None
        self.track_head = nn.Linear(4, 2) if enable_track else None

    def forward(self, images, query_points=None):
        """Of images (S, 3, H, W): pose_enc (1, S, 9), depth (1, S, H, W, 1), depth_conf (1, S, H, W)."""
        height, width = images.shape[-2:]
        poses, camera, depths, confidences = scene.current().see_images(images.permute(0, 2, 3, 1).numpy())
        encoded = np.zeros((1, len(poses), 9), np.float32)
        for n, pose in enumerate(poses):
            inverse = pose.inverse()
            encoded[0, n, :3] = inverse.translation
            encoded[0, n, 3:7] = np.roll(quaternion_from_matrix(inverse.rotation), -1)
            encoded[0, n, 7:] = 2 * np.arctan([height / 2 / camera.fy, width / 2 / camera.fx])
            if scene.current().is_nan(n):
                encoded[0, n] = np.nan
        return {
            "pose_enc": torch.from_numpy(encoded),
            "depth": torch.from_numpy(np.array(depths))[None, ..., None],
            "depth_conf": torch.from_numpy(np.array(confidences))[None],
            "images": images[None],
        }

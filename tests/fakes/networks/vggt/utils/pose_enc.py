"""Cameras as nine numbers: translation, quaternion (xyzw), fields of view."""

import torch


def pose_encoding_to_extri_intri(
    pose_encoding, image_size_hw=None, pose_encoding_type="absT_quaR_FoV", build_intrinsics=True
):
    """Camera from world (B, S, 3, 4) and intrinsics (B, S, 3, 3) for images of height and width."""
    assert pose_encoding_type == "absT_quaR_FoV" and build_intrinsics
    x, y, z, w = pose_encoding[..., 3:7].unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    rotation = torch.stack([torch.stack(row, -1) for row in rows], -2)
    height, width = image_size_hw
    intrinsics = torch.zeros((*pose_encoding.shape[:2], 3, 3))
    intrinsics[..., 0, 0] = width / 2 / torch.tan(pose_encoding[..., 8] / 2)
    intrinsics[..., 1, 1] = height / 2 / torch.tan(pose_encoding[..., 7] / 2)
    intrinsics[..., 0, 2], intrinsics[..., 1, 2], intrinsics[..., 2, 2] = width / 2, height / 2, 1.0
    return torch.cat([rotation, pose_encoding[..., :3, None]], -1), intrinsics

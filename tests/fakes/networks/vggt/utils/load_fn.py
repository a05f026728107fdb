"""Images as the network takes them."""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad


def load_and_preprocess_images(image_path_list, mode="crop"):
    """(N, 3, H, W) in 0..1: 518 wide (crop: what is higher is cut off) or 518 on the longer side (pad), white round."""
    images = []
    for path in image_path_list:
        image = Image.open(path).convert("RGB")
        width, height = image.size
        if mode == "crop" or width >= height:
            size = 518, round(height * (518 / width) / 14) * 14
        else:
            size = round(width * (518 / height) / 14) * 14, 518
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        if mode == "crop" and size[1] > 518:
            start = (size[1] - 518) // 2
            tensor = tensor[:, start : start + 518]
        images.append(tensor if mode == "crop" else _padded(tensor, 518, 518))
    height, width = (max(p.shape[k] for p in images) for k in (1, 2))
    return torch.stack([_padded(p, height, width) for p in images])


def _padded(image, height, width):
    down, right = height - image.shape[1], width - image.shape[2]
    return pad(image, (right // 2, right - right // 2, down // 2, down - down // 2), value=1.0)

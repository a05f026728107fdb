"""Pictures as the network takes them."""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad


def load_and_preprocess_images(image_path_list, mode="crop"):
    """(N, 3, H, W) in 0..1: 518 wide (crop: what is higher is cut off) or 518 on the longer side (pad), white round."""
    pictures = []
    for path in image_path_list:
        picture = Image.open(path).convert("RGB")
        width, height = picture.size
        if mode == "crop" or width >= height:
            size = 518, round(height * (518 / width) / 14) * 14
        else:
            size = round(width * (518 / height) / 14) * 14, 518
        pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        if mode == "crop" and size[1] > 518:
            start = (size[1] - 518) // 2
            tensor = tensor[:, start : start + 518]
        pictures.append(tensor if mode == "crop" else _padded(tensor, 518, 518))
    height, width = (max(p.shape[k] for p in pictures) for k in (1, 2))
    return torch.stack([_padded(p, height, width) for p in pictures])


def _padded(picture, height, width):
    down, right = height - picture.shape[1], width - picture.shape[2]
    return pad(picture, (right // 2, right - right // 2, down // 2, down - down // 2), value=1.0)

"""Depth Anything 3 on some images at once, with the answers of `vggt_worker`. Needs torch and depth_anything_3.

Source: H. Lin et al., Depth Anything 3: Recovering the Visual Space from Any Views, 2025, and its published interface.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.gpu_backends.device import gpu_errors, images_that_fit, load_network, peak_memory, usable_device
from pipeline.gpu_backends.errors import WrongWeightsError
from pipeline.poses.vggt_worker import only_finite

SIDE, PATCH = 504, 14
BYTES_PER_PIXEL = 1400
"""GPU memory that an image's pixels take; between the large and the giant model."""


class Worker:
    """The loaded network; see `pipeline.poses.vggt_worker.Worker` for what it takes, gives and raises."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Load it."""
        os.environ.setdefault("DA3_LOG_LEVEL", "WARN")
        from depth_anything_3.api import DepthAnything3  # pyright: ignore[reportMissingImports]

        self._device = usable_device(settings.get("device", "cuda"))
        with gpu_errors("the network"):
            self._model: Any = load_network(
                DepthAnything3, settings["weights"], settings.get("random_weights", False)
            ).to(self._device)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one of two requests, `room` or `images`."""
        if "size" in request:
            each = BYTES_PER_PIXEL * float(np.prod(resized(*request["size"])))
            return {"capacity": images_that_fit(self._device, each), "peak": peak_memory(self._device)}
        return self._infer(request["images"])

    def _infer(self, paths: Sequence[str]) -> dict[str, Any]:
        from pipeline.image_files import open_image

        sizes = []
        for path in paths:
            with open_image(Path(path)) as image:
                sizes.append(image.size)
        with gpu_errors(f"{len(paths)} images of up to {SIDE} px"):
            found = self._model.inference(list(paths), process_res=SIDE, process_res_method="upper_bound_resize")
        if found.extrinsics is None or found.intrinsics is None or found.conf is None:
            raise WrongWeightsError(
                "these weights give depth without cameras",
                "take an any-view model, such as depth-anything/DA3-LARGE-1.1",
            )
        return _answer(sizes, found.extrinsics[:, :3], found.intrinsics, found.depth, found.conf)


def resized(width: int, height: int) -> tuple[int, int]:
    """Width and height of an image as its loader makes it: the longer side 504, both multiples of 14."""
    zoom = SIDE / max(width, height)
    return _multiple(max(round(width * zoom), 1)), _multiple(max(round(height * zoom), 1))


def _multiple(length: int) -> int:
    below = length // PATCH * PATCH
    return max(below + PATCH if below + PATCH - length <= length - below else below, 1)


def _answer(
    sizes: Sequence[tuple[int, int]],
    cam_from_world: np.ndarray,
    intrinsics: np.ndarray,
    depth: np.ndarray,
    confidence: np.ndarray,
) -> dict[str, Any]:
    """The answer for what was found; the loader cuts images of several sizes down to the smallest."""
    count, height, width = depth.shape
    result: dict[str, Any] = {
        "cam_from_world": np.array(cam_from_world, float),
        "intrinsics": np.array(intrinsics, float),
    }
    for n in range(count):
        full_width, full_height = resized(*sizes[n])
        left, top = round((full_width - width) / 2), round((full_height - height) / 2)
        result["intrinsics"][n, :2, 2] += left, top
        for name, values in (("depth", depth[n]), ("confidence", confidence[n])):
            whole = np.zeros((full_height, full_width), np.float32)
            whole[top : top + height, left : left + width] = values
            result[f"{name}_{n}"] = whole
    return only_finite(result, count)

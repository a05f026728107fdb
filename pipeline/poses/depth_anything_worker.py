"""Depth Anything 3 on some images at once, with the answers of `vggt_worker`. Needs torch and depth_anything_3.

Source: H. Lin et al., Depth Anything 3: Recovering the Visual Space from Any Views, 2025, and its published interface.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from pipeline.gpu_backends.device import (
    WorkerSettings,
    gpu_errors,
    images_that_fit,
    load_network,
    peak_memory,
    usable_device,
)
from pipeline.gpu_backends.errors import WrongWeightsError
from pipeline.poses.vggt_worker import Answer, Request, finite_answer, image_sizes

SIDE, PATCH = 504, 14
BYTES_PER_PIXEL = 1400
"""GPU memory per pixel of an image; between the large and the giant model."""


class Worker:
    """The loaded network; see `pipeline.poses.vggt_worker.Worker`."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Load it."""
        os.environ.setdefault("DA3_LOG_LEVEL", "WARN")
        from depth_anything_3.api import DepthAnything3  # pyright: ignore[reportMissingImports]

        self._device = usable_device(settings.get("device", "cuda"))
        with gpu_errors("the network"):
            model = load_network(DepthAnything3, settings["weights"], settings.get("random_weights", False))
            self._model = model.to(self._device)

    def ask(self, request: Request) -> Answer:
        """Answer a request."""
        if "size" in request:
            each = BYTES_PER_PIXEL * float(np.prod(resized(*request["size"])))
            return {"capacity": images_that_fit(self._device, each), "peak": peak_memory(self._device)}
        return self._infer(request.get("images", ()))

    def _infer(self, paths: Sequence[str]) -> Answer:
        sizes = image_sizes(paths)
        with gpu_errors(f"{len(paths)} images of up to {SIDE} px"):
            output = self._model.inference(list(paths), process_res=SIDE, process_res_method="upper_bound_resize")
        if output.extrinsics is None or output.intrinsics is None or output.conf is None:
            raise WrongWeightsError(
                "these weights give depth without cameras",
                "take an any-view model, such as depth-anything/DA3-LARGE-1.1",
            )
        maps = []
        for size, depth, confidence in zip(sizes, output.depth, output.conf, strict=True):
            # The loader crops images of several sizes to the smallest.
            width, height = resized(*size)
            left, top = round((width - depth.shape[1]) / 2), round((height - depth.shape[0]) / 2)
            whole = np.zeros((2, height, width), np.float32)
            whole[:, top : top + depth.shape[0], left : left + depth.shape[1]] = depth, confidence
            maps.append((*whole, (left, top)))
        return finite_answer(output.extrinsics[:, :3], output.intrinsics, maps)


def resized(width: int, height: int) -> tuple[int, int]:
    """Width and height of an image as its loader resizes it: the longer side 504, both multiples of 14."""
    zoom = SIDE / max(width, height)
    return _multiple(max(round(width * zoom), 1)), _multiple(max(round(height * zoom), 1))


def _multiple(length: int) -> int:
    below = length // PATCH * PATCH
    return max(below + PATCH if below + PATCH - length <= length - below else below, 1)

"""VGGT on some images at once: cameras, depth and confidence. Needs torch and vggt, and no more of ours than numpy.

Source: J. Wang et al., VGGT: Visual Geometry Grounded Transformer, CVPR 2025, and the package's published interface.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.gpu_backends.device import (
    WorkerSettings,
    gpu_errors,
    images_that_fit,
    load_network,
    peak_memory,
    usable_device,
)
from pipeline.gpu_backends.errors import BadOutputError

SIDE, PATCH = 518, 14
BYTES_PER_PIXEL = 1800
"""GPU memory per pixel of an image: 24 GB hold 50 to 60 images of 518x392 in addition to the weights."""

Answer = dict[str, np.ndarray | int | None]


class Request(TypedDict, total=False):
    """`size`: (width, height) of images, to learn how many fit at once; or `images`: paths."""

    size: tuple[int, int]
    images: Sequence[str]


class Worker:
    """The loaded network."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Load it; for errors see `usable_device` and `load_network`."""
        import torch
        from vggt.models.vggt import VGGT  # pyright: ignore[reportMissingImports]

        self._device = usable_device(settings.get("device", "cuda"))
        model = load_network(VGGT, settings["weights"], settings.get("random_weights", False))
        model.point_head = model.track_head = None  # unprojected depth is more exact, and both take memory
        with gpu_errors("the network"):
            self._model = model.to(self._device)
        fine = self._device.type == "cuda" and torch.cuda.get_device_capability(self._device) >= (8, 0)
        self._type = torch.bfloat16 if fine else torch.float16

    def ask(self, request: Request) -> Answer:
        """Answer a request.

        Returns:
            For `size`: `capacity`, the number of images, None where memory does not limit it, and `peak`, the GPU
            memory used since the last such request [bytes]. For `images`: of image n `depth_n` and `confidence_n`
            (h, w), the whole image at a smaller size, `cam_from_world` (N, 3, 4) in an arbitrary frame and scale, NaN
            where the output was not finite, and `intrinsics` (N, 3, 3) in pixels of the depth map.

        Raises:
            GpuMemoryError: When fewer images may fit.
            BadOutputError: When no image has finite output.
        """
        if "size" in request:
            fitted = fit([request["size"]])
            fits = images_that_fit(self._device, BYTES_PER_PIXEL * fitted.width * fitted.height)
            return {"capacity": fits, "peak": peak_memory(self._device)}
        return self._infer(request.get("images", ()))

    def _infer(self, paths: Sequence[str]) -> Answer:
        import torch
        from vggt.utils.load_fn import load_and_preprocess_images  # pyright: ignore[reportMissingImports]
        from vggt.utils.pose_enc import pose_encoding_to_extri_intri  # pyright: ignore[reportMissingImports]

        fitted = fit(image_sizes(paths))
        what = f"{len(paths)} images of {fitted.width}x{fitted.height}"
        kind = self._device.type
        with gpu_errors(what), torch.inference_mode():
            images = load_and_preprocess_images(list(paths), mode=fitted.mode).to(self._device)
            with torch.autocast(kind, self._type, enabled=kind == "cuda"):
                output = self._model(images)
            cam_from_world, intrinsics = pose_encoding_to_extri_intri(output["pose_enc"].float(), images.shape[-2:])
            cameras = cam_from_world[0].cpu().numpy(), intrinsics[0].cpu().numpy()
            depth = output["depth"][0, ..., 0].float().cpu().numpy()
            confidence = output["depth_conf"][0].float().cpu().numpy()
        crops = [fitted.inside(n) for n in range(len(paths))]
        maps = [(depth[n][box], confidence[n][box], (-box[1].start, -box[0].start)) for n, box in enumerate(crops)]
        return finite_answer(*cameras, maps)


class Fitted:
    """How images are preprocessed for the network: resized, then padded evenly on all sides to one size."""

    def __init__(self, mode: str, sizes: Sequence[tuple[int, int]]) -> None:
        """Keep the mode for `load_and_preprocess_images`, and widths and heights after resizing, before padding."""
        self.mode, self._sizes = mode, sizes
        self.width = SIDE if mode == "pad" else max(width for width, _ in sizes)
        self.height = SIDE if mode == "pad" else max(height for _, height in sizes)

    def inside(self, n: int) -> tuple[slice, slice]:
        """Rows and columns of the network's image that show image n."""
        width, height = self._sizes[n]
        top, left = (self.height - height) // 2, (self.width - width) // 2
        return slice(top, top + height), slice(left, left + width)


def fit(sizes: Sequence[tuple[int, int]]) -> Fitted:
    """How VGGT's own loader preprocesses images of these (width, height), in the mode that crops nothing."""
    wide = [(SIDE, round(height * (SIDE / width) / PATCH) * PATCH) for width, height in sizes]
    if max(height for _, height in wide) <= SIDE:
        return Fitted("crop", wide)
    high = [(round(width * (SIDE / height) / PATCH) * PATCH, SIDE) for width, height in sizes]
    return Fitted("pad", [w if w[1] <= SIDE else h for w, h in zip(wide, high, strict=True)])


def image_sizes(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Width and height of image files."""
    from pipeline.io.image_files import open_image

    sizes = []
    for path in paths:
        with open_image(Path(path)) as image:
            sizes.append(image.size)
    return sizes


def finite_answer(
    cam_from_world: np.ndarray, intrinsics: np.ndarray, maps: Iterable[tuple[np.ndarray, np.ndarray, tuple[int, int]]]
) -> Answer:
    """The answer on images, with NaN poses wherever the output for an image is not finite.

    Poses are (N, 3, 4), intrinsics (N, 3, 3), and maps depth and confidence (h, w) of each image, and the shift of its
    principal point (x, y) [px].

    Raises:
        BadOutputError: When no image is left.
    """
    poses, matrices = np.array(cam_from_world, float), np.array(intrinsics, float)
    answer: Answer = {"cam_from_world": poses, "intrinsics": matrices}
    for n, (depth, confidence, shift) in enumerate(maps):
        matrices[n, :2, 2] += shift
        answer[f"depth_{n}"] = np.ascontiguousarray(depth, np.float32)
        answer[f"confidence_{n}"] = np.ascontiguousarray(confidence, np.float32)
        if not all(np.isfinite(values).all() for values in (matrices[n], depth, confidence)):
            poses[n] = np.nan
    if not np.isfinite(poses).all((1, 2)).any():
        raise BadOutputError(f"NaN in every one of {len(poses)} images")
    return answer

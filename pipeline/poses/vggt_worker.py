"""VGGT on some images at once: cameras, depth and confidence. Needs torch and vggt, and no more of ours than numpy.

Source: J. Wang et al., VGGT: Visual Geometry Grounded Transformer, CVPR 2025, and the package's published interface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.gpu_backends.device import gpu_errors, images_that_fit, load_network, peak_memory, usable_device
from pipeline.gpu_backends.errors import BadOutputError

SIDE, PATCH = 518, 14
BYTES_PER_PIXEL = 1800
"""GPU memory that an image's pixels take: 50 to 60 images of 518x392 are what 24 GB hold beside the weights."""


class Worker:
    """The loaded network."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Load it.

        Args:
            settings: `weights` and `random_weights`, see `load_network`; `device` if it is not cuda.

        Raises:
            NoDeviceError: When torch can't compute there.
            MissingWeightsError, WrongWeightsError: See `load_network`.
        """
        import torch
        from vggt.models.vggt import VGGT  # pyright: ignore[reportMissingImports]

        self._device = usable_device(settings.get("device", "cuda"))
        model: Any = load_network(VGGT, settings["weights"], settings.get("random_weights", False))
        model.point_head = model.track_head = None  # unprojected depth is more exact, and both take memory
        with gpu_errors("the network"):
            self._model = model.to(self._device)
        fine = self._device.type == "cuda" and torch.cuda.get_device_capability(self._device) >= (8, 0)
        self._type = torch.bfloat16 if fine else torch.float16

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one of two requests.

        Args:
            request: `room`: (width, height) of images, to learn how many fit at once; or `images`: paths.

        Returns:
            `frames`, None where memory does not limit them, and `peak`, the GPU memory taken since that was last asked
            [bytes]; or for image n `depth_n` and `confidence_n` (h, w), the
            whole image at a smaller size, `cam_from_world` (N, 3, 4) in a frame and scale of the answer's own, NaN
            where the network found nothing, and `intrinsics` (N, 3, 3) in pixels of the depth map.

        Raises:
            GpuMemoryError: When fewer images may fit.
            BadOutputError: When nothing that came out is finite.
        """
        if "size" in request:
            fitted = fit([tuple(request["size"])])
            fits = images_that_fit(self._device, BYTES_PER_PIXEL * fitted.width * fitted.height)
            return {"capacity": fits, "peak": peak_memory(self._device)}
        return self._infer(request["images"])

    def _infer(self, paths: Sequence[str]) -> dict[str, Any]:
        import torch
        from vggt.utils.load_fn import load_and_preprocess_images  # pyright: ignore[reportMissingImports]
        from vggt.utils.pose_enc import pose_encoding_to_extri_intri  # pyright: ignore[reportMissingImports]

        from pipeline.image_files import open_image

        sizes = []
        for path in paths:
            with open_image(Path(path)) as image:
                sizes.append(image.size)
        fitted = fit(sizes)
        what = f"{len(paths)} images of {fitted.width}x{fitted.height}"
        kind = self._device.type
        with gpu_errors(what), torch.inference_mode():
            images = load_and_preprocess_images(list(paths), mode=fitted.mode).to(self._device)
            with torch.autocast(kind, self._type, enabled=kind == "cuda"):
                found = self._model(images)
            cam_from_world, intrinsics = pose_encoding_to_extri_intri(found["pose_enc"].float(), images.shape[-2:])
            cameras = cam_from_world[0].cpu().numpy(), intrinsics[0].cpu().numpy()
            depth = found["depth"][0, ..., 0].float().cpu().numpy()
            confidence = found["depth_conf"][0].float().cpu().numpy()
        return answer(*cameras, depth, confidence, fitted)


class Fitted:
    """How images were made fit for the network: resized, then padded round the middle to one size."""

    def __init__(self, mode: str, sizes: Sequence[tuple[int, int]]) -> None:
        """Remember it.

        Args:
            mode: What `load_and_preprocess_images` is asked for.
            sizes: Width and height of the resized images, before padding.
        """
        self.mode, self._sizes = mode, sizes
        self.width = SIDE if mode == "pad" else max(width for width, _ in sizes)
        self.height = SIDE if mode == "pad" else max(height for _, height in sizes)

    def inside(self, n: int) -> tuple[slice, slice]:
        """Rows and columns of the network's image that show image n."""
        width, height = self._sizes[n]
        top, left = (self.height - height) // 2, (self.width - width) // 2
        return slice(top, top + height), slice(left, left + width)


def fit(sizes: Sequence[tuple[int, int]]) -> Fitted:
    """How VGGT's own loader treats images of these (width, height), in the mode that cuts nothing off."""
    wide = [(SIDE, round(height * (SIDE / width) / PATCH) * PATCH) for width, height in sizes]
    if max(height for _, height in wide) <= SIDE:
        return Fitted("crop", wide)
    high = [(round(width * (SIDE / height) / PATCH) * PATCH, SIDE) for width, height in sizes]
    return Fitted("pad", [w if w[1] <= SIDE else h for w, h in zip(wide, high, strict=True)])


def answer(
    cam_from_world: np.ndarray, intrinsics: np.ndarray, depth: np.ndarray, confidence: np.ndarray, fitted: Fitted
) -> dict[str, Any]:
    """The answer for what the network said of its padded images.

    Raises:
        BadOutputError: When no image has finite numbers.
    """
    result: dict[str, Any] = {
        "cam_from_world": np.array(cam_from_world, float),
        "intrinsics": np.array(intrinsics, float),
    }
    for n in range(len(depth)):
        rows, columns = fitted.inside(n)
        result["intrinsics"][n, :2, 2] -= columns.start, rows.start
        result[f"depth_{n}"] = np.ascontiguousarray(depth[n, rows, columns], np.float32)
        result[f"confidence_{n}"] = np.ascontiguousarray(confidence[n, rows, columns], np.float32)
    return only_finite(result, len(depth))


def only_finite(result: dict[str, Any], count: int) -> dict[str, Any]:
    """An answer with NaN poses wherever anything of an image is not finite.

    Raises:
        BadOutputError: When no image is left.
    """
    for n in range(count):
        of_image = result["intrinsics"][n], result[f"depth_{n}"], result[f"confidence_{n}"]
        if not all(np.isfinite(values).all() for values in of_image):
            result["cam_from_world"][n] = np.nan
    if not np.isfinite(result["cam_from_world"]).all((1, 2)).any():
        raise BadOutputError(f"NaN in every one of {count} images")
    return result

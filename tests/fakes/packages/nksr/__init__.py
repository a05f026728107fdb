"""A stand-in for NKSR with its published signatures, which reconstructs with voxels and planes instead of a network.

It needs memory as the real one does, for each voxel of the chunk that it is at, and runs out of it. FAKE_NKSR spoils
what comes out: "nan", "empty", "none". Each call leaves a line in the file FAKE_NKSR_LOG.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from nksr.configs import get_hparams
from nksr.surface import surface

BYTES_PER_VOXEL = 12_000


class Reconstructor:
    """As the published class."""

    def __init__(self, device, config="ks") -> None:
        self.device = torch.device(device)
        self.chunk_tmp_device = self.device
        self.hparams = get_hparams(config)
        assert not self.hparams.url.startswith("http"), "the weights are looked at before"
        network = torch.load(self.hparams.url)["state_dict"]
        if network != "ks":
            raise RuntimeError(f"Error(s) in loading state_dict for NKSRNetwork: these are of {network}")

    def reconstruct(
        self,
        xyz,
        normal=None,
        sensor=None,
        detail_level=0.0,
        voxel_size=None,
        chunk_size=-1,
        overlap_ratio=0.05,
        approx_kernel_grad=False,
        solver_max_iter=2000,
        solver_tol=1.0e-5,
        nystrom_min_depth=100,
        fused_mode=True,
        preprocess_fn=None,
    ):
        """A field, or None without points."""
        assert xyz.device.type == normal.device.type == self.device.type
        assert detail_level is None and voxel_size is None, "chunks ignore them"
        points, normals = xyz.on_device, normal.on_device
        assert points.dtype == normals.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
        if chunk_size > 0:
            assert self.chunk_tmp_device.type == "cpu"
        chunks = split(points, chunk_size, overlap_ratio) if chunk_size > 0 else [np.ones(len(points), bool)]
        if log := os.environ.get("FAKE_NKSR_LOG"):
            with Path(log).open("a") as stream:
                stream.write(json.dumps({"chunk_size": chunk_size, "chunks": len(chunks)}) + "\n")
        for inside in chunks:
            self._take(len(np.unique(np.floor(points[inside] / self.hparams.voxel_size), axis=0)) * BYTES_PER_VOXEL)
        assert np.logical_or.reduce(chunks).all(), "a point in no chunk"
        if os.environ.get("FAKE_NKSR") == "none":
            return None
        return Field(points, normals, self.hparams.voxel_size, self.device)

    def _take(self, needed: int) -> None:
        free = torch.cuda.mem_get_info(self.device)[0]
        if needed > free:
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {needed} of {free}")


class Field:
    """What `reconstruct` gives."""

    def __init__(self, points, normals, voxel_size, device) -> None:
        self._points, self._normals, self._voxel_size, self._device = points, normals, voxel_size, device

    def extract_dual_mesh(self, mise_iter=0, grid_upsample=1, max_depth=100, trim=True, max_points=-1):
        """Vertices `v`, triangles `f` and no colours `c`."""
        vertices, triangles = surface(self._points, self._normals, self._voxel_size)
        spoil = os.environ.get("FAKE_NKSR")
        if spoil == "nan":
            vertices[triangles[7, 1]] = np.nan
        if spoil == "empty":  # the real one evaluates no vertices in no batches
            raise RuntimeError("chunk expects `chunks` to be greater than 0, got: 0")
        there = [torch.Tensor(array, self._device) for array in (vertices, triangles)]
        return SimpleNamespace(v=there[0], f=there[1], c=None)


def split(points: np.ndarray, chunk_size: float, overlap_ratio: float) -> list[np.ndarray]:
    """Which points lie in which chunk: the published rule."""
    low, high = points.min(0), points.max(0)
    size, centre = 1.1 * (high - low), (low + high) / 2
    step = chunk_size * (1 - overlap_ratio)
    count = np.ceil((size - chunk_size * overlap_ratio) / step).clip(1).astype(int)
    start = centre - (count * step + chunk_size * overlap_ratio) / 2
    cubes = (start + step * np.array(index) for index in np.ndindex(*count))
    inside = (((points > cube) & (points < cube + chunk_size)).all(1) for cube in cubes)
    return [mask for mask in inside if mask.any()]

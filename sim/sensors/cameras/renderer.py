"""Renderers of the scenes' Gaussians: one protocol, the CPU's own, and which one a device has."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SimError
from pipeline.geometry import Camera, Gaussians
from pipeline.raster import PackedGaussians, pack, render_batch
from pipeline.raster.composite import draw_over
from pipeline.types import F32, I64, Floats
from sim import libraries

KEPT = 64
"""Scenes that a renderer keeps ready, at least: more than a training uses at a time."""


class SceneRenderer(Protocol):
    """Draws the Gaussians of some scenes."""

    def render(self, camera: Camera, world_from_cameras: Floats, scene_of: NDArray[np.integer]) -> tuple[F32, F32]:
        """Render pinhole cameras of one lens.

        Args:
            camera: Pinhole.
            world_from_cameras: (B, 4, 4), B >= 1.
            scene_of: (B,) scene of each camera.

        Returns:
            Colours (B, H, W, 3), 0 where nothing is, possibly above 1; and depths (B, H, W) along the cameras' z where
            more than half is opaque [m], 0 = unknown. The caller may change both.
        """
        ...

    def draw_over(
        self, rgb: F32, depth: F32, images: I64, camera: Camera, thing_from_cameras: Floats, scene: int
    ) -> None:
        """Draw the Gaussians of a scene, which are a thing's, over images where they are in front; changes both.

        Images and depths (B, H, W) are as `render` returns them; some of them (M,) are drawn into, by cameras of poses
        (M, 4, 4).
        """
        ...


class Loaded(Sequence[Gaussians]):
    """Gaussians that are loaded when they are asked for, each time anew: whoever asks keeps what it needs."""

    def __init__(self, loads: Sequence[Callable[[], Gaussians]]) -> None:
        self._loads = loads

    @overload
    def __getitem__(self, index: int) -> Gaussians: ...
    @overload
    def __getitem__(self, index: slice) -> Loaded: ...
    def __getitem__(self, index: int | slice) -> Gaussians | Loaded:
        """The Gaussians of a scene, or some of them."""
        return Loaded(self._loads[index]) if isinstance(index, slice) else self._loads[index]()

    def __len__(self) -> int:
        return len(self._loads)


class CpuRenderer:
    """The pipeline's own batch rasteriser; the same bits for any number of threads.

    Scenes are packed when they are first drawn, and those that were drawn last are kept.
    """

    def __init__(self, scenes: Sequence[Gaussians]) -> None:
        self._scenes, self._packed = scenes, dict[int, PackedGaussians]()

    def _get(self, scenes: NDArray[np.integer]) -> list[PackedGaussians]:
        """Scenes (K,) as they are drawn."""
        for scene in scenes.tolist():
            found = self._packed.pop(scene, None)
            # the last one again
            self._packed[scene] = pack(self._scenes[scene], coarsely=True) if found is None else found
        for scene in list(self._packed)[: -max(KEPT, len(scenes))]:
            del self._packed[scene]
        return [self._packed[scene] for scene in scenes.tolist()]

    def render(self, camera: Camera, world_from_cameras: Floats, scene_of: NDArray[np.integer]) -> tuple[F32, F32]:
        """Render pinhole cameras of one lens; see `SceneRenderer`."""
        scenes, of = np.unique(scene_of, return_inverse=True)
        drawn = render_batch(self._get(scenes), camera, world_from_cameras, of=of)
        assert drawn.median_depth is not None  # a batch always has it
        return drawn.rgb, drawn.median_depth

    def draw_over(
        self, rgb: F32, depth: F32, images: I64, camera: Camera, thing_from_cameras: Floats, scene: int
    ) -> None:
        """Draw a thing over images; see `SceneRenderer`."""
        drawn = render_batch(self._get(np.array([scene])), camera, thing_from_cameras)
        draw_over(rgb, depth, images, drawn.rgb, drawn.alpha, drawn.depth)


CPU = "cpu"
TOOLKIT = "install the CUDA toolkit of torch's version, ninja and a compiler"


def check_device(device: str) -> None:
    """Check that a device can render. Builds gsplat's kernels at the first use, for minutes.

    Devices are cpu, cuda for the first CUDA device, cuda:1 and so on.

    Raises:
        SimError: When there is no such device, or a library that it needs is missing.
    """
    if device == CPU:
        return
    if not re.fullmatch(r"cuda(:\d{1,3})?", device):
        raise _no_device("a device is cpu, cuda or cuda:N", repr(device), "name one of these")
    cuda = libraries.torch().cuda
    if not cuda.is_available():
        raise _no_device(f"{device} needs an NVIDIA GPU, its driver and a torch built for CUDA", "none", "install them")
    count = cuda.device_count()
    if ":" in device and int(device[5:]) >= count:
        raise _no_device("a CUDA device has a number below their count", f"{device} of {count}", "name another")
    libraries.gsplat()
    try:
        kernels = importlib.import_module("gsplat.cuda._backend")._C
    except (ImportError, RuntimeError, OSError) as error:
        raise _no_device("gsplat's kernels must build", str(error), TOOLKIT) from error
    if kernels is None:
        raise _no_device("gsplat's kernels must be built", "no CUDA toolkit (nvcc)", TOOLKIT)


def make_renderer(scenes: Sequence[Gaussians], device: str) -> SceneRenderer:
    """Make the renderer of scenes on a device that `check_device` accepted."""
    if device == CPU:
        return CpuRenderer(scenes)
    from sim.sensors.cameras.gsplat_renderer import GsplatRenderer

    return GsplatRenderer(scenes, device)


def _no_device(rule: str, found: str, remedy: str) -> SimError:
    return SimError(rule, found=found, remedy=f"{remedy}; or run on the CPU: device='cpu' (--device cpu)")

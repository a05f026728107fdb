"""The backends that need a GPU: their packages, where those come from, and what a machine lacks for them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.machine import Machine

GIBI = 2**30
ENVIRONMENT = (
    "python3.12 -m venv learned",
    "learned/bin/pip install torch==2.7.0 torchvision==0.22.0",
)
"""An interpreter for packages that don't go with ours: one asks for a NumPy below 2, another for this torch."""


@dataclass(frozen=True)
class Weights:
    """A file with a network's weights.

    Attributes:
        repository: Where it comes from, on Hugging Face.
        file: In there.
        by_torch: Whether its package keeps it in torch's cache, not in Hugging Face's.
    """

    repository: str
    file: str
    by_torch: bool = False

    @property
    def place(self) -> Path | None:
        """Where it lies, or None if it does not."""
        if self.by_torch:
            return self._in_torch if self._in_torch.is_file() else None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file)
        return Path(found) if isinstance(found, str) else None

    @property
    def command(self) -> str:
        """What fetches it."""
        if self.by_torch:
            url = f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"
            return f"curl -L --create-dirs -o {self._in_torch} {url}"
        return f"hf download {self.repository}"

    @property
    def _in_torch(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
        return Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints" / Path(self.file).name


@dataclass(frozen=True)
class Backend:
    """A library that a backend stands on.

    Attributes:
        distribution: Its name for pip.
        module: What is imported.
        memory: GPU memory below which it is of no use [bytes].
        source: Its address, and the revision or release that our code was written against.
        install: The commands that install it, in order.
        image: The file in docker/ of an image that has it.
        weights: Those that may be asked for, the usual ones first.
        licence: What may be done with it, in one clause.
    """

    distribution: str
    module: str
    memory: int
    source: str
    install: tuple[str, ...]
    image: str
    weights: tuple[Weights, ...]
    licence: str


VGGT = "https://github.com/facebookresearch/vggt@a288dd0f14786c93483e45524328726ab7b1b4ce"
NKSR = "https://github.com/nv-tlabs/NKSR@b0edf84834aedafff11c5317d5ef00dd53f067ef"
BACKENDS = {
    "vggt": Backend(
        "vggt",
        "vggt",
        8 * GIBI,
        VGGT,
        (
            *ENVIRONMENT,
            f"learned/bin/pip install --no-deps 'vggt @ git+{VGGT}'",  # it pins an old torch
            "learned/bin/pip install 'numpy<2' pillow einops safetensors huggingface_hub",
        ),
        "learned.Dockerfile",
        (
            Weights("facebook/VGGT-1B", "model.safetensors"),
            Weights("facebook/VGGT-1B-Commercial", "model.safetensors"),
        ),
        "code: VGGT License; weights: CC BY-NC 4.0, or the commercial ones after registration",
    ),
    "depth_anything_3": Backend(
        "depth-anything-3",
        "depth_anything_3",
        8 * GIBI,
        "https://github.com/ByteDance-Seed/Depth-Anything-3, release 0.1.1",
        (*ENVIRONMENT, "learned/bin/pip install depth-anything-3==0.1.1 xformers==0.0.30"),
        "learned.Dockerfile",
        (Weights("depth-anything/DA3-LARGE-1.1", "model.safetensors"),),
        "code: Apache-2.0; weights: CC BY-NC 4.0, smaller ones Apache-2.0",
    ),
    "nksr": Backend(
        "nksr",
        "nksr",
        6 * GIBI,
        NKSR,
        (
            *ENVIRONMENT,
            "learned/bin/pip install numpy setuptools wheel ninja GitPython",
            # pycg raises at import without Open3D
            "learned/bin/pip install omegaconf tqdm pykdtree open3d-cpu 'python-pycg>=1.0.1'",
            # without FORCE_CUDA torch-scatter is built for CPUs wherever it sees no GPU
            "CUDA_HOME=/usr/local/cuda-12.6 FORCE_CUDA=1 learned/bin/pip install --no-build-isolation torch-scatter",
            f"CUDA_HOME=/usr/local/cuda-12.6 learned/bin/pip install --no-build-isolation 'nksr @ git+{NKSR}"
            "#subdirectory=package'",
        ),
        "learned.Dockerfile",
        (Weights("heiwang1997/nksr-checkpoints", "checkpoints/ks.pth", by_torch=True),),
        "code: NVIDIA Source Code License, research and evaluation only; weights: CC BY-SA 4.0",
    ),
    "gsplat": Backend(
        "gsplat",
        "gsplat",
        4 * GIBI,
        "https://github.com/nerfstudio-project/gsplat, release 1.5.3",
        ("pip install 'splatyard[gpu]'",),
        "cuda.Dockerfile",
        (),
        "Apache-2.0",
    ),
}
"""By the backend's name."""


def lacking(name: str, machine: Machine) -> str | None:
    """Why a backend can't run on a machine, in one clause; None when it can.

    Args:
        name: A key of `BACKENDS`.
        machine: As the backend's interpreter sees it.
    """
    backend = BACKENDS[name]
    if machine.gpu is None:
        return f"{name} needs a CUDA GPU"
    if machine.problem:
        return machine.problem
    for module in ("torch", backend.module):
        if module in machine.broken:
            return f"{module} is installed but does not import: {machine.broken[module]}"
    absent = [module for module in ("torch", backend.module) if module not in machine.modules]
    if absent:
        return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
    if machine.gpu.memory < backend.memory:
        has, needs = machine.gpu.memory / GIBI, backend.memory / GIBI
        return f"{name} needs {needs:.0f} GiB on the GPU, {machine.gpu.name} has {has:.1f}"
    return None

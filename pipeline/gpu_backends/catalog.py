"""The backends that need a GPU: their packages, how to install them, their weights, and what both may be used for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

GIBI = 2**30
ENVIRONMENT = (
    "python3.12 -m venv learned",
    "learned/bin/pip install torch==2.7.0 torchvision==0.22.0",
)
"""A separate interpreter for packages that conflict with ours: one needs NumPy below 2, another this torch."""


@dataclass(frozen=True)
class Licence:
    """A licence, or several joined by AND, and whether commercial use is allowed; False where nobody knows."""

    text: str
    commercial: bool = True


OURS = Licence("Apache-2.0")
NON_COMMERCIAL = Licence("CC-BY-NC-4.0", commercial=False)
UNKNOWN = Licence("weights of unknown licence", commercial=False)


@dataclass(frozen=True)
class Weights:
    """A file in a repository on Hugging Face, which its package keeps in that cache or in torch's."""

    repository: str
    file: str
    licence: Licence
    in_torch_cache: bool = False

    @property
    def path(self) -> Path | None:
        """Its path on this machine; None if it has not been downloaded."""
        if self.in_torch_cache:
            return self._torch_path if self._torch_path.is_file() else None
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(self.repository, self.file)
        return Path(cached) if isinstance(cached, str) else None

    @property
    def command(self) -> str:
        """The command that downloads it."""
        if self.in_torch_cache:
            url = f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"
            return f"curl -L --create-dirs -o {self._torch_path} {url}"
        return f"hf download {self.repository}"

    @property
    def _torch_path(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
        return Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints" / Path(self.file).name


@dataclass(frozen=True)
class Backend:
    """The library of a GPU backend.

    Attributes:
        distribution: Its name for pip.
        module: The top-level module.
        entry: The module that our code imports.
        memory: Minimum GPU memory [bytes].
        source: Its URL, and the revision or release that our code was written against.
        install: The commands that install it, in order.
        dockerfile: Name in docker/ of the file whose image contains it.
        weights: The weights that may be requested, the default first.
        licence: Of its code.
    """

    distribution: str
    module: str
    entry: str
    memory: int
    source: str
    install: tuple[str, ...]
    dockerfile: str
    weights: tuple[Weights, ...]
    licence: Licence


VGGT = "https://github.com/facebookresearch/vggt@a288dd0f14786c93483e45524328726ab7b1b4ce"
VGGT_LICENCE = Licence("VGGT License (no military use)")
NKSR = "https://github.com/nv-tlabs/NKSR@b0edf84834aedafff11c5317d5ef00dd53f067ef"
BACKENDS = {
    "vggt": Backend(
        "vggt",
        "vggt",
        "vggt.models.vggt",
        8 * GIBI,
        VGGT,
        (
            *ENVIRONMENT,
            f"learned/bin/pip install --no-deps 'vggt @ git+{VGGT}'",  # it pins an old torch
            "learned/bin/pip install 'numpy<2' pillow einops safetensors huggingface_hub",
        ),
        "learned.Dockerfile",
        (
            Weights("facebook/VGGT-1B", "model.safetensors", NON_COMMERCIAL),
            Weights("facebook/VGGT-1B-Commercial", "model.safetensors", VGGT_LICENCE),
        ),
        VGGT_LICENCE,
    ),
    "depth_anything_3": Backend(
        "depth-anything-3",
        "depth_anything_3",
        "depth_anything_3.api",
        8 * GIBI,
        "https://github.com/ByteDance-Seed/Depth-Anything-3, release 0.1.1",
        (*ENVIRONMENT, "learned/bin/pip install depth-anything-3==0.1.1 xformers==0.0.30"),
        "learned.Dockerfile",
        (
            Weights("depth-anything/DA3-LARGE-1.1", "model.safetensors", NON_COMMERCIAL),
            Weights("depth-anything/DA3-GIANT-1.1", "model.safetensors", NON_COMMERCIAL),
            Weights("depth-anything/DA3-BASE", "model.safetensors", Licence("Apache-2.0")),
            Weights("depth-anything/DA3-SMALL", "model.safetensors", Licence("Apache-2.0")),
        ),
        Licence("Apache-2.0"),
    ),
    "nksr": Backend(
        "nksr",
        "nksr",
        "nksr",
        6 * GIBI,
        NKSR,
        (
            *ENVIRONMENT,
            "learned/bin/pip install numpy setuptools wheel ninja GitPython",
            # pycg raises on import without Open3D
            "learned/bin/pip install omegaconf tqdm pykdtree open3d-cpu 'python-pycg>=1.0.1'",
            # without FORCE_CUDA torch-scatter is built for CPUs wherever it sees no GPU
            "CUDA_HOME=/usr/local/cuda-12.6 FORCE_CUDA=1 learned/bin/pip install --no-build-isolation torch-scatter",
            f"CUDA_HOME=/usr/local/cuda-12.6 learned/bin/pip install --no-build-isolation 'nksr @ git+{NKSR}"
            "#subdirectory=package'",
        ),
        "learned.Dockerfile",
        (Weights("heiwang1997/nksr-checkpoints", "checkpoints/ks.pth", Licence("CC-BY-SA-4.0"), in_torch_cache=True),),
        Licence("NVIDIA Source Code License (research and evaluation only)", commercial=False),
    ),
    "gsplat": Backend(
        "gsplat",
        "gsplat",
        "gsplat",
        4 * GIBI,
        "https://github.com/nerfstudio-project/gsplat, release 1.5.3",
        ("pip install 'splatyard[gpu]'",),
        "cuda.Dockerfile",
        (),
        Licence("Apache-2.0"),
    ),
}
"""The GPU backends by name."""


def licence_of(name: str, weights: str = "") -> Licence:
    """What a GPU backend's code and its weights ("" are the default ones) allow together."""
    backend = BACKENDS[name]
    known = {one.repository: one.licence for one in backend.weights}
    used = [known.get(weights, UNKNOWN)] if weights else [*known.values()][:1]
    parts = [backend.licence, *used]
    return Licence(" AND ".join(dict.fromkeys(part.text for part in parts)), all(part.commercial for part in parts))


def foreign_environment() -> dict[str, str]:
    """The environment for another interpreter, without the variables that name this one's packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

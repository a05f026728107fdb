"""Parameters of the poses stage and the choice of its backend."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.machine import Machine
from pipeline.parameters import Interpreter, Settings, Weights
from pipeline.stage import Choice, Traits


class NetworkParams(Settings):
    """Where a network that sees many images at once comes from; both belong to the machine, see `Interpreter`."""

    weights: Weights = ""
    """vggt, depth_anything_3: a repository on Hugging Face, a folder or a file; "" is facebook/VGGT-1B or
    depth-anything/DA3-LARGE-1.1, both not for commercial use (facebook/VGGT-1B-Commercial is)."""
    python: Interpreter = ""
    """vggt, depth_anything_3: interpreter that has the network's packages; "" is this one. --set or the environment
    (SPLATYARD_POSES_PYTHON, SPLATYARD_DEPTH_PYTHON) gives it, never a card."""


class PosesParams(NetworkParams):
    """How keyframes get their poses."""

    backend: Literal["auto", "sensor", "refined", "colmap", "vggt", "depth_anything_3"] = "auto"
    """"sensor" keeps the given poses, "refined" refines them on the images, "colmap" uses images only, "vggt" and
    "depth_anything_3" are networks for CUDA GPUs that see many images at once."""
    mapper: Literal["incremental", "global"] = "incremental"
    """Mapper that reconstructs from images alone."""
    image_size: Annotated[int, Field(ge=64)] = 960
    """Longer side of the images that all later stages use [px]."""
    features: Annotated[int, Field(ge=100)] = 2048
    """SIFT features kept in each image."""
    sensor_sigma_position: Annotated[float, Field(gt=0)] = 0.03
    """One sigma of a given position, the refinement's prior [m]."""
    sensor_sigma_rotation_deg: Annotated[float, Field(gt=0)] = 1.0
    """One sigma of a given rotation [deg]."""
    adjust: bool = True
    """vggt, depth_anything_3: whether the network's poses are adjusted on the images' matches."""
    mask_dynamic: bool = True
    """Whether moving objects and what the camera carries along are masked in the images."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random choice."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of the steps whose result does not depend on their number; 0 takes all cores."""


LIBRARIES: dict[str, tuple[str, ...]] = {"colmap": ("pycolmap",), "refined": ("pycolmap",), "sensor": ()}
"""Libraries whose version a backend's result depends on; those that need a GPU are in `gpu_backends.catalog`."""


def choose(traits: Traits, params: PosesParams, machine: Machine) -> Choice:
    """The backend for a capture: given poses refined on the images, VGGT, or COLMAP."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    if traits.has_poses and traits.has_scale:
        return Choice("refined", "the capture has poses")
    lacks = machine.lacks("vggt")
    if lacks is None:
        what = "poses without scale" if traits.has_poses else "no poses"
        return Choice("vggt", f"the capture has {what}, and the machine has a GPU and vggt")
    backend, what = ("refined", "poses") if traits.has_poses else ("colmap", "no poses")
    reason = f"the capture has {what}"
    return Choice(backend, reason if machine.gpu is None else f"{reason}; {lacks}")

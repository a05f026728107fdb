"""Parameters of the poses stage and the choice of its backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.learned.backends import lacking
from pipeline.machine import Machine
from pipeline.parameters import Interpreter, Weights
from pipeline.stage import Choice, Traits


@dataclass(frozen=True)
class PosesParams:
    """How keyframes get their poses.

    Attributes:
        backend: "sensor" keeps the given poses, "refined" refines them on the pictures, "colmap" uses pictures only,
            "vggt" and "depth_anything_3" are networks for CUDA GPUs that see many pictures at once.
        mapper: Which mapper reconstructs from pictures alone.
        image_size: Longest side of the pictures that all later stages see [px].
        features: SIFT features kept in each picture.
        sensor_sigma_position: One sigma of a given position, the refinement's prior [m].
        sensor_sigma_rotation_deg: One sigma of a given rotation, handed on by the sensor backend [deg].
        adjust: vggt, depth_anything_3: whether the network's poses are adjusted on the pictures' matches.
        weights: vggt, depth_anything_3: a repository on Hugging Face, a folder or a file; "" is facebook/VGGT-1B or
            depth-anything/DA3-LARGE-1.1, both not for commercial use (facebook/VGGT-1B-Commercial is).
        python: vggt, depth_anything_3: interpreter that has the network's packages; "" is this one. Like weights it is
            the machine's: given by --set or the environment (SPLATYARD_POSES_PYTHON), never by a card.
        mask_movers: Whether things that move and what the camera carries along are masked in the pictures.
        seed: Seed of every random choice.
        threads: Threads of the steps whose result does not depend on their number; 0 takes all cores.
    """

    backend: Literal["auto", "sensor", "refined", "colmap", "vggt", "depth_anything_3"] = "auto"
    mapper: Literal["incremental", "global"] = "incremental"
    image_size: int = 960
    features: int = 2048
    sensor_sigma_position: float = 0.03
    sensor_sigma_rotation_deg: float = 1.0
    adjust: bool = True
    weights: Weights = ""
    python: Interpreter = ""
    mask_movers: bool = True
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.image_size < 64:
            raise ValueError(f"poses.image_size must be at least 64 px, got {self.image_size}")
        if self.features < 100:
            raise ValueError(f"poses.features must be at least 100, got {self.features}")
        if self.sensor_sigma_position <= 0 or self.sensor_sigma_rotation_deg <= 0:
            found = f"{self.sensor_sigma_position} m, {self.sensor_sigma_rotation_deg} degrees"
            raise ValueError(f"poses.sensor_sigma_* must be positive, got {found}")
        if self.seed < 0 or self.threads < 0:
            raise ValueError(f"poses.seed and poses.threads must not be negative, got {self.seed}, {self.threads}")


def choose(traits: Traits, params: PosesParams, machine: Machine) -> Choice:
    """The backend for a capture: what the sensor says, refined on the pictures, or the pictures by VGGT or alone."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    if traits.has_poses and traits.has_scale:
        return Choice("refined", "the capture has poses")
    lacks = lacking("vggt", machine)
    if lacks is None:
        what = "poses without scale" if traits.has_poses else "no poses"
        return Choice("vggt", f"the capture has {what}, and the machine has a GPU and vggt")
    return (
        Choice("refined", "the capture has poses") if traits.has_poses else Choice("colmap", "the capture has no poses")
    )

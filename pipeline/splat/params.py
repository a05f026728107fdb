"""Parameters of the splat stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.learned.backends import lacking
from pipeline.machine import Machine
from pipeline.parameters import Interpreter
from pipeline.stage import Choice, Traits


@dataclass(frozen=True)
class SplatParams:
    """How the splat is trained."""

    backend: Literal["auto", "cpu", "gsplat"] = "auto"
    """Trainer: our own on the CPU, or gsplat on a CUDA GPU."""
    gaussians: int = 0
    """Largest number of Gaussians; 0 takes as many as suit the length of the training (40 000 for a minute on one core,
    50 000 for two); with gsplat a million, or what fits into the GPU's memory."""
    iterations: int = 0
    """Training steps, one view each; the schedule stretches with it. 0 takes as many as keep the work about equal for
    all picture sizes (6000 at 320x240, 3500 at 272x480), but at least 55 for every view; with gsplat 7000, at least 35
    for every view."""
    seconds: float = 0.0
    """CPU-seconds that training may take, turned into iterations and Gaussians at the start; 0 looks at `iterations`.
    Asking for the `iterations` and `largest_gaussians` that training.json names repeats the run exactly."""
    sh_degree: int = 3
    """Degree of the view-dependent colour, 0..3."""
    image_size: int = 0
    """Long side of the pictures trained on [px]; 0 takes half the undistorted size, at most 480; with gsplat the whole
    size, at most 1600, and less where thousands of pictures would not fit into memory."""
    depth_weight: float = 0.5
    """Weight of the relative depth difference beside the photometric loss; 0 trains on pictures alone."""
    normal_weight: float = 0.05
    """Weight of the angle between the surfaces that the splat and the measured depth show; gsplat only. 0 leaves it
    out."""
    ssim_weight: float = 0.2
    """Share of the structural dissimilarity in the photometric loss."""
    sim_gaussians: int = 30_000
    """Largest number of Gaussians of the `sim` level of detail."""
    sim_iterations: int = 300
    """Steps that fit the `sim` level to the photos again."""
    lay_flat: bool = True
    """Whether Gaussians are kept on the surfaces and out of the free space that depth proves: off the capture track
    that shows floors and walls instead of mist, at a price of some tenths of a dB on it."""
    tune_poses: bool = False
    """Whether the views' poses follow the pictures, too. For captures whose poses are known to be rough; good ones lose
    by it, since the views drift away from mesh and held-out views (1 dB on fox in 6500 iterations)."""
    guess_unseen: bool = True
    """Whether backs of thin things and holes that no photo shows are filled by a guess."""
    strategy: Literal["default", "mcmc"] = "default"
    """How gsplat adds Gaussians: where the loss pulls at them, as in 3DGS, or by chance where they are opaque (3DGS as
    Markov chain Monte Carlo); the CPU trainer has a way of its own."""
    antialiased: bool = True
    """Whether pixels are areas (Mip-Splatting), in training and wherever the splat is drawn: small pictures then show
    what large ones do. Without, Gaussians are drawn as in classic 3DGS, as many viewers of others draw every splat."""
    seed: int = 0
    """Of the starting points and the order of views."""
    python: Interpreter = ""
    """Interpreter that has gsplat and its torch; empty is this one."""

    def __post_init__(self) -> None:
        if 0 < self.gaussians < 100 or self.gaussians < 0 or self.sim_gaussians < 100:
            raise ValueError(
                "gaussians must be 0 (automatic) or at least 100, sim_gaussians at least 100, "
                f"got {self.gaussians} and {self.sim_gaussians}"
            )
        if self.seconds and self.backend == "gsplat":
            raise ValueError(f"seconds counts those of the CPU; gsplat takes iterations, got seconds={self.seconds}")
        if self.seconds < 0 or (self.seconds and self.iterations):
            raise ValueError(
                "seconds must not be negative, and either iterations or seconds can be given, "
                f"got {self.iterations} and {self.seconds}"
            )
        if self.iterations < 0 or self.sim_iterations < 0:
            raise ValueError(
                f"iterations and sim_iterations must not be negative, got {self.iterations} and {self.sim_iterations}"
            )
        if self.sh_degree not in (0, 1, 2, 3):
            raise ValueError(f"sh_degree must be 0, 1, 2 or 3, got {self.sh_degree}")
        if self.image_size != 0 and self.image_size < 32:
            raise ValueError(f"image_size must be 0 (automatic) or at least 32 px, got {self.image_size}")
        if self.depth_weight < 0 or self.normal_weight < 0 or not 0 <= self.ssim_weight <= 1:
            raise ValueError(
                "depth_weight and normal_weight must not be negative and ssim_weight lie in 0..1, "
                f"got {self.depth_weight}, {self.normal_weight} and {self.ssim_weight}"
            )


def choose(traits: Traits, params: SplatParams, machine: Machine) -> Choice:
    """Pick the trainer."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    if machine.gpu is None:
        return Choice("cpu", "runs on every machine")
    if params.seconds:
        return Choice("cpu", "a budget of CPU-seconds is given")
    if (reason := lacking("gsplat", machine)) is not None:
        return Choice("cpu", reason)
    return Choice("gsplat", f"{machine.gpu.name} trains at the whole picture size")

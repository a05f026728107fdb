"""Parameters of the splat stage and the choice of its backend."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.machine import Machine
from pipeline.parameters import Interpreter, Settings, zero_or
from pipeline.stage import Choice, Traits

SIM_GAUSSIANS = 30_000
"""Of a room."""


class SplatParams(Settings):
    """How the splat is trained."""

    backend: Literal["auto", "cpu", "gsplat"] = "auto"
    """Trainer: our own on the CPU, or gsplat on a CUDA GPU."""
    gaussians: Annotated[int, zero_or(100)] = 0
    """Largest number of Gaussians; 0 takes as many as suit the length of the training (40 000 for a minute on one core,
    50 000 for two) and the size of the place; with gsplat one for 90 pixels of all images, at most a million, or what
    fits into the GPU's memory."""
    iterations: Annotated[int, Field(ge=0)] = 0
    """Training steps, one view each; the schedule stretches with it. 0 takes as many as keep the work about equal for
    all image sizes (6000 at 320x240, 3500 at 272x480), but at least 55 for every view; with gsplat 7000, at least 35
    for every view."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """CPU-seconds that training may take, turned into iterations and Gaussians at the start; 0 looks at `iterations`.
    Requesting the `iterations` and `largest_gaussians` that training.json names repeats the run exactly."""
    sh_degree: Annotated[int, Field(ge=0, le=3)] = 3
    """Degree of the view-dependent colour."""
    image_size: Annotated[int, zero_or(32)] = 0
    """Long side of the images trained on [px]; 0 takes half the undistorted size, at most 480; with gsplat the whole
    size, at most 1600, and less where thousands of images would not fit into memory."""
    depth_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the relative depth difference next to the photometric loss; 0 trains on images alone."""
    normal_weight: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the angle between the surfaces that the splat and the measured depth show; gsplat only. 0 leaves it
    out."""
    ssim_weight: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the structural dissimilarity in the photometric loss."""
    sim_gaussians: Annotated[int, zero_or(100)] = 0
    """Largest number of Gaussians of the `sim` level of detail; 0 is 30 000 for a room, more in larger places."""
    sim_iterations: Annotated[int, Field(ge=0)] = 300
    """Steps that fit the `sim` level of detail of a room to the photos again; more in larger places."""
    depth_priors: bool = True
    """Whether Gaussians are kept on the surfaces and out of the free space that depth proves: off the camera path that
    shows floors and walls instead of mist, at a price of some tenths of a dB on it."""
    tune_poses: bool = False
    """Whether the views' poses are trained, too. For captures whose poses are known to be rough; good ones lose by it,
    since the views drift away from mesh and held-out views (1 dB on fox in 6500 iterations)."""
    infill: bool = True
    """Whether backs of thin objects and holes that no photo shows are inpainted."""
    strategy: Literal["default", "mcmc"] = "default"
    """How gsplat adds Gaussians: where the loss pulls at them, as in 3DGS, or by chance where they are opaque (3DGS as
    Markov chain Monte Carlo); the CPU trainer has a strategy of its own."""
    antialiased: bool = True
    """Whether pixels are areas (Mip-Splatting), in training and wherever the splat is drawn: small images then show
    what large ones do. Without, Gaussians are drawn as in classic 3DGS, as many other viewers draw every splat."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the initial points and the order of views."""
    python: Interpreter = ""
    """Interpreter that has gsplat and its torch; empty is this one."""

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.seconds and self.backend == "gsplat":
            raise ValueError(f"seconds are the CPU's; gsplat takes iterations, got seconds={self.seconds}")
        if self.seconds and self.iterations:
            raise ValueError(f"either iterations or seconds can be given, got {self.iterations} and {self.seconds}")
        return self


LIBRARIES: dict[str, tuple[str, ...]] = {"cpu": ("numba",)}
"""Whose version the result of a backend depends on; those that need a GPU are in `gpu_backends.catalog`."""


def choose(traits: Traits, params: SplatParams, machine: Machine) -> Choice:
    """Pick the trainer."""
    if params.backend != "auto":
        return Choice(params.backend, "asked for")
    if machine.gpu is None:
        return Choice("cpu", "runs on every machine")
    if params.seconds:
        return Choice("cpu", "a budget of CPU-seconds is given")
    if (reason := machine.lacks("gsplat")) is not None:
        return Choice("cpu", reason)
    return Choice("gsplat", f"{machine.gpu.name} trains at the whole image size")

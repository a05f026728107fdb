"""Training by gsplat on a CUDA GPU: from the same start as on the CPU, with the same supervision and schedule.

The worker (`gsplat_worker`) has the Gaussians and makes the steps, in this process or in an interpreter of its own.
What needs our other packages stays here: the initialization, and the priors imposed between the steps.

Source: V. Ye et al., gsplat: An Open-Source Library for Gaussian Splatting, JMLR 2025, version 1.5.3.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.geometry import Camera, Gaussians, Mesh, PointCloud
from pipeline.gpu_backends.errors import GpuMemoryError
from pipeline.gpu_backends.session import Session, open_session
from pipeline.progress import bar
from pipeline.raster import Cutoffs
from pipeline.raster.layout import screen_blur
from pipeline.splat.exposure import Exposures
from pipeline.splat.initialization import initialize, scene_size
from pipeline.splat.loss import PLAIN_COLOR_PIXELS
from pipeline.splat.params import SplatParams
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.priors import Priors, imposed
from pipeline.splat.schedule import Budget, training_schedule
from pipeline.splat.train import MAX_CALM_EXPOSURE, MAX_SCALE, REPORT_EVERY, Observer, Trained, tuned
from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

WORKER, DEVICE = "pipeline.splat.gsplat_worker", "cuda"
ITERATIONS, MAX_ITERATIONS = 7000, 30_000
"""Number of steps when it is left to the trainer, and its upper bound."""
VISITS = 35
"""Lower bound of how often each view is trained on."""
GAUSSIANS = 1_000_000
"""Largest number of Gaussians when it is left to the trainer."""
PIXELS_EACH = 90
"""Lower bound of the pixels of all images for each of them. With one for 27 pixels a kitchen's Gaussians became fog in
front of its cameras, and views never trained on were 2.8 dB worse than with one for 90."""
START_SHARES = {"default": 0.2, "mcmc": 0.8}
"""Share of it that is drawn from the cloud at the start. MCMC adds copies in the same place, which part only slowly: in
600 steps of a small room, 0.2 left held-out views 1.7 dB worse than 0.8."""
HALF_FROM, WHOLE_FROM = 0.06, 0.3
"""See `Schedule`; a step's cost hardly grows with the image."""
PRIOR_ROUNDS = 10
"""See `Schedule`; imposing the priors, on the CPU, is what takes long here."""
LONG_SIDE = 1600
"""Largest long side of an image [px]."""
PIXELS_IN_ALL = 4e8
"""Largest number of pixels of all images together: with depth they take 7 GB of memory."""
CHECKPOINT_FILE, LIMIT_FILE = "gsplat.pt", "gsplat_limit.txt"
CHECKPOINT_SECONDS = 60.0
"""Time between two checkpoints, of up to a gigabyte."""
RETRY_SHARE = 0.6
"""Share of the Gaussians that did not fit into the GPU's memory which is tried next."""
MIN_GAUSSIANS = 20_000
"""Lower bound of what is tried."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The views and points [world frame] to train on."""

    views: Sequence[TrainingView]  # at the CPU trainer's size, for initialization and priors
    images: Sequence[TrainingView]  # the same views at the size that gsplat is trained at
    cloud: PointCloud
    guessed: Mesh | None = None  # guessed faces of a mesh
    rooms: float = 1.0  # how many of them the place is as large as


def image_size(cameras: Sequence[Camera]) -> int:
    """Long side [px] that `image_size=0` chooses: the images' own, as far as memory allows."""
    side = max(max(camera.width, camera.height) for camera in cameras)
    pixels = sum(camera.width * camera.height for camera in cameras)
    return int(min(side, LONG_SIDE, side * math.sqrt(PIXELS_IN_ALL / pixels)))


def most_gaussians(images: Sequence[TrainingView]) -> int:
    """Number of Gaussians that `gaussians=0` allows: what the images determine."""
    pixels = sum(image.levels[0].photo[0].size for image in images)
    return int(np.clip(pixels // PIXELS_EACH, MIN_GAUSSIANS, GAUSSIANS))


def train_by_gsplat(
    scene: Scene, params: SplatParams, rng: np.random.Generator, kept: Path, observe: Observer | None = None
) -> Trained:
    """Train a splat on at least one view; again with fewer Gaussians where they don't fit into the GPU's memory.

    An interrupted run resumes from the checkpoint in the folder `kept`.

    Raises:
        MachineError: When there is no GPU that torch and gsplat can use, a package lacks, or even few Gaussians need
            more memory than the GPU has.
    """
    limit = kept / LIMIT_FILE
    max_gaussians = int(limit.read_text()) if limit.exists() else params.gaussians or most_gaussians(scene.images)
    before = rng.bit_generator.state
    with open_session(WORKER, {"device": DEVICE}, params.python) as session:
        while True:
            rng.bit_generator.state = before
            run = _Run(session, scene, params, max_gaussians, rng, kept, observe)
            try:
                return run.finish()
            except GpuMemoryError as error:
                max_gaussians = int(RETRY_SHARE * min(max_gaussians, run.count))
                if max_gaussians < MIN_GAUSSIANS:
                    remedy = "end other programs on the GPU, train on smaller images (--set splat.image_size=640), "
                    raise GpuMemoryError(error.found, remedy + "or on the CPU (--set splat.backend=cpu)") from error
                logger.warning("the GPU's memory is full (%s); again with at most %d Gaussians", error, max_gaussians)
                kept.mkdir(parents=True, exist_ok=True)
                limit.write_text(str(max_gaussians))


class _Run:
    """A training with at most `max_gaussians`; `count` is their number, as far as is known."""

    def __init__(
        self,
        session: Session,
        scene: Scene,
        params: SplatParams,
        max_gaussians: int,
        rng: np.random.Generator,
        kept: Path,
        observe: Observer | None,
    ) -> None:
        self._session, self._scene, self._params = session, scene, params
        self._max_gaussians = max_gaussians
        self._checkpoint, self._observe = kept / CHECKPOINT_FILE, observe
        self._initial = initial = initialize(
            *(scene.cloud, scene.views, max_gaussians, params, rng, START_SHARES[params.strategy]),
            guessed=scene.guessed,
            rooms=scene.rooms,
        )
        self.count = len(initial.gaussians)
        self._inpainted = initial.gaussians[: initial.fixed]
        self._extent, self._radius = scene_size(scene.views, initial.gaussians, scene.rooms)
        iterations = params.iterations or min(max(ITERATIONS, VISITS * len(scene.views)), MAX_ITERATIONS)
        self._schedule = replace(
            training_schedule(params, scene.views, Budget(iterations, max_gaussians - initial.fixed)),
            half_from=HALF_FROM,
            whole_from=WHOLE_FROM,
            prior_rounds=PRIOR_ROUNDS,
        )
        self._priors = None
        if initial.cloud is not None and initial.free is not None:
            self._priors = Priors(initial.cloud, initial.free, self._radius, self._inpainted)

    def finish(self) -> Trained:
        """Make all steps, from the start or from a checkpoint."""
        iterations, rounds = self._schedule.iterations, set(self._schedule.prior_iterations())
        stops = sorted(rounds | set(range(REPORT_EVERY, iterations, REPORT_EVERY)) | {iterations})
        reply = self._session.ask(self._request())
        if reply["note"]:
            logger.warning("%s; training starts again", reply["note"])
        done = reply["iteration"]
        if done:
            logger.info("training resumes from the checkpoint after %d steps", done)
        if done in rounds:  # the checkpoint is from before it
            self._impose_priors(done)
        start = saved = time.monotonic()
        with bar(iterations, "splat", done) as shown:
            for stop in stops[int(np.searchsorted(stops, done, side="right")) :]:
                due = stop == iterations or time.monotonic() - saved >= CHECKPOINT_SECONDS
                saved = time.monotonic() if due else saved
                checkpoint = str(self._checkpoint) if due else ""
                metrics = self._session.ask({"do": "advance", "until": stop, "checkpoint": checkpoint})
                self.count = len(self._inpainted) + metrics["gaussians"]
                shown.set_postfix_str(f"{metrics['psnr']:.1f} dB, {self.count} Gaussians, loss {metrics['loss']:.3f}")
                shown.update(stop - done)
                done = stop
                if stop in rounds:
                    self._impose_priors(stop)
        seconds = round(time.monotonic() - start, 1)
        found = self._session.ask({"do": "result"})
        exposures = Exposures(found["gains"])
        views = self._scene.views
        poses = PoseTuning(np.array([view.world_from_camera.matrix for view in views]), self._radius)
        poses.twists = found["twists"]
        shown = self._scene.images[0].levels[0].camera
        return Trained(
            self._gaussians(),
            tuned(views, exposures, poses),
            iterations,
            self._max_gaussians,
            self._initial.fixed,
            exposures,
            poses,
            self._initial.background,
            {
                "image_size": [shown.width, shown.height],
                "strategy": self._params.strategy,
                "seconds": seconds,
                "gpu_memory_gib": round(found["memory"], 2),
            },
        )

    def _request(self) -> dict[str, object]:
        """The request that begins the run, see `gsplat_worker.Training`."""
        params, gaussians = self._params, self._initial.gaussians
        return {
            "do": "begin",
            "checkpoint": str(self._checkpoint),
            "run": repr((params, self._max_gaussians)),
            "schedule": asdict(self._schedule),
            "fixed": self._initial.fixed,
            "extent": self._extent,
            "radius": self._radius,
            "largest_scale": MAX_SCALE * self._radius,
            "near": Cutoffs.near,
            "blur": float(screen_blur(params.antialiased)),
            "plain_color": PLAIN_COLOR_PIXELS,
            "calm_exposure": MAX_CALM_EXPOSURE,
            **{name: getattr(gaussians, name) for name in Gaussians.ARRAYS},
            **params.model_dump(
                include={"strategy", "antialiased", "depth_weight", "normal_weight", "ssim_weight", "seed"}
            ),
            **packed_views(self._scene.images),
        }

    def _impose_priors(self, iteration: int) -> None:
        """Impose the priors on the Gaussians in training, bound their extent, and show them to the observer."""
        fixed = self._initial.fixed
        gaussians = imposed(self._gaussians(), self._priors, self._scene.images, fixed)
        arrays = {name: getattr(gaussians, name)[fixed:] for name in Gaussians.ARRAYS[:-1]}
        self._session.ask({"do": "put", **arrays})
        if self._observe is not None:
            self._observe(iteration, gaussians)

    def _gaussians(self) -> Gaussians:
        """All Gaussians as they are now, the inpainted ones first."""
        taken = self._session.ask({"do": "take"})
        return Gaussians.concatenate([self._inpainted, Gaussians(*(taken[name] for name in Gaussians.ARRAYS))])


def packed_views(views: Sequence[TrainingView]) -> dict[str, np.ndarray]:
    """The views' photos, depths, masks, intrinsics and poses as plain arrays by name."""
    arrays: dict[str, np.ndarray] = {
        "intrinsics": np.array([[level.camera.matrix for level in view.levels] for view in views], np.float32),
        "world_from_cameras": np.array([view.world_from_camera.matrix for view in views]),
        "gains": np.array([view.gain for view in views], np.float32),
    }
    for number, view in enumerate(views):
        for size, level in enumerate(view.levels):
            depth = {} if level.depth is None else {"depth": level.depth.depth, "tolerance": level.depth.tolerance}
            mask = {} if level.mask is None else {"mask": level.mask}
            for name, array in {"photo": level.photo, **depth, **mask}.items():
                arrays[f"{name} {number} {size}"] = array
    return arrays

"""Training by gsplat on a CUDA GPU: from the same start as on the CPU, with the same supervision and schedule.

The worker (`gsplat_worker`) has the Gaussians and makes the steps, in this process or in an interpreter of its own.
What needs our other packages stays here: the start, and what is put upon the Gaussians between the steps.

Source: V. Ye et al., gsplat: An Open-Source Library for Gaussian Splatting, JMLR 2025, version 1.5.3.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry import Camera, Gaussians, PointCloud
from pipeline.learned.errors import OutOfMemory
from pipeline.learned.session import Session, open_session
from pipeline.progress import bar
from pipeline.splat.color_prior import PIXELS
from pipeline.splat.exposure import Exposures
from pipeline.splat.gsplat_views import packed_views
from pipeline.splat.known import Enforcement, KnownPlace
from pipeline.splat.params import SplatParams
from pipeline.splat.pose_tuning import PoseTuning
from pipeline.splat.raster import Cutoffs
from pipeline.splat.raster.layout import screen_blur
from pipeline.splat.schedule import Schedule, small_every
from pipeline.splat.train import EXPOSURE_FROM, REPORT_EVERY, Start, Trained, poses_from, scene_size, sh_rest, start
from pipeline.splat.trainer import CALM_EXPOSURE, MAX_SCALE
from pipeline.splat.unseen import joined
from pipeline.splat.views import TrainingView

logger = logging.getLogger(__name__)

WORKER, DEVICE = "pipeline.splat.gsplat_worker", "cuda"
ITERATIONS, VISITS, MAX_ITERATIONS = 7000, 35, 30_000
"""Steps when they are left to us, the least number of times that each view is trained on, and steps at most."""
GAUSSIANS, START_SHARE = 1_000_000, 0.2
"""Largest number of Gaussians when it is left to us, and the share of it drawn from the cloud at the start."""
HALF_FROM, WHOLE_FROM, SURFACE_ROUNDS = 0.06, 0.3, 10
"""A step's cost hardly grows with the picture, and laying Gaussians flat on the CPU is what takes long here."""
LONG_SIDE, PIXELS_IN_ALL = 1600, 4e8
"""Of a picture [px], and pixels of all pictures together: with depth they take 7 GB of memory."""
CHECKPOINT_FILE, LIMIT_FILE = "gsplat.pt", "gsplat_limit.txt"
CHECKPOINT_SECONDS = 60.0
"""Between two checkpoints, of up to a gigabyte."""
LESS, LEAST = 0.6, 20_000
"""Share of the Gaussians for which the GPU's memory did not do that is tried next, and the least number that is."""
FIELDS = ("means", "log_scales", "quaternions", "opacity_logits", "sh")


@dataclass(frozen=True, eq=False)
class Scene:
    """What is trained on.

    Attributes:
        views: At the CPU trainer's size, for the start and what is done between the steps.
        pictures: The same views at the size that gsplat is trained at.
        cloud: The shared cloud, in the world frame.
    """

    views: Sequence[TrainingView]
    pictures: Sequence[TrainingView]
    cloud: PointCloud


def image_size(cameras: Sequence[Camera]) -> int:
    """Long side that `image_size=0` chooses: the pictures' own, as far as memory allows."""
    side = max(max(camera.width, camera.height) for camera in cameras)
    pixels = sum(camera.width * camera.height for camera in cameras)
    return int(min(side, LONG_SIDE, side * math.sqrt(PIXELS_IN_ALL / pixels)))


def train_by_gsplat(
    scene: Scene,
    params: SplatParams,
    rng: np.random.Generator,
    kept: Path,
    observe: Callable[[int, Gaussians], None] | None = None,
) -> Trained:
    """Train a splat; where the GPU's memory does not do, anew with fewer Gaussians.

    Args:
        scene: What to train on, at least one view.
        params: What the user chose.
        rng: Draws starting points.
        kept: Folder of the checkpoint; an interrupted run goes on from there.
        observe: Called with (iterations done, Gaussians) now and then; must not change them.

    Raises:
        MachineError: When there is no GPU that torch and gsplat can use, a package lacks, or even few Gaussians need
            more memory than the GPU has.
    """
    limit = kept / LIMIT_FILE
    largest = int(limit.read_text()) if limit.exists() else params.gaussians or GAUSSIANS
    before = rng.bit_generator.state
    with open_session(WORKER, {"device": DEVICE}, params.python) as session:
        while True:
            rng.bit_generator.state = before
            run = _Run(session, scene, params, largest, rng, kept, observe)
            try:
                return run.to_its_end()
            except OutOfMemory as error:
                largest = int(LESS * min(largest, run.count))
                if largest < LEAST:
                    remedy = "end other programs on the GPU, train on smaller pictures (--set splat.image_size=640), "
                    raise OutOfMemory(error.found, remedy + "or on the CPU (--set splat.backend=cpu)") from error
                logger.warning("the GPU's memory is full (%s); anew with at most %d Gaussians", error, largest)
                kept.mkdir(parents=True, exist_ok=True)
                limit.write_text(str(largest))


class _Run:
    """A training with a largest number of Gaussians.

    Args:
        session: With the worker.
        scene: What to train on.
        params: What the user chose.
        largest: Number of Gaussians at most.
        rng: Draws starting points.
        kept: Folder of the checkpoint.
        observe: See `train_by_gsplat`.

    Attributes:
        count: Gaussians, as far as is known.
    """

    def __init__(
        self,
        session: Session,
        scene: Scene,
        params: SplatParams,
        largest: int,
        rng: np.random.Generator,
        kept: Path,
        observe: Callable[[int, Gaussians], None] | None,
    ) -> None:
        self._session, self._scene, self._params, self._largest = session, scene, params, largest
        self._checkpoint, self._observe = kept / CHECKPOINT_FILE, observe
        self._start: Start = start(scene.cloud, scene.views, largest, params, rng, START_SHARE)
        self.count, fixed = len(self._start.gaussians), self._start.fixed
        self._guessed = self._start.gaussians[:fixed]
        self._extent, self._radius = scene_size(scene.views, self._start.gaussians)
        self._schedule = Schedule(
            params.iterations or min(max(ITERATIONS, VISITS * len(scene.views)), MAX_ITERATIONS),
            largest - fixed,
            half_from=HALF_FROM,
            whole_from=WHOLE_FROM,
            small_every=small_every(params),
            surface_rounds=SURFACE_ROUNDS,
            sh_rest=sh_rest(scene.views),
            exposure_from=EXPOSURE_FROM,
            poses_from=poses_from(params),
        )
        place = KnownPlace(scene.cloud, self._start.free)
        self._known = Enforcement(place, self._radius, self._guessed) if params.lay_flat else None

    def to_its_end(self) -> Trained:
        """All steps, from the start or from a checkpoint."""
        iterations, rounds = self._schedule.iterations, set(self._schedule.surface_iterations())
        stops = sorted(rounds | set(range(REPORT_EVERY, iterations, REPORT_EVERY)) | {iterations})
        begun = self._session.ask(self._request())
        if begun["note"]:
            logger.warning("%s; training starts anew", begun["note"])
        done = begun["iteration"]
        if done:
            logger.info("training goes on from the checkpoint after %d steps", done)
        if done in rounds:  # the checkpoint is from before it
            self._look_and_lay_flat(done)
        began = saved = time.monotonic()
        with bar(iterations, "splat") as shown:
            shown.update(done)
            for stop in stops[int(np.searchsorted(stops, done, side="right")) :]:
                due = stop == iterations or time.monotonic() - saved >= CHECKPOINT_SECONDS
                saved = time.monotonic() if due else saved
                checkpoint = str(self._checkpoint) if due else ""
                figures = self._session.ask({"do": "advance", "until": stop, "checkpoint": checkpoint})
                self.count = len(self._guessed) + figures["gaussians"]
                shown.set_postfix_str(f"{figures['psnr']:.1f} dB, {self.count} Gaussians, loss {figures['loss']:.3f}")
                shown.update(stop - done)
                done = stop
                if stop in rounds:
                    self._look_and_lay_flat(stop)
        return self._result(self._session.ask({"do": "found"}), time.monotonic() - began)

    def _request(self) -> dict[str, Any]:
        """See `gsplat_training.Training`."""
        params, gaussians = self._params, self._start.gaussians
        return {
            "do": "begin",
            "checkpoint": str(self._checkpoint),
            "run": repr((params, self._largest)),
            "schedule": asdict(self._schedule),
            "fixed": self._start.fixed,
            "extent": self._extent,
            "radius": self._radius,
            "largest_scale": MAX_SCALE * self._radius,
            "near": Cutoffs.near,
            "blur": float(screen_blur(params.antialiased)),
            "plain_color": PIXELS,
            "calm_exposure": CALM_EXPOSURE,
            **{name: getattr(gaussians, name) for name in FIELDS},
            **{
                name: getattr(params, name)
                for name in ("strategy", "antialiased", "depth_weight", "normal_weight", "ssim_weight", "seed")
            },
            **packed_views(self._scene.pictures),
        }

    def _look_and_lay_flat(self, iteration: int) -> None:
        gaussians = self._gaussians()
        if self._known is not None:
            fixed = self._start.fixed
            self._known.apply(gaussians, fixed)
            arrays = {name: getattr(gaussians, name)[fixed:] for name in FIELDS[:-1]}
            self._session.ask({"do": "put", **arrays})
        if self._observe is not None:
            self._observe(iteration, gaussians)

    def _gaussians(self) -> Gaussians:
        taken = self._session.ask({"do": "take"})
        return joined(self._guessed, Gaussians(*(taken[name] for name in FIELDS)))

    def _result(self, found: dict[str, Any], seconds: float) -> Trained:
        views, shown = self._scene.views, self._scene.pictures[0].levels[0].camera
        exposures = Exposures(found["gains"])
        poses = PoseTuning(np.array([view.world_from_camera.matrix for view in views]), self._radius)
        poses.twists = found["twists"]
        return Trained(
            self._gaussians(),
            [
                replace(view, gain=exposures.gains[index], world_from_camera=poses.world_from_camera(index))
                for index, view in enumerate(views)
            ],
            self._schedule.iterations,
            self._largest,
            self._start.fixed,
            exposures,
            poses,
            self._start.background,
            {
                "image_size": [shown.width, shown.height],
                "strategy": self._params.strategy,
                "seconds": round(seconds, 1),
                "gpu_memory_gib": round(found["memory"], 2),
            },
        )

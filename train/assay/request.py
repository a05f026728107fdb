"""What is asked of an assay: a bundle, a run or a driver, kinds of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit.audit import Audit
from pipeline.errors import TrainError
from pipeline.parameters import require_known
from pipeline.scenes.bundle import Bundle
from sim.policies.catalog import is_driver, sees
from sim.scene.opening import open_scene
from sim.scene.scene import SimScene
from sim.tasks.catalog import find_task
from train.assay.assay import Assay, Own, respond
from train.assay.perturbations import PERTURBATIONS
from train.distributed import use_one_thread
from train.environment import Actor, TrainEnv, make_env
from train.runs import checkpoint
from train.runs.evaluation import MAX_ENVS, evaluate, is_blind
from train.runs.folders import RUN_FILE, run_folder
from train.runs.requests import NUM_ENVS, DriverRequest
from train.runs.results import Episode
from train.runs.run import Run

SIGMAS = 2.0
"""One error in twenty is larger than so many sigmas."""

Opened = Callable[[SimScene, dict[str, Any]], Any]
"""Robots in a scene, simulated with fields of `EnvConfig`, and who drives them: a context of both."""


@dataclass(frozen=True, kw_only=True)
class AssayRequest:
    """An assay.

    Attributes:
        policy: Name or folder of a run, or a driver as `open_driver` takes.
        task, robot: Of a driver; a run has its own.
        perturb: Names of `PERTURBATIONS`; none for all that concern the policy.
        episodes: At each error.

    Raises:
        TrainError: When there is no such perturbation, or nothing succeeds, or a run's checkpoint doesn't fit.
        SimError: When there is no such driver, task or robot, or they don't fit each other or the scene.
    """

    policy: str
    task: str | None = None
    robot: str = ""
    perturb: Sequence[str] = ()
    episodes: int = 100
    runs: Path = Path("runs")
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.perturb:
            require_known(name, PERTURBATIONS, "perturbation", TrainError, rule="an error has a known name")
        if not is_driver(self.policy):
            run_folder(self.policy, self.runs)

    def of(self, bundle: Bundle, audit: Audit) -> Assay:
        """Run it in a bundle that was audited."""
        use_one_thread()
        run = self._run()
        scene = open_scene(bundle.root, allow_failed=True)
        task = run.preset.task if run else self._driver.task_name
        cameras = find_task(task).camera_settings
        opened: Opened = self._by_driver if run is None else lambda scene, config: self._by_run(run, scene, config)
        seeing = sees(self.policy) if run is None else not is_blind(run)

        def trial(name: str, size: float) -> Sequence[Episode]:
            kind = PERTURBATIONS[name]
            with opened(kind.scene(scene, size), kind.config(size, cameras)) as (env, actor):
                about = f"{kind.title}, {size:+g} {kind.unit}" if size else "without any error"
                return evaluate(actor, env, self.episodes, seed=self.seed, about=about).episodes

        names = self.perturb or [name for name, kind in PERTURBATIONS.items() if seeing or not kind.camera]
        without, own = trial(names[0], 0.0), own_errors(bundle, audit)
        responses = tuple(respond(name, without, trial, own.get(name)) for name in names)
        return Assay(self.policy, task, self.seed, responses)

    def _run(self) -> Run | None:
        """The run; None where the policy is a driver."""
        found = any((folder / RUN_FILE).is_file() for folder in (Path(self.policy), self.runs / self.policy))
        if found and (self.task or self.robot):
            raise TrainError("a run has its task and robot", found=self.policy, remedy="leave --task and --robot away")
        return Run.open(self.policy, self.runs) if found else None

    @property
    def _driver(self) -> DriverRequest:
        return DriverRequest(driver=self.policy, task=self.task, robot=self.robot, seed=self.seed)

    def _by_driver(self, scene: SimScene, config: Mapping[str, Any]) -> Any:
        count = min(self.episodes, NUM_ENVS)
        return self._driver.driven(count, "all", colors=sees(self.policy), opened=[scene], **config)

    @contextmanager
    def _by_run(self, run: Run, scene: SimScene, config: Mapping[str, Any]) -> Iterator[tuple[TrainEnv, Actor]]:
        count = min(self.episodes, MAX_ENVS)
        with closing(make_env(run.preset, [scene], num_envs=count, seed=self.seed, starts="all", **config)) as env:
            yield env, checkpoint.load_policy(run, env).get_policy()


def own_errors(bundle: Bundle, audit: Audit) -> dict[str, Own]:
    """The bundle's own errors by the perturbation that is like them: as manifest and quality state them, as audited.

    The registration is stated as what is seen before or behind the mesh; its turn is as the audit measured it.
    """
    frame, found = bundle.manifest.frame, dict[str, Own]()
    gaps = [gate.value for gate in bundle.quality.gates if gate.name == "splat_mesh_depth" and gate.value is not None]
    for name in ("shift_x", "shift_y", "height") if gaps else ():
        found[name] = Own(SIGMAS * 1000 * gaps[0], f"{SIGMAS:g} times the gap between splat and mesh")
    if frame.gravity_from.sigma is not None:
        found["tilt"] = Own(SIGMAS * frame.gravity_from.sigma, f"{SIGMAS:g} sigmas of gravity")
    if frame.scale_from.sigma is not None:
        found["scale"] = Own(SIGMAS * 100 * frame.scale_from.sigma, f"{SIGMAS:g} sigmas of the scale")
    turned = audit.quality.gate("collider_turned")
    sigma = turned.detail.get("sigma")
    if turned.value is not None and isinstance(sigma, float) and np.isfinite(sigma):
        found["turn"] = Own(turned.value + SIGMAS * sigma, f"the turn that the audit measured, and {SIGMAS:g} sigmas")
    return found

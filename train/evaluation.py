"""How good a policy is: whole episodes from fixed seeds, without exploration."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rsl_rl.models import MLPModel

from pipeline.bundle.bundle import file_sha256
from pipeline.errors import TrainError
from pipeline.progress import bar
from sim.film import tiled
from sim.places import Split
from sim.scene import SceneLock, SimScene, open_scene
from train import checkpoint
from train.controls import Sight
from train.environment import TrainEnv
from train.floor_plan import FloorPlan
from train.results import Control, Episode, Evaluation, Results, TestScene
from train.run import Run
from train.simulation import make_env

SEED = 999
"""Of the first round."""
ROBOTS = 200
"""Most environments at a time."""
CONTROLS: tuple[Control, ...] = ("none", "shuffled", "frozen")
SHOWN = 9
"""Pictures of a scene that are kept."""


def evaluate(
    actor: MLPModel,
    env: TrainEnv,
    episodes: int,
    *,
    control: Control = "none",
    seed: int = SEED,
) -> Evaluation:
    """Let a policy act by its mean in so many episodes.

    In each round every environment counts until its first episode ends, however long that takes: those that end first
    would count more often if all did that end in some time. A round's seed is the one before and 1.

    Args:
        actor: The policy; its memory and its mode are afterwards what they were.
        env: Its episodes are begun anew, so that it must not be the one in training.
        episodes: How many; the last round takes only as many environments as are still missing.
        control: What is done to what the policy sees.
        seed: Of the first round's episodes and of the control.

    Raises:
        TrainError: When the control can't act here.
    """
    memory, learning = actor.get_hidden_state(), actor.training
    actor.eval()
    found: list[Episode] = []
    try:
        with torch.inference_mode(), bar(episodes, f"episodes, control {control}") as shown:
            for number in range(math.ceil(episodes / env.num_envs)):
                count = min(env.num_envs, episodes - len(found))
                found += _round(actor, env, count, Sight(control, seed + number), seed + number, shown.update)
    finally:
        actor.reset(hidden_state=memory)
        actor.train(learning)
    return Evaluation(control=control, episodes=tuple(found))


def evaluate_run(
    run: Run,
    scenes: Sequence[Path | str] = (),
    *,
    episodes: int = 200,
    controls: Sequence[Control] = CONTROLS,
    blind: Run | None = None,
    seed: int = SEED,
    file: Path | None = None,
    device: str = "cpu",
    allow_failed: bool = False,
) -> Results:
    """Evaluate a checkpoint, scene by scene: a scene's figures don't depend on which others there are.

    Args:
        run: Whose policy.
        scenes: Where; in its own by default. There it begins at held-out places, elsewhere at any.
        episodes: In each scene, under each control.
        controls: What is done to what it sees; a blind policy runs as it is only.
        blind: A run without sight, whose newest checkpoint gets the same episodes.
        seed: Of the first round's episodes and of the controls.
        file: Its checkpoint; the newest by default.
        device: Of networks and pictures.
        allow_failed: Take scenes that failed gates too.

    Raises:
        TrainError: When a run has no checkpoint, or one that doesn't fit, or the blind one isn't a control for it.
        SimError: When a scene can't be simulated, or has no floor that is held out.
        BundleError: When there is no such scene.
    """
    if blind:
        _check_blind(run, blind)
    path, state = checkpoint.chosen(run, file)
    wanted = ("none",) if is_blind(run) else tuple(controls)
    found: dict[Control, list[Episode]] = {control: [] for control in wanted}
    where: list[TestScene] = []
    allowed = allow_failed or any(lock.failed_gates for lock in run.locks)
    for source in scenes or run.sources:
        scene = open_scene(source, allow_failed=allowed)
        starts: Split = "held_out" if trained_in(run, scene.lock) else "all"
        env = make_env(run.preset, [scene], count=min(episodes, ROBOTS), seed=seed, starts=starts, device=device)
        try:
            actor = checkpoint.load_policy(run, env, path, device).get_policy()
            where.append(_test_scene(scene, starts, env))
            for control, so_far in found.items():
                so_far += evaluate(actor, env, episodes, control=control, seed=seed).episodes
        finally:
            env.env.close()
    beside = None
    if blind:
        beside = evaluate_run(
            blind, scenes or run.sources, episodes=episodes, seed=seed, device=device, allow_failed=allow_failed
        )
    return Results(
        run=run.name,
        task=run.preset.task,
        encoder=run.preset.policy.encoder,
        checkpoint=path.name,
        checkpoint_sha256=file_sha256(path),
        iteration=state["iteration"],
        stopped_early=ending.early if (ending := run.ending) else "",
        seed=seed,
        scenes=tuple(where),
        evaluations=tuple(Evaluation(control=control, episodes=tuple(of)) for control, of in found.items()),
        blind=beside,
    )


def is_blind(run: Run) -> bool:
    """Whether its policy sees nothing."""
    return run.preset.policy.encoder == "none"


def trained_in(run: Run, scene: SceneLock) -> bool:
    """Whether a run knows a place: the same bundle, or another version of it."""
    names = [lock.reference.partition("@")[0] for lock in run.locks]
    return scene.sha256 in [lock.sha256 for lock in run.locks] or scene.reference.partition("@")[0] in names


def _check_blind(run: Run, blind: Run) -> None:
    """That both do the same in the same scenes, so that they get the same episodes, and one sees nothing."""
    same = (blind.preset.task, blind.preset.robot) == (run.preset.task, run.preset.robot)
    places = [{lock.sha256 for lock in one.locks} for one in (run, blind)]
    if not (is_blind(blind) and same and places[0] == places[1]):
        raise TrainError(
            "a blind control differs from a run in what it sees only",
            found=f"{blind.name} has the encoder {blind.preset.policy.encoder!r}, does {blind.preset.task!r} as a "
            f"{blind.preset.robot!r} in {_names(blind)}; {run.name} does {run.preset.task!r} as a "
            f"{run.preset.robot!r} in {_names(run)}",
            remedy="train it with the same preset and scenes, and --set policy.encoder=none",
        )


def _names(run: Run) -> str:
    return ", ".join(lock.reference for lock in run.locks)


def _test_scene(scene: SimScene, starts: Split, env: TrainEnv) -> TestScene:
    seen = env.get_observations()
    pictures = ""
    if "rgb" in seen.keys():  # noqa: SIM118 - no plain dict
        page = tiled(seen["rgb"][:SHOWN].cpu().numpy().transpose(0, 2, 3, 1))
        pictures = base64.b64encode(cv2.imencode(".png", page[..., ::-1])[1].tobytes()).decode()
    lock = scene.lock
    return TestScene(
        reference=lock.reference,
        sha256=lock.sha256,
        starts=starts,
        plan=FloorPlan.of(scene, env.env.robot),
        pictures=pictures,
    )


def _round(
    actor: MLPModel, env: TrainEnv, count: int, sight: Sight, seed: int, done: Callable[[int], object]
) -> list[Episode]:
    """The first episode of each of the first so many environments; `done` is told how many more ended."""
    seen = env.reset(seed)
    actor.reset()
    goals: NDArray[np.floating] | None = getattr(env.env.course.now(), "goal", None)
    places = [env.env.engine.read().planar]
    found: dict[int, Episode] = {}
    while len(found) < count:
        seen, _, dones, _ = env.step(actor(sight.spoil(seen)))
        actor.reset(dones)
        for index, one in enumerate(env.endings.env.tolist()):
            if one < count and one not in found:
                goal = None if goals is None else goals[one]
                found[one] = _episode(env, index, seed, goal, np.array([place[one] for place in places]))
                done(1)
        places.append(env.env.engine.read().planar)
    return [found[one] for one in range(count)]


def _episode(
    env: TrainEnv, index: int, seed: int, goal: NDArray[np.floating] | None, track: NDArray[np.floating]
) -> Episode:
    """What ended in the last step, by its place among all that did; goal (2,), track (steps, 3)."""
    ended = env.endings
    x, y, heading = track[0].round(4).tolist()
    return Episode(
        scene=env.env.scenes[ended.scene[index]].lock.reference,
        seed=seed,
        env=int(ended.env[index]),
        start=(x, y, heading),
        goal=None if goal is None else (round(float(goal[0]), 3), round(float(goal[1]), 3)),
        success=bool(ended.success[index]),
        ended_by=ended.by[index],
        steps=int(ended.steps[index]),
        reward=float(ended.reward[index]),
        outcomes={name: bool(values[index]) for name, values in ended.outcomes.items()},
        track=tuple((x, y) for x, y in track[:, :2].round(3).tolist()),
    )

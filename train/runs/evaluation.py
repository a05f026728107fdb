"""How good a policy is: whole episodes from fixed seeds, without exploration, also with ablated observations."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from tensordict import TensorDict
from torch import nn

from pipeline.errors import TrainError
from pipeline.progress import bar
from pipeline.scenes.manifest import file_sha256
from pipeline.types import I64, U8, Floats
from sim.env import Observations
from sim.ranges import seed_of
from sim.scene.floors import Split
from sim.scene.scene import SceneLock, SimScene
from sim.video import tiled
from train.algorithms.policy import VisionPolicy
from train.environment import Actor, TrainEnv, make_env, seen_groups
from train.eyes import SIGHT
from train.runs import checkpoint
from train.runs.results import Ablation, Episode, Evaluation, FloorPlan, Results, TestScene
from train.runs.run import Run
from train.settings.encoders import BLIND
from train.teaching import Teacher, taught_by

SEED = 999
"""Seed of all rounds."""
MAX_ENVS = 200
"""Largest number of environments at a time."""
ABLATIONS: tuple[Ablation, ...] = ("none", "shuffled", "frozen")
SHOWN = 9
"""Number of images of a scene that are kept."""
COLORED = ("rgb", "rgbd", SIGHT)
"""Groups whose first three channels are colours, 0..255."""


def ablation_of(kind: Ablation, seed: int) -> Callable[[TensorDict], TensorDict]:
    """An ablation of the observations of N robots in one episode of each: acts on all groups except vectors.

    It leaves the originals as they are; a seed determines the shuffling. It raises TrainError when there is nothing to
    ablate: the policy is blind, or there is one robot to shuffle.
    """
    rng, first = np.random.default_rng(seed), dict[str, torch.Tensor]()

    def ablated(observations: TensorDict) -> TensorDict:
        groups = seen_groups(observations)
        if not groups:
            raise TrainError(
                "an ablation acts on what a policy sees",
                found=f"ablation {kind!r}, and a policy that sees nothing",
                remedy="evaluate a blind policy without ablations",
            )
        order = torch.from_numpy(others(len(observations), rng)) if kind == "shuffled" else None
        result = observations.copy()
        for name in groups:
            images = observations[name]
            if order is not None:
                result[name] = images[order.to(images.device)]
            elif kind == "black":
                result[name] = torch.zeros_like(images)
            else:
                result[name] = first.setdefault(name, images.clone())
        return result

    return ablated if kind != "none" else lambda observations: observations


def others(count: int, rng: np.random.Generator) -> I64:
    """For each of N one of the others (N,), a random cycle through all: every other one is equally likely.

    Raises:
        TrainError: When there are no others.
    """
    if count < 2:
        raise TrainError("images are shuffled between robots", found="a single one", remedy="use at least two episodes")
    ring, order = rng.permutation(count), np.empty(count, np.int64)
    order[ring] = np.roll(ring, 1)
    return order


def evaluate(
    actor: Actor,
    env: TrainEnv,
    episodes: int,
    *,
    ablation: Ablation = "none",
    seed: int = SEED,
    about: str = "",
    watch: Callable[[Episode, Observations], object] = lambda *_: None,
    seeds: Sequence[int] | None = None,
) -> Evaluation:
    """Evaluate a policy, acting by its mean, or a driver, in N episodes.

    In each round every environment counts until its first episode ends, however long that takes: if all episodes that
    end within some time counted, short ones would be too many. Each round has a seed of its own. A policy's
    memory and mode are restored afterwards; the environment's episodes are reset, so it must not be the one in
    training. The last round uses only as many environments as are still missing. Progress is shown as `about`. `watch`
    is called for each episode as it ends, with what all robots observed before the last action in it. With a seed for
    each episode (N,) it begins by that, whatever the others do.

    Raises:
        TrainError: When the ablation can't act here.
    """
    done: list[Episode] = []
    about = about or f"episodes, ablation {ablation}"
    with torch.inference_mode(), bar(episodes, about) as progress, _restored(actor):
        for number in range(math.ceil(episodes / env.num_envs)):
            count = min(env.num_envs, episodes - len(done))
            own = seed_of(seed, number)

            def ended(episode: Episode, seen: Observations) -> None:
                progress.update()
                watch(episode, seen)

            chosen = None if seeds is None else _filled(seeds[len(done) : len(done) + count], env.num_envs)
            done += _round(actor, env, count, ablation_of(ablation, own), own, ended, chosen)
    return Evaluation(ablation=ablation, episodes=tuple(done))


def _filled(seeds: Sequence[int], count: int) -> list[int]:
    """As many seeds as there are environments; those whose episode isn't counted do the last one's."""
    return [*seeds, *[seeds[-1]] * (count - len(seeds))]


@contextmanager
def _restored(actor: Actor) -> Iterator[None]:
    """A policy acts by its mean here, and is as it was afterwards."""
    if not isinstance(actor, nn.Module):
        yield
        return
    policy = cast("VisionPolicy", actor)  # or eyes, which remember likewise
    memory, learning = policy.get_hidden_state(), policy.training
    policy.eval()
    try:
        yield
    finally:
        policy.reset(hidden_state=memory)
        policy.train(learning)


def evaluate_run(
    run: Run,
    scenes: Sequence[Path | str] = (),
    *,
    episodes: int = 200,
    ablations: Sequence[Ablation] = ABLATIONS,
    blind: Run | None = None,
    teacher: bool = False,
    seed: int = SEED,
    file: Path | None = None,
    device: str = "cpu",
    allow_failed: bool = False,
) -> Results:
    """Evaluate a checkpoint, scene by scene: a scene's metrics don't depend on the other scenes.

    In its own scenes, the default, a run starts on the held-out floor, in others anywhere. A blind policy is evaluated
    without ablations. The newest checkpoint of `blind`, a run without vision, gets the same episodes, and so does the
    policy's `teacher`, if it has one.

    Raises:
        TrainError: When a run has no checkpoint, or one that doesn't fit, or the blind run isn't comparable.
        SimError: When a scene can't be simulated, or has no held-out floor.
        BundleError: When there is no such scene.
    """
    if blind:
        _check_blind(run, blind)
    path, state = checkpoint.chosen(run, file)
    episodes_by: dict[Ablation, list[Episode]] = {name: [] for name in (("none",) if is_blind(run) else ablations)}
    tested, taught = list[TestScene](), list[Episode]()
    for source in scenes or run.sources:
        scene = run.open_scene(source, allow_failed=allow_failed)
        starts: Split = "held_out" if trained_in(run, scene.lock) else "all"
        num_envs = min(episodes, MAX_ENVS)
        env = make_env(run.preset, [scene], num_envs=num_envs, seed=seed, starts=starts, device=device, taught=teacher)
        with closing(env.env):
            actor = checkpoint.load_policy(run, env, path, device).get_policy()
            tested.append(_test_scene(scene, starts, env))
            for ablation, so_far in episodes_by.items():
                so_far += evaluate(actor, env, episodes, ablation=ablation, seed=seed).episodes
            taught += _of_teacher(run, env, episodes, seed) if teacher and run.preset.teacher else ()
    others: dict[str, Any] = {"episodes": episodes, "seed": seed, "device": device, "allow_failed": allow_failed}
    blind_results = evaluate_run(blind, scenes or run.sources, **others) if blind else None
    return Results(
        run=run.name,
        task=run.preset.task,
        encoder=run.preset.policy.encoder,
        checkpoint=path.name,
        checkpoint_sha256=file_sha256(path),
        iteration=state["iteration"],
        stopped_early=ending.early if (ending := run.ending) else "",
        seed=seed,
        scenes=tuple(tested),
        evaluations=tuple(Evaluation(ablation=name, episodes=tuple(done)) for name, done in episodes_by.items()),
        blind=blind_results,
        teacher=Evaluation(ablation="none", episodes=tuple(taught)) if taught else None,
    )


def _of_teacher(run: Run, env: TrainEnv, episodes: int, seed: int) -> tuple[Episode, ...]:
    """Episodes that a run's teacher drives."""
    env.groups.append(taught_by(run.preset.teacher, env.env))
    return evaluate(Teacher(), env, episodes, seed=seed, about="episodes, teacher").episodes


def is_blind(run: Run) -> bool:
    """Whether its policy sees nothing."""
    return run.preset.policy.encoder == BLIND


def trained_in(run: Run, scene: SceneLock) -> bool:
    """Whether a run was trained in a scene: the same bundle, or another version of it."""
    return any(lock.sha256 == scene.sha256 or lock.place == scene.place for lock in run.locks)


def _check_blind(run: Run, blind: Run) -> None:
    """Check that both do the same in the same scenes, so that they get the same episodes, and one sees nothing."""
    same = (blind.preset.task, blind.preset.robot) == (run.preset.task, run.preset.robot)
    hashes = [{lock.sha256 for lock in either.locks} for either in (run, blind)]
    if not (is_blind(blind) and same and hashes[0] == hashes[1]):
        raise TrainError(
            "a blind run differs from a run only in what it sees",
            found=f"{blind.name} has the encoder {blind.preset.policy.encoder!r}, does {blind.preset.task!r} as a "
            f"{blind.preset.robot!r} in {_names(blind)}; {run.name} does {run.preset.task!r} as a "
            f"{run.preset.robot!r} in {_names(run)}",
            remedy="train it with the same preset and scenes, and --set policy.encoder=none",
        )


def _names(run: Run) -> str:
    return ", ".join(lock.reference for lock in run.locks)


def _test_scene(scene: SimScene, starts: Split, env: TrainEnv) -> TestScene:
    observations = env.get_observations()
    images = ""
    colored = next((name for name in seen_groups(observations) if name in COLORED), None)
    if colored:
        images = png_text(tiled(observations[colored][:SHOWN, :3].byte().cpu().numpy().transpose(0, 2, 3, 1)))
    lock, plan = scene.lock, FloorPlan.of(scene, env.env.robot)
    return TestScene(reference=lock.reference, sha256=lock.sha256, starts=starts, plan=plan, images=images)


def png_text(image: U8) -> str:
    """An image (H, W, 3) as a PNG in base64."""
    return base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).decode()


def _round(
    actor: Actor,
    env: TrainEnv,
    count: int,
    ablate: Callable[[TensorDict], TensorDict],
    seed: int,
    ended: Callable[[Episode, Observations], object],
    seeds: Sequence[int] | None = None,
) -> list[Episode]:
    """First episodes of the first `count` environments."""
    observations = env.reset(seed) if seeds is None else env.reset(seed, seeds)
    actor.reset()
    goals: Floats | None = getattr(env.env.scenario.state(), "goal", None)
    kinds: list[str] = [*env.env.scenario.kinds()] or [""] * env.num_envs
    poses = [env.env.engine.read().planar]
    ways = [_ways(env, poses[0])]
    done: dict[int, Episode] = {}
    while len(done) < count:
        before = env.seen
        observations, _, dones, _ = env.step(actor(ablate(observations)))
        actor.reset(dones)
        for index, row in enumerate(env.done_info.env.tolist()):
            if row < count and row not in done:
                goal = None if goals is None else goals[row]
                path, way = (np.array([one[row] for one in all_rows]) for all_rows in (poses, ways))
                done[row] = _episode(env, index, seed, goal, path, way, kinds[row])
                ended(done[row], before)
        poses.append(env.env.engine.read().planar)
        ways.append(_ways(env, poses[-1]))
    return [done[row] for row in range(count)]


def _ways(env: TrainEnv, pose: Floats) -> Floats:
    """Paths that are left to the goals (N,) from poses (N, 3) [m]; inf off the floor, and where there are none."""
    scenario, count = env.env.scenario, env.num_envs
    return scenario.path_length(pose[:, :2], np.arange(count)) if scenario.has_paths else np.full(count, np.inf)


def _episode(
    env: TrainEnv, index: int, seed: int, goal: Floats | None, path: Floats, way: Floats, kind: str
) -> Episode:
    """An episode of the last step's `done_info`; goal (2,), path (steps, 3), the path left at each step (steps,)."""
    info = env.done_info
    x, y, heading = path[0].round(4).tolist()
    return Episode(
        scene=env.env.scenes[info.scene[index]].lock.reference,
        seed=seed,
        env=int(info.env[index]),
        start=(x, y, heading),
        goal=None if goal is None else (round(float(goal[0]), 3), round(float(goal[1]), 3)),
        kind=kind,
        success=bool(info.success[index]),
        ended_by=info.ended_by[index],
        steps=int(info.steps[index]),
        reward=float(info.reward[index]),
        outcomes={name: bool(values[index]) for name, values in info.outcomes.items()},
        path=tuple((x, y) for x, y in path[:, :2].round(3).tolist()),
        way=(round(float(way[0]), 3), round(float(way.min()), 3)) if np.isfinite(way[0]) else None,
    )

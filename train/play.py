"""A trained policy at work, for people who look on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from rsl_rl.models import MLPModel

from pipeline import Bundle
from pipeline.bundle.gaussgym import is_gaussgym
from pipeline.geometry import Gaussians
from sim.episodes import TIME, Ending, Watcher
from sim.film import FollowFilm
from sim.places import Split
from sim.scene import open_scene
from train import checkpoint
from train.environment import TrainEnv
from train.run import Run
from train.scenes import find_scenes
from train.simulation import make_env

LOOKS = "full"
"""Level of detail that people see."""


def open_play(
    run: Run,
    scene: str | None = None,
    *,
    seed: int = 0,
    starts: Split = "held_out",
    file: Path | None = None,
    allow_failed: bool = False,
) -> tuple[TrainEnv, MLPModel]:
    """One robot in one scene, and the policy that drives it.

    Args:
        run: Whose policy.
        scene: Where; in the run's first scene by default.
        seed: Of the episodes.
        starts: Where they begin.
        file: The run's checkpoint; the newest by default.
        allow_failed: Take a scene that failed gates too.

    Raises:
        TrainError: When there is no checkpoint, or one that doesn't fit.
        SimError: When the scene can't be simulated.
        BundleError: When there is no such scene.
    """
    allowed = allow_failed or any(lock.failed_gates for lock in run.locks)
    place = open_scene(_source(run, scene), allow_failed=allowed)
    env = make_env(run.preset, [place], count=1, seed=seed, starts=starts)
    return env, checkpoint.load_policy(run, env, file).get_policy()


def play(
    env: TrainEnv, policy: MLPModel, watchers: Sequence[Watcher] = (), episodes: int | None = None
) -> Counter[str]:
    """Let a policy act by its mean until so many episodes are over, or until Ctrl-C; gives what ended how many.

    Args:
        env: At the beginning of its episodes.
        policy: With nothing to remember.
        watchers: Who looks on.
        episodes: Of all environments together; None for no end.
    """
    counts = Counter(dict.fromkeys([*env.env.task.terminations, TIME], 0))
    ended: dict[int, Ending] = {}
    observations = env.get_observations()
    try:
        with torch.inference_mode():
            while True:
                for watcher in watchers:
                    watcher.look(env.seen, ended)
                if episodes is not None and counts.total() >= episodes:
                    break
                observations, _, dones, _ = env.step(policy(observations))
                policy.reset(dones)
                over = env.endings
                endings = map(Ending, over.by, over.success.tolist())
                ended = dict(zip(over.env.tolist(), endings, strict=True))
                counts.update(over.by)
    except KeyboardInterrupt:
        pass
    return counts


def film_run(
    run: Run,
    path: Path,
    scene: str | None = None,
    *,
    episodes: int = 5,
    seed: int = 0,
    starts: Split = "held_out",
    file: Path | None = None,
    allow_failed: bool = False,
) -> Counter[str]:
    """Write a film of a policy at work, from behind and above and through the robot's camera.

    Args:
        run: Whose policy.
        path: The MP4.
        scene: Where; in the run's first scene by default.
        episodes: How many.
        seed: Of the episodes.
        starts: Where they begin.
        file: The run's checkpoint; the newest by default.
        allow_failed: Take a scene that failed gates too.

    Returns:
        What ended how many episodes.

    Raises:
        SplatyardError: As `open_play`, and when the film can't be written.
    """
    env, policy = open_play(run, scene, seed=seed, starts=starts, file=file, allow_failed=allow_failed)
    try:
        film = FollowFilm(env.env, path, run.name, _splats(_source(run, scene)))
        try:
            return play(env, policy, [film], episodes)
        finally:
            film.close()
    finally:
        env.env.close()


def _source(run: Run, scene: str | None) -> str:
    return find_scenes([scene])[0] if scene else run.sources[0]


def _splats(source: str) -> list[Gaussians] | None:
    """What people see of a scene where it has more than robots get to see."""
    if is_gaussgym(Path(source).expanduser()):
        return None
    bundle = Bundle.open(source)
    return [bundle.splat(LOOKS)] if LOOKS in bundle.manifest.splats else None

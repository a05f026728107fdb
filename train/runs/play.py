"""A trained policy at work, in a viewer or a video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from pipeline import Bundle
from pipeline.importing.gaussgym import is_gaussgym
from sim.drivers import EpisodeResult, Viewer
from sim.episodes import TIME
from sim.scene.floors import Split
from sim.scene.sources import TERRAIN, find_sources
from sim.video import ChaseVideo
from train.environment import Actor, TrainEnv, make_env
from train.runs import checkpoint
from train.runs.run import Run

SHOWN = "full"
"""Level of detail in videos."""


def open_play(
    run: Run,
    scene: str | None = None,
    *,
    seed: int = 0,
    starts: Split = "held_out",
    file: Path | None = None,
    allow_failed: bool = False,
) -> tuple[TrainEnv, Actor]:
    """Make one robot in one scene, and load the policy that drives it.

    The scene is the run's first by default, the checkpoint its newest.

    Raises:
        TrainError: When there is no checkpoint, or one that doesn't fit.
        SimError: When the scene can't be simulated.
        BundleError: When there is no such scene.
    """
    opened = run.open_scene(_source(run, scene), allow_failed=allow_failed)
    env = make_env(run.preset, [opened], num_envs=1, seed=seed, starts=starts)
    return env, checkpoint.load_policy(run, env, file).get_policy()


def play(env: TrainEnv, policy: Actor, viewers: Sequence[Viewer] = (), episodes: int | None = None) -> Counter[str]:
    """Let a policy act by its mean for N episodes, or until Ctrl-C; returns how many episodes each condition ended.

    The environment is at the beginning of its episodes, the policy's hidden state empty.
    """
    counts = Counter(dict.fromkeys([*env.env.task.terminations, TIME], 0))
    ended: dict[int, EpisodeResult] = {}
    observations = env.get_observations()
    try:
        with torch.inference_mode():
            while True:
                anew = [viewer.update(env.seen, ended) for viewer in viewers]
                if any(anew):
                    observations, ended = env.reset(), {}
                    policy.reset()
                    continue
                if episodes is not None and counts.total() >= episodes:
                    break
                observations, _, dones, _ = env.step(policy(observations))
                policy.reset(dones)
                info = env.done_info
                results = map(EpisodeResult, info.ended_by, info.success.tolist())
                ended = dict(zip(info.env.tolist(), results, strict=True))
                counts.update(info.ended_by)
    except KeyboardInterrupt:
        pass
    return counts


def write_video(
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
    """Write a video of a policy at work, from behind and above and through the robot's camera.

    The scene is the run's first by default, the checkpoint its newest.

    Returns:
        How many episodes each condition ended.

    Raises:
        SplatyardError: As `open_play`, and when the video can't be written.
    """
    env, policy = open_play(run, scene, seed=seed, starts=starts, file=file, allow_failed=allow_failed)
    with closing(env.env):
        source, splats = _source(run, scene), None
        bundled = not source.startswith(TERRAIN) and not is_gaussgym(Path(source).expanduser())
        whole = bundled and not run.preset.objects
        if whole and SHOWN in (bundle := Bundle.open(source)).manifest.splats:
            splats = [bundle.splat(SHOWN)]  # it has more than the level of detail of the robots' cameras
        with closing(ChaseVideo(env.env, path, run.name, splats)) as video:
            return play(env, policy, [video], episodes)


def _source(run: Run, scene: str | None) -> str:
    return find_sources([scene])[0] if scene else run.sources[0]

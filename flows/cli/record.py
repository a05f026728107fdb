"""`splatyard record`: demonstrations, for learning by imitation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.environment import TrainEnv
    from train.imitation import Actor

from flows.cli.options import add_runs, add_scenes

HELP = "record how a policy or a driver does a task, as a LeRobot dataset"
DESCRIPTION = """\
Lets the policy of a run, or a driver who knows the way, do a task, and writes pictures, what the robot knew, actions
and rewards of whole episodes as a LeRobot dataset (version 3.0), from which others learn by imitation. Episodes begin
at places to train at; those held out stay unseen. Failures are recorded too: next.success tells them apart."""
EXAMPLES = """\
  splatyard record navigate-hall-1 --lerobot hall_demos --episodes 100
  splatyard record --driver auto --scene hall@1.0.0 --task avoid --lerobot avoid_demos --episodes 50"""
ROBOTS = 16


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `record`."""
    command.add_argument("run_name", nargs="?", metavar="RUN", help="a run's name or folder")
    command.add_argument("--lerobot", type=Path, required=True, metavar="DIR", help="a new folder for the dataset")
    command.add_argument("--episodes", type=int, default=100, help="default: %(default)s")
    command.add_argument(
        "--driver", choices=["auto"], help="instead of a run: follows the way or the command, on wheels"
    )
    command.add_argument("--task", default="navigate", help="with --driver; default: %(default)s")
    command.add_argument("--robot", default="rover", help="with --driver; default: %(default)s")
    add_scenes(command, "the run's own")
    add_runs(command)
    command.add_argument("--seed", type=int, default=0, help="of the episodes; default: %(default)s")
    command.add_argument("--device", default="cpu", help="of network and pictures; default: %(default)s")
    command.add_argument("--allow-failed", action="store_true", help="take bundles that failed gates too")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from tqdm import tqdm

    from flows.cli import tables
    from pipeline.errors import TrainError
    from train.imitation import record

    if (options.run_name is None) == (options.driver is None):
        raise TrainError(
            "the policy of a run drives, or a driver",
            found="neither" if options.run_name is None else "both",
            remedy="splatyard record RUN --lerobot DIR, or with --driver auto --scene BUNDLE instead of RUN",
        )
    if options.episodes < 1:
        raise TrainError("there are episodes to record", found=f"{options.episodes}", remedy="--episodes 100")
    env, actor = _driven(options) if options.driver else _learned(options)
    try:
        with tqdm(total=options.episodes, unit=" episodes", disable=None) as bar:
            successful = record(
                env, actor, options.episodes, options.lerobot, seed=options.seed, watch=lambda _: bar.update()
            )
    finally:
        env.env.close()
    tables.say(f"recorded   {options.episodes} episodes, {successful} of them successful")
    tables.say(f"dataset    {tables.quoted(options.lerobot)}")
    return 0


def _learned(options: argparse.Namespace) -> tuple[TrainEnv, Actor]:

    from sim.scene import open_scene
    from train.checkpoint import load_policy
    from train.run import Run
    from train.scenes import find_scenes
    from train.simulation import make_env
    from train.threads import use_one_thread

    use_one_thread()
    policy = Run.open(options.run_name, options.runs)
    sources = find_scenes(options.scenes) or policy.sources
    scenes = [open_scene(source, allow_failed=options.allow_failed) for source in sources]
    count = min(options.episodes, ROBOTS)
    env = make_env(policy.preset, scenes, count=count, seed=options.seed, device=options.device)
    return env, load_policy(policy, env, device=options.device).get_policy()


def _driven(options: argparse.Namespace) -> tuple[TrainEnv, Actor]:
    import sim
    from pipeline.errors import TrainError
    from train.environment import Pictures, TrainEnv
    from train.imitation import DrivenActor
    from train.scenes import find_scenes

    if not options.scenes:
        raise TrainError("a driver has a scene to drive in", found="none", remedy="--scene BUNDLE")
    robots = sim.make(
        options.task,
        find_scenes(options.scenes),
        min(options.episodes, ROBOTS),
        robot=options.robot,
        device=options.device,
        seed=options.seed,
        allow_failed=options.allow_failed,
        starts="train",
    )
    env = TrainEnv(robots, [Pictures()], seed=options.seed)
    return env, DrivenActor(options.driver, env, options.seed)

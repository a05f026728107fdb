"""`splatyard play`: a trained policy at work."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.cli.options import add_runs, count

HELP = "look at a trained policy at work"
DESCRIPTION = """\
Lets the policy of a run drive a robot, without exploration, in the run's first scene or in another one. With --view a
page in the browser shows the robot in the splat and what its camera sees; with --video a film is written: the robot
from behind and above, beside what its camera sees. No display is needed for either."""
EXAMPLES = """\
  splatyard play navigate-hall-1 --view
  splatyard play navigate-hall-1 --video out.mp4 --episodes 3
  splatyard play navigate-hall-1 --video out.mp4 --scene kitchen@2.1.0 --starts all --seed 7"""
EPISODES = 5


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `play`."""
    command.add_argument("run_name", metavar="RUN", help="a run's name or folder")
    add_runs(command)
    shown = command.add_mutually_exclusive_group(required=True)
    shown.add_argument("--view", action="store_true", help="look on in the browser, until Ctrl-C")
    shown.add_argument("--video", type=Path, metavar="FILE.mp4", help="write a film")
    command.add_argument("--scene", metavar="BUNDLE", help="a folder, name@version or name; default: the run's first")
    command.add_argument(
        "--episodes", type=count, metavar="N", help=f"default: {EPISODES} for a film, no end for the page"
    )
    command.add_argument("--seed", type=int, default=0, help="of the episodes; default: %(default)s")
    command.add_argument(
        "--starts", choices=["held_out", "train", "all"], default="held_out", help="default: %(default)s"
    )
    command.add_argument("--checkpoint", metavar="NAME", help="one of the run's checkpoints; default: the newest")
    command.add_argument("--port", type=int, default=8080, help="of --view; default: %(default)s")
    command.add_argument("--allow-failed", action="store_true", help="take bundles that failed gates too")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from flows.cli import tables
    from train.play import film_run, open_play, play
    from train.run import Run
    from train.threads import use_one_thread

    use_one_thread()
    policy_of = Run.open(options.run_name, options.runs)
    choice = {name: getattr(options, name) for name in ("seed", "starts", "allow_failed")}
    choice["file"] = (
        policy_of.checkpoints / f"{options.checkpoint.removesuffix('.pt')}.pt" if options.checkpoint else None
    )
    if options.video:
        ended = film_run(policy_of, options.video, options.scene, episodes=options.episodes or EPISODES, **choice)
    else:
        from flows.sim_view import SimPage

        env, policy = open_play(policy_of, options.scene, **choice)
        page = SimPage(env.env, options.port)
        try:
            ended = play(env, policy, [page], options.episodes)
        finally:
            page.close()
            env.env.close()
    rows = [(name, str(count)) for name, count in sorted(ended.items())]
    tables.show(tables.plain_table(f"{policy_of.preset.task}: how episodes ended", ["by", "episodes"], rows))
    if options.video:
        tables.say(f"written    {tables.quoted(options.video)}")
    return 0

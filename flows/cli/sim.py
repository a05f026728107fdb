"""`splatyard sim`: robots in a bundle, to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "let robots do a task in a bundle"
DESCRIPTION = """\
Puts robots into bundles and lets them do a task, wheels driven by one who knows the way; says how it went. With --view
a page in the browser shows the robots in the splat and what their cameras see, with --video it is filmed."""
EXAMPLES = """\
  splatyard sim bundles/hall/1.0.0 --envs 16 --seconds 30
  splatyard sim hall@1.0.0 --view
  splatyard sim hall --task avoid --video avoid.mp4 --envs 4
  splatyard sim hall --task explore --video explore.mp4 --follow --envs 1
  splatyard sim hall --task climb --robot go2 --view
  splatyard sim hall --robot my_robot.urdf --driver random"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `sim`."""
    command.add_argument("bundles", nargs="+", metavar="BUNDLE", help="a bundle's folder, or name@version")
    command.add_argument("--task", default="navigate", help="default: %(default)s")
    command.add_argument("--robot", default="rover", help="a name, or a URDF or MJCF file; default: %(default)s")
    command.add_argument("--engine", default="sapien", help="of the physics; default: %(default)s")
    command.add_argument("--device", default="cpu", help="that draws pictures: cpu, cuda, cuda:1; default: %(default)s")
    command.add_argument("--envs", type=int, default=16, metavar="N", help="robots; default: %(default)s")
    command.add_argument("--seconds", type=float, default=30.0, help="of simulated time; default: %(default)s")
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument(
        "--driver",
        choices=["auto", "random", "still"],
        default="auto",
        help="auto follows the way or the command on wheels and leaves legs still; default: %(default)s",
    )
    command.add_argument("--view", action="store_true", help="look on in the browser, until Ctrl-C")
    command.add_argument("--port", type=int, default=8080, help="of --view; default: %(default)s")
    command.add_argument("--video", type=Path, metavar="FILE.mp4", help="write what the cameras see")
    command.add_argument("--follow", action="store_true", help="--video films the first robot from behind, too")
    command.add_argument("--allow-failed", action="store_true", help="take bundles that failed gates too")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    import sim
    from flows.cli import tables
    from sim.episodes import run_episodes

    env = sim.make(
        options.task,
        options.bundles,
        options.envs,
        robot=options.robot,
        engine=options.engine,
        device=options.device,
        seed=options.seed,
        allow_failed=options.allow_failed,
    )
    watchers = []
    if options.view:
        from flows.sim_view import SimPage

        watchers.append(SimPage(env, options.port))
    if options.video:
        from sim.film import Film, FollowFilm

        if options.follow:
            watchers.append(FollowFilm(env, options.video, f"driver: {options.driver}"))
        else:
            watchers.append(Film(options.video, 1 / env.task.control_period))
    steps = None if options.view else round(options.seconds / env.task.control_period)
    try:
        ended = run_episodes(env, steps, options.seed, options.driver, watchers)
    finally:
        for watcher in watchers:
            watcher.close()
        env.close()
    rows = [(name, str(count)) for name, count in sorted(ended.items())]
    tables.show(tables.plain_table(f"{options.task}: how episodes ended", ["by", "episodes"], rows))
    return 0

"""`splatyard bench`: how fast a bundle simulates on this machine."""

from __future__ import annotations

import argparse

HELP = "how fast a bundle simulates on this machine"
DESCRIPTION = """\
Steps robots with random actions through bundles and says how many environment steps and pictures there are a second,
and how many CPU-milliseconds of a step physics, cameras and all the rest take."""
EXAMPLES = """\
  splatyard bench sim bundles/hall/1.0.0
  splatyard bench sim hall kitchen@2.1.0 --envs 1,16,64 --steps 100
  splatyard bench sim hall --engine mujoco
  splatyard bench sim hall --device cuda --envs 4096"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `bench`."""
    command.add_argument("what", choices=["sim"], help="the simulation")
    command.add_argument("bundles", nargs="+", metavar="BUNDLE", help="a bundle's folder, or name@version")
    command.add_argument("--task", default="navigate", help="default: %(default)s")
    command.add_argument("--robot", default="rover", help="a name, or a URDF or MJCF file; default: %(default)s")
    command.add_argument(
        "--engine", default="sapien", help="sapien, mujoco, isaacgym or sapien-gpu; default: %(default)s"
    )
    command.add_argument("--device", default="cpu", help="that draws pictures: cpu, cuda, cuda:1; default: %(default)s")
    command.add_argument("--envs", type=_counts, default=[1, 16, 64], metavar="N,N", help="environments to try")
    command.add_argument("--steps", type=int, default=50, metavar="N", help="control steps; default: %(default)s")
    command.add_argument("--allow-failed", action="store_true", help="take bundles that failed gates too")


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if min(counts) < 1:
        raise ValueError(text)
    return counts


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    import sim
    from flows.cli import tables
    from sim.bench import measure

    rows = []
    for count in options.envs:
        env = sim.make(
            options.task,
            options.bundles,
            count,
            robot=options.robot,
            engine=options.engine,
            device=options.device,
            allow_failed=options.allow_failed,
        )
        speed = measure(env, options.steps)
        env.close()
        figures = (speed.steps_per_second, speed.pictures_per_second)
        parts = (speed.physics, speed.cameras, speed.rest)
        rows.append((str(count), *(f"{value:.0f}" for value in figures), *(f"{value:.3f}" for value in parts)))
    title = f"{options.task}, {options.robot}, {options.engine}, pictures on {options.device}; CPU-ms a step"
    columns = ["environments", "steps/s", "pictures/s", "physics [CPU-ms]", "cameras [CPU-ms]", "rest [CPU-ms]"]
    tables.show(tables.plain_table(title, columns, rows))
    return 0

"""Measure gaits, in the engine they were learned in and in another one; and what is learned on top of them.

    python benchmarks/legs.py                          the gaits that come with splatyard
    python benchmarks/legs.py runs/walk-go2-1          another one
    python benchmarks/legs.py --bundle BUNDLE          and policies that go2's carries: two hours on two cores
    python benchmarks/legs.py --bundle BUNDLE --write  write the pages of docs/benchmarks

Policies are trained and evaluated by the commands that users type, one after the other. With `--runs DIR` they are kept
there, and what is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sim  # noqa: E402
from benchmarks.cpu import children_cpu  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.training import PROGRAM  # noqa: E402
from sim.gaits import Gait  # noqa: E402
from sim.robots.gait_files import gait_file  # noqa: E402
from train.legs.terrains import climbed, walk_flat, walk_over  # noqa: E402
from train.runs.run import Run  # noqa: E402

ROBOTS = {"mujoco-worlds": 200, "sapien": 100}


@dataclass(frozen=True)
class Bars:
    """What a gait must reach: mean error [m/s], its 95 % quantile [m/s], share of robots that get over stairs by level.

    Risers are 2 cm more than twice the level.
    """

    error: float
    high: float | None
    over: dict[float, float | None]


BARS_OF = {
    "go2": Bars(0.08, 0.18, {4: 0.98, 6: 0.90, 7.5: 0.70, 8: None}),
    "g1": Bars(0.12, None, {0: None, 2: None, 4: None}),
}
ENVS, STEPS = 256, 100
EPISODES = 200
MORE = ("--scene", "terrain:0:stairs", "--iterations", "200")
RGB, BLIND = ("--set", "policy.modality=rgb"), ("--set", "policy.encoder=none")
POLICIES = {
    "stairs": ("stairs",),
    "stairs blind": ("stairs", *BLIND),
    "navigate": ("navigate",),
    "avoid": ("avoid",),
    "climb by depth": ("climb",),
    "climb by colour": ("climb", *RGB),
    "climb blind": ("climb", *BLIND),
    "climb more by depth": ("climb", *MORE),
    "climb more blind": ("climb", *MORE, *BLIND),
}
"""What `splatyard train` is given, by name; more: also on procedural stairs of ten heights."""
BARS = {"navigate": 90, "avoid": 90, "climb by depth": 60, "climb by colour": 50}
"""Least share of held-out episodes that succeed [%]."""
ABLATIONS = "none,shuffled,frozen"
ENTERS = 8
"""Largest share of held-out episodes of `avoid` that enter the patch [%]."""


def throughput(robot: str) -> float:
    """Control steps (20 ms) per CPU-second of the whole task, without a policy."""
    env = sim.make("walk", ["terrain:0"], ENVS, robot=robot, engine="mujoco-worlds", cameras=(), level=3)
    env.reset(seed=0)
    actions = np.random.default_rng(0).normal(0, 0.2, (STEPS, ENVS, env.controller.size)).astype(np.float32)
    begun = time.process_time()
    for action in actions:
        env.step(action)
    spent = time.process_time() - begun
    env.close()
    return STEPS * ENVS / spent


def latency(gait: Gait) -> float:
    """Time that a gait needs for a robot's action [ms]."""
    seen = np.zeros((1, sum(gait.card.observations.values())), np.float32)
    begun = time.perf_counter()
    for _ in range(STEPS):
        gait.act(seen)
    return 1000 * (time.perf_counter() - begun) / STEPS


def bar(name: str, value: float, unit: str, sign: Literal["<=", ">="], target: float | None) -> Row:
    """A row whose target may be missing."""
    return Row(name, value, unit) if target is None else Row(name, value, unit, sign, target)


def rows(gait: Gait) -> list[Row]:
    """A gait's figures in both engines."""
    robot, bars = gait.card.robot, BARS_OF.get(gait.card.robot, BARS_OF["go2"])
    found = [
        Row("steps of all robots in its training", gait.card.steps, ""),
        Row("time of its training, two cores", gait.card.metrics["seconds"] / 60, "min"),
        Row("simulation without a policy, mujoco-worlds", throughput(robot), "steps per CPU-s"),
        Row("an action of the gait for one robot", latency(gait), "ms", "<=", 20),
    ]
    for engine, count in ROBOTS.items():
        flat = walk_flat(gait, robot, engine, count)
        mean, high = flat.error.mean(0), np.quantile(flat.error, 0.95, 0)
        found += [
            Row(f"{engine}, flat: mean error ahead", mean[0], "m/s", "<=", bars.error),
            Row(f"{engine}, flat: mean error aside", mean[1], "m/s", "<=", bars.error),
            Row(f"{engine}, flat: mean error turning", mean[2], "rad/s"),
            bar(f"{engine}, flat: 95 % of errors ahead", high[0], "m/s", "<=", bars.high),
            bar(f"{engine}, flat: 95 % of errors aside", high[1], "m/s", "<=", bars.high),
            Row(f"{engine}, flat: positive work of the motors", flat.energy, "J/m"),
            Row(f"{engine}, flat: 99 % of torques, of the largest", 100 * flat.torque, "%"),
            Row(f"{engine}, flat: 99 % of the time joints from their limits", flat.margin, "rad", ">=", 0),
            Row(f"{engine}, flat: falls of {count} robots in 20 s", flat.falls, "", "<=", 0),
        ]
        for level, share in bars.over.items():
            hill = walk_over(gait, robot, engine, "stairs", level, count)
            name = f"{engine}, stairs of {2 * (level + 1):g} cm, treads of 31 cm"
            found += [
                bar(f"{name}: over, of {hill.robots}", 100 * hill.over, "%", ">=", share and 100 * share),
                Row(f"{name}: fell", 100 * hill.fell, "%"),
            ]
    return found


def call(*arguments: str) -> float:
    """Run a `splatyard` command; returns its CPU time [min]."""
    before = children_cpu()
    subprocess.run([*PROGRAM, *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return (children_cpu() - before) / 60


def policies(gait: str, robot: str, bundle: Path, folder: Path) -> list[Row]:
    """Figures of policies that a gait carries, after training in a bundle."""
    found = list[Row]()
    for name, arguments in POLICIES.items():
        run = folder / name.replace(" ", "-")
        place = ("--scene", str(bundle), "--allow-failed")
        where = (*place, "--robot", robot, "--gait", gait, "--runs", str(folder), "--name", run.name)
        spent_file = run / "cpu_minutes.json"
        if not spent_file.exists():
            spent = call("train", *arguments, *where)
            call("eval", str(run), "--episodes", str(EPISODES), "--ablations", ABLATIONS, *place)
            spent_file.write_text(json.dumps(spent))
        spent = float(json.loads(spent_file.read_text()))
        found.append(Row(f"{name}: training, CPU time", spent, "min", "<=", 20))
        for one in json.loads((run / "evaluation.json").read_text())["evaluations"]:
            metrics = next(iter(one["metrics"].values()))
            own = one["ablation"] == "none"
            title = name if own else f"{name}, images {one['ablation']}"
            targets: list[tuple[str, Literal["<=", ">="], float | None]]
            targets = [("success", ">=", BARS.get(name)), ("entered", "<=", ENTERS)]
            for key, sign, target in targets:
                if key in metrics:
                    low, high = (100 * metrics[key][end] for end in ("low", "high"))
                    share = 100 * metrics[key]["successes"] / metrics[key]["count"]
                    found.append(
                        bar(f"{title}: {key} [{low:.0f}, {high:.0f}]", share, "%", sign, target if own else None)
                    )
        if arguments[0] == "climb":
            for column, shares in climbed(Run.open(run), EPISODES, 0).items():
                title = column.replace(run.name, name)
                for ground, rate in shares.items():
                    found.append(Row(f"{title}, procedural {ground}: success", 100 * rate.value, "%"))
    return found


def main() -> None:
    """Measure, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gaits", nargs="*", default=["go2", "g1"])
    parser.add_argument("--bundle", type=Path, help="a place with stairs, to train policies in")
    parser.add_argument("--runs", type=Path, help="folder of the policies, to keep them")
    parser.add_argument("--write", action="store_true", help="write the pages of docs/benchmarks")
    options = parser.parse_args()
    sections = dict[str, str]()
    for name in options.gaits:
        gait = Gait(gait_file(name))
        title = f"The gait of {gait.card.robot}, seed {gait.card.seed}; errors are those of mean velocities over 4 s."
        label = f"legs: {gait.card.robot}"
        sections[label] = section(label, f"python benchmarks/legs.py {name}", title, rows(gait))
    if options.bundle:
        with tempfile.TemporaryDirectory() as folder:
            found = policies("go2", "go2", options.bundle.resolve(), options.runs or Path(folder))
        title = f"Policies that the gait of go2 carries, seed 0, {EPISODES} held-out episodes."
        label = "legs: policies"
        sections[label] = section(label, "python benchmarks/legs.py --bundle BUNDLE", title, found)
    print("\n".join(sections.values()))
    if options.write:
        update_page(sections)


if __name__ == "__main__":
    main()

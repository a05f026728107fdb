"""How well a gait walks: errors and falls on flat ground, and how often it gets over what stands in its way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.types import F32, F64
from sim.gaits import Gait, joined
from sim.robots.gait_files import gait_file
from sim.scene.terrain import RISER, TREADS
from sim.tasks.walking.terms import followed, motor_torques, torque_shares
from train.legs.walking import walking
from train.runs.evaluation import evaluate_run
from train.runs.results import Interval
from train.runs.run import RUN_FILE, Run

ENOUGH = 3.5
"""Distance that leads from the start over the top [m]."""
SETTLE, BLOCK = 1.0, 4.0
"""A command is followed from this time after it was given, and errors are means over that long [s]."""


@dataclass(frozen=True)
class FlatResult:
    """Walking on flat ground by commands.

    Attributes:
        error: (B, 3) absolute errors of mean velocities ahead and to the left [m/s] and yaw rates [rad/s], by block.
        falls: Number of robots that fell.
        robots: Number of robots.
        energy: Positive mechanical work of the motors for a metre of way [J/m].
        torque: Torque that 99 % are below, as a fraction of the motors' largest.
        margin: Distance from their limits that all joints of a robot keep 99 % of the time [rad]; inf without limits.
    """

    error: F64
    falls: int
    robots: int
    energy: float
    torque: float
    margin: float


@dataclass(frozen=True)
class HillResult:
    """Walking over hills of a level.

    Attributes:
        over: Share of the robots that got to the top.
        fell: Share that fell.
        robots: Number of robots that were told to go far enough, or fell.
    """

    over: float
    fell: float
    robots: int


def find_seeing(names: Iterable[str], runs: Path) -> dict[str, Run]:
    """Runs, by name below `runs` or by folder, whose policies a gait carries; gaits, and runs that learned one, aren't.

    Raises:
        TrainError: When a run can't be opened.
    """
    found = dict[str, Run]()
    for name in names:
        folder = next((folder for folder in (Path(name), runs / name) if (folder / RUN_FILE).is_file()), None)
        if folder and not (run := Run.open(folder)).preset.learns_gait:
            found[name] = run
    return found


def find_gait(name: str, runs: Path) -> Gait:
    """A gait by its name or file, or by the folder, or the name below `runs`, of the run that learned it.

    Raises:
        SimError: When there is none, or it is damaged.
    """
    return Gait(gait_file(str(runs / name) if (runs / name).is_dir() else name))


def walk_flat(gait: Gait, robot: str, engine: str, robots: int, seconds: float = 20.0, seed: int = 0) -> FlatResult:
    """Let robots walk on flat ground by changing commands, and measure how they follow them."""
    env = walking(gait, robot, engine, "terrain:0:flat", robots, seed)
    seen, _ = env.reset(seed=seed)
    period, fell = env.task.control_period, np.zeros(robots, bool)
    since, total, last = np.zeros(robots), np.zeros((robots, 3)), np.full((robots, 3), np.nan)
    errors, shares = list[F64](), list[F32]()
    work, way, margins = 0.0, 0.0, list[F64]()
    driven, limits = env.robot.driven, env.robot.limits
    for _ in range(round(seconds / period)):
        seen, _, terminated, _, _ = env.step(gait.act(joined(seen)))
        fell |= terminated
        step = env.last_step
        assert step
        velocity = followed(step)
        work += float(np.maximum(motor_torques(step) * step.state.joint_velocity[:, driven], 0).sum()) * period
        way += float(np.linalg.norm(velocity[:, :2], axis=1).sum()) * period
        shares.append(np.abs(torque_shares(step)))
        position = step.state.joint_position
        margins.append(np.minimum(position - limits[0], limits[1] - position).min(1))
        command = step.scenario.command
        changed = (command != last).any(1) | terminated
        last = command
        since = np.where(changed, 0, since + period)
        measured = since > SETTLE
        total = np.where(measured[:, None], total + velocity, 0)
        whole = since >= SETTLE + BLOCK - 1e-6
        errors.append(np.abs(total[whole] / round(BLOCK / period) - command[whole]))
        since[whole] = 0
    env.close()
    share = float(np.quantile(np.concatenate(shares), 0.99))
    margin = float(np.quantile(np.concatenate(margins), 0.01))
    return FlatResult(np.concatenate(errors), int(fell.sum()), robots, work / way, share, margin)


def walk_over(
    gait: Gait, robot: str, engine: str, kind: str, level: float, robots: int, seconds: float = 10.0, seed: int = 0
) -> HillResult:
    """Let robots walk over hills of a kind and level."""
    env = walking(gait, robot, engine, f"terrain:0:{kind}:{level:g}", robots, seed)
    seen, _ = env.reset(seed=seed)
    first = np.ones(robots, bool)
    over, fell, told = np.zeros(robots, bool), np.zeros(robots, bool), np.zeros(robots)
    outside = ~env.scenario.on_top()  # type: ignore[attr-defined]
    for _ in range(round(seconds / env.task.control_period) - 1):
        seen, _, terminated, truncated, _ = env.step(gait.act(joined(seen)))
        assert env.last_step
        over |= env.last_step.scenario.crossed & first
        fell |= terminated & first
        told = np.where(first, env.last_step.scenario.told, told)
        first &= ~(terminated | truncated)
    env.close()
    asked = outside & ((told > ENOUGH) | fell | over)  # others were told to stand for most of the time
    if not asked.any():
        return HillResult(np.nan, np.nan, 0)
    return HillResult(float(over[asked].mean()), float(fell[asked].mean()), int(asked.sum()))


CLIMBS = {
    "flat": "terrain:0:flat:0",
    "short stairs, 6 cm": "terrain:0:stairs:2",
    "steep stairs, 10 cm": "terrain:0:steep stairs:4",
    "tall stairs, 16 cm": "terrain:0:stairs:7",
}
"""Scenes that policies with a camera are compared in."""


def climbed(run: Run, robots: int, seed: int) -> dict[str, dict[str, Interval]]:
    """Share of robots that got up by what they saw, by the run with its images' ablation, then by ground."""
    results = evaluate_run(run, [*CLIMBS.values()], episodes=robots, seed=seed)
    found = dict[str, dict[str, Interval]]()
    for label, evaluation in results.labelled():
        column = run.name if label == "none" else f"{run.name}, images {label}"
        found[column] = {name: evaluation.success(reference) for name, reference in CLIMBS.items()}
    return found


HILLS = (
    ("stairs", 2),
    ("stairs", 4),
    ("stairs", 6),
    ("stairs", 8),
    ("steep stairs", 4),
    ("ramp", 5),
    ("rubble", 6),
    ("gaps", 6),
)
"""Kinds and levels that gaits are compared on."""


def rows(gait: Gait, robot: str, engine: str, robots: int, seed: int = 0) -> dict[str, str]:
    """A gait's results in words, by kind of ground."""
    flat = walk_flat(gait, robot, engine, robots, seed=seed)
    mean, high = flat.error.mean(0), np.quantile(flat.error, 0.95, 0)
    found = {
        "flat: mean error ahead, aside, turning": f"{mean[0]:.3f} m/s, {mean[1]:.3f} m/s, {mean[2]:.3f} rad/s",
        "flat: 95 % of errors below": f"{high[0]:.3f} m/s, {high[1]:.3f} m/s, {high[2]:.3f} rad/s",
        "flat: falls in 20 s": f"{flat.falls} of {flat.robots}",
        "flat: work of the motors": f"{flat.energy:.0f} J/m",
        "flat: 99 % of torques below": f"{flat.torque:.0%} of the largest",
        "flat: 99 % of the time joints from their limits": f"{flat.margin:.2f} rad",
    }
    for kind, level in HILLS:
        hill = walk_over(gait, robot, engine, kind, level, robots, seed=seed)
        risers = f", risers of {100 * RISER * (level + 1):.0f} cm" if kind in TREADS else f", level {level}"
        found[kind + risers] = f"{hill.over:.0%} over, {hill.fell:.0%} fell"
    return found

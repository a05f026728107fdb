"""How well the driver `find` finds balls in places that it has never seen: `python benchmarks/unseen.py SCENE ...`.

Prints a table as docs/benchmarks/ has it: a row for each scene or pattern, and for its controls. Starts and balls are
anywhere on the floor. The episodes are the first ones of 200 robots; intervals are 95 % by Wilson.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sim
from pipeline.types import F32, F64, U8, Mask
from sim.finding.eyes import EYES, FIND, Eyes
from sim.policies.finder import finder_with
from sim.scene.sources import find_sources
from sim.sensors.cameras.settings import CameraSettings, DepthNoise
from train.runs.results import wilson

Spoil = Callable[[U8, F32], tuple[U8, F32]]
CONTROLS: dict[str, Spoil] = {
    "": lambda rgb, depth: (rgb, depth),
    "eyes: another robot's image": lambda rgb, depth: (np.roll(rgb, 1, 0), np.roll(depth, 1, 0)),
    "eyes: black": lambda rgb, depth: (0 * rgb, 0 * depth),
}
"""What the eyes are given; the map is of the robot's own depth, if it is measured."""
NOISY = "noise in depth, mount and odometry"
MOUNT = CameraSettings(mount_translation=0.03, mount_rotation=0.04, noise=0.02, depth_noise=DepthNoise())
SLIP, DRIFT = 0.03, 0.02
"""Standard deviations of the scale of a robot's odometry, and of its drift [rad/s]."""


class Outcome(NamedTuple):
    """Shares of episodes, and the milliseconds of a robot's step: of the driver, of all."""

    success: Mask
    in_sight: Mask
    ended_by: list[str]
    seconds: F64
    driver_ms: float


def run(scenes: Sequence[str], robots: int, seed: int, robot: str, eyes: Path, spoil: Spoil, *, noisy: bool) -> Outcome:
    """The first episode of each robot."""
    settings = MOUNT if noisy else None
    env = sim.make("find", scenes, robots, robot=robot, seed=seed, allow_failed=True, camera_settings=settings)
    rng = np.random.default_rng(seed)
    slip, drift = 1 + SLIP * rng.standard_normal((robots, 1)), DRIFT * rng.standard_normal(robots)
    with closing(env):
        driver = finder_with(eyes, env)
        look = driver.look

        def spoilt(rgb: U8, depth: F32) -> tuple[F32, F32]:
            odds, corrected = look(*spoil(rgb, depth))
            return odds, corrected if guessed else depth

        driver.look, guessed = spoilt, Eyes(eyes).card.modality == "rgb"
        seen, _ = env.reset(seed=seed)
        running, success, in_sight = np.ones(robots, bool), np.zeros(robots, bool), np.zeros(robots, bool)
        seconds, ended_by, spent, steps = np.zeros(robots), ["time"] * robots, 0.0, 0
        while running.any():
            if noisy:
                seen["odometry"] = seen["odometry"] * slip
                seen["odometry"][:, 2] += drift * env.task.control_period
            began = time.process_time()
            action = driver(seen)
            spent, steps = spent + time.process_time() - began, steps + 1
            seen, _, terminated, truncated, info = env.step(action)
            seconds[running] += env.task.control_period
            ended = (terminated | truncated) & running
            for row in np.flatnonzero(ended):
                ended_by[row] = next((name for name in env.task.terminations if info[f"ended_by_{name}"][row]), "time")
                success[row], in_sight[row] = info["final_success"][row], info["final_outcomes"]["in_sight"][row]
            running &= ~ended
    return Outcome(success, in_sight, ended_by, seconds, 1e3 * spent / steps / robots)


def row(place: str, control: str, found: Outcome) -> str:
    """A row of the table."""
    count, good = len(found.success), found.success.sum()
    by = {name: found.ended_by.count(name) / count for name in ("crash", "tipped", "time")}
    hidden = found.success[~found.in_sight]
    columns = [
        place,
        control,
        str(wilson(int(good), count)),
        f"{hidden.mean():.0%} of {len(hidden)}" if len(hidden) else "-",
        *(f"{share:.1%}" for share in by.values()),
        f"{np.median(found.seconds[found.success]):.0f} s" if good else "-",
        f"{found.driver_ms:.1f}",
    ]
    return f"| {' | '.join(columns)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="+", help="scenes or patterns, a row each")
    parser.add_argument("--robots", type=int, default=200)
    parser.add_argument("--robot", default="rover")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--eyes", type=Path, default=EYES[FIND])
    parser.add_argument("--controls", action="store_true", help="spoilt eyes, and noise, too")
    asked = parser.parse_args()
    names = ["place", "control", "found", "of those not in sight", "crash", "tipped", "time", "median", "driver [ms]"]
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for pattern in asked.scenes:
        scenes = find_sources([pattern])
        for name, spoil in CONTROLS.items():
            if not name or asked.controls:
                found = run(scenes, asked.robots, asked.seed, asked.robot, asked.eyes, spoil, noisy=False)
                print(row(pattern, name, found), flush=True)
        if asked.controls:
            found = run(scenes, asked.robots, asked.seed, asked.robot, asked.eyes, CONTROLS[""], noisy=True)
            print(row(pattern, NOISY, found), flush=True)


if __name__ == "__main__":
    main()

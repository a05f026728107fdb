"""Measure go2 with the driver stairs on its way to goals on other levels, in places that it was never trained in.

    python benchmarks/levels.py --scene BUNDLE --rooms 'ROOM/*'       rooms of `splatyard scene rooms --with stairs`
    python benchmarks/levels.py ... --write                           write the page of docs/benchmarks

The driver knows the place by the bundle's regions, and its start; from then on it goes by odometry, and by the map of
its own depth camera. Starts are anywhere on a level, turned anyhow; goals anywhere on another level.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sim  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.scenes.resolver import find_scenes  # noqa: E402
from sim.climbing.levels import Levels  # noqa: E402
from sim.policies.catalog import open_driver  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402
from sim.sensors.ground.settings import MapSettings  # noqa: E402
from sim.tasks.settings import TaskSettings  # noqa: E402
from train.runs.results import wilson  # noqa: E402

SECONDS, SEED = 45.0, 40


def measured(scenes: list[str], count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Whether episodes lead up or down, and which reached the goal and which fell (N,)."""
    settings = TaskSettings(seconds=SECONDS)
    env = sim.make("levels", scenes, count, cameras=(), ground=MapSettings(), seed=SEED, task_settings=settings)
    seen, _ = env.reset(seed=SEED)
    kinds = [*env.scenario.kinds()]
    running, reached, fell = (np.full(count, value) for value in (True, False, False))
    with open_driver("stairs", env, SEED) as policy:
        while running.any():
            seen, _, terminated, truncated, info = env.step(policy(seen))
            ended = (terminated | truncated) & running
            reached |= ended & info.get("final_success", ~running)
            fell |= ended & info["ended_by_tipped"]
            running &= ~ended
    env.close()
    return kinds, reached, fell


def rows(name: str, scenes: list[str], count: int) -> list[Row]:
    """Shares with their intervals, up and down apart."""
    kinds, reached, fell = measured(scenes, count)
    found = list[Row]()
    for kind in sorted({*kinds}, reverse=True):
        those = np.array(kinds) == kind
        share = wilson(int(reached[those].sum()), int(those.sum()))
        about = f"of {those.sum()} [{100 * share.low:.0f}, {100 * share.high:.0f}], {fell[those].sum()} fell"
        found.append(Row(f"{name}, {kind}: reached, {about}", 100 * share.value, "%"))
        print(found[-1].line(), flush=True)
    return found


def main() -> None:
    """Measure, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", required=True, help="a place with stairs")
    parser.add_argument("--rooms", required=True, help="rooms of `splatyard scene rooms 24 --with stairs --seed 2000`")
    parser.add_argument("--episodes", type=int, default=40, help="in the place, and in all rooms together")
    parser.add_argument("--write", action="store_true", help="write the page of docs/benchmarks")
    options = parser.parse_args()
    rooms = [str(room) for room in find_scenes((options.rooms,)) if Levels(open_scene(room).regions).passages]
    found = rows("the scene", [options.scene], options.episodes) + rows(f"{len(rooms)} rooms", rooms, options.episodes)
    text = (
        f"go2 with --driver stairs --task levels, {SECONDS:.0f} s an episode, in sapien. The scene is the sample hall, "
        "whose landing is too short to begin on; rooms are of `splatyard scene rooms 24 --with stairs --seed 2000`, "
        "with steps of 10 to 20 cm. Of the rooms' failures most are robots that ran out of time."
    )
    command = "python benchmarks/levels.py --scene BUNDLE --rooms 'ROOM/*'"
    page = section("stairs: levels", command, text, found)
    print(page)
    if options.write:
        update_page({"stairs: levels": page})


if __name__ == "__main__":
    main()

"""What many scenes cost a simulation: memory, time to make it, steps per CPU-second; each number in a fresh process.

    splatyard scene rooms 64 --out yard
    NUMBA_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/many_scenes.py yard/* --write

Where there are fewer bundles than scenes, some are opened several times, which the simulator takes for different ones.
Steps with one scene are the mean of those in several rooms, which differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402

COUNTS, ENVS, STEPS, GROUP = (1, 8, 64, 256, 1000), 64, 60, 16
SINGLES = 8
"""Rooms in which one scene is measured."""
MOST = {64: 700.0, 1000: 8192.0}
"""Memory that so many rooms may take [MiB]."""
LEAST = 0.85
"""Share of the steps per CPU-second with one scene that 64 must reach."""


def resident() -> float:
    """Memory of this process [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measured(bundles: list[str], count: int, group: int) -> dict[str, float]:
    """A simulation of so many scenes, of which episodes begin in a group."""
    import sim
    from sim.bench import measure
    from sim.scene.opening import open_scene
    from sim.scene.sources import find_sources

    found = find_sources(bundles)
    begun, libraries = time.process_time(), resident()
    scenes = [open_scene(found[number % len(found)], allow_failed=True) for number in range(count)]
    env = sim.make("find", scenes, ENVS)
    env.scene_weights = (np.arange(count) < group).astype(np.float64)
    env.reset(seed=0)
    made = time.process_time() - begun
    speed = measure(env, STEPS)
    steps = 1e3 / (speed.physics + speed.cameras + speed.rest)
    env.close()
    return {"libraries": libraries, "made": made, "steps": steps, "memory": resident()}


def in_a_process(bundles: list[str], count: int, group: int) -> dict[str, float]:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, *bundles, "--count", str(count), "--group", str(group)]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


def rows_of(bundles: list[str]) -> list[Row]:
    """What the page has."""
    in_a_process(bundles, 1, 1)  # compilation
    singles = [in_a_process(bundles[number:] + bundles[:number], 1, 1) for number in range(SINGLES)]
    one = float(np.mean([single["steps"] for single in singles]))
    rows = [Row("libraries alone", singles[0]["libraries"], "MiB")]
    for count in COUNTS:
        found = singles[0] if count == 1 else in_a_process(bundles, count, count)
        bar = ("<=", MOST[count]) if count in MOST else (None, None)
        rows.append(Row(f"{count} scenes: whole process", found["memory"], "MiB", *bar))
        rows.append(Row(f"{count} scenes: opened, made, first observations", found["made"], "CPU-s"))
        bar = (">=", LEAST * one) if count == 64 else (None, None)
        rows.append(Row(f"{count} scenes: steps", one if count == 1 else found["steps"], "per CPU-second", *bar))
        if count > GROUP:
            grouped = in_a_process(bundles, count, GROUP)
            rows.append(Row(f"{count} scenes, {GROUP} at a time: steps", grouped["steps"], "per CPU-second"))
    return rows


def main() -> None:
    """Measure, print, and write the page if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", metavar="BUNDLE", nargs="+")
    parser.add_argument("--count", type=int, help="measure so many scenes, here, and print JSON")
    parser.add_argument("--group", type=int, default=GROUP, help="of which episodes begin in so many")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    if options.count:
        print(json.dumps(measured(options.bundles, options.count, options.group)))
        return
    text = f"Task find, rover, {ENVS} robots in SAPIEN, colours and depths of 96x48, random actions, drawn rooms."
    page = section("scenes", "python benchmarks/many_scenes.py YARD/* --write", text, rows_of(options.bundles))
    print(page)
    if options.write:
        update_page({"scenes": page})


if __name__ == "__main__":
    main()

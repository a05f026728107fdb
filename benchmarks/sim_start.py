"""Time to a simulation's first observation, and its memory, each in a fresh process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.page import Row

ENVS, SCENES, STEPS = 64, 8, 5


def start_rows(bundle: str) -> list[Row]:
    """Seconds from the command to the first observation, and the peak memory of many environments in many scenes."""
    _child(bundle, 1, 16)  # warm-up: compilation
    return [
        Row("first observation, 16 environments, a fresh process", _child(bundle, 1, 16)[0], "s", "<=", 5.0),
        Row(f"{ENVS} environments over {SCENES} scenes, peak", _child(bundle, SCENES, ENVS)[1], "MiB", "<=", 4096.0),
    ]


def _child(bundle: str, scenes: int, envs: int) -> tuple[float, float]:
    """Seconds to the first observation and the peak memory [MiB] after some steps."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.sim_start", bundle, str(scenes), str(envs)]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seconds = time.perf_counter() - begun
        return seconds, json.loads(child.stdout.readline())


def main() -> None:
    """In the child process: report the first observation, then the peak memory [MiB]."""
    import sim

    bundle, scenes, envs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    env = sim.make("navigate", [bundle] * scenes, envs, allow_failed=True)
    env.reset(seed=0)
    print("ready", flush=True)
    for _ in range(STEPS):
        env.step(env.action_space.sample())
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


if __name__ == "__main__":
    main()

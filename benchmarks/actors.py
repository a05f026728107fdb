"""Measure what a learner does with the chunks of many actors, and how much faster training is with actors.

    python benchmarks/actors.py                     64 actors that send recorded chunks: samples a second, memory, CPU
    python benchmarks/actors.py --train             one process, then 1 and 2 actors on Ray, for the same samples

Both in procedural ground, so no bundle is needed. Recorded chunks are those of one real actor; they are unpickled for
each call, checked, and written to a replay, as in a training, but nothing is learned from them.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.training import PROGRAM  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402
from train.actors.chunk import Chunk, Form, Order, Weights  # noqa: E402
from train.actors.pool import Pool  # noqa: E402
from train.actors.rollouts import Beginning, Rollouts  # noqa: E402
from train.algorithms.sac import SAC  # noqa: E402
from train.environment import make_env  # noqa: E402
from train.preset import load_preset  # noqa: E402
from train.recording.replay import Replay  # noqa: E402

SCENE = "terrain:0:flat"
CHANGES = {"algorithm": "sac", "num_envs": 16, "num_steps_per_env": 16, "sac.replay_size": 50_000}
SIMULATION = ("--set", "num_envs=64", "--set", "num_steps_per_env=16", "--set", "sac.updates_per_step=0.004")


class Recorded:
    """Actors that send one chunk again and again, every so many seconds; see `train.actors.pool.Actors`."""

    def __init__(self, chunk: Chunk, seconds: float) -> None:
        self._chunk, self._seconds = pickle.dumps(chunk), seconds
        self._calls: dict[int, tuple[int, float, int]] = {}
        self._free, self._sent, self._asked = dict[int, float](), dict[int, int](), 0
        self.largest = 0

    def start(self, index: int) -> int:
        """An actor is its index."""
        self._free[index], self._sent[index] = time.monotonic() + self._seconds * index / 64, 0
        return index

    def share(self, weights: Weights) -> object:
        """The version alone."""
        return weights["version"]

    def ask(self, actor: int, weights: Any, order: Order) -> int:
        """Done when what was asked before is."""
        self._free[actor] = max(self._free[actor], time.monotonic()) + self._seconds
        self._asked += 1
        self._calls[self._asked] = actor, self._free[actor], weights
        self.largest = max(self.largest, len(self._calls))
        return self._asked

    def wait(self, calls: Sequence[int], seconds: float) -> list[int]:
        """Calls that are done."""
        first = min(self._calls[call][1] for call in calls)
        time.sleep(max(0.0, min(first - time.monotonic(), seconds)))
        now = time.monotonic()
        return [call for call in calls if self._calls[call][1] <= now]

    def fetch(self, call: int) -> object:
        """The recorded chunk with other numbers."""
        actor, _, version = self._calls.pop(call)
        chunk: Chunk = pickle.loads(self._chunk)
        self._sent[actor] += 1
        return Chunk(actor, self._sent[actor], version, chunk.fields, chunk.done)

    def kill(self, actor: int) -> None:
        """Nothing is to be ended."""


def traffic(actors: int, seconds: float) -> None:
    """Print what a learner of so many actors takes, as fast as actors are here, and as fast as it can."""
    preset, scene = load_preset("navigate", CHANGES), open_scene(SCENE)
    one = Rollouts(Beginning(preset, pickle.dumps([scene]), str(Path.cwd()), 0), 0)
    env = make_env(preset, [scene], num_envs=1)
    agent = SAC(preset, env.get_observations(), env.num_actions, "cpu", None)
    weights: Weights = {"version": 0, "arrays": agent.policy_arrays()}
    order = Order(random=False, scene_weights=np.ones(1))
    one.roll_out(weights, order)
    begun = time.perf_counter()
    chunk = one.roll_out(weights, order)
    spent = time.perf_counter() - begun
    seen, steps, envs = env.get_observations(), preset.num_steps_per_env, preset.num_envs
    form = Form.of(seen, env.num_actions, steps, envs, env.env.task, 1)
    print(f"one actor: {form.steps / spent:.0f} samples/s; a chunk: {form.steps} samples, {form.bytes / 1e6:.1f} MB")
    for name, pause in (("as fast as they are", spent), ("as fast as it can", 0.0)):
        with tempfile.TemporaryDirectory() as folder:
            replay = Replay(Path(folder), seen[:1].expand(envs), env.num_actions, preset.sac.replay_size // envs, 40)
            recorded = Recorded(chunk, pause)
            pool = Pool(recorded, actors, form, preset.actors)
            before, end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic() + seconds
            cpu, begun, count = time.process_time(), time.monotonic(), 0
            while time.monotonic() < end:
                pool.publish({"version": count, "arrays": weights["arrays"]})
                replay.add_chunk(pool.take(lambda: order).fields)
                count += 1
            took, cpu = time.monotonic() - begun, time.process_time() - cpu
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            files = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(
            f"{actors} actors {name}: {count * form.steps / took:.0f} samples/s, {cpu / took:.0%} of a core, "
            f"peak memory + {grown / 1024:.0f} MiB (of which the replay's files are {files / 2**20:.0f} MiB), "
            f"{recorded.largest} calls in flight, {pool.counts}"
        )


def training(iterations: int) -> None:
    """Print the speed of the same training in one process, and with actors on Ray."""
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("one", ()), ("actors-1", ("--actors", "1")), ("actors-2", ("--actors", "2"))):
            command = [*PROGRAM, "train", "navigate", "--scene", SCENE, "--algorithm", "sac", *SIMULATION, *options]
            command += ["--iterations", str(iterations), "--name", name, "--runs", folder]
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            rows = [json.loads(line) for line in (Path(folder) / name / "curve.jsonl").read_text().splitlines()]
            first, last = rows[len(rows) // 4], rows[-1]  # actors start at different times
            speed = (last["steps"] - first["steps"]) / (last["seconds"] - first["seconds"])
            load = os.getloadavg()[0]
            print(f"{name}: {speed:.0f} samples/s of {last['steps']} samples; load average {load:.1f}", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--iterations", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.train:
        training(arguments.iterations)
    else:
        traffic(arguments.actors, arguments.seconds)


if __name__ == "__main__":
    main()

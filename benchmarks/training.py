"""Measure training on a bundle: policies after minutes on a CPU, against blind policies and shuffled images.

    python benchmarks/training.py BUNDLE                 train, evaluate and print; an hour on 2 cores
    python benchmarks/training.py BUNDLE --keep DIR      go on where an earlier call stopped
    python benchmarks/training.py BUNDLE --write         write the page in docs/benchmarks

Every policy is trained and evaluated by the commands that users type, each on one core, as many at once as there are
cores. Minutes are those of training, by the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402

EPISODES = 200
SEEDS = (0, 1, 2)
DEPTH = (
    "The hall's yellow patch has a fixed position. A policy with memory can localise itself by depth, and so knows "
    "where the patch is: colour is not the only cue, and with better training fewer robots enter (24.5 % with 64 "
    "robots by 32 steps). But images provide more than localisation: with the patch painted over in the floor's "
    "colour, the policy of seed 0 enters in 36 % of the episodes. With the patch at a new position in each episode, "
    "150 iterations are not enough (22 % entered; with the critic's privileged observations, 7 %)."
)
PROGRAM = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class Training:
    """A policy to train.

    Attributes:
        name: Name of its run.
        preset: Preset name.
        changes: Changes to the preset, KEY=VALUE.
        seed: Random seed.
        shuffled: Whether it is also evaluated with other robots' images.
    """

    name: str
    preset: str
    changes: tuple[str, ...] = ()
    seed: int = 0
    shuffled: bool = False


NAVIGATE = [Training(f"navigate-{seed}", "navigate", seed=seed, shuffled=True) for seed in SEEDS]
NAVIGATE_BLIND = Training("navigate-blind", "navigate", ("policy.encoder=none",))
AVOID = [Training(f"avoid-{seed}", "avoid", seed=seed, shuffled=True) for seed in SEEDS]
AVOID_DEPTH = Training("avoid-depth", "avoid", ("policy.modality=depth",))
AVOID_BLIND = Training("avoid-blind", "avoid", ("policy.encoder=none",))
SEARCH = Training("search", "search", shuffled=True)
ABLATION = {
    "unchanged": NAVIGATE[0],
    "without memory": Training("navigate-reflex", "navigate", ("policy.rnn_type=none",)),
    "with the voxel loss": Training("navigate-voxels", "navigate", ("policy.voxels.weight=0.5",)),
    "with the mirror loss": Training("navigate-mirror", "navigate", ("ppo.use_mirror_loss=true",)),
    "encoder resnet": Training("navigate-resnet", "navigate", ("policy.encoder=resnet",)),
    "encoder gaussians": Training("navigate-gaussians", "navigate", ("policy.encoder=gaussians",)),
    "encoder none (blind)": NAVIGATE_BLIND,
}


@dataclass(frozen=True)
class Measured:
    """Result of a training.

    Attributes:
        minutes: Of training.
        steps: Of all environments together.
        metrics: Of the evaluation, by ablation.
        curve: Rows of numbers, one an iteration.
    """

    minutes: float
    steps: float
    metrics: dict[str, dict[str, Any]]
    curve: list[dict[str, float]]

    def share(self, name: str = "success", ablation: str = "none") -> float:
        """Share of the episodes [%]."""
        found = self.metrics[ablation][name]
        return 100 * found["successes"] / found["count"]

    def interval(self) -> str:
        """Success with its 95 % interval [%]."""
        found = self.metrics["none"]["success"]
        return f"{self.share():.1f} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"


def call(arguments: list[str], core: int) -> None:
    """Run a `splatyard` command on one core."""
    one = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    pinned = ["taskset", "--cpu-list", str(core)]
    subprocess.run([*pinned, *PROGRAM, *arguments], check=True, cwd=ROOT, env=one, stdout=subprocess.DEVNULL)


def measure(training: Training, bundle: Path, folder: Path, core: int) -> Measured:
    """Train and evaluate, or reuse an earlier call's results."""
    run = folder / training.name
    result = run / "evaluation.json"
    if not result.is_file():
        changes = [word for change in training.changes for word in ("--set", change)]
        if run.exists():
            call(["train", "--resume", str(run)], core)
        else:
            where = ["--scene", str(bundle), "--runs", str(folder), "--name", training.name]
            call(["train", training.preset, *where, "--seed", str(training.seed), *changes], core)
        ablations = ["--ablations", "none,shuffled" if training.shuffled else "none"]
        call(["eval", str(run), "--episodes", str(EPISODES), *ablations], core)
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    seconds = sum(row["seconds/all"] for row in curve)
    found = {
        one["ablation"]: next(iter(one["metrics"].values())) for one in json.loads(result.read_text())["evaluations"]
    }
    return Measured(seconds / 60, curve[-1]["steps"], found, curve)


def measure_all(trainings: list[Training], bundle: Path, folder: Path) -> dict[str, Measured]:
    """Results by name; each core runs its trainings in sequence."""
    free = queue.SimpleQueue[int]()
    for core in sorted(os.sched_getaffinity(0)):
        free.put(core)

    def measured(training: Training) -> Measured:
        core = free.get()
        try:
            one = measure(training, bundle, folder, core)
        finally:
            free.put(core)
        print(training.name, one.interval(), f"{one.minutes:.1f} min", flush=True)
        return one

    with ThreadPoolExecutor(free.qsize()) as pool:
        return dict(zip([one.name for one in trainings], pool.map(measured, trainings), strict=True))


def navigate_rows(found: dict[str, Measured]) -> list[Row]:
    """Metrics of `navigate`."""
    rows = [
        Row(
            f"navigate, seed {seed}: success after {found[one.name].steps:.0f} steps",
            found[one.name].share(),
            "%",
            ">=",
            90,
        )
        for seed, one in zip(SEEDS, NAVIGATE, strict=True)
    ]
    seen = [found[one.name] for one in NAVIGATE]
    rows.append(Row("navigate: steps", max(one.steps for one in seen), "", "<=", 150_000))
    rows.append(Row("navigate: longest training", max(one.minutes for one in seen), "min", "<=", 4))
    rows.append(
        Row("navigate, images shuffled: best", max(one.share(ablation="shuffled") for one in seen), "%", "<=", 12)
    )
    rows.append(Row("navigate, trained blind", found[NAVIGATE_BLIND.name].share(), "%", "<=", 5))
    return rows


def avoid_rows(found: dict[str, Measured]) -> list[Row]:
    """Metrics of `avoid`."""
    rows = []
    for seed, one in zip(SEEDS, AVOID, strict=True):
        rows.append(Row(f"avoid, seed {seed}: enters", found[one.name].share("entered"), "%", "<=", 8))
        rows.append(Row(f"avoid, seed {seed}: reaches the goal", found[one.name].share(), "%", ">=", 90))
    rows.append(Row("avoid: longest training", max(found[one.name].minutes for one in AVOID), "min", "<=", 7))
    rows.append(Row("avoid, depth only: enters", found[AVOID_DEPTH.name].share("entered"), "%", ">=", 50))
    rows.append(Row("avoid, trained blind: enters", found[AVOID_BLIND.name].share("entered"), "%", ">=", 50))
    return rows


def speed_rows(found: dict[str, Measured], bundle: Path) -> list[Row]:
    """Training's own overhead, and its speed on one core."""
    curve = found[NAVIGATE[0].name].curve
    rest = [1 - (row["seconds/simulation"] + row["seconds/network"]) / row["seconds/all"] for row in curve]
    name = "share of an iteration that is neither simulation nor network"
    rows = [Row(name, 100 * statistics.median(rest), "%", "<=", 10)]
    with tempfile.TemporaryDirectory() as folder:
        where = ["--scene", str(bundle), "--runs", folder, "--name", "one-core"]
        call(["train", "navigate", *where, "--iterations", "8"], core=0)
        curve = [json.loads(line) for line in (Path(folder) / "one-core" / "curve.jsonl").read_text().splitlines()]
    steps = curve[-1]["steps"] / len(curve)
    speed = steps / statistics.median(row["seconds/all"] for row in curve)
    return [*rows, Row("training steps per second on one core, with one 64x48 image each", speed, "", ">=", 1000)]


def ablation(found: dict[str, Measured]) -> str:
    """The table of networks and auxiliary losses."""
    lines = ["Ablation of `navigate`, one seed:", "", "| network | success [%] |", "| --- | --- |"]
    lines += [f"| {name} | {found[training.name].interval()} |" for name, training in ABLATION.items()]
    return "\n".join(lines)


def main() -> None:
    """Train, evaluate, print; write if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--keep", type=Path, help="folder of the runs; default: a temporary one")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        trainings = {one.name: one for one in [*NAVIGATE, NAVIGATE_BLIND, *AVOID, AVOID_DEPTH, AVOID_BLIND, SEARCH]}
        trainings |= {one.name: one for one in ABLATION.values()}
        found = measure_all(list(trainings.values()), options.bundle.resolve(), folder)
        rows = [*navigate_rows(found), *avoid_rows(found)]
        rows.append(Row("search (the ball at any goal): success", found[SEARCH.name].share(), "%"))
        rows += speed_rows(found, options.bundle.resolve())
    text = (
        "PPO on images in the demo bundle (built by `make demo`); 200 evaluation episodes from held-out starts each. "
    )
    text += f"Each policy was trained on one core, {len(os.sched_getaffinity(0))} in parallel."
    page = section(
        "training", "python benchmarks/training.py bundles/hall/1.0.0 --write", text, rows, DEPTH, "", ablation(found)
    )
    print(page)
    if options.write:
        update_page({"training": page})


if __name__ == "__main__":
    main()

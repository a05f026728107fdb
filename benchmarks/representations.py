"""Compare what encoders make of images: `find` in rooms a policy has trained in, and in places it has not.

    python benchmarks/representations.py DIR                                  two hours on 2 cores; keeps what is done
    python benchmarks/representations.py DIR --unseen bundles/kitchen/1.0.0   in a bundle of your own, too

Policies imitate the driver `find` (DAgger) in 16 drawn rooms, all with the same number of steps and updates. None has
a memory but `episode_map`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.training import PROGRAM  # noqa: E402

ROOMS, UNSEEN, FIRST_UNSEEN = 16, 12, 1000
ITERATIONS = "12"
WEIGHTS = "gaussians.safetensors"
ENCODERS = {
    "episode_map": (),
    "cnn-rgbd": ("policy.encoder=cnn", "policy.modality=rgbd"),
    "cnn": ("policy.encoder=cnn",),
    "resnet-rgbd": ("policy.encoder=resnet", "policy.modality=rgbd"),
    "points": ("policy.encoder=points",),
    "voxels": ("policy.encoder=voxels",),
    "cnn-depth": ("policy.encoder=cnn", "policy.modality=depth"),
    "gaussian_regressor": ("policy.encoder=gaussian_regressor", f"policy.encoder_file={WEIGHTS}"),
}


def call(folder: Path, *arguments: str) -> None:
    """Run a `splatyard` command in the folder."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*PROGRAM, *arguments], check=True, cwd=folder, env=settings, stdout=subprocess.DEVNULL)


def each(option: str, values: tuple[str, ...]) -> list[str]:
    """An option with each of these values."""
    return [word for value in values for word in (option, value)]


def evaluated(folder: Path, run: str, scenes: tuple[str, ...], episodes: int) -> dict[str, Any]:
    """Success of a run in all scenes together; in those it was trained in by default."""
    how = ("--ablations", "none", "--episodes", str(episodes), "--allow-failed")
    call(folder, "eval", run, *how, *each("--scene", scenes))
    (one,) = json.loads((folder / "runs" / run / "evaluation.json").read_text())["evaluations"]
    return next(iter(one["metrics"].values()))["success"]


def main() -> None:
    """Draw rooms, train, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unseen", type=Path, action="append", default=[], metavar="BUNDLE")
    arguments = parser.parse_args()
    folder, others = arguments.folder.resolve(), [str(one.resolve()) for one in arguments.unseen]
    folder.mkdir(parents=True, exist_ok=True)
    call(folder, "rooms", str(ROOMS), "--out", "rooms")
    call(folder, "rooms", str(UNSEEN), "--seed", str(FIRST_UNSEEN), "--out", "unseen")
    for name, changes in ENCODERS.items():
        if any(WEIGHTS in change for change in changes) and not (folder / WEIGHTS).exists():
            call(folder, "pretrain-encoder", "--scenes", "rooms/*", "--out", WEIGHTS)
        run = folder / "runs" / name
        if run.exists() and not (run / "ending.json").exists():
            call(folder, "train", "--resume", name)
        elif not run.exists():
            about = ("--iterations", ITERATIONS, "--name", name, "--scene", "rooms/*")
            call(folder, "train", "find-depth", *about, *each("--set", changes))
        for where, scenes, episodes in (
            ("in these rooms", (), 8),
            ("rooms never seen", ("unseen/*",), 8),
            *((Path(other).parent.name, (other,), 100) for other in others),
        ):
            found = evaluated(folder, name, scenes, episodes)
            share, low, high = found["successes"] / found["count"], found["low"], found["high"]
            print(f"{name:20s} {where:20s} {share:6.1%} [{low:.1%}, {high:.1%}]", flush=True)


if __name__ == "__main__":
    main()

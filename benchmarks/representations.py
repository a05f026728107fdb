"""Compare what encoders make of images: `navigate` in rooms a policy has trained in, and in places it has not.

    python benchmarks/representations.py DIR                                  three hours on 2 cores; keeps what is done
    python benchmarks/representations.py DIR --unseen bundles/kitchen/1.0.0   in a bundle of your own, too

Rooms are rendered as captures of a phone and built in DIR, like the sample hall. Policies imitate the driver who knows
the way (DAgger without memory), all with the same number of steps and updates.
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

from benchmarks.room_capture import write_room  # noqa: E402
from benchmarks.rooms import ROOMS, SECOND_PLACE  # noqa: E402
from benchmarks.training import PROGRAM  # noqa: E402

TRAINING, UNSEEN = ("hall", "office", "corridor", "store"), "second-place"
SETTINGS = ("policy.rnn_type=none", "policy.init_std=0.2", "offline.updates_per_iteration=100")
ITERATIONS = "40"
WEIGHTS = "gaussians.safetensors"
ENCODERS = {
    "cnn": (),
    "depth": ("policy.modality=depth",),
    "voxels": ("policy.encoder=voxels",),
    "points": ("policy.encoder=points",),
    "gaussian_regressor": ("policy.encoder=gaussian_regressor", f"policy.encoder_file={WEIGHTS}"),
    "gaussians": ("policy.encoder=gaussians",),
}


def call(folder: Path, *arguments: str) -> None:
    """Run a `splatyard` command in the folder."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "SPLATYARD_BUNDLES": str(folder / "bundles")}
    subprocess.run([*PROGRAM, *arguments], check=True, cwd=folder, env=settings, stdout=subprocess.DEVNULL)


def build_rooms(folder: Path) -> None:
    """Make the bundles."""
    samples = ROOT / "scene_cards"
    for name in (*TRAINING, UNSEEN):
        if (folder / "bundles" / name).exists():
            continue
        capture = folder / "captures" / name
        if name == "hall":
            call(folder, "build", str(samples / "samples/hall"), "--card", str(samples / "hall.yaml"))
        else:
            write_room(SECOND_PLACE() if name == UNSEEN else ROOMS[name](), capture)
            call(folder, "build", str(capture), "--name", name)


def each(option: str, values: tuple[str, ...]) -> list[str]:
    """An option with each of these values."""
    return [word for value in values for word in (option, value)]


def evaluated(folder: Path, run: str, scenes: tuple[str, ...], episodes: int) -> dict[str, Any]:
    """Metrics of a run by scene; in those it was trained in by default."""
    how = ("--ablations", "none", "--episodes", str(episodes), "--allow-failed")
    call(folder, "eval", run, *how, *each("--scene", scenes))
    (one,) = json.loads((folder / "runs" / run / "evaluation.json").read_text())["evaluations"]
    return one["metrics"]


def main() -> None:
    """Build, train, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unseen", type=Path, action="append", default=[], metavar="BUNDLE")
    arguments = parser.parse_args()
    folder, others = arguments.folder.resolve(), [str(one.resolve()) for one in arguments.unseen]
    folder.mkdir(parents=True, exist_ok=True)
    build_rooms(folder)
    if not (folder / WEIGHTS).exists():
        call(folder, "pretrain-encoder", *each("--scenes", TRAINING), "--test", UNSEEN, "--out", WEIGHTS)
    for name, changes in ENCODERS.items():
        run = folder / "runs" / name
        if run.exists() and not (run / "ending.json").exists():
            call(folder, "train", "--resume", name)
        elif not run.exists():
            settings = each("--set", (*SETTINGS, *changes))
            about = ("--algorithm", "dagger", "--iterations", ITERATIONS, "--name", name, *each("--scene", TRAINING))
            call(folder, "train", "navigate", *about, *settings)
        for scenes, episodes in (((), 100), ((UNSEEN, *others), 200)):
            for scene, metrics in evaluated(folder, name, scenes, episodes).items():
                found = metrics["success"]
                share, low, high = found["successes"] / found["count"], found["low"], found["high"]
                print(f"{name:20s} {scene:20s} {share:6.1%} [{low:.1%}, {high:.1%}]", flush=True)


if __name__ == "__main__":
    main()

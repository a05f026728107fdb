"""Measure the metrics of docs/benchmarks/: whole builds as a user runs them, on the sample and on real captures.

    python benchmarks/run.py                    all cases whose capture is there
    python benchmarks/run.py hall fox           some of them
    python benchmarks/run.py --keep DIR         build into DIR and keep it (default: a fresh temporary folder)
    python benchmarks/run.py --cpu avx2         as on a machine without AVX-512

Real captures are looked for in the folder that SPLATYARD_CAPTURES names, or in ../shared/captures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cpu import add_cpu_option, children_cpu, use_cpu  # noqa: E402
from benchmarks.off_track import off_track_images, off_track_metrics  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.room_capture import write_room  # noqa: E402
from benchmarks.rooms import SECOND_PLACE  # noqa: E402
from benchmarks.truth import Truth, compare_with_truth, hall_truth, known_length, truth_poses  # noqa: E402
from pipeline import Bundle  # noqa: E402

CAPTURES = Path(os.environ.get("SPLATYARD_CAPTURES", ROOT.parent / "shared" / "captures"))
HALL = ROOT / "scene_cards" / "samples" / "hall"


@dataclass(frozen=True)
class Run:
    """One `splatyard build` as a child process."""

    bundle: Bundle
    wall: float
    cpu: float
    peak_mib: float
    stages: dict[str, dict[str, float]]
    output: str
    work: Path


def build(source: Path, out: Path, name: str, *options: str) -> Run:
    """Run the user's command and measure its cost."""
    command = [
        str(Path(sys.executable).with_name("splatyard")),
        "build",
        str(source),
        "--name",
        name,
        "--out",
        str(out),
    ]
    before, started = children_cpu(), time.perf_counter()
    done = subprocess.run([*command, *options], cwd=ROOT, text=True, capture_output=True, check=False)
    wall = time.perf_counter() - started
    cpu = children_cpu() - before
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    stages = {}
    for record in (out / ".work" / name).glob("*/.*.run.json"):
        run = json.loads(record.read_text())
        stages[run["stage"]] = {"seconds": run["seconds"], "cpu_seconds": run["cpu_seconds"]}
    bundle = max((out / name).glob("[0-9]*"), key=lambda path: path.stat().st_mtime)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Run(Bundle.open(bundle), wall, cpu, peak, stages, done.stdout, out / ".work" / name)


PEER = """
import sys

import pycolmap

images, out = sys.argv[1:]
pycolmap.extract_features(f"{out}/database.db", images)
pycolmap.match_exhaustive(f"{out}/database.db")
models = pycolmap.incremental_mapping(f"{out}/database.db", images, out)
print(max((model.num_reg_images() for model in models.values()), default=0))
"""
"""pycolmap's own reconstruction of a folder's images, with its defaults: cameras and sparse points."""


@dataclass(frozen=True)
class Peer:
    """What another program's reconstruction of the same images took, in the same run."""

    cpu: float
    images: int
    registered: int


def peer_of(work: Path) -> Peer:
    """Let pycolmap reconstruct the images that a build in a work folder found the poses of."""
    images = max((work / "poses").glob("[0-9a-f]*/images"), key=lambda path: path.stat().st_mtime)
    before = children_cpu()
    with tempfile.TemporaryDirectory(prefix="splatyard-peer-") as folder:
        command = [sys.executable, "-c", PEER, str(images), folder]
        done = subprocess.run(command, text=True, capture_output=True, check=True)
    return Peer(children_cpu() - before, len(list(images.iterdir())), int(done.stdout.split()[-1]))


def hall(out: Path) -> tuple[Run, list[Row]]:
    """The sample as the phone recorded it: noisy poses and depth."""
    run = build(HALL, out, "hall")
    return run, [Row("whole build", run.wall, "s", "<=", 240), *headline_rows(run.bundle, hall_truth())]


def headline_rows(bundle: Bundle, exact: Truth) -> list[Row]:
    """Metrics with the same targets for every scene with exact ground truth."""
    truth, quality = compare_with_truth(bundle, truth=exact), bundle.quality
    return [
        Row("gravity error", truth.gravity_error_deg, "degrees", "<=", 0.3),
        Row("scale error", 100 * truth.scale_error, "%", "<=", 1),
        Row("mesh F-score at 2 cm", truth.f_score[0.02], "", ">=", 0.95),
        Row("mesh F-score at 5 cm", truth.f_score[0.05], "", ">=", 0.985),
        Row("splat-mesh depth difference, median", 100 * metric(quality, "splat_mesh_depth"), "cm", "<=", 1.0),
        Row("held-out PSNR at 320x240", metric(quality, "held_out_psnr"), "dB", ">=", 28),
    ]


def second_place(out: Path) -> tuple[Run, list[Row]]:
    """A scene that nothing is fitted to: stairs, a narrow corridor, a glass door, a mirror; as a phone records it."""
    room = SECOND_PLACE()
    capture = out / "captures" / room.name
    exact = write_room(room, capture)
    run = build(capture, out, room.name)
    return run, rows_of_second_place(run.bundle, exact)


def rows_of_second_place(bundle: Bundle, exact: Truth) -> list[Row]:
    """The metrics of a bundle of the second scene."""
    quality = bundle.quality
    poses = {camera.name: camera.world_from_camera for camera in bundle.cameras}
    full = off_track_metrics(off_track_images(bundle.splat(), poses, bundle.coverage, exact))
    return [
        *headline_rows(bundle, exact),
        Row("off the track: mean PSNR of 24 images", full.mean, "dB"),
        Row("off the track: worst of them", full.worst, "dB"),
        Row("off the track: images trusted by the coverage map", full.trusted, "", ">=", 12),
        Row("off the track: their mean", full.trusted_mean or 0.0, "dB", ">=", 24),
        Row("off the track: worst of them", full.trusted_worst or 0.0, "dB", ">=", 18),
        Row("off the track: rank correlation of trust and PSNR", full.rank or 0.0, "", ">=", 0.75),
        Row("coverage gate", metric(quality, "coverage"), "", ">=", 0.25),
    ]


def hall_photos(out: Path) -> tuple[Run, list[Row]]:
    """Only the sample's photos, and one known length."""
    photos = out / "hall-photos-source"
    shutil.copytree(HALL / "keyframes" / "images", photos)
    run = build(photos, out, "hall-photos", "--known-length", known_length(hall_truth()))
    truth, quality = compare_with_truth(run.bundle), run.bundle.quality
    return run, [
        Row("whole build", run.wall, "s", "<=", 360),
        Row("registered photos", truth.registered, "", ">=", len(truth_poses())),
        Row("stereo, a view", run.stages["depth"]["cpu_seconds"] / truth.registered, "CPU-s", "<=", 2.4),
        Row("ATE after Sim(3)", 100 * truth.ate, "cm", "<=", 2),
        Row("gravity error", truth.gravity_error_deg, "degrees", "<=", 1),
        Row("scale error", 100 * truth.scale_error, "%", "<=", 2),
        Row("spheres and boxes that fall through or are ejected", metric(quality, "drop_test"), "", "<=", 0),
    ]


def redkitchen(out: Path) -> tuple[Run, list[Row]]:
    """200 real RGB-D frames with imperfect poses and calibration."""
    run = build(CAPTURES / "redkitchen", out, "redkitchen")
    quality = run.bundle.quality
    flat: Any = quality.metrics["flatness"]
    return run, [
        Row("whole build", run.wall, "s", "<=", 360),
        Row("splat training", training_seconds(out / ".work" / "redkitchen" / "build.log"), "CPU-s", "<=", 120),
        Row("held-out PSNR at 320x240", metric(quality, "held_out_psnr"), "dB", ">=", 30.0),
        Row("held-out SSIM", metric(quality, "held_out_ssim"), "", ">=", 0.935),
        Row("mesh against held-out depth, median", 100 * metric(quality, "mesh_held_out_depth"), "cm", "<=", 1.3),
        Row("splat-mesh depth difference, median", 100 * metric(quality, "splat_mesh_depth"), "cm", "<=", 1.2),
        Row(
            "splat-mesh depth difference, 90th percentile", 100 * metric(quality, "splat_mesh_depth_p90"), "cm", "<=", 5
        ),
        Row("floor flatness (RMS)", 100 * flat["floor"]["rms"], "cm", "<=", 1),
        Row("table top flatness (RMS)", 100 * flat["table"]["rms"], "cm", "<=", 1),
        Row("angle between floor and table top", flat["floor_to_table_deg"], "degrees", "<=", 0.7),
        Row("spawn poses", len(run.bundle.spawn_poses), "", ">=", 1),
    ]


def fox(out: Path) -> tuple[Run, list[Row]]:
    """50 real phone photos without scale, then with a known length."""
    run = build(CAPTURES / "fox" / "images", out, "fox")
    quality = run.bundle.quality
    scaled = build(CAPTURES / "fox" / "images", out, "fox", "--known-length", "0.30@0001.jpg:412,900:655,910")
    return run, [
        Row("registered photos", len(run.bundle.cameras), "", ">=", 50),
        Row("held-out PSNR at half the working size", metric(quality, "held_out_psnr"), "dB", ">=", 31.4),
        Row("splat training", training_seconds(out / ".work" / "fox" / "build.log"), "CPU-s", "<=", 60),
        Row("whole build", run.wall, "s", "<=", 300),
        Row("scale gate fails without a source", float(quality.gate("scale").passed is False), "", ">=", 1),
        Row(
            "scale gate passes with a known length",
            float(scaled.bundle.quality.gate("scale").passed is True),
            "",
            ">=",
            1,
        ),
    ]


def cached(out: Path) -> tuple[Run, list[Row]]:
    """The sample again, unchanged."""
    build(HALL, out, "hall")
    run = build(HALL, out, "hall")
    idle = float("nothing to do" in run.output)
    return run, [Row("second run", run.wall, "s", "<=", 15), Row("no stage executed", idle, "", ">=", 1)]


CASES: dict[str, Callable[[Path], tuple[Run, list[Row]]]] = {
    "hall": hall,
    "second-place": second_place,
    "cached": cached,
    "hall-photos": hall_photos,
    "redkitchen": redkitchen,
    "fox": fox,
}


def training_seconds(log: Path) -> float:
    """CPU-seconds of training alone, without loading images and computing the `sim` level."""
    return float(re.findall(r"training took ([\d.]+) CPU-s", log.read_text())[0])


def metric(quality: object, gate: str) -> float:
    """A gate's metric; infinite if it could not be measured."""
    value = quality.gate(gate).value  # pyright: ignore[reportAttributeAccessIssue]
    return float("inf") if value is None else value


def report(name: str, command: str, title: str, run: Run, rows: list[Row], peer: Peer | None) -> str:
    """One case as Markdown."""
    by_cost = sorted(run.stages.items(), key=lambda stage: -stage[1]["cpu_seconds"])
    times = ", ".join(f"{stage} {cost['seconds']:.0f} / {cost['cpu_seconds']:.0f}" for stage, cost in by_cost)
    cost = f"{run.wall:.0f} s wall, {run.cpu:.0f} CPU-s, {run.peak_mib:.0f} MiB peak. By stage, s / CPU-s: {times}."
    if peer:
        cost += f" That is {run.cpu / peer.cpu:.2f} times what pycolmap needs, in the same run, for cameras and sparse"
        cost += f" points of these images: {peer.cpu:.0f} CPU-s for {peer.registered} of {peer.images}."
    return section(name, command, title, rows, cost)


def main() -> None:
    """Measure, print, and with all cases write docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build into DIR and keep it")
    parser.add_argument("--write", action="store_true", help="write the cases' sections of docs/benchmarks/")
    add_cpu_option(parser)
    options = parser.parse_args()
    suffix = use_cpu(options.cpu)
    out = options.keep or Path(tempfile.mkdtemp(prefix="splatyard-bench-"))
    sections: dict[str, str] = {}
    for name in options.cases or CASES:
        if name in ("redkitchen", "fox") and not (CAPTURES / name).is_dir():
            print(f"{name}: left out, no capture at {CAPTURES / name}")
            continue
        run, rows = CASES[name](out)
        command = f"python benchmarks/run.py {name}" + (" --cpu avx2" if suffix else "")
        title = (CASES[name].__doc__ or "").strip()
        peer = None if name == "cached" else peer_of(run.work)
        sections[name + suffix] = report(name + suffix, command, title, run, rows, peer)
        print(sections[name + suffix], flush=True)
    if options.write:
        update_page(sections)
    if not options.keep:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()

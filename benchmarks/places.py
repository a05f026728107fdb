"""Build places that were never seen before, and state how true the bundles are: the mean of all and the worst.

    python benchmarks/places.py                        eight places, drawn by today's date
    python benchmarks/places.py --date 2026-11-26      those of another day
    python benchmarks/places.py --keep DIR             build into DIR and keep it: a second run builds only what changed
    python benchmarks/places.py --images DIR           mesh beside truth, robots' images beside truth
    python benchmarks/places.py --write                write the page in docs/benchmarks

Nothing is fitted to them: a threshold that holds for the mean of many such places replaces one fitted to few.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.drawn_rooms import draw  # noqa: E402
from benchmarks.f_score import SAMPLES, f_scores  # noqa: E402
from benchmarks.off_track import OffTrackImage, off_track_images, write_images  # noqa: E402
from benchmarks.page import page_of, update_page  # noqa: E402
from benchmarks.room_capture import write_room  # noqa: E402
from benchmarks.truth import Truth, compare_with_truth, exact_maps, rigid_truth_from_poses  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.coverage.map import HALF_TRUST_DB, TRUST_WIDTH_DB, TRUSTED  # noqa: E402
from pipeline.geometry import Mesh  # noqa: E402
from pipeline.geometry.rays import RayCaster, sample_surface  # noqa: E402
from pipeline.mesh.clean import observe  # noqa: E402

COUNT = 8
TOLERANCES = (0.01, 0.02, 0.05)
AWAY, VIEWS = 0.05, 3
"""A face is in free space when it is so far from the truth [m] and so many exact views look through it."""
SECTION = "Places never seen before"


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
        title: With its unit.
        mean: What the mean must reach, if anything.
        worst: What the worst place must reach.
        larger: Whether larger is better.
    """

    title: str
    mean: float | None = None
    worst: float | None = None
    larger: bool = False


METRICS = {
    "ate": Metric("camera positions, RMS error [cm]", 0.8, 1.2),
    "poses_cpu": Metric("poses stage [CPU-s]"),
    "gravity": Metric("gravity error [degrees]"),
    "scale": Metric("scale error [%]"),
    "f1": Metric("F-score at 1 cm, whole mesh with guesses", 0.94, 0.92, larger=True),
    "f2": Metric("F-score at 2 cm, whole mesh", 0.98, 0.96, larger=True),
    "f5": Metric("F-score at 5 cm, whole mesh", 0.99, 0.98, larger=True),
    "measured_f2": Metric("F-score at 2 cm, what was measured", larger=True),
    "measured_f5": Metric("F-score at 5 cm, what was measured", larger=True),
    "free": Metric("faces in free space [% of the area]", 0.3, 0.6),
    "away": Metric("faces over 5 cm from any surface [% of the area]"),
    "guessed": Metric("guessed faces [% of the area]"),
    "guess_error": Metric("guessed faces, median error [cm]", 3.0),
    "psnr": Metric("robots' images, full level, mean [dB]", 27.5, larger=True),
    "worst_psnr": Metric("worst of a place's 24 [dB]", None, 20.5, larger=True),
    "expected": Metric("expected minus true [dB], absolute", 1.5, 2.5),
    "rank": Metric("rank correlation of expected and true", 0.75, 0.65, larger=True),
    "trusted": Metric("images trusted, of 24", larger=True),
    "least_trusted": Metric("worst image that is trusted [dB]", None, 20.0, larger=True),
    "gap": Metric("splat-mesh gap at held-out cameras [mm]", 7.0),
    "gravity_sigma": Metric("gravity: error / sigma, RMS"),
    "scale_sigma": Metric("scale: error / sigma, RMS"),
    "failed": Metric("gates that fail"),
    "cpu": Metric("whole build [CPU-s]"),
}
RMS = ("gravity_sigma", "scale_sigma")
"""Metrics whose mean is a root mean square."""


@dataclass(frozen=True, eq=False)
class Built:
    """A place's bundle and the CPU-seconds of each stage, or why there is none."""

    bundle: Bundle | None
    cpu: Mapping[str, float]
    error: str = ""


def build(name: str, capture: Path, out: Path) -> Built:
    """Build a capture as a user does."""
    command = [str(Path(sys.executable).with_name("splatyard")), "build", str(capture), "--name", name]
    done = subprocess.run([*command, "--out", str(out)], cwd=ROOT, text=True, capture_output=True, check=False)
    folders = sorted((out / name).glob("[0-9]*"))
    if not folders:
        return Built(None, {}, " ".join(done.stderr.split())[-300:])
    runs = [json.loads(file.read_text()) for file in (out / ".work" / name).glob("*/.*.run.json")]
    return Built(Bundle.open(folders[-1]), {run["stage"]: run["cpu_seconds"] for run in runs})


def measure(built: Built, truth: Truth) -> tuple[dict[str, float], list[OffTrackImage]]:
    """All metrics of a place, and its images."""
    bundle = built.bundle
    assert bundle is not None
    compared = compare_with_truth(bundle, TOLERANCES, truth)
    poses = {camera.name: camera.world_from_camera for camera in bundle.cameras}
    mesh = bundle.mesh().transformed(rigid_truth_from_poses(poses, truth.poses))
    seen = exact_maps({stamp: (truth.cameras[stamp], pose) for stamp, pose in truth.poses.items()}, truth.mesh)
    whole = f_scores(
        replace(mesh, guessed=np.zeros(len(mesh.vertices), bool)),
        truth.mesh,
        seen,
        TOLERANCES,
        np.random.default_rng(0),
    )
    images = off_track_images(bundle.splat(), poses, bundle.coverage, truth)
    true = np.array([image.psnr for image in images])
    trust = np.clip([image.trust or 0.0 for image in images], 1e-9, 1 - 1e-9)
    expected = HALF_TRUST_DB + TRUST_WIDTH_DB * np.log(trust / (1 - trust))
    trusted = true[trust >= TRUSTED]
    frame, gates = bundle.manifest.frame, {gate.name: gate for gate in bundle.quality.gates}
    gap = gates["splat_mesh_depth"].value
    found = {
        "ate": 100 * compared.ate,
        "poses_cpu": built.cpu["poses"],
        "gravity": compared.gravity_error_deg,
        "scale": 100 * compared.scale_error,
        **{f"f{score.threshold * 100:.0f}": score.f for score in whole},
        "measured_f2": compared.f_score[0.02],
        "measured_f5": compared.f_score[0.05],
        **off_the_truth(mesh, truth, seen),
        "psnr": float(true.mean()),
        "worst_psnr": float(true.min()),
        "expected": abs(float((expected - true).mean())),
        "rank": float(np.corrcoef(rankdata(expected), rankdata(true))[0, 1]),
        "trusted": float(len(trusted)),
        "gap": np.nan if gap is None else 1000 * gap,
        "gravity_sigma": compared.gravity_error_deg / (frame.gravity_from.sigma or np.nan),
        "scale_sigma": compared.scale_error / (frame.scale_from.sigma or np.nan),
        "failed": float(len(bundle.quality.failed)),
        "cpu": sum(built.cpu.values()),
    }
    return found | ({"least_trusted": float(trusted.min())} if len(trusted) else {}), images


def off_the_truth(mesh: Mesh, truth: Truth, seen: Sequence) -> dict[str, float]:  # exact depth maps
    """Shares of the mesh's area away from all surfaces, in free space, and guessed [%]; the guesses' error [cm]."""
    points, face = sample_surface(mesh, SAMPLES, np.random.default_rng(0))
    distance = RayCaster(truth.mesh).distances(points)
    through = observe(points, mesh.face_normals()[face], seen, AWAY).seen_through >= VIEWS
    guessed = mesh.face_guessed()[face]
    return {
        "free": 100 * float(((distance > AWAY) & through).mean()),
        "away": 100 * float((distance > AWAY).mean()),
        "guessed": 100 * float(guessed.mean()),
        "guess_error": 100 * float(np.median(distance[guessed])) if guessed.any() else 0.0,
    }


def table(places: Mapping[str, Mapping[str, float]], refused: Mapping[str, str], date: str) -> str:
    """The section of the page: mean and worst of every metric, and what the places gave one by one."""
    lines = ["| metric | mean | worst | must be | |", "| --- | ---: | ---: | --- | --- |"]
    total = len(places) + len(refused)
    lines.append(f"| places built | {len(places)} of {total} | | all | {_verdict(not refused)} |")
    for name, metric in METRICS.items():
        mean, worst = summary(name, [place[name] for place in places.values() if name in place])
        sign, wanted = "≥" if metric.larger else "≤", [f"{v:g}" for v in (metric.mean, metric.worst) if v is not None]
        kept = (metric.mean is None or _reached(mean, metric.mean, metric)) and (
            metric.worst is None or _reached(worst, metric.worst, metric)
        )
        bar = f"{sign} {' / '.join(wanted)}" if wanted else ""
        lines.append(f"| {metric.title} | {mean:.3g} | {worst:.3g} | {bar} | {_verdict(kept) if wanted else ''} |")
    lines += ["", *(f"{name} was refused: {error}" for name, error in refused.items())]
    return "\n".join(lines).rstrip() + f"\n\n{HISTORY}\n| {date} | {_in_short(places, refused)} |\n"


HISTORY = (
    "| date | built | ATE | F 2 cm | free % | robots' dB | rank |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)


def _in_short(places: Mapping[str, Mapping[str, float]], refused: Mapping[str, str]) -> str:
    shown = [f"{len(places)} of {len(places) + len(refused)}"]
    for name in ("ate", "f2", "free", "psnr", "rank"):
        mean, worst = summary(name, [place[name] for place in places.values() if name in place])
        shown.append(f"{mean:.3g} / {worst:.3g}")
    return " | ".join(shown)


def summary(name: str, values: Sequence[float]) -> tuple[float, float]:
    """Mean and worst of a metric, NaN without values."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return np.nan, np.nan
    mean = np.sqrt((known**2).mean()) if name in RMS else known.mean()
    return float(mean), float(known.min() if METRICS[name].larger else known.max())


def _reached(value: float, wanted: float, metric: Metric) -> bool:
    return bool(value >= wanted if metric.larger else value <= wanted)


def _verdict(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def with_history(text: str, page: str) -> str:
    """The section with the lines of earlier days, newest last; a day's is replaced."""
    day = text.rstrip().rsplit("\n", 1)[1].split("|")[1].strip()
    old = re.findall(r"^\| (\d{4}-\d\d-\d\d) \|.*$", page, re.M)
    lines = [line for line in page.splitlines() if line[2:12] in old and line[2:12] != day]
    head, last = text.rstrip().rsplit("\n", 1)
    return "\n".join([head, *lines, last]) + "\n"


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.date.today())
    parser.add_argument("--places", type=int, default=COUNT)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--images", type=Path, metavar="DIR")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.keep or Path(scratch)
        places: dict[str, dict[str, float]] = {}
        refused: dict[str, str] = {}
        for number in range(options.places):
            room = draw(int(options.date.strftime("%Y%m%d")) * 100 + number)
            truth = write_room(room, out / "captures" / room.name)
            built = build(room.name, out / "captures" / room.name, out / "bundles")
            if built.bundle is None:
                refused[room.name] = built.error
                print(room.name, "refused:", built.error, flush=True)
                continue
            places[room.name], images = measure(built, truth)
            print(room.name, {name: float(f"{value:.4g}") for name, value in places[room.name].items()}, flush=True)
            if options.images:
                write_images(images, options.images / room.name)
    text = (
        f"{options.places} places drawn by the date (benchmarks/drawn_rooms.py): one to four rooms, or stairs"
        " and a landing; half of them with white walls; recorded by a phone that drifts by 1 to 4 cm. Each is built as"
        " a user does and compared with the exact surfaces. `make bench-places`"
    )
    page = f"## {SECTION}\n\n{text}\n\n{table(places, refused, options.date.isoformat())}"
    print(page)
    if options.write:
        update_page({SECTION: with_history(page, page_of(SECTION).read_text())})


if __name__ == "__main__":
    main()

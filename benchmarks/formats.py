"""Write the sample hall in every capture format, read it back, build it to a mesh, and compare with its exact truth.

    python benchmarks/formats.py                     all formats, in a temporary folder
    python benchmarks/formats.py polycam tum         some of them
    python benchmarks/formats.py --keep DIR          in DIR, and keep it; a format measured there is not measured again
    python benchmarks/formats.py --write             write the page in docs/benchmarks; all formats only

All formats show one lap of the sample's walk: 32 images of 480x360, or 160 where the format is a stream. Builds run
as `splatyard build --until mesh` does, with default settings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.format_metrics import Metrics, compare, fit, world_poses  # noqa: E402
from benchmarks.hall_room import HallRoom, hall_walk  # noqa: E402
from benchmarks.page import update_page  # noqa: E402
from benchmarks.truth import exact_maps  # noqa: E402
from pipeline import BuildRequest, build, plan  # noqa: E402
from pipeline.align.alignment import Alignment  # noqa: E402
from pipeline.align.params import scale_settings  # noqa: E402
from pipeline.capture.model import Capture  # noqa: E402
from pipeline.capture.params import SelectParams  # noqa: E402
from pipeline.geometry import Camera, Pose  # noqa: E402
from tests.capture.writers.every_format import FORMATS  # noqa: E402

CAMERA = Camera(480, 360, 363.0, 363.0, 241.2, 179.0)
FRAMES, PER_FRAME = 32, 5
HELD_OUT_EVERY = SelectParams().held_out_every
FILMS, FILM_RATE = ("video", "generated"), 15
SETTINGS = {"euroc": (f"capture.stride={PER_FRAME}",)}
DENSITY = {"lidar_slam": {"points": 160_000}}  # 1000 per square metre
HEIGHTS = ((None, 0.1), (1.5, 0.15))  # [m] stated for the video and its sigma; None is the true median
BARS = {"position": 0.1, "rotation": 0.01, "depth": 0.65, "gravity": 0.3, "scale": 0.5, "behind": 0.02}
READ = ("position", "rotation", "depth", "gravity", "scale")
ABOUT = """\
One lap through the sample hall, rendered with its painted surfaces and written in every format by the test writers,
then read and built to a mesh with default settings. `python benchmarks/formats.py`

Reading: largest errors after one fit of all poses (with scale if the format has none), of depth images at every known
pixel, of gravity in the world or in an image. Depth computed from a scanner's points is in brackets: the 95th
percentile of its error. Depth is stored in millimetres, which alone causes 0.5 mm.

Meshes are compared where two or more images saw the true surface, not counting held-out ones. Meshes of formats without
a scale are scaled to the truth first. `euroc` has grey images, `photos`, `video` and `generated` have unknown lenses,
videos and `stray_scanner` are compressed, `record3d` and `stray_scanner` distrust a third of their depth, and `kitti`'s
scanner sees nothing above 12 degrees and leaves gaps between its 64 lines."""


def write(kind: str, room: HallRoom, folder: Path) -> list[Pose]:
    """Write the walk in a format; returns the poses of its images."""
    dense = hall_walk(FRAMES * PER_FRAME)
    shutil.rmtree(folder, ignore_errors=True)
    writer: Any = FORMATS[kind].write
    poses = dense if kind in (*FILMS, "euroc") else dense[::PER_FRAME]
    written = writer(folder, room, poses, CAMERA, **DENSITY.get(kind, {}))
    if kind == "tum":  # its images are between the poses
        return written.poses
    return dense if kind in FILMS else dense[::PER_FRAME]


def true_poses(capture: Capture, written: list[Pose]) -> dict[str, Pose]:
    """World from camera by the frames' names."""
    if capture.kind in FILMS:
        written = [written[round(FILM_RATE * (frame.source_time or 0))] for frame in capture.frames]
    written = written[-len(capture.frames) :]  # Stray Scanner's players hide the first image
    return {frame.name: pose for frame, pose in zip(capture.frames, written, strict=True)}


def request(kind: str, out: Path, until: str, *scale: str) -> BuildRequest:
    """The build request of a user."""
    settings = (*scale, *SETTINGS.get(kind, ()))
    return BuildRequest(out / "sources" / kind, name=kind, out=out, settings=settings, until=until)


def folders(asked: BuildRequest) -> dict[str, Path]:
    """Result folder of each stage."""
    return {stage.name: stage.folder for stage in plan(asked).stages}


def measure(kind: str, room: HallRoom, out: Path) -> tuple[Metrics, list[str]]:
    """Write, read and build one format; for the video also rows of scales from stated camera heights."""
    written, asked = write(kind, room, out / "sources" / kind), request(kind, out, "mesh")
    build(asked)
    stages = folders(asked)
    exact = true_poses(Capture.load(stages["capture"]), written)
    heights = [height_row(out, exact, *height) for height in HEIGHTS] if kind == "video" else []
    walk = hall_walk(FRAMES * PER_FRAME)[::PER_FRAME]
    seen = exact_maps({str(i): (CAMERA, pose) for i, pose in enumerate(walk) if i % HELD_OUT_EVERY})
    return compare(stages, exact, room, seen, metric=FORMATS[kind].metric), heights


def height_row(out: Path, exact: dict[str, Pose], stated: float | None, sigma: float) -> str:
    """The video's scale from a stated camera height."""
    true = float(np.median([pose.translation[2] for pose in exact.values()]))
    height = true if stated is None else stated
    asked = request("video", out, "align", *scale_settings(camera_height=height, camera_height_sigma=sigma))
    build(asked)
    stages = folders(asked)
    error = abs(1 / fit(world_poses(stages), exact, with_scale=True).scale - 1)
    claimed = Alignment.load(stages["align"]).scale_sigma or float("nan")
    cells = [f"{height:.2f} ± {sigma:.2f} m", f"{true:.2f} m", f"{100 * error:.2f} %", f"{100 * claimed:.2f} %"]
    return f"| {' | '.join([*cells, cell(error / claimed, 1.0, '.2f')])} |"


def cell(value: float | None, most: float | None = None, form: str = ".3g") -> str:
    """A metric; bold if it misses its target."""
    if value is None:
        return "-"
    if 0 <= value < 0.001:
        return "< 0.001"
    return format(value, form) if most is None or value <= most else f"**{value:{form}}**"


def tables(measured: dict[str, Metrics], heights: list[str]) -> str:
    """The page in docs/benchmarks."""
    lines = [
        "| format | frames | positions [mm] | rotations [deg] | depth [mm] | gravity [deg] | scale [%] |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| must be ≤ | | {' | '.join(f'{BARS[name]:g}' for name in READ)} |",
    ]
    for kind, a in measured.items():
        cells = [cell(getattr(a, name), BARS[name]) for name in READ]
        cells[2] = f"({cell(a.surface)})" if a.surface is not None else cells[2]
        lines.append(f"| {kind} | {a.frames} | {' | '.join(cells)} |")
    lines += [
        "",
        "Builds:",
        "",
        "| format | depth by | F-score at 5 cm | below Polycam's | at 2 cm | gravity [deg] | scale [%] | CPU-s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| must be ≤ | | | {BARS['behind']:g} | | {BARS['gravity']:g} | {BARS['scale']:g} | |",
    ]
    for kind, a in measured.items():
        behind = measured["polycam"].f_score - a.f_score if "polycam" in measured else None
        cells = [a.backend, f"{a.f_score:.3f}", cell(behind, BARS["behind"], ".3f"), f"{a.fine:.3f}"]
        cells += [cell(a.built_gravity, BARS["gravity"]), cell(a.built_scale, BARS["scale"]), f"{a.cpu:.0f}"]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    if heights:
        head = ["", "The video's scale from `--camera-height` alone:", ""]
        head += ["| stated | true median | scale error | its stated sigma | in sigmas, ≤ 1 |"]
        lines += [*head, "| --- | ---: | ---: | ---: | ---: |", *heights]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", choices=[[], *FORMATS], help="default: all")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and keep it")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    out = options.keep or Path(tempfile.mkdtemp(prefix="splatyard-formats-"))
    room: HallRoom | None = None
    measured: dict[str, Metrics] = {}
    heights: list[str] = []
    for kind in options.formats or FORMATS:
        record = out / f"{kind}.json"
        if not record.exists():
            room = room or HallRoom()
            metrics, rows = measure(kind, room, out)
            record.write_text(json.dumps({"metrics": asdict(metrics), "heights": rows}))
            print(kind, metrics, *rows, sep="\n", flush=True)
        content = json.loads(record.read_text())
        measured[kind] = Metrics(**content["metrics"])
        heights += content["heights"]
    text = tables(measured, heights)
    print(text)
    if options.write and not options.formats:
        update_page({"Capture formats": f"## Capture formats\n\n{ABOUT}\n\n{text}\n"})
    if not options.keep:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()

"""Measure batches with the user's commands: planning, cached runs, and Prefect's overhead per stage.

    python benchmarks/batch.py                        all of it, in a temporary folder
    python benchmarks/batch.py --cards 300 --scenes 6 --real 2 --stage-seconds 0.1      quickly, to see that it works
    python benchmarks/batch.py --write                write the page in docs/benchmarks

Stages are stand-ins that compute for a given CPU time (benchmarks/stand_ins), since batches are measured and not they;
once they are the real ones, on the tests' small room.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.machine import memory_of  # noqa: E402
from pipeline.running.batch import build_scene, plan_scene  # noqa: E402
from pipeline.running.cards import find_cards  # noqa: E402
from pipeline.running.records import Scene, load_scenes  # noqa: E402
from pipeline.running.stages import STAGES  # noqa: E402
from tests.synthetic import Room, walk, write_polycam  # noqa: E402

WORKERS = 2
FLOW_SCENES = 20
LOOK_SECONDS = 0.2
TINY_FRAMES = 18
TINY = """\
recipe:
  mesh: {voxel_size: 0.05, collision_triangles: 4000}
  splat: {gaussians: 1500, iterations: 40, sim_gaussians: 800, sim_iterations: 5}
"""
"""Recipe of a card, as in the tests' build of the room: stages do next to nothing."""
COMMAND = [sys.executable, "-c", "import sys; from flows.cli import main; sys.exit(main())", "batch"]


@dataclass(frozen=True)
class Run:
    """Cost of a command.

    Attributes:
        seconds: Wall time [s].
        memory: The most that it and its processes had at once [bytes]; what they share is counted in each.
    """

    seconds: float
    memory: int


class Lab:
    """A folder with cards, and the environment in which their stages run.

    Prefect's home is next to the folder and shared by all labs, as by a user's batches: the first creates its database.

    Args:
        folder: Root folder; recreated.
        scenes: So many cards, each with a capture of its own: three images of 64x48, or a scan of the tests' room.
        stage_seconds: CPU time of a stand-in [s]; None runs the real stages, on scans of the room.
    """

    def __init__(self, folder: Path, scenes: int, stage_seconds: float | None = 0.0) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(folder.parent / "prefect"),
            "PYTHONPATH": str(ROOT),
        }
        (folder / "cards").mkdir(parents=True)
        if stage_seconds is None:
            self._write_rooms(scenes)
            return
        self.environment |= {
            "PYTHONPATH": f"{ROOT / 'benchmarks' / 'stand_ins'}:{ROOT}",
            "STAND_IN_LAB": str(folder),
            "STAND_IN_SECONDS": str(stage_seconds),
            "FAKE_LAB": str(folder),
        }
        image = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(image, "JPEG")
        for number in range(scenes):
            scan = folder / "cards" / f"scan{number:05}"
            scan.mkdir()
            for shot in range(3):  # readers ignore data after a JPEG's end
                (scan / f"{shot:04}.jpg").write_bytes(image.getvalue() + f"{number} {shot}".encode())
            text = f"source: {{path: {scan.name}, licence: CC-BY-4.0}}\ndescription: A room.\n"
            (folder / "cards" / f"scene{number:05}.yaml").write_text(text)

    def _write_rooms(self, scenes: int) -> None:
        """Use the same scan for all scenes; each still has its own results."""
        first = self.folder / "cards" / "scan00000"
        write_polycam(first, Room.make(), walk(TINY_FRAMES))
        for number in range(scenes):
            scan = first.with_name(f"scan{number:05}")
            if number:
                shutil.copytree(first, scan)
            text = f"source: {{path: {scan.name}, licence: CC0-1.0}}\ndescription: A room.\n{TINY}"
            (self.folder / "cards" / f"scene{number:05}.yaml").write_text(text)

    @property
    def pattern(self) -> str:
        """Paths of all cards."""
        return str(self.folder / "cards" / "*.yaml")

    def batch(self, *options: str) -> Run:
        """Run `splatyard scene batch` over all cards.

        Raises:
            SystemExit: When it fails.
        """
        command = [*COMMAND, self.pattern, "--out", str(self.folder / "bundles"), *options]
        started, memory = time.monotonic(), 0
        with (self.folder / "output.txt").open("w+") as output:
            process = psutil.Popen(command, env=self.environment, stdout=output, stderr=subprocess.STDOUT)
            while process.poll() is None:
                memory = max(memory, memory_of(process))
                time.sleep(LOOK_SECONDS)
            seconds = time.monotonic() - started
            if process.returncode:
                output.seek(0)
                raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output.read()[-3000:]}")
        return Run(seconds, memory)

    def bare(self, workers: int) -> float:
        """Build all cards without Prefect, in processes that take the next card when free; wall time [s].

        Raises:
            SystemExit: When a scene is not built.
        """
        os.environ.update(self.environment)  # inherited by started processes
        started = time.monotonic()
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            built = pool.map(partial(_build_bare, self.folder / "bare"), find_cards([self.pattern]))
            if bad := [scene for scene in built if scene.state != "built"]:
                raise SystemExit(f"{bad[0].name}: {bad[0].reason}")
        return time.monotonic() - started

    def gaps(self) -> list[float]:
        """Times between the end of a stage and the start of the scene's next one, since the last call [s]."""
        log = self.folder / "times.log"
        found = gaps(log.read_text())
        log.unlink()
        return found


def _build_bare(out: Path, card: Path) -> Scene:
    return build_scene(plan_scene(card, out))


def gaps(log: str) -> list[float]:
    """Times between the stages of a scene, from lines `<scene> <begin> <end>` [s]."""
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for scene, begin, end in map(str.split, log.splitlines()):
        times[scene].append((float(begin), float(end)))
    return [after[0] - before[1] for stages in times.values() for before, after in pairwise(stages)]


def planning(folder: Path, cards: int) -> list[Row]:
    """A dry run over many cards."""
    run = Lab(folder, cards).batch("--dry-run")
    return [
        Row(f"{cards:,} cards planned (`--dry-run`)", run.seconds, "s", "<=", 30),
        Row("peak memory of all its processes", run.memory / 2**30, "GiB", "<=", 1),
    ]


def overhead(folder: Path, scenes: int) -> list[Row]:
    """Prefect's overhead per stage: the time between two stages of a scene, with and without Prefect."""
    lab = Lab(folder, scenes)
    lab.bare(1)
    without = 1e3 * statistics.median(lab.gaps())
    lab.batch("--workers", "1")
    between = 1e3 * statistics.median(lab.gaps())
    return [
        Row("Prefect's overhead per stage, median", between - without, "ms", "<=", 150),
        Row("time between two stages without Prefect, median", without, "ms"),
    ]


def throughput(folder: Path, scenes: int, stage_seconds: float) -> list[Row]:
    """Tiny scenes with the command and with bare stages, then once more fully cached."""
    lab = Lab(folder, scenes, stage_seconds)
    bare = lab.bare(WORKERS)
    run = lab.batch("--workers", str(WORKERS))
    built = [scene for scene in load_scenes(folder / "bundles") if scene.state == "built"]
    bundles = len(list((folder / "bundles").glob("scene*/1.0.0/bundle.json")))
    again = lab.batch("--workers", str(WORKERS))
    return [
        _share(f"{scenes} scenes, {WORKERS} workers", bare, run),
        Row("time of the command", run.seconds, "s"),
        Row("time of the bare stages", bare, "s"),
        Row("scenes lost", scenes - min(bundles, len(built)), "", "<=", 0),
        Row("the same again, all cached, per scene", 1e3 * again.seconds / scenes, "ms", "<=", 50),
    ]


def real_throughput(folder: Path, scenes: int) -> list[Row]:
    """The same with the real stages."""
    lab = Lab(folder, scenes, None)
    bare = lab.bare(WORKERS)
    run = lab.batch("--workers", str(WORKERS))
    return [
        _share(f"{scenes} tiny scans through the real stages", bare, run),
        Row("time of the bare stages", bare, "s"),
    ]


def _share(what: str, bare: float, run: Run) -> Row:
    return Row(f"{what}: throughput relative to the bare stages", 100 * bare / run.seconds, "%", ">=", 90)


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", type=int, default=10_000, metavar="N", help="to plan (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=200, metavar="N", help="to build (default: %(default)s)")
    parser.add_argument(
        "--stage-seconds", type=float, default=0.5, metavar="S", help="CPU time of a stage (default: %(default)s)"
    )
    parser.add_argument(
        "--real", type=int, default=20, metavar="N", help="to build by the real stages (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="splatyard-batch-") as name:
        folder = Path(name)
        rows = planning(folder / "plan", options.cards)
        rows += overhead(folder / "overhead", min(FLOW_SCENES, options.scenes))
        rows += throughput(folder / "throughput", options.scenes, options.stage_seconds)
        rows += real_throughput(folder / "real", options.real)
    text = (
        "`splatyard scene batch` as users run it, with its own Prefect server on SQLite. Captures are three images of "
        "64x48. "
        f"Stages are stand-ins: each of a scene's {len(STAGES)} computes for {options.stage_seconds:g} CPU-seconds to "
        "measure throughput, and for none to measure the time between stages. The bare stages run in as many processes "
        "as the command has workers. Start and end of server and processes are included, creating Prefect's database "
        f"(7 s, once) is not. The real stages build small bundles from {TINY_FRAMES} frames of a synthetic room."
    )
    written = section("Batches", "python benchmarks/batch.py", text, rows)
    print(written)
    if options.write:
        update_page({"Batches": written})


if __name__ == "__main__":
    main()

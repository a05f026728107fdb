"""Cost of 1 000 and 100 000 scenes, from the run records of real builds.

Usage:
    python benchmarks/scale.py bundles/.work/hall bundles/.work/kitchen           print docs/benchmarks/notes-scale.md
    python benchmarks/scale.py bundles/.work/* --core-hour 0.03 --gpu-hour 1.8    with one's own prices
    python benchmarks/scale.py bundles/.work/* --write                            put the tables into that page
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.scale_queue import Load, Outcome, Queue, SceneCost, StageCost, Yard  # noqa: E402
from pipeline.running.stages import STAGES  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks" / "notes-scale.md"
CASES = (
    (Load(1_000), Yard(16)),
    (Load(1_000), Yard(64)),
    (Load(1_000), Yard(64, failure_hours=2)),
    (Load(1_000, scenes_per_training=100), Yard(64, gpus=1)),
    (Load(1_000, scenes_per_training=100), Yard(64, gpus=8)),
    (Load(4_000), Yard(256)),
    (Load(4_000), Yard(1024)),
    (Load(4_000), Yard(1024, bandwidth=4e9)),
    (Load(100_000), Yard(1024, bandwidth=4e9)),
    (Load(2_000, per_day=1000), Yard(4)),
    (Load(2_000, per_day=1000), Yard(8)),
)


@dataclass(frozen=True)
class Prices:
    """Machine prices, in any currency.

    Attributes:
        core_hour: One core for an hour.
        gpu_hour: One GPU for an hour.
        gigabyte_month: 10^9 bytes for a month.
    """

    core_hour: float = 0.04
    gpu_hour: float = 2.0
    gigabyte_month: float = 0.05


def read_scene(work: Path) -> SceneCost:
    """Cost of the build with this work folder; its bundle is next to the work folder's parent.

    Raises:
        SystemExit: When a stage has no run record.
    """
    records = [*work.glob("*/.*.run.json"), *(work.parents[1] / work.name).glob(".*.run.json")]
    newest_last = sorted(records, key=lambda path: path.stat().st_mtime)
    runs = {run["stage"]: run for run in (json.loads(path.read_text()) for path in newest_last)}
    if missing := [stage.name for stage in STAGES if stage.name not in runs]:
        raise SystemExit(f"{work}: not the work folder of a complete build, no record of {', '.join(missing)}")
    ordered = [runs[stage.name] for stage in STAGES]
    return SceneCost(
        work.name,
        tuple(StageCost(run["stage"], run["cpu_seconds"], run["input_bytes"], run["result_bytes"]) for run in ordered),
    )


def written(scene: SceneCost, *, bundle: bool) -> int:
    """Bytes of a scene's bundle, or of its work folder."""
    return sum(stage.written for stage in scene.stages if (stage.name == "bundle") == bundle)


def measured_table(scenes: Sequence[SceneCost]) -> list[str]:
    """One row per stage: CPU time and bytes of every build."""
    rows = []
    for runs in zip(*(scene.stages for scene in scenes), strict=True):
        read = statistics.mean(run.read for run in runs) / 1e6
        made = statistics.mean(run.written for run in runs) / 1e6
        rows.append([runs[0].name, *(f"{run.cpu_seconds:.1f}" for run in runs), f"{read:.1f}", f"{made:.1f}"])
    moved = [f"{sum(float(row[at]) for row in rows):.0f}" for at in (-2, -1)]
    rows.append(["**all**", *(f"{scene.cpu_seconds:.0f}" for scene in scenes), *moved])
    return table(["stage", *(f"{scene.name} [CPU-s]" for scene in scenes), "reads [MB]", "writes [MB]"], rows)


def cost_table(scenes: Sequence[SceneCost], prices: Prices) -> list[str]:
    """One row per resource: for one scene, 1 000 and 100 000, with all machines busy."""
    core_hours = statistics.mean(scene.cpu_seconds for scene in scenes) / 3600
    work = statistics.mean(written(scene, bundle=False) for scene in scenes) / 1e9
    bundle = statistics.mean(written(scene, bundle=True) for scene in scenes) / 1e9
    moved = statistics.mean(scene.moved for scene in scenes) / 1e9
    amounts = {
        "CPU [core-hours]": core_hours,
        "work folder [GB]": work,
        "bundles [GB]": bundle,
        "to and from the shared folder [GB]": moved,
        "money: CPU": core_hours * prices.core_hour,
        "money: bundles, a month": bundle * prices.gigabyte_month,
        "money: work folder, a month": work * prices.gigabyte_month,
    }
    counts = (1, 1_000, 100_000)
    rows = [[name, *(number(amount * count) for count in counts)] for name, amount in amounts.items()]
    return table(["", *(f"{count:,} scenes" if count > 1 else "1 scene" for count in counts)], rows)


def number(value: float) -> str:
    """Three significant digits without exponents."""
    return f"{float(f'{value:.3g}'):,g}" if value < 1e5 else f"{float(f'{value:.3g}'):,.0f}"


def queue_row(load: Load, yard: Yard, outcome: Outcome, prices: Prices) -> list[str]:
    """One simulated case."""
    coming = "at once" if load.per_day is None else f"{load.per_day:g} a day"
    rent = outcome.hours * (yard.cores * prices.core_hour + yard.gpus * prices.gpu_hour)
    return [
        f"{load.scenes:,}, {coming}",
        f"{yard.cores} cores" + (f", {yard.gpus} GPU" if yard.gpus else ""),
        f"{yard.bandwidth / 1e9:g} GB/s",
        f"{yard.failure_hours:g} h",
        f"{outcome.hours:.1f}",
        *(f"{share:.0%}" for share in outcome.busy.values()),
        outcome.bottleneck,
        " / ".join(f"{60 * hours:.0f}" for hours in outcome.took) if load.per_day else "-",
        f"{outcome.failures}, {outcome.lost_hours:.1f}",
        f"{rent:,.0f}",
    ]


QUEUE_HEAD = (
    "scenes",
    "machines",
    "shared folder",
    "a worker lives",
    "hours",
    "CPU busy",
    "GPU busy",
    "folder busy",
    "bottleneck",
    "scan to bundle, median / 95 % [min]",
    "workers lost, core-hours with them",
    "rent",
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown; all columns but the first are numbers."""
    line = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, line, *rows)]


def write_part(name: str, lines: Sequence[str], page: Path = PAGE) -> None:
    """Replace the text between `<!-- name -->` and `<!-- end -->`.

    Raises:
        SystemExit: When the page lacks the markers.
    """
    text, places = re.subn(
        rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n" + "\n".join(lines) + f"\n\n{found[2]}",
        page.read_text(),
        flags=re.DOTALL,
    )
    if places != 1:
        raise SystemExit(f"{page}: one place <!-- {name} --> is needed, there are {places}")
    page.write_text(text)


def main() -> None:
    """Read, count, simulate, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("work", type=Path, nargs="+", help="work folders of complete builds")
    options.add_argument("--core-hour", type=float, default=Prices.core_hour)
    options.add_argument("--gpu-hour", type=float, default=Prices.gpu_hour)
    options.add_argument("--gigabyte-month", type=float, default=Prices.gigabyte_month)
    options.add_argument("--write", action="store_true", help="put the tables into that page")
    given = options.parse_args()
    prices = Prices(given.core_hour, given.gpu_hour, given.gigabyte_month)
    scenes = [read_scene(work.resolve()) for work in given.work]
    parts = {
        "measured": measured_table(scenes),
        "cost": cost_table(scenes, prices),
        "queue": table(
            QUEUE_HEAD,
            [queue_row(load, yard, Queue(scenes, load, yard).run(), prices) for load, yard in CASES],
        ),
    }
    for name, lines in parts.items():
        print("\n".join(lines), end="\n\n")
        if given.write:
            write_part(name, lines)


if __name__ == "__main__":
    main()

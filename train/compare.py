"""What differs between runs: what they were, and how they went."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

from train.charts import ticks
from train.preset import flat_values
from train.results import FILE, read_results
from train.run import Run
from train.statistics import WINDOW, Interval

FIGURES, OUTCOME = ("success", "reward", "length"), "outcome/"
"""Of a curve's rows, that tell how it went in the end; outcomes by their beginning."""
REACHED = (0.5, 0.8, 0.9)
"""Shares of success; how many steps a run took to come to them is shown."""
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 360, 50, 20, 20, 60
"""Of the picture, and its margins."""
COLORS = ("#1b6ca8", "#d1495b", "#3a7d44", "#7a5195", "#b5651d", "#444444")


def settings(run: Run) -> dict[str, str]:
    """All that a run was, by name."""
    record = run.record
    scenes = [f"{lock.reference} ({lock.sha256[:12]})" for lock in run.locks]
    return {
        **{key: str(value) for key, value in sorted(flat_values(run.preset).items())},
        "scenes": ", ".join(scenes),
        "seed": str(record.seed),
        "device": record.device,
        "processes": str(record.processes),
        "commit": record.commit,
        **{f"package {name}": version for name, version in record.packages.items()},
        **{f"machine {name}": value for name, value in record.machine.items()},
    }


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """By name, what isn't alike in all of them: a text for each run, "-" where it has none."""
    all_of = [settings(run) for run in runs]
    names = dict.fromkeys(itertools.chain.from_iterable(all_of))
    rows = {name: [one.get(name, "-") for one in all_of] for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def figures(run: Run) -> dict[str, str]:
    """How it went, by name: where its curve ends, when it got good, what was evaluated."""
    rows = run.curve.read()
    if not rows:
        return {"iterations": "0"}
    last = rows[-1]
    shown = {
        "iterations": f"{last['iteration']:.0f}",
        "steps": f"{last['steps']:.0f}",
        "minutes": f"{last['seconds'] / 60:.1f}",
    }
    for name in last:
        if name in FIGURES or name.startswith(OUTCOME):
            shown[f"{name.removeprefix(OUTCOME)}, last {WINDOW} episodes"] = f"{last[name]:.3g}"
    many = [row for row in rows if row.get("episodes", WINDOW) >= WINDOW]  # the very first to end are the quickest
    for share in REACHED:
        steps = next((row["steps"] for row in many if row.get("success", 0) >= share), None)
        shown[f"steps to {share:.0%} success"] = "-" if steps is None else f"{steps:.0f}"
    return shown | {f"evaluated, {name}": str(share) for name, share in evaluated(run).items()}


def evaluated(run: Run) -> dict[str, Interval]:
    """Success in the run's evaluation, by what was done to what it sees; empty where there was none.

    Raises:
        TrainError: When the evaluation is damaged.
    """
    if not (run.folder / FILE).exists():
        return {}
    return {name: one.success() for name, one in read_results(run.folder / FILE).labelled()}


def picture(runs: Sequence[Run]) -> str:
    """Success against steps of all runs, an SVG that stands alone."""
    curves = [[(row["steps"], row["success"]) for row in run.curve.read() if "success" in row] for run in runs]
    across = ticks(0, max((x for curve in curves for x, _ in curve), default=1), 6)
    up = ticks(0, 1, 5)

    def place(x: float, y: float) -> tuple[float, float]:
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + x / across[-1] * width, 1), round(TOP + (1 - y) * height, 1)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for y in up:
        left, down = place(0, y)
        parts.append(f'<path d="M{left} {down}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 8}" y="{down + 4}" text-anchor="end">{y:.0%}</text>')
    for x in across:
        right, down = place(x, 0)
        parts.append(f'<text x="{right}" y="{down + 18}" text-anchor="middle">{x:,.0f}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 6}">success of the last {WINDOW} episodes, against steps</text>')
    width = (WIDTH - LEFT) / len(runs)
    for number, (run, curve) in enumerate(zip(runs, curves, strict=True)):
        color = COLORS[number % len(COLORS)]
        if curve:
            line = "L".join(f"{x} {y}" for x, y in itertools.starmap(place, curve))
            parts.append(f'<path d="M{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(
            f'<text x="{LEFT + number * width:.0f}" y="{HEIGHT - 10}" fill="{color}">{escape(run.name)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">{"".join(parts)}</svg>\n'
    )

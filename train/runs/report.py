"""The report of a run: how it learned, how good it is, where it goes; one HTML file that opens anywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.io.files import counted
from pipeline.io.pages import render
from pipeline.types import I32, Floats, Mask
from train.files import write_atomically
from train.preset import flat_values
from train.runs.results import WINDOW, Episode, Evaluation, FloorPlan, Interval, Results, TestScene
from train.runs.run import Run
from train.runs.scores import KINDS, PREFIX, VALIDATION, gap, own_success, scores

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 34
"""Margins for the axes' labels."""
BAR = 160
CURVE_COLORS = ("#2f7ed8", "#d1495b", "#3a7d44", "#7a5195", "#b5651d", "#444444")


def line_chart(
    title: str,
    curves: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    across: str,
    bounds: tuple[float, float] | None = None,
    mark: tuple[float, Interval] | None = None,
) -> str:
    """Draw curves, each with its name and its points (x, y) (SVG); several have a legend.

    `across` is the label of the x axis, `bounds` are those of y, by default those of the points; `mark` is x and a rate
    with its interval, shown next to the curves.
    """
    points = [point for _, curve in curves for point in curve] or [(0.0, 0.0)]
    xs, ys = [x for x, _ in points] + ([mark[0]] if mark else []), [y for _, y in points]
    x_ticks = ticks(min(xs), max(xs))
    y_ticks = ticks(*(bounds or (min(ys), max(ys))))

    def pixel(x: float, y: float) -> tuple[float, float]:
        right = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        x, y = LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [f'<text font-weight="600" x="{LEFT}" y="14">{escape(title)}</text>']
    for y in y_ticks:
        left, down = pixel(x_ticks[0], y)
        parts.append(f'<path stroke="#888" stroke-opacity=".3" d="M{left} {down}H{WIDTH - RIGHT}"/>')
        text = number_text(y, y_ticks[1] - y_ticks[0])
        parts.append(f'<text fill="#888" x="{left - 6}" y="{down + 4}" text-anchor="end">{text}</text>')
    for x in x_ticks:
        right, down = pixel(x, y_ticks[0])
        text = number_text(x, x_ticks[1] - x_ticks[0])
        parts.append(f'<text fill="#888" x="{right}" y="{down + 14}" text-anchor="middle">{text}</text>')
    parts.append(f'<text fill="#888" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(across)}</text>')
    for number, (name, curve) in enumerate(curves):
        color = CURVE_COLORS[number % len(CURVE_COLORS)]
        line = "L".join(f"{x} {y}" for x, y in itertools.starmap(pixel, curve))
        parts += [f'<path class="line" fill="none" stroke="{color}" stroke-width="1.6" d="M{line}"/>'] * bool(curve)
        if len(curves) > 1:
            parts.append(f'<text fill="{color}" x="{LEFT + 6}" y="{TOP + 12 * (number + 1)}">{escape(name)}</text>')
    if mark:
        x, middle = pixel(mark[0], mark[1].value)
        low, high = pixel(mark[0], mark[1].low)[1], pixel(mark[0], mark[1].high)[1]
        about = escape(f"evaluated: {mark[1]}")
        parts.append(
            f'<g class="mark"><title>{about}</title><path d="M{x} {low}V{high}m-4 0h8M{x - 4} {low}h8"/>'
            f'<circle cx="{x}" cy="{middle}" r="3.5"/></g>'
        )
    return svg("chart", f"0 0 {WIDTH} {HEIGHT}", title, "".join(parts))


def svg(kind: str, box: str, label: str, content: str) -> str:
    """A drawing of a kind, with its box "x y width height"; the label says what it shows."""
    return (
        f'<svg class="{kind}" xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" '
        f'aria-label="{escape(label)}" font-family="sans-serif" font-size="11" fill="currentColor">{content}</svg>'
    )


def share_bar(share: Interval) -> str:
    """Draw a rate as a bar with its interval (SVG)."""
    low, middle, high = (round(BAR * value, 1) for value in (share.low, share.value, share.high))
    axis = f'<path class="grid" d="M0 7H{BAR}M0 2v10M{BAR} 2v10"/><rect x="0" y="4" width="{middle}" height="6"/>'
    interval = f'<path class="interval" d="M{low} 7H{high}M{low} 3v8M{high} 3v8"/>'
    return svg("bar", f"-2 0 {BAR + 4} 14", str(share), axis + interval)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that enclose a range, about `count` of them, at least two."""
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, low + (abs(low) or 1) / 2
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def number_text(value: float, step: float) -> str:
    """Format a tick at a given distance to its neighbours, with k for thousands or M for millions."""
    unit, name = next(((unit, name) for unit, name in ((1e6, "M"), (1e3, "k")) if abs(value) >= unit), (1.0, ""))
    digits = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return f"{value / unit:.{digits}f}{name}"


PIXELS = 100
"""Pixels per metre of a map, unless its sides would get too long."""
RIM = 0.3
"""Margin around the floor [m]."""
TOLERANCE = 0.01
"""Largest deviation of a drawn path from the real one [m]."""


def episode_map(
    plan: FloorPlan,
    episodes: Sequence[Episode],
    endings: Sequence[str],
    label: str,
    *,
    held_out: bool,
    side: float = np.inf,
) -> str:
    """Draw a map (SVG), x to the right and y up: floor, held-out blocks on request, goals, and a path per episode.

    Paths have the class "ended-<number>", the index of what ended the episode, for the page's style. `endings` is all
    that ends episodes, `label` the alternative text, `side` the largest extent [px]: marks have one size on any map.
    """
    walkable = plan.marked(plan.walkable)
    cells = np.argwhere(walkable)
    corners = [np.array(plan.origin) + cells.min(0) * plan.cell, np.array(plan.origin) + (cells.max(0) + 1) * plan.cell]
    paths = [np.array(episode.path) for episode in episodes]
    corners += [path.min(0) for path in paths] + [path.max(0) for path in paths]
    sheet = _Sheet(np.min(corners, 0) - RIM, np.max(corners, 0) + RIM, side)
    goals = sorted({episode.goal for episode in episodes if episode.goal})
    parts = [
        f'<path class="walkable" d="{sheet.cells(plan, walkable)}"/>',
        f'<path class="drivable" d="{sheet.cells(plan, plan.marked(plan.drivable))}"/>',
        *([f'<path class="held-out" d="{sheet.cells(plan, plan.marked(plan.held_out))}"/>'] if held_out else []),
        *(
            sheet.episode(episode, path, endings.index(episode.ended_by))
            for episode, path in zip(episodes, paths, strict=True)
        ),
        *(sheet.goal(goal) for goal in goals),
        sheet.scale(),
    ]
    return svg("map", f"0 0 {sheet.size[0]} {sheet.size[1]}", label, "\n".join(parts))


class _Sheet:
    """Maps positions in the world to the drawing, whose y points down and whose sides have at most some length."""

    def __init__(self, low: Floats, high: Floats, side: float) -> None:
        self._low, self._high = low, high
        self._pixels = min(PIXELS, side / float((high - low).max()))
        width, height = np.ceil((high - low) * self._pixels).astype(int)
        self.size = (int(width), int(height))

    def points(self, xy: Floats) -> I32:
        """Pixels (N, 2) of positions (N, 2)."""
        away = np.column_stack([xy[:, 0] - self._low[0], self._high[1] - xy[:, 1]])
        return (away * self._pixels).round().astype(np.int32)

    def cells(self, plan: FloorPlan, marked: Mask) -> str:
        """SVG path around marked cells (X, Y): a rectangle for each run of them along y."""
        edges = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        first, last = np.argwhere(edges == 1), np.argwhere(edges == -1)
        low = self.points(np.array(plan.origin) + first * plan.cell)
        high = self.points(np.array(plan.origin) + (last + np.array([1, 0])) * plan.cell)
        runs = zip(low.tolist(), high.tolist(), strict=True)
        return "".join(f"M{x0} {y0}H{x1}V{y1}H{x0}z" for (x0, y0), (x1, y1) in runs)

    def episode(self, episode: Episode, path: Floats, ending: int) -> str:
        """Path of an episode: a ring at its start, and a disc at its end for success, else a cross."""
        kept = cv2.approxPolyDP(path.astype(np.float32)[:, None], TOLERANCE, closed=False)
        points = self.points(np.asarray(kept[:, 0], np.float32))
        line = "L".join(f"{x} {y}" for x, y in points.tolist())
        (x0, y0), (x1, y1) = points[0].tolist(), points[-1].tolist()
        end = f'<circle class="end" cx="{x1}" cy="{y1}" r="4"/>'
        if not episode.success:
            end = f'<path d="M{x1 - 4} {y1 - 4}l8 8m0 -8l-8 8"/>'
        about = f"{episode.ended_by} after {episode.steps} steps, reward {episode.reward:.2f}"
        about += "".join(f", {name}" for name, holds in episode.outcomes.items() if holds)
        title = escape(f"robot {episode.env}, seed {episode.seed}: {about}")
        return (
            f'<g class="track ended-{ending}"><title>{title}</title>'
            f'<path d="M{line}"/><circle cx="{x0}" cy="{y0}" r="3"/>{end}</g>'
        )

    def goal(self, xy: tuple[float, float]) -> str:
        """A diamond at a goal."""
        x, y = self.points(np.array([xy]))[0].tolist()
        return f'<path class="goal" d="M{x} {y - 10}l10 10l-10 10l-10 -10z"><title>goal</title></path>'

    def scale(self) -> str:
        """Scale bar of a metre."""
        y, metre = self.size[1] - 8, round(self._pixels)
        return f'<path class="scale" d="M10 {y}h{metre}"/><text class="scale" x="{14 + metre}" y="{y + 4}">1 m</text>'


FILE = "report.html"

LABELS = {
    "none": "original images",
    "shuffled": "shuffled images",
    "frozen": "frozen images",
    "black": "black images",
    "blind": "trained blind",
    "teacher": "its teacher",
    "validation": "places held out of training",
    "test": "places to test in",
}
ABOUT = {
    "none": "The policy acts by its mean, without exploration; its camera is not randomised.",
    "shuffled": "In every step each robot gets the image of another robot, drawn again: right images, wrong robots. "
    "The remaining success doesn't come from vision.",
    "frozen": "The first image of an episode stays until its end: the robot knows where it began, and never sees "
    "where it went.",
    "black": "All images are zeros, which training never showed.",
    "blind": "Another policy, trained in the same way without a camera, in the same episodes: what can be achieved "
    "without vision.",
    "teacher": "Whom the policy learned to imitate, in the same episodes: the difference is what imitation lost.",
    "validation": "The unmodified policy in places that it never trained in; checkpoints are compared by them.",
    "test": "The unmodified policy in places that it never trained in, and that nothing was decided by.",
}
"""Description of each row of the table."""
CURVES = (
    ("success", f"success, last {WINDOW} episodes"),
    ("reward", "reward of an episode"),
    ("length", "steps an episode"),
)
ACROSS = {"steps": "steps of training", "iteration": "iterations of training"}
"""Labels of the curves' axes."""
POINTS = 400
"""Largest number of points of a curve."""
MAX_VIDEOS = 6
COLORS = ("#d55e00", "#56b4e9", "#cc79a7", "#e69f00", "#8a8a8a")
DONE = "#009e73"
"""Okabe and Ito's, which colour-blind people tell apart."""


def write_report(run: Run, results: Results) -> Path:
    """Write `report.html` in the run's folder, atomically; it links the folder's videos.

    Raises:
        TrainError: When there is no room or no permission, or the run's curve is damaged.
    """
    videos = sorted(path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*.mp4"))[:MAX_VIDEOS]
    page = report_page(run, results, run.curve.read(), videos)
    write_atomically(run.folder / FILE, page.encode())
    return run.folder / FILE


def report_page(run: Run, results: Results, curve: Sequence[dict[str, float]], videos: Sequence[str]) -> str:
    """HTML of the page.

    The curve has a row for each iteration; videos are paths relative to the page.
    """
    record, endings = run.record, _endings(results)
    about_run = {
        "started": record.started.isoformat(),
        "seed": record.seed,
        "device": f"{record.device}, {counted(record.processes, 'process')}",
        "commit": record.commit or "outside of a checkout",
        "checkpoint": f"{results.checkpoint}, sha256 {results.checkpoint_sha256}",
        **{f"trained in {lock.reference}": f"sha256 {lock.sha256}, gates {lock.gates}" for lock in run.locks},
        **{f"evaluated in {scene.reference}": f"sha256 {scene.sha256}" for scene in results.all_scenes},
        **record.machine,
    }

    def scene_map(scene: TestScene, evaluation: Evaluation, caption: str) -> str:
        episodes, held_out = evaluation.of(scene.reference), scene.starts == "held_out"
        return episode_map(scene.plan, episodes, [*endings], f"{caption}, in {scene.reference}", held_out=held_out)

    return render(
        "train",
        "report.html",
        title=f"{results.run}: {results.task}",
        results=results,
        lines=results.lines(),
        labels=LABELS,
        about=ABOUT,
        charts=_curves(run, results, curve),
        warning=_warning(results, curve),
        endings=endings,
        share_bar=share_bar,
        scene_map=scene_map,
        videos=videos,
        tables={"Record": about_run, "Versions": record.packages, "Preset": flat_values(record.preset)},
    )


class Ending(NamedTuple):
    """What ended episodes: whether that is a success, and the colour of their paths."""

    success: bool
    color: str


def _endings(results: Results) -> dict[str, Ending]:
    """What ended episodes, success first."""
    found = {one.ended_by: one.success for _, evaluation in results.labelled() for one in evaluation.episodes}
    others = itertools.cycle(COLORS)
    names = sorted(found, key=lambda name: (not found[name], name))
    return {name: Ending(found[name], DONE if found[name] else next(others)) for name in names}


def _curves(run: Run, results: Results, curve: Sequence[dict[str, float]]) -> list[str]:
    axis = run.preset.axis
    losses = sorted({name for row in curve for name in row if name.startswith("loss/")})
    at = next((row[axis] for row in curve if row["iteration"] == results.iteration), 0.0)
    charts = []
    for name, title in (*CURVES, *((name, name.replace("/", ": ")) for name in losses)):
        points = [(row[axis], row[name]) for row in curve if name in row]
        if points:
            bounds, mark = ((0, 1), (at, results.evaluations[0].success())) if name == "success" else (None, None)
            thin = points[:: -(-len(points) // POINTS)]
            others = _unseen(curve, axis) if name == "success" else []
            label = "where it trains" if others else name
            charts.append(line_chart(title, [(label, thin), *others], across=ACROSS[axis], bounds=bounds, mark=mark))
    return charts


def _unseen(curve: Sequence[dict[str, float]], axis: str) -> list[tuple[str, list[tuple[float, float]]]]:
    """Curves of success in places never trained in, where it was measured."""
    found = {kind: [(row[axis], row[PREFIX + kind]) for row in curve if PREFIX + kind in row] for kind in KINDS}
    return [(kind, points) for kind, points in found.items() if points]


def _warning(results: Results, curve: Sequence[dict[str, float]]) -> str:
    """That a policy knows little but its places, by this evaluation, or by the last measurement of its training."""
    if VALIDATION in results.unseen:
        return gap(results.evaluations[0].success(), results.unseen[VALIDATION].evaluations[0].success())
    measured = scores(curve)
    return gap(own_success(curve), measured[-1].success) if measured else ""

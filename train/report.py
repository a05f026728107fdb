"""The report of a run: how it learned, how good it is, where it goes; one HTML file that opens anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from pipeline.check.report import STYLE
from pipeline.types import I32, Floats, Mask
from train.preset import flat_values
from train.results import WINDOW, Episode, FloorPlan, Interval, Results
from train.run import Run, write_atomically

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 34
"""Margins for the axes' labels."""
BAR = 160


def line_chart(
    title: str,
    points: Sequence[tuple[float, float]],
    *,
    across: str,
    bounds: tuple[float, float] | None = None,
    mark: tuple[float, Interval] | None = None,
) -> str:
    """Draw a curve (SVG).

    It has at least one point (x, y), a label `across` its x axis, and bounds of y, those of the points by default;
    `mark` is x and a rate with its interval, shown next to the curve.
    """
    xs, ys = [x for x, _ in points] + ([mark[0]] if mark else []), [y for _, y in points]
    x_ticks = ticks(min(xs), max(xs))
    y_ticks = ticks(*(bounds or (min(ys), max(ys))))

    def pixel(x: float, y: float) -> tuple[float, float]:
        right = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        x, y = LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [f'<text class="title" x="{LEFT}" y="14">{escape(title)}</text>']
    for y in y_ticks:
        left, down = pixel(x_ticks[0], y)
        parts.append(f'<path class="grid" d="M{left} {down}H{WIDTH - RIGHT}"/>')
        text = number_text(y, y_ticks[1] - y_ticks[0])
        parts.append(f'<text class="tick" x="{left - 6}" y="{down + 4}" text-anchor="end">{text}</text>')
    for x in x_ticks:
        right, down = pixel(x, y_ticks[0])
        text = number_text(x, x_ticks[1] - x_ticks[0])
        parts.append(f'<text class="tick" x="{right}" y="{down + 14}" text-anchor="middle">{text}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(across)}</text>')
    line = "L".join(f"{x} {y}" for x, y in (pixel(x, y) for x, y in points))
    parts.append(f'<path class="line" d="M{line}"/>')
    if mark:
        x, middle = pixel(mark[0], mark[1].value)
        low, high = pixel(mark[0], mark[1].low)[1], pixel(mark[0], mark[1].high)[1]
        about = escape(f"evaluated: {mark[1]}")
        parts.append(
            f'<g class="mark"><title>{about}</title><path d="M{x} {low}V{high}m-4 0h8M{x - 4} {low}h8"/>'
            f'<circle cx="{x}" cy="{middle}" r="3.5"/></g>'
        )
    return _svg("chart", f"0 0 {WIDTH} {HEIGHT}", title, "".join(parts))


def _svg(kind: str, box: str, label: str, content: str) -> str:
    return f'<svg class="{kind}" viewBox="{box}" role="img" aria-label="{escape(label)}">{content}</svg>'


def share_bar(share: Interval) -> str:
    """Draw a rate as a bar with its interval (SVG)."""
    low, middle, high = (round(BAR * value, 1) for value in (share.low, share.value, share.high))
    axis = f'<path class="grid" d="M0 7H{BAR}M0 2v10M{BAR} 2v10"/><rect x="0" y="4" width="{middle}" height="6"/>'
    interval = f'<path class="interval" d="M{low} 7H{high}M{low} 3v8M{high} 3v8"/>'
    return _svg("bar", f"-2 0 {BAR + 4} 14", str(share), axis + interval)


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
"""Pixels per metre of a map."""
RIM = 0.3
"""Margin around the floor [m]."""
TOLERANCE = 0.01
"""Largest deviation of a drawn path from the real one [m]."""


def episode_map(
    plan: FloorPlan, episodes: Sequence[Episode], endings: Sequence[str], label: str, *, held_out: bool
) -> str:
    """Draw a map (SVG), x to the right and y up: floor, held-out blocks on request, goals, and a path per episode.

    Paths have the class "ended-<number>", the index of what ended the episode, for the page's style. `endings` is all
    that ends episodes, `label` the alternative text.
    """
    walkable = plan.marked(plan.walkable)
    cells = np.argwhere(walkable)
    corners = [np.array(plan.origin) + cells.min(0) * plan.cell, np.array(plan.origin) + (cells.max(0) + 1) * plan.cell]
    paths = [np.array(episode.path) for episode in episodes]
    corners += [path.min(0) for path in paths] + [path.max(0) for path in paths]
    sheet = _Sheet(np.min(corners, 0) - RIM, np.max(corners, 0) + RIM)
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
    return _svg("map", f"0 0 {sheet.size[0]} {sheet.size[1]}", label, "\n".join(parts))


class _Sheet:
    """Maps positions in the world to the drawing, whose y points down."""

    def __init__(self, low: Floats, high: Floats) -> None:
        self._low, self._high = low, high
        width, height = np.ceil((high - low) * PIXELS).astype(int)
        self.size = (int(width), int(height))

    def points(self, xy: Floats) -> I32:
        """Pixels (N, 2) of positions (N, 2)."""
        away = np.column_stack([xy[:, 0] - self._low[0], self._high[1] - xy[:, 1]])
        return (away * PIXELS).round().astype(np.int32)

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
        y = self.size[1] - 8
        return f'<path class="scale" d="M10 {y}h{PIXELS}"/><text class="scale" x="{14 + PIXELS}" y="{y + 4}">1 m</text>'


FILE = "report.html"

LABELS = {
    "none": "original images",
    "shuffled": "shuffled images",
    "frozen": "frozen images",
    "black": "black images",
    "blind": "trained blind",
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
}
"""Description of each row of the table."""
CURVES = (
    ("success", f"success, last {WINDOW} episodes"),
    ("reward", "reward of an episode"),
    ("length", "steps an episode"),
)
POINTS = 400
"""Largest number of points of a curve."""
MAX_VIDEOS = 6
COLORS = ("#d55e00", "#56b4e9", "#cc79a7", "#e69f00", "#8a8a8a")
DONE = "#009e73"
"""Okabe and Ito's, which colour-blind people tell apart."""

OWN_STYLE = """
.figures svg.bar { width: 10rem; display: block; margin-left: auto; }
.bar rect { fill: #009e73; opacity: .75; } .interval { stroke: currentColor; stroke-width: 1.5; fill: none; }
.grid { stroke: #8884; fill: none; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1rem; }
.chart text { font: 11px system-ui, sans-serif; fill: currentColor; } .chart .tick { fill: #888; }
.chart .title { font-size: 13px; font-weight: 600; }
.line { fill: none; stroke: #2f7ed8; stroke-width: 1.6; }
.mark { stroke: #d55e00; stroke-width: 1.6; fill: none; } .mark circle { fill: #d55e00; stroke: none; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1.5rem; align-items: start; }
.maps figure:first-child { grid-column: 1 / -1; }
.map { width: 100%; max-height: 44rem; } .map .walkable { fill: #8882; } .map .drivable { fill: #8884; }
.map .held-out { fill: #4f7fd655; } .map path, .map rect { shape-rendering: auto; }
.map .walkable, .map .drivable, .map .held-out { shape-rendering: crispEdges; }
.track { stroke: currentColor; fill: none; stroke-width: 1.6; opacity: .75; } .track .end { fill: currentColor; }
.track:hover { opacity: 1; stroke-width: 4; }
.goal { fill: #ffd21f; stroke: #0009; stroke-width: 1.5; }
.scale { stroke: currentColor; stroke-width: 2; fill: none; }
text.scale { font: 14px system-ui, sans-serif; fill: currentColor; stroke: none; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; } .legend i { font-style: normal; }
.swatch { display: inline-block; width: .9rem; height: .9rem; border-radius: 3px; vertical-align: -.1rem; }
.stills { image-rendering: pixelated; width: 26rem; } video { max-width: 100%; border-radius: 6px; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1.5rem; }
details td { padding: .15rem .6rem; font-size: .85rem; overflow-wrap: anywhere; }
"""


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
    evaluations = results.labelled()
    found = {one.ended_by: one.success for _, evaluation in evaluations for one in evaluation.episodes}
    endings = dict(sorted(found.items(), key=lambda item: (not item[1], item[0])))  # success first
    best = evaluations[0][1].success()
    title = f"{results.run}: {results.task}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{OWN_STYLE}{_ending_style(endings)}</style></head><body>
<h1>{escape(title)}, success {escape(str(best))}</h1>
<p>{escape(_summary(results))}</p>
{_metrics_table(results)}
<p class="how">Shares with 95 % intervals (Wilson). Each robot counts until its first episode ends.</p>
<dl>{"".join(f"<dt>{LABELS[label]}</dt><dd>{ABOUT[label]}</dd>" for label, _ in evaluations)}</dl>
<h2>How it learned</h2>
{_curves(results, curve)}
<h2>Where it went</h2>
{_legend(endings)}
{"".join(_scene_maps(results, number, list(endings)) for number in range(len(results.scenes)))}
{_videos(videos)}
<h2>The run</h2>
{_record(run, results)}
</body></html>
"""


def _summary(results: Results) -> str:
    scenes = ", ".join(
        f"{scene.reference} ({'starts held out from training' if scene.starts == 'held_out' else 'never trained in'})"
        for scene in results.scenes
    )
    return (
        f"Encoder {results.encoder}, checkpoint {results.checkpoint} after {results.iteration} iterations, "
        f"evaluated in {scenes}; seed {results.seed}."
        + (f" Its training stopped early, after {results.stopped_early}." if results.stopped_early else "")
    )


def _metrics_table(results: Results) -> str:
    lines = results.lines()
    rows = []
    for line in lines:
        shares = (f"<td class='figure'>{escape(str(rate))}{share_bar(rate)}</td>" for rate in line.shares.values())
        rows.append(
            f"<tr><td>{LABELS[line.ablation]}</td><td>{escape(line.scene)}</td>{''.join(shares)}"
            f"<td class='figure'>{line.episodes}</td><td>{escape(line.ended)}</td></tr>"
        )
    head = "".join(f"<th class='figure'>{escape(name)}</th>" for name in (*lines[0].shares, "episodes"))
    return (
        f"<table class='figures'><thead><tr><th>Ablation</th><th>Scene</th>{head}<th>Ended by</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _curves(results: Results, curve: Sequence[dict[str, float]]) -> str:
    if not curve:
        return "<p>It has not been trained yet: this is the initial checkpoint.</p>"
    losses = sorted({name for row in curve for name in row if name.startswith("loss/")})
    at = next((row["steps"] for row in curve if row["iteration"] == results.iteration), 0.0)
    charts = []
    for name, title in (*CURVES, *((name, name.replace("/", ": ")) for name in losses)):
        points = [(row["steps"], row[name]) for row in curve if name in row]
        if points:
            share = name == "success"
            mark = (at, results.evaluations[0].success()) if share else None
            thin = points[:: -(-len(points) // POINTS)]
            charts.append(
                line_chart(title, thin, across="steps of training", bounds=(0, 1) if share else None, mark=mark)
            )
    note = "<p class='how'>In red next to the success in training: the result of the evaluation.</p>"
    return f"{note}<div class='charts'>{''.join(charts)}</div>"


def _ending_style(endings: dict[str, bool]) -> str:
    """CSS of colours, and of paths hidden by their unchecked boxes."""
    others = (COLORS[number % len(COLORS)] for number in range(len(endings)))
    return "".join(
        f".ended-{number} {{ color: {DONE if success else next(others)}; }}"
        f"body:has(#box-{number}:not(:checked)) .map .ended-{number} {{ display: none; }}\n"
        for number, success in enumerate(endings.values())
    )


def _legend(endings: dict[str, bool]) -> str:
    boxes = "".join(
        f'<label class="ended-{number}"><input type="checkbox" id="box-{number}" checked> {escape(name)}'
        f"{' (success)' if success else ''}</label>"
        for number, (name, success) in enumerate(endings.items())
    )
    floor = "".join(
        f'<span><i class="swatch" style="background: {color}"></i> {text}</span>'
        for color, text in (("#8888", "floor"), ("#4f7fd6aa", "held out from training"), ("#ffd21f", "goal"))
    )
    return (
        f'<p class="legend">{boxes}{floor}</p><p class="how">A ring is a start; a disc the end of a success, a cross '
        "that of any other episode, both where the last action was taken. Hover for details.</p>"
    )


def _scene_maps(results: Results, number: int, endings: Sequence[str]) -> str:
    scene = results.scenes[number]
    maps = []
    for label, evaluation in results.labelled():
        episodes = evaluation.of(scene.reference)
        caption = f"{LABELS[label]}: {evaluation.success(scene.reference)}"
        label_text = f"{caption}, in {scene.reference}"
        drawn = episode_map(scene.plan, episodes, endings, label_text, held_out=scene.starts == "held_out")
        maps.append(f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>")
    stills = ""
    if scene.images:
        stills = (
            f'<figure><img class="stills" src="data:image/png;base64,{escape(scene.images)}" alt="camera images">'
            "<figcaption>Camera images at the starts.</figcaption></figure>"
        )
    return f"<h3>{escape(scene.reference)}</h3><div class='maps'>{''.join(maps)}</div>{stills}"


def _videos(videos: Sequence[str]) -> str:
    shown = "".join(
        f'<figure><video controls loop muted preload="metadata" src="{escape(quote(video))}"></video>'
        f"<figcaption>{escape(video)}</figcaption></figure>"
        for video in videos
    )
    return f"<h2>Videos</h2>{shown}" if videos else ""


def _record(run: Run, results: Results) -> str:
    record = run.record
    values = {
        "started": record.started.isoformat(),
        "seed": record.seed,
        "device": f"{record.device}, {record.processes} process" + ("es" if record.processes > 1 else ""),
        "commit": record.commit or "outside of a checkout",
        "checkpoint": f"{results.checkpoint}, sha256 {results.checkpoint_sha256}",
        **{f"trained in {lock.reference}": f"sha256 {lock.sha256}, gates {lock.gates}" for lock in run.locks},
        **{f"evaluated in {scene.reference}": f"sha256 {scene.sha256}" for scene in results.scenes},
        **record.machine,
    }
    tables = (("Record", values), ("Versions", record.packages), ("Preset", flat_values(record.preset)))
    return "".join(
        f"<details{' open' if title == 'Record' else ''}><summary>{title}</summary><table>"
        + "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
        + "</table></details>"
        for title, rows in tables
    )

"""The report of a run: how it learned, how good it is, where it goes; one HTML file that opens anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from pipeline.check.page import STYLE
from train.charts import line_chart, share_bar
from train.files import write_atomically
from train.floor_plan import episode_map
from train.preset import flat_values
from train.results import Evaluation, Results
from train.run import Run
from train.statistics import WINDOW, Interval

FILE = "report.html"

LABELS = {
    "none": "what it sees",
    "shuffled": "shuffled pictures",
    "frozen": "frozen pictures",
    "black": "black pictures",
    "blind": "trained blind",
}
ABOUT = {
    "none": "The policy acts by its mean, without exploration; its camera has none of the flaws that training draws.",
    "shuffled": "In every step each robot gets the picture of another one, drawn anew: right pictures, wrong place. "
    "What is left of the success doesn't come from seeing.",
    "frozen": "The first picture of an episode stays until its end: the robot knows where it began, and never sees "
    "where it went.",
    "black": "All pictures are zeros, which training never showed.",
    "blind": "Another policy, trained in the same way without a camera, in the same episodes: what the task is worth "
    "to one who can't see.",
}
"""Each row of the table in words."""
CURVES = (
    ("success", f"success, last {WINDOW} episodes"),
    ("reward", "reward of an episode"),
    ("length", "steps an episode"),
)
POINTS = 400
"""Most of a curve."""
FILMS = 6
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
    """`report.html` in the run's folder, complete or as it was before; films of that folder are linked.

    Raises:
        TrainError: When there is no room or no permission, or the run's curve is damaged.
    """
    films = sorted(path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*.mp4"))[:FILMS]
    page = report_page(run, results, run.curve.read(), films)
    write_atomically(run.folder / FILE, page.encode())
    return run.folder / FILE


def report_page(run: Run, results: Results, curve: Sequence[dict[str, float]], films: Sequence[str]) -> str:
    """HTML of the page.

    Args:
        run: What it is about.
        results: What was found of it.
        curve: A row for each iteration.
        films: Paths relative to the page.
    """
    evaluations = results.labelled()
    endings = _endings(evaluation for _, evaluation in evaluations)
    best = evaluations[0][1].success()
    title = f"{results.run}: {results.task}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{OWN_STYLE}{_ending_style(endings)}</style></head><body>
<h1>{escape(title)}, success {escape(str(best))}</h1>
<p>{escape(_summary(results))}</p>
{_figures_table(results)}
<p class="how">Shares with 95 % intervals (Wilson). Each robot counts until its first episode ends.</p>
<dl>{"".join(f"<dt>{LABELS[label]}</dt><dd>{ABOUT[label]}</dd>" for label, _ in evaluations)}</dl>
<h2>How it learned</h2>
{_curves(results, curve)}
<h2>Where it went</h2>
{_legend(endings)}
{"".join(_scene_maps(results, number, list(endings)) for number in range(len(results.scenes)))}
{_films(films)}
<h2>The run</h2>
{_record(run, results)}
</body></html>
"""


def _summary(results: Results) -> str:
    places = ", ".join(
        f"{scene.reference} ({'starts held out from training' if scene.starts == 'held_out' else 'never trained in'})"
        for scene in results.scenes
    )
    return (
        f"Encoder {results.encoder}, checkpoint {results.checkpoint} after {results.iteration} iterations, "
        f"evaluated in {places}; seed {results.seed}."
        + (f" Its training stopped early, after {results.stopped_early}." if results.stopped_early else "")
    )


def _figures_table(results: Results) -> str:
    lines = results.lines()
    rows = [
        f"<tr><td>{LABELS[line.control]}</td><td>{escape(line.scene)}</td>{''.join(map(_share, line.shares.values()))}"
        f"<td class='figure'>{line.episodes}</td><td>{escape(line.ended)}</td></tr>"
        for line in lines
    ]
    head = "".join(f"<th class='figure'>{escape(name)}</th>" for name in (*lines[0].shares, "episodes"))
    return (
        f"<table class='figures'><thead><tr><th>Control</th><th>Scene</th>{head}<th>Ended by</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _share(share: Interval) -> str:
    return f"<td class='figure'>{escape(str(share))}{share_bar(share)}</td>"


def _curves(results: Results, curve: Sequence[dict[str, float]]) -> str:
    if not curve:
        return "<p>It has not learned yet: this checkpoint is what it began with.</p>"
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
    note = "<p class='how'>In red beside the success in training: what the evaluation found.</p>"
    return f"{note}<div class='charts'>{''.join(charts)}</div>"


def _endings(evaluations: Iterable[Evaluation]) -> dict[str, bool]:
    """All that episodes ended by, and whether that is success; success first."""
    found = {one.ended_by: one.success for evaluation in evaluations for one in evaluation.episodes}
    return dict(sorted(found.items(), key=lambda item: (not item[1], item[0])))


def _ending_style(endings: dict[str, bool]) -> str:
    """Colours, and what is hidden when its box isn't checked."""
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
        "that of any other episode, both where the last action was taken. Hover for figures.</p>"
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
    if scene.pictures:
        stills = (
            f'<figure><img class="stills" src="data:image/png;base64,{escape(scene.pictures)}" alt="camera pictures">'
            "<figcaption>What robots see at their starts.</figcaption></figure>"
        )
    return f"<h3>{escape(scene.reference)}</h3><div class='maps'>{''.join(maps)}</div>{stills}"


def _films(films: Sequence[str]) -> str:
    shown = "".join(
        f'<figure><video controls loop muted preload="metadata" src="{escape(quote(film))}"></video>'
        f"<figcaption>{escape(film)}</figcaption></figure>"
        for film in films
    )
    return f"<h2>Films</h2>{shown}" if films else ""


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

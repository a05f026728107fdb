"""The assay in an audit's page: verdict, tables and plots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from pipeline.io.pages import render
from train.assay.assay import Assay, Level, Response
from train.assay.cliff import Cliff
from train.runs.report import svg, ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 190, 40, 10, 10, 34
LINE, CLIFF, OWN = "#2f7ed8", "#d1495b", "#3a7d44"


def section(assay: Assay) -> str:
    """HTML for the page of an audit."""
    gates = [one.gate for one in assay.responses]
    return render(
        "train",
        "assay.html",
        assay=assay,
        failed=[gate.title for gate in gates if gate.passed is False],
        known=[gate.title for gate in gates if gate.passed],
        cliffs=cliffs,
        sized=sized,
        change=change,
        chart=chart,
    )


def sized(one: Response, size: float, *, signed: bool = False) -> str:
    """A size with its unit."""
    return f"{size:+.3g} {one.gate.unit}" if signed else f"{size:.3g} {one.gate.unit}"


def cliffs(one: Response) -> list[str]:
    """Where success is half, for each direction."""
    return [_said(one, sign, cliff) for sign, cliff in one.cliffs.items()]


def _said(one: Response, sign: int, cliff: Cliff | None) -> str:
    mark = "-" if sign < 0 else "+" if len(one.cliffs) > 1 else ""
    if cliff is None:
        return f"beyond {mark}{sized(one, one.tried(sign))}"
    high = f"{cliff.high:.3g}" if math.isfinite(cliff.high) else "more"
    return f"{mark}{sized(one, cliff.value)} [{cliff.low:.3g}, {high}]"


def change(level: Level) -> str:
    """How much success differs from that without the error."""
    value, low, high = (100 * share for share in level.change)
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def chart(one: Response) -> str:
    """Draw success over the size of an error (SVG)."""
    sizes, half = [level.size for level in one.levels], one.without.value / 2
    plot = _Plot(min(sizes), max(sizes))
    parts = [plot.band(-one.own.size, one.own.size, OWN)] if one.own else []
    for sign, cliff in one.cliffs.items():
        if cliff:
            parts += [plot.band(sign * cliff.low, sign * cliff.high, CLIFF), plot.upright(sign * cliff.value, CLIFF)]
    for share in (0, 0.5, 1):
        y = plot.y(share)
        parts.append(f'<path stroke="#888" stroke-opacity=".4" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text fill="#888" x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
    parts.append(f'<path stroke="currentColor" stroke-dasharray="4 3" d="M{LEFT} {plot.y(half)}H{WIDTH - RIGHT}"/>')
    for size in ticks(plot.low, plot.high):
        if plot.low <= size <= plot.high:
            place = f'x="{plot.x(size)}" y="{plot.y(0) + 14}" text-anchor="middle"'
            parts.append(f'<text fill="#888" {place}>{size:g}</text>')
    place, unit = f'x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end"', escape(one.gate.unit)
    parts.append(f'<text fill="#888" {place}>{unit}</text>')
    line = "L".join(f"{plot.x(level.size)} {plot.y(level.success.value)}" for level in one.levels)
    parts.append(f'<path fill="none" stroke="{LINE}" stroke-width="1.6" d="M{line}"/>')
    for level in one.levels:
        x, share = plot.x(level.size), level.success
        title = escape(f"{sized(one, level.size, signed=True)}: {share}")
        parts.append(
            f'<g stroke="{LINE}" fill="{LINE}"><title>{title}</title>'
            f'<path d="M{x} {plot.y(share.low)}V{plot.y(share.high)}"/>'
            f'<circle cx="{x}" cy="{plot.y(share.value)}" r="2.5"/></g>'
        )
    return svg("assay", f"0 0 {WIDTH} {HEIGHT}", f"success over {one.gate.title}", "".join(parts))


@dataclass(frozen=True)
class _Plot:
    """Pixels of sizes between two, and of shares."""

    low: float
    high: float

    def x(self, size: float) -> float:
        across = (min(max(size, self.low), self.high) - self.low) / (self.high - self.low)
        return round(LEFT + 6 + across * (WIDTH - LEFT - RIGHT - 12), 1)

    def y(self, share: float) -> float:
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def band(self, first: float, last: float, color: str) -> str:
        left, right = sorted((self.x(first), self.x(last)))
        box = f'x="{left}" width="{right - left:.1f}" y="{self.y(1)}" height="{self.y(0) - self.y(1):.1f}"'
        return f'<rect {box} fill="{color}" fill-opacity=".2"/>'

    def upright(self, size: float, color: str) -> str:
        return f'<path stroke="{color}" d="M{self.x(size)} {self.y(1)}V{self.y(0)}"/>'

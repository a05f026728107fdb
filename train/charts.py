"""Small drawings (SVG) for a page; the page's style has their colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from train.statistics import Interval

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 34
"""Margins for what the axes say."""
BAR = 160


def line_chart(
    title: str,
    points: Sequence[tuple[float, float]],
    *,
    across: str,
    bounds: tuple[float, float] | None = None,
    mark: tuple[float, Interval] | None = None,
) -> str:
    """A curve.

    Args:
        title: What it is of.
        points: (x, y), at least one.
        across: What x is.
        bounds: Of y; those of the points by default.
        mark: x and a share with its interval, to show beside the curve.
    """
    xs, ys = [x for x, _ in points] + ([mark[0]] if mark else []), [y for _, y in points]
    x_ticks = ticks(min(xs), max(xs))
    y_ticks = ticks(*(bounds or (min(ys), max(ys))))

    x_step, y_step = x_ticks[1] - x_ticks[0], y_ticks[1] - y_ticks[0]

    def place(x: float, y: float) -> tuple[float, float]:
        right = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return (
            round(LEFT + right * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = [f'<text class="title" x="{LEFT}" y="14">{escape(title)}</text>']
    for y in y_ticks:
        left, down = place(x_ticks[0], y)
        parts.append(f'<path class="grid" d="M{left} {down}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{down + 4}" text-anchor="end">{number_text(y, y_step)}</text>'
        )
    for x in x_ticks:
        right, down = place(x, y_ticks[0])
        parts.append(
            f'<text class="tick" x="{right}" y="{down + 14}" text-anchor="middle">{number_text(x, x_step)}</text>'
        )
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(across)}</text>')
    line = "L".join(f"{x} {y}" for x, y in (place(x, y) for x, y in points))
    parts.append(f'<path class="line" d="M{line}"/>')
    if mark:
        x, middle = place(mark[0], mark[1].value)
        low, high = place(mark[0], mark[1].low)[1], place(mark[0], mark[1].high)[1]
        about = escape(f"evaluated: {mark[1]}")
        parts.append(
            f'<g class="mark"><title>{about}</title><path d="M{x} {low}V{high}m-4 0h8M{x - 4} {low}h8"/>'
            f'<circle cx="{x}" cy="{middle}" r="3.5"/></g>'
        )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )


def share_bar(share: Interval) -> str:
    """A share as a bar with its interval."""
    low, middle, high = (round(BAR * value, 1) for value in (share.low, share.value, share.high))
    return (
        f'<svg class="bar" viewBox="-2 0 {BAR + 4} 14" role="img" aria-label="{escape(str(share))}">'
        f'<path class="grid" d="M0 7H{BAR}M0 2v10M{BAR} 2v10"/><rect x="0" y="4" width="{middle}" height="6"/>'
        f'<path class="interval" d="M{low} 7H{high}M{low} 3v8M{high} 3v8"/></svg>'
    )


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that enclose a range, some `count` of them, two at least."""
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, low + (abs(low) or 1) / 2
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def number_text(value: float, step: float) -> str:
    """A number among others that lie so far apart; with a thousands' k or millions' M."""
    unit, name = next(((unit, name) for unit, name in ((1e6, "M"), (1e3, "k")) if abs(value) >= unit), (1.0, ""))
    digits = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return f"{value / unit:.{digits}f}{name}"

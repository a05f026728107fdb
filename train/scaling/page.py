"""The page of a curve of success over the number of places: one HTML file that opens anywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from html import escape

from pipeline.io.pages import render
from train.runs.report import CURVE_COLORS, episode_map, svg
from train.scaling.curve import ScalingCurve, shares_of
from train.scaling.failures import FailedPlace, Failures, Picture

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 300, 42, 12, 12, 40
ASIDE = 4.0
"""Pixels between the curves' marks at one number of places."""
LABELS = {
    "own": "where it trains, from starts held out",
    "validation": "held-out places",
    "test": "places to test in",
    "shuffled": "held-out places, images of other robots",
    "frozen": "held-out places, first images only",
}
"""What success was measured of, in words."""


MAP_SIDE = 240
"""Extent of a map [px], as in the page's style."""


def page_of(curve: ScalingCurve, failures: Failures) -> str:
    """HTML of the page; failures are those of the policy of the most places."""
    seeds = len({point.seed for point in curve.points})
    return render(
        "train",
        "scaling.html",
        title=f"{curve.task}: success over the number of places",
        curve=curve,
        seeds=seeds,
        chart=chart(curve),
        labels=LABELS,
        colors=colors(curve),
        failures=failures,
        map_of=map_of,
        about=about,
    )


def map_of(place: FailedPlace, picture: Picture) -> str:
    """Draw the way of a failed episode from above (SVG)."""
    episode = picture.episode
    label = f"way of the robot in {place.reference}"
    return episode_map(place.plan, [episode], [episode.ended_by], label, held_out=False, side=MAP_SIDE)


def about(picture: Picture) -> str:
    """What ended a failed episode, how long it took, how far the robot came, and what else was noted of it."""
    episode = picture.episode
    metres = sum(itertools.starmap(math.dist, itertools.pairwise(episode.path)))
    noted = [name.replace("_", " ") for name, holds in episode.outcomes.items() if holds]
    words = f"Ended by {episode.ended_by.replace('_', ' ')} after {picture.seconds:.1f} s and {metres:.1f} m"
    return f"{words} ({', '.join(noted)})" if noted else words


def colors(curve: ScalingCurve) -> dict[str, str]:
    """Of what success was measured of."""
    return dict(zip(curve.kinds, CURVE_COLORS, strict=False))


def chart(curve: ScalingCurve) -> str:
    """Draw success over the number of places, each twice the last one as far to the right (SVG).

    Lines connect the success of all seeds together, with its interval; a ring is one training.
    """
    low, high = (math.log2(end(curve.counts)) for end in (min, max))

    def pixel(count: int, share: float) -> tuple[float, float]:
        across = (math.log2(count) - low) / (high - low) if high > low else 0.5
        x = LEFT + 14 + across * (WIDTH - LEFT - RIGHT - 28)
        return round(x, 1), round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    parts = list(_axes(curve, pixel))
    for number, (kind, color) in enumerate(colors(curve).items()):
        aside = (number - (len(curve.kinds) - 1) / 2) * ASIDE
        parts += _marks(curve, kind, color, aside, pixel)
    return svg("scaling", f"0 0 {WIDTH} {HEIGHT}", f"success of {curve.task} over places", "".join(parts))


Pixel = Callable[[int, float], tuple[float, float]]


def _axes(curve: ScalingCurve, pixel: Pixel) -> Iterator[str]:
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = pixel(curve.counts[0], share)[1]
        yield f'<path stroke="#888" stroke-opacity=".3" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text fill="#888" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>'
    for count in curve.counts:
        x, y = pixel(count, 0)
        yield f'<text fill="#888" x="{x}" y="{y + 16}" text-anchor="middle">{count}</text>'
    yield f'<text fill="#888" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">places trained in</text>'


def _marks(curve: ScalingCurve, kind: str, color: str, aside: float, pixel: Pixel) -> Iterator[str]:
    """Line, intervals and single trainings of what success was measured of."""
    pooled = [(count, share) for count in curve.counts if (share := curve.pooled(kind, count))]
    middles = [pixel(count, share.value) for count, share in pooled]
    line = "L".join(f"{round(x + aside, 1)} {y}" for x, y in middles)
    yield f'<g style="color: {color}" stroke="currentColor" fill="none">'
    yield f'<path class="line" stroke-width="1.6" d="M{line}"/>'
    for (count, share), (x, y) in zip(pooled, middles, strict=True):
        x = round(x + aside, 1)
        (_, low), (_, high) = pixel(count, share.low), pixel(count, share.high)
        title = escape(f"{LABELS.get(kind, kind)}, {count} places: {share}")
        yield f'<g><title>{title}</title><path d="M{x} {low}V{high}m-3 0h6M{x - 3} {low}h6"/>'
        yield f'<circle cx="{x}" cy="{y}" r="3" fill="currentColor"/></g>'
    for point in curve.points:
        if one := shares_of(point).get(kind):
            x, y = pixel(point.count, one.value)
            title = escape(f"seed {point.seed}, {point.count} places: {one}")
            ring = f'cx="{round(x + aside, 1)}" cy="{y}" r="4.5" stroke-opacity=".6"'
            yield f"<circle {ring}><title>{title}</title></circle>"
    yield "</g>"

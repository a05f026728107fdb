"""How a gait steps, to look at: when feet stand, how commands are followed, what the motors do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pipeline.io.pages import render
from pipeline.types import F32, F64, Mask
from sim.gaits import Gait, joined
from sim.tasks.walking.terms import followed, torque_shares
from train.legs.walking import walking
from train.runs.report import line_chart, svg

GROUNDS = (("flat", 0), ("stairs", 6))
"""Kinds and levels that are shown."""
SECONDS = 8.0
WIDTH, LEFT, ROW, TOP = 700, 60, 18, 24
"""Of the diagram of feet [px]."""


@dataclass(frozen=True)
class Trace:
    """Eight seconds of one robot, T steps.

    Attributes:
        feet: Names of the links with feet (F).
        period: Time of a step [s].
        down: (T, F) whether a foot touches the ground.
        due: (T, F) whether it should, by the clock.
        command: (T, 3) speed ahead and to the left [m/s], yaw rate [rad/s].
        velocity: (T, 3) likewise.
        torque: (T,) largest share of a motor's largest torque.
        clearance: (T, F) of the feet over the ground [m].
        fell: (T,) whether it fell, and stood up again at a start.
    """

    feet: tuple[str, ...]
    period: float
    down: Mask
    due: Mask
    command: F32
    velocity: F64
    torque: F32
    clearance: F32
    fell: Mask


def trace(gait: Gait, robot: str, engine: str, kind: str, level: int, seed: int = 0) -> Trace:
    """Let a robot walk on a kind of ground."""
    env = walking(gait, robot, engine, f"terrain:0:{kind}", 1, seed, level=level)
    seen, _ = env.reset(seed=seed)
    rows = list[tuple[np.ndarray, ...]]()
    for _ in range(round(SECONDS / env.task.control_period)):
        seen, _, fell, _, _ = env.step(gait.act(joined(seen)))
        step = env.last_step
        assert step
        assert step.legs
        legs = step.legs
        torque = np.abs(torque_shares(step)[0]).max()
        told, done = step.scenario.command[0], followed(step)[0]
        row = (legs.down[0], legs.due[0] > 0, told, done, torque, legs.clearance[0], fell[0])
        rows.append(tuple(np.array(part) for part in row))
    legs = env.controller.legs
    assert legs, "it walks"
    names = tuple(env.robot.links[foot.link].name for foot in legs.feet)
    env.close()
    return Trace(names, env.task.control_period, *(np.stack(column) for column in zip(*rows, strict=True)))


def feet_chart(trace: Trace) -> str:
    """When feet stand (SVG): a row a foot, dark where it touches the ground, framed where it should.

    Source: Hildebrand, Symmetrical gaits of horses, Science 150, 1965, on diagrams of gaits.
    """
    width = (WIDTH - LEFT) / len(trace.down)
    parts = list[str]()
    for row, name in enumerate(trace.feet):
        y = TOP + row * ROW
        parts.append(f'<text x="0" y="{y + 11}">{escape(name[:9])}</text>')
        for style, mask, inset in (("due", trace.due[:, row], 0), ("down", trace.down[:, row], 4)):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
            for begin, end in edges.reshape(-1, 2).tolist():
                box = f'x="{LEFT + begin * width:.1f}" y="{y + inset}" width="{(end - begin) * width:.1f}"'
                parts.append(f'<rect class="{style}" {box} height="{ROW - 4 - 2 * inset}"/>')
    bottom = TOP + len(trace.feet) * ROW
    for step in np.flatnonzero(trace.fell).tolist():
        parts.append(
            f'<path class="fall" d="M{LEFT + step * width:.1f} {TOP - 4}V{bottom}"><title>it fell</title></path>'
        )
    for second in range(round(SECONDS) + 1):
        x = LEFT + second / trace.period * width
        parts.append(f'<text x="{x:.0f}" y="{bottom + 12}" text-anchor="middle">{second} s</text>')
    return svg("feet", f"0 0 {WIDTH + 12} {bottom + 18}", "when feet stand", "".join(parts))


def charts(trace: Trace) -> list[str]:
    """Curves over time (SVG)."""
    time = trace.period * np.arange(len(trace.down))

    def curve(values: F32 | F64) -> list[tuple[float, float]]:
        return list(zip(time.tolist(), values.tolist(), strict=True))[::2]

    found = [
        line_chart(
            title, [("told", curve(trace.command[:, axis])), ("done", curve(trace.velocity[:, axis]))], across="s"
        )
        for axis, title in enumerate(("speed ahead [m/s]", "speed to the left [m/s]", "yaw rate [rad/s]"))
    ]
    feet = [(name, curve(trace.clearance[:, row])) for row, name in enumerate(trace.feet)]
    found.append(line_chart("feet over the ground [m]", feet, across="s"))
    found.append(line_chart("largest torque, of what a motor can", [("torque", curve(trace.torque))], across="s"))
    return found


def stepping_page(traces: Sequence[tuple[str, Trace]], title: str) -> str:
    """HTML of a page with a section for each trace, by its caption."""
    sections = [(caption, feet_chart(one), charts(one)) for caption, one in traces]
    return render("train", "stepping.html", title=title, sections=sections)


def page_of(gaits: Sequence[tuple[str, Gait]], robot: str | None, engine: str, seed: int) -> str:
    """HTML of a page on how gaits, each with its name, step on all `GROUNDS`; on a robot, or each on its own."""
    traces = [
        (f"{name}, {ground}", trace(gait, robot or gait.card.robot, engine, ground, level, seed))
        for name, gait in gaits
        for ground, level in GROUNDS
    ]
    return stepping_page(traces, f"Steps of {', '.join(name for name, _ in gaits)}")

"""The floor of a scene from above, and the episodes on it, as a drawing (SVG)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from sim.places import Floors
from sim.robots.model import Robot
from sim.scene import SimScene

if TYPE_CHECKING:
    from train.results import Episode

Bool = NDArray[np.bool_]

PIXELS = 100
"""A metre in the drawing."""
RIM = 0.3
"""Around the floor [m]."""
TOLERANCE = 0.01
"""By how much a drawn track may differ from the real one [m]."""
MAX_CELLS = 16_000_000


class FloorPlan(BaseModel):
    """Where a robot may be in a scene: a grid, marks row by row as bits in base64.

    Attributes:
        origin: Low corner (x, y) of cell (0, 0) [m], world frame.
        cell: Edge of a cell [m].
        shape: Cells along x and y.
        walkable: Where its centre may be if it climbs steps.
        drivable: Where its centre may be if it doesn't.
        held_out: Floor of blocks that no training begins in.
    """

    model_config = ConfigDict(frozen=True)

    origin: tuple[float, float]
    cell: float
    shape: tuple[int, int]
    walkable: str
    drivable: str
    held_out: str

    @staticmethod
    def of(scene: SimScene, robot: Robot) -> FloorPlan:
        """The plan for a robot.

        Raises:
            SimError: When it has no room there.
        """
        floors = Floors([scene], robot)
        walkable = floors.walkable[0]
        return FloorPlan(
            origin=(float(floors.origin[0, 0]), float(floors.origin[0, 1])),
            cell=float(floors.cell[0]),
            shape=(walkable.shape[0], walkable.shape[1]),
            walkable=_packed(walkable),
            drivable=_packed(floors.drivable[0]),
            held_out=_packed(floors.held_out[0] & walkable),
        )

    @model_validator(mode="after")
    def _check(self) -> FloorPlan:
        if not (min(self.shape) > 0 and self.shape[0] * self.shape[1] <= MAX_CELLS and 0 < self.cell < np.inf):
            raise ValueError(f"a grid of {self.shape} cells of {self.cell} m")
        length = -(-self.shape[0] * self.shape[1] // 8)
        for bits in (self.walkable, self.drivable, self.held_out):
            if len(base64.b64decode(bits, validate=True)) != length:
                raise ValueError(f"grids of {self.shape} cells have {length} bytes each")
        if not self.marked(self.walkable).any():
            raise ValueError("a plan without floor")
        return self

    def marked(self, bits: str) -> Bool:
        """A grid (X, Y) of its bits."""
        count = self.shape[0] * self.shape[1]
        flat = np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=count)
        return flat.reshape(self.shape).astype(bool)


def episode_map(
    plan: FloorPlan, episodes: Sequence[Episode], endings: Sequence[str], label: str, *, held_out: bool
) -> str:
    """An SVG picture, x to the right and y up: floor, held-out blocks if wanted, goals, and a track for each episode.

    Tracks have the class "ended-<number>", the number of what the episode ended by, for the page's style.

    Args:
        plan: The floor.
        episodes: In that scene.
        endings: All that episodes end by.
        label: What it shows, for those who can't see it.
        held_out: Whether to draw what is held out.
    """
    walkable = plan.marked(plan.walkable)
    cells = np.argwhere(walkable)
    corners = [np.array(plan.origin) + cells.min(0) * plan.cell, np.array(plan.origin) + (cells.max(0) + 1) * plan.cell]
    tracks = [np.array(episode.track) for episode in episodes]
    corners += [track.min(0) for track in tracks] + [track.max(0) for track in tracks]
    sheet = _Sheet(np.min(corners, 0) - RIM, np.max(corners, 0) + RIM)
    goals = sorted({episode.goal for episode in episodes if episode.goal})
    parts = [
        f'<path class="walkable" d="{sheet.cells(plan, walkable)}"/>',
        f'<path class="drivable" d="{sheet.cells(plan, plan.marked(plan.drivable))}"/>',
        *([f'<path class="held-out" d="{sheet.cells(plan, plan.marked(plan.held_out))}"/>'] if held_out else []),
        *(
            sheet.episode(episode, track, endings.index(episode.ended_by))
            for episode, track in zip(episodes, tracks, strict=True)
        ),
        *(sheet.goal(goal) for goal in goals),
        sheet.scale(),
    ]
    width, height = sheet.size
    return (
        f'<svg class="map" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        + "\n".join(parts)
        + "</svg>"
    )


class _Sheet:
    """From places in the world to the drawing, whose y points down.

    Args:
        low: Corner (x, y) of what is drawn [m].
        high: The opposite one.
    """

    def __init__(self, low: NDArray[np.floating], high: NDArray[np.floating]) -> None:
        self._low, self._high = low, high
        width, height = np.ceil((high - low) * PIXELS).astype(int)
        self.size = (int(width), int(height))

    def points(self, xy: NDArray[np.floating]) -> NDArray[np.int32]:
        """Pixels (N, 2) of places (N, 2)."""
        away = np.column_stack([xy[:, 0] - self._low[0], self._high[1] - xy[:, 1]])
        return (away * PIXELS).round().astype(np.int32)

    def cells(self, plan: FloorPlan, marked: Bool) -> str:
        """A path round marked cells (X, Y): a rectangle for each run of them along y."""
        edges = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        first, last = np.argwhere(edges == 1), np.argwhere(edges == -1)
        low = self.points(np.array(plan.origin) + first * plan.cell)
        high = self.points(np.array(plan.origin) + (last + np.array([1, 0])) * plan.cell)
        runs = zip(low.tolist(), high.tolist(), strict=True)
        return "".join(f"M{x0} {y0}H{x1}V{y1}H{x0}z" for (x0, y0), (x1, y1) in runs)

    def episode(self, episode: Episode, track: NDArray[np.floating], ending: int) -> str:
        """Its track; a ring where it begins, and where it ends a disc for success or else a cross."""
        kept = cv2.approxPolyDP(track.astype(np.float32)[:, None], TOLERANCE, closed=False)
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

    def goal(self, place: tuple[float, float]) -> str:
        """A diamond."""
        x, y = self.points(np.array([place]))[0].tolist()
        return f'<path class="goal" d="M{x} {y - 10}l10 10l-10 10l-10 -10z"><title>goal</title></path>'

    def scale(self) -> str:
        """How long a metre is."""
        y = self.size[1] - 8
        return f'<path class="scale" d="M10 {y}h{PIXELS}"/><text class="scale" x="{14 + PIXELS}" y="{y + 4}">1 m</text>'


def _packed(marked: Bool) -> str:
    return base64.b64encode(np.packbits(marked).tobytes()).decode()

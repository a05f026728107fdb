"""Floor plans as files: a drawing of every level, and `levels.json`, which says what is on them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh
from pipeline.mesh.params import WalkableParams
from pipeline.regions.cut import Outline
from pipeline.regions.drawing import Color, Drawing, Style
from pipeline.regions.levels import Levels, Way, find_levels
from pipeline.regions.plan import CUT, FloorPlan, Room, floor_plan
from pipeline.regions.regions import Regions
from pipeline.types import F64

logger = logging.getLogger(__name__)

FOLDER, LEVELS_FILE = "plans", "levels.json"
SCALE, SIDES = 100.0, (560.0, 1500.0)
"""Pixels per metre, unless the longer side would have fewer or more pixels than these."""
MARGIN = 0.4
"""White around the plan [m]."""
ASSUMED = 0.1
"""Walls are drawn so thick where their other side wasn't seen [m]."""
BARS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Lengths that a scale bar can have [m]."""
STRIP, TEXT, ROW = 92, 14.0, 24.0
"""Height of the strip below the plan, of its text, and of a row of it [px]."""
HALF_LETTER = 0.28
"""Half of the mean width of a letter by the height of the text."""
INK, GREY, PALE = (32, 36, 42), (120, 126, 134), (196, 201, 207)
FLOOR, GUESSED, GUESSED_LINE = (246, 244, 239), (252, 226, 190), (222, 128, 24)
WALL, BEHIND, FURNITURE = (52, 57, 65), (214, 218, 223), (255, 255, 255)
FURNITURE_LINE, STAIRS, STAIRS_LINE, DOOR = (150, 156, 164), (232, 238, 246), (70, 98, 140), (176, 52, 44)


def write_plans(
    mesh: Mesh, collision: Mesh, regions: Regions, params: WalkableParams, out_dir: Path, north: F64 | None = None
) -> None:
    """Write the folder `plans`: `levels.json`, and of each level a floor plan as SVG and PNG; no folder without floor.

    Meshes in the world frame [m]; `north` (3,) is a direction there, None where nobody knows it.
    """
    try:
        levels = find_levels(collision, regions, params)
    except ReconstructionError as error:
        logger.warning("no floor plan: %s", error.found)
        return
    if not levels.levels:
        return
    folder = out_dir / FOLDER
    folder.mkdir()
    plans = [floor_plan(mesh, levels, index, regions.areas) for index in range(len(levels.levels))]
    for plan in plans:
        name, title = plan_name(levels.number(plan.level)), _title(levels, plan)
        drawing = draw(plan, title, north)
        (folder / f"{name}.svg").write_text(drawing.svg(title))
        (folder / f"{name}.png").write_bytes(drawing.png())
    content = {
        "levels": [_level_json(levels, plan) for plan in plans],
        "ways": [_way_json(levels, way) for way in levels.ways],
        "north": None if north is None else [round(float(value), 6) for value in north],
        "robot": params.model_dump(include=set(WalkableParams.model_fields)),
    }
    (folder / LEVELS_FILE).write_text(json.dumps(content, indent=1))
    logger.info("%d levels, %d ways between their floors", len(plans), len(levels.ways))


def copy_plans(source: Path, target: Path) -> None:
    """Copy the folder `plans` from one folder into another, if it is there."""
    if (source / FOLDER).is_dir():
        shutil.copytree(source / FOLDER, target / FOLDER)


def plan_name(number: int) -> str:
    """Name of the files of a level's plan, without their ending."""
    return f"level_{number}"


def _level_json(levels: Levels, plan: FloorPlan) -> dict[str, object]:
    level, square = levels.levels[plan.level], levels.cell**2
    floor = np.isfinite(level.surface)
    return {
        "number": levels.number(plan.level),
        "height": round(level.height, 4),
        "walkable_area_m2": round(float(level.walkable.sum() * square), 2),
        "floor_area_m2": round(float(floor.sum() * square), 2),
        "guessed_area_m2": round(float((floor & level.guessed).sum() * square), 2),
        "rooms": [
            {"name": room.name, "area_m2": round(room.area, 2), "middle": np.round(room.middle, 3).tolist()}
            for room in plan.rooms
        ],
        "openings": [
            {"width": round(one.width, 3), "from": np.round(one.start, 3).tolist(), "to": np.round(one.end, 3).tolist()}
            for one in plan.openings
        ],
        "plan": [f"{plan_name(levels.number(plan.level))}.{ending}" for ending in ("svg", "png")],
    }


def _way_json(levels: Levels, way: Way) -> dict[str, object]:
    return {
        "kind": way.kind,
        "risers": way.risers,
        "rise": round(way.rise, 4),
        "levels": [levels.number(index) for index in way.levels],
        "low": np.round(way.low, 3).tolist(),
        "high": np.round(way.high, 3).tolist(),
    }


def _title(levels: Levels, plan: FloorPlan) -> str:
    area = sum(room.area for room in plan.rooms)
    return f"Level {levels.number(plan.level)}: floor at {_signed(plan.height)} m, {area:.1f} m²"


def _signed(height: float) -> str:
    return "±0.00" if abs(height) < 0.005 else f"{height:+.2f}"


def draw(plan: FloorPlan, title: str, north: F64 | None) -> Drawing:
    """The drawing of a plan."""
    every = np.concatenate(
        [line for room in plan.rooms for line in room.outlines]
        + [one.points for one in plan.walls if _near_rooms(one, plan.rooms)]
        or [np.array([[0.0, 0], [1, 1]])]
    )
    low, high = every.min(0) - MARGIN, every.max(0) + MARGIN
    side = float((high - low).max())
    sheet = Drawing(low, high, float(np.clip(SCALE, SIDES[0] / side, SIDES[1] / side)), STRIP)
    for line in (line for room in plan.rooms for line in room.outlines):
        sheet.polygon(line, Style(FLOOR))
    for piece in plan.ends:
        sheet.line(piece, Style(None, GREY, 1.4, 5))
    for line in plan.closed:
        sheet.polygon(line, Style(GUESSED))
    for line, over in plan.platforms:
        sheet.polygon(line, Style((238, 240, 232), GREY, 1.2))
        _note(sheet, line.mean(0), f"{_signed(over)} m")
    for thing in plan.things:
        guessed = Style(GUESSED, GUESSED_LINE, 1.2, 4)
        sheet.polygon(thing.outline, guessed if thing.guessed else Style(FURNITURE, FURNITURE_LINE, 1.2))
    for way, outlines in plan.ways:
        _draw_way(sheet, way, outlines, plan.height + CUT)
    _draw_walls(sheet, plan)
    for opening in plan.openings:
        _draw_opening(sheet, opening.start, opening.end, opening.depth, f"{opening.width:.2f}")
    for room in plan.rooms:
        at = sheet.place(room.middle)
        for text, size, below in ((room.name, TEXT + 1, -9.0), (f"{room.area:.1f} m²", TEXT, 9.0)):
            sheet.text(at + np.array([0, below]), text, size, INK)
    _draw_strip(sheet, title, north)
    return sheet


def _near_rooms(outline: Outline, rooms: Sequence[Room]) -> bool:
    """Whether an outline isn't far from what is drawn: what windows show isn't."""
    lines = [line for room in rooms for line in room.outlines]
    if not lines:
        return True
    every = np.concatenate(lines)
    low, high = every.min(0) - 1, every.max(0) + 1
    return bool(((outline.points >= low) & (outline.points <= high)).all())


def _draw_walls(sheet: Drawing, plan: FloorPlan) -> None:
    """Solid where both sides were seen; a pale band behind a line where one was."""
    bands = list[tuple[F64, bool, bool]]()
    normal, length = plan.faces.normal, plan.faces.length
    for number in range(len(length)):
        outline, up = plan.walls[plan.faces.outline[number]], plan.tall[plan.faces.outline[number]]
        if outline.is_pillar or length[number] < 0.02 or not up:
            continue
        seen = bool(np.isfinite(plan.faces.thickness[number]))
        deep = plan.faces.thickness[number] if seen else ASSUMED
        start, end, back = plan.faces.start[number], plan.faces.end[number], -deep * normal[number]
        bands.append((np.array([start, end, end + back, start + back]), seen, outline.guessed))
    for band, seen, guessed in sorted(bands, key=lambda one: one[1]):
        sheet.polygon(band, Style(GUESSED if guessed else WALL if seen else BEHIND))
    for outline, up in zip(plan.walls, plan.tall, strict=True):
        line = GUESSED_LINE if outline.guessed else WALL if up else GREY
        if outline.is_pillar:
            sheet.polygon(outline.points[:-1], Style(GUESSED if outline.guessed else WALL if up else PALE, line, 1.2))
        else:
            sheet.line(outline.points, Style(None, line, 2.4 if up else 1.2))


def _draw_opening(sheet: Drawing, start: F64, end: F64, depth: float, width: str) -> None:
    """A gap with its width: its threshold, and a dimension line."""
    along = (end - start) / np.linalg.norm(end - start)
    half = depth / 2 * np.array([-along[1], along[0]])
    sheet.polygon(np.array([start - half, end - half, end + half, start + half]), Style(FLOOR))
    for side in (half, -half):
        sheet.line(np.array([start + side, end + side]), Style(None, DOOR, 1.0, 4))
    sheet.line(np.array([start, end]), Style(None, DOOR, 1.4))
    for tip, towards in ((start, along), (end, -along)):
        _arrow_head(sheet, tip, towards, DOOR, 7)
    _note(sheet, (start + end) / 2, f"{width} m", DOOR)


def _arrow_head(sheet: Drawing, tip: F64, towards: F64, color: Color, size: float) -> None:
    """A head at a place (2,) [m] of an arrow whose line comes from the direction (2,)."""
    at, back = sheet.place(tip), towards * [1, -1] * size
    aside = 0.4 * np.array([-back[1], back[0]])
    sheet.shape(np.array([at, at + back + aside, at + back - aside]), Style(color), closed=True)


def _note(sheet: Drawing, at: F64, text: str, color: Color = INK) -> None:
    """A text on a white ground at a place (2,) [m]."""
    x, y = sheet.place(at)
    half = HALF_LETTER * TEXT * len(text) + 2
    ground = np.array([[x - half, y - 9], [x + half, y - 9], [x + half, y + 9], [x - half, y + 9]])
    sheet.shape(ground, Style((255, 255, 255)), closed=True)
    sheet.text(np.array([x, y]), text, TEXT - 2, color)


def _draw_way(sheet: Drawing, way: Way, steps: Sequence[tuple[F64, float]], cut: float) -> None:
    """Treads, those above the cut [m] dashed, and an arrow up the middle of them."""
    for outline, height in steps:
        sheet.polygon(outline, Style(STAIRS, STAIRS_LINE, 1.2, 4 * (height > cut)))
    if len(steps) > 1:
        middles = np.array([outline.mean(0) for outline, _ in steps])
        ends = 1.5 * middles[[0, -1]] - 0.5 * middles[[1, -2]]
        path = np.concatenate([ends[:1], middles, ends[1:]])
    else:
        path = np.array([way.low[:2], way.high[:2]])
    sheet.line(path, Style(None, STAIRS_LINE, 1.6))
    last = path[-2] - path[-1]
    if np.linalg.norm(last) > 0:
        _arrow_head(sheet, path[-1], last / np.linalg.norm(last), STAIRS_LINE, 12)
    if way.kind == "step":
        return
    words = f"up {way.risers} x {100 * way.rise / way.risers:.0f} cm" if way.risers else "ramp up"
    ahead = (path[1] - path[0]) / np.maximum(np.linalg.norm(path[1] - path[0]), 1e-9)
    half = np.array([HALF_LETTER * TEXT * len(words), TEXT])
    _note(sheet, path[0] - (float(np.abs(ahead) @ half) / sheet.scale + 0.06) * ahead, words, STAIRS_LINE)


def _draw_strip(sheet: Drawing, title: str, north: F64 | None) -> None:
    """Title, scale bar, direction, and what the colours say."""
    top = sheet.plan_height + ROW / 2
    sheet.text(np.array([12, top]), title, TEXT + 1, INK, "start")
    length = max(metres for metres in BARS if metres <= max(BARS[0], 0.35 * sheet.width / sheet.scale))
    row, end = top + ROW, 12 + length * sheet.scale
    for part, color in ((0, INK), (0.5, (255, 255, 255))):
        x = 12 + part * (end - 12)
        corners = np.array([[x, row - 4], [x + (end - 12) / 2, row - 4], [x + (end - 12) / 2, row + 4], [x, row + 4]])
        sheet.shape(corners, Style(color, INK, 1), closed=True)
    sheet.text(np.array([end + 8, row]), f"{length:g} m", TEXT, INK, "start")
    known = north is not None and float(np.linalg.norm(north[:2])) > 0
    arrows = [("N", north[:2] / np.linalg.norm(north[:2]))] if known and north is not None else [
        ("x", np.array([1.0, 0])), ("y", np.array([0, 1.0]))]  # fmt: skip
    foot = np.array([sheet.width - 52.0, top + 22])
    for name, direction in arrows:
        tip = foot + 24 * direction * [1, -1]
        sheet.shape(np.array([foot, tip]), Style(None, INK, 1.6))
        back = -direction * [1, -1] * 8
        aside = 0.4 * np.array([-back[1], back[0]])
        sheet.shape(np.array([tip, tip + back + aside, tip + back - aside]), Style(INK), closed=True)
        sheet.text(tip + 10 * direction * [1, -1], name, TEXT - 2, INK)
    x, row = 12.0, top + 2 * ROW
    for text, style in (
        ("wall", Style(WALL)),
        ("other side unseen", Style(BEHIND, WALL, 1.6)),
        ("guessed", Style(GUESSED, GUESSED_LINE, 1)),
        ("furniture", Style(FURNITURE, FURNITURE_LINE, 1.2)),
        ("end of what was seen", Style(FLOOR, GREY, 1.4, 4)),
    ):
        wide = 24 + 0.56 * (TEXT - 2) * len(text) + 16
        if x > 12 and x + wide > sheet.width:
            x, row = 12.0, row + ROW
        sheet.shape(np.array([[x, row - 6], [x + 18, row - 6], [x + 18, row + 6], [x, row + 6]]), style, closed=True)
        sheet.text(np.array([x + 24, row]), text, TEXT - 2, INK, "start")
        x += wide

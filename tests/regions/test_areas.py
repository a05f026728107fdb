"""Named areas of the floor."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.geometry import Mesh
from pipeline.regions.areas import inside_polygon, paint_areas
from pipeline.regions.params import Area, RegionsParams
from pipeline.regions.regions import GRID_FILE, REGIONS_FILE, Regions
from pipeline.regions.stage import run
from tests.mesh.scenes import built
from tests.regions.test_stage import write_inputs

ARROW = ((0.3, 0.2), (1.7, 0.4), (1.1, 0.7), (1.9, 1.3), (0.4, 1.1))
"""Five corners, one of them a notch; 0.78 m^2."""
YELLOW, GREY = (235, 200, 40), (150, 150, 150)


def floor(colors: NDArray[np.uint8], cell: float = 0.1) -> tuple[Regions, Mesh]:
    """A level floor at 0.2 m of (X, Y) cells from (-0.5, 0.3) on, and a mesh with a vertex at each centre."""
    shape = colors.shape[:2]
    height, free = np.full(shape, 0.2, np.float32), np.ones(shape, bool)
    regions = Regions((-0.5, 0.3), cell, height, free, free, ~free, 0.2, (), ())
    vertices = np.concatenate([regions.centres(), height[..., None]], -1).reshape(-1, 3).astype(np.float32)
    mesh = Mesh(vertices, np.zeros((0, 3), np.int32), colors.reshape(-1, 3), np.zeros(len(vertices), bool))
    return regions, mesh


def painted(colors: NDArray[np.uint8], *areas: Area) -> Regions:
    """The floor with these areas."""
    regions, mesh = floor(colors)
    cells = paint_areas(areas, regions.centres(), regions.height, regions.cell, mesh)
    return replace(regions, areas=areas, area=cells)


def grey(x: int = 25, y: int = 15) -> NDArray[np.uint8]:
    """A floor all of one colour (X, Y, 3)."""
    return np.tile(np.array(GREY, np.uint8), (x, y, 1))


def test_polygon_is_closed_and_may_have_notches():
    """Its area by counting points is that of the shoelace formula; the notch is outside."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 2, (40_000, 2))
    corners = np.array(ARROW)
    x, y = corners.T
    exact = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert inside_polygon(corners, points).mean() * 4 == pytest.approx(exact, abs=0.03)
    at = inside_polygon(corners, np.array([[0.5, 0.5], [1.6, 0.7], [1.6, 1.1], [0.2, 0.2]]))
    assert at.tolist() == [True, False, True, False]
    assert (inside_polygon(corners[::-1], points) == inside_polygon(corners, points)).all()


def test_lookup_gives_friction_and_cost_by_place():
    """In an area, beside it, off the grid; where two overlap the last holds."""
    square = ((-2.0, 0.5), (1.0, 0.5), (1.0, 1.5), (-2.0, 1.5))
    corner = ((0.5, 1.0), (1.3, 1.0), (1.3, 1.7), (0.5, 1.7))
    regions = painted(grey(), Area("ice", square, friction=0.1), Area("mud", corner, friction=0.7, cost=2.5))
    friction, cost = regions.surface(np.array([[0.2, 0.7, 9], [0.7, 1.2, 9], [1.5, 0.7, 9], [-7.0, 0.7, 9], [9, 9, 9]]))
    assert friction.tolist() == pytest.approx([0.1, 0.7, 1, 1, 1])
    assert cost.tolist() == [0, 2.5, 0, 0, 0]
    assert friction.dtype == cost.dtype == np.float32


def test_without_areas_the_floor_is_plain():
    """Factor 1, cost 0, everywhere."""
    friction, cost = floor(grey())[0].surface(np.array([[0.2, 0.7], [90.0, 1.0]]))
    assert friction.tolist() == [1, 1] and cost.tolist() == [0, 0]


def test_color_chooses_cells_in_light_and_shade():
    """The yellow patch, half of it in shade, and not the grey, white or red floor round it."""
    colors = grey()
    colors[5:12, 3:9] = YELLOW
    colors[8:12, 3:9] = np.array(YELLOW) * 0.7
    colors[15:, :4], colors[15:, 10:] = (240, 240, 240), (200, 60, 40)
    inside = painted(colors, Area("patch", color="#ebc828")).area == 0
    inner = np.zeros_like(inside)
    inner[6:11, 4:8] = True  # a cell's colour is the mean of four vertices
    assert inside[inner].all()
    outer = np.ones_like(inside)
    outer[4:13, 2:10] = False
    assert not inside[outer].any()


def test_color_within_a_polygon():
    """Both together: only what lies in it."""
    colors = grey()
    colors[:, :] = YELLOW
    regions = painted(colors, Area("half", ((-1, 0), (0.5, 0), (0.5, 3), (-1, 3)), "#ebc828", cost=1))
    assert (regions.area[:10] == 0).all() and (regions.area[10:] == -1).all()


def test_colors_of_other_levels_do_not_count():
    """A yellow table top over a floor that nobody saw."""
    colors = grey()
    colors[:, :] = YELLOW
    regions, mesh = floor(colors)
    cells = paint_areas([Area("y", color="#ebc828")], regions.centres(), regions.height - 0.7, regions.cell, mesh)
    assert (cells == -1).all()


def test_stage_carries_areas_into_the_files(tmp_path: Path):
    """Written and read again, with the cells; a bundle of an older version, without them, opens too."""
    inputs = write_inputs(tmp_path, built().collision)
    built().mesh.save(inputs["mesh"] / "mesh.ply")
    areas = (
        Area("ice", ((1, 0.5), (2.2, 0.5), (2, 1.3)), friction=0.2),
        Area("dear", ((0, 0), (1, 0), (0, 2)), cost=3),
    )
    run(inputs, RegionsParams(areas=areas), inputs["out"])
    regions = Regions.load(inputs["out"])
    assert regions.areas == areas
    assert (regions.area == 0).sum() * regions.cell**2 == pytest.approx(0.48, abs=0.05)
    assert regions.surface(np.array([[1.9, 0.7], [0.2, 0.3]]))[1].tolist() == [0, 3]
    content = json.loads((inputs["out"] / REGIONS_FILE).read_text())
    del content["areas"]
    (inputs["out"] / REGIONS_FILE).write_text(json.dumps(content))
    np.savez(
        inputs["out"] / GRID_FILE, **{n: getattr(regions, n) for n in ("height", "walkable", "drivable", "guessed")}
    )
    old = Regions.load(inputs["out"])
    assert old.areas == () and old.surface(np.array([[1.9, 0.7]]))[0].tolist() == [1]

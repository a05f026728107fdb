"""Occupancy grids for Nav2: of each level a map, and masks for its keep-out and speed filters.

Source: map_io.cpp of nav2_map_server (what a pixel means), and the page "Costmap Filter Info Server" of Nav2's docs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import SimError
from pipeline.export.form import short_origin
from pipeline.geometry import masks
from pipeline.mesh.params import WalkableParams
from pipeline.mesh.walkable import cliffs
from pipeline.regions.levels import Levels, find_levels
from pipeline.regions.regions import Regions
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import MANIFEST_FILE, reading
from pipeline.types import F64, U8, Mask

OCCUPIED, UNKNOWN, FREE = 0, 205, 254
"""What map_server's own saver writes."""
OCCUPIED_FROM, FREE_TO = 0.65, 0.196
"""Thresholds: (255 - 205) / 255 lies between them, and is unknown."""
ON_LEVEL = 0.2
"""Areas of the floor count on levels that lie so near to it [m]."""
SLOWEST = 0.01
"""A lower factor of friction counts as this."""
KEEP_OUT, SPEED_PERCENT = 0, 1
"""Types of costmap filters."""


@dataclass(frozen=True, eq=False)
class LevelMap:
    """Pixels (H, W) of one level, the first row at the highest y.

    Attributes:
        map: Occupied, unknown or free.
        keep_out: Black where an area has a cost.
        slower: Percent that robots go slower.
    """

    map: U8
    keep_out: U8
    slower: U8


def export_nav2(bundle: Bundle, folder: Path) -> None:
    """Write a folder `level_N` for each level with its map and masks, `levels.json`, `README.md`.

    Raises:
        SimError: When nobody can stand anywhere.
        BundleError: When the bundle is damaged.
    """
    regions, robot = bundle.regions, robot_of(bundle)
    levels = find_levels(bundle.mesh("collision"), regions, robot)
    if not levels.levels:
        raise SimError(
            "a map for Nav2 shows a floor to drive on",
            found=regions.note or "none",
            remedy="export a bundle with a walkable floor: `splatyard bundle inspect` says how large it is",
            file=bundle.root,
        )
    for index in range(len(levels.levels)):
        _write_level(folder / f"level_{levels.number(index)}", level_map(levels, index, regions, robot), levels)
    content = [{"number": levels.number(i), "height": round(one.height, 4)} for i, one in enumerate(levels.levels)]
    (folder / "levels.json").write_text(json.dumps({"levels": content}, indent=1))
    about = "".join(f"- {name}: {json.dumps(text)}\n" for name, text in short_origin(bundle).items())
    (folder / "README.md").write_text(README.format(step=robot.max_drive_step, height=robot.height, about=about))


def robot_of(bundle: Bundle) -> WalkableParams:
    """The robot that the bundle's walkable floor is for, with the grid's cell.

    Raises:
        BundleError: When the manifest states one that can't be.
    """
    stated = next((one.params for one in bundle.manifest.provenance.stages if one.name == "regions"), {})
    known = {name: stated[name] for name in WalkableParams.model_fields if name in stated}
    with reading("the parameters of the regions stage are a robot's", bundle.root / MANIFEST_FILE):
        return WalkableParams.model_validate({**known, "cell": bundle.regions.cell})


def level_map(levels: Levels, index: int, regions: Regions, robot: WalkableParams) -> LevelMap:
    """The map of a level and its masks."""
    level = levels.levels[index]
    surface, stairs = _surface(levels, index)
    floor = np.isfinite(surface)
    image = np.full(floor.shape, UNKNOWN, np.uint8)
    image[floor & ~level.guessed] = FREE
    image[stairs | _obstacles(levels, surface, robot) | _drops(levels, surface, robot)] = OCCUPIED
    places = levels.centres().reshape(-1, 2)
    factor, cost = (grid.reshape(floor.shape) for grid in regions.surface(places))
    cells, inside = regions.cells_of(places)
    ground = np.full(len(places), np.nan)
    ground[inside] = regions.height[tuple(cells[inside].T)]
    here = np.abs(ground.reshape(floor.shape) - surface) < ON_LEVEL
    kept_out = np.where(here & (cost > 0), OCCUPIED, FREE).astype(np.uint8)
    # of the same way to stop, v^2 / (2 friction g)
    slower = np.where(here, 100 * (1 - np.sqrt(np.clip(factor, SLOWEST, 1))), 0).round().astype(np.uint8)
    return LevelMap(*(np.ascontiguousarray(grid.T[::-1]) for grid in (image, kept_out, slower)))


def _surface(levels: Levels, index: int) -> tuple[F64, Mask]:
    """Heights (X, Y) of the level's floor and of ramps to it [m], NaN elsewhere; and where it has stairs."""
    surface = levels.levels[index].surface.copy()
    stairs = np.zeros(surface.shape, bool)
    for way in levels.ways:
        if index in way.levels:
            i, j = way.cells.T
            new = np.isnan(surface[i, j])
            if way.kind == "ramp":
                surface[i[new], j[new]] = way.heights[new]
            else:
                stairs[i[new], j[new]] = True
    return surface, stairs


def _obstacles(levels: Levels, surface: F64, robot: WalkableParams) -> Mask:
    """Cells (X, Y) with anything over the robot's step and below its height, over the nearest floor."""
    i, j = levels.columns.index.T
    above = levels.columns.heights - _nearest(surface)[i, j]
    hit = (above > robot.max_drive_step) & (above < robot.height)
    found = np.zeros(surface.shape, bool)
    found[i[hit], j[hit]] = True
    return found


def _drops(levels: Levels, surface: F64, robot: WalkableParams) -> Mask:
    """Cells (X, Y) of the floor at whose edge it goes down by more than the robot's step."""
    layers = levels.columns.layers
    below = np.where(layers <= _nearest(surface)[..., None] + robot.max_drive_step, layers, -np.inf).max(2)
    known = np.where(np.isfinite(surface), surface, np.where(np.isfinite(below), below, np.nan))
    return np.asarray(cliffs(known, robot.max_drive_step) & np.isfinite(surface))


def _nearest(surface: F64) -> F64:
    """Height (X, Y) of the floor nearest to each cell [m]."""
    nearest = masks.nearest_marked(np.isfinite(surface))
    return surface[nearest[0], nearest[1]]


def _write_level(folder: Path, made: LevelMap, levels: Levels) -> None:
    folder.mkdir()
    x, y = (round(float(value), 6) for value in levels.columns.origin)
    for name, image, mode in (
        ("map", made.map, "trinary"),
        ("keepout_mask", made.keep_out, "trinary"),
        ("speed_mask", made.slower, "raw"),
    ):
        Image.fromarray(image).save(folder / f"{name}.pgm")
        (folder / f"{name}.yaml").write_text(
            f"image: {name}.pgm\nmode: {mode}\nresolution: {levels.cell:g}\norigin: [{x}, {y}, 0.0]\n"
            f"negate: 0\noccupied_thresh: {OCCUPIED_FROM}\nfree_thresh: {FREE_TO}\n"
        )
    for name, kind, base, multiplier in (("keepout", KEEP_OUT, 0.0, 1.0), ("speed", SPEED_PERCENT, 100.0, -1.0)):
        (folder / f"{name}_filter_info.yaml").write_text(
            f"{name}_costmap_filter_info_server:\n  ros__parameters:\n    type: {kind}\n"
            f"    filter_info_topic: {name}_filter_info\n    mask_topic: {name}_filter_mask\n"
            f"    base: {base}\n    multiplier: {multiplier}\n"
        )


README = """\
# Maps for Nav2

A folder for each level, 0 is the ground; `levels.json` has the heights of their floors [m].

| file | for |
| --- | --- |
| `map.yaml`, `map.pgm` | `map_server`, or `amcl` and planners through it |
| `keepout_mask.yaml`, `.pgm` | a second `map_server` on the topic `keepout_filter_mask` |
| `keepout_filter_info.yaml` | the parameters of its `costmap_filter_info_server` |
| `speed_mask.yaml`, `.pgm`; `speed_filter_info.yaml` | the same for the speed filter |

- The map's frame is the bundle's: x and y in metres, z up. The origin is the lower left corner of the lower left pixel.
- Black (0) is occupied: something {step} m to {height} m over the floor, or an edge where the floor goes down by more
  than {step} m. Stairs are occupied, ramps free. Robots with other measures need a bundle built with
  `--set regions.height=...` and `--set regions.max_drive_step=...`.
- White (254) is free. Grey (205) is unknown: never seen, or floor that was closed by a guess.
- Keep-out: areas of the scene card with a `cost`. Speed: in areas with a `friction` factor f below 1, sqrt(f) of the
  full speed, so that the way to stop stays the same; a mask's pixel is how many percent slower.
  Both count on the bundle's own floor only.

{about}"""

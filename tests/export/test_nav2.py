"""Maps for Nav2, read by the rules of map_server: what is free, occupied and unknown, and paths over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import networkx
import numpy as np
import pytest
import yaml

from pipeline.errors import SimError
from pipeline.export.catalog import FORMS
from pipeline.export.form import export
from pipeline.geometry import Mesh, masks
from pipeline.regions.params import Area
from pipeline.regions.regions import Regions
from pipeline.regions.stage import paint_areas
from pipeline.scenes.bundle import Bundle
from sim.scene.navigation import distances
from tests.bundles import make_bundle
from tests.export.conftest import change
from tests.regions.houses import PARAMS, regions_of, two_rooms, two_storeys
from tests.synthetic import Room

ICE = Area(name="ice", polygon=((5.2, 1), (8, 1), (8, 2), (5.2, 2)), friction=0.25)
CARPET = Area(name='"carpet"', polygon=((3, 3), (5, 3), (5, 4), (3, 4)), cost=2)


@dataclass
class Grid:
    """A map as ROS has it: data (H, W), the first row at the lowest y; 0 free, 100 occupied, -1 unknown."""

    data: np.ndarray
    resolution: float
    origin: tuple[float, float]

    def at(self, x: float, y: float) -> int:
        """The value at a place."""
        column, row = (int(np.floor((v - o) / self.resolution)) for v, o in zip((x, y), self.origin, strict=True))
        return int(self.data[row, column])


def load(path: Path) -> Grid:
    """Written from the rules: PGM as bytes, from the top; thresholds; modes."""
    about = yaml.safe_load(path.read_text())
    kind, size, most, pixels = (path.parent / about["image"]).read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    assert kind == b"P5" and most == b"255" and len(pixels) == width * height
    image = np.frombuffer(pixels, np.uint8).reshape(height, width).astype(float)
    if about["negate"]:
        image = 255 - image
    if about["mode"] == "raw":
        data = np.where(image <= 100, image, -1)
    else:
        chance = (255 - image) / 255
        data = np.where(chance > about["occupied_thresh"], 100, np.where(chance < about["free_thresh"], 0, -1))
    x, y, yaw = about["origin"]
    assert yaw == 0
    return Grid(data[::-1].astype(int), about["resolution"], (x, y))


@pytest.fixture
def exported(tmp_path: Path, room: Room) -> Callable[..., Path]:
    """Writes a house as a bundle with areas, and that for Nav2."""

    def write(mesh: Mesh, regions: Regions, *areas: Area) -> Path:
        if areas:
            painted = paint_areas(areas, regions.centres(), regions.height, regions.cell, mesh)
            regions = Regions(**{**vars(regions), "areas": areas, "area": painted})
        folder = make_bundle(tmp_path / "bundles", room, regions=regions)
        mesh.save(folder / "collision.ply")
        export(change(folder), FORMS["nav2"], tmp_path / "out")
        return tmp_path / "out"

    return write


def test_places_are_at_their_pixels(exported: Callable[..., Path]):
    """Of an asymmetric house: a mirrored, turned or shifted map would fail."""
    out = exported(two_rooms(), regions_of(two_rooms(), (1, 3), (6, 2)))
    grid = load(out / "level_0" / "map.yaml")
    for x, y in ((0.3, 0.3), (4.7, 0.3), (4.7, 3.7), (5.06, 2.5), (7.7, 1.3), (7.7, 3.0), (3, 2)):
        assert grid.at(x, y) == 0, (x, y)
    for x, y in ((6.52, 3.22), (6.88, 3.58), (5.02, 1.5), (5.02, 3.5), (8.0, 2.0), (2.0, 0.0), (6.0, 1.0)):
        window = [grid.at(x + dx, y + dy) for dx in (-0.05, 0, 0.05) for dy in (-0.05, 0, 0.05)]
        assert 100 in window, (x, y)
    assert grid.at(6.52, 3.22) == 100 and grid.at(6.88, 3.58) == 100  # a box 0.3 m high
    assert grid.at(6.5, 0.5) == -1 and grid.at(5.06, 1.7) == -1  # outside; in the wall
    assert grid.at(1.6, 1.3) == -1  # within a solid table
    assert (out / "README.md").read_text().count("0.04 m to 0.5 m") == 1
    assert json.loads((out / "levels.json").read_text())["levels"] == [{"number": 0, "height": 0.0}]


def test_paths_are_as_long_as_ours(exported: Callable[..., Path]):
    """From room to room through the door, planned by networkx on the inflated map; within 3 %."""
    regions = regions_of(two_rooms(), (1, 3), (6, 2))
    grid = load(exported(two_rooms(), regions) / "level_0" / "map.yaml")
    free = masks.distance_from(grid.data != 0) * grid.resolution > PARAMS.radius
    graph = networkx.Graph()
    for row, column in np.argwhere(free).tolist():
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
            if (row + dr, column + dc) in graph or free[row + dr, column + dc]:
                graph.add_edge((row, column), (row + dr, column + dc), weight=float(np.hypot(dr, dc)))
    price = np.where(regions.drivable, np.float32(1), np.float32(np.inf))[None]
    for start, goal in (((0.6, 0.6), (7.4, 3.0)), ((0.6, 3.4), (7.5, 1.5)), ((4.4, 0.5), (5.6, 3.5))):
        nodes = [
            tuple(int(np.floor((v - o) / grid.resolution)) for v, o in zip(xy[::-1], grid.origin[::-1], strict=True))
            for xy in (start, goal)
        ]
        theirs = networkx.shortest_path_length(graph, *nodes, weight="weight") * grid.resolution
        cells, _ = regions.cells_of(np.array([start, goal]))
        source = np.zeros_like(price, bool)
        source[0, *cells[1]] = True
        ours = float(distances(price, source, np.array([regions.cell]))[0, *cells[0]])
        assert theirs == pytest.approx(ours, rel=0.03)
        assert theirs > np.linalg.norm(np.subtract(start, goal))


def test_areas_become_masks(exported: Callable[..., Path]):
    """A cost keeps robots out, less friction slows them down: half as fast with a quarter of it."""
    out = exported(two_rooms(), regions_of(two_rooms(), (1, 3), (6, 2)), ICE, CARPET) / "level_0"
    keep, speed = load(out / "keepout_mask.yaml"), load(out / "speed_mask.yaml")
    assert [keep.at(4, 3.5), keep.at(2, 3.5), keep.at(6, 1.5)] == [100, 0, 0]
    assert [speed.at(6, 1.5), speed.at(6, 2.5), speed.at(4, 3.5)] == [50, 0, 0]
    (info,) = yaml.safe_load((out / "speed_filter_info.yaml").read_text()).values()
    values = info["ros__parameters"]
    assert (values["type"], values["base"] + values["multiplier"] * speed.at(6, 1.5)) == (1, 50)
    (info,) = yaml.safe_load((out / "keepout_filter_info.yaml").read_text()).values()
    assert info["ros__parameters"]["type"] == 0
    assert load(out / "map.yaml").data.shape == keep.data.shape == speed.data.shape


def test_each_level_has_a_map(exported: Callable[..., Path]):
    """Stairs are occupied on the lower one, their edge on the upper; guessed floor is unknown."""
    mesh = two_storeys()
    middles = mesh.corners().mean(1)
    guessed = np.zeros(len(mesh.vertices), bool)
    guessed[mesh.triangles[(np.abs(middles[:, 2] - 2.88) < 1e-3) & (middles[:, 1] < 3.4)]] = True
    mesh = Mesh(mesh.vertices, mesh.triangles, mesh.colors, guessed)
    out = exported(mesh, regions_of(mesh, (6, 1), (6, 2)))
    ground, upper = (load(out / f"level_{number}" / "map.yaml") for number in (0, 1))
    assert [ground.at(*place) for place in ((7, 4), (2, 2), (3, 4.3), (1.1, 4.3))] == [0, 0, 100, 100]
    assert [upper.at(*place) for place in ((7, 4), (2, 2), (3, 4.3))] == [0, -1, 100]
    assert 100 in [upper.at(2.0, 3.5 + off) for off in (-0.075, -0.025, 0.025)]


def test_objects_have_no_map(tmp_path: Path, room: Room):
    """The error says what to do."""
    nowhere = Regions.without_floor(0.05, "the bundle is an object by itself")
    folder = make_bundle(tmp_path / "bundles", room, regions=nowhere)
    with pytest.raises(SimError, match="an object by itself"):
        export(Bundle.open(folder), FORMS["nav2"], tmp_path / "out")

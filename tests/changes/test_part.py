"""The part of a place that a re-scan changes: what it is, and that all around it stays bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.capture.images import save_mask
from pipeline.changes.part import BORDER, CELL, MARGIN, Part, changed_surface, recolored
from pipeline.changes.part_splat import Kept, _cut
from pipeline.changes.part_stages import _levels, _mirrors, showing, spliced, taken_over, write_depth, write_points
from pipeline.changes.update_stages import UPDATE_FILE
from pipeline.depth.maps import load_depth_map, map_names, save_depth_map, write_index
from pipeline.depth.params import DepthParams
from pipeline.geometry import Camera, Gaussians, Mesh, PointCloud, Pose, Similarity, matrix_from_rotvec
from pipeline.mesh.topology import border_edges
from pipeline.points import stage as points_stage
from pipeline.points.levels import Levels
from pipeline.points.mirrors import Mirrors
from pipeline.points.params import PointsParams
from pipeline.raster import render
from pipeline.splat.ply import save_splat
from pipeline.splat.views import PyramidLevel, ViewDepth, training_view
from tests.joining.walks import round_the_room
from tests.synthetic import Room, depth_maps, posed_scene

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)
DOWN = Pose(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 2.0]))
"""A camera 2 m above the floor that looks down."""


def floor(height: float = 0.0, step: float = 0.02, side: float = 2.0) -> Mesh:
    """A level square around the origin."""
    count = round(side / step) + 1
    x, y = np.meshgrid(*2 * [np.linspace(-side / 2, side / 2, count)], indexing="ij")
    number = np.arange(count**2).reshape(count, count)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Mesh.from_arrays(np.stack([x, y, np.full_like(x, height)], -1).reshape(-1, 3), triangles)


def discs(color: tuple[float, float, float]) -> Gaussians:
    """A floor of Gaussians."""
    x, y = (part.ravel() for part in np.meshgrid(*2 * [np.arange(-1.2, 1.2, 0.04)]))
    count = len(x)
    means, upright = np.stack([x, y, 0 * x], 1), np.tile([1.0, 0, 0, 0], (count, 1))
    scales = np.tile([0.03, 0.03, 0.003], (count, 1))
    return Gaussians.from_colors(means, scales, upright, np.tile(color, (count, 1)), 0.95, 1)


def test_a_part_is_what_changed_and_a_margin(tmp_path: Path):
    """It comes back from a file; what has no points is empty."""
    part = Part.around(np.array([[0.55, 0.05, 1.25]]))
    reach = MARGIN * CELL
    asked = np.array([[0.55, 0.05, 1.25], [0.55 + reach, 0.05, 1.25], [0.55 + reach + CELL, 0.05, 1.25]])
    for one in (part, (part.save(tmp_path), Part.load(tmp_path))[1]):
        assert one.holds(asked).tolist() == [True, True, False]
        assert one.inner.holds(asked - np.array([BORDER * CELL, 0, 0])).tolist() == [True, True, False]
    assert part.near(asked, CELL).tolist() == [True, True, True]
    assert not part.empty
    nothing = Part.around(np.zeros((0, 3)))
    assert nothing.empty
    assert not nothing.holds(asked).any()


def test_little_surface_is_noise():
    """A square decimetre doesn't hang together with a few triangles far away."""
    few = floor().with_faces(np.arange(20_000) < 8)
    thing = floor(0.5, side=0.3)
    points = changed_surface([few, thing])
    assert len(points) == len(thing.triangles)
    assert (points[:, 2] == 0.5).all()


def test_another_colour_is_a_change_and_another_exposure_is_none():
    """What one view alone shows so is none, either."""
    splat = discs((0.5, 0.4, 0.3))
    depth = ViewDepth(np.full((48, 64), 2, np.float32), np.full((48, 64), 0.01, np.float32))
    shown = render(splat, CAMERA, DOWN).rgb
    painted = shown.copy()
    painted[:24, :32] = (0.1, 0.6, 0.9)

    def look(image: np.ndarray) -> tuple[PyramidLevel, Pose]:
        photo = np.moveaxis((image * 255).clip(0, 255).round().astype(np.uint8), -1, 0)
        return PyramidLevel(CAMERA, photo, depth), DOWN

    found, seen = recolored(splat, [look(painted), look(0.8 * painted)])
    assert len(seen) > 2 * len(found)
    assert len(found) > 30
    corner = DOWN.apply(np.array([0.0, 0.0, 2.0]))  # the painted quarter ends here
    assert ((found[:, :2] - corner[:2]) * [1, -1] < CELL).all()
    assert not len(recolored(splat, [look(shown), look(0.7 * shown)])[0])
    assert not len(recolored(splat, [look(painted), look(shown), look(shown)])[0])


def test_a_mesh_is_spliced_without_a_seam():
    """Old triangles outside come first and bit for bit; new ones inside meet them."""
    old, part = floor(), Part.around(np.array([[0.0, 0.0, 0.0]]))
    wavy = floor().vertices.copy()
    wavy[:, 2] += np.where(part.inner.holds(wavy), 0.01, 0.0004)  # a plane that is a little off, and what changed
    new = replace(old, vertices=wavy).with_faces(part.near(old.corners().mean(1), 0.3))
    mesh = spliced(old, new, part, 0.008)
    outside = old.with_faces(~part.holds(old.corners().mean(1)))
    count = len(outside.triangles)
    assert 0.5 * len(old.triangles) < count < len(old.triangles)
    assert np.array_equal(mesh.corners()[:count], outside.corners())
    assert len(mesh.triangles) == len(old.triangles)
    assert len(border_edges(mesh)) == len(border_edges(old))
    assert (mesh.vertices[:, 2] == np.float32(0.01)).sum() > 50


def test_levels_and_mirrors_are_the_later_ones_in_the_part():
    """And the earlier ones outside, on the earlier grid."""
    part = Part.around(np.array([[1.0, 0.0, 0.5]]))
    grid = Levels.none(np.array([-2.0, -2.0]), 0.1, (41, 41))
    everywhere = np.ones((1, 41, 41), bool)
    old = replace(grid, heights=np.array([0.5]), sigmas=np.array([0.01]), cells=everywhere, hidden=~everywhere)
    new = replace(old, origin=np.array([-1.0, -2.0]), heights=np.array([0.52]))
    both = _levels(old, new, part)
    assert both.heights.tolist() == [0.5, 0.52]
    row, column, _ = both.cells_of(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert both.cells[:, row, column].tolist() == [[False, True], [True, False]]
    assert not both.hidden.any()
    alone = _levels(Levels.none(np.zeros(2), 0.1, (1, 1)), new, part)
    row, column, _ = alone.cells_of(np.array([[1.0, 0.0], [-0.5, 0.0]]))
    assert alone.cells[:, row, column].tolist() == [[True, False]]
    walls = np.array([[0.0, -1.0, 0.0], [0.0, -1.0, 0.0]])
    bounds = np.array([[[0.9, 0.4], [1.1, 0.6]], [[-1.1, 0.4], [-0.9, 0.6]]])  # one on either side
    mirrors = Mirrors(walls, np.zeros(2), bounds)
    assert mirrors.middles().round(6).tolist() == [[1, 0, 0.5], [-1, 0, 0.5]]
    kept = _mirrors((mirrors, Mirrors(walls[:1], np.array([0.01]), bounds[:1])), part)
    assert kept.offsets.tolist() == [0.0, 0.01]


def test_earlier_depth_stays_and_the_re_scans_takes_its_place(room: Room, tmp_path: Path):
    """The same file, but for what is masked; the re-scan's in the earlier scene; shares of what changed."""
    names = ("update", "poses", "poses-again", "align", "depth-before", "depth-again", "out")
    inputs = {name: tmp_path / name for name in names}
    for folder in inputs.values():
        folder.mkdir()
    poses, moved = round_the_room(0.0, 0.5)[:3], Pose(matrix_from_rotvec([0, 0, 0.7]), np.array([0.4, 0.1, 0.0]))
    again = posed_scene(inputs["poses-again"], room, poses, CAMERA)
    again.save(inputs["poses-again"])
    scene = posed_scene(inputs["poses"], room, poses, CAMERA)
    mask = np.ones((48, 64), bool)
    mask[:, :30] = False
    views = [*scene.views, replace(again.views[0], name="two--0000", world_from_camera=moved)]
    views[1] = replace(views[1], mask=save_mask(mask, inputs["poses"], "0001"))
    replace(scene, views=tuple(views)).save(inputs["poses"])
    maps = depth_maps(room, poses, CAMERA)
    for name, some in (("depth-before", maps), ("depth-again", maps[:1])):
        for one in some:
            save_depth_map(inputs[name], one)
        write_index(inputs[name], [one.name for one in some], "sensor", {"made": name})
    Alignment(Similarity.identity(), ("surfaces",), 0.2, "sensor", 0.01, floor_found=True, report={}).save(
        inputs["align"]
    )
    Part.around(maps[0].points()[24:25, 32]).save(inputs["update"])
    content = {"source": "two", "poses": {}, "masks": {"0001": "masks/0001.png"}}
    (inputs["update"] / UPDATE_FILE).write_text(json.dumps(content))
    out = inputs.pop("out")
    write_depth(inputs, DepthParams(backend="sensor"), out)
    assert map_names(out) == ["0000", "0001", "0002", "two--0000"]
    for name in ("0000", "0002"):
        assert (out / f"{name}.npz").read_bytes() == (inputs["depth-before"] / f"{name}.npz").read_bytes()
    masked = load_depth_map(out, "0001").depth
    assert not masked[:, :29].any()
    assert np.array_equal(masked[:, 31:], maps[1].depth[:, 31:])
    placed = load_depth_map(out, "two--0000")
    assert np.allclose(placed.world_from_camera.matrix, moved.matrix)
    assert np.array_equal(placed.depth, maps[0].depth)
    assert 0 < showing(out)["0000"] < 1


def test_what_nothing_changes_is_taken_over(tmp_path: Path):
    """File by file."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "mesh.ply").write_bytes(b"mesh")
    taken_over(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "mesh.ply").read_bytes() == b"mesh"


def test_gaussians_outside_of_the_part_are_kept(tmp_path: Path):
    """In their order; of the inpainted ones it is known how many."""
    splat, part = discs((0.5, 0.5, 0.5)), Part.around(np.array([[0.0, 0.0, 0.0]]))
    save_splat(splat, tmp_path / "splat.ply")
    kept = Kept.of(tmp_path / "splat.ply", part, 1000, 10.0)
    outside = ~part.holds(splat.means)
    assert 0 < outside.sum() < len(splat)
    for name in Gaussians.ARRAYS:
        assert np.array_equal(getattr(kept.outside, name), getattr(splat, name)[outside])
    assert kept.inpainted == outside[:1000].sum()
    assert kept.most(0.01) == (~outside).sum()
    assert kept.most(5.0) == pytest.approx(len(splat) / 2, abs=1)


def test_a_photo_is_cut_to_what_changed():
    """What a pixel shows stays where it is; a photo that shows nothing of it is left out."""
    photo = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    depth = ViewDepth(np.full((48, 64), 2, np.float32), np.full((48, 64), 0.01, np.float32))
    view = training_view("one", photo, CAMERA, DOWN, depth)
    spot = DOWN.apply(2 * CAMERA.rays(np.array([62.0, 2.0])))
    cut = _cut(view, Part.around(spot[None]))
    assert cut is not None
    level = cut.levels[0]
    assert (level.camera.width, level.camera.height) < (64, 48)
    pixels = [c.project(DOWN.inverse().apply(spot)) for c in (CAMERA, level.camera)]
    column, row = (pixels[0] - pixels[1]).round().astype(int)
    height, width = level.photo.shape[1:]
    assert np.array_equal(np.moveaxis(level.photo, 0, -1), photo[row : row + height, column : column + width])
    assert _cut(view, Part.around(np.array([[9.0, 9.0, 9.0]]))) is None


def test_points_outside_of_the_part_stay(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In it they are new; masked maps don't say what depth missed."""
    inputs = {name: tmp_path / name for name in ("update", "poses", "align", "depth", "points-before", "out")}
    for folder in inputs.values():
        folder.mkdir()
    out = inputs.pop("out")
    poses = round_the_room(0.0, 0.6)[:6]
    posed_scene(inputs["poses"], room, poses, CAMERA).save(inputs["poses"])
    maps = depth_maps(room, poses, CAMERA)
    for one in maps:
        save_depth_map(inputs["depth"], one)
    write_index(inputs["depth"], [one.name for one in maps], "sensor", {"conflicts": {"suspicious": []}})
    Alignment(Similarity.identity(), ("surfaces",), 0.2, "sensor", 0.01, floor_found=True, report={}).save(
        inputs["align"]
    )
    params = PointsParams(voxel=0.03)
    points_stage.run(inputs, params, inputs["points-before"])
    moved = replace(maps[3], depth=maps[3].depth * np.float32(0.97))
    save_depth_map(inputs["depth"], moved)
    part = Part.around(moved.points()[24:25, 32])
    part.save(inputs["update"])
    shares = {one.name: part.share_of(one) for one in maps}
    (inputs["depth"] / "shares.json").write_text(json.dumps(shares))
    content = {"source": "two", "poses": {}, "masks": {"0002": "masks/0002.png"}}
    (inputs["update"] / UPDATE_FILE).write_text(json.dumps(content))
    asked, find = [], points_stage.find_levels
    monkeypatch.setattr(points_stage, "find_levels", lambda some, cloud: (asked.extend(some), find(some, cloud))[1])
    write_points(inputs, params, out)
    assert shares["0002"] > 0
    assert "0003" in {one.name for one in asked}
    assert "0002" not in {one.name for one in asked}
    old, new = (PointCloud.load(folder / points_stage.CLOUD_FILE) for folder in (inputs["points-before"], out))
    stay = old[~part.holds(old.points)]
    assert 0 < len(stay) < len(old)
    assert np.array_equal(new.points[: len(stay)], stay.points)
    inside = new.points[len(stay) :]
    assert len(inside)
    assert part.holds(inside).all()
    assert not {row.tobytes() for row in inside} <= {row.tobytes() for row in old.points}
    assert not (out / "near").exists()

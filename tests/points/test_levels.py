"""Level surfaces that depth missed: a black worktop beside a doorway, and what must stay open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.depth.maps import FROM_SENSOR, DepthMap
from pipeline.geometry import Camera, Mesh, PointCloud, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.mesh.params import MeshParams
from pipeline.mesh.stage import build_mesh
from pipeline.points.level_search import find_levels
from pipeline.points.levels import Levels
from tests.synthetic import box_faces, look_at

CAMERA = Camera(192, 144, 147.0, 145.8, 95.1, 72.9)
TOP = 0.9
LOW, HIGH = np.array([0.4, 2.4]), np.array([2.3, 3.0])
"""The worktop, along the wall y = 3, in which there is a doorway from x = 2.6 to 3.5."""
RIM = 0.04
"""Width of its front edge, which is not glossy [m]."""
TRAY = ((0.7, 2.6, TOP), (1.1, 2.85, TOP + 0.06))
CARTON = ((1.5, 2.6, TOP), (1.75, 2.85, TOP + 0.3))
NOISE = 0.003


def _faces(*boxes: tuple[tuple[float, ...], tuple[float, ...]]) -> Mesh:
    parts = [Mesh.from_arrays(*box_faces(np.array(low), np.array(high))) for low, high in boxes]
    mesh = parts[0]
    for part in parts[1:]:
        mesh = mesh.joined(part)
    return mesh


SHELL = _faces(
    ((0.0, 0.0, -0.1), (4.0, 3.0, 0.0)),  # floor
    ((-0.1, 0.0, 0.0), (0.0, 3.0, 2.5)),
    ((4.0, 0.0, 0.0), (4.1, 3.0, 2.5)),
    ((0.0, -0.1, 0.0), (4.0, 0.0, 2.5)),
    ((0.0, 3.0, 0.0), (2.6, 3.1, 2.5)),  # beside the doorway, through which nothing is in reach
    ((3.5, 3.0, 0.0), (4.0, 3.1, 2.5)),
    ((2.6, 3.0, 2.0), (3.5, 3.1, 2.5)),
)
THINGS = _faces(TRAY, CARTON)
CABINET = _faces(((*LOW, 0.0), (*HIGH, TOP)))


def _poses() -> list[Pose]:
    across = np.linspace(0, 1, 24)
    return [
        look_at(
            np.array([0.5 + 3.0 * s, 0.5 + 0.9 * np.sin(7 * s) ** 2, 1.65 + 0.15 * np.sin(9 * s)]),
            np.array([1.0 + 2.0 * np.sin(4 * s) ** 2, 2.8, 0.75]),
            roll_deg=4 * np.sin(11 * s),
        )
        for s in across
    ]


def _maps(mesh: Mesh, gloss: Mesh | None = None) -> list[DepthMap]:
    """Noisy depth of a mesh; the worktop behind its rim has mirror images of `gloss`, elsewhere none."""
    rng, caster, normals = np.random.default_rng(3), RayCaster(mesh), mesh.face_normals()
    maps = []
    for number, pose in enumerate(_poses()):
        directions = pose.rotate(CAMERA.rays()).reshape(-1, 3)
        hits = caster.cast(np.broadcast_to(pose.translation, directions.shape), directions)
        depth = np.where(hits.hit, hits.distance, 0.0)
        depth[hits.hit] += rng.normal(0, NOISE, hits.hit.sum())
        normal = np.where(hits.hit[:, None], normals[hits.triangle], 0.0)
        if gloss is not None:
            points = pose.translation + directions * hits.distance[:, None]
            inside = ((points[:, :2] > LOW + np.array([0, RIM])) & (points[:, :2] < HIGH)).all(1)
            black = hits.hit & (np.abs(points[:, 2] - TOP) < 1e-3) & (normal[:, 2] > 0.9) & inside
            again = RayCaster(gloss).cast(points[black] + [0, 0, 1e-4], directions[black] * [1, 1, -1])
            behind = np.where(again.hit, hits.distance[black] + again.distance, 0.0)
            depth[black], normal[black] = behind, 0
        shape = CAMERA.height, CAMERA.width
        maps.append(
            DepthMap(
                f"{number:04d}",
                False,
                CAMERA,
                pose,
                depth.reshape(shape).astype(np.float32),
                np.where(depth.reshape(shape) > 0, NOISE, 0).astype(np.float32),
                pose.inverse().rotate(normal).reshape(*shape, 3).astype(np.float32),
                np.zeros(shape, bool),
                np.where(depth.reshape(shape) > 0, FROM_SENSOR, 0).astype(np.uint8),
            )
        )
    return maps


def _cloud(maps: list[DepthMap]) -> PointCloud:
    known = [m.depth > 0 for m in maps]
    points = np.concatenate([m.points()[k] for m, k in zip(maps, known, strict=True)]).astype(np.float32)
    normals = np.concatenate([m.world_from_camera.rotate(m.normals[k]) for m, k in zip(maps, known, strict=True)])
    grey, count = np.full((len(points), 3), 90, np.uint8), len(points)
    sigma, views = np.full(count, NOISE, np.float32), np.full(count, 3, np.int32)
    return PointCloud(points, normals.astype(np.float32), grey, sigma, views, np.zeros(count, bool))


@pytest.fixture(scope="module")
def maps() -> list[DepthMap]:
    return _maps(SHELL.joined(THINGS).joined(CABINET), gloss=THINGS)


@pytest.fixture(scope="module")
def levels(maps) -> Levels:
    return find_levels(maps, _cloud(maps))[0]


def _top(step: float = 0.02) -> np.ndarray:
    """Points (N, 2) of the worktop with nothing on them, a centimetre inside its edges and from what stands there."""
    x, y = np.meshgrid(*(np.arange(a + 0.01, b - 0.01, step) for a, b in zip(LOW, HIGH, strict=True)))
    xy = np.stack([x, y], -1).reshape(-1, 2)
    for low, high in (TRAY, CARTON):
        xy = xy[~((xy > np.array(low[:2]) - 0.02) & (xy < np.array(high[:2]) + 0.02)).all(1)]
    return xy


def test_a_black_worktop_is_found_at_its_rims_height(levels):
    """One level within 2 mm of the rim covers what views can see of the worktop, and nothing else."""
    assert len(levels.heights) == 1
    assert abs(levels.heights[0] - TOP) < 0.002
    row, column, inside = levels.cells_of(_top())
    assert inside.all()
    assert levels.cells[0][row, column].mean() > 0.85
    assert (levels.cells[0] | levels.hidden[0])[row, column].mean() > 0.98
    i, j = np.nonzero(levels.cells[0] | levels.hidden[0])
    filled = levels.origin + np.stack([i, j], 1) * levels.step
    assert ((filled > LOW - 0.08) & (filled < HIGH + 0.02)).all()  # neither the room nor the doorway


def test_only_holes_and_mirror_images_are_filled(maps, levels):
    """What the sensor measured stays, but for mirror images below the worktop; the doorway stays without depth."""
    mirrored = 0
    for before in maps:
        after = levels.complete(before)
        filled = after.guessed
        below = (before.depth > 0) & (before.points()[..., 2] < TOP - 0.019)
        mirrored += int((filled & below).sum())
        assert not (filled & (before.depth > 0) & ~below).any()
        np.testing.assert_array_equal(after.depth[~filled], before.depth[~filled])
        np.testing.assert_array_equal(after.sigma[~filled], before.sigma[~filled])
        points = after.points()[filled]
        np.testing.assert_allclose(points[:, 2], levels.heights[0], atol=1e-5)
        assert (points[:, 1] < 3.02).all()
        normals = before.world_from_camera.rotate(after.normals[filled])
        np.testing.assert_allclose(normals, np.broadcast_to([0, 0, 1], normals.shape), atol=1e-5)
        assert (after.sigma[filled] > levels.sigmas[0]).all()  # along the slanted ray
        assert after.origin is not None
        assert not after.origin[filled].any()
    assert mirrored > 500


def test_the_mesh_has_the_worktop_marked_as_guessed(maps, levels):
    """It is flat to a centimetre, beside what stands there too, and goes on behind that; the doorway stays open."""
    whole = [levels.complete(m) for m in maps]
    cloud, wholes = _cloud(maps), _cloud(whole)
    guessed = np.concatenate([m.guessed[m.depth > 0] for m in whole])
    wholes = replace(wholes, guessed=guessed)
    track = np.array([m.world_from_camera.translation for m in maps])
    params = MeshParams(backend="tsdf", voxel_size=0.025, collision_triangles=12_000)
    over = np.column_stack([_top(), np.full(len(_top()), 1.3)])
    found = {}
    for name, some, points, missed in (("sensor", maps, cloud, None), ("completed", whole, wholes, levels)):
        mesh = build_mesh(some, points, track, params, missed).mesh
        hits = RayCaster(mesh).cast(over, np.array([0, 0, -1.0]))
        height = np.where(hits.hit, over[:, 2] - hits.distance, 0)
        found[name] = np.abs(height - TOP) < 0.01
        if name == "completed":
            inner = found[name] & (over[:, 1] > LOW[1] + 0.1)
            assert mesh.guessed[mesh.triangles[hits.triangle[inner]]].all(1).mean() > 0.9
            doorway = np.abs(mesh.vertices[:, :2] - [3.05, 3.0]).max(1) < 0.4
            assert not (mesh.guessed & doorway & (mesh.vertices[:, 2] > 0.1)).any()
    assert found["sensor"].mean() < 0.3
    assert found["completed"].mean() > 0.92


def test_a_box_without_a_lid_stays_open():
    """A rim at one height bounds a hole through which views look on the bottom: there is nothing."""
    walls = _faces(
        ((0.4, 2.4, 0.0), (2.3, 2.44, TOP)),
        ((0.4, 2.44, 0.0), (0.44, 3.0, TOP)),
        ((2.26, 2.44, 0.0), (2.3, 3.0, TOP)),
    )
    maps = _maps(SHELL.joined(walls).joined(_faces(((0.44, 2.44, 0.0), (2.26, 3.0, 0.3)))))
    assert not len(find_levels(maps, _cloud(maps))[0].heights)


def test_a_window_over_a_sill_stays_open():
    """Nothing is measured through the pane: the sill is level, but the far side is not bounded."""
    wall = _faces(((0.0, 2.9, 0.0), (2.6, 3.1, TOP)), ((0.0, 2.9, 1.6), (2.6, 3.1, 2.5)))
    sides = _faces(((0.0, 2.9, TOP), (0.5, 3.1, 1.6)), ((2.2, 2.9, TOP), (2.6, 3.1, 1.6)))
    x, y, _ = np.moveaxis(SHELL.corners(), -1, 0)
    rest = SHELL.with_faces(np.asarray(((y < 2.9) | (x > 2.6)).any(1)))
    maps = _maps(rest.joined(wall).joined(sides))
    assert np.mean([(m.depth <= 0).mean() for m in maps]) > 0.1
    assert not len(find_levels(maps, _cloud(maps))[0].heights)


def test_nothing_is_missed_in_a_room_without_gloss():
    """Every level surface was measured."""
    maps = _maps(SHELL.joined(THINGS).joined(CABINET))
    found, report = find_levels(maps, _cloud(maps))
    assert not len(found.heights)
    assert report == []
    assert found.complete(maps[0]) is maps[0]


def test_levels_survive_a_file(tmp_path, levels):
    """What is read completes maps as before."""
    levels.save(tmp_path / "levels.npz")
    again = Levels.load(tmp_path / "levels.npz")
    for name in ("origin", "step", "heights", "sigmas", "cells"):
        np.testing.assert_array_equal(getattr(again, name), getattr(levels, name))


def test_walls_with_gaps_are_no_level():
    """A third of the views miss a band of the wall behind a bench; where others see it, it is its own mirror image."""
    bench = _faces(((0.4, 2.5, 0.0), (1.6, 3.0, 0.45)))
    maps = _maps(SHELL.joined(bench))
    for number, one in enumerate(maps):
        if number % 3 == 0:
            height, upright = one.points()[..., 2], np.abs(one.world_from_camera.rotate(one.normals)[..., 2]) < 0.1
            gap = upright & (height > 0.1) & (height < 0.9)
            maps[number] = replace(one, depth=np.where(gap, 0, one.depth), sigma=np.where(gap, 0, one.sigma))
    assert find_levels(maps, _cloud(maps))[1] == []


def test_a_landing_is_found_by_its_front():
    """It is seen so flat that only a piece of it has depth, away from its rim."""
    maps = []
    for one in _maps(SHELL.joined(CABINET)):
        x, y, z = np.moveaxis(one.points(), -1, 0)
        top = (np.abs(z - TOP) < 0.02) & (one.world_from_camera.rotate(one.normals)[..., 2] > 0.9)
        missed = top & (np.hypot(x - 1.35, y - 2.65) > 0.15)
        maps.append(replace(one, depth=np.where(missed, 0, one.depth), sigma=np.where(missed, 0, one.sigma)))
    levels, report = find_levels(maps, _cloud(maps))
    assert [round(level.height, 2) for level in report] == [TOP]
    row, column, _ = levels.cells_of(_top())
    assert levels.cells[0][row, column].mean() > 0.85

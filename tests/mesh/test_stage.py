"""The mesh stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.f_score import f_scores
from pipeline import place
from pipeline.align.alignment import Alignment
from pipeline.check.surface import depth_difference, floor_flatness, table_flatness
from pipeline.depth.maps import StoredMaps, save_depth_map, write_index
from pipeline.depth.params import DepthParams
from pipeline.depth.sensor import clean_sensor_depth, measure_noise
from pipeline.geometry import Camera, Mesh, PointCloud, Pose, Similarity, ransac_plane, rotation_between
from pipeline.mesh import stage
from pipeline.mesh.params import MeshParams
from pipeline.mesh.stage import build_mesh, colored, run
from pipeline.points.completion import Completion
from pipeline.points.levels import Levels
from pipeline.points.mirrors import Mirrors
from pipeline.poses.scene import PosedScene, SparsePoints, View
from tests.mesh.scenes import PARAMS, SMALL, all_maps, built, cloud, grid_floor, maps, room, same, track
from tests.paths import REDKITCHEN, needs_real

SCENE_FROM_WORLD = Similarity(0.5, rotation_between(np.array([0, 0, 1.0]), np.array([0.6, 0.0, 0.8])), np.ones(3))


def write_inputs(folder: Path) -> dict[str, Path]:
    """Poses, depth, align and points of the room, in a turned and shrunken scene frame."""
    inputs = {name: folder / name for name in ("poses", "depth", "align", "points")}
    for path in inputs.values():
        path.mkdir()
    empty = SparsePoints(
        *(np.zeros(s, t) for s, t in (((0, 3), float), ((0, 3), np.uint8), (0, float))), *([np.zeros(0, np.int32)] * 2)
    )
    views = tuple(View(m.name, "", SMALL, m.world_from_camera, m.held_out) for m in all_maps())
    PosedScene(views, empty, 0.01, 1.0, {}).transformed(SCENE_FROM_WORLD).save(inputs["poses"])
    for m in all_maps():
        bad = replace(m, depth=m.depth * 0.5) if m.held_out else m  # held-out maps must not be used
        save_depth_map(inputs["depth"], bad.transformed(SCENE_FROM_WORLD))
    write_index(inputs["depth"], [m.name for m in all_maps()], "sensor", {})
    world_from_scene = SCENE_FROM_WORLD.inverse()
    Alignment(world_from_scene, ("floor",), 0.1, "sensor", 0.01, True, {}).save(inputs["align"])
    cloud().save(inputs["points"] / "cloud.npz")
    Completion(Mirrors.none(), Levels.none(np.zeros(2), 0.02, (1, 1))).save(inputs["points"])
    return inputs


def test_folders_in_meshes_out(tmp_path):
    """In the world frame, without the held-out maps, as good as from memory."""
    out = tmp_path / "mesh"
    out.mkdir()
    run(write_inputs(tmp_path), PARAMS, out)
    mesh, collision = Mesh.load(out / "mesh.ply"), Mesh.load(out / "collision.ply")
    report = json.loads((out / "mesh.json").read_text())
    assert f_scores(mesh, room().mesh, maps(), (0.05,), np.random.default_rng(0))[0].f > 0.98
    assert report["triangles"] == len(mesh.triangles)
    assert report["collision"]["triangles"] == len(collision.triangles) <= PARAMS.collision_triangles
    assert report["depth_maps"] == len(maps())
    assert report["guessed_area"] > 0
    assert mesh.guessed.any() and collision.guessed.any()


def test_two_runs_give_equal_bytes():
    """Mesh and collision mesh."""
    again = build_mesh(maps(), cloud(), track(), PARAMS)
    assert same(again.mesh, built().mesh)
    assert same(again.collision, built().collision)


def test_a_hole_nobody_filled_is_reported_by_the_switch():
    """Without closing, nothing is guessed."""
    bare = build_mesh(maps(), cloud(), track(), PARAMS.changed(close_floor=False))
    assert bare.report["floor"] is None
    assert not bare.mesh.guessed.any()


def test_a_rounded_mesh_can_be_had():
    """Without flattening no plane is reported."""
    assert build_mesh(maps(), cloud(), track(), PARAMS.changed(flatten=False)).report["planes"] is None
    assert built().report["planes"]["planes"] >= 6


def test_poisson_runs_through_the_same_steps():
    """Another surface, same report."""
    result = build_mesh(maps(), cloud()[::2], track(), PARAMS.changed(backend="poisson", voxel_size=0.06))
    assert result.report["backend"] == "poisson"
    assert f_scores(result.mesh, room().mesh, maps(), (0.05,), np.random.default_rng(0))[0].f > 0.9


def kitchen_inputs(folder: Path) -> dict[str, Path]:
    """Every second frame of the real kitchen with its recorded poses, levelled by its floor."""
    inputs = {name: folder / name for name in ("poses", "depth", "align", "points")}
    for path in inputs.values():
        path.mkdir()
    matrix = np.loadtxt(REDKITCHEN / "camera-intrinsics.txt")
    camera = Camera(640, 480, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    views = []
    for i, path in enumerate(sorted(REDKITCHEN.glob("*.color.jpg"))[::2]):
        name = path.name.split(".")[0]
        pose = np.loadtxt(REDKITCHEN / f"{name}.pose.txt")
        left, _, right = np.linalg.svd(pose[:3, :3])
        depth = f"{name}.depth.png"
        views.append(
            View(
                name,
                path.name,
                camera,
                Pose(left @ right, pose[:3, 3]),
                i % 8 == 0,
                sensor_depth=depth,
                depth_camera=camera,
            )
        )
    empty = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), *([np.zeros(0, np.int32)] * 2))
    scene = PosedScene(tuple(views), empty, 0.01, 1.0, {})
    scene.save(inputs["poses"])
    noise, _ = measure_noise(scene, REDKITCHEN, DepthParams())
    points, normals, colors = [], [], []
    for view in views:
        depth_map = clean_sensor_depth(view, 1.0, REDKITCHEN, DepthParams(), noise).depth_map
        save_depth_map(inputs["depth"], depth_map)
        if not view.held_out:
            known = depth_map.depth[::6, ::6] > 0
            points.append(depth_map.points()[::6, ::6][known])
            normals.append(depth_map.world_from_camera.rotate(depth_map.normals[::6, ::6][known]))
            colors.append(cv2.imread(str(REDKITCHEN / view.image))[::6, ::6, ::-1][known])
    write_index(inputs["depth"], [view.name for view in views], "sensor", {})
    xyz, normal = np.concatenate(points), np.concatenate(normals)
    up = -np.mean([view.world_from_camera.rotate([0, 1.0, 0]) for view in views], 0)
    low = (normal @ up > 0.8) & (xyz @ up < np.percentile((xyz @ up)[normal @ up > 0.8], 3) + 0.25)
    floor = ransac_plane(xyz[low], 0.02, np.random.default_rng(0), near_normal=up, max_angle_deg=30)
    assert floor is not None
    turn = rotation_between(floor.normal, np.array([0, 0, 1.0]))
    world_from_scene = Similarity(1.0, turn, np.array([0, 0, -floor.offset]))
    Alignment(world_from_scene, ("floor",), 0.3, "sensor", 0.01, True, {}).save(inputs["align"])
    count = len(xyz)
    whole = PointCloud(
        xyz.astype(np.float32),
        normal.astype(np.float32),
        np.concatenate(colors).astype(np.uint8),
        np.full(count, 0.01, np.float32),
        np.full(count, 2, np.int32),
        np.zeros(count, bool),
    )
    whole.transformed(world_from_scene).save(inputs["points"] / "cloud.npz")
    Completion(Mirrors.none(), Levels.none(np.zeros(2), 0.02, (1, 1))).save(inputs["points"])
    return inputs


@needs_real
@pytest.mark.real
@pytest.mark.slow
def test_the_real_kitchen(tmp_path):
    """Floor and table flat to 1 cm RMS, 1.3 cm from depth that it never saw."""
    inputs = kitchen_inputs(tmp_path)
    out = tmp_path / "mesh"
    out.mkdir()
    run(inputs, MeshParams(backend="tsdf"), out)
    mesh = Mesh.load(out / "mesh.ply")
    rng = np.random.default_rng(0)
    floor, table = floor_flatness(mesh, 0.0, rng), table_flatness(mesh, 0.0, rng)
    assert floor is not None and floor.rms < 0.01
    assert table is not None and table.rms < 0.01
    world_from_scene = Alignment.load(inputs["align"]).world_from_scene
    difference = depth_difference(mesh, StoredMaps(inputs["depth"], world_from_scene, held_out=True))
    assert difference.median is not None and difference.median < 0.013


def test_vertices_take_the_nearest_points_colour():
    """Green on the floor of a cloud that is red above 1 m."""
    mesh = colored(grid_floor((1, 0.6), (2, 1.6)), cloud())
    assert (mesh.colors == [10, 190, 30]).all()


def test_guessed_points_make_guessed_vertices():
    """Where x > 1.5 the cloud is guessed."""
    marked = replace(cloud(), guessed=cloud().points[:, 0] > 1.5)
    mesh = colored(grid_floor((1, 0.6), (2, 1.6)), marked)
    assert mesh.guessed[mesh.vertices[:, 0] > 1.6].all()
    assert not mesh.guessed[mesh.vertices[:, 0] < 1.4].any()


def test_an_empty_cloud_changes_nothing():
    """Grey stays grey."""
    mesh = grid_floor((0, 0), (0.2, 0.2))
    assert np.array_equal(colored(mesh, cloud()[:0]).colors, mesh.colors)


def test_a_larger_place_gets_more_collision_triangles(monkeypatch):
    """A bumpy floor of three times what is called a room here."""
    floor = grid_floor((0, 0), (3, 2))
    bumps = np.random.default_rng(0).normal(0, 0.01, (len(floor.vertices), 1)) * [0, 0, 1]
    bumpy = replace(floor, vertices=floor.vertices + bumps)
    monkeypatch.setattr(stage, "COLLISION_TRIANGLES", 300)
    sizes = []
    for share in (1.0, 1 / 3):
        monkeypatch.setattr(place, "ROOM", share * float(bumpy.face_areas().sum()))
        sizes.append(len(stage._for_physics(bumpy, MeshParams(), np.random.default_rng(0))[0].triangles))
    assert sizes[0] <= 300
    assert 700 < sizes[1] <= 900

"""What a watcher shows of a build's folders as they fill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.capture.model import Capture, Frame, Keyframe, Selection
from pipeline.geometry import Gaussians, Mesh, PointCloud, Pose, Similarity, matrix_from_rotvec
from pipeline.io.results import preview_folder
from pipeline.poses.scene import PosedScene
from pipeline.preview.coarse import sparse_cloud
from pipeline.preview.watch import Update, Watcher
from pipeline.previews import Cameras, Publisher
from pipeline.splat.ply import save_splat
from tests.flows.conftest import surface_gaussians
from tests.synthetic import CAMERA, SIZE, Room, depth_maps, posed_scene, walk

SCENE_FROM_ROOM = Similarity(2.0, matrix_from_rotvec([1.3, 0.4, -0.3]), np.array([1.0, -2.0, 0.5]))
"""The poses stage's frame: another scale, and no axis is up."""
POSES = walk(9)


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, Path]:
    """A build's folders, none of which is there yet."""
    return {name: tmp_path / name / "key" for name in ("capture", "select", "poses", "depth", "align", "points")} | {
        name: tmp_path / name / "key" for name in ("mesh", "splat")
    }


def captured(stages: dict[str, Path], room: Room, *, sensor: bool, poses: list[Pose] = POSES) -> None:
    """The results of capture and select: images, with or without poses and depth of a sensor."""
    for name in ("capture", "select"):
        stages[name].mkdir(parents=True)
    frames = []
    for index, pose in enumerate(poses):
        image, depth = room.render(CAMERA, pose)
        cv2.imwrite(str(stages["capture"] / f"{index}.jpg"), image[..., ::-1])
        frame = Frame(f"{index:04d}", f"{index}.jpg", CAMERA, "given")
        if sensor:
            cv2.imwrite(str(stages["capture"] / f"{index}.png"), (depth * 1000).round().astype(np.uint16))
            frame = replace(frame, world_from_camera=pose, depth=f"{index}.png", depth_camera=CAMERA)
        frames.append(frame)
    scale = 0.01 if sensor else None
    Capture(stages["capture"], "photos", tuple(frames), ordered=True, scale_sigma=scale).save()
    Selection(tuple(Keyframe(f.name, i % 8 == 0, 1.0) for i, f in enumerate(frames))).save(stages["select"])


def posed(stages: dict[str, Path], room: Room, poses: list[Pose] = POSES) -> PosedScene:
    """The result of the poses stage, from the images alone."""
    stages["poses"].mkdir(parents=True)
    scene = posed_scene(stages["poses"], room, poses).transformed(SCENE_FROM_ROOM)
    scene.save(stages["poses"])
    return scene


def aligned(stages: dict[str, Path]) -> None:
    stages["align"].mkdir(parents=True)
    Alignment(SCENE_FROM_ROOM.inverse(), ("truth",), 0.1, "sensor", 0.01, True, {}).save(stages["align"])


def polled(watcher: Watcher) -> Update:
    update = watcher.poll()
    assert update is not None
    return update


def cloud_in(update: Update) -> PointCloud:
    cloud = update.layers["cloud"]
    assert isinstance(cloud, PointCloud)
    return cloud


def cameras_in(update: Update) -> Cameras:
    cameras = update.layers["cameras"]
    assert isinstance(cameras, Cameras)
    return cameras


def test_nothing_yet(stages):
    """A build that has just begun, and one whose results are damaged."""
    watcher = Watcher(stages)
    assert watcher.poll() is None
    for name in ("capture", "select"):
        stages[name].mkdir(parents=True)
    (stages["capture"] / "capture.json").write_text("{")
    (stages["select"] / "selection.json").write_text("[]")
    assert watcher.poll() is None


def test_a_sensors_capture_shows_everything_at_once(stages, room):
    """Cameras, cloud, mesh and splat, upright and in metres, before the poses stage."""
    captured(stages, room, sensor=True)
    watcher = Watcher(stages)
    update = polled(watcher)
    assert set(update.layers) == {"cameras", "cloud", "mesh", "splat"}
    assert None not in update.layers.values()
    cameras = cameras_in(update)
    assert cameras.ids == tuple(range(1, 10))
    up = cameras.poses[0].rotation @ POSES[0].rotation.T @ [0, 0, 1]
    assert up[2] > np.cos(np.deg2rad(20))  # by the cameras, which look down a little
    step = [np.linalg.norm(poses[1].translation - poses[0].translation) for poses in (cameras.poses, POSES)]
    assert step[0] == pytest.approx(step[1])
    assert watcher.poll() is None


def test_photos_show_a_small_map_then_the_poses_in_its_place(stages, room):
    """A few photos are mapped while all are read; what replaces them is shown where they were."""
    poses = walk(24)
    captured(stages, room, sensor=False, poses=poses)
    watcher = Watcher(stages)
    first = polled(watcher)
    assert set(first.layers) == {"cameras", "cloud", "splat"}
    mapped = cameras_in(first)
    assert len(mapped.ids) >= 6
    posed(stages, room, poses)
    there = cameras_in(polled(watcher))
    assert there.ids == tuple(range(1, 25))
    before = np.array([pose.translation for pose in mapped.poses])
    after = np.array([there.poses[there.ids.index(i)].translation for i in mapped.ids])
    assert np.median(np.linalg.norm(after - before, axis=1)) < 0.1 * np.ptp(before, axis=0).max()


def test_the_map_so_far_is_read_again_when_it_grew(stages, room):
    """Each time it is published; one that is damaged changes nothing."""
    captured(stages, room, sensor=True)
    capture = replace(Capture.load(stages["capture"]), scale_sigma=None)
    replace(capture, frames=tuple(replace(f, world_from_camera=None, depth=None) for f in capture.frames[:2])).save()
    watcher, folder = Watcher(stages), preview_folder(stages["poses"])
    folder.mkdir(parents=True)
    cameras = Cameras((1, 2, 3), (CAMERA,) * 3, tuple(POSES[:3]))
    points = np.random.default_rng(1).normal(0, 1, (20, 3))

    def publish(count: int) -> None:
        colors = np.zeros((count, 3))
        Publisher(folder).publish("map", {"points": points[:count], "colors": colors, **cameras.to_arrays()})

    for count in (10, 20):
        publish(count)
        update = polled(watcher)
        assert update.source == "the map so far"
        assert len(cloud_in(update)) == count
        assert watcher.poll() is None
    (folder / "map.npz").write_bytes(b"PK")
    assert watcher.poll() is None


def test_the_world_frame_takes_over(stages, room):
    """When it is known, everything is shown in it, and what people look at moves along."""
    captured(stages, room, sensor=False)
    posed(stages, room)
    watcher = Watcher(stages)
    before = cameras_in(polled(watcher))
    aligned(stages)
    update = polled(watcher)
    assert update.moved is not None
    for old, new, truth in zip(before.poses, cameras_in(update).poses, POSES, strict=True):
        np.testing.assert_allclose(new.matrix, truth.matrix, atol=1e-6)
        np.testing.assert_allclose(update.moved.apply(old.translation), truth.translation, atol=1e-6)
    assert watcher.poll() is None


def test_stereo_is_shown_as_its_maps_come(stages, room):
    """Not with one map, and not again with each; a map of a view that there isn't is left out."""
    captured(stages, room, sensor=False)
    scene = posed(stages, room)
    watcher, folder = Watcher(stages), preview_folder(stages["depth"])
    polled(watcher)
    folder.mkdir(parents=True)
    maps = [m.transformed(SCENE_FROM_ROOM) for m in depth_maps(room, POSES) if not m.held_out]
    publisher, shown = Publisher(folder), []
    for index, depth_map in enumerate(maps):
        camera = CAMERA.resized(80, 60)
        known = Cameras((index,), (camera,), (scene.training[index].world_from_camera,))
        publisher.publish(f"depth-{index:05d}", {"depth": depth_map.depth[2::4, 2::4], **known.to_arrays()})
        if (update := watcher.poll()) is not None:
            shown.append(index + 1)
    assert shown[0] == 2 and shown[-1] >= 6 and len(shown) < len(maps)
    assert set(update.layers if update else watcher._layers) >= {"cloud", "mesh", "splat"}
    publisher.publish("depth-00099", {"depth": np.ones((60, 80)), **replace(known, ids=(99,)).to_arrays()})
    aligned(stages)
    mesh = polled(watcher).layers["mesh"]
    assert isinstance(mesh, Mesh)
    low, high = np.percentile(mesh.vertices, [5, 95], axis=0)
    assert (low > -0.2).all() and (high < SIZE + 0.2).all()


def test_finer_results_stay(stages, room):
    """The points, the splat in training, mesh and trained splat replace what is coarser, and are not replaced by it."""
    captured(stages, room, sensor=True)
    posed(stages, room)
    aligned(stages)
    watcher = Watcher(stages)
    while watcher.poll() is not None:
        pass
    gaussians = surface_gaussians(room, 5000)
    stages["points"].mkdir(parents=True)
    sparse_cloud(gaussians.means, np.zeros((5000, 3), np.uint8)).save(stages["points"] / "cloud.npz")
    assert set(polled(watcher).layers) == {"cloud", "splat"}
    folder = preview_folder(stages["splat"])
    folder.mkdir(parents=True)
    training = {name: getattr(gaussians[:100], name) for name in Gaussians.ARRAYS}
    Publisher(folder).publish("splat", training)
    assert len(_splat(polled(watcher))) == 100
    Publisher(folder).publish("splat", training | {"means": training["means"][:50]})
    assert watcher.poll() is None
    stages["mesh"].mkdir(parents=True)
    room.mesh.save(stages["mesh"] / "mesh.ply")
    assert set(polled(watcher).layers) == {"mesh"}
    stages["splat"].mkdir(parents=True)
    save_splat(gaussians, stages["splat"] / "splat.ply")
    assert len(_splat(polled(watcher))) == 5000
    Publisher(folder).publish("splat", training)
    assert watcher.poll() is None


def test_a_finished_build_shows_the_finest_first(stages, room):
    """Coarse models of what is there already are not made at all."""
    captured(stages, room, sensor=True)
    posed(stages, room)
    aligned(stages)
    gaussians = surface_gaussians(room, 1000)
    for name in ("points", "mesh", "splat"):
        stages[name].mkdir(parents=True)
    sparse_cloud(gaussians.means, np.zeros((1000, 3), np.uint8)).save(stages["points"] / "cloud.npz")
    room.mesh.save(stages["mesh"] / "mesh.ply")
    save_splat(gaussians, stages["splat"] / "splat.ply")
    watcher, sources = Watcher(stages), list[str]()
    while (update := watcher.poll()) is not None:
        sources.append(update.source)
    assert "the capture" not in sources
    assert len(_splat_layer(watcher)) == 1000
    assert isinstance(POSES[0], Pose)


def _splat(update: Update) -> Gaussians:
    splat = update.layers["splat"]
    assert isinstance(splat, Gaussians)
    return splat


def _splat_layer(watcher: Watcher) -> Gaussians:
    splat = watcher._layers["splat"][1]
    assert isinstance(splat, Gaussians)
    return splat

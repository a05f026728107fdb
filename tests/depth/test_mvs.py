"""Multi-view stereo on a room with exact truth."""

import re
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.depth import mvs, stereo_steps
from pipeline.depth.mvs import estimate_depth, stereo_report
from pipeline.depth.params import DepthParams
from pipeline.depth.patchmatch import sweep_planes
from pipeline.depth.sensor_and_stereo import hypotheses
from pipeline.depth.stereo_steps import StereoStore
from pipeline.errors import MachineError, ReconstructionError
from pipeline.geometry import Camera, Pose
from pipeline.poses.scene import PosedScene, SparsePoints, View, read_image
from pipeline.previews import Cameras, Publisher, read_preview
from tests.synthetic import CAMERA, Room, look_at, posed_scene

PARAMS = DepthParams(backend="mvs", image_size=320)
SMALL = PARAMS.changed(image_size=128)


@pytest.fixture(scope="module")
def found(views, tmp_path_factory):
    return list(estimate_depth(views.scene, views.folder, PARAMS, tmp_path_factory.mktemp("scratch"), threads=2))


@pytest.fixture(scope="module")
def small(views, tmp_path_factory):
    return list(estimate_depth(views.scene, views.folder, SMALL, tmp_path_factory.mktemp("scratch"), threads=2))


def errors(views, found):
    """Relative errors, sigmas and angles between normals of all measured pixels."""
    relative, deviations, angles = [], [], []
    for result in found:
        depth_map, truth = result.depth_map, views.truth[result.depth_map.name]
        kept = (depth_map.depth > 0) & ~depth_map.guessed
        error = np.abs(depth_map.depth - truth.depth)[kept]
        relative.append(error / truth.depth[kept])
        deviations.append(error / depth_map.sigma[kept])
        cosine = (depth_map.normals[kept] * truth.normals[kept]).sum(1)
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return (np.concatenate(values) for values in (relative, deviations, angles))


def test_kept_depths_are_right(views, found):
    """At least 90 % of the kept pixels lie within 1 % of the truth, and most pixels are kept."""
    relative, _, _ = errors(views, found)
    assert (relative < 0.01).mean() >= 0.9
    assert np.median(relative) < 0.002
    assert np.mean([result.kept for result in found]) > 0.75


def test_a_rough_start_is_refined(views, found, tmp_path):
    """From depth that is 1 % wrong and missing in a quarter, maps are as good as from a random start; slopes matter."""
    asked = []

    def start(view: View, camera: Camera) -> np.ndarray:
        asked.append((view.name, camera.width))
        truth = views.truth[view.name]
        noise = np.random.default_rng(3).normal(1, 0.01, truth.depth.shape)
        rough = replace(truth, depth=(truth.depth * noise * (np.indices(noise.shape)[1] > 80)).astype(np.float32))
        w, by_column, by_row = hypotheses(rough)[:, ::2, ::2]
        return np.stack([w, 2 * by_column, 2 * by_row])

    started = list(estimate_depth(views.scene, views.folder, PARAMS, tmp_path, threads=2, start=start))
    assert sorted(asked) == [(result.depth_map.name, 160) for result in found]
    relative, _, angles = errors(views, started)
    plain, _, _ = errors(views, found)
    assert (relative < 0.01).mean() >= max(0.9, (plain < 0.01).mean() - 0.02)
    assert np.median(relative) < 0.002
    assert np.median(angles) < 8
    assert np.mean([result.kept for result in started]) > 0.75


def test_sigma_is_honest(views, found):
    """A Gaussian error has a median of 0.67 sigma: here within a factor of 2; few lie far beyond it."""
    _, deviations, _ = errors(views, found)
    assert 0.67 / 2 < np.median(deviations) < 0.67 * 2
    assert (deviations > 5).mean() < 0.05


def test_normals_face_the_camera_and_follow_the_surface(views, found):
    """The median angle to the true normal is a few degrees."""
    _, _, angles = errors(views, found)
    assert np.median(angles) < 8


def test_only_training_views_get_maps(views, found):
    """Held-out images take no part."""
    assert [result.depth_map.name for result in found] == [view.name for view in views.scene.training]
    assert not any(result.depth_map.held_out for result in found)


def test_the_number_of_threads_changes_nothing(views, small, tmp_path):
    """One thread gives bit for bit what two give."""
    alone = list(estimate_depth(views.scene, views.folder, SMALL, tmp_path, threads=1))
    for one, two in zip(alone, small, strict=True):
        for name in ("depth", "sigma", "normals", "guessed"):
            np.testing.assert_array_equal(getattr(one.depth_map, name), getattr(two.depth_map, name))


def test_nothing_is_left_in_the_scratch_folder(views, tmp_path):
    """When all maps were handed out."""
    maps = list(estimate_depth(views.scene, views.folder, PARAMS.changed(image_size=64), tmp_path))
    assert len(maps) == 6
    assert not list(tmp_path.iterdir())


def test_a_killed_run_is_gone_on_with(views, small, tmp_path, monkeypatch):
    """After a stop in the middle no finished view is matched again, and the maps are bit for bit the same."""
    swept, stop_at = [], 4 * len(stereo_steps.PASSES) + 2

    def counted(planes, *rest):
        swept.append(planes.shape)
        if len(swept) == stop_at:
            raise KeyboardInterrupt
        sweep_planes(planes, *rest)

    monkeypatch.setattr(stereo_steps, "sweep_planes", counted)
    with pytest.raises(KeyboardInterrupt):
        list(estimate_depth(views.scene, views.folder, SMALL, tmp_path, threads=1))
    complete = len(list(tmp_path.glob("*/matched-*.npy")))
    assert complete >= 4
    swept.clear()
    stop_at = 0
    resumed = list(estimate_depth(views.scene, views.folder, SMALL, tmp_path, threads=1))
    assert len(swept) == (6 - complete) * len(stereo_steps.PASSES) + 6
    for one, two in zip(resumed, small, strict=True):
        np.testing.assert_array_equal(one.depth_map.depth, two.depth_map.depth)


def test_who_looks_on_sees_each_map_and_changes_none(views, small, tmp_path):
    """A preview of each view is its depth before the others agreed, at the view's camera."""
    folder = tmp_path / "preview"
    folder.mkdir()
    scratch, previews = tmp_path / "scratch", Publisher(folder)
    seen = list(estimate_depth(views.scene, views.folder, SMALL, scratch, threads=1, previews=previews))
    for one, two in zip(seen, small, strict=True):
        np.testing.assert_array_equal(one.depth_map.depth, two.depth_map.depth)
    published = sorted(folder.iterdir())
    assert len(published) == len(seen)
    for file, view in zip(published, views.scene.training, strict=True):
        arrays = read_preview(file, ("depth", "ids", "poses", "intrinsics"))
        cameras = None if arrays is None else Cameras.from_arrays(arrays)
        assert arrays is not None and cameras is not None
        np.testing.assert_array_equal(cameras.poses[0].matrix, view.world_from_camera.matrix)
        height, width = arrays["depth"].shape
        assert (cameras.cameras[0].width, cameras.cameras[0].height) == (width, height) == (32, 24)
        truth = cv2.resize(views.truth[view.name].depth, (width, height), interpolation=cv2.INTER_NEAREST)
        assert np.median(np.abs(arrays["depth"] / truth - 1)) < 0.06  # of 128 pixels, not confirmed


def test_what_another_run_kept_is_not_taken(views, tmp_path, monkeypatch):
    """Other parameters start anew."""
    params = PARAMS.changed(image_size=64)
    next(estimate_depth(views.scene, views.folder, params, tmp_path))
    swept = []
    monkeypatch.setattr(stereo_steps, "sweep_planes", lambda *arguments: swept.append(arguments))
    list(estimate_depth(views.scene, views.folder, params.changed(source_views=4), tmp_path))
    assert len(swept) == 6 * (len(stereo_steps.PASSES) + 1)


def test_some_views_alone_get_maps(views, tmp_path):
    """Maps of three views, which agree among themselves and are as right."""
    names = ["0001", "0003", "0005"]
    some = list(estimate_depth(views.scene, views.folder, PARAMS, tmp_path, names=names))
    assert [result.depth_map.name for result in some] == names
    relative, _, _ = errors(views, some)
    assert (relative < 0.01).mean() >= 0.9
    assert np.mean([result.kept for result in some]) > 0.5


def test_a_view_with_a_wrong_pose_is_named_and_spoils_no_other(views, found, tmp_path):
    """Turned by 2 degrees and moved by 5 cm."""
    wrong = (
        look_at(np.zeros(3), np.array([1.0, 0, 0.035]), 2.0).rotation
        @ look_at(np.zeros(3), np.array([1.0, 0, 0])).rotation.T
    )
    turned = [
        replace(v, world_from_camera=Pose(wrong @ v.world_from_camera.rotation, v.world_from_camera.translation + 0.03))
        if v.name == "0003"
        else v
        for v in views.scene.views
    ]
    results = list(estimate_depth(replace(views.scene, views=tuple(turned)), views.folder, PARAMS, tmp_path))
    _, report = stereo_report(iter(results))
    assert report["suspicious_views"] == ["0003"]
    right, usual = ([r for r in rs if r.depth_map.name != "0003"] for rs in (results, found))
    relative, _, _ = errors(views, right)
    assert (relative < 0.01).mean() >= (next(errors(views, usual)) < 0.01).mean() - 0.01
    assert np.mean([r.kept for r in right]) > np.mean([r.kept for r in usual]) - 0.1


def test_images_from_one_place_are_refused(tmp_path):
    """A camera that only turned has no parallax: one error says so."""
    place = np.array([1.0, 0.8, 1.3])
    poses = [look_at(place, np.array([2.4, 2.0 + 0.15 * i, 0.6])) for i in range(5)]
    scene = posed_scene(tmp_path, Room.make(), poses)
    with pytest.raises(ReconstructionError, match=r"4 of 4 training views .* from the same place"):
        list(estimate_depth(scene, tmp_path, PARAMS.changed(image_size=64), tmp_path))


def test_images_without_texture_are_reported(views, tmp_path, caplog):
    """A blank corridor gives next to no measured depth: log and report name the views."""
    for view in views.scene.views:
        (tmp_path / view.image).parent.mkdir(exist_ok=True)
        gray = np.full((view.camera.height, view.camera.width), 150, np.uint8)
        gray[100:140, 140:180] = read_image(views.folder, view)[100:140, 140:180, 0]
        cv2.imwrite(str(tmp_path / view.image), gray)
    _, report = stereo_report(estimate_depth(views.scene, tmp_path, PARAMS, tmp_path / "scratch"))
    assert report["little_measured_views"] == [view.name for view in views.scene.training]
    assert report["kept_share"] < 0.1
    assert "6 of 6 views have little measured depth" in caplog.text


def test_the_memory_is_stated_and_threads_are_limited_to_it(views, tmp_path, caplog, monkeypatch):
    """With room for one thread only one runs; with less an error says how to need less."""
    caplog.set_level("INFO")
    monkeypatch.setattr(mvs, "available_memory", lambda: 3_500_000)
    params = PARAMS.changed(image_size=64)
    next(estimate_depth(views.scene, views.folder, params, tmp_path, threads=64))
    assert re.search(r"6 views of 0.0 MP, read from 0.1 MP, with 6 others each; 2 threads need \d+ MiB", caplog.text)
    monkeypatch.setattr(mvs, "available_memory", lambda: 1_000_000)
    with pytest.raises(MachineError, match="MiB needed for images"):
        next(estimate_depth(views.scene, views.folder, params, tmp_path))


def blurred_noise(folder, count: int) -> PosedScene:
    """A scene of any number of views that all share 400 points and show the same noise."""
    poses = [look_at(np.array([0.7 + 0.06 * i, 0.6, 1.3]), np.array([2.4, 2.2, 0.5])) for i in range(count)]
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    image = cv2.resize(noise, (CAMERA.width, CAMERA.height))
    (folder / "images").mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"images/{i}.png"), image)
    xyz = np.random.default_rng(1).uniform([2, 1.8, 0.2], [2.8, 2.6, 0.8], (400, 3))
    views, points = np.repeat(np.arange(count), 400).astype(np.int32), np.tile(np.arange(400), count).astype(np.int32)
    return PosedScene(
        tuple(View(f"{i}", f"images/{i}.png", CAMERA, pose, held_out=False) for i, pose in enumerate(poses)),
        SparsePoints(xyz, np.zeros((400, 3), np.uint8), np.zeros(400), views, points),
        None,
        1.0,
        {},
    )


def test_memory_does_not_grow_with_the_number_of_views(tmp_path, caplog):
    """Twice the views take no more at once, and not more than the log said beforehand."""
    caplog.set_level("INFO")
    params, peaks = SMALL.changed(source_views=4), []
    for count in (10, 10, 20):  # the first loads compiled code, which takes memory too
        folder = tmp_path / f"{len(peaks)}"
        scene = blurred_noise(folder, count)
        tracemalloc.start()
        for _ in estimate_depth(scene, folder, params, folder, threads=1):  # two threads peak together or not
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    stated = [int(mib) * 2**20 for mib in re.findall(r"need (\d+) MiB of memory", caplog.text)]
    assert stated[1] == stated[2]
    assert peaks[2] < 1.2 * peaks[1]
    assert max(peaks[1:]) < stated[1]


def test_views_without_shared_points_are_refused(views, tmp_path):
    """The message says how many views can be matched."""
    empty = np.zeros(0, np.int32)
    points = SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), empty, empty)
    with pytest.raises(ReconstructionError, match="0 of 6 training views"):
        list(estimate_depth(replace(views.scene, points=points), views.folder, PARAMS, tmp_path))


def test_a_view_without_points_gets_an_empty_map(views, tmp_path):
    """One lost view does not stop the others."""
    lost = views.scene.points.view_index == 6
    points = replace(
        views.scene.points,
        view_index=views.scene.points.view_index[~lost],
        point_index=views.scene.points.point_index[~lost],
    )
    params = PARAMS.changed(image_size=64)
    maps = [r.depth_map for r in estimate_depth(replace(views.scene, points=points), views.folder, params, tmp_path)]
    assert not maps[-1].depth.any()
    assert all(depth_map.depth.any() for depth_map in maps[:-1])


def test_what_was_kept_is_found_again_by_another_run(tmp_path):
    """Kind and view tell arrays apart."""
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    StereoStore(tmp_path / "store").keep("matched", 3, first)
    StereoStore(tmp_path / "store").keep("matched", 4, 2 * first)
    again = StereoStore(tmp_path / "store")
    np.testing.assert_array_equal(again.load("matched", 3), first)
    np.testing.assert_array_equal(again.load("matched", 4), 2 * first)
    assert not again.has("refined", 3)


def test_a_half_written_array_does_not_count(tmp_path, monkeypatch):
    """A kill while writing leaves nothing that the next run would take."""

    def killed(file, values):
        file.write(b"half")
        raise KeyboardInterrupt

    store = StereoStore(tmp_path / "store")
    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        store.keep("matched", 3, np.zeros(4))
    assert not store.has("matched", 3)


def test_removing_leaves_nothing(tmp_path):
    """The folder goes with all that is in it."""
    store = StereoStore(tmp_path / "store")
    store.keep("matched", 0, np.zeros(4))
    store.remove()
    assert not list(tmp_path.iterdir())

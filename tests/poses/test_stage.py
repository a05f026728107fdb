"""The whole stage on the synthetic room, against exact poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture
from pipeline.errors import ReconstructionError
from pipeline.geometry import Pose, angle_deg, fit_similarity, matrix_from_rotvec
from pipeline.poses.params import PosesParams
from pipeline.poses.scene import PosedScene, View, read_image
from pipeline.poses.stage import run
from tests.poses.conftest import Rendered, noisy, write_capture
from tests.synthetic import Room, look_at

HELD_OUT = (4, 12)
GUESSED = 1.2


def track_error(views: tuple[View, ...], truth: list[Pose], *, with_scale: bool) -> tuple[float, float]:
    """Root-mean-square position error after alignment [m], and the scale that the alignment took."""
    found = np.array([view.world_from_camera.translation for view in views])
    exact = np.array([truth[int(view.name[:4])].translation for view in views])
    fit = fit_similarity(found, exact, with_scale=with_scale)
    return float(np.sqrt(((fit.apply(found) - exact) ** 2).sum(1).mean())), fit.scale


@pytest.fixture(scope="module")
def from_photos(rendered: Rendered, tmp_path_factory: pytest.TempPathFactory) -> tuple[PosedScene, Path]:
    """The room from images alone, focal length guessed 20 % of the width too long, two views held out."""
    folder = tmp_path_factory.mktemp("photos")
    guess = GUESSED * rendered.camera.width
    camera = type(rendered.camera)(320, 240, guess, guess, 160, 120)
    inputs = write_capture(folder, rendered.images, camera, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="colmap"), folder)
    return PosedScene.load(folder), folder


def test_photos_alone_give_the_track(from_photos: tuple[PosedScene, Path], rendered: Rendered):
    """All views are registered and lie within a centimetre of the truth after a similarity."""
    scene = from_photos[0]
    error, _ = track_error(scene.training, rendered.poses, with_scale=True)
    assert len(scene.views) == len(rendered.poses)
    assert error < 0.01
    assert scene.scale_sigma is None


def test_photos_alone_give_the_focal_length(from_photos: tuple[PosedScene, Path], rendered: Rendered):
    """A focal length guessed 57 % too long comes out within 2 %."""
    focal = from_photos[0].views[0].camera.fx
    assert focal == pytest.approx(rendered.camera.fx, rel=0.02)


def test_held_out_views_are_localised_but_not_mapped(from_photos: tuple[PosedScene, Path], rendered: Rendered):
    """Held-out views have good poses, and no sparse point was seen by one."""
    scene = from_photos[0]
    names = {view.name for view in scene.held_out}
    assert names == {f"{i:04d}.png" for i in HELD_OUT}
    assert not any(scene.views[i].held_out for i in np.unique(scene.points.view_index))
    exact = np.array([rendered.poses[int(v.name[:4])].translation for v in scene.training])
    fit = fit_similarity(np.array([v.world_from_camera.translation for v in scene.training]), exact)
    for view in scene.held_out:
        truth = rendered.poses[int(view.name[:4])]
        assert np.linalg.norm(fit.apply(view.world_from_camera.translation) - truth.translation) < 0.02


def test_images_are_pinhole_and_points_project_where_they_were_seen(from_photos: tuple[PosedScene, Path]):
    """Every view's image has its camera's size, and its points fall inside it."""
    scene, folder = from_photos
    for index in (0, 7):
        view = scene.views[index]
        assert view.camera.is_pinhole
        assert read_image(folder, view).shape == (view.camera.height, view.camera.width, 3)
        rows = scene.points.view_index == index
        local = view.world_from_camera.inverse().apply(scene.points.xyz[scene.points.point_index[rows]])
        pixel = view.camera.project(local)
        assert (local[:, 2] > 0).all()
        assert ((pixel > -4) & (pixel < np.array([324, 244]))).all()


def test_a_second_run_writes_the_same_bytes(from_photos: tuple[PosedScene, Path], rendered: Rendered, tmp_path: Path):
    """Equal seeds give byte-identical scene, points and images, whatever the number of threads."""
    folder = from_photos[1]
    inputs = {"capture": folder / "capture", "select": folder / "select"}
    run(inputs, PosesParams(backend="colmap", threads=1), tmp_path)
    for name in ("scene.json", "points.npz", "images/000001.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_refined_keeps_scale_and_beats_the_sensor(rendered: Rendered, tmp_path: Path):
    """Poses off by 1 cm and 0.3 degrees come out several times better, scale and frame kept."""
    given = noisy(rendered.poses, np.random.default_rng(4), 0.01, 0.3)
    inputs = write_capture(tmp_path, rendered.images, rendered.camera, poses=given, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="refined"), tmp_path)
    scene = PosedScene.load(tmp_path)
    error, _ = track_error(scene.views, rendered.poses, with_scale=False)
    _, scale = track_error(scene.views, rendered.poses, with_scale=True)
    assert len(scene.views) == len(rendered.poses)
    assert error < 0.007
    assert scale == pytest.approx(1, abs=0.008)  # three sigma of 1 cm over 16 positions 1 m from their middle
    turn = angle_deg(
        np.array([v.world_from_camera.rotation for v in scene.views]),
        np.array([rendered.poses[int(v.name[:4])].rotation for v in scene.views]),
    )
    assert np.median(turn) < 0.25  # the frame itself is the mean of 16 noisy rotations
    assert scene.scale_sigma is not None
    assert 0.01 <= scene.scale_sigma < 0.03
    assert all(v.sigma_position and v.sigma_position < 0.01 for v in scene.views)


def test_refined_finds_a_wrong_focal_length_and_the_depth_camera(rendered: Rendered, room: Room, tmp_path: Path):
    """Poses and focal length are those of a depth camera beside the colour camera: all three are told apart."""
    camera_from_depth = Pose(matrix_from_rotvec(np.deg2rad([1.0, -1.5, 0.8])), np.array([0.025, -0.01, 0.015]))
    sensor_poses = [pose @ camera_from_depth for pose in rendered.poses]
    wrong = type(rendered.camera)(320, 240, 245 * 1.12, 243 * 1.12, 158.5, 121.5)
    depths = [room.cast(wrong, pose)[1] for pose in sensor_poses]
    inputs = write_capture(tmp_path, rendered.images, wrong, poses=sensor_poses, depths=depths, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="refined"), tmp_path)
    scene = PosedScene.load(tmp_path)
    view = scene.views[0]
    error, scale = track_error(scene.views, rendered.poses, with_scale=True)
    assert view.camera.fx == pytest.approx(rendered.camera.fx, rel=0.01)
    assert error < 0.01
    assert scale == pytest.approx(1, abs=0.01)
    assert view.camera_from_depth is not None
    # With 1300 points the principal point is found to 0.7 px, which is 0.17 degrees of the offset's tilt.
    assert angle_deg(view.camera_from_depth.rotation, camera_from_depth.rotation) < 0.5
    assert np.linalg.norm(view.camera_from_depth.translation - camera_from_depth.translation) < 0.02
    calibration = scene.report["calibration"]
    assert calibration["residual_median_m"] < 0.5 * calibration["residual_median_scaled_m"]
    assert scene.depth_scale == 1.0


def test_depth_without_poses_gives_the_scale(rendered: Rendered, tmp_path: Path):
    """Images are mapped alone, and the depth images bring the metre."""
    inputs = write_capture(tmp_path, rendered.images, rendered.camera, depths=rendered.depths, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="colmap"), tmp_path)
    scene = PosedScene.load(tmp_path)
    _, scale = track_error(scene.views, rendered.poses, with_scale=True)
    assert scale == pytest.approx(1, abs=0.015)
    assert scene.scale_sigma is not None


def test_mixed_cameras_and_the_global_mapper(rendered: Rendered, tmp_path: Path):
    """Images of two sizes get a camera each, and the global mapper finds the same track."""
    images = [cv2.resize(p, (400, 300)) if i % 2 else p for i, p in enumerate(rendered.images)]
    inputs = write_capture(tmp_path, images, rendered.camera, held_out=HELD_OUT)
    capture = Capture.load(inputs["capture"])
    frames = tuple(replace(f, camera=f.camera.resized(400, 300)) if i % 2 else f for i, f in enumerate(capture.frames))
    replace(capture, frames=frames).save()
    run(inputs, PosesParams(backend="colmap", mapper="global"), tmp_path)
    scene = PosedScene.load(tmp_path)
    error, _ = track_error(scene.views, rendered.poses, with_scale=True)
    assert len(scene.views) == len(rendered.poses)
    assert {view.camera.width for view in scene.views} == {320, 400}
    assert error < 0.02


def test_poses_that_fit_nothing_are_replaced_by_the_images(rendered: Rendered, tmp_path: Path):
    """A third of the poses lost by metres: the images are mapped alone and laid over the good ones."""
    given = list(rendered.poses)
    rng = np.random.default_rng(5)
    for i in range(0, len(given), 3):
        given[i] = Pose(matrix_from_rotvec(rng.normal(0, 1.0, 3)) @ given[i].rotation, rng.uniform(-3, 6, 3))
    inputs = write_capture(tmp_path, rendered.images, rendered.camera, poses=given, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="refined"), tmp_path)
    scene = PosedScene.load(tmp_path)
    error, scale = track_error(scene.views, rendered.poses, with_scale=True)
    assert error < 0.02
    assert scale == pytest.approx(1, abs=0.03)


def test_sensor_backend_keeps_poses_and_makes_points(rendered: Rendered, tmp_path: Path):
    """Given poses come out unchanged, held-out ones included, with points near the room's surfaces."""
    inputs = write_capture(tmp_path, rendered.images, rendered.camera, poses=rendered.poses, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="sensor"), tmp_path)
    scene = PosedScene.load(tmp_path)
    for view in scene.views:
        truth = rendered.poses[int(view.name[:4])]
        assert np.allclose(view.world_from_camera.matrix, truth.matrix, atol=1e-9)
    assert len(scene.points.xyz) > 300
    inside = ((scene.points.xyz > -0.05) & (scene.points.xyz < np.array([4.05, 3.05, 2.55]))).all(1)
    assert inside.mean() > 0.97


def test_a_camera_that_only_turns_is_refused(room: Room, rendered: Rendered, tmp_path: Path):
    """Images from one position give an error that says so."""
    eye = np.array([2.0, 1.2, 1.3])
    targets = [np.array([0.5 + 0.25 * i, 3.0, 0.8]) for i in range(8)]
    images = [room.render(rendered.camera, look_at(eye, target))[0] for target in targets]
    inputs = write_capture(tmp_path, images, rendered.camera)
    with pytest.raises(ReconstructionError, match="the camera must move"):
        run(inputs, PosesParams(backend="colmap"), tmp_path)
    assert not (tmp_path / "scene.json").exists()


def test_a_camera_that_stands_still_is_refused(rendered: Rendered, tmp_path: Path):
    """One image several times, with sensor noise, gives the same error."""
    rng = np.random.default_rng(0)
    images = [
        np.clip(rendered.images[0] + rng.normal(0, 3, rendered.images[0].shape), 0, 255).astype(np.uint8)
        for _ in range(6)
    ]
    inputs = write_capture(tmp_path, images, rendered.camera)
    with pytest.raises(ReconstructionError, match="the camera must move"):
        run(inputs, PosesParams(backend="colmap"), tmp_path)


def test_two_places_are_named(rendered: Rendered, tmp_path: Path):
    """Half the images from another room: the error lists which images belong together."""
    other = Room.make(seed=9)
    images = rendered.images[:9] + [other.render(rendered.camera, pose)[0] for pose in rendered.poses[9:]]
    inputs = write_capture(tmp_path, images, rendered.camera)
    with pytest.raises(ReconstructionError, match="one connected scene") as caught:
        run(inputs, PosesParams(backend="colmap"), tmp_path)
    assert "0000.png" in str(caught.value)
    assert "0009.png" in str(caught.value) or "0010.png" in str(caught.value)


def test_black_images_are_refused(tmp_path: Path, rendered: Rendered):
    """Images without features give an error, not a crash."""
    images = [np.zeros((240, 320, 3), np.uint8)] * 4
    inputs = write_capture(tmp_path, images, rendered.camera)
    with pytest.raises(ReconstructionError, match="must overlap"):
        run(inputs, PosesParams(backend="colmap"), tmp_path)


def test_two_images_are_too_few(tmp_path: Path, rendered: Rendered):
    """Fewer than three training images are refused before any work."""
    inputs = write_capture(tmp_path, rendered.images[:3], rendered.camera, held_out=(1,))
    with pytest.raises(ReconstructionError, match="at least 3 images"):
        run(inputs, PosesParams(backend="colmap"), tmp_path)


def test_refined_without_poses_is_refused(tmp_path: Path, rendered: Rendered):
    """A sensor backend on photos says what to do instead."""
    inputs = write_capture(tmp_path, rendered.images[:4], rendered.camera)
    with pytest.raises(ReconstructionError, match=r"poses\.backend=colmap"):
        run(inputs, PosesParams(backend="refined"), tmp_path)


def test_large_images_come_out_at_image_size(tmp_path: Path, rendered: Rendered):
    """The long side is at most image_size, and intrinsics scale along."""
    big = [cv2.resize(p, (640, 480), interpolation=cv2.INTER_CUBIC) for p in rendered.images]
    inputs = write_capture(tmp_path, big, rendered.camera.resized(640, 480), poses=rendered.poses, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="sensor", image_size=320), tmp_path)
    view = PosedScene.load(tmp_path).views[0]
    assert (view.camera.width, view.camera.height) == (320, 240)
    assert view.camera.fx == pytest.approx(rendered.camera.fx, rel=2e-3)
    assert read_image(tmp_path, view).shape == (240, 320, 3)


def test_a_pixel_of_the_photo_keeps_its_ray(rendered: Rendered, tmp_path: Path):
    """Images are made smaller; the lens at the photo's own size stays, for lengths that people read off photos."""
    inputs = write_capture(tmp_path, rendered.images, rendered.camera, poses=rendered.poses, held_out=HELD_OUT)
    run(inputs, PosesParams(backend="sensor", image_size=240), tmp_path)
    view = PosedScene.load(tmp_path).views[3]
    assert view.camera.width == 240
    assert view.source_camera is not None
    assert view.source_camera.width == rendered.camera.width
    pixel = (71.5, 200.5)
    expected = rendered.camera.undistorted_ray(pixel)
    np.testing.assert_allclose(view.source_camera.undistorted_ray(pixel), expected, atol=1e-9)
    np.testing.assert_allclose(view.camera.rays(np.array(pixel) * 240 / 320), expected, atol=2e-2)

"""The expected error of an image: near the true one, and large where the splat is wrong or nobody looked."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.coverage.map import expected_psnr, trust_of
from pipeline.coverage.prediction import TrainingPhotos, expected_error, image_terms, load_photos, surface_colors
from pipeline.geometry import Camera, Gaussians, Plane, Pose
from pipeline.points.mirrors import Mirrors
from pipeline.raster import render
from pipeline.splat.loss import psnr
from tests.coverage.scenes import disc_splat, evidence_of
from tests.synthetic import TABLE_HIGH, TABLE_LOW, Room, look_at, posed_scene, walk

CAMERA = Camera(160, 120, 122.0, 121.0, 79.0, 60.8)


@pytest.fixture(scope="module")
def evidence(room: Room, tmp_path_factory) -> TrainingPhotos:
    """Seven training photos."""
    return evidence_of(room, tmp_path_factory.mktemp("poses"))


def true_psnr(room: Room, splat: Gaussians, pose: Pose) -> float:
    truth = room.render(CAMERA, pose)[0].astype(np.float32) / 255
    return float(psnr(render(splat, CAMERA, pose).rgb.clip(0, 1), truth))


def test_expected_psnr_is_near_the_true_one(room, evidence):
    """For a splat of discs and for one with wrong colours, from views that are no photos."""
    good = disc_splat(room)
    for splat in (good, replace(good, sh=-good.sh)):
        for pose in (walk(9)[0], walk(18)[5]):
            expected = expected_psnr(expected_error(image_terms(evidence, splat, CAMERA, pose)))
            assert expected == pytest.approx(true_psnr(room, splat, pose), abs=2.5)


def test_a_hole_in_the_splat_shows(room, evidence):
    """Without the Gaussians of the wall x = 4 the image of it is expected to be bad."""
    splat, pose = disc_splat(room), look_at(np.array([1.5, 1.2, 1.2]), np.array([4.0, 1.4, 1.2]))
    whole = expected_error(image_terms(evidence, splat, CAMERA, pose))
    holed = expected_error(image_terms(evidence, splat[splat.means[:, 0] < 3.9], CAMERA, pose))
    assert expected_psnr(holed) < expected_psnr(whole) - 4
    assert trust_of(holed) < trust_of(whole)


def test_what_nobody_saw_may_have_any_colour(room, evidence):
    """Under the table: no photo shows what is there, so the error is at least the colours' variance."""
    middle = np.array([*(TABLE_LOW + TABLE_HIGH) / 2, 0.3])
    narrow = Camera(20, 20, 60.0, 60.0, 10.0, 10.0)
    below = image_terms(evidence, disc_splat(room), narrow, look_at(middle, middle + np.array([0.02, 0.0, 1.0])))
    assert below[3] == 1  # unseen
    assert expected_error(below) >= evidence.color_variance
    assert trust_of(expected_error(below)) < 0.01


def test_what_the_splat_continues_is_mostly_right(room, tmp_path):
    """With one photo half of an image is unseen; a splat that is right there must not be expected to be all wrong."""
    one, pose = posed_scene(tmp_path, room, walk(9)).training[:1], walk(9)[2]
    terms = image_terms(load_photos(one, tmp_path, room.mesh, disc_splat(room)), disc_splat(room), CAMERA, pose)
    assert 0.4 < terms[3] < 0.6
    assert expected_psnr(expected_error(terms)) == pytest.approx(true_psnr(room, disc_splat(room), pose), abs=3)


def test_what_a_mirror_shows_is_not_seen(room, tmp_path):
    """The photos have its wall, but not as it looks from elsewhere; what stands off it is as it was."""
    views, pose = posed_scene(tmp_path, room, walk(9)).training, walk(9)[2]
    splat, none = disc_splat(room), Mirrors.none()
    rays = pose.rotate(CAMERA.rays(np.array([[CAMERA.width / 2, CAMERA.height / 2], [2.0, CAMERA.height / 2]])))
    hit = load_photos(views, tmp_path, room.mesh, splat).caster.cast(np.tile(pose.translation, (2, 1)), rays)
    point = pose.translation + rays[0] * hit.distance[0]
    normal = room.mesh.face_normals()[hit.triangle[0]]
    assert abs(normal[2]) < 0.01, "an upright wall"
    along = point @ [-normal[1], normal[0], 0]
    bounds = np.array([[along - 0.4, point[2] - 0.3], [along + 0.4, point[2] + 0.3]])
    mirror = none.plus(Plane(normal, float(normal @ point)), bounds)
    without, behind = (load_photos(views, tmp_path, room.mesh, splat, found) for found in (none, mirror))
    seen = [surface_colors(photos, pose.translation, rays, 0.01, np.zeros(2)) for photos in (without, behind)]
    assert seen[0].seen.tolist() == [True, True] and seen[1].seen.tolist() == [False, True]
    assert seen[1].surface.all()
    everywhere = pose.rotate(CAMERA.rays()).reshape(-1, 3)
    share = surface_colors(behind, pose.translation, everywhere, 0.01, np.zeros(len(everywhere))).mirrored.mean()
    assert 0.02 < share < 0.3
    errors = [expected_error(image_terms(photos, splat, CAMERA, pose)) for photos in (without, behind)]
    assert errors[1] - errors[0] > share * behind.color_variance  # any colour of the room may be there


def test_where_nothing_is_the_image_is_worse_than_where_a_surface_is_unseen(room, tmp_path):
    """The wall x = 4 gone from mesh and splat, against the wall whole, in an image of it that no photo shows."""
    views = posed_scene(tmp_path, room, walk(9)).training
    away = [view for view in views if view.world_from_camera.rotation[0, 2] < 0]  # look towards -x
    pose = look_at(np.array([1.5, 1.2, 1.2]), np.array([4.0, 1.4, 1.2]))
    splat, wall = disc_splat(room), room.surface_of_triangle == 1
    assert np.allclose(room.mesh.corners()[wall][..., 0], 4)
    closed = image_terms(load_photos(away, tmp_path, room.mesh, splat), splat, CAMERA, pose)
    splat = splat[splat.means[:, 0] < 3.9]
    opened = load_photos(away, tmp_path, room.mesh.with_faces(~wall), splat)
    hole = image_terms(opened, splat, CAMERA, pose)
    assert closed[2] == 0 and hole[2] > 0.01
    assert expected_error(hole) > 2 * expected_error(closed)


def test_little_that_is_unseen_counts_less_than_its_share():
    """Half of the patch costs less than half; all of an image that no photo shows counts in full."""
    patches = np.array([[0, 0.01 * share, 0, share] for share in (0.05, 0.1, 0.5, 1.0)])
    errors = expected_error(patches)
    assert errors[1] == pytest.approx(2 * errors[0])
    assert errors[2] > 5.5 * errors[1]
    assert errors[3] == pytest.approx(0.01)


def test_trust_falls_with_the_error():
    """From nearly 1 to nearly 0, one half at 23.5 dB."""
    errors = 10 ** (-np.array([30.0, 25.0, 23.5, 21.0, 15.0]) / 10)
    trust = trust_of(errors)
    assert (np.diff(trust) < 0).all()
    assert trust[0] > 0.99 and trust[-1] < 0.01
    assert trust[2] == pytest.approx(0.5)
    assert expected_psnr(errors)[1] == pytest.approx(25)


SMALL = Camera(80, 60, 61.0, 60.5, 39.5, 30.4)


def ask(evidence: TrainingPhotos, camera: Camera, pose: Pose, beyond: float = 0.0):
    rays = pose.rotate(camera.rays()).reshape(-1, 3)
    return surface_colors(evidence, pose.translation, rays, 1 / camera.fx, np.full(len(rays), beyond))


def test_colours_are_those_of_a_view_that_is_no_photo(room, evidence):
    """From between the photos most is known, and as it would be photographed there."""
    pose = walk(9)[0]  # held out
    colors = ask(evidence, SMALL, pose)
    truth = room.render(SMALL, pose)[0].reshape(-1, 3) / 255
    assert colors.seen.mean() > 0.8
    assert np.abs(colors.rgb - truth)[colors.seen].mean() < 0.05
    assert np.abs(colors.rgb - np.roll(truth, 7, 0))[colors.seen].mean() > 0.1  # a test that a wrong answer would fail


def test_what_no_photo_sees_is_not_seen(evidence):
    """The table from below: all photos look down on it."""
    middle = np.array([*(TABLE_LOW + TABLE_HIGH) / 2, 0.3])
    up = look_at(middle, middle + np.array([0.02, 0.0, 1.0]))
    centre = Camera(8, 6, 30.0, 30.0, 4.0, 3.0)
    assert not ask(evidence, centre, up).seen.any()


def test_a_surface_shows_its_front_only(evidence):
    """From below the floor its underside is met: no photo shows that."""
    below = look_at(np.array([2.0, 0.9, -1.0]), np.array([2.01, 0.9, 0.0]))
    assert not ask(evidence, Camera(8, 6, 30.0, 30.0, 4.0, 3.0), below).seen.any()


def test_a_photo_does_not_see_through_walls(room, evidence):
    """A place outside the room lies in many photos' cone; all of them have a wall before it."""
    outside = look_at(np.array([2.0, -2.0, 1.0]), np.array([2.0, -4.0, 1.0]))
    assert not ask(evidence, Camera(8, 6, 30.0, 30.0, 4.0, 3.0), outside, beyond=1.0).seen.any()


def test_beyond_the_mesh_the_given_depth_counts(room, tmp_path):
    """Without the wall in the mesh the photos still show it where the depth says that it is."""
    wall = room.surface_of_triangle == 2  # y = 0
    posed = posed_scene(tmp_path, room, walk(9))
    open_room = load_photos(posed.training, tmp_path, room.mesh.with_faces(~wall), disc_splat(room))
    pose = look_at(np.array([2.0, 1.4, 1.2]), np.array([2.0, 0.0, 1.2]))
    camera = Camera(16, 12, 30.0, 30.0, 8.0, 6.0)
    assert not ask(open_room, camera, pose).seen.any()
    colors = ask(open_room, camera, pose, beyond=1.4)
    truth = room.render(camera, pose, samples=8)[0].reshape(-1, 3) / 255
    assert colors.seen.mean() > 0.5
    assert np.abs(colors.rgb - truth)[colors.seen].mean() < 0.08


def test_far_pixels_average_what_they_cover(evidence):
    """A pixel ten times as wide gets a colour averaged over more of the photo, with less contrast."""
    pose = walk(9)[0]
    rays = pose.rotate(SMALL.rays()).reshape(-1, 3)
    none = np.zeros(len(rays))
    fine = surface_colors(evidence, pose.translation, rays, 0.2 / SMALL.fx, none)
    coarse = surface_colors(evidence, pose.translation, rays, 5 / SMALL.fx, none)
    assert coarse.rgb[coarse.seen].std() < 0.9 * fine.rgb[fine.seen].std()


def test_several_photos_tell_more_than_one(room, tmp_path):
    """Photos with noise of their own: the colours, resampled as they are, are nearer to the truth than the photos."""
    posed, rng = posed_scene(tmp_path, room, walk(9)), np.random.default_rng(3)
    for view in posed.training:
        photo = cv2.imread(str(tmp_path / view.image)).astype(np.float64)
        coarse = cv2.resize(rng.normal(0, 30, (30, 40)), (320, 240))  # coarser than a pixel of the image
        cv2.imwrite(str(tmp_path / view.image), (photo + coarse[..., None]).clip(0, 255).astype(np.uint8))
    noisy = load_photos(posed.training, tmp_path, room.mesh, disc_splat(room))
    pose = walk(9)[0]
    colors = ask(noisy, SMALL, pose)
    truth = room.render(SMALL, pose)[0].reshape(-1, 3) / 255
    assert np.sqrt(((colors.rgb - truth)[colors.seen] ** 2).mean()) < coarse.std() / 255


def test_where_neither_mesh_nor_depth_is_there_is_no_surface(room, tmp_path):
    """Without the wall in the mesh the splat's depth decides; 0 says that it has nothing either."""
    wall = room.surface_of_triangle == 2  # y = 0
    posed = posed_scene(tmp_path, room, walk(9))
    open_room = load_photos(posed.training, tmp_path, room.mesh.with_faces(~wall), disc_splat(room))
    pose, camera = look_at(np.array([2.0, 1.4, 1.2]), np.array([2.0, 0.0, 1.2])), Camera(16, 12, 30.0, 30.0, 8.0, 6.0)
    assert not ask(open_room, camera, pose).surface.any()
    assert ask(open_room, camera, pose, beyond=1.4).surface.all()


def test_mean_and_variance_are_those_of_the_photos(room, evidence):
    """Padding does not count."""
    photos = evidence.photos[0].reshape(-1, 3) / 255
    np.testing.assert_allclose(evidence.mean_color, photos.mean(0), atol=1e-9)
    assert evidence.color_variance == pytest.approx(photos.var(0).mean())


def test_a_photos_exposure_is_undone(room, evidence, tmp_path):
    """One photo much darker than the others tells the same colours."""
    posed = posed_scene(tmp_path, room, walk(9))
    dark = tmp_path / posed.training[2].image
    cv2.imwrite(str(dark), (cv2.imread(str(dark)) * 0.7).astype(np.uint8))
    corrected = load_photos(posed.training, tmp_path, room.mesh, disc_splat(room))
    before, after = (e.photos[0][2].mean((0, 1)) for e in (evidence, corrected))
    np.testing.assert_allclose(after, before, rtol=0.02)


def test_masked_pixels_tell_nothing(room, evidence, tmp_path):
    """With all photos masked in their left half, what they see there alone is not seen."""
    posed = posed_scene(tmp_path, room, walk(9))
    mask = np.full((240, 320), 255, np.uint8)
    mask[:, :160] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    masked = load_photos(
        [replace(view, mask="mask.png") for view in posed.training], tmp_path, room.mesh, disc_splat(room)
    )
    pose = walk(9)[0]
    shares = [ask(e, SMALL, pose).seen.mean() for e in (evidence, masked)]
    assert 0.2 < shares[1] < shares[0] - 0.1


def test_no_photo_is_an_error(room, tmp_path):
    """Not a map of nothing."""
    with pytest.raises(ValueError, match="at least one training view"):
        load_photos([], tmp_path, room.mesh, disc_splat(room))

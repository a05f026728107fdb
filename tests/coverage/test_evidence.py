"""What the photos say of surfaces: the right colours, and only where they see."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.coverage.evidence import Evidence, gather_evidence, surface_colors
from pipeline.geometry import Camera, Pose
from tests.coverage.scenes import disc_splat, evidence_of
from tests.synthetic import TABLE_HIGH, TABLE_LOW, Room, look_at, posed_scene, walk

SMALL = Camera(80, 60, 61.0, 60.5, 39.5, 30.4)


@pytest.fixture(scope="module")
def evidence(room: Room, tmp_path_factory) -> Evidence:
    """Seven training photos."""
    return evidence_of(room, tmp_path_factory.mktemp("poses"))


def ask(evidence: Evidence, camera: Camera, pose: Pose, beyond: float = 0.0):
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
    open_room = gather_evidence(posed.training, tmp_path, room.mesh.with_faces(~wall), disc_splat(room))
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
        coarse = cv2.resize(rng.normal(0, 30, (30, 40)), (320, 240))  # coarser than a pixel of the picture
        cv2.imwrite(str(tmp_path / view.image), (photo + coarse[..., None]).clip(0, 255).astype(np.uint8))
    noisy = gather_evidence(posed.training, tmp_path, room.mesh, disc_splat(room))
    pose = walk(9)[0]
    colors = ask(noisy, SMALL, pose)
    truth = room.render(SMALL, pose)[0].reshape(-1, 3) / 255
    assert np.sqrt(((colors.rgb - truth)[colors.seen] ** 2).mean()) < coarse.std() / 255


def test_where_neither_mesh_nor_depth_is_there_is_no_surface(room, tmp_path):
    """Without the wall in the mesh the splat's depth decides; 0 says that it has nothing either."""
    wall = room.surface_of_triangle == 2  # y = 0
    posed = posed_scene(tmp_path, room, walk(9))
    open_room = gather_evidence(posed.training, tmp_path, room.mesh.with_faces(~wall), disc_splat(room))
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
    corrected = gather_evidence(posed.training, tmp_path, room.mesh, disc_splat(room))
    before, after = (e.photos[0][2].mean((0, 1)) for e in (evidence, corrected))
    np.testing.assert_allclose(after, before, rtol=0.02)


def test_masked_pixels_tell_nothing(room, evidence, tmp_path):
    """With all photos masked in their left half, what they see there alone is not seen."""
    posed = posed_scene(tmp_path, room, walk(9))
    mask = np.full((240, 320), 255, np.uint8)
    mask[:, :160] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    masked = gather_evidence(
        [replace(view, mask="mask.png") for view in posed.training], tmp_path, room.mesh, disc_splat(room)
    )
    pose = walk(9)[0]
    shares = [ask(e, SMALL, pose).seen.mean() for e in (evidence, masked)]
    assert 0.2 < shares[1] < shares[0] - 0.1


def test_no_photo_is_an_error(room, tmp_path):
    """Not a map of nothing."""
    with pytest.raises(ValueError, match="at least one training view"):
        gather_evidence([], tmp_path, room.mesh, disc_splat(room))

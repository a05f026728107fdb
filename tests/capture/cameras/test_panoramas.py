"""Panoramas: told from photos, cut into faces that show what straight cameras see, with their vertical."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.cameras.panoramas import (
    ASSUMED_SIGMA_DEG,
    FACES,
    NADIR_DEG,
    STATED_SIGMA_DEG,
    faces_of,
    panorama_of,
)
from pipeline.capture.detect import probe
from pipeline.capture.images import load_image
from pipeline.capture.model import Capture
from pipeline.errors import CaptureError
from pipeline.io.image_files import BadImageError
from tests.capture.conftest import fill
from tests.capture.test_images import with_tags
from tests.capture.writers.panorama import directions, jpeg, photo_sphere, upright

Read = Callable[[Path], Capture]
NOISE = np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)


def told(xmp: str = "", exif: Image.Exif | None = None, image: np.ndarray = NOISE):
    """What is said of a JPEG."""
    data = jpeg(image, xmp, exif)
    return panorama_of(data, load_image(data))


def test_faces_show_what_straight_cameras_see() -> None:
    """Each pixel of each face has the colour of its direction, where colours are directions."""
    sky = ((directions(512) + 1) * 127.5).round().astype(np.uint8)
    seen = list(faces_of(load_image(jpeg(sky)), None))
    assert [face.name for face in seen] == ["front", "right", "back", "left", "up", "down"]
    for face in seen:
        rays = FACES[face.name].rotate(face.camera.rays())
        truth = (rays / np.linalg.norm(rays, axis=-1, keepdims=True) + 1) * 127.5
        assert np.abs(np.asarray(face.image, float) - truth).max() < 8
        assert face.camera.fx == face.camera.width / 2  # 90 degrees
        below = np.rad2deg(np.arcsin(truth[..., 1] / 127.5 - 1))
        kept = np.ones(below.shape, bool) if face.mask is None else face.mask
        assert (kept == (below < 90 - NADIR_DEG)).mean() > 0.999
    assert abs(seen[0].camera.width - 512 / np.pi) < 1  # as sharp in its middle as the panorama


def test_its_mask_comes_along() -> None:
    """What a mask leaves out to the right is left out of the right face."""
    mask = np.ones((64, 128), bool)
    mask[20:44, 90:102] = False  # 90 degrees to the right
    faces = {face.name: face for face in faces_of(load_image(jpeg(NOISE)), mask)}
    kept = faces["right"].mask
    assert kept is not None
    middle = kept.shape[0] // 2
    assert not kept[middle, middle]
    assert kept[:, 0].all()
    assert faces["left"].mask is None


def test_signs_of_a_panorama() -> None:
    """XMP or a camera that takes nothing else of that shape; a straight photo of that shape is one."""
    stated = told(photo_sphere(PosePitchDegrees=-2.5, PoseRollDegrees=4))
    assert stated is not None
    assert stated.sigma_deg == STATED_SIGMA_DEG
    p, r = np.deg2rad([-2.5, 4])
    truth = [np.cos(p) * np.sin(r), np.cos(p) * np.cos(r), -np.sin(p)]
    np.testing.assert_allclose(stated.direction, truth, atol=1e-12)
    theta = told(exif=with_tags({0x010F: "RICOH", 0x0110: "RICOH THETA Z1"}))
    assert theta is not None
    np.testing.assert_allclose(theta.direction, [0, 1, 0])
    assert theta.sigma_deg == ASSUMED_SIGMA_DEG
    assert told() is None
    before_a_wall = np.full((64, 128, 3), 250, np.uint8)
    before_a_wall[20:50, 30:90] = NOISE[20:50, 30:90]
    assert told(image=before_a_wall) is None
    assert told(exif=with_tags({0x010F: "RICOH", 0x0110: "RICOH THETA Z1"}), image=NOISE[:, :96]) is None


@pytest.mark.parametrize(
    ("xmp", "image", "found"),
    [
        (photo_sphere(CroppedAreaImageWidthPixels=64, FullPanoWidthPixels=128), NOISE, "a part of the sphere"),
        (photo_sphere(), NOISE[:, :96], "a part of the sphere"),
        (photo_sphere(ProjectionType="cylindrical"), NOISE, "another projection"),
        ("", ((directions(128) + 1) * 127.5).astype(np.uint8), "nothing says that it is one"),
    ],
)
def test_what_is_no_whole_panorama(xmp: str, image: np.ndarray, found: str) -> None:
    """Named with what to do, be it cropped, cylindrical, or a panorama without any sign."""
    with pytest.raises(BadImageError, match=found) as error:
        told(xmp, image=image)
    assert error.value.remedy


def test_a_capture_of_panoramas(tmp_path: Path, read: Read) -> None:
    """A rig of six exact cameras: each face's gravity, shot and place in the rig; a mask; one photo beside them."""
    folder = fill(tmp_path / "in", 1)
    turns = [(10.0, 3.0, -2.0), (130.0, -4.0, 5.0), (250.0, 0.0, 1.0)]
    for number, (_, pitch, roll) in enumerate(turns):
        image = np.random.default_rng(number).integers(0, 255, (128, 256, 3), np.uint8)
        xmp = photo_sphere(PosePitchDegrees=pitch, PoseRollDegrees=roll)
        (folder / f"R{number}.JPG").write_bytes(jpeg(image, xmp))
    (folder / "masks").mkdir()
    mask = np.full((128, 256), 255, np.uint8)
    mask[60:68, 124:132] = 0
    Image.fromarray(mask).save(folder / "masks" / "R1.png")
    capture = read(folder)
    assert len(capture.frames) == 1 + 3 * len(FACES)
    (folder / "p0.jpg").unlink()
    traits = probe(folder)
    assert (traits.frames, traits.estimated, traits.has_gravity) == (3 * len(FACES), True, True)
    assert (capture.gravity_sources, capture.gravity_sigma_deg) == (("panoramas",), STATED_SIGMA_DEG)
    assert any("3 panoramas are cut into 6 faces" in note for note in capture.notes)
    faces = [frame for frame in capture.frames if frame.in_rig]
    assert {frame.shot for frame in faces} == {"R0.JPG", "R1.JPG", "R2.JPG"}
    assert len({frame.in_rig.rig for frame in faces if frame.in_rig}) == 1
    for frame in faces:
        assert frame.in_rig is not None
        assert frame.gravity is not None
        world_from_camera = upright(*turns[int(frame.name[1])]) @ frame.in_rig.rig_from_camera.rotation
        np.testing.assert_allclose(world_from_camera @ frame.gravity, [0, 0, -1], atol=1e-9)
        assert frame.focal_source == "exact"
        image = Image.open(capture.root / frame.image)
        assert image.size == (frame.camera.width, frame.camera.height)
    masked = {frame.name for frame in faces if frame.mask}
    assert masked == {"R0.JPG-down.jpg", "R1.JPG-down.jpg", "R2.JPG-down.jpg", "R1.JPG-front.jpg"}
    written = {path.parent.name for path in (capture.root / "images").rglob("*.jpg")}
    assert written == {"images", "R0", "R1", "R2"}  # of the panoramas themselves none is left


def test_too_many_that_are_no_panoramas(tmp_path: Path, read: Read) -> None:
    """Refused, with what to do for the most frequent of them."""
    folder = fill(tmp_path / "in", 4)
    for number in range(3):
        (folder / f"c{number}.jpg").write_bytes(jpeg(NOISE[:, number:], photo_sphere(ProjectionType="cylindrical")))
    with pytest.raises(CaptureError, match="unreadable") as error:
        read(folder)
    assert "another projection" in error.value.found
    assert "equirectangular" in error.value.remedy

"""The reader of COLMAP projects; the models are written by pycolmap."""

from __future__ import annotations

import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.capture.detect import open_capture
from pipeline.capture.lens import LAYOUTS, Lens, pinhole_of
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.reconstructions.colmap import READER
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from tests.capture.conftest import POSES, SMALL
from tests.capture.writers.posed import WORLD, Fisheye, write_colmap
from tests.capture.writers.reading import assert_poses, read_with
from tests.synthetic import Room, write_photos

FEW = POSES[:12:2]
PINHOLE = (SMALL, "PINHOLE", [SMALL.fx, SMALL.fy, SMALL.cx, SMALL.cy])
ROTATED = Pose.from_quaternion(
    np.array([0.99, 0.1, 0.05, 0.02]) / np.linalg.norm([0.99, 0.1, 0.05, 0.02]), [0.1, 0.02, 0]
)
Read = Callable[..., Capture]
Write = Callable[..., Path]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Runs the reader on a path."""
    return lambda path, params=None: read_with(READER, path, tmp_path / "canonical", params)


@pytest.fixture
def write(room: Room, tmp_path: Path) -> Write:
    """Writes a project with `FEW` poses; arguments as of `write_colmap`."""

    def run(*lenses: Any, **options: Any) -> Path:
        write_colmap(tmp_path / "source", room, FEW, list(lenses) or [PINHOLE], **options)
        return tmp_path / "source"

    return run


def check_poses(capture: Capture, poses: list[Pose] = FEW) -> None:
    """The model's world is another one."""
    assert_poses(capture, [WORLD @ pose for pose in poses])


@pytest.mark.parametrize("text", [False, True])
def test_a_model_comes_back(text: bool, write: Write, read: Read) -> None:
    """Poses world-to-camera and wxyz inverted, intrinsics exact, no scale and no up."""
    capture = read(write(text=text))
    check_poses(capture)
    assert [frame.camera for frame in capture.frames] == [SMALL] * len(FEW)
    assert (capture.kind, capture.scale_sigma, capture.up_in_world) == ("colmap", None, None)
    assert any("no metric scale" in note for note in capture.notes)


def test_points_are_not_needed(write: Write, read: Read) -> None:
    """Only cameras and images are read."""
    folder = write()
    for name in ("points3D", "rigs", "frames"):
        (folder / f"sparse/0/{name}.bin").unlink()
    check_poses(read(folder))


@pytest.mark.parametrize("scale", [0.001, 300.0])
def test_any_unit_is_brought_to_a_rooms_size(scale: float, write: Write, read: Read) -> None:
    """Neither refused as a camera that did not move nor called metric."""
    capture = read(write(scale=scale))
    found = np.array([f.world_from_camera.translation for f in capture.frames if f.world_from_camera])
    truth = np.array([(WORLD @ pose).translation for pose in FEW])
    factor = np.linalg.norm(found[5] - found[0]) / np.linalg.norm(truth[5] - truth[0])
    assert 0.099 < factor < 10.1
    assert np.allclose(found, factor * truth)
    assert capture.scale_sigma is None


def test_several_cameras_of_one_model(write: Write, read: Read) -> None:
    """Each image has its own camera's lens, distortion included; images of one name in two folders stay apart."""
    f, cx, cy = 150.0, 82.0, 57.0
    other = (Camera(160, 120, f, f, cx, cy), "RADIAL", [f, cx, cy, 0.02, -0.003])
    capture = read(write(PINHOLE, other))
    check_poses(capture, [*FEW[::2], *FEW[1::2]])
    assert [frame.camera for frame in capture.frames[:3]] == [SMALL] * 3
    assert capture.frames[3].camera == Camera(160, 120, f, f, cx, cy, (0.02, -0.003, 0.0, 0.0))
    assert [frame.name for frame in capture.frames][2:4] == ["0004.png", "0001.png"]


@pytest.mark.parametrize("text", [False, True])
def test_rigs(text: bool, write: Write, read: Read) -> None:
    """An image of the rig's second camera has the pose of that camera; equal file names get their folder's."""
    capture = read(write(PINHOLE, PINHOLE, rig=ROTATED, text=text))
    check_poses(capture, [*FEW, *(pose @ ROTATED.inverse() for pose in FEW)])
    assert [frame.name for frame in capture.frames][5:7] == ["cam0_0005.png", "cam1_0000.png"]
    assert [frame.sensor for frame in capture.frames] == ["cam0"] * 6 + ["cam1"] * 6


def test_fisheye_images_are_made_straight(write: Write, read: Read, room: Room) -> None:
    """What comes out is what the pinhole camera that is declared would have seen."""
    params = [75.0, 74.0, 81.0, 58.0, 0.05, -0.01, 0.002, 0.0]
    folder = write((Fisheye(160, 120, tuple(params)), "OPENCV_FISHEYE", params))
    capture = read(folder)
    check_poses(capture)
    frame = capture.frames[4]
    assert frame.camera.is_pinhole
    expected = room.render(frame.camera, FEW[4])[0].astype(float)
    found = cv2.imread(str(capture.root / frame.image))[..., ::-1].astype(float)
    bent = cv2.imread(str(folder / "images/0004.png"))[..., ::-1].astype(float)
    assert np.abs(found - expected).mean() < 8 < 25 < np.abs(bent - expected).mean()
    assert any("6 images were undistorted" in note for note in capture.notes)


@pytest.mark.parametrize("model", sorted(LAYOUTS))
def test_every_lens_has_a_pinhole_or_is_held(model: str) -> None:
    """The table's parameters are pycolmap's, in number and order; all of a straight image has a source."""
    import pycolmap

    camera = pycolmap.Camera.create_from_model_name(1, model, 150.0, 160, 120)
    number, names = [*LAYOUTS].index(model), LAYOUTS[model]
    assert (number, len(names)) == (int(getattr(pycolmap.CameraModelId, model)), len(camera.params))
    focal = [index for index, name in enumerate(names) if name in ("f", "fx", "fy")]
    assert sorted(camera.focal_length_idxs()) == focal
    assert list(camera.principal_point_idxs()) == [names.index("cx"), names.index("cy")]
    pinhole = pinhole_of(Lens(model, 160, 120, tuple(camera.params)), "cameras.bin")
    corners = pinhole.rays(np.array([[0.0, 0], [160, 0], [0, 120], [160, 120]]))
    seen = np.asarray(camera.img_from_cam(corners))
    assert (seen >= -1e-6).all()
    assert (seen <= np.array([160, 120]) + 1e-6).all()


def test_masks_lie_where_colmap_wants_them(write: Write, read: Read) -> None:
    """masks/<name>.png, also for images in folders; black = ignore."""
    folder = write(PINHOLE, PINHOLE)
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :50] = 0
    (folder / "masks/cam1").mkdir(parents=True)
    cv2.imwrite(str(folder / "masks/cam1/0003.png.png"), mask)
    capture = read(folder)
    masks = {frame.name: frame.mask for frame in capture.frames}
    assert [name for name, path in masks.items() if path] == ["0003.png"]
    assert np.array_equal(cv2.imread(str(capture.root / str(masks["0003.png"])), cv2.IMREAD_UNCHANGED), mask)


@pytest.mark.parametrize("home", ["images", "images"])
def test_other_folders_are_not_taken_for_the_images(home: str, write: Write, read: Read) -> None:
    """Copies of the same names: smaller ones, masks, and (for the usual folder) those of another workspace."""
    folder = write()
    (folder / "images").rename(folder / home)
    copies = [("a_small", (80, 60)), ("masks", (160, 120))]
    for part, size in [*copies, ("dense/images", (160, 120))] if home == "images" else copies:
        (folder / part).mkdir(parents=True)
        for file in (folder / home).iterdir():
            cv2.imwrite(str(folder / part / file.name), np.full((size[1], size[0], 3), 255, np.uint8))
    frame = (capture := read(folder)).frames[0]
    assert frame.camera == SMALL
    assert (capture.root / frame.image).read_bytes() == (folder / home / "0000.png").read_bytes()


def test_the_largest_model_is_read_and_the_others_named(write: Write, read: Read, room: Room, tmp_path: Path) -> None:
    """COLMAP writes sparse/0, sparse/1 ... where images don't hang together."""
    folder = write()
    write_colmap(tmp_path / "small", room, FEW[:3], [PINHOLE])
    (folder / "sparse/0").rename(folder / "sparse/1")
    shutil.copytree(tmp_path / "small/sparse/0", folder / "sparse/0")
    capture = read(folder)
    check_poses(capture)
    assert any("sparse/1/ was read, with 6 images; not sparse/0/ with 3" in note for note in capture.notes)


def test_binary_files_win_over_text(write: Write, read: Read, room: Room, tmp_path: Path) -> None:
    """As COLMAP itself reads a folder with both."""
    folder = write()
    for name in ("cameras", "images"):
        (folder / f"sparse/0/{name}.txt").write_text("not read")
    check_poses(read(folder))


def test_zip_reads_the_same_and_stride_thins(write: Write, read: Read, tmp_path: Path) -> None:
    """A zip with a wrapping folder, every second image."""
    folder = write()
    archive = tmp_path / "scan.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(folder.rglob("*.*")):
            target.write(file, f"scan/{file.relative_to(folder)}")
    check_poses(read(archive, CaptureParams(stride=2)), FEW[::2])


def test_missing_and_spare_images(write: Write, read: Read) -> None:
    """One missing is skipped by name, one outside the model is noted; many missing are refused."""
    folder = write()
    (folder / "images/0002.png").rename(folder / "images/extra.png")
    capture = read(folder)
    assert [(s.file, s.reason) for s in capture.skipped] == [("0002.png", "no such file")]
    check_poses(capture, [*FEW[:2], *FEW[3:]])
    assert any("1 images in images/ are not in the model, first images/extra.png" in note for note in capture.notes)
    shutil.rmtree(folder / "images")
    with pytest.raises(CaptureError, match=r"found:  0; 6 more .* first 0000\.png"):
        read(folder)


def test_resized_images_are_refused(write: Write, read: Read) -> None:
    """Intrinsics of another size."""
    folder = write()
    file = folder / "images/0001.png"
    cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), (80, 60)))
    with pytest.raises(CaptureError, match="80 x 60, declared 160 x 120"):
        read(folder)


@pytest.mark.parametrize("cut", [0, 4, 30, 75, 79, 90, 200])
def test_a_truncated_model_is_refused(cut: int, write: Write, read: Read) -> None:
    """Wherever it ends: in a number, a name, or the points."""
    folder = write()
    file = folder / "sparse/0/images.bin"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CaptureError, match=r"images\.bin.*must be complete"):
        read(folder)


@pytest.mark.parametrize("count", [2**63, 10**6, 7])
def test_a_count_beyond_the_file_is_refused(count: int, write: Write, read: Read) -> None:
    """No memory is asked for what isn't there."""
    folder = write()
    file = folder / "sparse/0/images.bin"
    file.write_bytes(struct.pack("<Q", count) + file.read_bytes()[8:])
    with pytest.raises(CaptureError, match=r"images\.bin.*must be complete"):
        read(folder)


def test_text_without_its_empty_lines_is_refused(write: Write, read: Read) -> None:
    """The second line of an image may be empty, and is still its points."""
    folder = write(text=True)
    file = folder / "sparse/0/images.txt"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if line))
    with pytest.raises(CaptureError, match="line 6, which must hold points"):
        read(folder)


def test_names_with_blanks(write: Write, read: Read) -> None:
    """A text model's name goes to the end of its line."""
    folder = write(text=True)
    file = folder / "sparse/0/images.txt"
    file.write_text(file.read_text().replace("0002.png", "my room 2.png"))
    (folder / "images/0002.png").rename(folder / "images/my room 2.png")
    assert "my room 2.png" in [frame.name for frame in read(folder).frames]


BAD_TEXT = [
    ("cameras.txt", "1 PINHOLE", "1 EQUIRECTANGULAR", "must be one of"),
    ("cameras.txt", "1 PINHOLE", "1 LIGHTFIELD", "LIGHTFIELD"),
    ("cameras.txt", "1 PINHOLE", "1 OPENCV", "has the 8 parameters"),
    ("cameras.txt", "160 120", "0 120", "size"),
    ("cameras.txt", "160 120", "wide 120", "line 4"),
    ("cameras.txt", f"{SMALL.fx:g}", "0", "fx, fy"),
    ("cameras.txt", f"{SMALL.fx:g}", "nan", "parameters"),
    ("cameras.txt", "1 PINHOLE", "2 PINHOLE", "of camera 1"),
    ("images.txt", "\n3 -0.", "\n3 -9.", "length"),
    ("images.txt", "\n3 ", "\n3 nan", "finite numbers|line"),
    ("images.txt", "0002.png", "0001.png", "listed twice"),
]


@pytest.mark.parametrize(("name", "old", "new", "message"), BAD_TEXT)
def test_bad_models_are_named(name: str, old: str, new: str, message: str, write: Write, read: Read) -> None:
    """Which file, which camera or image, what was found."""
    folder = write(text=True)
    file = folder / "sparse/0" / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(CaptureError, match=message) as error:
        read(folder)
    assert "sparse/0" in str(error.value.file)


def test_unknown_model_number_is_refused(write: Write, read: Read) -> None:
    """A lens of a later COLMAP."""
    folder = write()
    file = folder / "sparse/0/cameras.bin"
    data = file.read_bytes()
    file.write_bytes(data[:12] + struct.pack("<i", 99) + data[16:])
    with pytest.raises(CaptureError, match="number 99"):
        read(folder)


def test_names_never_leave_the_capture(write: Write, read: Read, tmp_path: Path) -> None:
    """A hostile name is an image that isn't there."""
    folder = write(text=True)
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((120, 160, 3), np.uint8))
    file = folder / "sparse/0/images.txt"
    file.write_text(file.read_text().replace("0002.png", "../../secret.png"))
    assert [skipped.file for skipped in read(folder).skipped] == ["../../secret.png"]


def test_a_lens_that_folds_back_is_refused() -> None:
    """A polynomial that turns within the narrowest image shows nothing straight."""
    values = (60.0, 60.0, 80.0, 60.0, -40.0, 0.0, 0.0, 0.0)
    with pytest.raises(CaptureError, match="usable angle"):
        pinhole_of(Lens("OPENCV_FISHEYE", 160, 120, values), "cameras.bin")


def test_pixels_outside_a_fisheyes_circle_are_cut_off() -> None:
    """The straight image ends within the circle."""
    lens = Lens("OPENCV_FISHEYE", 160, 120, (75.0, 74.0, 81.0, 58.0, 0.0, 0.0, 0.0, 0.0))
    whole, cropped = pinhole_of(lens, "a"), pinhole_of(replace(lens, radius=40.0), "a")
    assert cropped.fx > 1.5 * whole.fx


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("gone", ["images", "cameras"])
@pytest.mark.parametrize("folder", ["sparse/0", "."])
def test_half_a_model_beside_photos_is_named(text: bool, gone: str, folder: str, write: Write) -> None:
    """A model of which images or cameras is missing: refused, not taken as photos."""
    source = write(text=text)
    form = "txt" if text else "bin"
    for file in sorted((source / "sparse/0").iterdir()):
        file.rename(source / folder / file.name)
    (source / folder / f"{gone}.{form}").unlink()
    left = "cameras" if gone == "images" else "images"
    with (
        pytest.raises(CaptureError, match="needs cameras and images") as error,
        open_capture(source) as (reader, opened),
    ):
        reader.traits(reader.survey(opened))
    assert f"{left}.{form}" in error.value.found


def test_a_list_of_cameras_is_no_model(room: Room, tmp_path: Path) -> None:
    """cameras.txt of somebody's own hand next to photos."""
    write_photos(tmp_path / "photos", room, FEW, SMALL)
    (tmp_path / "photos/cameras.txt").write_text("Canon EOS R5\n")
    with open_capture(tmp_path / "photos") as (reader, _):
        assert reader.kind == "photos"


@pytest.mark.parametrize("home", ["D:\\scan\\images\\", "/home/ann/scan/images/", ".\\"])
def test_names_of_another_machine(home: str, write: Write, read: Read) -> None:
    """Back slashes part folders, and full paths are found by their ends: of two cameras' equal names the right one."""
    folder = write(PINHOLE, PINHOLE, rig=ROTATED, text=True)
    listed = folder / "sparse/0/images.txt"
    parted = "\\" if "\\" in home else "/"
    listed.write_text(re.sub(r"cam(\d)/", lambda match: f"{home}cam{match[1]}{parted}", listed.read_text()))
    mask = folder / "masks/cam1/0000.png.png"
    mask.parent.mkdir(parents=True)
    Image.fromarray(1 - np.eye(120, 160, dtype=np.uint8)).save(mask)
    capture = read(folder)
    check_poses(capture, [*FEW, *(pose @ ROTATED.inverse() for pose in FEW)])
    assert [frame.name for frame in capture.frames if frame.mask] == ["cam1_0000.png"]

"""The reader of transforms.json, as nerfstudio, instant-ngp, NeRF-synthetic and NeRFCapture write it."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.reconstructions.nerfstudio import READER
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from tests.capture.conftest import POSES, SMALL, truncate
from tests.capture.writers.posed import WORLD, Fisheye, gl_matrix, intrinsics, write_transforms
from tests.capture.writers.reading import assert_poses, read_with
from tests.synthetic import Room

FEW = POSES[:12:2]
Read = Callable[..., Capture]
Write = Callable[..., Path]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Runs the reader on a path."""
    return lambda path, params=None: read_with(READER, path, tmp_path / "canonical", params)


@pytest.fixture
def write(room: Room, tmp_path: Path) -> Write:
    """Writes a folder with `FEW` poses; further arguments as of `write_transforms`."""

    def run(shared: dict[str, Any] | None = None, *args: Any, camera: Any = SMALL, **options: Any) -> Path:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        given = {"camera_model": "OPENCV", **intrinsics(SMALL)} if shared is None else shared
        write_transforms(folder, room, FEW, camera, given, *args, **options)
        return folder

    return run


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change transforms.json."""
    file = folder / "transforms.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    return folder


def with_depth(number: int) -> dict[str, Any]:
    """Nerfstudio's key for the depth that the writer wrote."""
    return {"depth_file_path": f"depth/{number:05d}.png"}


def check_poses(capture: Capture, world: Pose = WORLD, poses: list[Pose] = FEW) -> None:
    """In a world of its own."""
    assert_poses(capture, [world @ pose for pose in poses])


def stored(capture: Capture, number: int) -> np.ndarray:
    """A frame's depth [mm]."""
    return cv2.imread(str(capture.root / str(capture.frames[number].depth)), cv2.IMREAD_UNCHANGED)


def test_poses_intrinsics_and_depth_come_back(write: Write, read: Read) -> None:
    """Nerfstudio with depth: exact poses in CV axes, intrinsics as written, millimetres, a metric scale, no up."""
    folder = write(None, with_depth, depth_units=1000)
    capture = read(folder)
    check_poses(capture)
    assert all(frame.camera == SMALL and frame.depth_camera == SMALL for frame in capture.frames)
    written = cv2.imread(str(folder / "depth/00003.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored(capture, 3), written)
    assert capture.scale_sigma == 0.02
    assert capture.up_in_world is None
    assert any("agree within" in note for note in capture.notes)


def test_without_depth_the_scale_is_unknown(write: Write, read: Read) -> None:
    """Poses of nerfstudio may have any unit: they stay as they are and are not called metric."""
    capture = read(write())
    check_poses(capture)
    assert capture.scale_sigma is None
    assert any("no metric scale" in note for note in capture.notes)


@pytest.mark.parametrize("unit", [0.004, 500.0])
def test_tiny_and_huge_units_are_brought_to_a_rooms_size(unit: float, write: Write, read: Read) -> None:
    """Poses of an arbitrary scale are not refused as a camera that did not move; only the scale changes."""

    def shrink(values: dict[str, Any]) -> None:
        for frame in values["frames"]:
            for row in frame["transform_matrix"][:3]:
                row[3] *= unit

    capture = read(edit(write(), shrink))
    found = np.array([f.world_from_camera.translation for f in capture.frames if f.world_from_camera])
    truth = np.array([(WORLD @ pose).translation for pose in FEW])
    factor = np.linalg.norm(found[5] - found[0]) / np.linalg.norm(truth[5] - truth[0])
    assert 0.1 < factor < 10
    assert np.allclose(found, factor * truth)
    assert capture.scale_sigma is None
    assert any("multiplied by" in note for note in capture.notes)


def test_applied_transform_and_scale_are_undone(write: Write, read: Read) -> None:
    """Nerfstudio saves scale * (transform @ original); depth belongs to the original."""
    applied = [[1.0, 0, 0, 0.3], [0, 0, 1, -0.2], [0, -1, 0, 0.1]]
    folder = write(None, with_depth, depth_units=1000)

    def apply(values: dict[str, Any]) -> None:
        values |= {"applied_transform": applied, "applied_scale": "0.25"}
        for frame, pose in zip(values["frames"], FEW, strict=True):
            moved = Pose.from_matrix(applied) @ WORLD @ pose
            frame["transform_matrix"] = gl_matrix(Pose(moved.rotation, 0.25 * moved.translation))

    check_poses(read(edit(folder, apply)))


def test_numbers_may_be_text(write: Write, read: Read) -> None:
    """GrandTour's and GaussGym's writers quote them."""
    texts = {key: str(value) for key, value in intrinsics(SMALL).items()}
    capture = read(write({"camera_model": "OPENCV", **texts}))
    assert capture.frames[0].camera == SMALL


def test_intrinsics_of_the_frame(write: Write, read: Read) -> None:
    """Per-frame intrinsics are each frame's own."""
    cameras = [replace(SMALL, fx=SMALL.fx + i, cx=SMALL.cx - 0.5 * i) for i in range(len(FEW))]
    capture = read(write({"camera_model": "OPENCV"}, lambda i: intrinsics(cameras[i])))
    assert [frame.camera for frame in capture.frames] == cameras


def test_nerfstudios_global_intrinsics_shadow_the_frames(write: Write, read: Read) -> None:
    """As nerfstudio reads its own files; a note says so."""
    capture = read(write(None, lambda i: {"fl_x": SMALL.fx + 20}))
    assert capture.frames[0].camera == SMALL
    assert any("intrinsics of their own" in note for note in capture.notes)


def test_instant_ngps_frames_overrule_the_global_intrinsics(write: Write, read: Read) -> None:
    """As instant-ngp reads its files, which have no camera_model."""
    capture = read(write(intrinsics(replace(SMALL, fx=100.0)), lambda i: {"fl_x": SMALL.fx}))
    assert capture.frames[0].camera == SMALL


def test_blender_splits_angle_and_missing_suffix(write: Write, read: Read, tmp_path: Path) -> None:
    """NeRF-synthetic: an angle for a focal length, no size, names without suffix, transparent background."""
    square = Camera(160, 120, 150.0, 150.0, 80.0, 60.0)
    shared = {"camera_angle_x": 2 * math.atan(80 / 150)}
    for split in ("train", "test"):
        own = {"train": lambda i: {"file_path": f"./train/r_{i}"}, "test": lambda i: {"file_path": f"./test/r_{i}"}}
        options = {"name": f"{split}/r_{{}}".format, "file": f"transforms_{split}.json"}
        folder = write(shared, own[split], camera=square, **options)
    path = folder / "train/r_2.png"
    image = Image.open(path).convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat([[0, 255]], 80, 1).repeat(120, 0).astype(np.uint8)))
    image.save(path)
    capture = read(folder)
    check_poses(capture, poses=[*FEW, *FEW])
    assert [f.name for f in capture.frames][5:7] == ["train_r_5.png", "test_r_0.png"]
    assert np.allclose(
        [capture.frames[0].camera.fx, capture.frames[0].camera.fy, capture.frames[0].camera.cx], [150, 150, 80]
    )
    mask = cv2.imread(str(capture.root / str(capture.frames[2].mask)), cv2.IMREAD_UNCHANGED)
    assert (mask[:, :80] == 0).all()
    assert (mask[:, 80:] == 255).all()


def test_a_split_that_copies_another_counts_once(write: Write, read: Read) -> None:
    """transforms_val.json as a copy of the test split, as people make it; an image with two poses stays an error."""
    shared = {"camera_angle_x": 1.0, "w": 160, "h": 120}
    for split in ("train", "test"):
        folder = write(shared, name=f"{split}/r_{{}}".format, file=f"transforms_{split}.json")
    copy = folder / "transforms_val.json"
    copy.write_text((folder / "transforms_test.json").read_text().replace('"test/', '"./test/'))
    check_poses(read(folder), poses=[*FEW, *FEW])
    values = json.loads(copy.read_text())
    values["frames"][1]["transform_matrix"] = values["frames"][0]["transform_matrix"]
    copy.write_text(json.dumps(values))
    with pytest.raises(CaptureError, match="listed once"):
        read(folder)


def test_instant_ngp_depth_has_its_own_unit(write: Write, read: Read) -> None:
    """integer_depth_scale is metres a unit; the result is millimetres to the format's precision."""
    shared = {**intrinsics(SMALL), "integer_depth_scale": 10 / 65535}
    folder = write(shared, lambda i: {"depth_path": f"depth/{i:05d}.png"}, depth_units=6553.5)
    capture = read(folder)
    check_poses(capture)
    raw = cv2.imread(str(folder / "depth/00001.png"), cv2.IMREAD_UNCHANGED).astype(float)
    assert np.abs(stored(capture, 1) - raw * 10 / 65.535).max() <= 0.5
    assert capture.scale_sigma == 0.02


def test_instant_ngp_depth_without_unit_is_left_out(write: Write, read: Read) -> None:
    """No unit is guessed."""
    folder = write(intrinsics(SMALL), lambda i: {"depth_path": f"depth/{i:05d}.png"}, depth_units=1000)
    capture = read(folder)
    assert not capture.has_depth
    assert any("integer_depth_scale" in note for note in capture.notes)


def test_nerfcapture_is_metric_and_its_depth_is_not_used(write: Write, read: Read) -> None:
    """Frames come in any order and are sorted by time; ARKit's pixel centres; depth that ends at 1 m is left out."""

    def own(i: int) -> dict[str, Any]:
        arkit = {**intrinsics(SMALL), "cx": SMALL.cx - 0.5, "cy": SMALL.cy - 0.5}
        depth = {"depth_path": f"images/{i}.depth.png", "timestamp": 5000 + 0.5 * i}
        return {**arkit, **depth, "file_path": f"images/{i}"}

    shared = {**intrinsics(SMALL), "cx": 320, "depth_integer_scale": 1.0}
    folder = edit(write(shared, own, name="images/{}".format), lambda v: v["frames"].reverse())
    capture = read(folder)
    check_poses(capture)
    assert capture.frames[0].camera == SMALL
    assert [frame.time for frame in capture.frames] == [0.5 * i for i in range(len(FEW))]
    assert capture.frames[0].source_time == 5000
    assert (capture.has_depth, capture.scale_sigma) == (False, 0.02)
    assert any("8-bit" in note for note in capture.notes)


@pytest.mark.parametrize("chosen", ["gravity", "camera"])
def test_up_of_nerfcapture_is_arkits(chosen: str, write: Write, read: Read) -> None:
    """+y, to ARKit's degree, in the worlds of its menu, but for the one that begins at the first camera."""
    first = np.linalg.inv(np.array(gl_matrix(WORLD @ FEW[0]))) if chosen == "camera" else np.eye(4)
    folder = write(intrinsics(SMALL), lambda i: {"timestamp": 0.5 * i, "depth_integer_scale": 1.0})
    edit(folder, lambda v: [f.update(transform_matrix=(first @ f["transform_matrix"]).tolist()) for f in v["frames"]])
    capture = read(folder)
    with open_source(folder) as source:
        assert READER.survey(source).has_gravity == (chosen == "gravity")
    if chosen == "gravity":
        assert capture.up_in_world is not None
        assert (capture.up_in_world.tolist(), capture.up_sigma_deg) == ([0, 1, 0], 1.0)
    else:
        assert (capture.up_in_world, capture.up_sigma_deg) == (None, None)


def test_depth_made_of_colmaps_points_is_left_out(write: Write, read: Read) -> None:
    """colmap_im_id says that poses and depth are in COLMAP's unit: neither is metric."""
    folder = write(None, lambda i: {**with_depth(i), "colmap_im_id": i + 1}, depth_units=1000)
    capture = read(folder)
    assert (capture.has_depth, capture.scale_sigma) == (False, None)
    assert any("COLMAP's points" in note for note in capture.notes)


def test_stated_up_is_taken(write: Write, read: Read) -> None:
    """instant-ngp's "up" is the world's; within 0.3 degrees."""
    up = WORLD.rotate([0.0, 0.0, 1.0])
    capture = read(write({**intrinsics(SMALL), "up": (3 * up).tolist()}))
    assert capture.up_in_world is not None
    assert math.degrees(math.acos(min(1.0, float(capture.up_in_world @ up)))) < 0.3
    assert capture.up_sigma_deg == 3.0


def test_radial_distortion_is_passed_on(write: Write, read: Read) -> None:
    """k1, k2, p1, p2 stay with the camera and the image stays as it is, byte by byte."""
    shared = {"camera_model": "OPENCV", **intrinsics(SMALL), "k1": 0.05, "k2": -0.01, "p1": 0.001, "p2": -0.002}
    folder = write(shared)
    frame = (capture := read(folder)).frames[0]
    assert frame.camera == replace(SMALL, distortion=(0.05, -0.01, 0.001, -0.002))
    assert (capture.root / frame.image).read_bytes() == (folder / "images/frame_00000.png").read_bytes()


def test_fisheye_image_mask_and_depth_are_undistorted(write: Write, read: Read, room: Room) -> None:
    """What comes out is what the pinhole camera that is declared would have seen."""
    lens = Fisheye(160, 120, (75.0, 74.0, 81.0, 58.0, 0.05, -0.01, 0.002, 0.0))
    shared = {"camera_model": "OPENCV_FISHEYE", "fl_x": 75, "fl_y": 74, "cx": 81, "cy": 58, "w": 160, "h": 120}
    shared |= {"k1": 0.05, "k2": -0.01, "k3": 0.002, "k4": 0}
    own = lambda i: {**with_depth(i), "mask_path": "mask.png"}  # noqa: E731
    folder = write(shared, own, camera=lens, depth_units=1000)
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :40] = 0
    cv2.imwrite(str(folder / "mask.png"), mask)
    capture = read(folder)
    check_poses(capture)
    frame = capture.frames[2]
    assert frame.camera.is_pinhole
    assert frame.depth_camera == frame.camera
    rgb, depth = room.render(frame.camera, FEW[2])
    found = cv2.imread(str(capture.root / frame.image))[..., ::-1].astype(float)
    bent = cv2.imread(str(folder / "images/frame_00002.png"))[..., ::-1].astype(float)
    assert np.abs(found - rgb).mean() < 8 < 25 < np.abs(bent - rgb).mean()
    error = np.abs(stored(capture, 2) / 1000 - depth) / depth
    assert np.percentile(error, 90) < 0.015
    kept = cv2.imread(str(capture.root / str(frame.mask)), cv2.IMREAD_UNCHANGED) > 0
    edge = lens_column(lens, frame.camera, 40.0)
    assert not kept[60, : edge - 1].any()
    assert kept[60, edge + 4 :].all()
    assert any("6 images were undistorted" in note for note in capture.notes)


def lens_column(lens: Fisheye, pinhole: Camera, column: float) -> int:
    """Where the middle row of the pinhole image shows a column of the fisheye image."""
    fx, fy, cx, cy, *k = lens.params
    rays = pinhole.rays()[60][:, None, :]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    seen = cv2.fisheye.distortPoints(np.ascontiguousarray(rays[..., :2]), matrix, np.array(k))
    return int(np.searchsorted(seen[:, 0, 0], column))


UNDISTORTED = [
    {"camera_model": "OPENCV", "k3": 0.05},
    {"is_fisheye": True, "k1": 0.02},
    {"camera_model": "OPENCV_FISHEYE", "fisheye_crop_radius": 60},
]


@pytest.mark.parametrize("lens", UNDISTORTED)
def test_lenses_that_no_later_stage_knows_are_undistorted(lens: dict[str, Any], write: Write, read: Read) -> None:
    """k3, and a fisheye in either spelling: a pinhole camera of another angle, and a note."""
    capture = read(write({**intrinsics(SMALL), **lens}))
    camera = capture.frames[0].camera
    assert camera.is_pinhole
    assert abs(camera.fx / SMALL.fx - 1) > 0.005
    assert camera.fx / camera.fy == pytest.approx(SMALL.fx / SMALL.fy)
    assert any("undistorted here" in note for note in capture.notes)


def test_angles_of_view_in_degrees(write: Write, read: Read) -> None:
    """As instant-ngp takes x_fov and y_fov."""
    angles = [math.degrees(2 * math.atan(0.5 * n / f)) for n, f in ((160, SMALL.fx), (120, SMALL.fy))]
    shared = {key: value for key, value in intrinsics(SMALL).items() if key not in ("fl_x", "fl_y")}
    camera = read(write({**shared, "x_fov": angles[0], "y_fov": angles[1]})).frames[0].camera
    assert np.allclose([camera.fx, camera.fy, camera.cx], [SMALL.fx, SMALL.fy, SMALL.cx])


def test_distortion_without_a_size_is_refused(write: Write, read: Read) -> None:
    """Radial distortion of an unknown image means nothing."""
    with pytest.raises(CaptureError, match="needs the size"):
        read(write({"camera_angle_x": 1.0, "k1": 0.1}))


def test_depth_of_a_lens_with_distortion_is_undistorted(write: Write, read: Read) -> None:
    """The image keeps its lens; the depth image gets a pinhole camera, for no stage undistorts depth."""
    shared = {"camera_model": "OPENCV", **intrinsics(SMALL), "k1": -0.1}
    capture = read(write(shared, with_depth, depth_units=1000))
    frame = capture.frames[0]
    assert frame.camera.distortion[0] == -0.1
    assert frame.depth_camera is not None
    assert frame.depth_camera.is_pinhole
    assert frame.depth_camera.fx != SMALL.fx


def test_depth_arrays_are_read(write: Write, read: Read) -> None:
    """Nerfstudio takes .npy for depth, in millimetres as well."""
    folder = write(None, lambda i: {"depth_file_path": f"depth/{i}.npy"}, depth_units=1000)
    for i in range(len(FEW)):
        depth = cv2.imread(str(folder / f"depth/{i:05d}.png"), cv2.IMREAD_UNCHANGED)
        np.save(folder / f"depth/{i}.npy", depth.astype(np.float32)[..., None])
    assert np.array_equal(stored(read(folder), len(FEW) - 1), depth)


def test_pickled_depth_is_never_opened(write: Write, read: Read) -> None:
    """An array of objects would run code."""
    folder = write(
        None, lambda i: {"depth_file_path": "evil.npy" if i == 1 else f"depth/{i:05d}.png"}, depth_units=1000
    )
    np.save(folder / "evil.npy", np.array([[{}]], object), allow_pickle=True)
    capture = read(folder)
    assert [skipped.file for skipped in capture.skipped] == ["evil.npy"]


def test_black_mask_pixels_are_ignored(write: Write, read: Read) -> None:
    """mask_path: black = ignore; a frame without one has none."""
    folder = write(None, lambda i: {"mask_path": "masks/1.png"} if i == 1 else {})
    (folder / "masks").mkdir()
    mask = np.full((120, 160), 255, np.uint8)
    mask[:30] = 0
    cv2.imwrite(str(folder / "masks/1.png"), mask)
    capture = read(folder)
    found = cv2.imread(str(capture.root / str(capture.frames[1].mask)), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found, mask)
    assert capture.frames[0].mask is None


def test_frames_are_in_the_order_of_their_numbers(write: Write, read: Read) -> None:
    """frame_10 comes after frame_9, whatever the file's order."""
    folder = edit(write(name="images/f_{}".format), lambda v: v["frames"].reverse())
    for old, new in ((5, 12),):
        (folder / f"images/f_{old}.png").rename(folder / f"images/f_{new}.png")
        edit(folder, lambda v, new=new: v["frames"][0].update(file_path=f"images\\f_{new}.png"))
    capture = read(folder)
    assert [frame.name for frame in capture.frames][-2:] == ["f_4.png", "f_12.png"]
    check_poses(capture)


def test_zip_reads_the_same_and_stride_thins(write: Write, read: Read, tmp_path: Path) -> None:
    """A zip with a wrapping folder, every second frame."""
    folder = write()
    archive = tmp_path / "scan.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(folder.rglob("*.*")):
            target.write(file, f"scan/{file.relative_to(folder)}")
    check_poses(read(archive, CaptureParams(stride=2)), poses=FEW[::2])


def test_a_missing_image_is_skipped_and_many_are_refused(write: Write, read: Read) -> None:
    """Half of them are named, with depth where there is some; where fewer than three are left, the setting is named."""
    folder = write(None, with_depth, depth_units=1000)
    for i in (1, 2, 4):
        (folder / f"images/frame_{i:05d}.png").unlink()
        (folder / f"depth/{i:05d}.png").unlink()
    capture = read(folder)
    check_poses(capture, poses=[FEW[0], FEW[3], FEW[5]])
    assert capture.has_depth
    names = [f"images/frame_{i:05d}.png" for i in (1, 2, 4)]
    assert [(s.file, s.reason) for s in capture.skipped] == [(name, "no such file") for name in names]
    (folder / "images/frame_00003.png").unlink()
    with pytest.raises(CaptureError, match=r"capture\.min_frames") as error:
        read(folder)
    assert error.value.found == "2; 4 more are listed, but missing, first images/frame_00001.png"


@pytest.mark.parametrize("listed", ["images/{}", "../shots/{}", "/home/ann/fox/images/{}", "C:\\fox\\images\\{}"])
@pytest.mark.parametrize("home", [".", "photos", "images_of_fox/left"])
def test_images_elsewhere_are_found_by_their_names(listed: str, home: str, write: Write, read: Read) -> None:
    """Beside the file or in one folder, where none lies where it is listed; never depth, masks or a smaller copy."""
    folder = write(None, with_depth, depth_units=1000, name="kept/frame_{:05d}".format)
    (folder / "kept").rename(folder / "moved")
    (folder / home).mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "moved").iterdir()):
        path.rename(folder / home / path.name)
    for other in ("masks", "depth"):
        (folder / other).mkdir(exist_ok=True)
        for i in range(len(FEW)):
            cv2.imwrite(str(folder / other / f"frame_{i:05d}.png"), np.full((120, 160), 255, np.uint8))

    def renamed(values: dict[str, Any]) -> None:
        for i, frame in enumerate(values["frames"]):
            frame["file_path"] = listed.format(f"frame_{i:05d}")

    capture = read(edit(folder, renamed))
    check_poses(capture)
    assert any("6 images are not where they are listed" in note for note in capture.notes)


def test_missing_depth_is_named(write: Write, read: Read) -> None:
    """Depth for all frames or for none, whether its key or its file is missing."""
    folder = write(None, with_depth, depth_units=1000)
    (folder / "depth/00004.png").unlink()
    with pytest.raises(CaptureError, match=r"1 files missing, first 'depth/00004\.png'"):
        read(folder)
    edit(folder, lambda values: values["frames"][4].pop("depth_file_path"))
    with pytest.raises(CaptureError, match=r"1 of 6 frames without depth_file_path, first 'images/frame_00004\.png'"):
        read(folder)


def test_eight_bit_depth_is_refused(write: Write, read: Read) -> None:
    """An image of depth for the eye."""
    folder = write(None, with_depth, depth_units=1000)
    cv2.imwrite(str(folder / "depth/00002.png"), np.full((120, 160), 99, np.uint8))
    with pytest.raises(CaptureError, match=r"00002\.png.*16-bit"):
        read(folder)


def test_depth_in_another_unit_is_refused(write: Write, read: Read) -> None:
    """Metres where millimetres are meant."""
    with pytest.raises(CaptureError, match="look like metres"):
        read(write(None, with_depth, depth_units=1))


def test_poses_in_opencv_axes_are_refused(write: Write, read: Read) -> None:
    """Depth contradicts poses that were written without converting the axes."""

    def unconverted(values: dict[str, Any]) -> None:
        for frame, pose in zip(values["frames"], FEW, strict=True):
            frame["transform_matrix"] = (WORLD @ pose).matrix.tolist()

    with pytest.raises(CaptureError, match="other camera axes"):
        read(edit(write(None, with_depth, depth_units=1000), unconverted))


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.png", "C:\\data\\1.png", "", 7, "a/../../x.png"])
def test_paths_out_of_the_capture_are_refused(path: object, write: Write, read: Read) -> None:
    """Neither absolute nor above the folder."""
    folder = edit(write(), lambda values: values["frames"][2].update(file_path=path))
    with pytest.raises(CaptureError, match="relative to the capture") as error:
        read(folder)
    assert "frames[2]" in str(error.value.file)


BAD_FRAMES = [
    ({"transform_matrix": [[1, 0], [0]]}, "transform_matrix"),
    ({"transform_matrix": [[math.nan] * 4] * 4}, "tracking was lost"),
    ({"transform_matrix": np.diag([1.0, 1, -1, 1]).tolist()}, "left-handed"),
    ({"transform_matrix": np.diag([2.0, 2, 2, 1]).tolist()}, "scale or shear"),
    ({"camera_model": "EQUIRECTANGULAR"}, "camera_model must be one of"),
    ({"camera_model": "FISHEYE624"}, "FISHEYE624"),
    ({"k4": 0.2}, "k4 = 0.2"),
]


@pytest.mark.parametrize(("change", "message"), BAD_FRAMES)
def test_bad_frames_are_named(change: dict[str, Any], message: str, write: Write, read: Read) -> None:
    """Which frame, what was found."""
    folder = write(intrinsics(SMALL))
    edit(folder, lambda values: values["frames"][3].update(change))
    with pytest.raises(CaptureError, match=message) as error:
        read(folder)
    assert "frames[3]" in str(error.value.file)


BAD_FILES = [
    ({"fl_x": 0}, "focal lengths|fx, fy"),
    ({"fl_x": "wide"}, "fl_x must be a valid number"),
    ({"w": 0}, "size"),
    ({"cx": 300}, "principal point"),
    ({"w": 320, "h": 240, "cx": 160, "cy": 120}, "160 x 120, declared 320 x 240"),
    ({"fl_x": None, "fl_y": None}, "needs a focal length: fl_x"),
    ({"applied_transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]]}, "left-handed"),
    ({"applied_scale": -1}, "applied_scale must be greater than 0"),
    ({"frames": {}}, 'list of "frames"'),
]


@pytest.mark.parametrize(("change", "message"), BAD_FILES)
def test_bad_files_are_refused(change: dict[str, Any], message: str, write: Write, read: Read) -> None:
    """Values at the top of the file."""
    folder = edit(write(), lambda values: values.update(change))
    with pytest.raises(CaptureError, match=message):
        read(folder)


def test_no_focal_length_is_refused(write: Write, read: Read) -> None:
    """None is guessed."""
    with pytest.raises(CaptureError, match="needs a focal length"):
        read(write({"camera_model": "PINHOLE"}))


def test_an_image_listed_twice_is_refused(write: Write, read: Read) -> None:
    """The same image with two poses."""
    folder = edit(write(), lambda values: values["frames"][1].update(file_path="./images/frame_00000.png"))
    with pytest.raises(CaptureError, match="listed once"):
        read(folder)


def test_repeated_times_are_refused(write: Write, read: Read) -> None:
    """Two frames of one moment."""
    folder = write(intrinsics(SMALL), lambda i: {"timestamp": [0.0, 1.0, 1.0, 2.0, 3.0, 4.0][i]})
    with pytest.raises(CaptureError, match="time must increase"):
        read(folder)


def test_truncated_image_is_skipped_and_broken_json_named(write: Write, read: Read) -> None:
    """One bad image costs one frame; a cut-off transforms.json is an error of that file."""
    folder = write()
    truncate(folder / "images/frame_00002.png")
    capture = read(folder)
    assert [skipped.file for skipped in capture.skipped] == ["images/frame_00002.png"]
    check_poses(capture, poses=[*FEW[:2], *FEW[3:]])
    truncate(folder / "transforms.json")
    with open_source(folder) as source, pytest.raises(CaptureError, match=r"transforms\.json"):
        READER.recognise(source)


def test_other_files_of_that_name_are_not_recognised(tmp_path: Path) -> None:
    """GaussGym and others call other things transforms.json."""
    (tmp_path / "transforms.json").write_text('{"base": [1, 2, 3]}')
    with open_source(tmp_path) as source:
        assert not READER.recognise(source)


def test_poses_of_a_map_without_a_known_unit_find_their_way_back(write: Write, read: Callable[[Path], Capture]) -> None:
    """Hundreds of units wide and millions away: room-sized and centred, and source = scale * world + position."""
    offset = np.array([4201792.0, 172951.0, 4780052.0])

    def change(values: dict[str, Any]) -> None:
        for frame in values["frames"]:
            matrix = np.array(frame["transform_matrix"])
            matrix[:3, 3] = 100 * matrix[:3, 3] + offset
            frame["transform_matrix"] = matrix.tolist()

    capture = read(edit(write(), change))
    assert capture.world_origin is not None
    assert capture.world_origin.scale == pytest.approx(10)  # a power of ten
    for frame, pose in zip(capture.frames, [WORLD @ pose for pose in FEW], strict=True):
        assert frame.world_from_camera
        assert np.abs(frame.world_from_camera.translation).max() < 20
        back = capture.world_origin.scale * frame.world_from_camera.translation + capture.world_origin.position
        np.testing.assert_allclose(back, 100 * pose.translation + offset, atol=1e-6)

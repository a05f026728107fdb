"""The reader of TUM RGB-D recordings."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.capture.depth_cameras.tum import READER
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from tests.capture.conftest import SMALL, truncate
from tests.capture.writers.between import between
from tests.capture.writers.reading import assert_poses, read_with
from tests.synthetic import Room, walk

START = 1305031102.160407
STEP, LATE = 0.08, 0.03
"""Between poses, and of an image after its pose [s]."""


@dataclass(frozen=True)
class Recording:
    """Where it lies, and each image's time, true pose and depth."""

    folder: Path
    times: np.ndarray
    poses: list[Pose]
    depths: list[np.ndarray]


def write_tum(folder: Path, room: Room, poses: list[Pose], camera: Camera = SMALL) -> Recording:
    """As the benchmark's archives: three-line headers, depth some ms after the image, poses at times of their own."""
    for part in ("rgb", "depth"):
        (folder / part).mkdir(parents=True)
    truth = [between(a, b, LATE / STEP) for a, b in pairwise(poses)]
    lists = {name: [f"# {name}", "# file: 'rgbd_dataset.bag'", "# timestamp ..."] for name in ("rgb", "depth", "poses")}
    for i, pose in enumerate(poses):
        numbers = [*pose.translation, *Rotation.from_matrix(pose.rotation).as_quat()]
        lists["poses"].append(f"{START + STEP * i:.6f} " + " ".join(f"{value:.7f}" for value in numbers))
    depths = []
    for i, pose in enumerate(truth):
        time = START + STEP * i + LATE
        color, depth = room.render(camera, pose, samples=1)
        depths.append(depth)
        cv2.imwrite(str(folder / f"rgb/{time:.6f}.png"), color[..., ::-1])
        cv2.imwrite(str(folder / f"depth/{time + 0.008:.6f}.png"), (depth * 5000).round().astype(np.uint16))
        lists["rgb"].append(f"{time:.6f} rgb/{time:.6f}.png")
        lists["depth"].append(f"{time + 0.008:.6f} depth/{time + 0.008:.6f}.png")
    for name, file in (("rgb", "rgb.txt"), ("depth", "depth.txt"), ("poses", "groundtruth.txt")):
        (folder / file).write_text("\n".join(lists[name]) + "\n")
    np.savetxt(folder / "camera-intrinsics.txt", camera.matrix)
    return Recording(folder, START + STEP * np.arange(len(truth)) + LATE, truth, depths)


@pytest.fixture(scope="session")
def recorded(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A recording of twelve images; never changed."""
    return write_tum(tmp_path_factory.mktemp("tum") / "desk", room, walk(120)[:13])


@pytest.fixture
def recording(recorded: Recording, tmp_path: Path) -> Recording:
    """A private copy."""
    return replace(recorded, folder=Path(shutil.copytree(recorded.folder, tmp_path / "source" / "desk")))


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines()


def check_exact(capture: Capture, recording: Recording, kept: list[int]) -> None:
    """Poses within 0.1 mm and 0.01 degrees, depth within its rounding, times and intrinsics as written."""
    assert_poses(capture, [recording.poses[index] for index in kept])
    for frame, index in zip(capture.frames, kept, strict=True):
        assert frame.source_time == pytest.approx(recording.times[index], abs=1e-6)
        assert frame.time == pytest.approx(recording.times[index] - recording.times[kept[0]], abs=1e-6)
        assert (frame.camera, frame.depth_camera) == (SMALL, SMALL)
        depth = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        assert np.abs(depth / 1000 - recording.depths[index]).max() <= 0.00061  # 1/5000 m, then 1/1000 m


def test_exact_recording_comes_back(recorded: Recording, tmp_path: Path) -> None:
    """Poses are those at the images' times, between the trajectory's."""
    capture = read_with(READER, recorded.folder, tmp_path)
    check_exact(capture, recorded, list(range(12)))
    assert (capture.kind, capture.ordered, capture.has_poses, capture.skipped) == ("tum", True, True, ())
    assert (capture.up_in_world, capture.scale_sigma) == (None, 0.015)


def test_zip_is_read_in_place(recorded: Recording, tmp_path: Path) -> None:
    """With the folder in it that the archive has."""
    archive = shutil.make_archive(str(tmp_path / "desk"), "zip", recorded.folder.parent, "desk")
    check_exact(read_with(READER, Path(archive), tmp_path / "out"), recorded, list(range(12)))


def test_time_range_and_stride(recorded: Recording, tmp_path: Path) -> None:
    """Seconds since the first image; every second of those."""
    params = CaptureParams(start=0.1, end=0.7, stride=2)
    check_exact(read_with(READER, recorded.folder, tmp_path, params), recorded, [2, 4, 6, 8])


def test_images_without_depth_or_pose_are_left_out(recording: Recording, tmp_path: Path) -> None:
    """A lost depth image, a gap in the trajectory and an image after its end: each is named."""
    depth, poses = recording.folder / "depth.txt", recording.folder / "groundtruth.txt"
    depth.write_text("\n".join(line for i, line in enumerate(lines_of(depth)) if i != 3 + 2))
    poses.write_text("\n".join(line for i, line in enumerate(lines_of(poses)) if i not in (3 + 6, 3 + 12)))
    capture = read_with(READER, recording.folder, tmp_path)
    check_exact(capture, recording, [0, 1, 3, 4, 7, 8, 9, 10])
    names = sorted(Path(line.split()[1]).name for line in lines_of(recording.folder / "rgb.txt")[3:])
    reasons = {Path(item.file).name: item.reason for item in capture.skipped}
    assert set(reasons) == {names[i] for i in (2, 5, 6, 11)}
    assert "no depth" in reasons[names[2]]
    assert "no two poses" in reasons[names[5]]


def test_one_depth_image_serves_one_image(recording: Recording, tmp_path: Path) -> None:
    """A second image 16 ms later has none of its own."""
    rgb = recording.folder / "rgb.txt"
    lines = lines_of(rgb)
    time = recording.times[4] + 0.018
    shutil.copy(recording.folder / lines[3 + 4].split()[1], recording.folder / "rgb/twin.png")
    rgb.write_text("\n".join([*lines[: 3 + 5], f"{time:.6f} rgb/twin.png", *lines[3 + 5 :]]))
    capture = read_with(READER, recording.folder, tmp_path)
    assert [item.file for item in capture.skipped] == ["rgb/twin.png"]
    check_exact(capture, recording, list(range(12)))


def test_without_ground_truth_there_are_no_poses(recording: Recording, tmp_path: Path) -> None:
    """As in the benchmark's validation sequences: depth gives the scale."""
    (recording.folder / "groundtruth.txt").unlink()
    capture = read_with(READER, recording.folder, tmp_path)
    assert (capture.has_poses, capture.has_depth, len(capture.frames)) == (False, True, 12)
    assert "no groundtruth.txt" in " ".join(capture.notes)


def test_masks_are_taken(recording: Recording, tmp_path: Path) -> None:
    """masks/ next to rgb/."""
    name = Path(lines_of(recording.folder / "rgb.txt")[3].split()[1]).name
    (recording.folder / "masks").mkdir()
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :30] = 0
    cv2.imwrite(str(recording.folder / f"masks/{name}.png"), mask)
    frames = read_with(READER, recording.folder, tmp_path).frames
    assert [frame.mask is not None for frame in frames] == [True] + 11 * [False]


def test_depth_in_millimetres_is_refused(recording: Recording, tmp_path: Path) -> None:
    """The layout's unit is 1/5000 m; another one contradicts the poses."""
    for file in (recording.folder / "depth").glob("*.png"):
        cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED) // 5)
    with pytest.raises(CaptureError, match="agree with the poses"):
        read_with(READER, recording.folder, tmp_path)


def test_world_to_camera_is_refused(recording: Recording, tmp_path: Path) -> None:
    """Inverted poses contradict the depth, and the message says so."""
    file = recording.folder / "groundtruth.txt"
    lines = lines_of(file)
    for i, line in enumerate(lines[3:], 3):
        time, *values = line.split()
        numbers = np.array(values, float)
        pose = Pose(Rotation.from_quat(numbers[3:]).as_matrix(), numbers[:3]).inverse()
        quaternion = Rotation.from_matrix(pose.rotation).as_quat()
        lines[i] = " ".join(map(str, (time, *pose.translation, *quaternion)))
    file.write_text("\n".join(lines))
    with pytest.raises(CaptureError, match="world-to-camera"):
        read_with(READER, recording.folder, tmp_path)


def test_depth_of_another_clock_is_refused(recording: Recording, tmp_path: Path) -> None:
    """No image has depth near it."""
    file = recording.folder / "depth.txt"
    shifted = [line.split(" ", 1) for line in lines_of(file)[3:]]
    file.write_text("\n".join(f"{float(time) + 40:.6f} {rest}" for time, rest in shifted))
    with pytest.raises(CaptureError, match=r"depth\.txt.*one clock"):
        read_with(READER, recording.folder, tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("rgb.txt", lambda lines: [*lines[:5], lines[4], *lines[5:]], r"rgb\.txt.*must increase"),
        ("depth.txt", lambda lines: [*lines[:3], *lines[:2:-1]], r"depth\.txt.*must increase"),
        ("rgb.txt", lambda lines: [*lines[:5], lines[5].split()[0]], "a time and a file"),
        ("rgb.txt", lambda lines: [*lines[:5], "now " + lines[5]], "begin with 1 numbers"),
        ("rgb.txt", lambda lines: [*lines[:5], "nan " + lines[5].split()[1]], "must increase"),
        ("rgb.txt", lambda lines: lines[:3], "a time and a file"),
        ("rgb.txt", lambda lines: [*lines, "1999999999.5 ../secret.png"], r"1 of 13 missing, first \.\./secret\.png"),
        ("depth.txt", lambda lines: [*lines, "1999999999.5 " + lines[-1].split()[1]], "listed twice"),
        ("groundtruth.txt", lambda lines: [*lines[:5], lines[5].rsplit(" ", 1)[0] + " 3"], "unit quaternion"),
        ("groundtruth.txt", lambda lines: [*lines[:5], lines[4]], "must increase"),
    ],
)
def test_bad_lists_name_their_file(file: str, change, message: str, recording: Recording, tmp_path: Path) -> None:
    """Time repeated, backwards or none; no name; a name outside; a quaternion that is none."""
    path = recording.folder / file
    path.write_text("\n".join(change(lines_of(path))))
    with pytest.raises(CaptureError, match=f"(?s){message}") as error:
        read_with(READER, recording.folder, tmp_path)
    assert str(path) in str(error.value)


def test_missing_depth_list(recording: Recording, tmp_path: Path) -> None:
    """The poses' file still makes it a TUM recording."""
    (recording.folder / "depth.txt").unlink()
    with pytest.raises(CaptureError, match=r"must have rgb\.txt and depth\.txt"):
        read_with(READER, recording.folder, tmp_path)


def test_truncated_images_are_skipped(recording: Recording, tmp_path: Path) -> None:
    """Image 3 and depth 9; the others stay paired."""
    truncate(sorted((recording.folder / "rgb").glob("*.png"))[3])
    truncate(sorted((recording.folder / "depth").glob("*.png"))[9])
    capture = read_with(READER, recording.folder, tmp_path)
    check_exact(capture, recording, [0, 1, 2, 4, 5, 6, 7, 8, 10, 11])


def test_depth_of_another_size_is_refused(recording: Recording, tmp_path: Path) -> None:
    """Depth is registered to the image, pixel by pixel."""
    file = sorted((recording.folder / "depth").glob("*.png"))[2]
    cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[::2, ::2])
    with pytest.raises(CaptureError, match="80 x 60"):
        read_with(READER, recording.folder, tmp_path)


def test_eight_bit_depth_is_refused(recording: Recording, tmp_path: Path) -> None:
    """Depth for the eye."""
    file = sorted((recording.folder / "depth").glob("*.png"))[2]
    cv2.imwrite(str(file), np.full((120, 160), 99, np.uint8))
    with pytest.raises(CaptureError, match="16-bit"):
        read_with(READER, recording.folder, tmp_path)


@pytest.mark.parametrize(
    "text", ["0 0 79\n0 0 60\n0 0 1", "525 0 319.5\n0 525 239.5\n0 0 1", "1 2\n", "120 0 80\n", ""]
)
def test_wrong_intrinsics_are_refused(text: str, recording: Recording, tmp_path: Path) -> None:
    """Zero, of another size, cut off, empty."""
    (recording.folder / "camera-intrinsics.txt").write_text(text)
    with pytest.raises(CaptureError, match=r"camera-intrinsics\.txt"):
        read_with(READER, recording.folder, tmp_path)


def test_unknown_camera_says_how_to_give_it(recording: Recording, tmp_path: Path) -> None:
    """The remedy shows the file's content."""
    (recording.folder / "camera-intrinsics.txt").unlink()
    with pytest.raises(CaptureError, match="freiburg1") as error:
        read_with(READER, recording.folder, tmp_path)
    assert "fx 0 cx" in error.value.remedy


BAGS = {1: "rgbd_dataset_freiburg1_desk", 3: "rgbd_dataset_freiburg3_desk", 4: "rgbd_bonn_crowd"}
LATER = {BAGS[1]: 0, BAGS[3]: 1341839113 - 1305031102, BAGS[4]: 1548266470 - 1305031102}
"""From the times of `write_tum` to those of the benchmarks' recordings [s]."""


def large(recording: Recording, folder: Path, bag: str, name: str = "my desk") -> Path:
    """The first three images, four times as large, without intrinsics, as of a benchmark's bag and of its time."""
    source = Path(shutil.copytree(recording.folder, folder / name))
    (source / "camera-intrinsics.txt").unlink()
    for file in ("rgb.txt", "depth.txt", "groundtruth.txt"):
        rows = [line.split(maxsplit=1) for line in lines_of(source / file)[3:]]
        listed = [f"{float(time) + LATER[bag]:.6f} {rest}" for time, rest in rows]
        head = [f"# {file}", f"# file: '{bag}.bag'", "# timestamp ..."]
        (source / file).write_text("\n".join([*head, *(listed if file == "groundtruth.txt" else listed[:3])]))
        for _, rest in rows[:3] if file != "groundtruth.txt" else ():
            image = cv2.imread(str(source / rest), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(source / rest), cv2.resize(image, (640, 480), interpolation=cv2.INTER_NEAREST))
    return source


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("# file: '.*'", "# made by hand"), "no line # file:"),
        (("# file: '.*'", "# file: 'office.bag'"), "'office.bag'"),
        (("# file: '.*'", "# file: 'my_freiburg1_robot.bag'"), "'my_freiburg1_robot.bag'"),
        (("(?m)^13050", "17050"), "its first time is 17050"),
        (("(?m)^13050", "50"), "its first time is 50"),
    ],
)
def test_a_folders_name_is_no_calibration(
    change: tuple[str, str], found: str, recorded: Recording, tmp_path: Path
) -> None:
    """freiburg1 in the folder's name, but another's header, none, or one copied over times of another year."""
    source = large(recorded, tmp_path, BAGS[1], name="rgbd_dataset_freiburg1_desk")
    for file in ("rgb.txt", "depth.txt", "groundtruth.txt"):
        (source / file).write_text(re.sub(*change, (source / file).read_text()))
    with pytest.raises(CaptureError, match=r"camera-intrinsics\.txt") as error:
        read_with(READER, source, tmp_path / "out")
    assert found in error.value.found
    assert "fx 0 cx" in error.value.remedy


def test_the_header_tells_the_camera(recorded: Recording, tmp_path: Path) -> None:
    """Whatever the folder is called, another of the benchmark's names included; the note says whose lens it is."""
    source = large(recorded, tmp_path, BAGS[3], name="rgbd_dataset_freiburg1_desk")
    capture = read_with(READER, source, tmp_path / "out")
    assert capture.frames[0].camera.fx == 535.4
    assert "rgbd_dataset_freiburg3_desk.bag" in " ".join(capture.notes)


def test_freiburg3_is_rectified(recorded: Recording, tmp_path: Path) -> None:
    """Its published intrinsics, for pixel centres at +0.5, serve image and depth."""
    source = large(recorded, tmp_path, BAGS[3])
    frame = read_with(READER, source, tmp_path / "out").frames[0]
    assert frame.camera == frame.depth_camera
    assert (frame.camera.fx, frame.camera.fy, frame.camera.cx, frame.camera.cy) == (535.4, 539.2, 320.6, 248.1)


def test_freiburg1_is_undistorted(recorded: Recording, tmp_path: Path) -> None:
    """What a pixel of the written image shows is where the published lens puts it in the stored one."""
    source = large(recorded, tmp_path, BAGS[1])
    capture = read_with(READER, source, tmp_path / "out")
    frame = capture.frames[0]
    assert frame.camera.is_pinhole
    assert frame.depth_camera == frame.camera
    stored = cv2.imread(str(source / lines_of(source / "depth.txt")[3].split()[1]), cv2.IMREAD_UNCHANGED)
    written = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
    v, u = np.mgrid[3:480:7, 3:640:7].reshape(2, -1)
    rays = frame.camera.rays(np.stack([u, v], -1) + 0.5)
    matrix = np.array([[517.306408, 0, 318.64304], [0, 516.469215, 255.313989], [0, 0, 1]])
    distortion = np.array([0.262383, -0.953104, -0.005358, 0.002628, 1.163314])
    pixels, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), matrix, distortion)  # centres at integers
    column, row = np.round(pixels[:, 0]).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < 640) & (row < 480)
    assert inside.mean() > 0.999
    same = np.abs(stored[row[inside], column[inside]] / 5 - written[v[inside], u[inside]]) <= 1
    assert same.mean() > 0.995  # a source exactly between two pixels may go either way
    plain = np.abs(stored[v, u] / 5 - written[v, u]) <= 1
    assert plain.mean() < 0.9


def test_benchmark_lens_refuses_other_sizes(recorded: Recording, tmp_path: Path) -> None:
    """160 x 120 images are not the benchmark's."""
    source = Path(shutil.copytree(recorded.folder, tmp_path / "desk"))
    (source / "camera-intrinsics.txt").unlink()
    text = (source / "rgb.txt").read_text()
    (source / "rgb.txt").write_text(text.replace("rgbd_dataset.bag", f"{BAGS[1]}.bag"))
    with pytest.raises(CaptureError, match="160 x 120, declared 640 x 480"):
        read_with(READER, source, tmp_path / "out")


def test_bonn_poses_follow_the_markers(recorded: Recording, tmp_path: Path) -> None:
    """Relative poses are those of T_ros T_gt T_ros T_m, with the rotation of the published T_m."""
    source = large(recorded, tmp_path, BAGS[4])
    capture = read_with(READER, source, tmp_path / "out")
    ros = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    marker = np.eye(4)
    marker[:3] = [[1.0157, 0.1828, -0.2389, 0.0113], [0.0009, -0.8431, -0.6413, -0.0098], [-0.3009, 0.6147, -0.8085, 0.0111]]  # fmt: skip  # noqa: E501
    marker[:3, :3] /= 1.05929
    wanted = [ros @ pose.matrix @ ros @ marker for pose in recorded.poses[:3]]
    poses = [frame.world_from_camera.matrix for frame in capture.frames]  # type: ignore[union-attr]
    for pose, truth in zip(poses, wanted, strict=True):
        assert np.allclose(np.linalg.inv(poses[0]) @ pose, np.linalg.inv(wanted[0]) @ truth, atol=2e-3)
    assert capture.frames[0].camera.distortion == (0.039903, -0.099343, -0.00073, -0.000144)
    assert capture.scale_sigma == pytest.approx(0.0593, abs=1e-4)
    assert "1.059" in " ".join(capture.notes)

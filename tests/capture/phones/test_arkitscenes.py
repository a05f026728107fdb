"""The reader of ARKitScenes videos."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.arkitscenes import READER
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose, angle_deg
from tests.capture.conftest import SMALL, truncate
from tests.capture.writers.arkitscenes import ARKIT_FROM_WORLD, START, VIDEO, write_arkitscenes
from tests.capture.writers.reading import read_with
from tests.synthetic import Room, walk

LOW = SMALL.resized(80, 60)
XML = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'


@dataclass(frozen=True)
class Video:
    """Where it lies, time and ARKit-from-camera pose of each image."""

    folder: Path
    frames: list[tuple[float, Pose]]

    def files(self, asset: str) -> list[Path]:
        """Those of one asset, in the order of time."""
        return sorted((self.folder / asset).iterdir())

    def trajectory(self) -> list[str]:
        """Its lines."""
        return (self.folder / "lowres_wide.traj").read_text().splitlines()

    def set_trajectory(self, lines: list[str]) -> None:
        """Overwrite the trajectory."""
        (self.folder / "lowres_wide.traj").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def recorded(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Video:
    """A raw video with two streams, 13 images each; never changed."""
    folder = tmp_path_factory.mktemp("arkit") / VIDEO
    return Video(folder, write_arkitscenes(folder, room, walk(60)[:7], {"vga_wide": SMALL, "lowres_wide": LOW}))


@pytest.fixture
def video(recorded: Video, tmp_path: Path) -> Video:
    """A private copy."""
    return replace(recorded, folder=Path(shutil.copytree(recorded.folder, tmp_path / "source" / VIDEO)))


def check_exact(capture: Capture, video: Video, kept: list[int], camera: Camera = SMALL) -> None:
    """Poses within 0.1 mm and 0.01 degrees, gravity, times and intrinsics as written."""
    assert len(capture.frames) == len(kept)
    assert capture.up_in_world is not None
    for frame, index in zip(capture.frames, kept, strict=True):
        (time, truth), pose = video.frames[index], frame.world_from_camera
        assert pose is not None
        between = index % 2  # those of the trajectory's times are exact, names give others to half a millisecond
        assert np.linalg.norm(pose.translation - truth.translation) < (1.5e-3 if between else 1e-6)
        assert angle_deg(pose.rotation, truth.rotation) < (0.1 if between else 1e-4)
        assert frame.source_time == pytest.approx(time, abs=6e-4)
        down = pose.inverse().rotate(-capture.up_in_world)
        true_down = (ARKIT_FROM_WORLD.inverse() @ truth).inverse().rotate([0, 0, -1])
        assert np.degrees(np.arccos(np.clip(down @ true_down, -1, 1))) < 0.3
        assert np.allclose(frame.camera.matrix, camera.matrix, rtol=1e-5)
        assert (frame.camera.width, frame.camera.height) == (camera.width, camera.height)


def test_exact_video_comes_back(recorded: Video, room: Room, tmp_path: Path) -> None:
    """Poses inverted and interpolated, depth with its own camera, confidence spread, up is +z."""
    capture = read_with(READER, recorded.folder, tmp_path)
    check_exact(capture, recorded, list(range(13)))
    assert (capture.kind, capture.ordered, capture.has_depth, capture.has_poses) == ("arkitscenes", True, True, True)
    assert capture.up_in_world is not None
    assert (capture.up_in_world.tolist(), capture.up_sigma_deg, capture.scale_sigma) == ([0, 0, 1], 1.0, 0.01)
    for frame, (_, pose) in zip(capture.frames, recorded.frames, strict=True):
        assert frame.depth_camera is not None
        assert np.allclose(frame.depth_camera.matrix, LOW.matrix, rtol=1e-5)
        depth = cv2.imread(str(capture.root / str(frame.depth)), cv2.IMREAD_UNCHANGED)
        _, truth = room.cast(LOW, ARKIT_FROM_WORLD.inverse() @ pose)
        assert np.abs(depth / 1000 - truth).max() < 0.001
        confidence = cv2.imread(str(capture.root / str(frame.confidence)), cv2.IMREAD_UNCHANGED)
        assert confidence[:, :3].T.tolist() == [[0] * 60, [128] * 60, [255] * 60]


def test_interpolated_poses_are_exact_where_names_are(room: Room, tmp_path: Path) -> None:
    """With a trajectory in whole milliseconds, names lose nothing."""
    folder = tmp_path / "source"
    frames = write_arkitscenes(folder, room, walk(60)[:4], {"lowres_wide": LOW})
    lines = [line.split(" ", 1) for line in (folder / "lowres_wide.traj").read_text().splitlines()]
    late = round(START, 3) - START
    (folder / "lowres_wide.traj").write_text("\n".join(f"{float(time) + late:.3f} {rest}" for time, rest in lines))
    for frame, (_, truth) in zip(read_with(READER, folder, tmp_path / "out").frames, frames, strict=True):
        assert frame.world_from_camera is not None
        assert np.linalg.norm(frame.world_from_camera.translation - truth.translation) < 1e-4
        assert angle_deg(frame.world_from_camera.rotation, truth.rotation) < 0.01


def test_principal_points_are_arkits(video: Video, tmp_path: Path) -> None:
    """959.5 of 1920 pixels is the middle of the image, in each stream's file by its size."""
    for stream, camera in (("vga_wide", SMALL), ("lowres_wide", LOW)):
        by = camera.width / 1920
        for file in video.files(f"{stream}_intrinsics"):
            file.write_text(f"{camera.width} {camera.height} {camera.fx} {camera.fy} {by * 959.5} {by * 719.5}")
    frame = read_with(READER, video.folder, tmp_path / "out").frames[3]
    assert (frame.camera.cx, frame.camera.cy) == pytest.approx((80, 60))
    assert frame.depth_camera.cx / frame.depth_camera.width == pytest.approx(0.5)
    assert frame.depth_camera.cy / frame.depth_camera.height == pytest.approx(0.5)


def test_zip_is_read_in_place(recorded: Video, tmp_path: Path) -> None:
    """With the video's folder in it."""
    archive = shutil.make_archive(str(tmp_path / "video"), "zip", recorded.folder.parent, VIDEO)
    check_exact(read_with(READER, Path(archive), tmp_path / "out"), recorded, list(range(13)))


def test_3dod_layout_with_its_mesh(recorded: Video, tmp_path: Path) -> None:
    """Streams in <video>_frames/, lowres_wide alone; the mesh next to it is named in a note."""
    outer = tmp_path / VIDEO
    inner = Path(
        shutil.copytree(recorded.folder, outer / f"{VIDEO}_frames", ignore=shutil.ignore_patterns("vga_wide*"))
    )
    (outer / f"{VIDEO}_3dod_mesh.ply").write_text("ply\n")
    (outer / f"{VIDEO}_3dod_annotation.json").write_text("{}")
    capture = read_with(READER, outer, tmp_path / "out")
    check_exact(capture, recorded, list(range(13)), LOW)
    assert f"ARKit's mesh {VIDEO}_3dod_mesh.ply is not used" in capture.notes
    with open_source(outer) as source:
        files = READER.survey(source).files
    assert f"{VIDEO}_frames/lowres_wide.traj" in files
    assert len(files) == 1 + 13 * 4
    check_exact(read_with(READER, inner, tmp_path / "inner"), recorded, list(range(13)), LOW)


def test_time_range_and_stride(recorded: Video, tmp_path: Path) -> None:
    """Seconds since the first image; every second of those."""
    capture = read_with(READER, recorded.folder, tmp_path, CaptureParams(start=0.14, end=0.46, stride=2))
    check_exact(capture, recorded, [3, 5, 7, 9])


def test_sparse_wide_images_are_not_used(video: Video, room: Room, tmp_path: Path) -> None:
    """Too few of the best resolved: the next one; a note says which, and how much it shows."""
    wide = SMALL.resized(320, 240)
    time, pose = video.frames[0]
    for part, suffix in (("wide", "png"), ("wide_intrinsics", "pincam")):
        (video.folder / part).mkdir()
        file = video.folder / part / f"{VIDEO}_{time:.3f}.{suffix}"
        if suffix == "png":
            cv2.imwrite(str(file), room.render(wide, ARKIT_FROM_WORLD.inverse() @ pose, samples=1)[0])
        else:
            file.write_text(f"320 240 {wide.fx} {wide.fy} {wide.cx} {wide.cy}")
    lines = video.trajectory()
    for i in range(1, 4):  # the recording goes on for three seconds, at the last position
        for asset, suffix in (("vga_wide", "png"), ("vga_wide_intrinsics", "pincam"), ("lowres_depth", "png")):
            name = f"{VIDEO}_{video.frames[-1][0] + i:.3f}.{suffix}"
            shutil.copy(video.files(asset)[12], video.folder / asset / name)
        lines.append(f"{video.frames[-1][0] + i:.8f} {lines[6].split(' ', 1)[1]}")
    video.set_trajectory(lines)
    capture = read_with(READER, video.folder, tmp_path)
    check_exact(replace(capture, frames=capture.frames[:13]), video, list(range(13)))
    assert "images of vga_wide" in capture.notes
    assert "wide not used: it shows 1 s of the video, vga_wide 5 s" in capture.notes


def test_stream_without_intrinsics_is_passed_over(video: Video, tmp_path: Path) -> None:
    """vga_wide was downloaded, vga_wide_intrinsics was not."""
    shutil.rmtree(video.folder / "vga_wide_intrinsics")
    capture = read_with(READER, video.folder, tmp_path)
    check_exact(capture, video, list(range(13)), LOW)


def test_gaps_in_the_trajectory_drop_images(video: Video, tmp_path: Path) -> None:
    """One lost pose is bridged, two are not, nothing is extrapolated; a note counts the dropped images."""
    lines = video.trajectory()
    video.set_trajectory([line for i, line in enumerate(lines) if i not in (2, 3, 6)])
    capture = read_with(READER, video.folder, tmp_path)
    check_exact(capture, video, [0, 1, 2, 8, 9, 10])
    assert "left out: 7 without a pose" in capture.notes
    video.set_trajectory([line for i, line in enumerate(lines) if i != 3])
    assert len(read_with(READER, video.folder, tmp_path / "bridged").frames) == 13


def test_missing_files_drop_images(video: Video, tmp_path: Path) -> None:
    """No depth, no intrinsics: counted. No confidence: the frame stays."""
    for asset, index in (("lowres_depth", 3), ("lowres_depth", 4), ("vga_wide_intrinsics", 7), ("confidence", 9)):
        video.files(asset)[index if index != 4 else 3].unlink()
    capture = read_with(READER, video.folder, tmp_path)
    check_exact(capture, video, [0, 1, 2, 5, 6, 8, 9, 10, 11, 12])
    assert "left out: 2 without depth, 1 without intrinsics" in capture.notes
    assert [frame.confidence is None for frame in capture.frames] == [i == 6 for i in range(10)]


def test_video_without_depth(video: Video, tmp_path: Path) -> None:
    """Images and poses are read without it, and a note says so."""
    shutil.rmtree(video.folder / "lowres_depth")
    capture = read_with(READER, video.folder, tmp_path)
    check_exact(capture, video, list(range(13)))
    assert not capture.has_depth
    assert "there is no lowres_depth" in capture.notes


def test_depth_without_its_intrinsics(video: Video, tmp_path: Path) -> None:
    """lowres_wide was not downloaded: depth lies over the image, scaled to its size."""
    shutil.rmtree(video.folder / "lowres_wide")
    shutil.rmtree(video.folder / "lowres_wide_intrinsics")
    camera = read_with(READER, video.folder, tmp_path).frames[0].depth_camera
    assert camera is not None
    assert np.allclose(camera.matrix, LOW.matrix, rtol=1e-5)


def rotated(folder: Path, angle: float) -> None:
    """The same positions with the phone rotated about its optical axis: the trajectory alone."""
    file = folder / "lowres_wide.traj"
    lines = []
    for line in file.read_text().splitlines():
        time, *values = map(float, line.split())
        turn = Rotation.from_euler("z", angle, degrees=True)
        rotation, translation = turn * Rotation.from_rotvec(values[:3]), turn.apply(values[3:])
        lines.append(" ".join(map(str, (time, *rotation.as_rotvec(), *translation))))
    file.write_text("\n".join(lines))


@pytest.mark.parametrize(("angle", "side"), [(0, "Up"), (-90, "Left"), (180, "Down"), (90, "Right")])
def test_sky_direction_is_checked_not_believed(angle: float, side: str, video: Video, tmp_path: Path) -> None:
    """Up in the images comes from the poses; metadata.csv that says something else becomes a note."""
    rotated(video.folder, angle)
    for asset in ("lowres_depth", "confidence"):  # it still shows the phone unturned
        shutil.rmtree(video.folder / asset)
    header = "video_id,visit_id,fold,sky_direction\n11111111,NA,Training,Up\n"
    (video.folder / "metadata.csv").write_text(f"{header}{VIDEO},421003,Training,Left\n")
    capture = read_with(READER, video.folder, tmp_path)
    text = f"up is {side} in 100% of the images, by their poses"
    assert (text if side == "Left" else f"{text}; metadata.csv says Left, which is not used") in capture.notes
    assert capture.up_in_world is not None
    assert capture.up_in_world.tolist() == [0, 0, 1]
    assert all(frame.camera.width == 160 for frame in capture.frames)  # stored pixels stay as they are


def test_broken_metadata_does_not_matter(video: Video, tmp_path: Path) -> None:
    """Another form, no text."""
    (video.folder / "metadata.csv").write_bytes(b"\x00\xff" * 70_000 + b',"')
    check_exact(read_with(READER, video.folder, tmp_path), video, list(range(13)))


@pytest.mark.parametrize("name", ["lowres_wide.traj", "vga_wide_intrinsics"])
def test_error_pages_are_refused(name: str, video: Video, tmp_path: Path) -> None:
    """The download server's XML under the file's name."""
    path = video.folder / name
    file = path if path.is_file() else video.files(name)[5]
    file.write_text(XML)
    with pytest.raises(CaptureError, match=f"{file.name}(?s:.*)XML error page"):
        read_with(READER, video.folder, tmp_path)


def test_error_pages_for_images_are_skipped(video: Video, tmp_path: Path) -> None:
    """One of each, next to a truncated one."""
    video.files("vga_wide")[2].write_text(XML)
    video.files("lowres_depth")[5].write_text(XML)
    capture = read_with(READER, video.folder, tmp_path)
    check_exact(capture, video, [0, 1, 3, 4, *range(6, 13)])
    assert len(capture.skipped) == 2


def test_truncated_files_are_skipped(video: Video, tmp_path: Path) -> None:
    """Image and confidence."""
    truncate(video.files("vga_wide")[2])
    truncate(video.files("confidence")[5])
    check_exact(read_with(READER, video.folder, tmp_path), video, [0, 1, 3, 4, *range(6, 13)])


def test_no_trajectory(video: Video, tmp_path: Path) -> None:
    """Videos of the upsampling set have none; the message says what can be done."""
    (video.folder / "lowres_wide.traj").unlink()
    with pytest.raises(CaptureError, match=r"must have lowres_wide\.traj") as error:
        read_with(READER, video.folder, tmp_path)
    assert "images alone" in error.value.remedy


def test_packed_assets_must_be_unpacked(video: Video, tmp_path: Path) -> None:
    """Only archives of images lie there."""
    for stream in ("vga_wide", "lowres_wide"):
        shutil.rmtree(video.folder / stream)
        (video.folder / f"{stream}.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(CaptureError, match=r"must have images(?s:.*)unpack"):
        read_with(READER, video.folder, tmp_path)


def test_nothing_complete_says_what_lacks(video: Video, tmp_path: Path) -> None:
    """Depth of quite other times."""
    for file in video.files("lowres_depth"):
        file.rename(file.with_name(file.name.replace("684", "984")))
    with pytest.raises(CaptureError, match="depth of their time") as error:
        read_with(READER, video.folder, tmp_path)
    assert "vga_wide: 13 images, 13 without depth" in error.value.found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "must increase"),
        (lambda lines: lines[::-1], "must increase"),
        (lambda lines: [*lines[:3], lines[3].rsplit(" ", 1)[0]], "begin with 7 numbers(?s:.*)line 4"),
        (lambda lines: [*lines[:3], lines[3].rsplit(" ", 1)[0] + " nan"], "finite(?s:.*)line 4"),
        (lambda lines: [], "no pose"),
    ],
)
def test_broken_trajectories_are_refused(change, message: str, video: Video, tmp_path: Path) -> None:
    """Times repeated or backwards, numbers that lack or are none."""
    video.set_trajectory(change(video.trajectory()))
    with pytest.raises(CaptureError, match=f"lowres_wide\\.traj(?s:.*){message}"):
        read_with(READER, video.folder, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("160 120 0 0 79 60", "intrinsics must belong"),
        ("1920 1440 1592 1592 959 719", "160 x 120, declared 1920 x 1440"),
        ("160 120 122 121 79", "begin with 6 numbers"),
        ("", "begin with 6 numbers"),
        ("inf 120 122 121 79 60", "size of inf x 120"),
        ("160 120 122 121 nan 60", "nan"),
    ],
)
def test_wrong_intrinsics_are_refused(text: str, message: str, video: Video, tmp_path: Path) -> None:
    """Zero, of another size, cut off, empty, no numbers."""
    file = video.files("vga_wide_intrinsics")[4]
    file.write_text(text)
    with pytest.raises(CaptureError, match=f"(?s){message}") as error:
        read_with(READER, video.folder, tmp_path)
    assert f"{VIDEO}_" in str(error.value)


def test_camera_to_world_is_refused(video: Video, tmp_path: Path) -> None:
    """A trajectory that somebody inverted contradicts the depth."""
    lines = []
    for line in video.trajectory():
        time, *values = map(float, line.split())
        rotation = Rotation.from_rotvec(values[:3]).inv()
        lines.append(" ".join(map(str, (time, *rotation.as_rotvec(), *-rotation.apply(values[3:])))))
    video.set_trajectory(lines)
    with pytest.raises(CaptureError, match="world-to-camera"):
        read_with(READER, video.folder, tmp_path)


def test_camera_that_does_not_move_is_refused(video: Video, tmp_path: Path) -> None:
    """Rotation on the spot: the camera keeps its position."""
    lines = []
    for line in video.trajectory():
        time, *values = map(float, line.split())
        lines.append(" ".join(map(str, (time, *values[:3], *-Rotation.from_rotvec(values[:3]).apply([1.0, 2, 3])))))
    video.set_trajectory(lines)
    with pytest.raises(CaptureError, match="must move"):
        read_with(READER, video.folder, tmp_path)


def test_rotated_depth_is_refused(video: Video, tmp_path: Path) -> None:
    """Depth in portrait next to images in landscape."""
    file = video.files("lowres_depth")[3]
    cv2.imwrite(str(file), np.rot90(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))
    video.files("confidence")[3].unlink()
    with pytest.raises(CaptureError, match=f"{file.name}(?s:.*)60 x 80"):
        read_with(READER, video.folder, tmp_path)


def test_other_confidence_values_are_refused(video: Video, tmp_path: Path) -> None:
    """Polycam's 0, 127, 255."""
    file = video.files("confidence")[3]
    cv2.imwrite(str(file), np.full((60, 80), 255, np.uint8))
    with pytest.raises(CaptureError, match="0, 1, 2"):
        read_with(READER, video.folder, tmp_path)


def test_masks_are_taken(video: Video, tmp_path: Path) -> None:
    """masks/ next to vga_wide/."""
    name = video.files("vga_wide")[1].name
    (video.folder / "masks").mkdir()
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :30] = 0
    cv2.imwrite(str(video.folder / f"masks/{name}.png"), mask)
    frames = read_with(READER, video.folder, tmp_path).frames
    assert [frame.name for frame in frames if frame.mask] == [name]


def test_several_videos_are_not_one(recorded: Video, tmp_path: Path) -> None:
    """The folder above is left to the search below it, which names them."""
    for number in (1, 2):
        shutil.copytree(recorded.folder, tmp_path / f"source/4106902{number}")
    with open_source(tmp_path / "source") as source:
        assert not READER.recognise(source)
        assert READER.recognise(source.below("41069022"))

"""The reader of Record3D recordings."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import lzfse
import numpy as np
import pytest
from PIL import Image

from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.phones.record3d import READER, lzfse_size, unpacked
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, angle_deg
from pipeline.io.image_files import BadImageError
from tests.capture.conftest import truncate
from tests.capture.writers.reading import read_with, same_camera
from tests.capture.writers.record3d import ARKIT_FROM_ROOM, camera_of, confidence_of, write_exr, write_record3d
from tests.synthetic import Room, walk

PORTRAIT = Camera(120, 160, 121.0, 118.0, 57.5, 83.0)
DEPTH = (48, 64)
POSES = walk(120)[:12]


@pytest.fixture(scope="module")
def written(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `r3d` and `export`, whose worlds begin at the camera, and `upright`; never changed."""
    folder = tmp_path_factory.mktemp("record3d")
    write_record3d(folder / "r3d", room, POSES, PORTRAIT, DEPTH)
    write_record3d(folder / "export", room, POSES, PORTRAIT, DEPTH, exr=True)
    write_record3d(folder / "upright", room, POSES, PORTRAIT, DEPTH, arkit_from_room=ARKIT_FROM_ROOM)
    return folder


@pytest.fixture
def recording(written: Path, tmp_path: Path) -> Path:
    """A private copy of an unpacked .r3d."""
    return Path(shutil.copytree(written / "r3d", tmp_path / "recording"))


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Capture]:
    def run(path: Path, params: CaptureParams | None = None) -> Capture:
        return read_with(READER, path, tmp_path / "canonical", params)

    return run


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of the metadata; None removes one."""
    file = next(file for file in (folder / "metadata", folder / "metadata.json") if file.exists())
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def metadata(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metadata").read_text())


def assert_true(capture: Capture, room: Room, intrinsics: bool = True) -> None:
    """Every frame's relative pose, intrinsics and depth are the written ones."""
    start = capture.frames[0].world_from_camera.inverse()
    for number, (frame, truth) in enumerate(zip(capture.frames, POSES, strict=True)):
        relative, expected = start @ frame.world_from_camera, POSES[0].inverse() @ truth
        assert np.linalg.norm(relative.translation - expected.translation) < 1e-4
        assert float(angle_deg(relative.rotation, expected.rotation)) < 0.01
        camera = camera_of(PORTRAIT, number)
        if intrinsics:
            assert np.allclose([*vars(frame.camera).values()][:6], [*vars(camera).values()][:6])
            assert np.allclose([*vars(frame.depth_camera).values()][:6], [*vars(camera.resized(*DEPTH)).values()][:6])
    check_depth(capture, room, 3)


def check_depth(capture: Capture, room: Room, number: int) -> None:
    depth = cv2.imread(str(capture.root / str(capture.frames[number].depth)), cv2.IMREAD_UNCHANGED)
    _, truth = room.cast(camera_of(PORTRAIT, number).resized(*DEPTH), POSES[number])
    assert depth.shape == (64, 48)
    assert depth[0, :3].tolist() == [0, 0, 0]
    assert np.abs(depth[1:] / 1000 - truth[1:]).max() < 0.00051


def test_recording_is_read_as_it_was_written(written: Path, room: Room, read: Callable[..., Capture]) -> None:
    """Poses in OpenCV axes from xyzw quaternions, intrinsics of every frame, depth to the millimetre, metric."""
    capture = read(written / "r3d")
    assert (capture.kind, capture.has_poses, capture.ordered, capture.scale_sigma) == ("record3d", True, True, 0.01)
    assert_true(capture, room)
    assert [frame.name for frame in capture.frames] == [f"{n}.jpg" for n in range(12)]


def test_arkits_world_is_upright(written: Path, room: Room, read: Callable[..., Capture]) -> None:
    """A first pose that is rotated belongs to ARKit's world: y is up, and the room's up is found where it is."""
    capture = read(written / "upright")
    assert_true(capture, room)
    assert capture.up_in_world is not None
    assert (capture.up_in_world.tolist(), capture.up_sigma_deg) == ([0.0, 1.0, 0.0], 1.0)
    for frame, truth in zip(capture.frames, POSES, strict=True):
        up_in_camera = frame.world_from_camera.inverse().rotate(capture.up_in_world)
        assert np.allclose(up_in_camera, truth.inverse().rotate([0, 0, 1]), atol=1e-6)
    assert any("ARKit's world" in note for note in capture.notes)
    with open_source(written / "upright") as source:
        assert READER.traits(READER.survey(source)).has_gravity


def test_world_that_begins_at_the_camera_is_not_called_upright(written: Path, read: Callable[..., Capture]) -> None:
    """A first pose that is the identity: the world is the first image's, however that was tilted. No up."""
    capture = read(written / "r3d")
    assert capture.up_in_world is None
    assert all(frame.gravity is None for frame in capture.frames)
    with open_source(written / "r3d") as source:
        assert not READER.traits(READER.survey(source)).has_gravity


def test_archive_reads_as_the_folder_does(written: Path, room: Room, tmp_path: Path, read: Callable) -> None:
    """A .r3d file is a zip archive."""
    archive = tmp_path / "2024-05-01.r3d"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted((written / "r3d").rglob("*")):
            target.write(file, file.relative_to(written / "r3d").as_posix())
    assert_true(read(archive), room)


def test_export_reads_as_the_archive_does(written: Path, room: Room, read: Callable[..., Capture]) -> None:
    """EXR depth of 32-bit floats."""
    capture = read(written / "export")
    assert_true(capture, room)
    assert capture.frames[0].confidence is None


def test_half_precision_exr_is_read(written: Path, room: Room, tmp_path: Path, read: Callable[..., Capture]) -> None:
    """Other tools write 16-bit floats: 11 bits of precision."""
    folder = Path(shutil.copytree(written / "export", tmp_path / "half"))
    for number in range(12):
        _, depth = room.cast(camera_of(PORTRAIT, number).resized(*DEPTH), POSES[number])
        write_exr(folder / f"depth/{number}.exr", depth.astype(np.float16))
    capture = read(folder)
    stored = cv2.imread(str(capture.root / str(capture.frames[3].depth)), cv2.IMREAD_UNCHANGED)
    _, truth = room.cast(camera_of(PORTRAIT, 3).resized(*DEPTH), POSES[3])
    assert np.abs(stored / 1000 / truth - 1).max() < 1e-3


def test_confidence_is_spread_over_the_range(written: Path, read: Callable[..., Capture]) -> None:
    """0, 1, 2 become 0, 128, 255."""
    capture = read(written / "r3d")
    stored = cv2.imread(str(capture.root / str(capture.frames[4].confidence)), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, np.array([0, 128, 255])[confidence_of(4, (64, 48))])


def test_times_count_from_the_first_frame(written: Path, read: Callable[..., Capture]) -> None:
    """Timestamps as given; a range and a stride take the frames asked for."""
    capture = read(written / "r3d")
    assert [frame.time for frame in capture.frames] == pytest.approx([0.0171 * n for n in range(12)])
    assert capture.frames[2].source_time == pytest.approx(0.5342)
    assert [f.name for f in read(written / "r3d", CaptureParams(start=0.03, end=0.16, stride=2)).frames] == [
        f"{n}.jpg" for n in (2, 4, 6, 8)
    ]


def test_old_recording_without_optional_keys(recording: Path, room: Room, read: Callable[..., Capture]) -> None:
    """Sizes from the images, times from the frame rate, the first frame's K for all, depth's size from its bytes."""
    edit(recording, **dict.fromkeys(("initPose", "frameTimestamps", "perFrameIntrinsicCoeffs", "dw", "dh", "w", "h")))
    for file in recording.glob("rgbd/*.conf"):
        file.unlink()
    capture = read(recording)
    assert_true(capture, room, intrinsics=False)
    assert all(same_camera(frame.camera, PORTRAIT) for frame in capture.frames)
    assert capture.frames[6].time == pytest.approx(0.1)
    assert capture.frames[0].confidence is None


def test_intrinsics_follow_the_stored_images_size(recording: Path, read: Callable[..., Capture]) -> None:
    """K belongs to w x h; images of half that size have half the focal length."""
    for file in recording.glob("rgbd/*.jpg"):
        Image.open(file).resize((60, 80)).save(file)
    capture = read(recording)
    assert same_camera(capture.frames[0].camera, PORTRAIT.resized(60, 80))
    assert same_camera(capture.frames[0].depth_camera, PORTRAIT.resized(*DEPTH))


def test_principal_point_is_arkits(recording: Path, read: Callable[..., Capture]) -> None:
    """The middle of ARKit's 1440 x 1920 pixels is (719.5, 959.5) from the first one's middle, whatever the size."""
    by = 160 / 1920
    edit(recording, perFrameIntrinsicCoeffs=[[121, 118, by * 719.5, by * 959.5]] * 12)
    frame = read(recording).frames[4]
    assert (frame.camera.cx, frame.camera.cy) == pytest.approx((60, 80))
    assert (frame.depth_camera.cx, frame.depth_camera.cy) == pytest.approx((24, 32))


def test_rotated_images_are_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """Intrinsics of portrait images don't fit landscape ones."""
    for file in recording.glob("rgbd/*.jpg"):
        Image.open(file).transpose(Image.Transpose.ROTATE_90).save(file)
    with pytest.raises(CaptureError, match="120 x 160 or scaled"):
        read(recording)


def test_depth_of_swapped_size_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """The dw and dh of landscape depth next to portrait images: the rows would be torn."""
    edit(recording, dw=64, dh=48)
    with pytest.raises(CaptureError, match="depth image must show"):
        read(recording)


def test_row_major_intrinsics_are_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """K is column by column; the transposed one has its principal point elsewhere."""
    edit(recording, perFrameIntrinsicCoeffs=None, K=[121, 0, 57.5, 0, 118, 83, 0, 0, 1])
    with pytest.raises(CaptureError, match="column by column"):
        read(recording)


def test_intrinsics_of_zero_are_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """The message names the frame."""
    rows = metadata(recording)["perFrameIntrinsicCoeffs"]
    rows[5] = [0, 0, 0, 0]
    edit(recording, perFrameIntrinsicCoeffs=rows)
    with pytest.raises(CaptureError, match="frame 5"):
        read(recording)


def test_quaternion_with_its_scalar_first_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """Other exporters write wxyz: the first camera would begin upside down."""
    rows = [[row[3], *row[:3], *row[4:]] for row in metadata(recording)["poses"]]
    edit(recording, poses=rows)
    with pytest.raises(CaptureError, match="scalar first"):
        read(recording)


@pytest.mark.parametrize("row", [[0, 0, 0, 2, 1, 2, 3], [0, 0, 0, 1, float("nan"), 2, 3], [0, 0, 0, 0, 1, 2, 3]])
def test_bad_pose_is_named(recording: Path, read: Callable[..., Capture], row: list[float]) -> None:
    """A quaternion that isn't unit, a position that isn't finite, zeros."""
    rows = metadata(recording)["poses"]
    edit(recording, poses=[*rows[:7], row, *rows[8:]])
    with pytest.raises(CaptureError, match="unit quaternion") as error:
        read(recording)
    assert "frame 7" in str(error.value.file)


def test_face_id_recording_says_which_camera_to_use(recording: Path, read: Callable[..., Capture]) -> None:
    """The selfie camera's poses are all the identity."""
    edit(recording, poses=[[0, 0, 0, 1, 0, 0, 0]] * 12)
    with pytest.raises(CaptureError, match="LiDAR"):
        read(recording)
    edit(recording, poses=None)
    with pytest.raises(CaptureError, match="LiDAR"):
        read(recording)


def test_last_image_without_a_pose_is_left_out(recording: Path, read: Callable[..., Capture]) -> None:
    """One entry too few is how a recording may end; more are refused."""
    rows = metadata(recording)["poses"]
    edit(recording, poses=rows[:-1])
    capture = read(recording)
    assert [s.file for s in capture.skipped] == ["rgbd/11.jpg"]
    assert len(capture.frames) == 11
    edit(recording, poses=rows[:-2])
    with pytest.raises(CaptureError, match="poses must have one entry"):
        read(recording)


def test_poses_of_removed_images_are_passed_over(recording: Path, room: Room, read: Callable[..., Capture]) -> None:
    """Numbers say which pose is whose; renumbered images are refused."""
    for number in range(1, 12, 2):
        for file in recording.glob(f"rgbd/{number}.*"):
            file.unlink()
    capture = read(recording)
    assert [frame.name for frame in capture.frames] == [f"{n}.jpg" for n in range(0, 12, 2)]
    relative = capture.frames[0].world_from_camera.inverse() @ capture.frames[3].world_from_camera
    assert np.allclose(relative.matrix, (POSES[0].inverse() @ POSES[6]).matrix, atol=1e-5)
    for number in range(0, 12, 2):
        for file in recording.glob(f"rgbd/{number}.*"):
            file.rename(file.with_stem(str(number // 2)))
    with pytest.raises(CaptureError, match="images up to number 5"):
        read(recording)


def test_frame_without_depth_is_skipped(recording: Path, read: Callable[..., Capture]) -> None:
    """One costs a frame, many the recording."""
    (recording / "rgbd/3.depth").unlink()
    capture = read(recording)
    assert [(s.file, s.reason) for s in capture.skipped] == [("rgbd/3.jpg", "no depth for it")]
    for number in range(4, 9):
        (recording / f"rgbd/{number}.depth").unlink()
    with pytest.raises(CaptureError, match="6 of 12"):
        read(recording)


def test_truncated_depth_is_skipped(recording: Path, read: Callable[..., Capture]) -> None:
    """Cut LZFSE data and cut EXR files alike."""
    truncate(recording / "rgbd/3.depth")
    assert [s.file for s in read(recording).skipped] == ["rgbd/3.depth"]


def test_truncated_exr_is_skipped(written: Path, tmp_path: Path, read: Callable[..., Capture]) -> None:
    """A file that ends early costs its frame."""
    folder = Path(shutil.copytree(written / "export", tmp_path / "cut"))
    truncate(folder / "depth/3.exr")
    assert [s.file for s in read(folder).skipped] == ["depth/3.exr"]


def test_colour_exr_is_refused(written: Path, tmp_path: Path, read: Callable[..., Capture]) -> None:
    """Three channels are an image of depth."""
    import OpenEXR

    folder = Path(shutil.copytree(written / "export", tmp_path / "colour"))
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {name: np.ones((64, 48), np.float32) for name in "RGB"}
    with OpenEXR.File(header, channels) as image:
        image.write(str(folder / "depth/3.exr"))
    with pytest.raises(CaptureError, match="one channel"):
        read(folder)


def test_depth_of_another_size_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """As many floats as dw x dh, neither more nor fewer."""
    edit(recording, dw=96, dh=128)
    with pytest.raises(CaptureError, match="49152 bytes"):
        read(recording)


def test_confidence_of_other_levels_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """0, 127, 255 is another app's."""
    (recording / "rgbd/3.conf").write_bytes(lzfse.compress(np.full((64, 48), 255, np.uint8).tobytes()))
    with pytest.raises(CaptureError, match="0, 1, 2"):
        read(recording)


def test_times_backwards_are_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """The message names the image."""
    stamps = metadata(recording)["frameTimestamps"]
    stamps[6] = stamps[4]
    edit(recording, frameTimestamps=stamps)
    with pytest.raises(CaptureError, match="time must increase") as error:
        read(recording)
    assert str(error.value.file).endswith("rgbd/6.jpg")


def test_fixed_camera_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """On a tripod the poses only tremble."""
    rng = np.random.default_rng(1)
    edit(recording, poses=[[0, 0, 0, 1, *rng.normal(0, 1e-3, 3)] for _ in range(12)])
    with pytest.raises(CaptureError, match="camera must move"):
        read(recording)


@pytest.mark.parametrize("content", [b"[]", b"\x89PNG", b'{"poses": 3}', b'{"poses": [["a", 1]]}'])
def test_broken_metadata_name_the_file(recording: Path, read: Callable[..., Capture], content: bytes) -> None:
    """Neither a crash nor a guess."""
    (recording / "metadata").write_bytes(content)
    with pytest.raises(CaptureError) as error:
        read(recording)
    assert str(error.value.file).endswith("metadata")


def test_huge_depth_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """A size that no phone has is refused before anything is unpacked."""
    edit(recording, dw=60000, dh=60000)
    with pytest.raises(CaptureError, match="at most 691200"):
        read(recording)


def test_rgbd_video_is_refused_with_its_way_out(tmp_path: Path) -> None:
    """Depth in colours of a compressed video is not metric."""
    payload = b'{"intrinsicMatrix":[700,0,0,0,700,0,360,480,1]}'
    moov = struct.pack(">I4s", 16 + len(payload), b"moov") + struct.pack(">I4s", 8 + len(payload), b"udta") + payload
    video = tmp_path / "scan.mp4"
    video.write_bytes(struct.pack(">I4s8s", 16, b"ftyp", b"mp42\0\0\0\0") + struct.pack(">I4s", 8, b"mdat") + moov)
    with open_source(video) as source:
        assert READER.recognise(source)
        for ask in (READER.survey, lambda seen: READER.read(seen, tmp_path / "out", CaptureParams())):
            with pytest.raises(CaptureError, match=r"must be metric.*\n.*\n.*\.r3d"):
                ask(source)


def test_other_folders_are_not_recognised(written: Path, tmp_path: Path) -> None:
    """metadata.json next to other images, plain videos and photos belong to others."""
    folder = Path(shutil.copytree(written / "export", tmp_path / "other"))
    (folder / "metadata.json").write_text('{"title": "holiday"}')
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "walk.mp4").write_bytes(struct.pack(">I4s8s", 16, b"ftyp", b"mp42\0\0\0\0"))
    for path in (folder, plain):
        with open_source(path) as source:
            assert not READER.recognise(source)


def test_no_intrinsics_are_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """Neither K nor coefficients for each frame."""
    edit(recording, K=None, perFrameIntrinsicCoeffs=None)
    with pytest.raises(CaptureError, match="K must be nine numbers"):
        read(recording)


def test_frame_written_twice_is_refused(recording: Path, read: Callable[..., Capture]) -> None:
    """3.jpg and 03.jpg."""
    shutil.copy(recording / "rgbd/3.jpg", recording / "rgbd/03.jpg")
    with pytest.raises(CaptureError, match="exist once"):
        read(recording)


def test_camera_of_the_writer_moves() -> None:
    """The intrinsics of frames differ, or a reader that takes the first one's for all would pass."""
    assert camera_of(PORTRAIT, 3) == replace(PORTRAIT, cx=58.25, cy=82.625)


RAMP = (1 + 0.003 * np.arange(192) + 0.001 * np.arange(256)[:, None]).astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "magic"),
    [(RAMP, b"bvx2"), (bytes(2000), b"bvxn"), (b"depth", b"bvx-")],
    ids=["lzfse", "lzvn", "stored"],
)
def test_every_kind_of_block_round_trips(content: bytes, magic: bytes) -> None:
    """The encoder picks the kind by size."""
    packed = lzfse.compress(content)
    assert packed[:4] == magic
    assert lzfse_size(packed) == len(content)
    assert unpacked(packed, len(content), "0.depth") == content


def test_noise_of_several_blocks_round_trips(rng: np.random.Generator) -> None:
    """Blocks hold 40000 literals at most."""
    noise = rng.integers(0, 256, 150_000, np.uint8).tobytes()
    assert unpacked(lzfse.compress(noise), len(noise), "0.depth") == noise


@pytest.mark.parametrize("length", [0, 3, 4, 7, 12, 31, 32, 100, -5, -1])
def test_truncated_data_are_bad(length: int) -> None:
    """However much is left."""
    with pytest.raises(BadImageError, match="LZFSE"):
        unpacked(lzfse.compress(RAMP)[:length], len(RAMP), "0.depth")


@pytest.mark.parametrize("data", [b"garbage of some length", b"bvx$", b"bvx-\0\0\0\0bvx$", b"PK\x03\x04" * 9])
def test_garbage_is_bad(data: bytes) -> None:
    """Neither a crash nor an empty image."""
    with pytest.raises(BadImageError):
        unpacked(data, 4, "0.depth")


def test_damaged_content_is_bad() -> None:
    """Blocks of the right size whose codes are broken."""
    packed = bytearray(lzfse.compress(RAMP))
    packed[40:200] = bytes(255 - value for value in packed[40:200])
    with pytest.raises((BadImageError, CaptureError)):
        unpacked(bytes(packed), len(RAMP), "0.depth")


def test_other_size_is_refused_and_named() -> None:
    """Before anything is unpacked."""
    with pytest.raises(CaptureError, match="100 bytes") as error:
        unpacked(lzfse.compress(bytes(2000)), 100, "0.depth")
    assert error.value.found == "2000 bytes"
    assert error.value.file == "0.depth"


def test_block_that_lies_about_its_size_is_refused() -> None:
    """It claims one byte a pixel and unpacks to four."""
    packed = bytearray(lzfse.compress(RAMP))
    struct.pack_into("<I", packed, 4, len(RAMP) // 4)
    with pytest.raises((CaptureError, BadImageError)):
        unpacked(bytes(packed), len(RAMP) // 4, "0.depth")


def test_block_of_too_many_matches_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may stand for 2 kB: their number bounds what is unpacked."""
    monkeypatch.setattr(lzfse, "decompress", lambda data: pytest.fail("unpacked"))
    packed = bytearray(lzfse.compress(RAMP[:6000]))
    assert packed[:4] == b"bvx2"
    (fields,) = struct.unpack_from("<Q", packed, 8)
    struct.pack_into("<Q", packed, 8, fields & ~(0xFFFFF << 40) | 9999 << 40)
    with pytest.raises(CaptureError, match="6000 bytes"):
        unpacked(bytes(packed), 6000, "0.depth")

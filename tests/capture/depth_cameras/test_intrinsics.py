"""Intrinsics in the files that tools and people write next to RGB-D frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture import stage
from pipeline.capture.depth_cameras.intrinsics import candidates, read_intrinsics
from pipeline.capture.depth_cameras.rgbd import READER, SEVEN_SCENES
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import open_source
from pipeline.errors import CaptureError
from pipeline.running.summary import summary
from tests.capture.conftest import SMALL
from tests.capture.depth_cameras.test_rgbd import write_seven_scenes
from tests.capture.writers.reading import read_with
from tests.synthetic import Room

K = f"{SMALL.fx} 0 {SMALL.cx} 0 {SMALL.fy} {SMALL.cy} 0 0 1"
FOUR = f"{SMALL.fx} 0 {SMALL.cx} 0 0 {SMALL.fy} {SMALL.cy} 0 0 0 1 0 0 0 0 1"
INFO = (
    "m_versionNumber = 4\nm_sensorName = StructureSensor\nm_colorWidth = 160\nm_colorHeight = 120\n"
    "m_depthWidth = 160\nm_depthHeight = 120\nm_depthShift = 1000\nm_calibrationColorIntrinsic = {color} \n"
    "m_calibrationColorExtrinsic = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1 \nm_calibrationDepthIntrinsic = {depth} \n"
)
MIDDLE = {"fx": SMALL.fx, "fy": SMALL.fy, "cx": SMALL.cx - 0.5, "cy": SMALL.cy - 0.5}
"""With pixel centres at integers."""
OPEN3D = {
    "width": 160,
    "height": 120,
    "intrinsic_matrix": [SMALL.fx, 0, 0, 0, SMALL.fy, 0, MIDDLE["cx"], MIDDLE["cy"], 1],
}
ROS = f"""image_width: 160
image_height: 120
camera_matrix: {{rows: 3, cols: 3, data: [{SMALL.fx}, 0, {MIDDLE["cx"]}, 0, {SMALL.fy}, {MIDDLE["cy"]}, 0, 0, 1]}}
distortion_model: plumb_bob
distortion_coefficients: {{rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}}
"""


@pytest.fixture(scope="session")
def frames(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames named like those of 7-Scenes, of another camera and size; never changed."""
    folder = tmp_path_factory.mktemp("frames") / "scan"
    write_seven_scenes(folder, room, SMALL)
    return folder


@pytest.fixture
def scan(frames: Path, tmp_path: Path) -> Path:
    """A private copy."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for file in frames.iterdir():
        (folder / file.name).hardlink_to(file)
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("intrinsics.txt", K),
        ("intrinsic_color.txt", "\n".join(" ".join(FOUR.split()[i : i + 4]) for i in range(0, 16, 4))),
        ("intrinsic/intrinsic_color.txt", FOUR),
        ("calib.txt", f"# fx fy cx cy\n{SMALL.fx}, {SMALL.fy}, {SMALL.cx}, {SMALL.cy}\n"),
        ("_info.txt", INFO.format(color=FOUR, depth=FOUR)),
        ("camera_intrinsic.json", json.dumps(OPEN3D)),
        ("intrinsics.json", json.dumps({"color": {**MIDDLE, "width": 160, "height": 120, "coeffs": [0] * 5}})),
        ("camera.json", json.dumps({"K": [[SMALL.fx, 0, MIDDLE["cx"]], [0, SMALL.fy, MIDDLE["cy"]], [0, 0, 1]]})),
        ("camera_info.yaml", ROS),
        ("calibration.yml", "%YAML:1.0\n---\n" + ROS.replace("camera_matrix:", "camera_matrix: !!opencv-matrix")),
    ],
)
def test_files_beside_the_frames_go_before_seven_scenes(name: str, text: str, scan: Path, tmp_path: Path) -> None:
    """ScanNet's, BundleFusion's, Open3D's, RealSense's, ROS's and OpenCV's: the same camera."""
    (scan / name).parent.mkdir(exist_ok=True)
    (scan / name).write_text(text)
    capture = read_with(READER, scan, tmp_path / "out")
    for camera in (capture.frames[0].camera, capture.frames[0].depth_camera):
        assert camera is not None
        assert np.allclose(list(camera.to_json().values())[:6], list(SMALL.to_json().values())[:6])
    assert capture.assumed == ()
    with open_source(scan) as source:
        assert name in READER.survey(source).files


def test_intrinsics_above_the_frames(scan: Path, tmp_path: Path) -> None:
    """12-Scenes: info.txt next to data/."""
    outer = tmp_path / "kitchen"
    outer.mkdir()
    scan.rename(outer / "data")
    (outer / "info.txt").write_text(INFO.format(color=FOUR, depth=FOUR))
    capture = read_with(READER, outer, tmp_path / "out")
    assert np.isclose(capture.frames[0].camera.fx, SMALL.fx)
    assert capture.frames[0].name == "frame-000000.color.png"


def test_depth_has_its_own(scan: Path, tmp_path: Path) -> None:
    """Where a file gives them."""
    (scan / "info.txt").write_text(INFO.format(color=FOUR, depth=FOUR.replace(str(SMALL.fx), "150", 1)))
    frame = read_with(READER, scan, tmp_path / "out").frames[0]
    assert frame.depth_camera is not None
    assert (frame.camera.fx, frame.depth_camera.fx) == (SMALL.fx, 150)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"intrinsics.txt": "1 2 3\n4 5"}, "2 lines of 3, 2 numbers"),
        ({"intrinsics.txt": "nothing known"}, "nothing"),
        ({"intrinsics.txt": "nan 0 80\n0 100 60\n0 0 1"}, "nan"),
        ({"intrinsics.txt": "100 0 0\n0 100 0\n80 60 1"}, "80.0, 60.0, 1.0"),
        ({"intrinsics.json": "[1, 2]"}, "list"),
        ({"intrinsics.json": "{}"}, "none, only"),
        ({"intrinsics.json": '{"K": [{"a": 1}]}'}, "'a'"),
        ({"intrinsics.json": json.dumps({**MIDDLE, "width": 1e300, "height": 120})}, "1e+300"),
        ({"intrinsics.json": json.dumps({**MIDDLE, "coeffs": [0.1, 0, 0, 0, 0]})}, "0.1"),
        ({"intrinsics.json": json.dumps({**MIDDLE, "width": 320, "height": 240})}, "fits"),
        ({"intrinsics.json": json.dumps({**MIDDLE, "width": 164, "height": 120})}, "160 x 120, declared 164 x 120"),
        ({"intrinsics.txt": K, "camera.json": json.dumps({**MIDDLE, "fx": 90})}, "90"),
        ({"intrinsic_depth.txt": K}, "of the depth only"),
        ({f"calib_{i}.txt": K for i in range(9)}, "9: "),
        ({"info.txt": INFO.format(color=FOUR, depth=FOUR).replace("1000", "5000")}, "5000"),
        ({"info.txt": "m_sensorName = Kinect"}, "none, only"),
        ({}, "7-Scenes has 640 x 480"),
    ],
)
def test_what_does_not_fit_is_refused(files: dict[str, str], found: str, scan: Path, tmp_path: Path) -> None:
    """Broken, of another size, with a lens, contradicting, of depth alone: 7-Scenes' aren't put in their place."""
    for name, text in files.items():
        (scan / name).write_text(text)
    with pytest.raises(CaptureError) as error:
        read_with(READER, scan, tmp_path / "out")
    assert found in error.value.found
    assert error.value.remedy


def test_depth_of_another_shape_is_refused(scan: Path, tmp_path: Path) -> None:
    """160 x 90 next to 160 x 120: the images' intrinsics can't be its."""
    (scan / "intrinsics.txt").write_text(K)
    for file in sorted(scan.glob("*.depth.png")):
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        file.unlink()
        cv2.imwrite(str(file), image[:90])
    with pytest.raises(CaptureError, match="160 x 90"):
        read_with(READER, scan, tmp_path / "out")


def test_names(tmp_path: Path) -> None:
    """Extrinsics, frames' own files and deeper folders are none."""
    for name in ("extrinsics.txt", "frame-000001.intrinsics.txt", "a/b/intrinsics.txt", "notes.txt", "K.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    with open_source(tmp_path) as source:
        assert candidates(source) == ["K.txt"]


def test_seven_scenes_is_assumed_aloud(room: Room, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The plan's sentence, the log and capture.json say what was taken for granted."""
    write_seven_scenes(tmp_path / "seq-01", room, SEVEN_SCENES)
    with open_source(tmp_path / "seq-01") as source:
        traits = READER.traits(READER.survey(source))
    assert "ASSUMED: no file of intrinsics" in summary(traits, {}, None)
    stage.run({"source": tmp_path / "seq-01"}, CaptureParams(), tmp_path / "out")
    assert "585 px" in Capture.load(tmp_path / "out").assumed[0]
    assert [record.levelname for record in caplog.records if "585 px" in record.getMessage()] == ["WARNING"]


def test_contradicting_sizes(tmp_path: Path) -> None:
    """The same numbers for two sizes."""
    for name, width in (("camera.json", 160), ("calib.json", 320)):
        (tmp_path / name).write_text(json.dumps({**MIDDLE, "width": width, "height": 120}))
    with open_source(tmp_path) as source, pytest.raises(CaptureError, match="contradict"):
        read_intrinsics(source, candidates(source))


def test_the_nominal_centre_is_the_middle_of_the_image() -> None:
    """320, 240 of 640 x 480 counts from the corner, as we do; others' 319.5, 239.5 from the first pixel's middle."""
    assert (2 * SEVEN_SCENES.cx, 2 * SEVEN_SCENES.cy) == (SEVEN_SCENES.width, SEVEN_SCENES.height)
    middle = SEVEN_SCENES.rays([[320.0, 240.0], [0.5, 0.5], [639.5, 479.5]])
    assert np.allclose(middle[0], [0, 0, 1])
    assert np.allclose(middle[1, :2], -middle[2, :2])

"""Poses of RealityCapture, Metashape, Meshroom, OpenSfM and Bundler.

What the reader makes of a file is compared with the program's own documented projection of points, written out here
from the numbers in the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.capture.detect import open_capture, probe
from pipeline.capture.model import Capture, Frame
from pipeline.capture.params import CaptureParams
from pipeline.capture.source import CaptureSource
from pipeline.errors import CaptureError
from tests.capture.conftest import fill
from tests.capture.writers.programs import HEAD, PROGRAMS

Project = Callable[[np.ndarray], np.ndarray]
Read = Callable[[Path], Capture]
WIDTH, HEIGHT = 160, 120
K1, K2, K3, P1, P2 = -0.11, 0.03, 0.0, 0.004, -0.007
NAMES = ["p0", "p1", "p2", "p3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of 160 x 120."""
    return fill(tmp_path / "in" / "images", 4, (WIDTH, HEIGHT)).parent


def placed(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Some rotation, and a position: of all three axes, other for each image."""
    return Rotation.from_euler("xyz", [0.3 * number, -0.5, 0.7 + 0.2 * number]).as_matrix(), np.array(
        [0.4 * number, 1.5 - 0.3 * number, -0.8]
    )


def brown(x: np.ndarray, y: np.ndarray, first: float, second: float) -> tuple[np.ndarray, np.ndarray]:
    """Brown's distortion; `first` is the term that goes with r^2 + 2 y^2 in y, as OpenCV's p1."""
    r2 = x * x + y * y
    radial = 1 + K1 * r2 + K2 * r2**2
    return (
        x * radial + 2 * first * x * y + second * (r2 + 2 * x * x),
        y * radial + first * (r2 + 2 * y * y) + 2 * second * x * y,
    )


def realitycapture(folder: Path) -> list[Project]:
    """Epic's camera math: x right, y up; v counts downwards from the middle in units of the longer side."""
    f, px, py, lines, projects = 27.5, 0.021, -0.034, ["#cameras 4", HEAD], []
    for number, name in enumerate(NAMES):
        heading, pitch, roll = 20.0 - 33 * number, 70.0 + 9 * number, -12.0 + 4 * number
        centre = placed(number)[1]
        numbers = [*centre, heading, pitch, roll, f, px, py, K1, K2, 0, 0, P1, P2]
        lines.append(",".join([f"{name}.jpg", *map(repr, map(float, numbers))]))
        h, p, r = np.deg2rad([-heading, pitch, roll])
        yaw = np.array([[np.cos(h), -np.sin(h), 0], [np.sin(h), np.cos(h), 0], [0, 0, 1]])
        nick = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
        bank = np.array([[np.cos(r), 0, np.sin(r)], [0, 1, 0], [-np.sin(r), 0, np.cos(r)]])
        turn = yaw @ nick @ bank

        def project(points: np.ndarray, turn: np.ndarray = turn, centre: np.ndarray = centre) -> np.ndarray:
            right, up, back = ((points - centre) @ turn).T
            x, y = brown(right / -back, -up / -back, P1, P2)
            return np.stack([80 + 160 * (px + f / 36 * x), 60 + 160 * (py + f / 36 * y)], -1)

        projects.append(project)
    (folder / "cameras.csv").write_text("\n".join(lines))
    return projects


def metashape(folder: Path) -> list[Project]:
    """The manual's appendix C: p1 goes with r^2 + 2 x^2 in x."""
    f, cx, cy, b1, shots, projects = 131.5, 3.25, -5.5, 1.75, "", []
    turn, move, scale = Rotation.from_euler("zyx", [0.4, 0.2, -1.1]).as_matrix(), np.array([5.0, -1, 2]), 1.7
    for number, name in enumerate(NAMES):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = placed(number)
        text = " ".join(repr(float(value)) for value in matrix.ravel())
        shots += f'<camera id="{number}" sensor_id="3" component_id="0" label="{name}">'
        shots += f"<transform>{text}</transform></camera>"

        def project(points: np.ndarray, matrix: np.ndarray = matrix) -> np.ndarray:
            inner = (points - move) @ turn / scale
            x, y, z = ((inner - matrix[:3, 3]) @ matrix[:3, :3]).T
            x, y = brown(x / z, y / z, P2, P1)
            return np.stack([80 + cx + x * f + x * b1, 60 + cy + y * f], -1)

        projects.append(project)
    rows = [" ".join(repr(float(value)) for value in values.ravel()) for values in (turn, move)]
    (folder / "doc.xml").write_text(
        f'<document version="1.5.0">\n<chunk><sensors><sensor id="3" type="frame"><resolution width="{WIDTH}" '
        f'height="{HEIGHT}"/><calibration type="frame" class="adjusted"><f>{f}</f><cx>{cx}</cx><cy>{cy}</cy>'
        f"<b1>{b1}</b1><k1>{K1}</k1><k2>{K2}</k2><p1>{P1}</p1><p2>{P2}</p2></calibration></sensor></sensors><components>"
        f'<component id="0"><transform><rotation>{rows[0]}</rotation><translation>{rows[1]}</translation>'
        f"<scale>{scale}</scale></transform></component></components><cameras>{shots}</cameras></chunk></document>"
    )
    return projects


def meshroom(folder: Path, version: tuple[int, int, int] = (1, 2, 5)) -> list[Project]:
    """AliceVision: x_cam = R (X - C), R written by columns; Brown's t1 goes with r^2 + 2 y^2 in y."""
    fx, fy, cx, cy, projects, poses = 128.5, 133.25, 84.0, 55.5, [], []
    of = {"intrinsicId": "1", "width": str(WIDTH), "height": str(HEIGHT), "type": "brown", "serialNumber": "x"}
    if version < (1, 2, 0):
        fy = fx
        of |= {"pxFocalLength": str(fx)}
    elif version < (1, 2, 2):
        of |= {"pxFocalLength": [str(fx), str(fy)]}
    else:
        ratio = fy / fx if version >= (1, 2, 5) else fx / fy
        of |= {
            "sensorWidth": "30",
            "sensorHeight": "20",
            "focalLength": repr(fx * 30 / WIDTH),
            "pixelRatio": repr(ratio),
        }
    centred = (cx - 80, cy - 60) if version >= (1, 2, 1) else (cx, cy)
    of |= {
        "principalPoint": [str(value) for value in centred],
        "distortionParams": [str(v) for v in (K1, K2, K3, P1, P2)],
    }
    for number in range(4):
        turn, centre = placed(number)
        by_columns = [repr(float(turn[row, column])) for column in range(3) for row in range(3)]
        transform = {"rotation": by_columns, "center": [str(value) for value in centre]}
        poses.append({"poseId": str(70 + number), "pose": {"transform": transform, "locked": "0"}})

        def project(points: np.ndarray, turn: np.ndarray = turn, centre: np.ndarray = centre) -> np.ndarray:
            x, y, z = turn @ (points - centre).T
            x, y = brown(x / z, y / z, P1, P2)
            return np.stack([cx + fx * x, cy + fy * y], -1)

        projects.append(project)
    views = [
        {"viewId": str(i), "poseId": str(70 + i), "intrinsicId": "1", "path": f"/home/me/scan/{name}.jpg"}
        for i, name in enumerate(NAMES)
    ]
    content = {"version": [str(v) for v in version], "views": views, "intrinsics": [of], "poses": poses}
    (folder / "sfm.json").write_text(json.dumps(content))
    return projects


def opensfm(folder: Path) -> list[Project]:
    """The docs' camera models: x_cam = R(rotation) X + translation, in units of the longer side from the middle."""
    of = {"projection_type": "brown", "width": WIDTH, "height": HEIGHT, "focal_x": 0.81, "focal_y": 0.83}
    of |= {"c_x": 0.022, "c_y": -0.031, "k1": K1, "k2": K2, "k3": K3, "p1": P1, "p2": P2}
    shots, projects = {}, []
    for number, name in enumerate(NAMES):
        turn, move = placed(number)
        shots[f"{name}.jpg"] = {
            "rotation": Rotation.from_matrix(turn).as_rotvec().tolist(),
            "translation": move.tolist(),
            "camera": "v2",
        }

        def project(points: np.ndarray, turn: np.ndarray = turn, move: np.ndarray = move) -> np.ndarray:
            x, y, z = turn @ points.T + move[:, None]
            x, y = brown(x / z, y / z, P1, P2)
            return np.stack([80 + 160 * (0.81 * x + 0.022), 60 + 160 * (0.83 * y - 0.031)], -1)

        projects.append(project)
    (folder / "reconstruction.json").write_text(json.dumps([{"cameras": {"v2": of}, "shots": shots, "points": {}}]))
    return projects


def bundler(folder: Path) -> list[Project]:
    """Its manual: p = -P / P.z, y up, the origin in the middle of the image."""
    lines, projects, f = ["# Bundle file v0.3", "4 0"], [], 141.5
    for number in range(4):
        turn, move = placed(number)
        lines += [" ".join(map(repr, map(float, row))) for row in ([f, K1, K2], *turn, move)]

        def project(points: np.ndarray, turn: np.ndarray = turn, move: np.ndarray = move) -> np.ndarray:
            x, y, z = turn @ points.T + move[:, None]
            x, y = brown(-x / z, -y / z, 0.0, 0.0)
            return np.stack([80 + f * x, 60 - f * y], -1)

        projects.append(project)
    (folder / "bundle.out").write_text("\n".join(lines))
    (folder / "list.txt").write_text("\n".join(f"images/{name}.jpg" for name in NAMES))
    return projects


ALL = {each.__name__: each for each in (realitycapture, metashape, meshroom, opensfm, bundler)}


def check(frames: tuple[Frame, ...], projects: list[Project]) -> None:
    """Points in front of each camera are seen where the program sees them, within a thousandth of a pixel."""
    assert len(frames) == len(projects)
    rng = np.random.default_rng(3)
    for frame, project in zip(frames, projects, strict=True):
        depth = rng.uniform(1, 6, (20, 1))
        inside = np.c_[rng.uniform(-0.4, 0.4, (20, 2)) * depth, depth]
        assert frame.world_from_camera is not None
        seen = project(frame.world_from_camera.apply(inside))
        np.testing.assert_allclose(frame.camera.project(inside), seen, atol=1e-3)


@pytest.mark.parametrize("kind", ALL)
def test_points_are_seen_where_the_program_sees_them(kind: str, folder: Path, read: Read):
    """Poses, focal length, principal point and distortion in one: nothing is mirrored, inverted or swapped."""
    projects = ALL[kind](folder)
    traits = probe(folder)
    assert (traits.kind, traits.frames, traits.has_poses, traits.has_scale, traits.unused) == (kind, 4, True, False, ())
    capture = read(folder)
    check(capture.frames, projects)
    assert any("no metric scale" in note for note in capture.notes)


@pytest.mark.parametrize("version", [(1, 0, 0), (1, 2, 0), (1, 2, 1), (1, 2, 2)])
def test_older_versions_of_meshroom(version: tuple[int, int, int], folder: Path, read: Read):
    """The principal point from the corner, the focal length in pixels, pixelRatio the other way round."""
    projects = meshroom(folder, version)
    check(read(folder).frames, projects)


def test_the_file_that_places_most_images_is_read(folder: Path, read: Read):
    """Meshroom leaves one in each node's folder; the others are of no use."""
    projects = meshroom(folder)
    content = json.loads((folder / "sfm.json").read_text())
    (folder / "cameras.sfm").write_text(json.dumps({**content, "poses": []}))
    check(read(folder).frames, projects)
    assert probe(folder).unused == ()


def test_a_project_is_parsed_once_and_images_are_not_read_for_their_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Recognising, counting and reading ask one and the same."""
    metashape(folder)
    (project,) = (file.name for file in folder.iterdir() if file.is_file())
    names: list[str] = []
    read = CaptureSource.read
    monkeypatch.setattr(CaptureSource, "read", lambda source, name: names.append(name) or read(source, name))
    with open_capture(folder) as (reader, source):
        reader.survey(source)
        reader.read(source, tmp_path / "out", CaptureParams())
    assert sorted(names) == sorted([project, *(f"images/{name}.jpg" for name in NAMES)])


@pytest.mark.parametrize("kind", ALL)
def test_poses_of_other_images_are_named(kind: str, folder: Path):
    """The images are photos then; the note says what lies there, and what can be read."""
    ALL[kind](folder)
    for number in range(4):
        (folder / f"images/p{number}.jpg").rename(folder / f"images/other{number}.jpg")
    traits = probe(folder)
    assert (traits.kind, traits.frames) == ("photos", 4)
    assert "with poses of" in traits.unused[0] and "COLMAP" in traits.unused[0]


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("realitycapture", "-0.11,0.03,0.0,0.0,", "-0.11,0.03,0.0,0.5,", "at most three radial terms"),
        ("realitycapture", "p2.jpg,0.8,", "p2.jpg,east,", "numbers x, y, alt"),
        ("realitycapture", ",88.0,", ",inf,", "rigid"),
        ("metashape", 'type="frame" class', 'type="spherical" class', "type 'spherical'"),
        ("metashape", "<f>131.5</f>", "", "calibration with <f>"),
        ("metashape", "<f>131.5</f>", "<f>wide</f>", "must be numbers"),
        ("metashape", "<chunk>", "<chunk><!ENTITY x 'y'>", "XML document"),
        ("meshroom", '"brown"', '"3deradial4"', "3deradial4"),
        ("meshroom", '"intrinsics"', '"rigs": [{}], "intrinsics"', "1 rigs"),
        ("opensfm", '"brown"', '"spherical"', "projection_type 'spherical'"),
        ("opensfm", '"camera": "v2"', '"camera": "v3"', "no camera 'v3'"),
        ("opensfm", '"translation": [', '"translation": [NaN, ', "translation"),
        ("bundler", "4 0", "5000 0", "of 25000 lines"),
        ("bundler", "141.5 ", "141.5 7 ", "five lines of three"),
    ],
)
def test_broken_files_are_refused_by_name(kind: str, old: str, new: str, message: str, folder: Path, read: Read):
    """Never read as photos in silence; the remedy for the images alone works."""
    ALL[kind](folder)
    file = next(path for path in folder.iterdir() if path.is_file() and old in path.read_text())
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(CaptureError, match=message) as error:
        read(folder)
    assert file.name in str(error.value.file)
    assert read(folder / "images").kind == "photos"


def test_every_program_has_a_writer():
    """One for whole projects, and here one for single numbers."""
    assert set(PROGRAMS) == set(ALL)

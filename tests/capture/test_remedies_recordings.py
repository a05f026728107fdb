"""As test_remedies, of recordings: bags, EuRoC, KITTI, TUM, Redwood and videos."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.capture.detect import open_capture
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.errors import CaptureError
from tests.capture.conftest import SMALL, truncate
from tests.capture.writers.every_format import FORMATS, shots
from tests.capture.writers.rosbag import bag_writer, write_robot
from tests.capture.writers.spoiling import messages, rows
from tests.conftest import made_once
from tests.synthetic import Room, walk

TINY = SMALL.resized(80, 60)
KINDS = ("rosbag", "euroc", "kitti", "tum", "redwood", "video")
COLOR, DEPTH, ODOMETRY = "/camera/color", "/camera/aligned_depth_to_color", "/dlio/odometry"
SEQUENCE = "sequences/04"
Do = Callable[[Path], object]


@dataclass(frozen=True)
class Instead:
    """The path that is read once a remedy is followed."""

    path: Path


@dataclass(frozen=True)
class Case:
    """A broken recording and its remedy.

    Attributes:
        of: The recording that is broken.
        spoil: Breaks it.
        says: What its remedy says, a part of it.
        follow: Does that; returns what is read instead, or with which settings.
        kind: What is read then.
        given: Settings with which it is refused.
    """

    of: str
    spoil: Do
    says: str
    follow: Do
    kind: str = ""
    given: CaptureParams = field(default_factory=CaptureParams)


@pytest.fixture(scope="session")
def recordings(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind, by its name; never changed."""

    def make(folder: Path) -> Path:
        for kind in KINDS:
            poses = walk(240)[:60] if kind == "video" else walk(60)[:8] if kind == "rosbag" else walk(120)[:13]
            FORMATS[kind].write(folder / kind, room, poses, TINY)
        (folder / "others").mkdir()
        taken = shots(room, walk(60)[:4], TINY)
        write_robot(folder / "others/first.bag", "ros1", taken, TINY)
        later = [(time + 3600, *rest) for time, *rest in taken]
        write_robot(folder / "others/second.bag", "ros1", later, TINY)
        return folder

    return made_once(tmp_path_factory, "recordings", make)


def from_others(*names: str) -> Do:
    """Puts other recordings beside it."""
    return lambda folder: [shutil.copy(folder.parent / "others" / name, folder) for name in names]


def in_its_own_folder(name: str) -> Do:
    """One of a folder's files."""

    def follow(folder: Path) -> Instead:
        target = folder.parent / "own"
        target.mkdir()
        shutil.move(folder / name, target)
        return Instead(target)

    return follow


def changed(topic: str, change: Callable[[Any, int], object]) -> Do:
    """The messages of a topic, with their numbers."""
    return messages(lambda name, message, number: change(message, number) if name == topic else None)


def without(topic: str, after: int = 0) -> Do:
    """The recording again, less a topic, or less its messages after the first so many."""

    def follow(folder: Path) -> None:
        counts: Counter[str] = Counter()
        kept = []
        for one in messages_of(folder / "walk"):
            counts[one[0]] += 1
            if one[0] != topic or counts[topic] <= after:
                kept.append(one)
        write_messages(folder / "walk", kept)

    return follow


def messages_of(bag: Path) -> list[tuple[str, str, int, Any]]:
    """Topic, type, time [ns] and content of each."""
    from rosbags.highlevel import AnyReader

    with AnyReader([bag]) as reader:
        return [(c.topic, c.msgtype, at, reader.deserialize(raw, c.msgtype)) for c, at, raw in reader.messages()]


def write_messages(bag: Path, kept: list[tuple[str, str, int, Any]]) -> None:
    """A bag of these instead of another."""
    shutil.rmtree(bag)
    with bag_writer(bag, "mcap") as writer:
        for topic, kind, at, message in kept:
            writer.put(topic, kind, message, at * 1e-9)


def uncalibrated(message: Any, _: int) -> None:
    """As drivers send it before anybody has calibrated the camera."""
    message.k = np.zeros(9)


def of_other_pixels(message: Any, _: int) -> None:
    """Depth in a form of its own."""
    message.encoding = "8UC1"


def set_back(message: Any, number: int) -> None:
    """The clock, after twelve messages."""
    if number >= 12:
        message.header.stamp.sec -= 5


def damaged(message: Any, number: int) -> None:
    """One quaternion."""
    if number == 7:
        message.pose.pose.orientation.w = 7.0


def with_raw_depth(folder: Path) -> None:
    """Depth in a form of its own, beside raw depth of another name."""
    raw = [("/raw", *rest) for topic, *rest in messages_of(folder / "walk") if topic == f"{DEPTH}/image_raw"]
    changed(f"{DEPTH}/image_raw", of_other_pixels)(folder)
    write_messages(folder / "walk", [*messages_of(folder / "walk"), *((t, k, at, m) for t, k, at, m in raw)])


def second_sequence(folder: Path) -> None:
    """Another one beside it."""
    shutil.copytree(folder / SEQUENCE, folder / "sequences/05")
    shutil.copy(folder / "poses/04.txt", folder / "poses/05.txt")


def one_sequence(folder: Path) -> Instead:
    """What the remedy says, and the folder that is to be named."""
    shutil.copy(folder / "poses/05.txt", folder / "sequences/05/poses.txt")
    return Instead(Path(shutil.copytree(folder / "sequences/05", folder.parent / "own")))


def renamed(old: str, new: str) -> Do:
    """A file or a folder."""
    return lambda folder: (folder / old).rename(folder / new)


def images_alone(pattern: str) -> Do:
    """In a folder of their own."""

    def follow(folder: Path) -> Instead:
        target = folder.parent / "own"
        target.mkdir()
        for file in sorted(folder.glob(pattern)):
            shutil.copy(file, target)
        return Instead(target)

    return follow


def lines_that_exist(folder: Path) -> None:
    """Of a TUM recording's lists."""
    for name in ("rgb.txt", "depth.txt"):
        lines = (folder / name).read_text().splitlines()
        kept = [line for line in lines if line.startswith("#") or (folder / line.split()[1]).exists()]
        (folder / name).write_text("\n".join(kept))


def shuffled(table: list[list[str]]) -> None:
    """Two lines are in each other's place, one is there twice."""
    table[2], table[5] = table[5], table[2]
    table.append(table[-1])


def in_order(folder: Path) -> None:
    """Sorted, each line once."""
    lines = (folder / "rgb.txt").read_text().splitlines()
    (folder / "rgb.txt").write_text("\n".join(sorted({line for line in lines if not line.startswith("#")})))


def write_matrix(folder: Path) -> None:
    """As three lines."""
    matrix = f"{TINY.fx} 0 {TINY.cx}\n0 {TINY.fy} {TINY.cy}\n0 0 1\n"
    (folder / "camera-intrinsics.txt").write_text(matrix)


def write_open3d(folder: Path) -> None:
    """The matrix column by column."""
    matrix = [TINY.fx, 0, 0, 0, TINY.fy, 0, TINY.cx - 0.5, TINY.cy - 0.5, 1]
    content = {"width": TINY.width, "height": TINY.height, "intrinsic_matrix": matrix}
    (folder / "camera_intrinsic.json").write_text(json.dumps(content))


def two_trajectories(folder: Path) -> None:
    """Neither has a usual name."""
    (folder / "trajectory.log").rename(folder / "first.log")
    shutil.copy(folder / "first.log", folder / "second.log")


CASES = {
    "a ROS 1 bag beside one of ROS 2": Case(
        "rosbag",
        lambda f: ([shutil.move(one, f) for one in (f / "walk").iterdir()], from_others("first.bag")(f)),
        "put each recording into a folder of its own",
        in_its_own_folder("first.bag"),
    ),
    "bags of two days": Case(
        "rosbag",
        lambda f: (shutil.rmtree(f / "walk"), from_others("first.bag", "second.bag")(f)),
        "put each recording into a folder of its own",
        in_its_own_folder("second.bag"),
    ),
    "a topic that is none": Case(
        "rosbag",
        lambda f: None,
        "correct capture.topics",
        lambda f: CaptureParams(topics={"camera": f"{COLOR}/image_raw"}),
        given=CaptureParams(topics={"camera": "/camera/colour"}),
    ),
    "a bag whose camera isn't calibrated": Case(
        "rosbag",
        changed(f"{COLOR}/camera_info", uncalibrated),
        "leave its camera_info topic out of the bag",
        without(f"{COLOR}/camera_info"),
    ),
    "a bag whose depth is of another form": Case(
        "rosbag",
        with_raw_depth,
        "name the topic of raw depth",
        lambda f: CaptureParams(topics={"depth": "/raw"}),
        given=CaptureParams(topics={"depth": f"{DEPTH}/image_raw"}),
    ),
    "a bag whose clock was set back": Case(
        "rosbag", changed(ODOMETRY, set_back), "cut the bag where its clock was set back", without(ODOMETRY, after=12)
    ),
    "a bag with a damaged pose": Case(
        "rosbag", changed(ODOMETRY, damaged), "remove these messages from the bag", without(ODOMETRY)
    ),
    "EuRoC's images without their calibration": Case(
        "euroc",
        lambda f: (f / "mav0/cam0/sensor.yaml").rename(f.parent / "sensor.yaml"),
        "download the whole ASL archive again and unpack it",
        lambda f: (f.parent / "sensor.yaml").rename(f / "mav0/cam0/sensor.yaml"),
    ),
    "EuRoC's images that are missing": Case(
        "euroc",
        lambda f: shutil.move(sorted((f / "mav0/cam0/data").iterdir())[2], f.parent / "lost"),
        "download the whole ASL archive again and unpack it",
        lambda f: shutil.move(f.parent / "lost", f / "mav0/cam0/data" / _listed(f / "mav0/cam0/data.csv", 2)),
    ),
    "KITTI's folders renamed": Case(
        "kitti",
        lambda f: (
            shutil.rmtree(f / SEQUENCE / "image_0"),
            renamed(f"{SEQUENCE}/image_2", f"{SEQUENCE}/image_left")(f),
        ),
        "rename a left folder to image_0 (grey) or image_2 (colour)",
        renamed(f"{SEQUENCE}/image_left", f"{SEQUENCE}/image_2"),
    ),
    "KITTI's images alone": Case(
        "kitti",
        lambda f: (
            shutil.rmtree(f / SEQUENCE / "image_0"),
            renamed(f"{SEQUENCE}/image_2", f"{SEQUENCE}/image_left")(f),
        ),
        "for the images alone copy them into a folder of their own",
        images_alone(f"{SEQUENCE}/image_left/*"),
        "photos",
    ),
    "two of KITTI's sequences": Case(
        "kitti", second_sequence, "copy one sequence's folder and its poses/NN.txt as poses.txt into it", one_sequence
    ),
    "KITTI without poses": Case(
        "kitti",
        lambda f: (f / "poses/04.txt").rename(f.parent / "04.txt"),
        "copy poses/NN.txt into the sequence's folder as poses.txt",
        lambda f: shutil.copy(f.parent / "04.txt", f / SEQUENCE / "poses.txt"),
    ),
    "KITTI without calibration": Case(
        "kitti",
        lambda f: (f / SEQUENCE / "calib.txt").rename(f.parent / "calib.txt"),
        "unpack data_odometry_calib.zip over the sequence",
        lambda f: (f.parent / "calib.txt").rename(f / SEQUENCE / "calib.txt"),
    ),
    "TUM without depth": Case(
        "tum",
        lambda f: (f / "depth.txt").unlink(),
        "without depth use the images alone, in a folder of their own",
        images_alone("rgb/*.png"),
        "photos",
    ),
    "TUM's lines out of order": Case(
        "tum", rows("rgb.txt", shuffled), "sort the lines, remove repeated ones", in_order
    ),
    "TUM's images that are missing": Case(
        "tum",
        lambda f: sorted((f / "rgb").iterdir())[3].unlink(),
        "remove the lines of what is missing",
        lines_that_exist,
    ),
    "TUM without intrinsics": Case(
        "tum",
        lambda f: (f / "camera-intrinsics.txt").unlink(),
        "write it as three lines: fx 0 cx / 0 fy cy / 0 0 1",
        write_matrix,
    ),
    "Redwood without intrinsics": Case(
        "redwood", lambda f: (f / "camera_intrinsic.json").unlink(), "write camera_intrinsic.json", write_open3d
    ),
    "Redwood's two trajectories": Case(
        "redwood", two_trajectories, "name one trajectory.log", renamed("second.log", "trajectory.log")
    ),
    "Redwood's trajectory cut off": Case(
        "redwood",
        lambda f: (shutil.copy(f / "trajectory.log", f.parent), truncate(f / "trajectory.log")),
        "export the trajectory again",
        lambda f: shutil.copy(f.parent / "trajectory.log", f),
    ),
    "two videos": Case(
        "video",
        lambda f: shutil.copy(f / "walk.mp4", f / "again.mp4"),
        "name one of the files, or move one recording into a folder of its own",
        lambda f: Instead(f / "again.mp4"),
    ),
    "two videos, one moved": Case(
        "video",
        lambda f: shutil.copy(f / "walk.mp4", f / "again.mp4"),
        "move one recording into a folder of its own",
        in_its_own_folder("again.mp4"),
    ),
    "a video cut off": Case(
        "video",
        lambda f: (shutil.copy(f / "walk.mp4", f.parent), truncate(f / "walk.mp4")),
        "copy or download it again",
        lambda f: shutil.copy(f.parent / "walk.mp4", f),
    ),
    "photos that are named as a video": Case(
        "video",
        lambda f: (
            cv2.imwrite(str(f / "walk.jpg"), np.zeros((8, 8, 3), np.uint8))
            and ((f / "walk.mp4").rename(f.parent / "walk.mov"), (f / "walk.jpg").rename(f / "walk.mp4"))
        ),
        "name the video as the camera wrote it",
        lambda f: ((f / "walk.mp4").unlink(), (f.parent / "walk.mov").rename(f / "walk.mov")),
    ),
    "a start after the video's end": Case(
        "video", lambda f: None, "lower it", lambda f: CaptureParams(), given=CaptureParams(start=100)
    ),
    "a video too short for its stride": Case(
        "video",
        lambda f: None,
        "use a longer one, or a smaller capture.stride",
        lambda f: CaptureParams(),
        given=CaptureParams(stride=1000),
    ),
}
"""By what is wrong."""


def _listed(file: Path, row: int) -> str:
    """The image of a row of EuRoC's list."""
    return re.split(",", file.read_text().split()[1 + row + 1])[1]


@pytest.mark.parametrize(
    "wrong", [pytest.param(name, marks=[pytest.mark.slow] * (case.of == "video")) for name, case in CASES.items()]
)
def test_the_remedy_works(wrong: str, recordings: Path, tmp_path: Path):
    """Refused with this remedy; once it is followed, read."""
    case, folder = CASES[wrong], tmp_path / "source"
    shutil.copytree(recordings / case.of, folder)
    (tmp_path / "others").symlink_to(recordings / "others")
    case.spoil(folder)
    with pytest.raises(CaptureError) as error:
        _read(folder, case.given, tmp_path / "refused")
    assert case.says in error.value.remedy, error.value
    told = case.follow(folder)
    params = told if isinstance(told, CaptureParams) else CaptureParams()
    capture = _read(told.path if isinstance(told, Instead) else folder, params, tmp_path / "read")
    assert capture.kind == (case.kind or case.of)


def _read(path: Path, params: CaptureParams, out: Path) -> Capture:
    """What the format's reader makes of it."""
    out.mkdir()
    with open_capture(path) as (reader, source):
        return reader.read(source, out, params)

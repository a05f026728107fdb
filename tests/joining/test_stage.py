"""Captures become one where they show one place; else an error says what belongs together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capture.model import Capture
from pipeline.errors import CaptureError, CardError, ReconstructionError
from pipeline.geometry import Pose, angle_deg
from pipeline.io.results import resume_folder
from pipeline.joining.judge import Place
from pipeline.joining.params import JoinParams, SameSpot
from pipeline.joining.stage import JOINING_FILE, _words, run
from tests.joining.walks import moved, own_world, round_the_room, write
from tests.synthetic import Room

ONE, OTHER = round_the_room(0.0, 0.6), round_the_room(0.4, 1.0, inward=0.25)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """A walk through the room."""
    return write(tmp_path_factory.mktemp("hall") / "capture", room, ONE, own_world(1), 1).root


@pytest.fixture(scope="module")
def stairs(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """Another, by another way, in another world."""
    return write(tmp_path_factory.mktemp("stairs") / "capture", room, OTHER, own_world(2), 2).root


def joined(folder: Path, links: Sequence[SameSpot] = (), **captures: Path) -> Capture:
    out = folder / ".key.partial"
    out.mkdir()
    run({f"capture-{name}": path for name, path in captures.items()}, JoinParams(links=tuple(links)), out)
    return Capture.load(out)


def same_view(hall: str, other: str) -> SameSpot:
    """The frames of two walks that look most alike."""
    pairs = [(i, j) for i in range(len(ONE)) for j in range(len(OTHER))]
    i, j = min(pairs, key=lambda p: float(angle_deg(ONE[p[0]].rotation, OTHER[p[1]].rotation)))
    return SameSpot(a=f"{other}--{j:04d}", b=f"{hall}--{i:04d}")


def off(capture: Capture, source: str, truth: Sequence[Pose], world: Pose) -> tuple[float, float]:
    """Median error of a source's poses [m, deg], in that world."""
    poses = [f.world_from_camera for f in capture.frames if f.name.startswith(source) and f.world_from_camera]
    assert len(poses) == len(truth)
    wanted = [world @ pose for pose in truth]
    shifts = [np.linalg.norm(p.translation - w.translation) for p, w in zip(poses, wanted, strict=True)]
    turns = [angle_deg(p.rotation, w.rotation) for p, w in zip(poses, wanted, strict=True)]
    return float(np.median(shifts)), float(np.median(turns))


def test_two_walks_become_one_capture(tmp_path: Path, hall: Path, stairs: Path):
    """In the world of the source whose gravity is the surest, to what both drift; nothing collides."""
    capture = joined(tmp_path, stairs=stairs, hall=hall)
    for source, truth in (("hall", ONE), ("stairs", OTHER)):
        shift, turn = off(capture, source, truth, own_world(1))
        assert shift < 0.025
        assert turn < 0.5
    assert len({frame.name for frame in capture.frames}) == len(ONE) + len(OTHER)
    assert {frame.sensor for frame in capture.frames} == {"hall", "stairs"}
    for frame in capture.frames:
        assert frame.depth is not None
        assert (capture.root / frame.image).read_bytes()
        assert (capture.root / frame.depth).read_bytes()
    assert capture.up_sigma_deg == Capture.load(hall).up_sigma_deg
    (link,) = json.loads((capture.root / JOINING_FILE).read_text())["links"]
    assert (link["a"], link["b"], link["verdict"]) == ("hall", "stairs", "joined")
    assert any("hall - stairs: joined" in note for note in capture.notes)


def test_a_moved_sofa_bends_no_wall(tmp_path: Path, hall: Path, room: Room):
    """A person says that it is the same room; the second walk is where the walls put it."""
    later = write(tmp_path / "later", moved(room, 0, (-0.35, 0.25, 0.0)), OTHER, own_world(2), 2).root
    capture = joined(tmp_path, [same_view("hall", "later")], hall=hall, later=later)
    shift, turn = off(capture, "later", OTHER, own_world(1))
    assert shift < 0.025
    assert turn < 0.5


def test_another_unit_is_told(tmp_path: Path, hall: Path, stairs: Path):
    """A capture whose depth and poses are in feet agrees with itself; the other one shows that it isn't in metres."""
    capture, root = Capture.load(stairs), tmp_path / "feet"
    shutil.copytree(stairs, root)
    frames = []
    for frame in capture.frames:
        assert frame.world_from_camera
        assert frame.depth
        depth = np.asarray(cv2.imread(str(root / frame.depth), cv2.IMREAD_UNCHANGED)) / 0.3048
        cv2.imwrite(str(root / frame.depth), depth.round().astype(np.uint16))
        pose = frame.world_from_camera
        frames.append(replace(frame, world_from_camera=Pose(pose.rotation, pose.translation / 0.3048)))
    replace(capture, root=root, frames=tuple(frames)).save()
    with pytest.raises(
        ReconstructionError, match=r"feet shows the same 3\.[23]\d? times as large: .* not in met"
    ) as error:
        joined(tmp_path, feet=root, hall=hall)
    assert "depth_scale" in error.value.remedy


def test_a_link_of_three_frames_is_too_little(tmp_path: Path, hall: Path, stairs: Path, room: Room):
    """All else in the second capture is another room."""
    other = write(tmp_path / "other", Room.make(9), OTHER, own_world(2), 2)
    capture, root = Capture.load(stairs), other.root
    away, frames = Pose(np.eye(3), np.array([30.0, 0.0, 0.0])), list(other.frames)
    for k in range(3):
        shared = capture.frames[k]
        assert shared.depth
        for path in (shared.image, shared.depth):
            shutil.copyfile(stairs / path, root / path)
        pose = shared.world_from_camera
        frames[k] = replace(frames[k], world_from_camera=pose and away @ pose)
    replace(other, frames=tuple(frames)).save()
    with pytest.raises(ReconstructionError, match=r"too little in common: 3 frames and \d+ matches agree"):
        joined(tmp_path, hall=hall, stairs=root)


def test_a_twin_of_other_paint_is_no_place_of_it(tmp_path: Path, hall: Path, tmp_path_factory: pytest.TempPathFactory):
    """Equal walls to the millimetre; the error names both parts, and nothing is written."""
    twin = write(tmp_path_factory.mktemp("twin") / "capture", Room.make(9), OTHER, own_world(4), 4).root
    with pytest.raises(
        ReconstructionError, match=r"2 parts \(part 1: hall; part 2: twin\)\. hall - twin: (apart|ambig)"
    ):
        joined(tmp_path, hall=hall, twin=twin)
    assert not (tmp_path / ".key.partial" / "capture.json").exists()


def test_a_person_decides(tmp_path: Path, hall: Path, stairs: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a look-alike isn't excluded: by images of the readings, and frames that see the same spot."""
    monkeypatch.setattr(Place, "clean", False)
    with pytest.raises(ReconstructionError, match="hall - stairs: ambiguous, a place that looks alike") as error:
        joined(tmp_path, hall=hall, stairs=stairs)
    (image,) = (resume_folder(tmp_path / ".key.partial") / "readings").glob("hall-stairs-*.png")
    assert np.asarray(cv2.imread(str(image))).ndim == 3
    assert str(image.parent) in error.value.remedy
    assert "links: [{a: hall--FRAME, b: stairs--FRAME}]" in error.value.remedy
    shutil.rmtree(tmp_path / ".key.partial")
    capture = joined(tmp_path, [same_view("hall", "stairs")], hall=hall, stairs=stairs)
    shift, turn = off(capture, "stairs", OTHER, own_world(1))
    assert shift < 0.025
    assert turn < 0.5


def test_a_wrong_word_is_not_believed(tmp_path: Path, hall: Path, stairs: Path):
    """Frames that look at opposite walls."""
    pairs = [(i, j) for i in range(len(ONE)) for j in range(len(OTHER))]
    i, j = max(pairs, key=lambda p: float(angle_deg(ONE[p[0]].rotation, OTHER[p[1]].rotation)))
    with pytest.raises(ReconstructionError, match=r"apart, .* what the given links say"):
        joined(tmp_path, [SameSpot(a=f"hall--{i:04d}", b=f"stairs--{j:04d}")], hall=hall, stairs=stairs)


@pytest.mark.parametrize(
    ("a", "b", "found"), [("hall--9999", "stairs--0001", "'hall--9999'"), ("hall--0001",) * 2 + ("hall",)]
)
def test_links_name_frames_of_two_sources(tmp_path: Path, hall: Path, stairs: Path, a: str, b: str, found: str):
    """Before anything is computed."""
    with pytest.raises(CardError) as error:
        joined(tmp_path, [SameSpot(a=a, b=b)], hall=hall, stairs=stairs)
    assert found in error.value.found


@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_links_name_frames_as_a_person_does(hall: Path, suffix: str):
    """With the suffix of the image or without."""
    capture = Capture.load(hall)
    photos = replace(capture, frames=tuple(replace(frame, name=f"{frame.name}.jpg") for frame in capture.frames))
    links = (SameSpot(a=f"stairs--0002{suffix}", b=f"hall--0001{suffix}"),)
    found = _words(JoinParams(links=links), {"hall": photos, "stairs": photos})
    assert found == [(("hall", "0001.jpg"), ("stairs", "0002.jpg"))]


def test_what_lacks_depth_is_named(tmp_path: Path, hall: Path, stairs: Path):
    """Photos can't be joined to it."""
    capture = Capture.load(stairs)
    root = tmp_path / "photos"
    root.mkdir()
    frames = tuple(replace(frame, depth=None, world_from_camera=None) for frame in capture.frames)
    replace(capture, root=root, kind="photos", frames=frames, scale_sigma=None).save()
    with pytest.raises(CaptureError, match=r"photos \(photos\) lacks depth images, poses, a metric scale"):
        joined(tmp_path, hall=hall, photos=root)


def test_photos_are_pooled(tmp_path: Path, hall: Path, stairs: Path):
    """The poses stage maps them together: nothing is placed, and all are there under their sources' names."""
    roots = {}
    for name, path in (("one", hall), ("other", stairs)):
        capture = Capture.load(path)
        frames = tuple(replace(frame, depth=None, world_from_camera=None) for frame in capture.frames)
        shutil.copytree(path, tmp_path / name)
        replace(capture, root=tmp_path / name, kind="photos", frames=frames, scale_sigma=None, ordered=False).save()
        roots[name] = tmp_path / name
    capture = joined(tmp_path, **roots)
    assert [frame.name for frame in capture.frames] == [f"{k}--{i:04d}" for k in roots for i in range(len(ONE))]
    assert not capture.has_poses
    assert not capture.has_depth
    assert all((capture.root / frame.image).exists() for frame in capture.frames)
    assert any("mapped together" in note for note in capture.notes)

"""The align stage on the room: frame, floor, scale."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.align.params import AlignParams, KnownLength
from pipeline.align.stage import one_of_each_shot, run
from pipeline.capture.model import Capture, Frame, InRig
from pipeline.depth.maps import save_depth_map, write_index
from pipeline.errors import ReconstructionError
from pipeline.geometry import Camera, Pose, Similarity, matrix_from_rotvec
from pipeline.poses.scene import PosedScene, View
from tests.synthetic import CAMERA, Room, depth_maps, posed_scene, walk

SCENE_FROM_ROOM = Similarity(0.37, matrix_from_rotvec([0.9, -0.5, 0.3]), [2.0, 1.0, -3.0])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, room: Room) -> dict[str, Path]:
    """The room in an arbitrary frame and scale, as photos would give it."""
    folder = tmp_path_factory.mktemp("align")
    poses = walk(16)
    scene = replace(posed_scene(folder / "poses", room, poses), scale_sigma=None)
    scene.transformed(SCENE_FROM_ROOM).save(folder / "poses")
    (folder / "depth").mkdir()
    maps = [m.transformed(SCENE_FROM_ROOM) for m in depth_maps(room, poses, noise=0.003) if not m.held_out]
    for depth_map in maps:
        save_depth_map(folder / "depth", depth_map)
    write_index(folder / "depth", [m.name for m in maps], "mvs", {})
    (folder / "capture").mkdir()
    Capture(folder / "capture", "photos", (), True).save()
    return {name: folder / name for name in ("capture", "poses", "depth")}


def align(inputs: dict[str, Path], out: Path, params: AlignParams) -> Alignment:
    run(inputs, params, out)
    return Alignment.load(out)


def known_length(room: Room, view_index: int) -> KnownLength:
    """Two pixels of a view, with the true distance of what they show."""
    a, b = (70, 150), (240, 185)
    hits = room.cast(CAMERA, walk(16)[view_index])[0]
    metres = float(np.linalg.norm(hits[a[1], a[0]] - hits[b[1], b[0]]))
    return KnownLength(metres=metres, image=f"{view_index:04d}", a=(a[0] + 0.5, a[1] + 0.5), b=(b[0] + 0.5, b[1] + 0.5))


def test_known_length_gives_the_metric_world(inputs, tmp_path, room):
    """Z is up, the floor is at 0, the scale right to 1 %, X along a wall, the origin below the track."""
    result = align(inputs, tmp_path, AlignParams(known_length=known_length(room, 10)))
    world_from_room = result.world_from_scene @ SCENE_FROM_ROOM
    assert world_from_room.scale == pytest.approx(1, abs=0.01)
    assert abs(world_from_room.scale - 1) < 3 * (result.scale_sigma or 0)
    assert world_from_room.rotation[2, 2] > np.cos(np.deg2rad(0.3))
    assert world_from_room.apply([2.0, 0.5, 0])[2] == pytest.approx(0, abs=0.01)
    assert np.abs(world_from_room.rotation[0, :2]).max() > np.cos(np.deg2rad(0.5))
    assert result.floor_found
    scene = load_world_scene(inputs["poses"], tmp_path)
    middle = np.median([view.world_from_camera.translation for view in scene.training], axis=0)
    np.testing.assert_allclose(middle[:2], 0, atol=1e-9)


def test_known_length_works_on_a_held_out_photo(inputs, tmp_path, room):
    """The neighbours' depth serves a photo that has none of its own."""
    result = align(inputs, tmp_path, AlignParams(known_length=known_length(room, 8)))
    assert (result.world_from_scene @ SCENE_FROM_ROOM).scale == pytest.approx(1, abs=0.01)


def test_camera_height_gives_the_scale(inputs, tmp_path):
    """The track's true median height above the floor sets the scale, with ten per cent of doubt."""
    true_height = float(np.median([p.translation[2] for i, p in enumerate(walk(16)) if i % 8]))
    result = align(inputs, tmp_path, AlignParams(camera_height=true_height))
    assert (result.world_from_scene @ SCENE_FROM_ROOM).scale == pytest.approx(1, abs=0.02)
    assert result.scale_sigma == pytest.approx(0.1)


def test_without_any_source_usual_sizes_hint(inputs, tmp_path):
    """The height of a hand gives a scale with a wide sigma, which the gate refuses."""
    result = align(inputs, tmp_path, AlignParams())
    assert result.scale_source == "priors"
    assert result.scale_sigma is not None
    assert result.scale_sigma > 0.08
    assert abs(np.log((result.world_from_scene @ SCENE_FROM_ROOM).scale)) < 2 * result.scale_sigma
    assert [found["source"] for found in result.report["scale"]] == ["prior of camera height"]


def test_hints_are_only_compared_with_a_given_scale(inputs, tmp_path, caplog):
    """A camera height wins, though its sigma is wider than that of all priors; a contradiction is said."""
    with caplog.at_level(logging.WARNING):
        result = align(inputs, tmp_path, AlignParams(camera_height=4.5, camera_height_sigma=0.9))
    assert (result.scale_source, result.scale_sigma) == ("camera_height", pytest.approx(0.2))
    assert [found["source"] for found in result.report["scale"]] == ["camera_height", "prior of camera height"]
    (record,) = [r for r in caplog.records if "prior of camera height" in r.getMessage()]
    assert "camera_height" in record.getMessage()


def test_a_sheet_that_nobody_sees_is_an_error(inputs, tmp_path):
    """The room has no paper in it: no scale is made up."""
    with pytest.raises(ReconstructionError, match="'A4 sheet' needs a sheet"):
        align(inputs, tmp_path, AlignParams(sheet="A4"))


def test_without_a_floor_the_scale_is_assumed(inputs, tmp_path):
    """No number without a source: the sigma stays empty."""
    (tmp_path / "depth").mkdir()
    write_index(tmp_path / "depth", [], "mvs", {})
    result = align({**inputs, "depth": tmp_path / "depth"}, tmp_path, AlignParams())
    assert result.scale_source == "assumed"
    assert result.scale_sigma is None


def test_all_estimates_of_gravity_are_compared(inputs, tmp_path):
    """Surfaces decide; how the camera was held is listed beside them."""
    result = align(inputs, tmp_path, AlignParams())
    assert result.gravity_source == "surfaces"
    listed = {entry["source"]: entry for entry in result.report["gravity"]}
    assert {"cameras", "surfaces"} <= set(listed)
    assert listed["cameras"]["sigma_deg"] > listed["surfaces"]["sigma_deg"]


def test_sensor_scale_is_kept(inputs, tmp_path):
    """A metric scene isn't scaled."""
    scene = PosedScene.load(inputs["poses"])
    metric = tmp_path / "poses"
    metric.mkdir()
    replace(scene, scale_sigma=0.012).save(metric)
    (metric / "images").symlink_to(inputs["poses"] / "images")
    result = align({**inputs, "poses": metric}, tmp_path, AlignParams())
    assert (result.scale_source, result.scale_sigma, result.world_from_scene.scale) == ("sensor", 0.012, 1.0)


@pytest.mark.parametrize(
    ("known", "found"),
    [
        (KnownLength(metres=1.0, image="nope.jpg", a=(1, 1), b=(2, 2)), "not among"),
        (KnownLength(metres=1.0, image="0010", a=(1, 1), b=(900, 2)), "320 x 240"),
    ],
)
def test_unusable_known_lengths_are_refused(inputs, tmp_path, known, found):
    """A photo that isn't there and a pixel outside say so."""
    with pytest.raises(ReconstructionError, match=found):
        align(inputs, tmp_path, AlignParams(known_length=known))


def test_faces_of_a_panorama_count_once():
    """Of each moment its first view stays, in their order; so does what the capture doesn't know."""
    lens = Camera(64, 64, 32.0, 32.0, 32.0, 32.0)
    rigs = [InRig("rig", shot, Pose.identity()) for shot in ("b", "a", "b", "a")]
    frames = [Frame(f"{n}.jpg", "", lens, "exact", in_rig=rig) for n, rig in enumerate(rigs)]
    frames.append(Frame("4.jpg", "", lens, "exif"))
    views = [View(f"{n}.jpg", "", lens, Pose.identity(), held_out=False) for n in (0, 1, 2, 3, 4, 5)]
    kept = one_of_each_shot(Capture(Path(), "photos", tuple(frames), ordered=False), views)
    assert sorted(view.name for view in kept) == ["0.jpg", "1.jpg", "4.jpg", "5.jpg"]
    ordered = one_of_each_shot(Capture(Path(), "video", tuple(frames[4:]), ordered=True), views)
    assert ordered == views

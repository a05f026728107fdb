"""A re-scan in an earlier version's map: placed there, what its images no longer show masked, both as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import Bundle
from pipeline.align.alignment import Alignment
from pipeline.bundle.params import BundleParams
from pipeline.bundle.stage import earth_of
from pipeline.capture.images import save_mask
from pipeline.capture.model import Capture
from pipeline.changes.compare import Changes, find_changes
from pipeline.changes.differences import differences, load_differences, pictures, save_differences, table_rows
from pipeline.changes.masks import masks_of, outdated
from pipeline.changes.part import Part
from pipeline.changes.place import Mapped, find_place
from pipeline.changes.register import Scan, register_near
from pipeline.changes.update import LEFT, OWN, UPDATE_STAGES, about, plan_again
from pipeline.changes.update_stages import UPDATE_FILE, UpdateParams, write_alignment, write_poses
from pipeline.earth import Earth
from pipeline.errors import BundleError, CaptureError, ReconstructionError
from pipeline.geometry import Pose, Similarity, angle_deg, matrix_from_rotvec
from pipeline.geometry.rays import RayCaster
from pipeline.poses.scene import PosedScene, View, read_mask
from pipeline.running.stages import STAGES
from tests.bundles import make_bundle
from tests.changes.two_scans import BOX_AFTER, BOX_BEFORE, CAMERA, FIRST_FROM_ROOM, cameras, crate, room, scan
from tests.joining.walks import own_world, round_the_room, write
from tests.synthetic import Room, posed_scene

SECOND_FROM_FIRST = Pose(matrix_from_rotvec([0, 0, 0.004]), np.array([0.012, -0.009, 0.004]))
"""What a placed re-scan may be off by."""
ONE, OTHER = round_the_room(0.0, 0.6), round_the_room(0.4, 1.0, inward=0.25)
WORLD, AGAIN = own_world(1), own_world(2)


@pytest.fixture(scope="module")
def scans() -> tuple[Scan, Scan]:
    """A box moved."""
    places = FIRST_FROM_ROOM, SECOND_FROM_FIRST @ FIRST_FROM_ROOM
    first, second = (scan(room(later=n == 1, moved=("box",)), place) for n, place in enumerate(places))
    return first, second


@pytest.fixture(scope="module")
def found(scans: tuple[Scan, Scan]) -> tuple[Changes, Pose]:
    """What moved, and where the second scan lies in the first."""
    registration = register_near(*scans, Pose.identity())
    assert registration.agreement > 0.9
    return find_changes(*scans, registration), registration.first_from_second


@pytest.mark.slow
def test_what_moved_is_told_by_the_centimetre(found: tuple[Changes, Pose], tmp_path: Path):
    """In the first's frame; a table says it."""
    changes, pose = found
    assert np.linalg.norm((pose @ SECOND_FROM_FIRST).translation) < 0.003
    (box,) = differences(changes, pose)
    motion = FIRST_FROM_ROOM @ BOX_AFTER @ BOX_BEFORE.inverse() @ FIRST_FROM_ROOM.inverse()
    middle = np.array(box.middle)
    assert box.kind == "moved"
    assert box.shift is not None
    assert np.linalg.norm(motion.apply(middle) - middle - box.shift) < 0.01
    assert box.turn_deg == pytest.approx(np.rad2deg(0.8), abs=1)
    assert np.linalg.norm(middle - FIRST_FROM_ROOM.apply(BOX_BEFORE.apply([0, 0, 0.175]))) < 0.02
    save_differences(("room@1.0.0", "again"), [box], tmp_path)
    assert load_differences(tmp_path) == [box]
    (row,) = table_rows([box])
    assert row[0] == "moved"
    assert f"by {np.linalg.norm(box.shift):.3f} m" in row[3]


@pytest.mark.slow
def test_the_pictures_show_it_blue(scans: tuple[Scan, Scan], found: tuple[Changes, Pose]):
    """Before and after, in one view; where it was nothing is blue afterwards."""
    before, after = (image.astype(int) for image in pictures(*scans, *found))
    blue = [(image[..., 2] > image[..., 0] + 60) for image in (before, after)]
    assert min(mask.sum() for mask in blue) > 500
    assert not (blue[0] & blue[1]).any()


def test_what_is_no_more_is_masked(scans: tuple[Scan, Scan]):
    """Of the first's images: the box where it was, and what is behind where it is now; nothing far from either."""
    poses = cameras()[::3] + cameras()[1::9]
    views = [View(str(n), "", CAMERA, FIRST_FROM_ROOM @ pose, held_out=False) for n, pose in enumerate(poses)]
    gone, new = outdated(*scans, SECOND_FROM_FIRST.inverse(), Changes((), (), ()))
    masks = [*masks_of(scans[0].mesh, gone, new, Part.around(np.zeros((0, 3))), views)]
    whole = [RayCaster(room(later=later, moved=("box",))) for later in (False, True)]
    boxes = [RayCaster(crate((0.45, 0.3, 0.35), place)) for place in (BOX_BEFORE, BOX_AFTER)]
    masked = shown = kept = 0
    for mask, pose in zip(masks, poses, strict=True):
        rays = pose.rotate(CAMERA.rays()).reshape(-1, 3)
        eyes = np.broadcast_to(pose.translation, rays.shape)
        truth = np.zeros(len(rays), bool)
        for caster, box in zip(whole, boxes, strict=True):
            there = box.cast(eyes, rays)
            truth |= there.hit & (there.distance < caster.cast(eyes, rays).distance + 1e-3)
        changed = truth.reshape(CAMERA.height, CAMERA.width)
        off = np.zeros_like(changed) if mask is None else ~mask
        masked, shown = masked + int((off & changed).sum()), shown + int(changed.sum())
        if not changed.any():
            kept += mask is None
    assert shown > 10_000
    assert masked > 0.97 * shown
    assert kept
    assert sum(int((~mask).sum()) for mask in masks if mask is not None) < 1.6 * shown


def test_what_is_painted_is_masked(scans: tuple[Scan, Scan]):
    """Where the core of what changed lies on a surface that is there still; only in views that see it."""
    first = scans[0].mesh
    views = [View(str(n), "", CAMERA, FIRST_FROM_ROOM @ pose, held_out=False) for n, pose in enumerate(cameras()[::4])]
    nothing, spot = np.zeros(len(first.triangles), bool), first.corners().mean(1)[:1].astype(np.float64)
    core = Part.around(spot, 2)
    masks = [*masks_of(first, nothing, first.with_faces(nothing), core, views)]
    caster = RayCaster(first)
    for mask, view in zip(masks, views, strict=True):
        depth = caster.depth(CAMERA, view.world_from_camera)
        points = view.world_from_camera.apply(CAMERA.rays() * depth[..., None].astype(np.float64))
        shown = core.holds(points) & (depth > 0)
        assert mask is None or not mask[shown].any()
        assert (mask is None) == (not shown.any())
    assert {mask is None for mask in masks} == {True, False}


def mapped(capture: Capture) -> Mapped:
    """A capture whose poses a build kept; what the stage knows beside it isn't asked for."""
    return Mapped(capture, None, 1.0)  # type: ignore[arg-type]


def test_a_re_scan_is_placed_in_the_map(tmp_path: Path, room: Room):
    """In the earlier world, to the drift of both, from a world of its own."""
    captures = [
        write(tmp_path / "before", room, ONE, WORLD, 1),
        write(tmp_path / "again", room, OTHER, AGAIN, 2),
    ]
    placed = find_place(*map(mapped, captures))
    off = [placed.poses[f"{n:04d}"] for n in range(len(OTHER))]
    shifts = [np.linalg.norm(p.translation - (WORLD @ q).translation) for p, q in zip(off, OTHER, strict=True)]
    turns = [angle_deg(p.rotation, (WORLD @ q).rotation) for p, q in zip(off, OTHER, strict=True)]
    assert np.median(shifts) < 0.025
    assert np.median(turns) < 0.5
    assert "matches" in placed.evidence
    blind = replace(captures[1], frames=tuple(replace(frame, depth=None) for frame in captures[1].frames))
    with pytest.raises(CaptureError, match=r"the re-scan .* lacks depth images"):
        find_place(mapped(captures[0]), mapped(blind))


@pytest.mark.slow
def test_another_place_is_not_found(tmp_path: Path, room: Room):
    """A room of the same plan in other paint."""
    before = write(tmp_path / "before", room, ONE, WORLD, 1)
    other = write(tmp_path / "again", Room.make(seed=5), OTHER, AGAIN, 2)
    with pytest.raises(ReconstructionError, match="found in one place of the bundle"):
        find_place(mapped(before), mapped(other))


def test_both_become_one_in_the_earlier_world(tmp_path: Path, room: Room):
    """Earlier views stay as they are but for the mask; the re-scan's have its name, its points their views."""
    stages = {name: tmp_path / name for name in ("poses-before", "poses-again", "align-before", "update")}
    for folder in stages.values():
        folder.mkdir()
    counts = dict.fromkeys(("keyframes", "registered", "held_out", "held_out_registered"), 3)
    world = Similarity(1.0, matrix_from_rotvec([0, 0, 0.4]), np.array([0.5, -0.3, 0.02]))
    lower = CAMERA.resized(80, 60)
    scenes = {}
    for name, poses in (("poses-before", ONE[:3]), ("poses-again", OTHER[:3])):
        scenes[name] = replace(posed_scene(stages[name], room, poses, lower), report=counts)
        scenes[name].save(stages[name])
    placed = {view.name: world.apply_pose(view.world_from_camera) for view in scenes["poses-again"].views}
    Alignment(world, ("surfaces",), 0.2, "sensor", 0.01, floor_found=True, report={}).save(stages["align-before"])
    (stages["update"] / "masks").mkdir()
    hidden = np.ones((60, 80), bool)
    hidden[10:20, 30:40] = False
    mask = save_mask(hidden, stages["update"], "0001")
    content = {
        "source": "again",
        "poses": {name: pose.matrix.tolist() for name, pose in placed.items()},
        "masks": {"0001": mask},
    }
    (stages["update"] / UPDATE_FILE).write_text(json.dumps(content))
    out, params = tmp_path / "poses", UpdateParams(source="again")
    out.mkdir()
    write_poses(stages, params, out)
    write_alignment(stages, params, out)
    merged = PosedScene.load(out)
    assert [view.name for view in merged.views] == ["0000", "0001", "0002", "again--0000", "again--0001", "again--0002"]
    for view, pose in zip(merged.views, (*ONE[:3], *OTHER[:3]), strict=True):
        assert np.allclose(view.world_from_camera.matrix, pose.matrix, atol=1e-6)
        assert (out / view.image).read_bytes()
    for view, before in zip(merged.views[:3], scenes["poses-before"].views, strict=True):
        assert np.array_equal(view.world_from_camera.matrix, before.world_from_camera.matrix)
    seen = [read_mask(out, view) for view in merged.views]
    assert seen[1] is not None
    assert np.array_equal(seen[1], hidden)
    assert [one is None for one in seen] == [True, False, True, True, True, True]
    assert np.array_equal(Alignment.load(out).world_from_scene.matrix, world.matrix)
    assert merged.report["registered"] == 6
    for n, view in enumerate(merged.views):  # each sees its points where they are
        rows = merged.points.point_index[merged.points.view_index == n]
        assert view.held_out or len(rows)
        local = view.world_from_camera.inverse().apply(merged.points.xyz[rows])
        pixels = view.camera.project(local)
        assert ((local[:, 2] > 0).all() and (pixels > -1).all()) if len(rows) else view.held_out


def test_what_the_build_left_must_be_there(room: Room, tmp_path: Path):
    """The error names the stages, and how to get them."""
    bundle = Bundle.open(make_bundle(tmp_path, room))
    with pytest.raises(BundleError) as caught:
        plan_again(bundle, tmp_path)
    assert "no results of capture, select, poses, align, depth, points, mesh, splat in" in caught.value.found
    assert "splatyard build CAPTURE --name room --version 1.0.0" in caught.value.remedy


def test_a_new_version_keeps_its_place_on_the_earth(room: Room, tmp_path: Path):
    """It is in the same frame."""
    manifest = Bundle.open(make_bundle(tmp_path, room)).manifest
    assert "earth" not in about(manifest, "again")
    earth = Earth(latitude_deg=47.25, longitude_deg=8.5, altitude_m=400.0, heading_deg=30.0)
    told = about(manifest.model_copy(update={"frame": manifest.frame.model_copy(update={"earth": earth})}), "again")
    assert earth_of(BundleParams(**told).earth or pytest.fail("none"), []) == earth
    assert told["source"].endswith(" + again")


def test_every_stage_of_an_update_gets_what_it_needs():
    """From a stage before it, or from what is given."""
    given = {"source", "before", "depth-again", "mesh-again"}
    given |= {f"{name}-{which}" for name in OWN for which in ("before", "again")} | {f"{name}-before" for name in LEFT}
    for stage in UPDATE_STAGES:
        assert set(stage.needs) <= given
        given.add(stage.name)
        assert callable(stage.load())
    assert {stage.name for stage in UPDATE_STAGES} == {"update", *(stage.name for stage in STAGES)}
    assert UPDATE_STAGES[-1].name == "bundle"

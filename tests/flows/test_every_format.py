"""The same room in every format, from the files that an app or tool writes to a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import BuildRequest, Bundle, build, plan
from pipeline.align.alignment import Alignment, load_world_scene
from pipeline.capture.detect import READERS, probe
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.stage import run
from pipeline.geometry import fit_similarity
from tests.capture.conftest import SMALL
from tests.capture.depth_cameras.test_tum import write_tum
from tests.capture.writers.every_format import FORMATS
from tests.flows.test_end_to_end import TINY
from tests.synthetic import CAMERA, Room, walk

WHOLE = {"euroc", "lidar_slam", "generated"}
"""Of these a bundle is made; what comes after alignment sees no more of the others than of one of them."""
ELSEWHERE = {"photos", "polycam"}
"""Of these test_end_to_end makes bundles, and asks as much of their cameras."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind, made in FORMATS.items() if not made.like and kind not in ELSEWHERE])
def test_from_files_to_bundle(kind: str, room: Room, tmp_path: Path):
    """Recognised, read, upright, its cameras within 3 cm, metric where the source is; and built."""
    made = FORMATS[kind]
    made.write(tmp_path / "source", room, made.poses, CAMERA)
    # sensor depth as it is, which is quicker than the default's stereo beside it, and fewer keyframes of recordings
    quick = ("select.max_keyframes=20", *(("depth.backend=sensor",) if made.depth else ()))
    until = None if kind in WHOLE else "align"
    request = BuildRequest(
        tmp_path / "source", name="room", out=tmp_path / "out", settings=(*TINY, *quick), until=until
    )
    result = build(request)
    folders = {stage.name: stage.folder for stage in plan(request).stages}
    capture = Capture.load(folders["capture"])
    assert capture.kind == kind
    assert len(capture.frames) == made.frames
    views = load_world_scene(folders["poses"], folders["align"]).views
    assert len(views) >= 14
    assert (Alignment.load(folders["align"]).scale_source in ("assumed", "priors")) != made.metric
    truth = true_places(kind, capture, room, tmp_path)
    found = np.array([view.world_from_camera.translation for view in views])
    there = np.array([truth[view.name] for view in views])
    fitted = fit_similarity(found, there)
    assert fitted.rotation[2, 2] > np.cos(np.deg2rad(2))
    assert np.median(np.linalg.norm(fitted.apply(found) - there, axis=1)) < 0.03
    if made.metric:
        assert fitted.scale == pytest.approx(1, abs=0.03)
    if kind in WHOLE:
        assert result.bundle is not None
        bundle = Bundle.open(result.bundle)
        assert bundle.verify() == []
        assert {camera.name for camera in bundle.cameras} == {view.name for view in views}
        assert bundle.manifest.provenance.origin == ("generated" if kind == "generated" else "captured")
    shutil.rmtree(tmp_path / "out")


def true_places(kind: str, capture: Capture, room: Room, folder: Path) -> dict[str, np.ndarray]:
    """Where each frame's camera was in the room, by its name."""
    poses = FORMATS[kind].poses
    if kind == "stray_scanner":
        poses = poses[1:]  # the app's first image is hidden
    elif kind in ("video", "generated"):
        poses = [walk(240)[round(15 * (frame.source_time or 0))] for frame in capture.frames]
    elif kind == "tum":
        shutil.rmtree(folder / "again", ignore_errors=True)
        poses = write_tum(folder / "again", room, poses).poses
    return {frame.name: pose.translation for frame, pose in zip(capture.frames, poses, strict=True)}


def test_every_reader_is_built_here():
    """A new reader needs its writer, and one that is not built is like one that is."""
    assert {reader.kind for reader in READERS} == set(FORMATS)
    assert all(not FORMATS[made.like].like for made in FORMATS.values() if made.like)


@pytest.mark.parametrize("kind", [kind for kind, made in FORMATS.items() if made.like])
def test_what_is_like_another_format_gives_such_a_capture(kind: str, room: Room, tmp_path: Path):
    """All that later stages are chosen by and go by is the same; the poses are those of the same walk."""
    captures = {}
    for each in (kind, FORMATS[kind].like):
        made = FORMATS[each]
        made.write(tmp_path / each, room, made.poses, SMALL)
        assert probe(tmp_path / each).kind == each
        run({"source": tmp_path / each}, CaptureParams(), tmp_path / f"read-{each}")
        captures[each] = Capture.load(tmp_path / f"read-{each}")
    mine, like = captures.values()
    known = (
        "ordered",
        "scale_sigma",
        "up_sigma_deg",
        "depth_range",
        "has_depth",
        "has_poses",
        "on_machine",
        "turntable",
    )
    assert [getattr(mine, name) for name in known] == [getattr(like, name) for name in known]
    assert (mine.up_in_world is None) == (like.up_in_world is None)
    assert mine.frames[3].camera.fx == pytest.approx(like.frames[3].camera.fx, rel=1e-3)
    assert len(mine.frames) == FORMATS[kind].frames
    if mine.has_poses:
        places = true_places(kind, mine, room, tmp_path)
        truth = np.array([places[frame.name] for frame in mine.frames])
        found = np.array([frame.world_from_camera.translation for frame in mine.frames if frame.world_from_camera])
        fitted = fit_similarity(found, truth)
        assert np.abs(fitted.apply(found) - truth).max() < 1e-4
        if mine.scale_sigma:
            assert fitted.scale == pytest.approx(1, abs=1e-5)

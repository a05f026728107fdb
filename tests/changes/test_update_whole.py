"""From a bundle and a re-scan to the next version: the crate is gone, and a point is where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.changes.differences import PAGE_FILE, load_differences
from pipeline.changes.part import Part
from pipeline.changes.update_stages import UPDATE_FILE
from pipeline.geometry.rays import RayCaster
from tests.joining.walks import round_the_room
from tests.refusals import build_here
from tests.synthetic import BOXES, Room, write_polycam

TINY = (
    "depth.backend=sensor",
    "splat.gaussians=1500",
    "splat.iterations=60",
    "splat.sim_gaussians=800",
    "splat.sim_iterations=5",
    "mesh.voxel_size=0.04",
    "mesh.collision_triangles=4000",
    "coverage.places=20",
)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_version_without_the_crate(
    tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In the same frame, with the same cameras and more; it names its parent, and says what is gone."""
    build_here(monkeypatch)
    monkeypatch.chdir(tmp_path)
    name, low, high, _ = BOXES[0]
    assert name == "crate"
    crate = np.arange(len(room.mesh.triangles)) // 12 == 1
    write_polycam(tmp_path / "first", room, round_the_room(0.0, 1.0))
    empty = replace(room, mesh=room.mesh.with_faces(~crate))
    write_polycam(tmp_path / "again", empty, round_the_room(0.1, 1.1, inward=0.25))
    chosen = [word for text in TINY for word in ("--set", text)]
    assert main(["build", "first", "--name", "flat", *chosen]) == 0
    assert main(["bundle", "update", "flat@1.0.0", "again"]) == 0
    shown = capsys.readouterr().out
    assert "what differs between flat@1.0.0 and again" in shown
    before, after = (Bundle.open(tmp_path / "bundles" / "flat" / version) for version in ("1.0.0", "1.1.0"))
    assert after.manifest.parents == ("flat@1.0.0",)
    assert after.manifest.frame.origin == before.manifest.frame.origin
    kept = {view.name: view.world_from_camera.matrix for view in after.cameras}
    for view in before.cameras:
        assert np.allclose(kept[view.name], view.world_from_camera.matrix, atol=1e-6)
    assert len(after.cameras) > 1.5 * len(before.cameras)
    assert (after.root / PAGE_FILE).read_text().startswith("<!doctype html>")
    found = load_differences(after.root)
    (gone,) = (one for one in found if one.kind != "new")
    assert gone.kind == "gone"
    assert all(one.area < 0.15 for one in found if one is not gone)  # the table's legs: so coarse a mesh lacks some
    assert gone.size[2] == pytest.approx(high[2] - low[2], abs=0.05)
    assert 0.4 < min(gone.size[:2]) < max(gone.size[:2]) < 0.75
    unchanged(before, after)
    # where the crate stood, only the later mesh has nothing
    middle, up = np.array([gone.middle]), np.array([[0, 0, 1.0]])
    tops = [RayCaster(bundle.mesh()).cast(middle, up).distance[0] for bundle in (before, after)]
    assert tops[0] < 0.4
    assert tops[1] > 1
    # the walls are where they were
    walls = [RayCaster(bundle.mesh()) for bundle in (before, after)]
    eyes = np.array([view.world_from_camera.translation for view in before.cameras])
    aims = np.array([view.world_from_camera.rotation[:, 2] for view in before.cameras])
    off = [caster.cast(eyes, aims).distance for caster in walls]
    apart = np.abs(off[0] - off[1])
    assert np.median(apart[np.isfinite(apart)]) < 0.01


def unchanged(before: Bundle, after: Bundle) -> None:
    """What the re-scan doesn't show otherwise stays bit for bit: depth, Gaussians, and triangles, which come first."""
    work = before.root.parent.parent / ".work" / "flat"
    keys = [{s.name: s.key for s in bundle.manifest.provenance.stages} for bundle in (before, after)]
    part = Part.load(work / "update" / keys[1]["update"])
    depth = [work / "depth" / key["depth"] for key in keys]
    masked = json.loads((work / "update" / keys[1]["update"] / UPDATE_FILE).read_text())["masks"]
    same = [path for path in depth[0].glob("*.npz") if path.stem not in masked]
    assert all(path.read_bytes() == (depth[1] / path.name).read_bytes() for path in same)
    for level in ("full", "sim"):
        old, new = (
            np.concatenate([g.means, g.log_scales, g.sh[:, 0]], 1) for g in (before.splat(level), after.splat(level))
        )
        stay = {row.tobytes() for row in old[~part.holds(old[:, :3])]}
        assert len(stay) > 0.2 * len(old)
        assert stay <= {row.tobytes() for row in new}
    old = before.mesh("open").corners()
    old = old[~part.holds(old.mean(1))]
    assert len(old) > 1000
    assert np.array_equal(after.mesh("open").corners()[: len(old)], old)

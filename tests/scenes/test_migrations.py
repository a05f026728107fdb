"""Bundles of every past version of the format open as those of today."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import Bundle
from pipeline.errors import BundleError
from pipeline.publish.publishing import publish
from pipeline.scenes.images import image_of
from pipeline.scenes.manifest import file_sha256
from pipeline.scenes.migrations import MAJOR, MIGRATIONS, FormatVersion
from pipeline.scenes.resolver import open_registry
from pipeline.splat.ply import load_splat
from pipeline.splat.sog import load_sog
from sim.scene.opening import open_scene
from tests.bundles import make_bundle
from tests.paths import ROOT

PAST = sorted(path.parent for path in (ROOT / "tests" / "data" / "past_bundles").glob("*/*/*/bundle.json"))
LOCATION = {"latitude_deg": 1.5, "longitude_deg": 2.5, "altitude_m": None, "spread_m": 3.0, "pictures": 7}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def old(tmp_path, room) -> Path:
    """A bundle as version 1 had it."""
    folder = make_bundle(tmp_path / "bundles", room)
    (folder / "images").rename(folder / "pictures")
    edit(folder / "quality.json", lambda content: content.update(figures=content.pop("metrics") | {"flatness": 1.0}))

    def change(content: dict[str, Any]) -> None:
        content["format_version"] = 1
        del content["format_minor"]
        content["provenance"]["location"] = LOCATION
        content["report"]["capture"] = {"pictures": 9, "left_out": [], "not_used": []}
        for name in list(content["files"]):
            content["files"][name.replace("images/", "pictures/")] = content["files"].pop(name)
        quality = folder / "quality.json"
        content["files"]["quality.json"] = {"bytes": quality.stat().st_size, "sha256": file_sha256(quality)}

    edit(folder / "bundle.json", change)
    return folder


def test_version_1_opens_with_today_s_names(old):
    """Metrics, images and the number of images are where they are today; its files and hashes are those on disk."""
    bundle = Bundle.open(old)
    assert bundle.manifest.written_in == FormatVersion(1, 0)
    assert (bundle.manifest.format_version, bundle.quality.metrics) == (MAJOR, {"flatness": 1.0})
    assert bundle.manifest.provenance.location is not None
    assert bundle.manifest.provenance.location.images == 7
    assert bundle.manifest.report["capture"]["images"] == 9
    assert bundle.images == {"view_0.jpg": "pictures/view_0.jpg"}
    assert bundle.path("pictures/view_0.jpg").is_file()
    assert bundle.verify() == []
    assert open_scene(old).lock.reference == "room@1.0.0"


def test_version_1_is_published_and_comes_back(old, tmp_path, monkeypatch):
    """Byte for byte, and the next version's number is checked against it."""
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    yard = open_registry(str(tmp_path / "yard"), create=True)
    done = publish(Bundle.open(old), yard)
    bundle = Bundle.open(done.reference)
    assert done.sha256 == file_sha256(old / "bundle.json") == file_sha256(bundle.root / "bundle.json")
    assert (bundle.verify(), bundle.quality.metrics) == ([], {"flatness": 1.0})


@pytest.mark.parametrize("change", [{"report": []}, {"provenance": None}, {"report": {"capture": "x pictures"}}])
def test_a_hostile_version_1_is_refused_and_breaks_nothing(old, change):
    """Whatever stands where the migration looks."""
    edit(old / "bundle.json", lambda content: content.update(change))
    with pytest.raises(BundleError, match="damaged or hostile"):
        Bundle.open(old)


def test_every_older_version_has_a_migration():
    """And none is left over."""
    assert set(MIGRATIONS) == set(range(1, MAJOR))


@pytest.mark.parametrize("folder", PAST, ids=lambda folder: folder.parents[1].name)
def test_bundles_of_the_past_open(folder, tmp_path):
    """All that programs read of them; their manifests count more Gaussians than these small files hold."""
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    bundle = Bundle.open(copy)
    assert bundle.verify() == []
    assert len(bundle.mesh().triangles) == len(bundle.mesh("collision").triangles) > 0
    splats = [load_splat(bundle.path(name)) for name in ("splat.ply", "sim.ply")]
    assert [len(splat) for splat in (*splats, load_sog(bundle.path("web.sog")))] == [600, 600, 600]
    assert bundle.quality.failed == bundle.manifest.failed_gates
    assert bundle.coverage.trust([[0, 0, 0]], [0]).shape == (1,)
    assert all(camera.world_from_camera.matrix.shape == (4, 4) for camera in bundle.cameras)
    assert bundle.regions.spawn_poses
    assert [image_of(bundle, name) is not None for name in bundle.images] == [True]
    assert "pictures" not in bundle.manifest.report.get("capture", {})

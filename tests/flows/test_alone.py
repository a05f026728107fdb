"""One object from its capture to a table in another scene, by the commands that people type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline import Bundle
from pipeline.geometry.rays import RayCaster
from pipeline.scenes.manifest import list_files
from tests.objects import lone


@pytest.mark.soak
def test_a_walk_round_is_put_on_a_table(tmp_path: Path, cut_room: Path, monkeypatch: pytest.MonkeyPatch):
    """As true as promised, published, and seen in a video."""
    lone.write_walk_round(tmp_path / "mug_walk", photos=24, phone=lone.PHONE.resized(480, 360))
    card = tmp_path / "mug.yaml"
    card.write_text(
        "source:\n  licence: CC0-1.0\nrecipe:\n  splat:\n    iterations: 320\n  depth:\n    image_size: 240\n"
    )
    out, yard = tmp_path / "bundles", f"registry:{tmp_path / 'yard'}"
    built = ["build", str(tmp_path / "mug_walk"), "--object", "--name", "mug", "--out", str(out), "--card", str(card)]
    assert main(built) == 0
    bundle = Bundle.open(out / "mug" / "1.0.0")
    assert bundle.manifest.failed_gates == ()
    assert bundle.manifest.is_object
    assert bundle.verify() == []
    assert bundle.manifest.files == {
        name: entry for name, entry in list_files(bundle.root).items() if name != "bundle.json"
    }
    (one,) = bundle.objects
    np.testing.assert_allclose(one.record.size, lone.SIZE, rtol=0.05)
    corners = one.mesh().corners().astype(np.float64)
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume == pytest.approx(lone.VOLUME, rel=0.1)
    turned = lone.truth().vertices * [-1, -1, 1]  # it may stand turned by half a turn
    off = [np.median(RayCaster(one.mesh()).distances(v)) for v in (lone.truth().vertices, turned.astype(np.float32))]
    assert min(off) < 0.01
    monkeypatch.setenv("SPLATYARD_CACHE", str(tmp_path / "cache"))
    assert main(["publish", str(bundle.root), "--to", yard]) == 0
    video = tmp_path / "drop.mp4"
    sim = [
        "sim",
        str(cut_room),
        "--objects",
        f"{yard}/mug@1.0.0",
        "--video",
        str(video),
        "--envs",
        "2",
        "--seconds",
        "1",
    ]
    assert main(sim) == 0
    assert video.stat().st_size > 1000
    assert main(["gallery", "--registry", yard, "--out", str(tmp_path / "site")]) == 0
    page = (tmp_path / "site" / "scenes" / "mug" / "1.0.0" / "index.html").read_text()
    assert "An object by itself" in page

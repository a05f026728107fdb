"""Metrics and gates in words, and what changed from one version to the next."""

from __future__ import annotations

from pipeline import Bundle
from pipeline.check.quality import Gate
from pipeline.gallery.versions import changes, must_be
from tests.bundles import make_bundle
from tests.publish.variants import variant


def test_a_new_mesh_and_a_gate_that_fails_now(room, tmp_path):
    """Metrics of both, the mesh's size, and why that is a major version."""
    first = make_bundle(tmp_path / "first", room)
    failing = make_bundle(tmp_path / "failing", room, failing=True)
    mesh = (first / "mesh.ply").read_bytes()
    moved = variant(failing, tmp_path, "2.0.0", files={"mesh.ply": mesh[:-1] + bytes([mesh[-1] ^ 1])})
    found = changes(Bundle.open(first), Bundle.open(moved))
    assert (found.kind, found.why) == ("major", "mesh.ply changed")
    assert found.files == 2  # the mesh, and quality.json
    rows = {row.title: row for row in found.rows}
    triangles = f"{len(room.mesh.triangles):,} triangles"
    assert (rows["Mesh"].before, rows["Mesh"].now) == (triangles, f"{triangles}, elsewhere")
    assert (rows["scale"].before, rows["scale"].now, rows["scale"].failed) == ("0.01", "unknown", True)
    assert not rows["PSNR"].failed
    assert not rows["PSNR"].changed
    assert rows["Gaussians, full"].now == "200"
    assert "Collision mesh" not in rows


def test_the_frame_is_told_in_words(room, tmp_path):
    """Where its scale comes from now, and how sure that is."""
    first = make_bundle(tmp_path, room)
    frame = Bundle.open(first).manifest.frame.model_dump()
    sized = variant(first, tmp_path, "1.0.1", frame={**frame, "scale_from": {"source": "tags", "sigma": None}})
    row = next(row for row in changes(Bundle.open(first), Bundle.open(sized)).rows if row.title == "Frame: scale from")
    assert (row.before, row.now) == ("sensor, sigma 0.01", "tags, a guess")


def test_threshold_says_its_direction():
    """At least, or at most."""
    gate = Gate(name="a", title="a", value=1, unit="m2", threshold=1, comparison=">=", how="")
    assert must_be(gate) == "at least 1 m²"
    assert must_be(gate.model_copy(update={"comparison": "<="})) == "at most 1 m²"

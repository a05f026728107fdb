"""What differs between two bundles."""

from __future__ import annotations

from pipeline import Bundle
from pipeline.publish.diff import difference
from pipeline.publish.publishing import publish


def test_what_differs_and_what_that_makes_of_the_version(room_bundles):
    """Files with their sizes, levels, meshes, gates."""
    bundles = {version: Bundle.open(folder) for version, folder in room_bundles.items()}
    page = difference(bundles["1.0.0"], bundles["1.0.1"])
    assert (page.change, list(page.files), page.meshes, page.frame) == ("patch", ["quality.html"], {}, {})
    before, after = page.files["quality.html"]
    assert (before and before.bytes, after and after.bytes) == (15, 12)
    mesh = difference(bundles["1.0.0"], bundles["2.0.0"])
    size = (len(bundles["1.0.0"].mesh().vertices), len(bundles["1.0.0"].mesh().triangles))
    assert mesh.meshes == {"mesh.ply": (size, size)}
    assert mesh.gaussians["full"] == (200, 200)
    failing = difference(bundles["1.0.0"], bundles["failing"])
    assert [gate and gate.passed for gate in failing.gates["scale"]] == [True, False]


def test_only_what_is_compared_comes_over(yard, room_bundles):
    """Of two versions in a registry that differ in a page: the gates."""
    for version in ("1.0.0", "1.0.1"):
        publish(Bundle.open(room_bundles[version]), yard)
    before, after = (Bundle.open(f"{yard.address}/room@{version}") for version in ("1.0.0", "1.0.1"))
    difference(before, after)
    assert {path.name for path in after.root.rglob("*") if path.is_file()} == {"bundle.json", "quality.json"}

"""What differs between two bundles, and what their versions must say of it."""

from __future__ import annotations

import pytest

from pipeline import Bundle
from pipeline.errors import BundleError
from pipeline.publish.diff import check_change, difference, needed_change
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


def test_what_changed_says_what_the_version_must_be(room_bundles):
    """A page is a patch, a splat minor, a mesh or the gravity major."""
    manifests = {version: Bundle.open(folder).manifest for version, folder in room_bundles.items()}
    first = manifests["1.0.0"]
    assert needed_change(first, manifests["1.0.1"])[0] == "patch"
    assert needed_change(first, manifests["1.1.0"]) == ("minor", "the splat changed (full)")
    assert needed_change(first, manifests["2.0.0"]) == ("major", "mesh.ply changed")
    tilted = first.model_copy(update={"frame": first.frame.model_copy(update={"gravity": (0.0, 0.1, -9.81)})})
    assert needed_change(first, tilted) == ("major", "the frame changed")


@pytest.mark.parametrize(
    ("content", "version", "least"),
    [("1.1.0", "1.0.9", "1.1.0"), ("2.0.0", "1.0.9", "2.0.0"), ("2.0.0", "1.9.0", "2.0.0")],
)
def test_a_number_that_says_less_is_refused(room_bundles, content: str, version: str, least: str):
    """The error names the least version that will do."""
    first = Bundle.open(room_bundles["1.0.0"]).manifest
    newer = Bundle.open(room_bundles[content]).manifest.model_copy(update={"version": version})
    with pytest.raises(BundleError, match=rf"build it as --version {least} or later"):
        check_change(first, newer)


def test_a_number_may_say_more(room_bundles):
    """A patch as a major version is nobody's harm."""
    first = Bundle.open(room_bundles["1.0.0"]).manifest
    assert check_change(first, first.model_copy(update={"version": "2.0.0"})) == "major"

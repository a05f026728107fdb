"""Names, ranges, and what a new version must be."""

from __future__ import annotations

import pytest

from pipeline import Bundle
from pipeline.errors import BundleError
from pipeline.publish.versions import Reference, Version, check_change, needed_change

THERE = [Version.parse(text) for text in ("0.9.0", "1.0.0", "1.2.0", "1.2.9", "1.10.0", "2.0.0")]


@pytest.mark.parametrize(
    ("text", "newest"),
    [
        ("hall", "2.0.0"),
        ("hall@latest", "2.0.0"),
        ("hall@1", "1.10.0"),
        ("hall@1.2", "1.2.9"),
        ("hall@^1.2", "1.10.0"),
        ("hall@^1.2.10", "1.10.0"),
        ("hall@^0", "0.9.0"),
        ("hall@1.2.0", "1.2.0"),
        ("hall@3", None),
        ("hall@^1.11", None),
        ("hall@1.3.0", None),
    ],
)
def test_a_range_means_the_newest_that_fits(text: str, newest: str | None):
    """Versions are compared as numbers."""
    found = Reference.parse(text).newest(THERE)
    assert (found and str(found)) == newest


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hall", ("", "hall", "latest")),
        ("registry:./yard/hall@1", ("registry:./yard", "hall", "1")),
        ("s3://bucket/yard/hall@^1.2", ("s3://bucket/yard", "hall", "^1.2")),
    ],
)
def test_a_reference_may_begin_with_an_address(text: str, parts: tuple[str, str, str]):
    """The last part is the name."""
    found = Reference.parse(text)
    assert (found.address, found.name, found.wanted) == parts
    assert found.at(Version(1, 2, 3)) == f"{parts[0]}/hall@1.2.3".lstrip("/")


@pytest.mark.parametrize(
    "text",
    ["", "Hall", "hall@", "hall@01.0.0", "hall@1.0.0.0", "hall@newest", "hall@1.0.0-rc1", "a b", "x/../Y@1", "a..b"],
)
def test_what_is_no_reference_is_told(text: str):
    """With examples of what is one."""
    with pytest.raises(BundleError, match=r"hall@\^1\.2"):
        Reference.parse(text)


@pytest.mark.parametrize("text", ["1.0", "01.0.0", "1.0.0 ", "a.b.c", "1.0.1234567"])
def test_a_version_is_three_plain_numbers(text: str):
    """No leading zeros: 01.0.0 and 1.0.0 would be two names of one number."""
    with pytest.raises(BundleError, match=r"major\.minor\.patch"):
        Version.parse(text)


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

"""Names, versions and ranges."""

from __future__ import annotations

import pytest

from pipeline.errors import BundleError
from pipeline.scenes.references import Reference, Version, may_be_published

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
    assert (found.address, found.name, found.range) == parts
    assert str(found) == f"{parts[0]}/hall@{parts[2]}".lstrip("/")


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


@pytest.mark.parametrize(
    ("text", "may_be"),
    [("hall@^1", True), ("s3://bucket/yard/hall", True), ("no/such/folder", False), ("hall*", False), ("Hall", False)],
)
def test_what_a_published_bundle_may_be_called(text: str, may_be: bool):
    """A reference, and no folder's path."""
    assert may_be_published(text) is may_be

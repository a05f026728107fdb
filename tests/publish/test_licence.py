"""What licences allow."""

from __future__ import annotations

import pytest

from pipeline.errors import BundleError
from pipeline.publish.checks import check_licence


@pytest.mark.parametrize(
    "licence", ["CC0-1.0", "CC BY 4.0", "cc-by-nc-sa-4.0", "Apache-2.0", "ODbL-1.0", "public domain"]
)
def test_open_licences_may_be_public(licence: str):
    """However they are written."""
    check_licence(licence, public=True)


@pytest.mark.parametrize(
    ("licence", "why"),
    [
        ("CC-BY-ND-4.0", "forbids to pass on what was made from it"),
        ("CC BY-NC-ND 4.0", "forbids"),
        ("proprietary", "isn't known to allow"),
        ("research only, ask Bob", "isn't known to allow"),
    ],
)
def test_what_does_not_allow_it_is_kept_from_the_public(licence: str, why: str):
    """It may lie in a registry of one's own; the refusal says why."""
    check_licence(licence, public=False)
    with pytest.raises(BundleError, match=why):
        check_licence(licence, public=True)


@pytest.mark.parametrize("licence", ["", "unknown", " Unknown ", "NOASSERTION"])
def test_without_a_licence_nothing_is_published(licence: str):
    """And the remedy says where to write it."""
    with pytest.raises(BundleError, match=r"source\.licence"):
        check_licence(licence, public=False)

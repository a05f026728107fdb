"""A gallery of the tiny yard, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.gallery.scenes import scenes
from pipeline.gallery.site import build_site
from tests.gallery.yard import make_yard


@pytest.fixture(scope="session")
def yard(tmp_path_factory, room) -> Path:
    """A folder of four bundles; don't change it."""
    return make_yard(tmp_path_factory.mktemp("yard"), room)


@pytest.fixture(scope="session")
def site(tmp_path_factory, yard) -> Path:
    """The gallery of the yard; don't change it."""
    out = tmp_path_factory.mktemp("gallery") / "site"
    build_site(scenes(str(yard)), out)
    return out

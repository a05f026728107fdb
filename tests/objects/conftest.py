"""The furnished room, scanned once."""

from __future__ import annotations

import pytest

from pipeline.geometry import Mesh
from tests.objects.furniture import scanned_room


@pytest.fixture(scope="session")
def room_mesh() -> Mesh:
    """The room as a scan that saw everything."""
    return scanned_room()

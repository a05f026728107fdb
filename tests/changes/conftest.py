"""The room of the objects' tests."""

from __future__ import annotations

from tests.objects.conftest import room_mesh

__all__ = ["room_mesh"]

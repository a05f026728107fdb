"""The registries and bundles of the tests of publishing."""

from __future__ import annotations

from tests.publish.conftest import _own_places, room_bundles, yard  # noqa: F401 - fixtures

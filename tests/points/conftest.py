"""The seven views that the depth tests use."""

from tests.depth.conftest import views

__all__ = ["views"]

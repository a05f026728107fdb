"""Parameters of the bundle stage; the plan fills them in."""

from __future__ import annotations

from typing import Any

from pipeline.parameters import Settings


class BundleParams(Settings):
    """What a bundle says of itself."""

    name: str = ""
    """The scene's name."""
    version: str = ""
    """The bundle's version, major.minor.patch."""
    build_key: str = ""
    """Hash of all that the content depends on; equal keys mean equal bundles."""
    source: str = ""
    """Where the capture comes from, for people."""
    licence: str = "unknown"
    """SPDX identifier or text; "unknown" when nobody states it."""
    description: str = ""
    """One line on the place."""
    stages: tuple[dict[str, Any], ...] = ()
    """One entry per stage: name, key, backend, reason, params."""

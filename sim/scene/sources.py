"""Which scenes are named: bundles on this machine or elsewhere, and procedural ground."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.scenes.resolver import find_scenes

TERRAIN = "terrain:"
"""What references to procedural ground begin with; a seed follows."""


def find_sources(patterns: Sequence[str]) -> list[str]:
    """Scenes as `open_scene` takes them: procedural ground as it is, others by `pipeline.scenes.resolver.find_scenes`.

    Raises:
        BundleError: When a pattern matches none, or all match too many.
    """
    procedural = [pattern for pattern in patterns if pattern.startswith(TERRAIN)]
    return procedural + find_scenes([pattern for pattern in patterns if pattern not in procedural])

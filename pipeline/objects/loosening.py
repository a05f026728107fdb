"""The bundle stage of places: the bundle, and in it the objects that are bodies of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.bundle import stage
from pipeline.bundle.params import BundleParams
from pipeline.objects.version import loosen


def run(inputs: Mapping[str, Path], params: BundleParams, out_dir: Path) -> None:
    """Read all stages' results; write the bundle, and cut its movable objects out.

    Raises:
        BundleError: When there is no such object, or none that can be cut out.
    """
    stage.run(inputs, params, out_dir)
    if params.movables:
        loosen(out_dir, params.movables)

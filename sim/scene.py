"""A published bundle as a place to simulate in."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle.bundle import Bundle, file_sha256
from pipeline.bundle.manifest import MANIFEST_FILE
from pipeline.errors import SimError
from pipeline.geometry import Mesh
from pipeline.regions.regions import Regions
from pipeline.splat.raster import PackedGaussians, pack

logger = logging.getLogger(__name__)

LEVEL = "sim"
"""Level of detail that small cameras see."""


@dataclass(frozen=True)
class SceneLock:
    """Which bundle it was, for the record of a run.

    Attributes:
        reference: name@version.
        sha256: Of its manifest, which holds the hash of every other file.
        failed_gates: Those that it was used in spite of.
    """

    reference: str
    sha256: str
    failed_gates: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SimScene:
    """What a simulation needs of a bundle; everything in its world frame [m], Z up.

    Attributes:
        lock: Which bundle it is.
        collision: The mesh that robots stand on.
        gaussians: What cameras see.
        regions: Where robots start and go.
    """

    lock: SceneLock
    collision: Mesh
    gaussians: PackedGaussians
    regions: Regions


def open_scene(reference: Path | str, *, allow_failed: bool = False) -> SimScene:
    """Load a bundle, and of it only what is simulated.

    Args:
        reference: A folder, name@version, or name for the newest version.
        allow_failed: Take it even if it failed gates.

    Raises:
        BundleError: When there is no such bundle or it is damaged.
        SimError: When it failed gates, or nobody can stand in it.
    """
    bundle = Bundle.open(reference)
    manifest = bundle.manifest
    name = f"{manifest.name}@{manifest.version}"
    if manifest.failed_gates and not allow_failed:
        raise SimError(
            "robots are trained in scenes whose gates pass",
            found=f"{name} failed {', '.join(manifest.failed_gates)}",
            remedy="build it from a better capture, or use it all the same with allow_failed (--allow-failed)",
            file=bundle.root,
        )
    regions = bundle.regions
    if not regions.spawn_poses:
        raise SimError(
            "a scene needs a floor to start on",
            found=regions.note or "no spawn pose",
            remedy="capture the floor too",
            file=bundle.root,
        )
    level = LEVEL if LEVEL in manifest.splats else "full"
    if level != LEVEL:
        logger.warning("%s has no level of detail %r: cameras show all Gaussians, which is slower", name, LEVEL)
    lock = SceneLock(name, file_sha256(bundle.root / MANIFEST_FILE), manifest.failed_gates)
    return SimScene(lock, bundle.mesh("collision"), pack(bundle.splat(level)), regions)

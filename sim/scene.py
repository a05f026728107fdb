"""A published bundle, or a scene of GaussGym, as a place to simulate in."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.bundle.bundle import HOSTILE, Bundle, file_sha256
from pipeline.bundle.gaussgym import is_gaussgym, read_gaussgym
from pipeline.bundle.manifest import MANIFEST_FILE, Manifest
from pipeline.coverage.map import CoverageMap
from pipeline.errors import BundleError, ReconstructionError, SimError
from pipeline.geometry import Gaussians, Mesh
from pipeline.publish.lock import open_locked
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions
from pipeline.regions.stage import find_regions
from pipeline.splat.level import make_level

logger = logging.getLogger(__name__)

LEVEL = "sim"
"""Level of detail that small cameras see."""
GRAVITY = (0.0, 0.0, -9.81)
"""What every engine simulates [m/s^2, world frame]."""
LARGEST_ROBOT = 100.0
"""A bundle that says its floor is for a larger one is damaged [m]."""
GRAVITY_TOLERANCE = 0.05
"""On each axis [m/s^2]: 0.3 degrees, or what gravity differs from place to place."""


@dataclass(frozen=True)
class SceneLock:
    """Which scene it was, for the record of a run.

    Attributes:
        reference: name@version; the folder's name for a scene of GaussGym.
        sha256: Of its manifest, which holds the hash of every other file; of all files for a scene of GaussGym.
        failed_gates: Those that it was used in spite of.
        gates: Whether its quality was measured, and held.
        commit: Of the hub's repository that it came from; empty where it is local.
    """

    reference: str
    sha256: str
    failed_gates: tuple[str, ...]
    gates: Literal["passed", "failed", "unknown"] = "passed"
    commit: str = ""


@dataclass(frozen=True, eq=False)
class SimScene:
    """What a simulation needs of a scene; everything in its world frame [m], Z up.

    Attributes:
        lock: Which scene it is.
        collision: The mesh that robots stand on.
        gaussians: What cameras see.
        regions: Where robots start and go.
        measured_for: Radius and height of the robot that the regions have room for [m].
    """

    lock: SceneLock
    collision: Mesh
    gaussians: Gaussians
    regions: Regions
    measured_for: tuple[float, float] = (RegionsParams.radius, RegionsParams.height)


def open_scene(reference: Path | str, *, allow_failed: bool = False) -> SimScene:
    """Load a bundle or a scene of GaussGym, and of it only what is simulated.

    Args:
        reference: As `Bundle.open` takes it: a folder, a name, or one in a registry or on the hub. What scenes.lock
            names is what that says.
        allow_failed: Take it even if it failed gates. Scenes of GaussGym have none: they are taken with a warning.

    Raises:
        BundleError: When there is no such scene or it is damaged.
        SimError: When it failed gates, has not one gravity along -Z, or nobody can stand in it.
    """
    folder = Path(reference).expanduser()
    if is_gaussgym(folder):
        return _from_gaussgym(folder)
    return _from_bundle(open_locked(reference), allow_failed=allow_failed)


def _from_bundle(bundle: Bundle, *, allow_failed: bool) -> SimScene:
    manifest = bundle.manifest
    name = f"{manifest.name}@{manifest.version}"
    if manifest.failed_gates and not allow_failed:
        raise SimError(
            "robots are trained in scenes whose gates pass",
            found=f"{name} failed {', '.join(manifest.failed_gates)}",
            remedy="build it from a better capture, or use it all the same with allow_failed (--allow-failed)",
            file=bundle.root,
        )
    if not np.allclose(manifest.frame.gravity, GRAVITY, rtol=0, atol=GRAVITY_TOLERANCE):
        raise SimError(
            f"a scene's up is z and its gravity {GRAVITY}",
            found=f"up {manifest.frame.up}, gravity {manifest.frame.gravity}",
            remedy="build the bundle anew: its mesh and its gravity are in two frames",
            file=bundle.root,
        )
    regions = bundle.regions
    _check_floor(regions, bundle.root)
    if LEVEL in manifest.splats:
        gaussians = bundle.splat(LEVEL)
    else:
        logger.warning("%s has no level of detail %r: it is made in memory, which takes a while", name, LEVEL)
        gaussians = make_level(bundle.splat("full"), regions)
    lock = SceneLock(
        name,
        file_sha256(bundle.root / MANIFEST_FILE),
        manifest.failed_gates,
        "failed" if manifest.failed_gates else "passed",
        bundle.commit,
    )
    return SimScene(lock, bundle.mesh("collision"), gaussians, regions, _measured_for(manifest))


def _measured_for(manifest: Manifest) -> tuple[float, float]:
    """Radius and height [m] of the robot that the regions stage was run for, as the manifest has it."""
    params = next((stage.params for stage in manifest.provenance.stages if stage.name == "regions"), {})
    told = (params.get("radius", RegionsParams.radius), params.get("height", RegionsParams.height))
    try:
        radius, height = map(float, told)
        if not (0 < radius < LARGEST_ROBOT and 0 < height < LARGEST_ROBOT):
            raise ValueError(f"a robot of radius {radius} m and height {height} m")
    except (TypeError, ValueError) as error:
        raise BundleError(
            "a bundle's walkable floor is for a robot of some radius and height",
            found=f"{type(error).__name__}: {error}"[:200],
            remedy=HOSTILE,
            file=f"{manifest.name}@{manifest.version}",
        ) from error
    return radius, height


def _from_gaussgym(folder: Path) -> SimScene:
    read = read_gaussgym(folder)
    name = folder.resolve().name
    logger.warning("%s is a scene of GaussGym: its quality was never measured, gates are unknown", name)
    params = RegionsParams()
    nothing_known = CoverageMap(np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32), 1.0, 1.0, np.pi / 2)
    try:
        regions = find_regions(read.collision, read.track, nothing_known, params)
    except ReconstructionError as error:
        regions = Regions.without_floor(params.cell, error.found)
    _check_floor(regions, folder)
    logger.warning("%s: its level of detail for small cameras is made in memory, which takes a while", name)
    gaussians = make_level(read.gaussians, regions)
    return SimScene(SceneLock(name, read.sha256, (), "unknown"), read.collision, gaussians, regions)


def _check_floor(regions: Regions, file: Path) -> None:
    if not regions.spawn_poses:
        raise SimError(
            "a scene needs a floor to start on",
            found=regions.note or "no spawn pose",
            remedy="capture the floor too",
            file=file,
        )

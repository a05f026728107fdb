"""A published bundle, or a scene of GaussGym, as a scene to simulate."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.constants import GRAVITY
from pipeline.errors import BundleError, ReconstructionError, SimError
from pipeline.geometry import Gaussians, Similarity
from pipeline.regions.params import RegionsParams
from pipeline.regions.regions import Regions, RobotPose
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import HOSTILE, Manifest
from pipeline.scenes.resolver import find_locked
from sim.scene.scene import SceneLock, SceneObject, SimScene
from sim.scene.sources import TERRAIN

logger = logging.getLogger(__name__)

FLIGHTS, HEIGHTS = "flights", (5, 40)
"""The kind of it that is staircases, and the lowest and highest risers that may be asked for [cm]."""
ALL = "all"
"""All objects of a bundle."""
LEVEL = "sim"
"""Level of detail of the robots' cameras."""
DOWNWARD = (0.0, 0.0, -GRAVITY)
"""Gravity of every engine [m/s^2, world frame]."""
MAX_ROBOT_SIZE = 100.0
"""Largest plausible radius or height of the robot that a bundle's floor is for [m]."""
GRAVITY_TOLERANCE = 0.05
"""Largest deviation on each axis [m/s^2]: 0.3 degrees, or the variation of gravity on Earth."""


def open_scene(reference: Path | str, *, allow_failed: bool = False, objects: Sequence[str] = ()) -> SimScene:
    """Load what a simulation needs of a bundle or a scene of GaussGym.

    Args:
        reference: A folder, a name, or a reference to a registry or the hub, as for `Bundle.open`; scenes.lock pins it.
            Or terrain:SEED, for procedural ground, terrain:SEED:KIND for one kind of it, terrain:SEED:KIND:LEVEL
            for one tile.
        allow_failed: Accept a scene that failed gates. Scenes of GaussGym have none: they are accepted with a warning.
        objects: Names of objects of the bundle that are loose bodies, or "all" for all that were cut out of it; and
            references to bundles that are objects by themselves, which are put onto a table or the floor.

    Raises:
        BundleError: When there is no such scene or it is damaged.
        SimError: When it failed gates, its gravity isn't along -Z, it has no floor, or no such object.
    """
    from pipeline.importing.gaussgym import is_gaussgym

    folder, bundle, known = Path(reference).expanduser(), None, list[str]()
    if not str(reference).startswith(TERRAIN) and not is_gaussgym(folder):
        bundle = Bundle(find_locked(reference))
        known = [one.record.name for one in bundle.objects] if not bundle.manifest.is_object else []
    own = [name for name in objects if name == ALL or name in known]
    if own and not known:
        raise _no_object(own, known, str(reference))
    guests = [_lone_object(name, known, str(reference)) for name in objects if name not in own]
    if bundle is not None:
        scene = _from_bundle(bundle, own, allow_failed=allow_failed)
    elif str(reference).startswith(TERRAIN):
        scene = _terrain_scene(str(reference))
    else:
        scene = _from_gaussgym(folder)
    return _with_guests(scene, guests, allow_failed=allow_failed) if guests else scene


def _lone_object(name: str, known: Sequence[str], scene: str) -> Bundle:
    """The bundle of an object by itself."""
    try:
        bundle = Bundle(find_locked(name))
    except BundleError as error:
        if not set(name) & {"/", "@"}:  # rather a name in the scene that isn't there
            raise _no_object([name], known, scene) from error
        raise
    manifest = bundle.manifest
    if not manifest.is_object:
        raise SimError(
            "an object from elsewhere is a bundle of one object",
            found=f"{manifest.reference}, which is a place",
            remedy="`splatyard build CAPTURE --object` makes one of a capture that shows one thing",
            file=bundle.root,
        )
    return bundle


def _with_guests(scene: SimScene, guests: Sequence[Bundle], *, allow_failed: bool) -> SimScene:
    """A scene with objects from other bundles, too."""
    from sim.scene.loose import hulls_at, rigid_body
    from sim.scene.placing import find_places

    records, objects = [bundle.objects[0] for bundle in guests], list[SceneObject]()
    bodies = [rigid_body(one) for one in records]
    around = scene.collision
    for one in scene.objects:  # what is loose stands somewhere, too
        around = around.joined(hulls_at(one))
    places = find_places(around, scene.regions, bodies, scene.lock.reference)
    digest = hashlib.sha256(scene.lock.sha256.encode())
    for bundle, one, body, found in zip(guests, records, bodies, places, strict=True):
        _check_gates(bundle, allow_failed=allow_failed)
        bundle.path(one.splat_file(LEVEL))  # fetched now, for any process
        splat = partial(_object_splat, bundle.root, one.record.name, LEVEL)
        objects.append(SceneObject(body, found[0], splat, tuple(found)))
        digest.update(bundle.files.sha256.encode())
    lock = replace(scene.lock, sha256=digest.hexdigest())
    return replace(scene, lock=lock, objects=(*scene.objects, *objects))


def _check_gates(bundle: Bundle, *, allow_failed: bool) -> None:
    manifest = bundle.manifest
    if manifest.failed_gates and not allow_failed:
        raise SimError(
            "robots are trained in scenes whose gates pass",
            found=f"{manifest.reference} failed {', '.join(manifest.failed_gates)}",
            remedy="build it from a better capture, or accept it with allow_failed (--allow-failed)",
            file=bundle.root,
        )


def _from_bundle(bundle: Bundle, objects: Sequence[str], *, allow_failed: bool) -> SimScene:
    manifest, name = bundle.manifest, bundle.manifest.reference
    if manifest.is_object:
        raise SimError(
            "robots are in a place",
            found=f"{name}, which is an object by itself",
            remedy=f"give a scene, and the object with --objects {name}",
            file=bundle.root,
        )
    _check_gates(bundle, allow_failed=allow_failed)
    if not np.allclose(manifest.frame.gravity, DOWNWARD, rtol=0, atol=GRAVITY_TOLERANCE):
        raise SimError(
            f"a scene's up is z and its gravity {DOWNWARD}",
            found=f"up {manifest.frame.up}, gravity {manifest.frame.gravity}",
            remedy="build the bundle again: its mesh and its gravity are in different frames",
            file=bundle.root,
        )
    regions = bundle.regions
    _check_floor(regions, bundle.root)
    lock = SceneLock(
        name,
        bundle.files.sha256,
        manifest.failed_gates,
        "failed" if manifest.failed_gates else "passed",
        bundle.commit,
    )
    bundle.path(manifest.splats[LEVEL if LEVEL in manifest.splats else "full"].file)  # fetched now, for any process
    if objects:
        return _with_objects(bundle, lock, objects)
    return SimScene(lock, bundle.mesh("collision"), partial(_splat, bundle.root), regions, _measured_for(manifest))


def _with_objects(bundle: Bundle, lock: SceneLock, names: Sequence[str]) -> SimScene:
    """A scene with objects as loose bodies, or on their joints; the bundle's others stand fixed."""
    from pipeline.scenes.objects import REST
    from sim.scene.loose import rigid_body

    known = {one.record.name: one for one in bundle.objects}
    loose = [name for name in known if name in names or ALL in names]
    fixed = [name for name in known if name not in loose]
    collision = bundle.mesh("rest_collision")
    for name in fixed:
        collision = collision.joined(known[name].mesh().transformed(Similarity.from_pose(known[name].world_from_body)))
    level = LEVEL if REST[LEVEL] in bundle.manifest.splats else "full"
    bundle.path(bundle.manifest.splats[REST[level]].file)  # fetched now, for any process
    objects = list[SceneObject]()
    for name, one in known.items():
        bundle.path(one.splat_file(level))
        if name in loose:
            objects.append(
                SceneObject(rigid_body(one), one.world_from_body, partial(_object_splat, bundle.root, name, level))
            )
    return SimScene(
        lock,
        collision,
        partial(_rest_splat, bundle.root, fixed, level),
        bundle.regions,
        _measured_for(bundle.manifest),
        tuple(objects),
    )


def _object_splat(folder: Path, name: str, level: str) -> Gaussians:
    """The Gaussians of an object of the bundle in a folder, in its own frame."""
    return Bundle.open(folder).object(name).splat(level)


def _rest_splat(folder: Path, fixed: Sequence[str], level: str) -> Gaussians:
    """The splat of the bundle in a folder, with the fixed ones of its objects only."""
    from pipeline.scenes.objects import REST

    bundle = Bundle.open(folder)
    stays = [one for one in bundle.objects if one.record.name in fixed]
    back = [one.splat(level).transformed(Similarity.from_pose(one.world_from_body)) for one in stays]
    return Gaussians.concatenate([bundle.splat(REST[level]), *back])


def _no_object(names: Sequence[str], known: Sequence[str], reference: str) -> SimError:
    return SimError(
        "objects are cut out of a bundle before they are loose",
        found=f"{', '.join(names)} of {reference}, which has {', '.join(known) or 'none'}",
        remedy="`splatyard bundle objects BUNDLE --all-movable` writes a version with them; an object by itself is "
        "given by its bundle, such as mug@1.0.0",
    )


def _splat(folder: Path) -> Gaussians:
    """The splat for small cameras of the bundle in a folder."""
    bundle = Bundle.open(folder)
    if LEVEL in bundle.manifest.splats:
        return bundle.splat(LEVEL)
    return _small_splat(bundle.manifest.reference, bundle.splat("full"), bundle.regions)


def _small_splat(name: str, gaussians: Gaussians, regions: Regions) -> Gaussians:
    from pipeline.importing.sim_lod import sim_lod_from_renders

    logger.warning("%s has no level of detail %r: it is made in memory, which takes a while", name, LEVEL)
    return sim_lod_from_renders(gaussians, regions)


def _measured_for(manifest: Manifest) -> tuple[float, float]:
    """Radius and height [m] of the robot that the regions stage was run for, as the manifest has it."""
    params = next((stage.params for stage in manifest.provenance.stages if stage.name == "regions"), {})
    size = (params.get("radius", RegionsParams().radius), params.get("height", RegionsParams().height))
    try:
        radius, height = map(float, size)
        if not (0 < radius < MAX_ROBOT_SIZE and 0 < height < MAX_ROBOT_SIZE):
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
    from pipeline.coverage.map import CoverageMap
    from pipeline.importing.gaussgym import read_gaussgym
    from pipeline.regions.stage import find_regions

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
    splat = partial(_small_splat, name, read.gaussians, regions)
    return SimScene(SceneLock(name, read.sha256, (), "unknown"), read.collision, splat, regions)


def _check_floor(regions: Regions, file: Path) -> None:
    if not regions.spawn_poses:
        raise SimError(
            "a scene needs a floor to start on",
            found=regions.note or "no spawn pose",
            remedy="capture the floor too",
            file=file,
        )


def _terrain_scene(reference: str) -> SimScene:
    from sim.scene.flights import make_flights
    from sim.scene.terrain import KINDS, LEVELS, TILE, make_terrain  # brings numba, of no use to other scenes
    from sim.scene.terrain_splat import splat_of

    seed, kind, level, *more = [*reference.removeprefix(TERRAIN).split(":"), "", ""]
    low, high = HEIGHTS if kind == FLIGHTS else (0, LEVELS - 1)
    between = re.fullmatch(r"\d{1,2}(\.\d{1,3})?", level) and low <= float(level) <= high
    numbers = seed.isdecimal() and len(seed) <= 9 and (not level or between)
    if not numbers or (kind and kind not in (*KINDS, FLIGHTS)) or (level and not kind) or any(more):
        raise SimError(
            "procedural ground has a seed, maybe one kind, and maybe one level of it",
            found=repr(reference),
            remedy=f"such as terrain:0, terrain:0:{KINDS[1]} or terrain:0:{KINDS[1]}:7.5; levels are 0 to "
            f"{LEVELS - 1}, kinds {', '.join(KINDS)}; or staircases, terrain:0:{FLIGHTS}, terrain:0:{FLIGHTS}:16 with "
            f"risers of {HEIGHTS[0]} to {HEIGHTS[1]} cm",
        )
    if kind == FLIGHTS:
        terrain = make_flights(int(seed), float(level) / 100 if level else None)
    else:
        terrain = make_terrain(int(seed), (kind,) if kind else KINDS, float(level) if level else None)
    content = [terrain.height, *(boxes for levels in terrain.boxes for boxes in levels)]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in content)).hexdigest()
    cell = 0.1
    shape = (round(terrain.levels * TILE / cell), round(len(terrain.kinds) * TILE / cell))
    centres = np.stack(np.meshgrid(*((np.arange(n) + 0.5) * cell for n in shape), indexing="ij"), -1)
    inside = np.zeros(shape, bool)
    inside[1:-1, 1:-1] = True
    start = RobotPose((TILE / 2, TILE / 2, 0.0), 0.0, 1.0)
    regions = Regions((0.0, 0.0), cell, terrain.heights(centres), inside, inside, ~inside, 0.0, (start,), ())
    size = (MAX_ROBOT_SIZE, MAX_ROBOT_SIZE)
    return SimScene(
        SceneLock(reference, digest, ()), terrain.mesh(), partial(splat_of, terrain), regions, size, terrain=terrain
    )

"""Objects cut out of a bundle: a new version of it, with each of them as a body, and the scene without them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.bundle.params import Movables, version_for
from pipeline.bundle.quality_page import PAGE_FILE as QUALITY_PAGE
from pipeline.bundle.stage import seal
from pipeline.check.quality import QUALITY_FILE, Quality
from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Mesh, Similarity
from pipeline.gpu_backends.catalog import OURS
from pipeline.io.results import lock_file, locked, partial_result
from pipeline.objects.cutting import (
    FRICTION,
    Behind,
    Shown,
    Solid,
    cut_together,
    own_surface,
    put_back_gate,
    settling_gates,
)
from pipeline.objects.listing import DENSITY, SceneObject, objects_of, write_page
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.files import link_or_copy
from pipeline.scenes.manifest import MANIFEST_FILE, StageRecord
from pipeline.scenes.objects import (
    FOLDER,
    MESH_FILE,
    PAGE_FILE,
    RECORD_FILE,
    REST,
    REST_COLLISION,
    SPLAT_FILES,
    ObjectRecord,
)
from pipeline.scenes.references import Version
from pipeline.splat.ply import save_splat
from pipeline.types import F64

MADE_HERE = {
    *(MANIFEST_FILE, QUALITY_FILE, QUALITY_PAGE, PAGE_FILE, REST_COLLISION),
    *(f"{level}.ply" for level in REST.values()),
}
"""Files that are never the parent's."""
CUT_VERSION = 5
"""Changes when the same objects of the same bundle would come out otherwise."""
ALL = "all"
"""Stands for all objects that could be moved."""
NEAR = 0.1
"""What a point is meant for is no farther from it [m]."""


def chosen_objects(
    objects: Sequence[SceneObject],
    names: Sequence[str] = (),
    near: Sequence[tuple[float, float, float]] = (),
    *,
    all_movable: bool = False,
) -> list[SceneObject]:
    """Objects by name, by points (3,) on or in them [m], or all that could be moved; with what stands on them.

    Raises:
        BundleError: When there is no such object, or it is part of the building.
    """
    chosen = [one for one in objects if all_movable and not one.fixed]
    listed = ", ".join(one.name for one in objects if not one.fixed) or "none"
    for name in names:
        found = [one for one in objects if one.name == name]
        if not found:
            raise BundleError(
                "an object has a name from the list", found=repr(name), remedy=f"could be moved: {listed}"
            )
        chosen += found
    chosen += [_nearest(objects, point, listed) for point in near]
    for one in chosen:
        if one.fixed:
            rule = "what is cut out could be moved"
            raise BundleError(rule, found=f"{one.name}: {one.fixed}", remedy=f"could be moved: {listed}")
    taken = {one.name for one in chosen}
    for one in objects:  # the lowest first
        if one.on in taken:
            taken.add(one.name)
    result = [one for one in objects if one.name in taken]
    if not result:
        raise BundleError("something is cut out", found="nothing here could be moved", remedy="scan what stands free")
    return result


def _nearest(objects: Sequence[SceneObject], point: tuple[float, float, float], listed: str) -> SceneObject:
    distances = [one.body.distance(np.array(point)) for one in objects]
    if not distances or min(distances) > NEAR:
        raise BundleError(
            f"a point lies on an object, or within {NEAR} m of one",
            found=f"{point}, {min(distances, default=np.inf):.2f} m from the nearest",
            remedy=f"could be moved: {listed}",
        )
    return objects[int(np.argmin(distances))]


def cut_out(
    bundle: Bundle,
    objects: Sequence[SceneObject],
    out: Path,
    version: str | None = None,
    *,
    proposed: bool = False,
    behind: Behind | None = None,
) -> Path:
    """Write the version of a bundle in which objects are bodies; returns its folder, whole or not at all.

    `objects` are some of `objects_of(bundle)`, and whatever stands on them, or what moved until a second scan, which
    saw what is `behind`. The version is found again when the same objects were cut out before. Of `proposed` ones,
    those that wouldn't stay where they stand are left in place.

    Raises:
        BundleError: When objects were cut out of the bundle before, or none would stay.
        CardError: As `version_for`.
        MachineError: When the folder can't be written.
    """
    manifest = bundle.manifest
    if any(name.startswith(f"{FOLDER}/") for name in manifest.files):
        raise BundleError(
            "objects are cut out of a bundle that is whole",
            found=f"{manifest.reference} has objects",
            remedy=f"cut all of them out of {', '.join(manifest.parents) or 'the version before'} at once",
        )
    made = cut_together(bundle, objects, behind, proposed=True) if proposed else None  # which tells what stays
    names = sorted(one.name for one in (made[0].objects if made else objects))
    content = json.dumps([CUT_VERSION, bundle.files.sha256, names, *([behind.sha256] if behind else [])])
    key = hashlib.sha256(content.encode()).hexdigest()[:20]
    scene_folder = out.resolve() / manifest.name
    found, least = version_for(scene_folder, key, version), Version.parse(manifest.version).next("minor")
    if (scene_folder / found).is_dir():  # of this key
        return scene_folder / found
    solid, shown = made or cut_together(bundle, objects, behind)
    folder = scene_folder / (found if version else str(max(Version.parse(found), least)))
    stage = StageRecord(
        name="objects", key=key, backend="own", reason="asked for", params={"names": tuple(names)}, licence=OURS.text
    )
    stages = (*manifest.provenance.stages, stage)
    provenance = manifest.provenance.model_copy(update={"build_key": key, "stages": stages})
    with locked(lock_file(folder), f"bundle {manifest.name}"), partial_result(folder) as partial:
        for name in manifest.files.keys() - MADE_HERE:  # nothing is written through a link to the other version
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(bundle.path(name), target)
        _write(bundle, solid, shown, partial, version=folder.name, parents=(manifest.reference,), provenance=provenance)
    return folder


def loosen(folder: Path, movables: Movables) -> None:
    """Cut objects out of a bundle that nobody else sees yet, in its folder.

    Raises:
        BundleError: As `chosen_objects` and `cut_out`.
    """
    bundle = Bundle.open(folder)
    points = [one for one in movables if not isinstance(one, str)]
    names, proposed = [one for one in movables if isinstance(one, str) and one != ALL], ALL in movables
    chosen = chosen_objects(objects_of(bundle), names, points, all_movable=proposed)
    solid, shown = cut_together(bundle, chosen, proposed=proposed)
    (folder / MANIFEST_FILE).unlink()  # which would be listed by the new one
    _write(bundle, solid, shown, folder)


def _write(bundle: Bundle, solid: Solid, shown: Shown, folder: Path, **changes: object) -> None:
    """Write what was cut out into a folder that has the bundle's other files, with changes of its manifest."""
    manifest = bundle.manifest
    levels = dict(manifest.splats)
    for level, splat in shown.rest.items():
        save_splat(splat, folder / f"{REST[level]}.ply")
        old = levels[level]
        levels[REST[level]] = old.model_copy(update={"file": f"{REST[level]}.ply", "gaussians": len(splat)})
    solid.collision.save(folder / REST_COLLISION)
    for one, hulls in zip(solid.objects, solid.hulls, strict=True):
        body_from_world = Similarity.from_pose(one.body.world_from_body.inverse())
        own = {level: splats[one.name].transformed(body_from_world) for level, splats in shown.own.items()}
        write_object(folder / FOLDER / one.name, one, own_surface(one), own, hulls)
    gates = (put_back_gate(shown.put_back), *settling_gates(solid.objects, solid.moved, solid.turned))
    quality = Quality(gates=(*bundle.quality.gates, *gates), metrics=bundle.quality.metrics)
    quality.save(folder)
    write_page(bundle, list(solid.objects), folder / PAGE_FILE)
    made = manifest.model_copy(
        update={
            "splats": levels,
            "quality_passed": quality.passed,
            "failed_gates": quality.failed,
            **changes,
        }
    )
    seal(folder, made)


def write_object(
    folder: Path, one: SceneObject, mesh: Mesh, splats: Mapping[str, Gaussians], hulls: Sequence[F64]
) -> None:
    """Write objects/<name>/ of a bundle; surface, Gaussians by level of detail and hulls (V, 3) in its frame [m]."""
    body = one.body
    folder.mkdir(parents=True)
    mesh.save(folder / MESH_FILE)
    for level, splat in splats.items():
        save_splat(splat, folder / SPLAT_FILES[level])
    record = ObjectRecord(
        name=one.name,
        kind=body.kind,
        on=one.on,
        seen=round(one.seen, 3),
        world_from_body=body.world_from_body.matrix.tolist(),
        size=tuple(body.size.tolist()),
        hulls=tuple(tuple(map(tuple, np.round(hull, 5).tolist())) for hull in hulls),
        mass=round(one.mass, 4),
        mass_from=f"guessed: {DENSITY:.0f} kg/m^3 of its closed surface's volume",
        friction=FRICTION,
        friction_from="guessed",
        antialiasing="mip" if splats["full"].antialiased else "classic",
        gaussians={level: len(splat) for level, splat in splats.items()},
        joint=one.joint,
    )
    (folder / RECORD_FILE).write_text(record.model_dump_json(indent=1))

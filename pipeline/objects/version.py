"""Objects cut out of a bundle: a new version of it, with each of them as a body, and the scene without them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.bundle.params import Movables, version_for
from pipeline.check.quality import QUALITY_FILE, Gate, Quality
from pipeline.check.settle import settled
from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Mesh, Similarity, angle_deg
from pipeline.geometry.rays import RayCaster
from pipeline.io.results import lock_file, locked, partial_result
from pipeline.objects.close import Body, Views, winding
from pipeline.objects.cut import cut_mesh, cut_splat
from pipeline.objects.holes import Hole, holes_of, sheets_of
from pipeline.objects.hulls import hulls_of
from pipeline.objects.listing import SceneObject, best_views, objects_of, pinhole, views_of, window_of, write_page
from pipeline.objects.refit import refitted
from pipeline.progress import track
from pipeline.raster import pack, render_batch
from pipeline.raster.composite import draw_over
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.scenes.files import link_or_copy
from pipeline.scenes.manifest import MANIFEST_FILE, Manifest, StageRecord, list_files, manifest_text
from pipeline.scenes.objects import FOLDER, MESH_FILE, RECORD_FILE, REST, REST_COLLISION, SPLAT_FILES, ObjectRecord
from pipeline.scenes.references import Version
from pipeline.splat.ply import save_splat
from pipeline.types import F64, Mask

logger = logging.getLogger(__name__)

PAGE_FILE = "objects.html"
MADE_HERE = {MANIFEST_FILE, QUALITY_FILE, PAGE_FILE, REST_COLLISION, *(f"{level}.ply" for level in REST.values())}
"""Files that are never the parent's."""
CUT_VERSION = 4
"""Changes when the same objects of the same bundle would come out otherwise."""
ALL = "all"
"""Stands for all objects that could be moved."""
DENSITY, FRICTION = 100.0, 0.6
"""Guesses: mass of a parcel or a piece of furniture by the volume of its closed surface [kg/m^3], and friction of
cardboard or wood on a floor."""
DISCS = {"full": 0.015, "sim": 0.03}
"""Standard deviation of the discs on faces that nobody saw, by level of detail [m]."""
NEAR = 0.1
"""What a point is meant for is no farther from it [m]."""
AROUND, LOST = 1.0, 0.015
"""Around what a joint holds, as far as the first [m], the collision mesh lacks what is as far away as the second."""
ON_IT = 0.015
"""What closes an object is no farther from its body [m]: that was closed anew."""
VIEWS, LONGEST = 3, 320
"""Views of each object that it is put back in, and their longest side [px]."""
FITTED = 12
"""Further views of each that its colours are fitted in."""
DIFFERENCE, MOVED, TURNED = 1.0, 0.003, 1.0
"""Thresholds of the gates: mean grey levels, [m], [degrees]."""


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
    solid, shown = _cut(bundle, objects, behind, proposed=proposed)
    names = sorted(one.name for one in solid.objects)
    content = json.dumps([CUT_VERSION, bundle.files.sha256, names, *([behind.sha256] if behind else [])])
    key = hashlib.sha256(content.encode()).hexdigest()[:20]
    scene_folder = out.resolve() / manifest.name
    found, least = version_for(scene_folder, key, version), Version.parse(manifest.version).next("minor")
    if (scene_folder / found).is_dir():  # of this key
        return scene_folder / found
    folder = scene_folder / (found if version else str(max(Version.parse(found), least)))
    stage = StageRecord(name="objects", key=key, backend="own", reason="asked for", params={"names": tuple(names)})
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
    solid, shown = _cut(bundle, chosen, proposed=proposed)
    (folder / MANIFEST_FILE).unlink()  # which would be listed by the new one
    _write(bundle, solid, shown, folder)


def _without(objects: Sequence[SceneObject], names: Sequence[str]) -> list[SceneObject]:
    """Objects, the lowest first, without these and what they stand on."""
    gone = set(names)
    for one in reversed(objects):
        if one.name in gone:
            gone.add(one.on)
    left = [one for one in objects if one.name not in gone]
    if not left:
        raise BundleError(
            "what is cut out stays where it stands, and looks as before",
            found=f"none of {', '.join(one.name for one in objects)} would",
            remedy="cut one by its name, and look at it",
        )
    return left


@dataclass(frozen=True, eq=False)
class Behind:
    """What a second scan saw of what the objects hide, in the bundle's world.

    Attributes:
        mesh: Its surface.
        splat: Its Gaussians, by level of detail.
        sha256: Of the second scan's bundle.
    """

    mesh: Mesh
    splat: Callable[[str], Gaussians]
    sha256: str


@dataclass(frozen=True, eq=False)
class _Hidden:
    """What an object hid of the place without it and all above it, whose mesh is the scene.

    Attributes:
        holes: What is filled with more of the same.
        covered: What a second scan saw of it.
    """

    scene: Mesh
    holes: Sequence[Hole]
    covered: Sequence[Hole]


@dataclass(frozen=True, eq=False)
class _Solid:
    """Objects cut out of the collision mesh.

    Attributes:
        objects: The lowest first.
        hidden: What each hid, by name, from the top.
        collision: What is left of the collision mesh.
        hulls: Convex pieces of each object, in its frame.
        moved: How far each moves by itself [m].
        turned: How far each turns by itself [degrees].
    """

    objects: Sequence[SceneObject]
    hidden: Mapping[str, _Hidden]
    collision: Mesh
    hulls: Sequence[tuple[F64, ...]]
    moved: Sequence[float]
    turned: Sequence[float]


@dataclass(frozen=True, eq=False)
class _Shown:
    """Objects cut out of the splat.

    Attributes:
        own: The objects' Gaussians by level of detail and name, in the world frame.
        rest: What is left, by level of detail.
        put_back: By name, how much images differ in which it is drawn over the rest [grey levels]: `image` as a whole,
            `around_it` where it is; without those that no view shows whole.
    """

    own: dict[str, dict[str, Gaussians]]
    rest: dict[str, Gaussians]
    put_back: dict[str, dict[str, float]]


def _cut(
    bundle: Bundle, objects: Sequence[SceneObject], behind: Behind | None = None, *, proposed: bool = False
) -> tuple[_Solid, _Shown]:
    """Cut objects out; of `proposed` ones, those that wouldn't stay where they stand, or look otherwise, stay fixed."""
    mesh = bundle.mesh("open")
    views = views_of(bundle, mesh)
    while True:
        solid = _solid(bundle, mesh, objects, views, behind)
        pairs = zip(objects, solid.moved, solid.turned, strict=True)
        unfit = [one.name for one, moved, turned in pairs if moved > MOVED or turned > TURNED]
        if not (unfit and proposed):
            shown = _shown(bundle, mesh, solid, views, behind)
            unlike = {name: off["image"] for name, off in shown.put_back.items() if off["image"] > DIFFERENCE}
            if not (unlike and proposed):
                return solid, shown
            unfit = sorted(unlike, key=lambda name: -unlike[name])[:1]  # others may only stand in its images
        logger.info("left in place, since they wouldn't stay there or look as before: %s", ", ".join(unfit))
        objects = _without(objects, unfit)


def _solid(bundle: Bundle, mesh: Mesh, objects: Sequence[SceneObject], views: Views, behind: Behind | None) -> _Solid:
    closing, collision, hidden = bundle.mesh("closing"), bundle.mesh("collision"), dict[str, _Hidden]()
    sheets, keep = sheets_of(mesh, bundle.regions.floor_height), np.ones(len(mesh.triangles), bool)
    for one in track(sorted(objects, key=lambda one: -one.standing.support), "objects cut out"):  # from the top
        keep &= ~one.standing.triangles
        scene = mesh.with_faces(keep)
        if behind:
            scene = scene.joined(behind.mesh)
        holes, covered = holes_of(one.body, scene, sheets, views), list[Hole]()
        if behind:
            parts = [hole.parted(behind.mesh) for hole in holes]
            covered, holes = [seen for seen, _ in parts], [left for _, left in parts if len(left.cells)]
        hidden[one.name] = _Hidden(scene, holes, covered)
        closing = closing.with_faces(~_lies_on(closing, one.body))
        collision = cut_mesh(collision, one.body, scene.joined(closing), holes)
    if behind:
        collision = _patched(collision, mesh.with_faces(keep).joined(behind.mesh), objects)
    before = [one.body.world_from_body for one in objects]
    hulls = [hulls_of(_local(one)) for one in objects]
    loose = [number for number, one in enumerate(objects) if not one.joint]
    after = list(before)  # a joint holds the others
    fallen = settled(collision, [(hulls[number], before[number], FRICTION) for number in loose])
    for number, pose in zip(loose, fallen, strict=True):
        after[number] = pose
    moved = [float(np.linalg.norm(b.translation - a.translation)) for a, b in zip(before, after, strict=True)]
    turned = [float(angle_deg(a.rotation, b.rotation)) for a, b in zip(before, after, strict=True)]
    return _Solid(objects, hidden, collision, hulls, moved, turned)


def _shown(bundle: Bundle, mesh: Mesh, solid: _Solid, views: Views, behind: Behind | None) -> _Shown:
    caster, bodies = RayCaster(mesh), {one.name: one.body for one in solid.objects}
    best = {name: best_views(bundle.cameras, body, caster) for name, body in bodies.items()}
    asked = [view for found in best.values() for view in found[VIEWS : VIEWS + FITTED]]  # others than the gate's
    fit_views = [(pinhole(view.camera, LONGEST), view.world_from_camera) for view in asked]
    own, left = dict[str, dict[str, Gaussians]](), dict[str, Gaussians]()
    for level in (level for level in SPLAT_FILES if level in bundle.manifest.splats):
        whole, parts = bundle.splat(level), dict[str, Gaussians]()
        rest = whole
        for name, hidden in track(solid.hidden.items(), f"{level} splat cut out"):
            for covered in hidden.covered:
                rest = covered.cleared(rest)
            done = cut_splat(rest, bodies[name], hidden.scene, hidden.holes, views, DISCS[level])
            parts[name], rest = done.own, done.rest
        if behind:
            rest = Gaussians.concatenate([rest, behind.splat(level)])
        own[level], left[level] = refitted(parts, rest, whole, fit_views), rest
    return _Shown(own, left, _put_back(bundle, bodies, best, own["full"], left["full"]))


def _lies_on(mesh: Mesh, body: Body) -> Mask:
    """Which triangles (F,) of a mesh lie on the surface of a body."""
    corners = mesh.corners().reshape(-1, 3).astype(np.float64)
    return np.asarray(RayCaster(body.mesh).distances(corners).reshape(-1, 3).max(1) < ON_IT)


def _patched(collision: Mesh, scene: Mesh, objects: Sequence[SceneObject]) -> Mesh:
    """A collision mesh with what it lacks of the scene around things on joints: large triangles of walls went along."""
    middles = scene.corners().mean(1)
    near = {one.name: RayCaster(one.body.mesh).distances(middles) for one in objects}
    lost = RayCaster(collision).distances(middles) > LOST
    lost &= np.any([near[one.name] < AROUND for one in objects if one.joint] or [np.zeros_like(lost)], axis=0)
    for one in objects:
        if not one.joint:  # nothing is to be in its way
            lost &= (near[one.name] > LOST) & (winding(one.body.mesh.corners().astype(np.float64), middles) < 0.5)
    return collision.joined(scene.with_faces(lost))


def _local(one: SceneObject) -> Mesh:
    """An object's closed surface in its own frame."""
    return one.body.mesh.transformed(Similarity.from_pose(one.body.world_from_body.inverse()))


def _write(bundle: Bundle, solid: _Solid, shown: _Shown, folder: Path, **changes: object) -> None:
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
        write_object(folder / FOLDER / one.name, one, _local(one), own, hulls)
    gates = (_put_back_gate(shown.put_back), *settling_gates(solid.objects, solid.moved, solid.turned))
    quality = Quality(gates=(*bundle.quality.gates, *gates), metrics=bundle.quality.metrics)
    quality.save(folder)
    write_page(bundle, list(solid.objects), folder / PAGE_FILE)
    made = manifest.model_copy(
        update={
            "splats": levels,
            "files": list_files(folder),
            "quality_passed": quality.passed,
            "failed_gates": quality.failed,
            **changes,
        }
    )
    (folder / MANIFEST_FILE).write_text(manifest_text(Manifest.model_validate(made.model_dump())))


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
        mass=round(DENSITY * body.volume, 4),
        mass_from=f"guessed: {DENSITY:.0f} kg/m^3 of its closed surface's volume",
        friction=FRICTION,
        friction_from="guessed",
        antialiasing="mip" if splats["full"].antialiased else "classic",
        gaussians={level: len(splat) for level, splat in splats.items()},
        joint=one.joint,
    )
    (folder / RECORD_FILE).write_text(record.model_dump_json(indent=1))


def _put_back(
    bundle: Bundle,
    bodies: Mapping[str, Body],
    best: Mapping[str, Sequence[BundleCamera]],
    own: Mapping[str, Gaussians],
    rest: Gaussians,
) -> dict[str, dict[str, float]]:
    """How images of objects drawn over the rest, as a simulation does, differ from those of the whole; see `_Cut`.

    They are the first views of each that show it `best`.
    """
    result = dict[str, dict[str, float]]()
    whole, packed_rest, things = pack(bundle.splat()), pack(rest), [pack(splat) for splat in own.values()]
    for name, views in best.items():
        images, windows = list[float](), list[float]()
        for view in views[:VIEWS]:
            camera, pose = pinhole(view.camera, LONGEST), [view.world_from_camera]
            true, drawn = render_batch(whole, camera, pose).rgb, render_batch(packed_rest, camera, pose)
            assert drawn.median_depth is not None  # a batch always has it
            for packed in things:
                thing = render_batch(packed, camera, pose)
                draw_over(drawn.rgb, drawn.median_depth, np.zeros(1, np.int64), thing.rgb, thing.alpha, thing.depth)
            off = 255 * np.abs(np.clip(drawn.rgb, 0, 1) - np.clip(true, 0, 1))[0]
            images.append(float(off.mean()))
            windows.append(float(off[window_of(bodies[name], camera, view.world_from_camera)].mean()))
        if images:
            result[name] = {
                "around_it": round(float(np.mean(windows)), 3),
                "image": round(float(np.mean(images)), 3),
            }
    return result


def _put_back_gate(put_back: Mapping[str, Mapping[str, float]]) -> Gate:
    worst = max((off["image"] for off in put_back.values()), default=None)
    return Gate(
        name="objects_put_back",
        title="Objects put back look as before (largest mean difference)",
        value=worst,
        unit="grey levels",
        threshold=DIFFERENCE,
        comparison="<=",
        applies=worst is not None,
        how=f"whole images of up to {VIEWS} views that show each best",
        detail=dict(put_back),
    )


def settling_gates(
    objects: Sequence[SceneObject],
    moved: Sequence[float],
    turned: Sequence[float],
    how: str = "3 s in PhysX, all that no joint holds, in the place without them",
) -> tuple[Gate, Gate]:
    """How far objects move [m] and turn [degrees] by themselves."""

    def gate(name: str, title: str, values: Sequence[float], unit: str, threshold: float) -> Gate:
        detail: dict[str, object] = {one.name: round(value, 5) for one, value in zip(objects, values, strict=True)}
        value = round(max(values), 5)
        return Gate(
            name=name, title=title, value=value, unit=unit, threshold=threshold, comparison="<=", how=how, detail=detail
        )

    return (
        gate("objects_move", "Objects stay where they stand (largest movement)", moved, "m", MOVED),
        gate("objects_tilt", "Objects stay as they stand (largest turn)", turned, "degrees", TURNED),
    )

"""All objects of a bundle cut out of its meshes and splats, so that each stays where it stands and looks as before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.check.quality import Gate
from pipeline.check.settle import settled
from pipeline.errors import BundleError
from pipeline.geometry import Gaussians, Mesh, Similarity, angle_deg
from pipeline.geometry.rays import RayCaster
from pipeline.geometry.winding import winding
from pipeline.objects.close import Body
from pipeline.objects.cut import cut_mesh, cut_splat
from pipeline.objects.holes import Hole, holes_of, sheets_of
from pipeline.objects.hulls import hulls_of
from pipeline.objects.listing import SceneObject, best_views, pinhole, views_of, window_of
from pipeline.objects.refit import refitted
from pipeline.objects.views import Views
from pipeline.progress import track
from pipeline.raster import pack, render_batch
from pipeline.raster.composite import draw_over
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.scenes.objects import SPLAT_FILES
from pipeline.types import F64, Mask

logger = logging.getLogger(__name__)

FRICTION = 0.6
"""Guess of the friction of cardboard or wood on a floor."""
DISCS = {"full": 0.015, "sim": 0.03}
"""Standard deviation of the discs on faces that nobody saw, by level of detail [m]."""
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
class Solid:
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
class Shown:
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


def cut_together(
    bundle: Bundle, objects: Sequence[SceneObject], behind: Behind | None = None, *, proposed: bool = False
) -> tuple[Solid, Shown]:
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


def _solid(bundle: Bundle, mesh: Mesh, objects: Sequence[SceneObject], views: Views, behind: Behind | None) -> Solid:
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
    hulls = [hulls_of(own_surface(one)) for one in objects]
    loose = [number for number, one in enumerate(objects) if not one.joint]
    after = list(before)  # a joint holds the others
    fallen = settled(collision, [(hulls[number], before[number], FRICTION) for number in loose])
    for number, pose in zip(loose, fallen, strict=True):
        after[number] = pose
    moved = [float(np.linalg.norm(b.translation - a.translation)) for a, b in zip(before, after, strict=True)]
    turned = [float(angle_deg(a.rotation, b.rotation)) for a, b in zip(before, after, strict=True)]
    return Solid(objects, hidden, collision, hulls, moved, turned)


def _shown(bundle: Bundle, mesh: Mesh, solid: Solid, views: Views, behind: Behind | None) -> Shown:
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
    return Shown(own, left, _put_back(bundle, bodies, best, own["full"], left["full"]))


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


def own_surface(one: SceneObject) -> Mesh:
    """An object's closed surface in its own frame."""
    return one.body.mesh.transformed(Similarity.from_pose(one.body.world_from_body.inverse()))


def _put_back(
    bundle: Bundle,
    bodies: Mapping[str, Body],
    best: Mapping[str, Sequence[BundleCamera]],
    own: Mapping[str, Gaussians],
    rest: Gaussians,
) -> dict[str, dict[str, float]]:
    """How images of objects drawn over the rest, as a simulation does, differ from those of the whole; see `Shown`.

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


def put_back_gate(put_back: Mapping[str, Mapping[str, float]]) -> Gate:
    """How much images differ in which objects are drawn over the rest, see `Shown`."""
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

"""The objects of a bundle by name, and a page that shows them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.check.report import jpeg, overview_pose, shaded_view
from pipeline.errors import BundleError
from pipeline.geometry import Camera, Gaussians, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from pipeline.io.files import machine_errors, write_whole
from pipeline.io.pages import render
from pipeline.mesh.topology import triangle_components
from pipeline.objects.close import THINNEST, Body, close_bodies
from pipeline.objects.cut import cut_splat
from pipeline.objects.find import Standing, find_objects
from pipeline.objects.holes import holes_of, sheets_of
from pipeline.objects.views import Views
from pipeline.progress import track
from pipeline.raster import render as draw
from pipeline.scenes.bundle import Bundle, BundleCamera
from pipeline.scenes.objects import Joint
from pipeline.types import F64, U8

SAMPLES = 60
"""Points of a body that are looked for in each view."""
OUTLINE, AXIS = (240, 60, 160), (30, 220, 60)
LARGEST = 1024
"""Longest side of a view that is drawn [px]."""
PICTURE = Camera(320, 240, 300.0, 300.0, 160.0, 120.0)
"""Lens of the pictures of closed bodies."""
AROUND = ((40.0, 30.0), (220.0, 30.0))
"""Azimuths and elevations that they are seen from [degrees]."""
AROUND_IT = 0.4
"""Surroundings of a body in its pictures [sides of its picture]."""
UNSEEN = "something unseen"
"""What is known of what some objects stand on."""
UNDER, MOST = 0.03, 0.5
"""A body carries what is as near above most of its top [m]."""
HARDLY = 0.15
"""Least share of a body's surface that was seen for it to be moved."""
AT_IT = 0.05
"""A ray that meets a body meets nothing else before it by more than this [m]."""
OVER_FLOOR = 0.06
"""What begins higher than this over the floor stands on something else [m]."""
DENSITY = 100.0
"""Guess of the mass of a parcel or a piece of furniture by the volume of its closed surface [kg/m^3]."""
BOX_EDGES = [(a, b) for a in range(8) for b in range(a) if bin(a ^ b).count("1") == 1]


@dataclass(frozen=True, eq=False)
class SceneObject:
    """An object of a scene.

    Attributes:
        on: Name of the object that it stands on, or floor.
        fixed: Why it can't be moved; empty for what can be.
        seen: Share of its closed surface that was measured, 0..1.
        joint: What holds it, known from two scans.
        touches: Names of objects that it touches and was told apart from by the groove or the ledge between them.
    """

    name: str
    standing: Standing
    body: Body
    on: str
    fixed: str
    seen: float
    joint: Joint | None = None
    touches: tuple[str, ...] = ()

    @property
    def lengths(self) -> str:
        """Its size in metres; lengths of which one end was guessed with one sigma."""
        pairs = zip(self.body.size, self.body.sigma, strict=True)
        return " x ".join(f"{length:.2f}" + (f"\u00b1{sigma:.2f}" if sigma > 0 else "") for length, sigma in pairs)

    @property
    def mass(self) -> float:
        """A guess [kg]."""
        return DENSITY * self.body.volume

    @property
    def remarks(self) -> str:
        """What was guessed, and what was told apart; empty where that is nothing."""
        guessed = ["one side seen, its depth is guessed"] if self.body.sigma.any() else []
        return "; ".join([*guessed, *([f"told apart from {', '.join(self.touches)}"] if self.touches else [])])


def objects_of(bundle: Bundle) -> list[SceneObject]:
    """All objects of a bundle, the lowest first.

    Raises:
        BundleError: When it is an object itself.
    """
    if bundle.manifest.is_object:
        raise BundleError(
            "objects stand in a place",
            found=f"{bundle.manifest.reference} is an object by itself",
            remedy="`splatyard view` shows it, and `splatyard sim SCENE --objects` puts it there",
            file=bundle.root,
        )
    mesh = bundle.mesh("open")
    return closed_objects(mesh, bundle.regions.floor_height, views_of(bundle, mesh))


def closed_objects(mesh: Mesh, floor: float, views: Views) -> list[SceneObject]:
    """All objects of a mesh whose floor is at a height [m], the lowest first."""
    standing = find_objects(mesh, floor)
    found, names = list[SceneObject](), dict[int, str]()
    for number, body in close_bodies(mesh, standing, views).items():
        own = standing[number]
        names[number] = f"{body.kind}-{sum(one.body.kind == body.kind for one in found) + 1}"
        on = names.get(own.on, "floor" if own.support < floor + OVER_FLOOR else UNSEEN)
        fixed = own.fixed or _not_loose(body, on, RayCaster(mesh.with_faces(~own.triangles)))
        found.append(SceneObject(names[number], own, body, on, fixed, float(1 - body.mesh.guessed.mean())))
    return [replace(one, touches=_names_beside(one, found)) for one in found]


def _names_beside(one: SceneObject, found: Sequence[SceneObject]) -> tuple[str, ...]:
    cluster = one.standing.cluster
    return tuple(
        other.name for other in found if cluster >= 0 and other.standing.cluster == cluster and other is not one
    )


def _not_loose(body: Body, on: str, around: RayCaster) -> str:
    """Why a body can't be told from the rest of the scene; empty where it can."""
    if on == UNSEEN:
        return "hangs on something"
    if body.size.min() < THINNEST:
        return f"only {1000 * body.size.min():.0f} mm thin"
    if triangle_components(body.mesh.triangles).max() > 0:
        return "in pieces"
    if body.mesh.guessed.mean() > 1 - HARDLY:
        return "hardly seen"
    vertices = body.mesh.vertices.astype(np.float64)
    top = vertices[vertices[:, 2] > vertices[:, 2].max() - UNDER]
    above = around.cast(top, np.array([0, 0, 1.0])).distance < UNDER
    return "carries something" if above.mean() > MOST else ""


def views_of(bundle: Bundle, mesh: Mesh) -> Views:
    """What the capture's views saw of a bundle's mesh, as far as it is open."""
    return Views(mesh, [(view.camera, view.world_from_camera) for view in bundle.cameras])


def write_page(bundle: Bundle, objects: list[SceneObject], file: Path) -> None:
    """Write a page with a table of all objects, and each where it is seen best, taken away if it can be, and closed."""
    splat, mesh = bundle.splat(), bundle.mesh("open")
    sheets, views = sheets_of(mesh, bundle.regions.floor_height), views_of(bundle, mesh)
    caster, figures = RayCaster(mesh), []
    for one in track(objects, "pictures of objects"):
        view, shown = next(iter(best_views(bundle.cameras, one.body, caster)), None), list[tuple[str, U8]]()
        if view:
            shown.append(("in the scene", picture(splat, view, one.body, outlined=True)))
        if view and not one.fixed:
            scene = mesh.with_faces(~one.standing.triangles)
            rest = cut_splat(splat, one.body, scene, holes_of(one.body, scene, sheets, views), views).rest
            shown.append(("taken away", picture(rest, view, one.body)))
        for caption, side in zip(("closed mesh", "from the other side"), AROUND, strict=True):
            shown.append((caption, shaded_view(one.body.mesh, PICTURE, overview_pose(one.body.mesh, PICTURE, *side))))
        figures.append((one, [(caption, data_url(image)) for caption, image in shown]))
    title = f"Objects of {bundle.manifest.reference}"
    page = render("pipeline.objects", "objects.html", title=title, figures=figures, density=DENSITY)
    with machine_errors(file):
        write_whole(file, page, alone=True)


def object_at(objects: Sequence[SceneObject], mesh: Mesh, origin: F64, direction: F64) -> SceneObject | None:
    """The object that a ray (3,), (3,) meets, closer than the rest of a scene's mesh; None for the building."""
    rays = origin.reshape(1, 3), direction.reshape(1, 3) / np.linalg.norm(direction)
    distances = [RayCaster(one.body.mesh).cast(*rays).distance[0] for one in objects]
    nearest = int(np.argmin(distances)) if distances else 0
    if not distances or distances[nearest] > RayCaster(mesh).cast(*rays).distance[0] + AT_IT:
        return None
    return objects[nearest] if np.isfinite(distances[nearest]) else None


def bounds_of(body: Body) -> F64:
    """Corners (8, 3) of a body's bounds along its own axes, world frame."""
    signs = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3) - [0.5, 0.5, 0]
    return body.world_from_body.apply(signs * body.size)


def best_views(cameras: Sequence[BundleCamera], body: Body, caster: RayCaster) -> list[BundleCamera]:
    """The views that show a body whole, those that show most of it and with the least before it first."""
    found = list[tuple[float, BundleCamera]]()
    points = body.mesh.vertices[:: -(-len(body.mesh.vertices) // SAMPLES)].astype(np.float64)
    for view in cameras:
        local = view.world_from_camera.inverse().apply(np.concatenate([bounds_of(body), points]))
        if local[:, 2].min() < 0.1:
            continue
        pixels = view.camera.project(local)
        if not ((pixels > 0).all() and (pixels < [view.camera.width, view.camera.height]).all()):
            continue
        eye = view.world_from_camera.translation
        free = caster.cast(np.broadcast_to(eye, points.shape), points - eye).distance > 0.97
        found.append((float(np.ptp(pixels, axis=0).prod()) * float(free.mean()) ** 2, view))
    return [view for seen, view in sorted(found, key=lambda one: -one[0]) if seen > 0]


def pinhole(camera: Camera, side: int) -> Camera:
    """A lens without distortion for images whose longest side is at most that [px]."""
    return replace(camera, distortion=(0.0, 0.0, 0.0, 0.0)).within(side)


def window_of(body: Body, camera: Camera, world_from_camera: Pose) -> tuple[slice, slice]:
    """Rows and columns that show a body and its surroundings."""
    pixels = camera.project(world_from_camera.inverse().apply(bounds_of(body)))
    margin = AROUND_IT * np.ptp(pixels, axis=0).max()
    low = np.clip(pixels.min(0) - margin, 0, None).astype(int)
    high = np.ceil(pixels.max(0) + margin).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def picture(splat: Gaussians, view: BundleCamera, body: Body, *, outlined: bool = False, axis: F64 | None = None) -> U8:
    """A body's surroundings in a view of a splat, the outline of its bounds, and an axis from end to end (2, 3)."""
    camera = pinhole(view.camera, LARGEST)
    drawn = np.ascontiguousarray(
        np.clip(255 * draw(splat, camera, view.world_from_camera).rgb, 0, 255).astype(np.uint8)
    )
    pixels = camera.project(view.world_from_camera.inverse().apply(bounds_of(body)))
    for a, b in BOX_EDGES if outlined else ():
        begin, end = np.round(pixels[[a, b]]).astype(int).tolist()
        cv2.line(drawn, begin, end, OUTLINE, 1, cv2.LINE_AA)
    if axis is not None:
        ends = view.world_from_camera.inverse().apply(axis)
        if (ends[:, 2] > 0.1).all():
            begin, end = np.clip(np.round(camera.project(ends)), -LARGEST, 2 * LARGEST).astype(int).tolist()
            cv2.line(drawn, begin, end, AXIS, 2, cv2.LINE_AA)
    cut = drawn[window_of(body, camera, view.world_from_camera)]
    scale = PICTURE.height / len(cut)
    return np.asarray(cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def data_url(image: U8) -> str:
    """A picture as a link that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image)).decode()

"""Closed objects against exact ones: which were found, their volumes, and surface where nobody looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.object_rooms import OBJECT_ROOMS, Thing, write_truth
from benchmarks.page import Row
from benchmarks.room_capture import write_room
from benchmarks.truth import rigid_truth_from_poses
from pipeline import BuildRequest, build
from pipeline.align.alignment import load_world_scene
from pipeline.geometry import Mesh, Pose, Similarity
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.geometry.winding import winding
from pipeline.mesh.stage import MESH_FILE
from pipeline.mesh.topology import border_report
from pipeline.objects.listing import SceneObject, closed_objects
from pipeline.objects.views import Views
from pipeline.running.building import plan
from pipeline.types import F64, Mask

SEEN = 0.025
"""Surface farther from what was measured was not seen [m]."""
FOUND, ABOUT = 0.5, 0.2
"""An object is found where a body has this share of the volume of both in common. Where one has less, down to the
second, its size is listed, but it was not found."""
POINTS, INSIDE = 40_000, 0.002
"""In which volumes are compared; surface this far inside of another part is none [m]."""


@dataclass(frozen=True, eq=False)
class Score:
    """A true object, and the body that is most like it.

    Attributes:
        thing: The true one.
        kind: Of the body; empty where there is none.
        overlap: Volume of both in common, of that of either.
        volume: Relative error of the volume.
        unseen: (N,) distances from it of true surface that nobody saw [m].
        closed: Whether the body is watertight.
    """

    thing: Thing
    kind: str
    overlap: float
    volume: float
    unseen: F64
    closed: bool

    @property
    def found(self) -> bool:
        """Whether it has a body of its own."""
        return self.overlap >= FOUND


def scores(things: Sequence[Thing], objects: Sequence[SceneObject], mesh: Mesh, world_from_truth: Pose) -> list[Score]:
    """One for each true object; every body counts for one of them only."""
    overlaps = np.zeros((len(things), len(objects)))
    true = [thing.mesh.transformed(Similarity.from_pose(world_from_truth)) for thing in things]
    for row, surface in enumerate(true):
        for column, one in enumerate(objects):
            overlaps[row, column] = _overlap(surface, one.body.mesh)
    measured = RayCaster(mesh.with_faces(~mesh.face_guessed()))
    chosen, left = dict[int, int](), overlaps.copy()
    while left.size and left.max() > ABOUT:
        row, column = np.unravel_index(left.argmax(), left.shape)
        chosen[int(row)] = int(column)
        left[row], left[:, column] = 0, 0
    result = []
    for row, (thing, surface) in enumerate(zip(things, true, strict=True)):
        column = chosen.get(row)
        if column is None:
            result.append(Score(thing, "", 0.0, -1.0, np.zeros(0), closed=True))
            continue
        body = objects[column].body
        points, triangles = sample_surface(surface, POINTS // 10, np.random.default_rng(0))
        outside = points.astype(np.float64) + INSIDE * surface.face_normals()[triangles]
        hidden = points[(measured.distances(points) > SEEN) & ~_inside(surface, outside)]
        unseen = RayCaster(body.mesh).distances(hidden).astype(np.float64)
        closed = bool(border_report(body.mesh)["watertight"])
        result.append(
            Score(thing, body.kind, float(overlaps[row, column]), body.volume / thing.volume - 1, unseen, closed)
        )
    return result


def _inside(surface: Mesh, points: F64) -> Mask:
    return np.asarray(winding(surface.corners().astype(np.float64), points) > 0.5)


def _overlap(one: Mesh, other: Mesh) -> float:
    low = np.minimum(one.vertices.min(0), other.vertices.min(0))
    high = np.maximum(one.vertices.max(0), other.vertices.max(0))
    if (
        np.maximum(one.vertices.min(0), other.vertices.min(0)) >= np.minimum(one.vertices.max(0), other.vertices.max(0))
    ).any():
        return 0.0
    points = np.random.default_rng(0).uniform(low, high, (POINTS, 3))
    first, second = _inside(one, points), _inside(other, points)
    return float((first & second).sum() / max((first | second).sum(), 1))


def rows_of(name: str, found: Sequence[Score]) -> list[Row]:
    """The issue's figures of one room."""
    got = [score for score in found if score.found]
    volumes, unseen = np.abs([score.volume for score in got]), np.concatenate([score.unseen for score in got])
    return [
        Row(f"{name}: found, of {len(found)}", 100 * len(got) / len(found), "%", ">=", 90),
        Row(f"{name}: watertight", 100 * float(np.mean([score.closed for score in got])), "%", ">=", 100),
        Row(f"{name}: volume error, median", 100 * float(np.median(volumes)), "%", "<=", 10),
        Row(f"{name}: volume within 10 %, of those found", 100 * float((volumes <= 0.1).mean()), "%"),
        Row(f"{name}: faces that nobody saw, median error", 1000 * float(np.median(unseen)), "mm", "<=", 30),
    ]


def lines_of(found: Sequence[Score]) -> list[str]:
    """A table of all objects in Markdown."""
    lines = [
        "| object | closed as | in common | volume | unseen faces off, median |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for score in found:
        unseen = f"{1000 * np.median(score.unseen):.0f} mm" if len(score.unseen) else "-"
        volume = f"{100 * score.volume:+.0f} %" if score.kind else "-"
        name = score.thing.name + (" (one side seen)" if score.thing.one_side else "")
        lines.append(f"| {name} | {score.kind or 'not found'} | {score.overlap:.2f} | {volume} | {unseen} |")
    return lines


def room_scores(name: str, folder: Path) -> list[Score]:
    """Make the capture and the mesh of a generated room in a folder, unless they are there; then find and close."""
    room, things = OBJECT_ROOMS[name]()
    capture = folder / "captures" / room.name
    truth = write_room(room, capture)
    write_truth(things, folder / "truth" / room.name)
    request = BuildRequest(capture, name=room.name, out=folder, until="mesh")
    build(request)
    folders = {stage.name: stage.folder for stage in plan(request).stages}
    mesh = Mesh.load(folders["mesh"] / MESH_FILE)
    views = load_world_scene(folders["poses"], folders["align"]).views
    fitted = rigid_truth_from_poses({view.name: view.world_from_camera for view in views}, truth.poses)
    world_from_truth = Pose(fitted.rotation, fitted.translation).inverse()
    objects = closed_objects(mesh, 0.0, Views(mesh, [(view.camera, view.world_from_camera) for view in views]))
    return scores(things, objects, mesh, world_from_truth)

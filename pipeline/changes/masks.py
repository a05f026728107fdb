"""What an earlier capture's images no longer show: masks of all that a re-scan proves to be otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from pipeline.changes.compare import Changes
from pipeline.changes.part import Part
from pipeline.changes.pieces import changed_triangles
from pipeline.changes.register import Scan
from pipeline.geometry import Mesh, Pose, Similarity
from pipeline.geometry.rays import RayCaster
from pipeline.objects.views import WIDTH
from pipeline.poses.scene import View
from pipeline.types import Mask

AROUND = 2
"""Pixels around what changed that are masked, too, of images of `WIDTH`: edges blend."""


def outdated(first: Scan, second: Scan, first_from_second: Pose, changes: Changes) -> tuple[Mask, Mesh]:
    """Triangles of the first that are there no more, and what the second has where nothing was, in the first's frame.

    All that views look through counts, in pieces of any size; and all of what moved, of which some may be hidden.
    """
    gone, new = (np.zeros(len(scan.mesh.triangles), bool) for scan in (first, second))
    gone |= changed_triangles(first, second, first_from_second.inverse())
    new |= changed_triangles(second, first, first_from_second)
    for motion in changes.moved:
        gone |= motion.gone.triangles
        new |= motion.new.triangles
    return gone, second.mesh.with_faces(new).transformed(Similarity.from_pose(first_from_second))


def masks_of(first: Mesh, gone: Mask, new: Mesh, core: Part, views: Sequence[View]) -> Iterator[Mask | None]:
    """Which pixels (H, W) of each view count still.

    It saw neither what is gone or lies in the core of what changed there, nor through what is new.

    None where all do. Views are in the frame of the meshes.
    """
    scene, added = RayCaster(first), RayCaster(new) if len(new.triangles) else None
    for view in views:
        camera, pose = view.camera.within(WIDTH), view.world_from_camera
        rays = pose.rotate(camera.rays()).reshape(-1, 3)
        eyes = np.broadcast_to(pose.translation, rays.shape)
        hits = scene.cast(eyes, rays)
        changed = hits.hit & gone[np.where(hits.hit, hits.triangle, 0)]
        changed[hits.hit] |= core.holds(eyes[hits.hit] + hits.distance[hits.hit, None] * rays[hits.hit])
        if added is not None:
            before = added.cast(eyes, rays)
            changed |= before.hit & (before.distance < hits.distance)
        if not changed.any():
            yield None
            continue
        small = changed.reshape(camera.height, camera.width).astype(np.uint8)
        wide = cv2.dilate(small, np.ones((2 * AROUND + 1, 2 * AROUND + 1), np.uint8))
        size = (view.camera.width, view.camera.height)
        yield cv2.resize(wide, size, interpolation=cv2.INTER_NEAREST) == 0

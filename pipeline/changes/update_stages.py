"""The stages of an update: a re-scan is found in an earlier version's map, and both captures become one.

The earlier version's frames keep their poses, and its frames of scene and world hold. Of its images only what the
re-scan doesn't contradict is used. What comes of both, where the place changed: `part_stages`, `part_splat`.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.align.alignment import Alignment
from pipeline.bundle.params import BundleParams
from pipeline.capture.images import save_mask
from pipeline.capture.model import Capture, Selection
from pipeline.changes.compare import find_changes
from pipeline.changes.differences import (
    DIFFERENCES_FILE,
    PAGE_FILE,
    differences,
    pictures,
    said_place,
    save_differences,
    write_page,
)
from pipeline.changes.masks import masks_of, outdated
from pipeline.changes.part import CELL, CORE, SIDE, Part, changed_surface, recolored
from pipeline.changes.place import Mapped, find_place
from pipeline.changes.register import Scan, register_near
from pipeline.depth.maps import load_depth_map
from pipeline.geometry import Mesh, Pose, Similarity
from pipeline.joining.merge import all_blurred, all_credentials, bring_files, joined_name, of_source, same_file
from pipeline.objects import loosening
from pipeline.objects.views import Views
from pipeline.parameters import Settings
from pipeline.poses.backends.paths import onto_path
from pipeline.poses.scene import PosedScene, SparsePoints, View, read_image, read_mask
from pipeline.scenes.bundle import Bundle
from pipeline.splat.views import PyramidLevel, depth_in_view

logger = logging.getLogger(__name__)

UPDATE_FILE = "update.json"
BEFORE, AGAIN = "-before", "-again"
"""What follows a stage's name where its result is the earlier version's, or the re-scan's."""


class UpdateParams(Settings):
    """What an update is of."""

    source: str = ""
    """The re-scan's name: its frames bear it."""


@dataclass(frozen=True, eq=False)
class Found:
    """What the first stage found.

    Attributes:
        folder: Of its result, with the masks.
        source: What the re-scan's frames are called by.
        poses: World from camera of the re-scan's keyframes, by name.
        masks: Of the earlier version's keyframes that show what is no more, relative to the folder.
    """

    folder: Path
    source: str
    poses: Mapping[str, Pose]
    masks: Mapping[str, str]

    @staticmethod
    def load(folder: Path) -> Found:
        """Read what `find` wrote."""
        content = json.loads((folder / UPDATE_FILE).read_text())
        poses = {name: Pose.from_matrix(np.array(matrix)) for name, matrix in content["poses"].items()}
        return Found(folder, content["source"], poses, content["masks"])


def _mapped(inputs: Mapping[str, Path], which: str) -> Mapped:
    return Mapped.load(*(inputs[stage + which] for stage in ("capture", "poses", "align")))


def find(inputs: Mapping[str, Path], params: UpdateParams, out_dir: Path) -> None:
    """Find the re-scan in the earlier map, what differs where, and which pixels of the earlier images show it.

    Raises:
        BundleError: When the two are not of one scale, or one has no surface.
        CaptureError: When one of the captures lacks depth, poses or scale.
        ReconstructionError: When the re-scan isn't found in one place of the map.
    """
    before, again = _mapped(inputs, BEFORE), _mapped(inputs, AGAIN)
    placed = find_place(before, again)
    world = {name: Pose(pose.rotation, before.scale * pose.translation) for name, pose in placed.poses.items()}
    bundle = Bundle.open(inputs["before"])
    scans = Scan.of(bundle), _scan(inputs, again, world, before.scale)
    registration = register_near(*scans, Pose.identity())
    pose = registration.first_from_second
    changes = find_changes(*scans, registration)
    found = differences(changes, pose)
    gone, new = outdated(*scans, pose, changes)
    surface = changed_surface([scans[0].mesh.with_faces(gone), new])
    painted, shown = recolored(bundle.splat("full"), _looks(inputs, again, world))
    changed = np.concatenate([surface, painted])
    part, core = Part.around(changed), Part.around(shown[Part.around(changed, CORE).holds(shown)], 0)
    part.save(out_dir)
    views = PosedScene.load(inputs["poses" + BEFORE]).transformed(
        Alignment.load(inputs["align" + BEFORE]).world_from_scene
    )
    masks = {
        view.name: save_mask(mask, out_dir, Path(view.image).stem)
        for view, mask in zip(views.views, masks_of(scans[0].mesh, gone, new, core, views.views), strict=True)
        if mask is not None
    }
    told = f"{params.source} is found in the map ({placed.evidence}); {said_place(registration)}."
    names = bundle.manifest.reference, params.source
    write_page(names, told, found, pictures(*scans, changes, pose), out_dir / PAGE_FILE)
    save_differences(names, found, out_dir)
    poses = {name: pose.matrix.tolist() for name, pose in world.items()}
    content = {"source": params.source, "poses": poses, "masks": masks}
    (out_dir / UPDATE_FILE).write_text(json.dumps(content))
    size = f"{part.cells.sum() * CELL**3:.1f} m³ change"
    logger.info("%s %d differences; %s; %d images of %s are masked", told, len(found), size, len(masks), names[0])


def _scan(inputs: Mapping[str, Path], again: Mapped, world: Mapping[str, Pose], scale: float) -> Scan:
    """The re-scan in the earlier version's world, as a rigid whole."""
    own = {n: view.world_from_camera for n, view in enumerate(again.scene.views)}
    there = {n: world[view.name] for n, view in enumerate(again.scene.views)}
    world_from_upright = onto_path(own, there, scale)
    upright_from_own = Similarity(1 / again.scale, np.eye(3), np.zeros(3))
    mesh = Mesh.load(inputs["mesh" + AGAIN] / "mesh.ply", "open").transformed(world_from_upright @ upright_from_own)
    cameras = [(view.camera, world_from_upright.apply_pose(view.world_from_camera)) for view in again.scene.views]
    return Scan(mesh, Views(mesh, cameras), 0.0)


def _looks(inputs: Mapping[str, Path], again: Mapped, world: Mapping[str, Pose]) -> Iterator[tuple[PyramidLevel, Pose]]:
    """The re-scan's photos with their depth, small, and where they were taken in the earlier version's world."""
    folder, depth = inputs["poses" + AGAIN], inputs["depth" + AGAIN]
    from_scene = Alignment.load(inputs["align" + AGAIN]).world_from_scene
    own = {view.name: from_scene.apply_pose(view.world_from_camera) for view in PosedScene.load(folder).training}
    for view in again.scene.training:
        camera = view.camera.within(SIDE)
        size = camera.width, camera.height
        # seen from its own camera, a map is the same in any frame of metres
        seen = depth_in_view(load_depth_map(depth, view.name, from_scene), camera, own[view.name])
        photo = np.moveaxis(read_image(folder, view, size), -1, 0)
        yield PyramidLevel(camera, photo, seen, read_mask(folder, view, size)), world[view.name]


def write_capture(inputs: Mapping[str, Path], params: UpdateParams, out_dir: Path) -> None:
    """Write the keyframes of both as one capture, in the earlier version's world."""
    found, before, again = Found.load(inputs["update"]), _mapped(inputs, BEFORE), _mapped(inputs, AGAIN)
    old, new = before.capture, again.capture
    scaled = Similarity(before.scale, np.eye(3), np.zeros(3))
    frames = [
        replace(frame, world_from_camera=frame.world_from_camera and scaled.apply_pose(frame.world_from_camera))
        for frame in old.frames
    ]
    for frame in old.frames:
        bring_files(old.root, frame, out_dir)
    for frame in new.frames:
        bring_files(new.root, frame, out_dir / params.source)
        placed = replace(frame, world_from_camera=found.poses[frame.name])
        frames.append(of_source(params.source, placed, Pose.identity()))
    told = f"{len(new.frames)} images of {params.source} were added to {len(old.frames)}"
    replace(
        old,
        root=out_dir,
        kind="+".join(dict.fromkeys((*old.kind.split("+"), new.kind))),
        frames=tuple(frames),
        on_machine=old.on_machine or new.on_machine,
        world_origin=None,
        skipped=(*old.skipped, *(replace(one, file=f"{params.source}/{one.file}") for one in new.skipped)),
        notes=(*old.notes, told),
        blurred=all_blurred((old.blurred, new.blurred)),
        credentials=all_credentials((old.credentials, new.credentials)),
        assumed=tuple(dict.fromkeys((*old.assumed, *new.assumed))),
    ).save()


def write_selection(inputs: Mapping[str, Path], params: UpdateParams, out_dir: Path) -> None:
    """Write the keyframes of both that have poses."""
    kept = {frame.name for frame in Capture.load(inputs["capture"]).frames}
    old, new = (Selection.load(inputs["select" + which]) for which in (BEFORE, AGAIN))
    named = [replace(one, name=joined_name(params.source, one.name)) for one in new.keyframes]
    Selection(tuple(one for one in (*old.keyframes, *named) if one.name in kept), old.dropped).save(out_dir)


def write_poses(inputs: Mapping[str, Path], params: UpdateParams, out_dir: Path) -> None:
    """Write the views of both in the earlier version's scene; what its images no longer show is masked."""
    found, world = Found.load(inputs["update"]), Alignment.load(inputs["align" + BEFORE]).world_from_scene
    folders = inputs["poses" + BEFORE], inputs["poses" + AGAIN]
    before, again = (PosedScene.load(folder) for folder in folders)
    poses = {name: world.inverse().apply_pose(pose) for name, pose in found.poses.items()}
    views = [_brought(view, folders[0], out_dir, "", found.masks.get(view.name), found.folder) for view in before.views]
    for view in again.views:
        placed = replace(view, world_from_camera=poses[view.name])
        views.append(_brought(placed, folders[1], out_dir, params.source, None, found.folder))
    report = before.report | {
        name: before.report[name] + again.report[name]
        for name in ("keyframes", "registered", "held_out", "held_out_registered")
    }
    points = _points(before, again, poses)
    replace(before, views=tuple(views), points=points, report=report).save(out_dir)


def _brought(view: View, folder: Path, out_dir: Path, source: str, outdated: str | None, masks: Path) -> View:
    """A view whose image, and the mask of what counts, lie in another folder; of a source, under its name."""
    image = str(Path(source) / view.image)
    (out_dir / image).parent.mkdir(parents=True, exist_ok=True)
    same_file(folder / view.image, out_dir / image)
    mask = read_mask(folder, view)
    if outdated is not None:
        still = read_mask(masks, replace(view, mask=outdated))
        mask = still if mask is None or still is None else mask & still
    written = None if mask is None else save_mask(mask, out_dir, str(Path(source) / Path(view.image).stem))
    if not source:
        return replace(view, image=image, mask=written)

    def inside(path: str | None) -> str | None:
        return path and f"{source}/{path}"

    return replace(
        view,
        name=joined_name(source, view.name),
        image=image,
        mask=written,
        sensor_depth=inside(view.sensor_depth),
        sensor_confidence=inside(view.sensor_confidence),
        sensor=f"{source} {view.sensor}" if view.sensor else source,
    )


def _points(before: PosedScene, again: PosedScene, poses: Mapping[str, Pose]) -> SparsePoints:
    """The sparse points of both; the re-scan's follow its views to their poses by name."""
    there = {n: poses[view.name] for n, view in enumerate(again.views)}
    moved = onto_path({n: view.world_from_camera for n, view in enumerate(again.views)}, there)
    one, other = before.points, again.points
    return SparsePoints(
        xyz=np.concatenate([one.xyz, moved.apply(other.xyz)]),
        rgb=np.concatenate([one.rgb, other.rgb]),
        error=np.concatenate([one.error, other.error]),
        view_index=np.concatenate([one.view_index, other.view_index + np.int32(len(before.views))]),
        point_index=np.concatenate([one.point_index, other.point_index + np.int32(len(one.xyz))]),
    )


def write_alignment(inputs: Mapping[str, Path], _params: UpdateParams, out_dir: Path) -> None:
    """Keep the earlier version's world frame."""
    Alignment.load(inputs["align" + BEFORE]).save(out_dir)


def write_version(inputs: Mapping[str, Path], params: BundleParams, out_dir: Path) -> None:
    """Write the bundle, with what differs from the version that it was made from."""
    for name in (PAGE_FILE, DIFFERENCES_FILE):
        shutil.copyfile(inputs["update"] / name, out_dir / name)
    loosening.run(inputs, params, out_dir)

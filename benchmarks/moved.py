"""What moved between two scans of a generated room, against the truth: a door, a drawer and a carton.

python benchmarks/moved.py DIR           both captures and bundles are built into DIR, unless they are there
python benchmarks/moved.py DIR --update  the second capture as an update of the first bundle
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.moved_room import HINGE, moved_room, true_motions  # noqa: E402
from benchmarks.page import Row  # noqa: E402
from benchmarks.room_capture import write_room  # noqa: E402
from benchmarks.truth import rigid_truth_from_poses  # noqa: E402
from pipeline import BuildRequest, Bundle, build  # noqa: E402
from pipeline.changes.objects import compare_scans, cut_moved  # noqa: E402
from pipeline.changes.update import plan_again, plan_update  # noqa: E402
from pipeline.geometry import Mesh, Pose, angle_deg  # noqa: E402
from pipeline.geometry.rays import RayCaster, sample_surface  # noqa: E402
from pipeline.running.building import run_plan  # noqa: E402

POINTS, AWAY = 20_000, 0.05
"""Points of a mesh that are measured, and how far from the surface they are wrong [m]."""
UP = np.array([0, 0, 1.0])


def built(folder: Path, *, later: bool) -> tuple[Bundle, Pose, Mesh]:
    """The bundle of a capture, its frame from the room's, and the room's exact surface."""
    room = moved_room(later=later)
    capture, made = folder / "captures" / room.name, folder / room.name / "1.0.0"
    truth = write_room(room, capture)
    if not made.is_dir():
        build(BuildRequest(capture, name=room.name, out=folder))
    bundle = Bundle.open(made)
    fitted = rigid_truth_from_poses({view.name: view.world_from_camera for view in bundle.cameras}, truth.poses)
    return bundle, Pose(fitted.rotation, fitted.translation).inverse(), truth.mesh


def update_rows(folder: Path) -> list[Row]:
    """The version that an update of the first bundle makes, against the room as it is later."""
    first, first_from_room, _ = built(folder, later=False)
    room = moved_room(later=True)
    truth = write_room(room, folder / "captures" / room.name)
    again = plan_again(first, folder / "captures" / room.name)
    planned = plan_update(first, again)
    run_plan(again)
    run_plan(planned)
    after = Bundle.open(planned.bundle_folder)
    kept = {view.name: view.world_from_camera.matrix for view in after.cameras}
    off = [np.abs(kept[view.name] - view.world_from_camera.matrix).max() for view in first.cameras]
    rows = [Row("update: earlier cameras moved by", 1000 * float(max(off)), "mm", "<=", 1)]
    for name, bundle in (("before", first), ("after", after)):
        points = sample_surface(bundle.mesh("open"), POINTS, np.random.default_rng(0))[0].astype(np.float64)
        away = RayCaster(truth.mesh).distances(first_from_room.inverse().apply(points)) > AWAY
        rows.append(Row(f"mesh {name} it, over 5 cm off the later room", 100 * float(away.mean()), "%"))
    return rows


def rows_of(cut: Bundle, first_from_room: Pose) -> list[Row]:
    """The cut bundle's joints against the truth."""
    joints = {one.record.joint.kind: one.record.joint for one in cut.objects if one.record.joint}
    door, drawer, rows = joints.get("hinge"), joints.get("slide"), list[Row]()
    up = first_from_room.rotate(UP)
    if door:
        axis, point = np.array(door.axis), first_from_room.apply(HINGE)
        off = np.linalg.norm(np.cross(np.array(door.point) - point, up))
        turn = np.rad2deg(door.range[1]) - angle_deg(np.eye(3), true_motions()["door"].second_from_first.rotation)
        rows.append(Row("door: direction of the axis", float(_angle(axis, up)), "degrees", "<=", 1))
        rows.append(Row("door: place of the axis", 100 * float(off), "cm", "<=", 1))
        rows.append(Row("door: angle", float(turn), "degrees"))
    if drawer:
        way = first_from_room.rotate(true_motions()["drawer"].second_from_first.translation)
        rows.append(Row("drawer: direction", float(_angle(np.array(drawer.axis), way)), "degrees", "<=", 1))
        rows.append(Row("drawer: way", 100 * float(drawer.range[1] - np.linalg.norm(way)), "cm", "<=", 1))
    return rows


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    cosine = abs(one @ other) / np.linalg.norm(one) / np.linalg.norm(other)
    return float(np.rad2deg(np.arccos(min(cosine, 1.0))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--update", action="store_true", help="update the first bundle by the second capture")
    options = parser.parse_args()
    folder = options.folder
    if options.update:
        for row in update_rows(folder):
            print(f"{row.metric}: {row.value:.3f} {row.unit}")
        return
    (first, first_from_room, _), (second, *_) = (built(folder, later=later) for later in (False, True))
    compared = compare_scans(first, second)
    for thing in compared.things:
        print(thing.object.name if thing.object else "-", thing.kind, f"{thing.motion.score:.2f}")
        for name, true in true_motions().items():
            middle = first_from_room.apply(true.middle)
            if np.linalg.norm(middle - thing.motion.gone.surface.points.mean(0)) < 0.5:
                motion = first_from_room @ true.second_from_first @ first_from_room.inverse()
                found = thing.motion.second_from_first
                off = 100 * np.linalg.norm(found.apply(middle) - motion.apply(middle))
                print(f"  {name}: {off:.2f} cm, {angle_deg(found.rotation, motion.rotation):.2f} degrees off")
    for row in rows_of(Bundle.open(cut_moved(compared, folder)), first_from_room):
        print(f"{row.metric}: {row.value:.3f} {row.unit}")


if __name__ == "__main__":
    main()

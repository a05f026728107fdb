"""Objects of a hall's bundle: found, closed and cut out, against the exact hall; dropped; simulated beside none.

python benchmarks/objects.py BUNDLE               the hall's bundle
python benchmarks/objects.py --rooms DIR          three generated rooms, made in DIR up to the mesh
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sim  # noqa: E402
from benchmarks.object_rooms import OBJECT_ROOMS  # noqa: E402
from benchmarks.object_scores import lines_of, room_scores, rows_of  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.truth import TRUTH, rigid_truth_from_poses  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.geometry import Mesh, Pose, matrix_from_quaternion, matrix_from_rotvec  # noqa: E402
from pipeline.geometry.rays import RayCaster, sample_surface  # noqa: E402
from pipeline.objects.listing import SceneObject, objects_of  # noqa: E402
from pipeline.objects.version import chosen_objects, cut_out  # noqa: E402
from pipeline.types import F64, Mask  # noqa: E402
from sim.bench import measure  # noqa: E402
from sim.controlled import find_robot  # noqa: E402
from sim.physics.bodies import BodyState  # noqa: E402
from sim.physics.sapien_engine import SapienEngine  # noqa: E402
from sim.robots.state import RobotState  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402
from sim.scene.scene import SimScene  # noqa: E402

OTHERS = 5
"""Things over 10 cm in the hall that are no boxes: table, bench, shelf, pillar, stairs."""
SEEN = 0.025
"""Surface farther from what was measured was not seen [m]."""
AT_ONCE, ROUNDS, SECONDS = 600, 17, 3.0
"""Bodies that fall at once, how often, and for how long."""
EDGE, HIGHEST = 0.6, 1.5
"""Bodies fall where there is ground as far to all sides, and that is not higher than the second over the floor [m]."""
ENVS, STEPS = 64, 100


def true_boxes(world_from_truth: Pose) -> dict[str, tuple[Pose, F64]]:
    """Pose, as of `Body`, and size of each box of the hall."""
    boxes = json.loads((TRUTH / "regions.json").read_text())["boxes"]
    result = {}
    for name, box in boxes.items():
        turn = matrix_from_rotvec([0, 0, np.deg2rad(box["yaw_deg"])])
        foot = np.array([box["centre_x"], box["centre_y"], box["bottom_z"]])
        result[name] = world_from_truth @ Pose(turn, foot), np.array([box["size_x"], box["size_y"], box["size_z"]])
    return result


def truth_rows(bundle: Bundle, objects: list[SceneObject]) -> list[Row]:
    """How many are found, how well they are closed."""
    import trimesh

    fitted = rigid_truth_from_poses({view.name: view.world_from_camera for view in bundle.cameras})
    world_from_truth = Pose(fitted.rotation, fitted.translation).inverse()
    mesh = bundle.mesh()
    measured = RayCaster(mesh.with_faces(~mesh.face_guessed()))
    volumes, unseen, found = list[float](), list[float](), 0
    for pose, size in true_boxes(world_from_truth).values():
        middle = pose.apply(np.array([0, 0, size[2] / 2]))
        alike = [one for one in objects if one.body.size.max() < 2 * size.max()]
        near = min(alike, key=lambda one: float(np.linalg.norm(one.body.mesh.vertices.mean(0) - middle)))
        if np.linalg.norm(near.body.mesh.vertices.mean(0) - middle) > 0.5 * size.max():
            continue
        found += 1
        volumes.append(near.body.volume / float(np.prod(size)) - 1)
        box = trimesh.creation.box(size)
        places = pose.apply(np.asarray(box.vertices) + np.array([0, 0, size[2] / 2]))
        points, _ = sample_surface(Mesh.from_arrays(places, box.faces), 2000, np.random.default_rng(0))
        hidden = points[measured.distances(points) > SEEN]
        unseen += RayCaster(near.body.mesh).distances(hidden).tolist()
    closed = [trimesh.Trimesh(one.body.mesh.vertices, one.body.mesh.triangles).is_watertight for one in objects]
    others = sum(one.body.size.max() > 1.0 for one in objects)
    return [
        Row("objects over 10 cm found, of 13", found + min(others, OTHERS), "", ">=", 12),
        Row("watertight", 100 * float(np.mean(closed)), "%", ">=", 100),
        Row("boxes: volume error, median", 100 * float(np.median(np.abs(volumes))), "%", "<=", 10),
        Row("boxes: volume error, worst", 100 * float(np.max(np.abs(volumes))), "%", "<=", 10),
        Row("boxes: faces that nobody saw, median error", 1000 * float(np.median(unseen)), "mm", "<=", 30),
    ]


def drop_rows(scene: SimScene) -> list[Row]:
    """Each body alone, turned at random, from 5 to 40 cm over floor, table, stairs and what else is level."""
    mesh, rng = scene.collision, np.random.default_rng(0)
    caster, level = RayCaster(mesh), mesh.with_faces(mesh.face_normals()[:, 2] > 0.9)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    robot, _ = find_robot("rover")
    aside = np.tile([low[0] - 2, 0, 5.0], (AT_ONCE, 1))
    outside = RobotState.at_rest(
        aside, np.tile([1, 0, 0, 0], (AT_ONCE, 1)), np.tile(robot.default_position.astype(np.float32), (AT_ONCE, 1))
    )
    total = through = out = moving = 0
    for number in range(ROUNDS):
        body = scene.objects[number % len(scene.objects)].body
        corners = np.concatenate(body.hulls)
        middle, radius = corners.mean(0), float(np.linalg.norm(np.ptp(corners, axis=0))) / 2
        places = _free_places(level, caster, radius, rng)
        quaternion = rng.normal(size=(AT_ONCE, 4))
        quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
        centre = places + np.array([0, 0, 1.0]) * (radius + rng.uniform(0.05, 0.4, (AT_ONCE, 1)))
        position = centre - matrix_from_quaternion(quaternion) @ middle
        engine = SapienEngine(robot, [mesh], AT_ONCE, bodies=[[body]])
        engine.reset(np.arange(AT_ONCE), outside, np.zeros(AT_ONCE, np.int64))
        engine.place_bodies(np.arange(AT_ONCE), BodyState.at_rest(position[:, None], quaternion[:, None]))
        engine.step(round(SECONDS / engine.time_step))
        after = engine.read_bodies()
        centre = after.position[:, 0] + matrix_from_quaternion(after.quaternion[:, 0]) @ middle
        fell = centre[:, 2] < low[2] - 0.02
        left = ((centre < low - 0.1) | (centre > high + 0.1)).any(1) & ~fell
        fast = np.linalg.norm(after.linear_velocity[:, 0], axis=1) > 0.02
        fast |= np.linalg.norm(after.angular_velocity[:, 0], axis=1) > 0.1
        total, through, out = total + AT_ONCE, through + int(fell.sum()), out + int(left.sum())
        moving += int((fast & ~fell & ~left).sum())
        engine.close()
    return [
        Row(f"random drops ({total}): through the ground", through, "", "<=", 0),
        Row("random drops: out of the world", out, "", "<=", 0),
        Row("random drops: not at rest after 3 s", moving, "", "<=", 0),
    ]


def _free_places(level: Mesh, caster: RayCaster, radius: float, rng: np.random.Generator) -> F64:
    """Places (`AT_ONCE`, 3) on level surfaces with room for a sphere to fall."""
    chosen = np.zeros((0, 3))
    while len(chosen) < AT_ONCE:
        points, _ = sample_surface(level, 20 * AT_ONCE, rng)
        points = points[rng.permutation(len(points))].astype(np.float64)
        chosen = np.concatenate([chosen, points[_free(points, caster, radius)]])
    return chosen[:AT_ONCE]


def _free(points: F64, caster: RayCaster, radius: float) -> Mask:
    up = np.array([0, 0, 1.0])
    room = (points[:, 2] < HIGHEST) & (caster.cast(points + 0.02 * up, up).distance > 2 * radius + 0.45)
    room &= caster.distances(points + (radius + 0.2) * up) > radius
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):  # not at an edge of what was scanned
        beside = points + EDGE * np.array([np.cos(angle), np.sin(angle), 0]) + 0.3 * up
        room &= np.isfinite(caster.cast(beside, -up).distance)
    return np.asarray(room)


def speed_rows(reference: str) -> list[Row]:
    """Whole steps with images, with and without objects."""
    steps, cameras = list[float](), list[float]()
    for objects in ((), ("all",)):
        env = sim.make("navigate", [reference], ENVS, objects=objects, allow_failed=True)
        speed = measure(env, STEPS)
        steps.append(1 / (speed.physics + speed.cameras + speed.rest))
        cameras.append(speed.cameras)
        count = len(env.engine.bodies)
        env.close()
    each = (cameras[1] - cameras[0]) / count
    return [
        Row(f"{ENVS} robots x {count} objects: steps a CPU-second beside none", steps[1] / steps[0], "x", ">=", 0.7),
        Row("an object in images of 64 x 48, on average", each, "CPU-ms a robot", "<=", 0.25),
    ]


def main() -> None:
    """Measure, print, and write the page in docs/benchmarks if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("bundle", metavar="BUNDLE", nargs="?", help="of the sample hall")
    given.add_argument("--rooms", metavar="DIR", type=Path, help="folder of three generated rooms")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    options = parser.parse_args()
    if options.rooms:
        name, page = "objects of generated rooms", rooms_page(options.rooms)
    else:
        name, page = "objects", hall_page(Bundle.open(options.bundle))
    print(page)
    if options.write:
        update_page({name: page})


def rooms_page(folder: Path) -> str:
    """The section of the three rooms, which are made in a folder unless they are there."""
    rows, tables = list[Row](), list[str]()
    for name in OBJECT_ROOMS:
        found = room_scores(name, folder)
        rows += rows_of(name, found)
        tables += [f"The {name}:", "", *lines_of(found), ""]
    text = (
        "Boxes, round things, tables, stacks and what touches, filmed with a phone. The code was tuned on the workshop "
    )
    text += "and, after a first run, on the store; nothing was changed for the lounge."
    command = "python benchmarks/objects.py --rooms DIR --write"
    return section("objects of generated rooms", command, text, rows, *tables)


def hall_page(bundle: Bundle) -> str:
    """The section of the hall."""
    start = time.process_time()
    objects = objects_of(bundle)
    listed = time.process_time() - start
    rows = truth_rows(bundle, objects)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        cut = Bundle.open(cut_out(bundle, chosen_objects(objects, all_movable=True), Path(folder), proposed=True))
        seconds = (time.process_time() - start) / len(cut.objects)
        gates = {gate.name: gate for gate in cut.quality.gates if gate.value is not None}
        for name in ("objects_put_back", "objects_move", "objects_tilt"):
            gate = gates[name]
            rows.append(Row(f"cut out: {gate.title.lower()}", gate.value or 0.0, gate.unit, "<=", gate.threshold))
        rows.append(Row("finding and closing all of them", listed, "CPU-s"))
        rows.append(Row("cutting out, with pages and gates", seconds, "CPU-s each", "<=", 10))
        rows += drop_rows(open_scene(cut.root, objects=["all"], allow_failed=True))
        rows += speed_rows(str(cut.root))
    text = f"{bundle.manifest.reference}: {len(objects)} objects, {len(cut.objects)} of them loose."
    return section("objects", "python benchmarks/objects.py BUNDLE --write", text, rows)


if __name__ == "__main__":
    main()

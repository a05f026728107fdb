"""Measure bundles as simulators: images, physics and whole steps, against Newton's camera sensor.

    python benchmarks/simulation.py BUNDLE           measure and print
    python benchmarks/simulation.py BUNDLE --write   write the page in docs/benchmarks

CPU-milliseconds are the least of several repeats with one thread unless said otherwise. Newton is left out where it is
not installed; the extra `bench` brings it.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np

from pipeline.types import F64

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cpu import add_cpu_option, use_cpu  # noqa: E402
from benchmarks.newton_sensor import newton_images  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.peaks import least  # noqa: E402
from benchmarks.sim_photos import photo_rows  # noqa: E402
from benchmarks.sim_start import start_rows  # noqa: E402
from pipeline import Bundle  # noqa: E402
from pipeline.geometry import Camera, Mesh, Pose  # noqa: E402
from pipeline.raster import pack, render_batch  # noqa: E402
from sim.bench import measure  # noqa: E402
from sim.config import EnvConfig  # noqa: E402
from sim.controlled import find_robot  # noqa: E402
from sim.env import SceneEnv  # noqa: E402
from sim.physics.catalog import ENGINES  # noqa: E402
from sim.robots.state import RobotState  # noqa: E402
from sim.scene.floors import Floors  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402
from sim.scene.scene import SimScene  # noqa: E402
from sim.sensors.cameras.settings import CameraSettings  # noqa: E402
from sim.tasks.driving.driving_tasks import NAVIGATE  # noqa: E402

SIZES = ((64, 48), (64, 64), (84, 48), (128, 96))
CAMERA_HEIGHT = 0.3  # [m]
ENVS, SUBSTEPS, REPEATS = 64, 250, 5
FINE_TRIANGLES = 80_000


def wide(width: int, height: int) -> Camera:
    """A camera with a 90 degree horizontal field of view."""
    return Camera(width, height, width / 2, width / 2, width / 2, height / 2)


def starts(scene: SimScene, count: int, seed: int) -> tuple[F64, F64]:
    """Positions (count, 3) of rovers on the drivable floor [m], and their headings (count,) [rad]."""
    robot, _ = find_robot("rover")
    rng, floors = np.random.default_rng(seed), Floors([scene], robot)
    cells = floors.draw(np.zeros(1, np.int64), count, rng)[0]
    position = floors.positions(np.zeros(count, np.int64), cells) + np.array([0, 0, robot.base_height])
    return position, rng.uniform(-np.pi, np.pi, count)


def robot_views(scene: SimScene, count: int) -> F64:
    """Poses (count, 4, 4) of cameras 30 cm above the walkable floor, spread over it, in all directions."""
    position, yaw = starts(scene, count, 0)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 3] = position + np.array([0, 0, CAMERA_HEIGHT])
    zero = np.zeros(count)
    forward = np.stack([np.cos(yaw), np.sin(yaw), zero], 1)
    right, down = np.stack([np.sin(yaw), -np.cos(yaw), zero], 1), np.stack([zero, zero, zero - 1], 1)
    poses[:, :3, :3] = np.stack([right, down, forward], 2)
    return poses


def image_rows(scene: SimScene) -> list[Row]:
    """Images per CPU-second by size, scaling over threads, and Newton for comparison."""
    packed, poses, rows = pack(scene.gaussians), robot_views(scene, 64), []
    threads = numba.get_num_threads()
    for width, height in SIZES:
        camera = wide(width, height)
        for count in (1, 16, 64):
            numba.set_num_threads(1)
            seconds = least(lambda p=poses[:count], c=camera: render_batch(packed, c, p))
            bar = (">=", 1000.0) if (width, count) == (64, 64) else (None, None)
            name = f"images {width}x{height}, {count} cameras per call, one thread"
            rows.append(Row(name, count / seconds, "per CPU-second", *bar))
        one = least(lambda c=camera: render_batch(packed, c, poses), clock=time.perf_counter)
        numba.set_num_threads(threads)
        all_threads = least(lambda c=camera: render_batch(packed, c, poses), clock=time.perf_counter)
        scaling = one / all_threads
        rows.append(Row(f"scaling {width}x{height} over {threads} threads (wall)", scaling, "", ">=", 1.8))
    try:
        seen = [Pose.from_matrix(pose) for pose in poses[:16]]
        _, seconds = newton_images(scene.gaussians, wide(64, 64), seen, REPEATS)
    except ImportError:
        return rows
    numba.set_num_threads(1)
    ours = least(lambda: render_batch(packed, wide(64, 64), poses[:16]))
    numba.set_num_threads(threads)
    rows.append(Row("Newton's camera sensor, 64x64, 16 cameras", 16 / seconds, "per CPU-second"))
    rows.append(Row("speed-up over Newton, same cameras", seconds / ours, "", ">=", 3.0))
    return rows


def finer(mesh: Mesh, triangles: int) -> Mesh:
    """The mesh with its largest triangles split until it has this many."""
    while len(mesh.triangles) < triangles:
        area = mesh.face_areas()
        chosen = np.argsort(-area)[: -(-(triangles - len(mesh.triangles)) // 2)]
        corner = mesh.triangles[chosen]
        middle = mesh.vertices[corner].mean(1)
        new = len(mesh.vertices) + np.arange(len(chosen))
        split = [np.stack([corner[:, i], corner[:, (i + 1) % 3], new], 1) for i in range(3)]
        kept = np.delete(mesh.triangles, chosen, axis=0)
        mesh = Mesh.from_arrays(np.concatenate([mesh.vertices, middle]), np.concatenate([kept, *split]))
    return mesh


def physics_rows(scene: SimScene) -> list[Row]:
    """CPU-milliseconds per robot and substep, driving randomly, on the bundle's mesh and on one of 80 000 triangles."""
    robot, drive = find_robot("rover")
    fine, rows = finer(scene.collision, FINE_TRIANGLES), []
    for mesh in (scene.collision, fine):
        for name in ("sapien", "mujoco"):  # Isaac Gym runs in another process
            rng = np.random.default_rng(1)
            engine = ENGINES[name].make(robot, [mesh], ENVS)
            position, yaw = starts(scene, ENVS, 1)
            zero = np.zeros(ENVS)
            quaternion = np.stack([np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], 1)
            state = RobotState.at_rest(position + np.array([0, 0, 0.01]), quaternion, np.zeros((ENVS, 2), np.float32))
            engine.reset(np.arange(ENVS), state, np.zeros(ENVS, np.int64))
            seconds = 0.0
            for _ in range(SUBSTEPS // 5):
                engine.set_targets(drive.command(rng.uniform(-1, 1, (ENVS, 2)).astype(np.float32)))
                begun = time.process_time()
                engine.step(5)
                seconds += time.process_time() - begun
            lowest = float(engine.read().position[:, 2].min())
            engine.close()
            bar = ("<=", 0.12) if name == "sapien" and mesh is fine else (None, None)
            count = f"{len(mesh.triangles):,}".replace(",", " ")
            metric = f"physics, {name}, rover, {ENVS} in one scene of {count} triangles"
            rows.append(Row(metric, seconds / SUBSTEPS / ENVS * 1e3, "CPU-ms per robot-step", *bar))
            rows.append(Row(f"{metric}: lowest robot", lowest, "m"))
    return rows


def step_rows(scene: SimScene) -> list[Row]:
    """Whole steps of the environment: with an image every step, and with GaussGym's schedule."""
    robot, drive = find_robot("rover")
    quick = replace(NAVIGATE, control_period=0.02, camera=wide(84, 48))
    schedules = {
        "navigate (5 Hz, an image every step)": (NAVIGATE, CameraSettings()),
        "50 Hz, 84x48 every step": (quick, CameraSettings()),
        "50 Hz, 84x48 every 0.1 s (GaussGym's schedule)": (quick, CameraSettings(period=(0.1, 0.1))),
    }
    rows = []
    for name, (task, settings) in schedules.items():
        env = SceneEnv(task, [scene], robot, drive, ENVS, EnvConfig(camera_settings=settings))
        speed = measure(env, 60)
        env.close()
        whole = speed.physics + speed.cameras + speed.rest
        rows.append(Row(f"{name}: steps of {ENVS} environments", speed.steps_per_second, "per second (wall)"))
        rows.append(Row(f"{name}: physics", speed.physics, "CPU-ms per step"))
        rows.append(Row(f"{name}: cameras", speed.cameras, "CPU-ms per step"))
        bar = ("<=", 10.0) if task is NAVIGATE else (None, None)
        rows.append(Row(f"{name}: everything else", 100 * speed.rest / whole, "% of a step", *bar))
    return rows


def main() -> None:
    """Measure, print, and write the page if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--pairs", type=Path, metavar="PNG", help="write robot's images under photos")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    add_cpu_option(parser)
    options = parser.parse_args()
    name = "simulation" + use_cpu(options.cpu)
    scene = open_scene(options.bundle, allow_failed=True)
    rows = [*image_rows(scene), *physics_rows(scene), *step_rows(scene)]
    rows += [*photo_rows(Bundle.open(options.bundle), options.pairs), *start_rows(options.bundle)]
    text = f"{scene.lock.reference}, {len(scene.gaussians)} Gaussians, {len(scene.collision.triangles)} triangles."
    page = section(name, f"python benchmarks/simulation.py BUNDLE --cpu {options.cpu} --write", text, rows)
    print(page)
    if options.write:
        update_page({name: page})


if __name__ == "__main__":
    main()

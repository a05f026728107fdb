"""Arms at the table of a bundle: how well experts do their tasks, how well grasps hold, how fast all of it is.

python benchmarks/arms.py BUNDLE            prints the table
python benchmarks/arms.py BUNDLE --write    writes the page in docs/benchmarks
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.geometry import Camera  # noqa: E402
from sim import make  # noqa: E402
from sim.config import EnvConfig  # noqa: E402
from sim.controlled import find_robot  # noqa: E402
from sim.drivers import find_driver  # noqa: E402
from sim.env import SceneEnv  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402
from sim.sensors.cameras.settings import RobotCamera  # noqa: E402
from sim.tasks.handling.arm_tasks import ARM_TASKS, PUT_CUBE_ON_PLATE, THIRD, wrist_camera  # noqa: E402
from sim.tasks.handling.table_state import seen  # noqa: E402

EPISODES, SLOW_EPISODES = 256, 30
"""Episodes of an expert in SAPIEN, and in MuJoCo, which has loose bodies for as many robots."""
SHAKEN, SECONDS = 32, 3.0
"""Arms that shake what they hold, and for how long [s]."""


def expert(env: SceneEnv) -> float:
    """Share of first episodes [%] that the task's expert solves."""
    act = find_driver("auto", env, 0)
    env.reset(seed=999)
    solved, over = np.zeros(env.num_envs, bool), np.zeros(env.num_envs, bool)
    while not over.all():
        _, _, terminated, truncated, info = env.step(act())
        ended = (terminated | truncated) & ~over
        if ended.any():
            solved[ended] = info["final_success"][ended]
        over |= ended
    return 100 * float(solved.mean())


def shaken(env: SceneEnv) -> tuple[int, float]:
    """How many arms keep a cube of 0.5 kg while its goal jumps about, and by how much it slips in the median [mm]."""
    act = find_driver("auto", env, 0)
    env.reset(seed=3)
    item = env.task.items[0]
    for _ in range(60):  # picks it up, and waits
        assert env.now
        action, held = act(), seen(env.now).held(0, item.grasp)
        up = held & (seen(env.now).place[:, 0, 2] < 0.15)
        action[held] = 0
        action[up, 2] = 1
        action[held, -1] = -1
        env.step(action)
    begun, rng, way = _in_hand(env), np.random.default_rng(0), np.zeros((env.num_envs, 4))
    for step in range(round(SECONDS / env.task.control_period)):
        if step % 4 == 0:
            way = rng.choice([-1.0, 1.0], (env.num_envs, 4)) * [1, 1, 0.6, 1]
        env.step(np.column_stack([way, -np.ones(env.num_envs)]).astype(np.float32))
    for _ in range(10):
        env.step(np.column_stack([np.zeros((env.num_envs, 4)), -np.ones(env.num_envs)]).astype(np.float32))
    assert env.now
    kept = seen(env.now).held(0, item.grasp)
    slip = np.linalg.norm(_in_hand(env) - begun, axis=1)[kept]
    return int(kept.sum()), 1000 * float(np.median(slip)) if kept.any() else np.inf


def _in_hand(env: SceneEnv) -> np.ndarray:
    """Where the first thing is in the hand (N, 3) [m]."""
    assert env.now
    now = seen(env.now)
    return np.einsum("nji,nj->ni", now.hand[:, :3, :3], now.place[:, 0] - now.hand[:, :3, 3])


def speed(env: SceneEnv, steps: int = 60) -> float:
    """Control steps of all arms a CPU-second, driven by the expert."""
    act = find_driver("auto", env, 0)
    env.reset(seed=0)
    for _ in range(3):
        env.step(act())
    begun = time.process_time()
    for _ in range(steps):
        env.step(act())
    return env.num_envs * steps / (time.process_time() - begun)


def rows(bundle: Path) -> list[Row]:
    """All figures in one bundle."""
    scene, found = open_scene(bundle, allow_failed=True), list[Row]()
    for task in (one for one in ARM_TASKS if not one.picks):
        for engine, count in (("sapien", EPISODES), ("mujoco", SLOW_EPISODES)):
            if engine == "mujoco" and task is not PUT_CUBE_ON_PLATE:
                continue
            env = make(task.name, [scene], count, robot="panda", engine=engine, cameras=())
            bar = (">=", 98.0) if task is PUT_CUBE_ON_PLATE else (None, None)
            found.append(Row(f"expert, {task.name}, {engine}, of {count}", expert(env), "%", *bar))  # type: ignore[arg-type]
            env.close()
    robot, drive = find_robot("panda")
    heavy = replace(PUT_CUBE_ON_PLATE.items[0].body, mass=0.5)
    items = (replace(PUT_CUBE_ON_PLATE.items[0], body=heavy), *PUT_CUBE_ON_PLATE.items[1:])
    task = replace(PUT_CUBE_ON_PLATE, items=items, terminations={}, seconds=60.0)
    assert task.controller
    for engine, count in (("sapien", SHAKEN), ("mujoco", SLOW_EPISODES)):
        env = SceneEnv(task, [scene], robot, task.controller(robot, drive), count, EnvConfig(engine=engine, cameras=()))
        kept, slip = shaken(env)
        env.close()
        found.append(Row(f"0.5 kg shaken for 3 s, {engine}: kept, of {count}", kept, "", ">=", count))
        found.append(Row(f"0.5 kg shaken for 3 s, {engine}: slip, median", slip, "mm", "<=", 0.5))
    large = replace(THIRD, lens=Camera(128, 128, 112.0, 112.0, 64.0, 64.0))
    cases: list[tuple[str, tuple[RobotCamera, ...], float]] = [
        ("state", (), 3000),
        ("a third-person image of 64 px", (THIRD,), 1565),
        ("a third-person image of 128 px", (large,), 896),
        ("a wrist image of 64 px", (wrist_camera(robot),), 800),
    ]
    for name, cameras, target in cases:
        env = make("put_cube_on_plate", [scene], 64, robot="panda", cameras=cameras)
        found.append(Row(f"control steps, {name}", speed(env), "1/CPU-s", ">=", target))
        env.close()
    return found


def main() -> None:
    """Measure, print, and with --write write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    text = "Panda at the table of the sample hall, which was scanned; 20 Hz, two substeps of 25 ms."
    page = section("arms", "python benchmarks/arms.py BUNDLE --write", text, rows(options.bundle))
    print(page)
    if options.write:
        update_page({"arms": page})


if __name__ == "__main__":
    main()

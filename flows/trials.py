"""`splatyard doctor --try`: every backend run for real on a tiny input, each in a process of its own.

`python -m flows.trials NAME FOLDER [PYTHON]` runs one of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import cv2
import numpy as np

from flows.server import last_line
from pipeline.errors import SplatyardError
from pipeline.gpu_backends.catalog import BACKENDS
from pipeline.gpu_backends.errors import BadOutputError, GpuBackendError
from pipeline.machine import this_machine
from pipeline.running.building import BuildRequest, build
from pipeline.running.engine import missing_library
from pipeline.running.stages import STAGES
from pipeline.types import F32, F64, U8
from sim.chase_camera import look_at

SECONDS = 600.0
"""Time limit of a trial: at first use gsplat builds its kernels and numba compiles ours, for minutes."""
NETWORKS = ("vggt", "depth_anything_3", "nksr")
"""Backends that are run alone, with random weights where there are none: those give no scene."""
SMALL = (
    "splat.gaussians=1500",
    "splat.iterations=40",
    "splat.sim_gaussians=800",
    "splat.sim_iterations=5",
    "mesh.voxel_size=0.05",
    "coverage.places=20",
)
WIDTH, HEIGHT, FOCAL, VIEWS = 240, 180, 220.0, 12
ROOM = np.array([3.0, 2.5, 2.2])
"""Size of the tiny capture's room, one corner of which is the origin, z up [m]."""
TEXELS = 160
"""Resolution of its walls [1/m]."""


@dataclass(frozen=True)
class Result:
    """How a trial, such as "depth mvs", ended, and why it doesn't work.

    Wall time [s] includes the start of its process; memory is the peak of that, or of one that it started [bytes].
    """

    name: str
    state: Literal["works", "fails", "not here"]
    detail: str = ""
    seconds: float = 0.0
    memory: int = 0


def try_all(python: str = "") -> Iterator[Result]:
    """Run every trial, one after the other; the interpreter has the GPU backends' packages, "" is this one."""
    with tempfile.TemporaryDirectory(prefix="splatyard-try-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_capture(folder / "tiny")
        for name, reason in trials(python).items():
            yield Result(name, "not here", reason) if reason else run_trial(name, folder, python)


def trials(python: str = "") -> dict[str, str]:
    """All trials, and why one can't run here; "" where it can."""
    from sim.physics.catalog import engine_findings

    machine, found = this_machine(python), dict[str, str]()
    for stage in STAGES:
        for backend in get_args(get_type_hints(stage.params).get("backend")):
            if backend not in ("auto", *NETWORKS):
                lacks = machine.lacks(backend) if backend in BACKENDS else missing_library(stage, backend)
                found[f"{stage.name} {backend}"] = lacks or ""
    found |= {"whole build": "", "flow prefect": ""}
    found |= {f"network {name}": machine.lacks(name) or "" for name in NETWORKS}
    for finding in engine_findings():
        found[f"physics {finding.name}"] = "" if finding.state == "ok" else finding.detail
    return found | {"cameras gsplat": this_machine().lacks("gsplat") or ""}


def run_trial(name: str, folder: Path, python: str = "", limit: float = SECONDS) -> Result:
    """One of `trials` in a process of its own, with a time limit [s].

    The folder holds the capture `tiny`; trials of stages share a work folder in it.
    """
    started, log = time.monotonic(), folder / "trial.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-Pm", "flows.trials", name, str(folder), python],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
    end = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
    end.start()
    _, status, usage = os.wait4(process.pid, 0)  # with what it used, which `Popen` doesn't tell
    end.cancel()
    code = process.returncode = os.waitstatus_to_exitcode(status)
    seconds, memory = time.monotonic() - started, usage.ru_maxrss * 1024
    if code == 0:
        return Result(name, "works", "", seconds, memory)
    if seconds >= limit:
        detail = f"took over {limit:.0f} s"
    else:
        detail = f"signal {-code}" if code < 0 else last_line(log.read_bytes()[-4096:])
    return Result(name, "fails", detail, seconds, memory)


def write_capture(folder: Path) -> None:
    """Exact RGB-D frames of a room with textured walls: the camera moves along them and looks at a corner."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    texels = int(ROOM.max() * TEXELS)
    coarse = rng.integers(0, 256, (6, texels // 20, texels // 20, 3)).astype(np.float32)
    fine = rng.integers(-60, 60, (6, texels // 3, texels // 3, 3)).astype(np.float32)
    walls = [
        cv2.resize(a, (texels, texels)) + cv2.resize(b, (texels, texels)) for a, b in zip(coarse, fine, strict=True)
    ]
    matrix = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    np.savetxt(folder / "camera-intrinsics.txt", matrix)
    for view, share in enumerate(np.linspace(0, 1, VIEWS)):
        eye, target = np.array([0.5 + share, 0.5 + 0.2 * share, 1.1]), np.array([1.9, 2.3, 0.6 + 0.2 * share])
        world_from_camera = look_at(eye, target)
        image, depth = _render(walls, world_from_camera)
        cv2.imwrite(str(folder / f"frame-{view:06d}.color.png"), image)
        cv2.imwrite(str(folder / f"frame-{view:06d}.depth.png"), np.round(1000 * depth).astype(np.uint16))
        np.savetxt(folder / f"frame-{view:06d}.pose.txt", world_from_camera)


def _render(walls: list[F32], world_from_camera: F64) -> tuple[U8, F64]:
    """Image (H, W, 3) and depth (H, W) [m] of the room from inside: each ray's nearest wall ahead."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(columns - WIDTH / 2) / FOCAL, (rows - HEIGHT / 2) / FOCAL, np.ones_like(rows)], -1)
    rays = rays @ world_from_camera[:3, :3].T
    eye = world_from_camera[:3, 3]
    with np.errstate(divide="ignore"):
        reach = np.where(rays > 0, ROOM - eye, -eye) / rays
    axis = reach.argmin(-1)
    depth = np.take_along_axis(reach, axis[..., None], -1)[..., 0]
    points = (eye + rays * depth[..., None]) * TEXELS
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for wall, texture in enumerate(walls):
        across, along = [number for number in range(3) if number != wall // 2]
        on_it = (axis == wall // 2) & ((rays[..., wall // 2] > 0) == bool(wall % 2))
        x, y = points[..., across].astype(np.float32), points[..., along].astype(np.float32)
        image[on_it] = cv2.remap(texture, x, y, cv2.INTER_LINEAR)[on_it]
    return image.clip(0, 255).astype(np.uint8), depth


def _try(name: str, folder: Path, python: str) -> None:
    kind, _, backend = name.partition(" ")
    capture, out = folder / "tiny", folder / "out"
    if kind == "whole":
        on_cpu = ("poses.backend=refined", "depth.backend=sensor", "mesh.backend=tsdf", "splat.backend=cpu")
        build(BuildRequest(capture, out=out, settings=(*SMALL, *on_cpu)))
    elif kind == "flow":
        from flows.build import run

        run(BuildRequest(capture, out=folder / "flow", until="select"))
    elif kind == "network":
        _try_network(backend, capture, python)
    elif kind == "physics":
        _try_engine(backend)
    elif kind == "cameras":
        _try_cameras()
    else:
        interpreter = (f"{kind}.python={python}",) if python and backend in BACKENDS else ()
        build(BuildRequest(capture, out=out, settings=(*SMALL, f"{kind}.backend={backend}", *interpreter), until=kind))


def _try_network(name: str, capture: Path, python: str) -> None:
    from pipeline.gpu_backends.session import open_session
    from pipeline.poses.network import WORKERS

    weights = BACKENDS[name].weights[0].path
    if name == "nksr":
        points = np.random.default_rng(0).normal(size=(20000, 3))
        normals = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
        worker = "pipeline.mesh.nksr_worker"
        request = {"points": normals * np.float32(2), "normals": normals, "chunk": 0.0, "overlap": 0.0}
    else:
        worker = WORKERS[name]
        request = {"images": [str(file) for file in sorted(capture.glob("*.color.png"))[:3]]}
    options = {"weights": str(weights or ""), "random_weights": weights is None}
    try:
        with open_session(worker, options, python) as session:
            session.ask(request)
    except SplatyardError as error:
        if weights is not None or not isinstance(error.__cause__, BadOutputError):
            raise  # random weights may give no surface, or nothing finite


def _try_engine(name: str) -> None:
    from pipeline.geometry import Mesh
    from sim.controlled import find_robot
    from sim.physics.catalog import ENGINES, find_engine
    from sim.robots.state import RobotState
    from sim.scene.terrain import make_terrain

    robot, _ = find_robot("rover")
    corners = np.array([[-4.0, -3, 0], [4, -3, 0], [4, 3, 0], [-4, 3, 0]])
    floor = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    if name == "mujoco-worlds":
        robot, floor = find_robot("go2")[0], make_terrain(kinds=("flat",)).mesh()
    engine = find_engine(name, "cuda" if ENGINES[name].on_gpu else "cpu")(robot, [floor], 2, 0.004)
    try:
        positions = np.array([[1.0, 0.5, robot.base_height], [-1.0, 0.2, robot.base_height]])
        joints = np.tile(robot.default_position, (2, 1)).astype(np.float32)
        state = RobotState.at_rest(positions, np.tile([1.0, 0, 0, 0], (2, 1)), joints)
        engine.reset(np.arange(2), state, np.zeros(2, int))
        engine.step(100)
        moved = float(np.abs(engine.read().position - positions).max())
    finally:
        engine.close()
    if not moved < 0.05:
        raise RuntimeError(f"a robot at rest on a floor moved by {moved:.3f} m in 0.4 s")


def _try_cameras() -> None:
    from pipeline.geometry import Camera, Gaussians
    from sim.sensors.cameras.renderer import check_device, make_renderer

    check_device("cuda")
    rng = np.random.default_rng(0)
    count = 500
    scene = Gaussians(
        means=rng.normal(0, 1, (count, 3)).astype(np.float32),
        log_scales=np.full((count, 3), -3.0, np.float32),
        quaternions=rng.normal(size=(count, 4)).astype(np.float32),
        opacity_logits=np.ones(count, np.float32),
        sh=rng.normal(size=(count, 1, 3)).astype(np.float32),
    )
    pose = np.tile(look_at(np.array([4.0, 0.3, 0.2]), np.zeros(3)), (4, 1, 1))
    make_renderer([scene], "cuda").render(Camera(64, 48, 60, 60, 32, 24), pose, np.zeros(4, int))


def main() -> int:
    """Run one trial; a failure is the last line of stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="one that `trials` lists")
    parser.add_argument("folder", type=Path)
    parser.add_argument("python", nargs="?", default="")
    options = parser.parse_args()
    try:
        _try(options.name, options.folder, options.python)
    except (SplatyardError, GpuBackendError) as error:
        sys.stderr.write(" ".join(f"{error.found or error.rule}; {error.remedy}".split()) + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

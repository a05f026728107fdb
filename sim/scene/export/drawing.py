"""Pictures of an export by the program that it is for, in a process of its own.

    python -m sim.scene.export.drawing PROGRAM FOLDER IMAGES.npy

A process of its own can be given a display that this one hasn't, and may fail as it likes. Cameras are those whose name
begins with `view_` in `scene.xml`, or the views of `export.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from pipeline.errors import MachineError, install
from pipeline.export.agreement import EXPORT_FILE, Drawn
from pipeline.geometry import CV_FROM_GL, Camera, Pose, quaternion_from_matrix
from pipeline.types import U8
from sim import libraries

SAMPLES = 2
"""Rays of mujoco_warp along each side of a pixel: it has no other anti-aliasing."""
HITS = 64
"""Gaussians of a ray that Newton blends; its own 20 end before the wall."""
SECONDS = 600
"""For all pictures; a program's first ones may have to be compiled."""


def drawn_by_mujoco(folder: Path) -> Drawn:
    """MuJoCo's own pictures, by EGL where there is no display.

    Raises:
        MachineError: When it is not installed, or can't draw here.
    """
    return in_own_process("mujoco", folder, install("simulate"))


def in_own_process(program: str, folder: Path, remedy: str) -> Drawn:
    """Pictures by a program of `PROGRAMS`; see there."""
    rule = f"{program} draws what it opens"
    try:
        name = f"{program} {version(program)}"
    except PackageNotFoundError as error:
        raise MachineError(rule, found=f"{program} is not installed", remedy=remedy) from error
    environment = dict(os.environ)
    if "DISPLAY" not in environment:
        environment.setdefault("MUJOCO_GL", "egl")
    with tempfile.TemporaryDirectory() as made:
        images = Path(made, "images.npy")
        command = [sys.executable, "-P", "-m", __name__, program, str(folder.absolute()), str(images)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise MachineError(rule, found=f"no picture in {SECONDS} s", remedy="use a faster machine") from error
        if done.returncode or not images.exists():
            said = ([line.strip() for line in done.stderr.splitlines() if line.strip()] or ["nothing"])[-1]
            raise MachineError(rule, found=f"{name} can't draw here: {said[:200]}", remedy="use a machine where it can")
        return Drawn(name, np.load(images, allow_pickle=False))


def _mujoco(folder: Path) -> U8:
    mujoco = libraries.mujoco()
    model = mujoco.MjModel.from_xml_path(str(folder / "scene.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    cameras = [at for at in range(model.ncam) if model.camera(at).name.startswith("view_")]
    width, height = (int(side) for side in model.cam_resolution[cameras[0]])
    images = []
    with mujoco.Renderer(model, height, width) as renderer:
        for camera in cameras:
            renderer.update_scene(data, camera)
            images.append(renderer.render())
    return np.stack(images)


def _mujoco_warp(folder: Path) -> U8:
    wp, mjw = (libraries.load(name, "mujoco_warp draws", "pip install mujoco-warp") for name in ("warp", "mujoco_warp"))
    model = libraries.mujoco().MjModel.from_xml_path(str(folder / "scene.xml"))
    with wp.ScopedDevice("cpu"), np.load(folder / "splat.npz", allow_pickle=False) as splat:
        on_device = mjw.put_model(model)
        data = mjw.make_data(model)
        mjw.forward(on_device, data)
        context = mjw.create_render_context(model, render_rgb=True, samples_per_pixel=SAMPLES, **splat)
        mjw.refit_bvh(on_device, data, context)
        mjw.render(on_device, data, context)
        images = []
        for camera, (width, height) in enumerate(model.cam_resolution):
            image = wp.zeros((1, height, width), dtype=wp.vec3)
            mjw.get_rgb(context, camera, image)
            images.append(np.round(255 * image.numpy()[0]).astype(np.uint8))
    return np.stack(images)


def _newton(folder: Path) -> U8:
    wp, newton = (libraries.load(name, "newton draws", "pip install newton") for name in ("warp", "newton"))
    views = json.loads((folder / EXPORT_FILE).read_text())["views"]
    images = []
    with wp.ScopedDevice("cpu"), np.load(folder / "splat.npz", allow_pickle=False) as splat:
        builder = newton.ModelBuilder()
        builder.add_shape_gaussian(-1, gaussian=newton.Gaussian(**splat))
        model = builder.finalize(device="cpu")
        whole = newton.sensors.SensorCamera.RenderConfig(gaussians_max_num_hits=HITS)
        sensor = newton.sensors.SensorCamera(model, default_render_config=whole)
        for told in views:
            lens, pose = Camera.from_json(told["camera"]), Pose.from_matrix(told["file_from_camera"])
            w, x, y, z = quaternion_from_matrix(pose.rotation @ CV_FROM_GL)
            rays = np.zeros((lens.height, lens.width, 1, 2, 3), np.float32)
            directions = lens.rays() @ CV_FROM_GL.T
            rays[:, :, 0, 1] = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
            color = sensor.allocate_image_color(1, lens.width, lens.height)
            placed = wp.array(np.array([(*pose.translation, x, y, z, w)], np.float32), dtype=wp.transformf)
            world = wp.zeros(1, dtype=wp.int32)
            sensor.update(model.state(), placed, wp.array(rays, dtype=wp.vec3f), color_image=color, world_indices=world)
            rgba = color.numpy().view(np.uint8).reshape(lens.height, lens.width, 4)
            images.append(rgba[..., :3].copy())
    return np.stack(images)


PROGRAMS: Mapping[str, Callable[[Path], U8]] = {"mujoco": _mujoco, "mujoco_warp": _mujoco_warp, "newton": _newton}
"""By the name of their package."""


if __name__ == "__main__":
    np.save(sys.argv[3], PROGRAMS[sys.argv[1]](Path(sys.argv[2])))

"""Images of a bundle as other programs show its exports: MuJoCo, and Blender where its Python module is.

    python -m benchmarks.export_images BUNDLE --out docs/images/exports [--blender PYTHON]

MuJoCo draws by EGL. `PYTHON` is an interpreter in which `import bpy` works.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.export.form import export
from pipeline.scenes.bundle import Bundle, BundleCamera
from sim import libraries
from sim.scene.export.catalog import FORMS

SIZE = 640, 480
BLENDER = """
import bpy, json, math, mathutils, sys
told = json.loads(sys.argv[1])
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.gltf(filepath=told["glb"])
camera = bpy.data.cameras.new("camera")
placed = bpy.data.objects.new("camera", camera)
scene = bpy.context.scene
scene.collection.objects.link(placed)
placed.matrix_world = mathutils.Matrix(told["pose"]) @ mathutils.Matrix.Diagonal((1, -1, -1, 1))
camera.sensor_fit, camera.angle = "HORIZONTAL", told["angle"]
scene.camera, scene.render.engine, scene.cycles.samples = placed, "CYCLES", 4
scene.render.resolution_x, scene.render.resolution_y = told["size"]
scene.view_settings.view_transform = "Standard"
scene.render.filepath = told["out"]
bpy.ops.render.render(write_still=True)
"""


def draw_exports(bundle: Bundle, out: Path, blender: str = "", view: int = 24) -> list[Path]:
    """Write `mujoco.jpg`, and `blender.jpg` where an interpreter with bpy is given; returns what was written."""
    out.mkdir(parents=True, exist_ok=True)
    camera, written = bundle.cameras[view % len(bundle.cameras)], [out / "mujoco.jpg"]
    with tempfile.TemporaryDirectory() as folder:
        export(bundle, FORMS["mjcf"], Path(folder, "mjcf"))
        Image.fromarray(in_mujoco(Path(folder, "mjcf", "scene.xml"), camera)).save(written[0], quality=85)
        if blender:
            export(bundle, FORMS["glb"], Path(folder, "glb"))
            image = in_blender(blender, Path(folder, "glb", "scene.glb"), camera, Path(folder, "blender.png"))
            written.append(out / "blender.jpg")
            Image.fromarray(image).save(written[1], quality=85)
    return written


def in_mujoco(scene: Path, view: BundleCamera) -> np.ndarray:
    """What a camera of the capture would see of an MJCF file (H, W, 3) uint8, by MuJoCo's own renderer."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    mujoco = libraries.mujoco()
    model = mujoco.MjModel.from_xml_path(str(scene))
    model.vis.global_.fovy = math.degrees(2 * math.atan(view.camera.height / 2 / view.camera.fy))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, SIZE[1], SIZE[0]) as renderer:
        free = mujoco.MjvCamera()
        renderer.update_scene(data, free)
        for eye in renderer.scene.camera:
            eye.pos = view.world_from_camera.translation
            eye.forward, eye.up = view.world_from_camera.rotation[:, 2], -view.world_from_camera.rotation[:, 1]
        return renderer.render()


def in_blender(python: str, scene: Path, view: BundleCamera, image: Path) -> np.ndarray:
    """The same of a GLB file, by Blender."""
    angle = 2 * math.atan(view.camera.width / 2 / view.camera.fx)
    pose = view.world_from_camera.matrix.tolist()
    told = {"glb": str(scene), "out": str(image), "pose": pose, "angle": angle, "size": SIZE}
    subprocess.run([python, "-c", BLENDER, json.dumps(told)], check=True, stdout=subprocess.DEVNULL)
    return np.asarray(Image.open(image).convert("RGB"))


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--out", type=Path, default=Path("docs/images/exports"))
    parser.add_argument("--blender", default="")
    options = parser.parse_args()
    for path in draw_exports(Bundle.open(options.bundle), options.out, options.blender):
        print(path)


if __name__ == "__main__":
    main()

"""The one table of forms that bundles are exported in: what opens each, and how. Help and docs are made of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True)
class Programs:
    """What opens an export.

    Attributes:
        names: The programs.
        opened: What they open in the export's folder, by a pattern whose last match counts; empty for the folder.
        line: How one of them opens it: `{}` is its path, `{shell}` that as one word of a shell.
    """

    names: str
    opened: str
    line: str

    def how(self, folder: Path, start: Path | None = None) -> str:
        """The line for an export in a folder, with its path as seen from another folder if one is given."""
        opened = max(folder.glob(self.opened)) if self.opened else folder
        opened = opened.relative_to(start) if start else opened
        return self.line.format(*[opened] * self.line.count("{}"), shell=shlex.quote(str(opened)))


PROGRAMS: Mapping[str, Programs] = MappingProxyType(
    {
        "mjcf": Programs("MuJoCo", "scene.xml", "python -m mujoco.viewer --mjcf={shell}"),
        "mujoco_warp": Programs(
            "mujoco_warp, mjlab",
            "",
            "mujoco_warp.create_render_context(mujoco.MjModel.from_xml_path('{}/scene.xml'), nworld=N, "
            "render_rgb=True, samples_per_pixel=2, **numpy.load('{}/splat.npz'))",
        ),
        "newton": Programs(
            "Newton",
            "",
            "builder.add_shape_gaussian(-1, gaussian=newton.Gaussian(**numpy.load('{}/splat.npz'))); "
            "builder.add_shape_mesh(-1, mesh=newton.Mesh(**numpy.load('{}/collision.npz')), "
            "cfg=newton.ModelBuilder.ShapeConfig(is_visible=False))",
        ),
        "maniskill": Programs(
            "ManiSkill",
            "scene_builder.py",
            "in a task: runpy.run_path('{}')['BundleSceneBuilder'](self).build()",
        ),
        "urdf": Programs("SAPIEN, PyBullet", "*.urdf", "SAPIEN: scene.create_urdf_loader().load_multiple('{}')"),
        "usd": Programs("Isaac Sim, Omniverse", "scene.usdc", "Isaac Sim: File > Open, {}"),
        "glb": Programs(
            "Blender, Unity, Unreal, web pages", "scene.glb", "Blender: File > Import > glTF 2.0 (.glb/.gltf), {}"
        ),
        "glb_splat": Programs(
            "CesiumJS, Babylon.js, three.js", "scene.glb", "CesiumJS: Cesium.Model.fromGltfAsync({{ url: '{}' }})"
        ),
        "obj": Programs(
            "Blender, Unity, MeshLab",
            "scene.obj",
            "Blender: File > Import > Wavefront (.obj), Forward Axis Y, Up Axis Z, {}",
        ),
        "gaussgym": Programs("GaussGym", "", "gauss_train --terrain.scenes.iphone_data.repo_id=local:{shell}"),
        "sog": Programs("SuperSplat, PlayCanvas", "scene.sog", "SuperSplat: drag {} onto superspl.at/editor"),
        "streamed_sog": Programs(
            "PlayCanvas, Babylon.js, SuperSplat",
            "lod-meta.json",
            "PlayCanvas: new Asset('scene', 'gsplat', {{ url: '{}' }})",
        ),
        "spz": Programs("Spark, Babylon.js", "scene.spz", "Spark: new SplatMesh({{ url: '{}' }})"),
        "spz4": Programs("viewers that read SPZ 4", "scene.spz", 'spz: spz::loadSpz("{}", {{}})'),
        "habitat_gs": Programs(
            "Habitat-GS",
            "stages/*.gs.ply",
            "python examples/gaussian_viewer.py --input {shell}",
        ),
        "nav2": Programs(
            "Nav2 and what else reads maps of ROS",
            "level_*/map.yaml",
            "ros2 run nav2_map_server map_server --ros-args -p yaml_filename:={shell}",
        ),
        "nerfstudio": Programs(
            "nerfstudio",
            "transforms.json",
            "ns-train splatfacto nerfstudio-data --data {shell} --center-method none --auto-scale-poses False",
        ),
        "colmap": Programs("COLMAP, trainers of splats", "sparse/0", "COLMAP: File > Import model, {}"),
    }
)

"""A bundle as a scene builder of ManiSkill 3: one Python file that loads the meshes beside it.

Source: github.com/haosulab/ManiSkill, mani_skill/utils/scene_builder: SceneBuilder, register_scene_builder.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.export.form import refuse_object
from pipeline.scenes.bundle import Bundle
from sim.scene.export.models import export_urdf

BUILDER_FILE = "scene_builder.py"
BUILDER = '''"""A scanned scene for ManiSkill 3. In a task: BundleSceneBuilder(self).build() in _load_scene."""

import json
from pathlib import Path

import sapien
from mani_skill.utils.scene_builder import SceneBuilder
from mani_skill.utils.scene_builder.registration import register_scene_builder

HERE = Path(__file__).parent
ORIGIN = json.loads((HERE / "origin.json").read_text())
REGIONS = json.loads((HERE / "regions.json").read_text())


@register_scene_builder("splatyard-" + ORIGIN["bundle"])
class BundleSceneBuilder(SceneBuilder):
    """The scene stands still: z up, metres, floor at z = 0."""

    build_configs = [ORIGIN["bundle"]]
    spawn_poses = [(pose["position"], pose["yaw"]) for pose in REGIONS["spawn_poses"]]

    def build(self, build_config_idxs=None):
        builder = self.scene.create_actor_builder()
        builder.add_nonconvex_collision_from_file(str(HERE / "collision.obj"))
        builder.add_visual_from_file(str(HERE / "visual.obj"))
        builder.initial_pose = sapien.Pose()
        self.scene_objects = {"scene": builder.build_static(name="scene")}
        self.movable_objects, self.articulations = {}, {}
        self.navigable_positions = [position for position, _ in self.spawn_poses]

    def initialize(self, env_idx, init_config_idxs=None):
        """Nothing moves."""
'''
"""Names no bundle, so that no name can be code: it reads them from the files beside."""


def export_maniskill(bundle: Bundle, folder: Path) -> None:
    """Write `scene_builder.py` and its meshes, with a URDF for each object that was cut out.

    Raises:
        SimError: When the bundle is an object by itself.
    """
    refuse_object(bundle, "a scene builder of ManiSkill builds a scene", "urdf")
    export_urdf(bundle, folder)
    (folder / BUILDER_FILE).write_text(BUILDER)

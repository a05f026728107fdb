"""A bundle as a scene dataset of Habitat-GS: splat, mesh for physics, and the files that name them. Y is up.

Source: github.com/zju3dv/habitat-gs, README.md, "Organize Scene Dataset"; Habitat's stage_config.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from pipeline.export.form import FRICTION, Y_UP, refuse_object, short_origin
from pipeline.geometry import quaternion_from_matrix
from pipeline.scenes.bundle import Bundle
from pipeline.splat.ply import save_splat


def export_habitat_gs(bundle: Bundle, folder: Path) -> None:
    """Write `NAME.scene_dataset_config.json` and what it finds: stage, scene, splat, mesh; and `starts.json`.

    Raises:
        SimError: When the bundle is an object by itself.
    """
    refuse_object(bundle, "Habitat-GS shows the splat of a scene", "usd")
    name = re.sub(r"\W", "_", bundle.manifest.name)
    stage = {
        "render_asset": f"../../stages/{name}.gs.ply",
        "collision_asset": f"../../meshes/{name}.mesh.ply",
        "up": [0, 1, 0],
        "front": [0, 0, -1],
        "friction_coefficient": FRICTION,
    }
    texts = {
        f"{name}.scene_dataset_config.json": {
            "stages": {"paths": {".json": ["configs/stages"]}},
            "scene_instances": {"paths": {".json": ["configs/scenes"]}},
        },
        f"configs/stages/{name}.stage_config.json": stage,
        f"configs/scenes/{name}.scene_instance.json": {"stage_instance": {"template_name": name}},
        "starts.json": [
            {
                "position": Y_UP.apply(pose.position).tolist(),
                "rotation": _heading(pose.world_from_base.rotation),
            }
            for pose in bundle.regions.spawn_poses
        ],
    }
    for file, content in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content, indent=1))
    for part in ("stages", "meshes"):
        (folder / part).mkdir()
    save_splat(bundle.classic_splat().transformed(Y_UP), folder / "stages" / f"{name}.gs.ply", short_origin(bundle))
    bundle.mesh("collision").transformed(Y_UP).save(folder / "meshes" / f"{name}.mesh.ply")


def _heading(rotation: np.ndarray) -> list[float]:
    """Quaternion xyzw of an agent, which looks along -z with y up, from that of a base, x forward and z up."""
    base_from_agent = np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])
    return np.roll(quaternion_from_matrix(Y_UP.rotation @ rotation @ base_from_agent), -1).tolist()

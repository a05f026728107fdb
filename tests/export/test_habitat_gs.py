"""Habitat-GS: the files find each other as Habitat resolves names, and hold the scene with y up."""

from __future__ import annotations

import json
from pathlib import Path

import gsply
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from pipeline.export.form import Y_UP
from pipeline.export.habitat_gs import export_habitat_gs
from pipeline.scenes.bundle import Bundle


def test_the_dataset_finds_its_scene(bundle: Bundle, tmp_path: Path):
    """Scene by name, its stage by template, that one's files by paths from its own folder."""
    export_habitat_gs(bundle, tmp_path)
    dataset = json.loads((tmp_path / "room.scene_dataset_config.json").read_text())
    (scenes,), (stages,) = (dataset[kind]["paths"][".json"] for kind in ("scene_instances", "stages"))
    scene = json.loads((tmp_path / scenes / "room.scene_instance.json").read_text())
    name = scene["stage_instance"]["template_name"]
    stage = json.loads((tmp_path / stages / f"{name}.stage_config.json").read_text())
    splat = (tmp_path / stages / stage["render_asset"]).resolve()
    assert splat.name.endswith(".gs.ply")
    expected = bundle.classic_splat().transformed(Y_UP)
    np.testing.assert_array_equal(gsply.plyread(splat).means, expected.means)
    mesh = trimesh.load_mesh((tmp_path / stages / stage["collision_asset"]).resolve(), process=False)
    np.testing.assert_allclose(mesh.vertices, Y_UP.apply(bundle.mesh("collision").vertices), atol=1e-6)
    assert mesh.bounds[0][1] == np.float32(bundle.mesh("collision").vertices[:, 2].min())


def test_agents_look_where_robots_would(bundle: Bundle, tmp_path: Path):
    """Along -z of their own, with y up."""
    export_habitat_gs(bundle, tmp_path)
    starts = json.loads((tmp_path / "starts.json").read_text())
    assert len(starts) == len(bundle.spawn_poses)
    for start, pose in zip(starts, bundle.spawn_poses, strict=True):
        turn = Rotation.from_quat(start["rotation"])
        np.testing.assert_allclose(turn.apply([0, 0, -1]), Y_UP.rotate(pose.rotation[:, 0]), atol=1e-6)
        np.testing.assert_allclose(turn.apply([0, 1, 0]), [0, 1, 0], atol=1e-6)
        np.testing.assert_allclose(start["position"], Y_UP.apply(pose.translation), atol=1e-9)

"""mujoco_warp, Newton and ManiSkill: arrays by the names that they take, and a scene on which things come to rest."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mujoco
import numpy as np
import pytest

from pipeline.errors import MachineError
from pipeline.export.agreement import Drawing, agreement
from pipeline.export.form import export
from pipeline.geometry import SH_C0, Gaussians
from pipeline.scenes.bundle import Bundle
from sim import libraries
from sim.scene.export.catalog import FORMS
from sim.scene.export.drawing import drawn_by_mujoco
from sim.scene.export.models import export_mjcf
from sim.scene.export.mujoco_warp import export_mujoco_warp, splat_arrays
from sim.scene.export.newton import export_newton, with_backdrop
from tests.bundles import make_bundle
from tests.export.conftest import image
from tests.synthetic import TABLE_TOP, Room

pytestmark = pytest.mark.usefixtures("small_textures")
RADIUS = 0.1
RESTS = {(3.0, 1.5, 0.6): RADIUS, (1.7, 2.2, 1.1): TABLE_TOP + RADIUS}
"""Where balls are let go, and how high they come to rest: on the floor and on the table."""


@pytest.fixture
def bundle(tmp_path: Path, room: Room) -> Bundle:
    """The furnished room."""
    return Bundle.open(make_bundle(tmp_path / "bundles", room))


def test_balls_rest_on_the_ground(bundle: Bundle, tmp_path: Path):
    """On the floor and on the table, which is filled; the room's four walls are as high as a robot, and in place."""
    export_mujoco_warp(bundle, tmp_path)
    spec = mujoco.MjSpec.from_file(str(tmp_path / "scene.xml"))
    for place in RESTS:
        ball = spec.worldbody.add_body(pos=place)
        ball.add_freejoint()
        ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[RADIUS, 0, 0])
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 1000)
    np.testing.assert_allclose(data.qpos.reshape(-1, 7)[:, 2], list(RESTS.values()), atol=0.003)
    low, high = bundle.mesh("collision").vertices[:, :2].min(0), bundle.mesh("collision").vertices[:, :2].max(0)
    heights, size = model.hfield_data, model.hfield_size[0]
    np.testing.assert_allclose(model.geom("ground").pos[:2], (low + high) / 2, atol=1e-6)
    np.testing.assert_allclose(2 * size[:2], high - low, atol=1e-6)
    assert heights.max() * size[2] + model.geom("ground").pos[2] > 1.5
    assert model.nsite == len(bundle.regions.spawn_poses) + len(bundle.regions.goals)
    assert model.ncam == 2 or model.ncam == 3


def test_mujoco_warp_gets_the_splat(bundle: Bundle, tmp_path: Path):
    """By the names of its renderer's arguments, as 32-bit numbers: standard deviations, wxyz, colours and opacities."""
    splat = bundle.splat("sim")
    splat_arrays(splat, tmp_path / "splat.npz")
    with np.load(tmp_path / "splat.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].shape[1:] for name in arrays} == {
            "splat_position": (3,),
            "splat_rotation": (4,),
            "splat_scale": (3,),
            "splat_rgba": (4,),
        }
        assert {arrays[name].dtype for name in arrays} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(arrays["splat_position"], splat.means)
        np.testing.assert_allclose(np.log(arrays["splat_scale"]), splat.log_scales, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(arrays["splat_rotation"], axis=1), 1, atol=1e-6)
        again = Gaussians.from_colors(
            arrays["splat_position"],
            arrays["splat_scale"],
            arrays["splat_rotation"],
            arrays["splat_rgba"][:, :3],
            0.5,
            1,
        )
        opacity = np.clip(arrays["splat_rgba"][:, 3].astype(np.float64), 1e-6, 1 - 1e-6)
        again = Gaussians(
            *(getattr(again, name) for name in ("means", "log_scales", "quaternions")),
            np.log(opacity / (1 - opacity)).astype(np.float32),
            again.sh,
            splat.antialiased,
        )
        pose = bundle.cameras[2].world_from_camera
        assert np.abs(image(again, pose) - image(replace(splat, sh=splat.sh[:, :1]), pose)).max() < 1 / 255


def test_newton_gets_splat_and_mesh(bundle: Bundle, tmp_path: Path):
    """By the names of its classes' arguments, with rotations xyzw."""
    export_newton(bundle, tmp_path)
    splat, mesh = bundle.splat("sim"), bundle.mesh("collision")
    with np.load(tmp_path / "splat.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"positions", "rotations", "scales", "opacities", "sh_coeffs", "min_response"}
        unit = splat.quaternions / np.linalg.norm(splat.quaternions, axis=1, keepdims=True)
        np.testing.assert_allclose(arrays["rotations"][: len(splat)], unit[:, [1, 2, 3, 0]], atol=1e-6)
        np.testing.assert_allclose(arrays["opacities"][: len(splat)], splat.opacities, atol=1e-6)
        assert arrays["min_response"].shape == ()
    with np.load(tmp_path / "collision.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["vertices"][arrays["indices"].reshape(-1, 3)], mesh.corners())


def test_the_backdrop_is_black_and_behind_all(bundle: Bundle):
    """A ray from the scene in any direction ends in it: at its largest response, farther than all Gaussians."""
    splat = bundle.splat("sim")
    box = with_backdrop(splat)[len(splat) :]
    np.testing.assert_allclose(box.sh[:, 0] * SH_C0 + 0.5, 0, atol=1e-6)
    eye = bundle.cameras[2].world_from_camera.translation
    rays = np.random.default_rng(0).normal(size=(500, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    scales = np.exp(box.log_scales.astype(np.float64))
    start, along = (eye - box.means) / scales, rays[:, None] / scales
    distance = -(start * along).sum(2) / (along**2).sum(2)
    response = np.exp(-0.5 * ((start + along * distance[..., None]) ** 2).sum(2))
    covered = np.where(distance > np.linalg.norm(splat.means - eye, axis=1).max(), response * box.opacities, 0)
    assert np.prod(1 - covered, axis=1).max() < 0.05


def test_mujoco_shows_what_we_show(bundle: Bundle, tmp_path: Path):
    """The room's mesh has no colours and the splat has few Gaussians, so only shapes: pictures of the right size."""
    export_mjcf(bundle, tmp_path)
    try:
        drawn = drawn_by_mujoco(tmp_path)
    except MachineError as error:
        pytest.skip(str(error.found))
    told = agreement(bundle, Drawing(lambda _: drawn), tmp_path)
    assert drawn.program == f"mujoco {mujoco.__version__}"
    assert len(told["psnr_db"]) == len(drawn.images)


@pytest.mark.usefixtures("undrawn")
def test_maniskill_builds_the_scene(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In SAPIEN itself, by the file as it was written: balls rest on the floor and on the table."""
    sapien = libraries.sapien()
    builder, registration = ModuleType("mani_skill.utils.scene_builder"), ModuleType("registration")
    registered = dict[str, type]()
    builder.__dict__["SceneBuilder"] = type(
        "SceneBuilder",
        (),
        {"__init__": lambda self, env: setattr(self, "env", env), "scene": property(lambda self: self.env.scene)},
    )
    registration.__dict__["register_scene_builder"] = lambda name: lambda made: registered.setdefault(name, made)
    for name in ("mani_skill", "mani_skill.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "mani_skill.utils.scene_builder", builder)
    monkeypatch.setitem(sys.modules, "mani_skill.utils.scene_builder.registration", registration)
    export(bundle, FORMS["maniskill"], tmp_path / "out")
    file = runpy.run_path(str(tmp_path / "out" / "scene_builder.py"))
    scene = sapien.Scene([sapien.physx.PhysxCpuSystem()])
    made = file["BundleSceneBuilder"](SimpleNamespace(scene=scene))
    monkeypatch.setattr(sapien.ActorBuilder, "add_visual_from_file", lambda self, file: Path(file).stat())
    made.build()
    assert registered == {"splatyard-room@1.0.0": file["BundleSceneBuilder"]}
    balls = []
    for place in RESTS:
        one = scene.create_actor_builder()
        one.add_sphere_collision(radius=RADIUS)
        one.initial_pose = sapien.Pose(place)
        balls.append(one.build())
    scene.set_timestep(0.005)
    for _ in range(400):
        scene.step()
    np.testing.assert_allclose([ball.pose.p[2] for ball in balls], list(RESTS.values()), atol=0.005)

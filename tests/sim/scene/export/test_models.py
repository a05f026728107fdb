"""MJCF and URDF of a bundle: solid where the place is solid, and hollow where it is hollow."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import trimesh

from pipeline.export.texture import textured_rest
from pipeline.geometry import Pose, matrix_from_rotvec
from pipeline.scenes.bundle import Bundle
from pipeline.splat.ply import load_splat
from sim import libraries
from sim.robots.reading import load_robot
from sim.scene.export.models import export_mjcf, export_urdf
from sim.scene.loose import rigid_body
from tests.bundles import make_bundle
from tests.objects.furniture import JOINT, with_joint
from tests.synthetic import TABLE_TOP, Room

pytestmark = pytest.mark.usefixtures("small_textures")
RADIUS = 0.1
PLACES = {"floor": (3.0, 1.5, 0.6), "table": (1.7, 2.2, 1.1), "under the table": (1.7, 2.3, 0.3)}
"""Where balls are let go; the table's plate begins at 0.68 m."""
RESTS = {"floor": RADIUS, "table": TABLE_TOP + RADIUS, "under the table": RADIUS}


@pytest.fixture
def bundle(tmp_path: Path, room: Room) -> Bundle:
    """The furnished room."""
    return Bundle.open(make_bundle(tmp_path / "bundles", room))


def test_balls_rest_on_the_triangles(bundle: Bundle, tmp_path: Path):
    """On the floor, on the table and below it; in mid-air they touch nothing, as they would a convex hull."""
    export_mjcf(bundle, tmp_path)
    spec = mujoco.MjSpec.from_file(str(tmp_path / "scene.xml"))
    for place in PLACES.values():
        ball = spec.worldbody.add_body(pos=place)
        ball.add_freejoint()
        ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[RADIUS, 0, 0])
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data)
    assert data.ncon == 0
    mujoco.mj_step(model, data, 1000)
    np.testing.assert_allclose(data.qpos.reshape(-1, 7)[:, 2], list(RESTS.values()), atol=0.003)


def test_sites_are_spawn_poses_and_goals(bundle: Bundle, tmp_path: Path):
    """Position, x forward, z up; gravity and friction beside."""
    export_mjcf(bundle, tmp_path)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "scene.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for name, pose in (("spawn_0", bundle.regions.spawn_poses[0]), ("goal_0", bundle.regions.goals[0])):
        site = data.site(name)
        np.testing.assert_allclose(site.xpos, pose.position, atol=1e-6)
        expected = [[np.cos(pose.yaw), np.sin(pose.yaw), 0], [-np.sin(pose.yaw), np.cos(pose.yaw), 0], [0, 0, 1]]
        np.testing.assert_allclose(site.xmat.reshape(3, 3).T, expected, atol=1e-6)
    assert model.opt.gravity.tolist() == [0, 0, -9.81]
    assert model.flex_friction[0, 0] == 1.0


def test_urdf_names_the_very_meshes(bundle: Bundle, tmp_path: Path, room: Room):
    """Relative to the file; vertices, triangles and their order are the bundle's, colours those of the visual mesh."""
    export_urdf(bundle, tmp_path)
    link = ElementTree.parse(tmp_path / "scene.urdf").getroot().find("link")
    assert link is not None
    for part in ("visual", "collision"):
        found = link.find(f"{part}/geometry/mesh")
        assert found is not None
        mesh: Any = trimesh.load(tmp_path / found.attrib["filename"], process=False, maintain_order=True)
        np.testing.assert_allclose(mesh.vertices, room.mesh.vertices, atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, room.mesh.triangles)
    assert link.find("collision").attrib == {"concave": "yes"}  # type: ignore[union-attr]


def test_urdf_is_read_by_sapien_and_its_mesh_carries(bundle: Bundle, tmp_path: Path):
    """One actor with one collision mesh; its triangles, taken as such, carry balls on the table and below."""
    export_urdf(bundle, tmp_path)
    sapien = libraries.sapien()
    world = sapien.Scene([sapien.physx.PhysxCpuSystem()])
    world.set_timestep(0.004)
    articulations, (actor,), _ = world.create_urdf_loader().parse(str(tmp_path / "scene.urdf"))
    assert not articulations
    (collision,) = actor.collision_records
    ground = world.create_actor_builder()
    ground.add_nonconvex_collision_from_file(collision.filename, collision.pose, collision.scale)
    ground.build_static()
    balls = []
    for place in PLACES.values():
        ball = world.create_actor_builder()
        ball.add_sphere_collision(radius=RADIUS)
        balls.append(ball.build())
        balls[-1].set_pose(sapien.Pose(place))
    for _ in range(400):
        world.step()
    np.testing.assert_allclose([ball.pose.p[2] for ball in balls], list(RESTS.values()), atol=0.003)


def test_mujoco_shows_the_texture(bundle: Bundle, tmp_path: Path):
    """The image and where each corner of the place lies in it, as bright as it is: no light of MuJoCo's counts."""
    export_mjcf(bundle, tmp_path)
    made = textured_rest(bundle)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "scene.xml"))
    np.testing.assert_array_equal(np.reshape(model.tex_data[: made.image.size], made.image.shape), made.image)
    corners = model.mesh_texcoord[model.mesh_facetexcoord]  # rows from the top: MuJoCo turns OBJ's over
    np.testing.assert_allclose(corners, made.atlas.uv[made.atlas.triangles], atol=1e-6)
    material = model.geom_matid[model.geom("visual").id]
    assert model.tex(model.mat_texid[material].max()).name == "visual"
    assert (model.mat_emission[material], model.mat_specular[material]) == (1, 0)


def test_splats_lie_beside_and_are_named(cut_room: Path, tmp_path: Path):
    """Those of the place without its objects and of each object, with the frame of the first."""
    bundle = Bundle.open(cut_room)
    export_mjcf(bundle, tmp_path)
    custom = {one.name: one.data for one in mujoco.MjSpec.from_file(str(tmp_path / "scene.xml")).texts}
    np.testing.assert_array_equal(load_splat(tmp_path / custom["splat"]).means, bundle.splat("rest").means)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "scene.xml"))
    np.testing.assert_array_equal(model.numeric("scene_from_splat").data.reshape(4, 4), np.eye(4))
    for one in bundle.objects:
        read = load_splat(tmp_path / custom[f"splat_{one.record.name}"])
        np.testing.assert_allclose(read.means, one.splat().means, atol=1e-5)


def test_objects_are_bodies_that_stay(cut_room: Path, tmp_path: Path):
    """Of their mass and shape, where they stood; the place is without them, and nothing has their inertia."""
    bundle = Bundle.open(cut_room)
    export_mjcf(bundle, tmp_path)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "scene.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for one in bundle.objects:
        body = model.body(f"object_{one.record.name}")
        np.testing.assert_allclose(data.body(body.id).xpos, one.world_from_body.translation, atol=1e-6)
        assert body.mass[0] == pytest.approx(one.record.mass)
        shown = next(g for g in range(model.ngeom) if model.geom_bodyid[g] == body.id and not model.geom_contype[g])
        vertices = model.mesh_vert[model.mesh_vertadr[model.geom_dataid[shown]] :][
            : model.mesh_vertnum[model.geom_dataid[shown]]
        ]
        world = vertices @ data.geom_xmat[shown].reshape(3, 3).T + data.geom_xpos[shown]
        expected = one.world_from_body.apply(one.mesh().vertices)
        np.testing.assert_allclose(world.min(0), expected.min(0), atol=1e-4)
        np.testing.assert_allclose(world.max(0), expected.max(0), atol=1e-4)
    before = data.qpos.copy()
    mujoco.mj_step(model, data, 1000)
    np.testing.assert_allclose(data.qpos, before, atol=0.01)


@pytest.mark.parametrize("kind", ["hinge", "slide"])
def test_a_joint_moves_a_body_as_it_was_seen(cut_room: Path, tmp_path: Path, kind: str):
    """In MuJoCo and in the URDF, by the range, about an axis that is neither upright nor through its origin."""
    bundle = Bundle.open(with_joint(cut_room, tmp_path / "room" / "1.1.0", JOINT | {"kind": kind}))
    one = next(one for one in bundle.objects if one.record.joint)
    axis, point, travel = np.array(JOINT["axis"]), np.array(JOINT["point"]), 0.7
    motion = Pose(np.eye(3), travel * axis)
    if kind == "hinge":
        turn = matrix_from_rotvec(travel * axis)
        motion = Pose(turn, point - turn @ point)
    expected = motion @ one.world_from_body
    for export in (export_mjcf, export_urdf):
        (tmp_path / export.__name__).mkdir()
        export(bundle, tmp_path / export.__name__)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "export_mjcf" / "scene.xml"))
    data, joint = mujoco.MjData(model), model.joint(f"object_{one.record.name}_joint")
    np.testing.assert_allclose(joint.range, [0, travel], atol=1e-6)
    data.qpos[joint.qposadr[0]] = travel
    mujoco.mj_forward(model, data)
    body = data.body(f"object_{one.record.name}")
    np.testing.assert_allclose(body.xpos, expected.translation, atol=1e-6)
    np.testing.assert_allclose(body.xmat.reshape(3, 3), expected.rotation, atol=1e-6)
    robot = ElementTree.parse(tmp_path / "export_urdf" / f"object_{one.record.name}.urdf").getroot()
    held = robot.find("joint")
    assert held is not None
    assert held.get("type") == {"hinge": "revolute", "slide": "prismatic"}[kind]

    def numbers(path: str, name: str) -> list[float]:
        found = robot.find(path)
        assert found is not None
        return [float(value) for value in found.attrib[name].split()]

    base_from_joint = np.array(numbers("joint/origin", "xyz"))
    np.testing.assert_allclose(one.world_from_body.apply(base_from_joint), point, atol=1e-6)
    np.testing.assert_allclose(one.world_from_body.rotate(numbers("joint/axis", "xyz")), axis, atol=1e-6)
    assert numbers("joint/limit", "upper") == [travel]
    for part in ("visual", "collision"):  # at the joint's 0, everything is where it is without a joint
        np.testing.assert_allclose(base_from_joint + numbers(f"link/{part}/origin", "xyz"), 0, atol=1e-6)


@pytest.mark.parametrize("kind", ["hinge", "slide"])
def test_sapien_and_mujoco_read_the_joint(cut_room: Path, tmp_path: Path, kind: str):
    """A base that stays, and a body of the object's mass on a joint of its kind and range."""
    bundle = Bundle.open(with_joint(cut_room, tmp_path / "room" / "1.1.0", JOINT | {"kind": kind}))
    one = next(one for one in bundle.objects if one.record.joint)
    (tmp_path / "urdf").mkdir()
    export_urdf(bundle, tmp_path / "urdf")
    file = str(tmp_path / "urdf" / f"object_{one.record.name}.urdf")
    sapien = libraries.sapien()
    (read,), actors, _ = sapien.Scene([sapien.physx.PhysxCpuSystem()]).create_urdf_loader().parse(file)
    assert not actors
    base, body = read.link_builders
    assert (base.name, body.name, body.joint_record.name) == ("base", "body", "joint")
    assert body.joint_record.joint_type == {"hinge": "revolute_unwrapped", "slide": "prismatic"}[kind]
    np.testing.assert_allclose(np.ravel(body.joint_record.limits), [0, 0.7], atol=1e-6)
    assert body._mass == pytest.approx(one.record.mass, rel=1e-5)
    model = mujoco.MjModel.from_xml_path(file)
    assert model.jnt_type.tolist() == [getattr(mujoco.mjtJoint, f"mjJNT_{kind.upper()}")]
    np.testing.assert_allclose(model.jnt_range, [[0, 0.7]], atol=1e-6)
    np.testing.assert_allclose(one.world_from_body.rotate(model.jnt_axis[0]), JOINT["axis"], atol=1e-6)
    assert model.body_mass[-1] == pytest.approx(one.record.mass, rel=1e-5)


def test_urdf_of_an_object(cut_room: Path, tmp_path: Path):
    """A body of its mass and inertia, which falls and rests in SAPIEN."""
    bundle = Bundle.open(cut_room)
    export_urdf(bundle, tmp_path)
    one = bundle.objects[0]
    robot = load_robot(tmp_path / f"object_{one.record.name}.urdf")
    assert robot.mass == pytest.approx(one.record.mass)
    _, moments = rigid_body(one).inertia
    np.testing.assert_allclose(np.sort(robot.links[0].inertia), np.sort(moments), rtol=1e-5)
    corners = np.concatenate([shape.link_from_shape.apply(shape.vertices) for shape in robot.links[0].shapes])
    np.testing.assert_allclose(corners.min(0), np.concatenate(one.record.hulls).min(0), atol=1e-4)


def test_an_object_by_itself_is_a_free_body(parcel: Path, tmp_path: Path):
    """And nothing else: no place stands around it."""
    bundle = Bundle.open(parcel)
    export_mjcf(bundle, tmp_path)
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "scene.xml"))
    assert (model.nflex, model.njnt, model.nbody) == (0, 1, 2)
    assert model.body_mass[1] == pytest.approx(bundle.objects[0].record.mass)
    (tmp_path / "urdf").mkdir()
    export_urdf(bundle, tmp_path / "urdf")
    assert {path.name for path in (tmp_path / "urdf").glob("*.urdf")} == {"object_parcel.urdf"}

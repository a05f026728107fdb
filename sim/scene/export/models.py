"""A bundle as MJCF or URDF, for other simulators."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.export.agreement import views
from pipeline.export.form import FRICTION, short_origin
from pipeline.export.obj import write_bare_obj, write_obj
from pipeline.export.texture import textured, textured_rest
from pipeline.geometry import CV_FROM_GL, Mesh, quaternion_from_matrix
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.objects import BundleObject
from pipeline.splat.ply import save_splat
from sim.physics.mujoco_engine import SKIN, STIFF, below_skin
from sim.scene.loose import rigid_body

COLLISION_FILE, VISUAL_FILE, SPLAT_FILE = "collision.obj", "visual.obj", "splat.ply"
OBJECT_TEXEL = 0.004
"""Of objects' textures [m]: their meshes have colours at vertices, which are farther apart."""
GROUPS = {"visual": "2", "collision": "3"}
"""MuJoCo's viewers show group 2 and hide group 3."""
PIXEL = 1e-5
"""Of a camera's sensor [m]; only its ratio to other lengths matters."""
EFFORT, VELOCITY = "1000", "10"
"""Limits of a joint, which URDF asks for and nobody knows: as good as none [N m or N, rad/s or m/s]."""


def export_mjcf(bundle: Bundle, folder: Path) -> None:
    """Write `scene.xml` with its meshes; spawn poses and goals are sites with x forward and z up.

    Objects that were cut out of the bundle are free bodies, or on the joint that holds them; what they stand on is the
    scene without them.

    MuJoCo replaces meshes by their convex hulls, which would fill a room. The collision mesh is therefore a rigid flex,
    as in `MujocoEngine`: its triangles have a skin, and lie as far behind the surface. The splats lie beside, for
    renderers; `custom` names their files, and `scene_from_splat` (4x4, by rows) brings the scene's into its frame.
    """
    _write_meshes(bundle, folder, below_skin)
    model = ElementTree.Element("mujoco", model=model_name(bundle))
    ElementTree.SubElement(
        model, "option", gravity=numbers(*bundle.manifest.frame.gravity), cone="elliptic", integrator="implicitfast"
    )
    custom = add_origin(model, bundle)
    for name, file in _write_splats(bundle, folder).items():
        ElementTree.SubElement(custom, "text", name=name, data=file)
    ElementTree.SubElement(custom, "numeric", name="scene_from_splat", data=numbers(*np.eye(4).ravel()))
    assets = ElementTree.SubElement(model, "asset")
    world = ElementTree.SubElement(model, "worldbody")
    ElementTree.SubElement(world, "light", pos="0 0 2", dir="0 0 -1", directional="true", castshadow="false")
    if not bundle.manifest.is_object:
        _add_place(world, assets)
    for one in bundle.objects:
        _add_object(world, assets, one)
    add_views(world, bundle)
    add_places(world, bundle)
    write_xml(model, folder / "scene.xml")


def add_origin(model: ElementTree.Element, bundle: Bundle) -> ElementTree.Element:
    """Where a model comes from, in its custom texts; these, for more."""
    custom = ElementTree.SubElement(model, "custom")
    for name, text in short_origin(bundle).items():
        ElementTree.SubElement(custom, "text", name=name, data=text or "unknown")
    return custom


def add_views(world: ElementTree.Element, bundle: Bundle) -> None:
    """The export's views as cameras `view_0` and so on, with their lens and size."""
    for number, one in enumerate(views(bundle)):
        camera, pose = one.camera, one.world_from_camera
        width, height = camera.width, camera.height
        ElementTree.SubElement(
            world,
            "camera",
            name=f"view_{number}",
            pos=numbers(*pose.translation),
            quat=numbers(*quaternion_from_matrix(pose.rotation @ CV_FROM_GL)),
            resolution=numbers(width, height),
            sensorsize=numbers(width * PIXEL, height * PIXEL),
            focalpixel=numbers(camera.fx, camera.fy),
            principalpixel=numbers(width / 2 - camera.cx, height / 2 - camera.cy),  # of the middle from the axis
        )


def add_places(world: ElementTree.Element, bundle: Bundle) -> None:
    """Spawn poses and goals as sites, x forward and z up."""
    for kind, poses in (("spawn", bundle.regions.spawn_poses), ("goal", bundle.regions.goals)):
        for number, pose in enumerate(poses):
            position = numbers(*pose.position)
            quaternion = numbers(*quaternion_from_matrix(pose.world_from_base.rotation))
            ElementTree.SubElement(world, "site", name=f"{kind}_{number}", size="0.02", pos=position, quat=quaternion)


def _add_place(world: ElementTree.Element, assets: ElementTree.Element) -> None:
    """The scene's mesh, to look at and for contacts."""
    ElementTree.SubElement(world, "geom", {"name": "visual", **_shown(assets, "visual", VISUAL_FILE)})
    flex = ElementTree.SubElement(
        world,
        "flexcomp",
        name="collision",
        type="mesh",
        file=COLLISION_FILE,
        dim="2",
        rigid="true",
        radius=str(SKIN),
        group=GROUPS["collision"],
    )
    friction = numbers(FRICTION, 0.005, 0.0001)  # turning and rolling as MuJoCo's own
    ElementTree.SubElement(flex, "contact", selfcollide="none", friction=friction, solref=numbers(*STIFF))


def _shown(assets: ElementTree.Element, name: str, file: str) -> dict[str, str]:
    """A geom that shows a mesh with its texture, as bright as that is, and touches nothing."""
    ElementTree.SubElement(assets, "mesh", name=name, file=file, inertia="shell")
    image = str(Path(file).with_suffix(".png"))
    ElementTree.SubElement(assets, "texture", name=name, type="2d", file=image)
    ElementTree.SubElement(assets, "material", name=name, texture=name, emission="1", specular="0")
    look = {"type": "mesh", "mesh": name, "material": name, "group": GROUPS["visual"]}
    return {**look, "contype": "0", "conaffinity": "0"}


def export_urdf(bundle: Bundle, folder: Path) -> None:
    """Write `scene.urdf` with its meshes: one fixed link. Spawn poses and goals are in regions.json only.

    Objects that were cut out of the bundle get a file each, `object_NAME.urdf`, whose comment says where it stands;
    what a joint holds is a base with that joint. An object by itself has that file only.
    """
    _write_meshes(bundle, folder, lambda mesh: mesh)
    for one in bundle.objects:
        _write_object_urdf(one, folder)
    if bundle.manifest.is_object:
        return
    robot = ElementTree.Element("robot", name=model_name(bundle))
    robot.append(
        ElementTree.Comment(
            " Static, and hollow: the loader must take the triangles of the collision mesh, not their convex hull. "
        )
    )
    for name, text in short_origin(bundle).items():
        robot.append(ElementTree.Comment(f" {name}: {re.sub('-+', '-', text)} "))  # two would end the comment
    link = ElementTree.SubElement(robot, "link", name="scene")
    for element, file in (("visual", VISUAL_FILE), ("collision", COLLISION_FILE)):
        part = ElementTree.SubElement(link, element, {"concave": "yes"} if element == "collision" else {})
        ElementTree.SubElement(ElementTree.SubElement(part, "geometry"), "mesh", filename=file)
    contact = ElementTree.SubElement(link, "contact")  # Bullet's extension, like `concave`; others skip both
    ElementTree.SubElement(contact, "lateral_friction", value=str(FRICTION))
    write_xml(robot, folder / "scene.urdf")


def _write_meshes(bundle: Bundle, folder: Path, contacts: Callable[[Mesh], Mesh]) -> None:
    """Write all meshes; `contacts` makes that for contacts of the scene's collision mesh."""
    if not bundle.manifest.is_object:
        shown = textured_rest(bundle)
        write_bare_obj(contacts(shown.mesh), folder / COLLISION_FILE)
        write_obj(shown, folder / VISUAL_FILE)
    for one in bundle.objects:
        mesh = one.mesh()
        write_obj(textured(mesh, mesh, texel=OBJECT_TEXEL), folder / _object_file(one))


def _write_splats(bundle: Bundle, folder: Path) -> dict[str, str]:
    """Write the splat of the scene and of each object, for renderers; their files by what shows them."""
    about, files = short_origin(bundle), dict[str, str]()
    if not bundle.manifest.is_object:
        files["splat"] = SPLAT_FILE
        save_splat(bundle.classic_splat("rest" if bundle.objects else "full"), folder / SPLAT_FILE, about)
    for one in bundle.objects:
        file = files[f"splat_{one.record.name}"] = f"object_{one.record.name}.ply"
        save_splat(bundle.classic_object(one), folder / file, about)
    return files


def _object_file(one: BundleObject) -> str:
    return f"object_{one.record.name}.obj"


def _add_object(world: ElementTree.Element, assets: ElementTree.Element, one: BundleObject) -> None:
    """A body, free or on its joint: its closed mesh to look at, its convex pieces for contacts."""
    record, pose, (inertial, moments) = one.record, one.world_from_body, rigid_body(one).inertia
    name = f"object_{record.name}"
    place = {"pos": numbers(*pose.translation), "quat": numbers(*pose.quaternion)}
    body = ElementTree.SubElement(world, "body", {"name": name, **place})
    if record.joint:
        axis, point = one.joint_in_body(record.joint)
        travel = (
            np.rad2deg(record.joint.range) if record.joint.kind == "hinge" else record.joint.range
        )  # MJCF's default
        held = {"name": f"{name}_joint", "type": record.joint.kind, "axis": numbers(*axis), "pos": numbers(*point)}
        ElementTree.SubElement(body, "joint", {**held, "limited": "true", "range": numbers(*travel)})
    else:
        ElementTree.SubElement(body, "freejoint")
    ElementTree.SubElement(
        body,
        "inertial",
        mass=numbers(record.mass),
        pos=numbers(*inertial.translation),
        quat=numbers(*inertial.quaternion),
        diaginertia=numbers(*moments),
    )
    # the visual mesh is in its own frame: MuJoCo moves meshes, and geoms back
    ElementTree.SubElement(body, "geom", _shown(assets, name, _object_file(one)))
    for number, hull in enumerate(record.hulls):
        piece = f"{name}_{number}"
        ElementTree.SubElement(assets, "mesh", name=piece, vertex=numbers(*(x for corner in hull for x in corner)))
        contact = {"friction": numbers(record.friction, 0.005, 0.0001), "solref": numbers(*STIFF), "priority": "1"}
        shape = {"type": "mesh", "mesh": piece, "group": GROUPS["collision"]}
        ElementTree.SubElement(body, "geom", {**shape, **contact})


def _write_object_urdf(one: BundleObject, folder: Path) -> None:
    import trimesh

    record, pose, (inertial, moments) = one.record, one.world_from_body, rigid_body(one).inertia
    robot = ElementTree.Element("robot", name=f"object_{record.name}")
    place = f" stands at xyz {numbers(*pose.translation)}, quaternion wxyz {numbers(*pose.quaternion)} "
    robot.append(ElementTree.Comment(place.replace("--", "- -")))
    link = ElementTree.SubElement(robot, "link", name="body")
    start = np.zeros(3)
    if record.joint:  # the frame of a link that moves lies on its joint
        axis, start = one.joint_in_body(record.joint)
        kind = {"hinge": "revolute", "slide": "prismatic"}[record.joint.kind]
        ElementTree.SubElement(robot, "link", name="base")
        joint = ElementTree.SubElement(robot, "joint", name="joint", type=kind)
        ElementTree.SubElement(joint, "parent", link="base")
        ElementTree.SubElement(joint, "child", link="body")
        ElementTree.SubElement(joint, "origin", xyz=numbers(*start))
        ElementTree.SubElement(joint, "axis", xyz=numbers(*axis))
        low, high = map(numbers, record.joint.range)
        ElementTree.SubElement(joint, "limit", lower=low, upper=high, effort=EFFORT, velocity=VELOCITY)
    body = ElementTree.SubElement(link, "inertial")
    ElementTree.SubElement(body, "origin", xyz=numbers(*(inertial.translation - start)))
    ElementTree.SubElement(body, "mass", value=numbers(record.mass))
    whole = inertial.rotation @ np.diag(moments) @ inertial.rotation.T
    entries = {"ixx": (0, 0), "iyy": (1, 1), "izz": (2, 2), "ixy": (0, 1), "ixz": (0, 2), "iyz": (1, 2)}
    ElementTree.SubElement(body, "inertia", {name: numbers(whole[at]) for name, at in entries.items()})
    files = [("visual", _object_file(one))]
    for number, hull in enumerate(record.hulls):
        file = f"object_{record.name}_{number}.obj"
        trimesh.convex.convex_hull(np.array(hull)).export(folder / file)
        files.append(("collision", file))
    for element, file in files:
        part = ElementTree.SubElement(link, element)
        if record.joint:
            ElementTree.SubElement(part, "origin", xyz=numbers(*-start))
        ElementTree.SubElement(ElementTree.SubElement(part, "geometry"), "mesh", filename=file)
    contact = ElementTree.SubElement(link, "contact")
    ElementTree.SubElement(contact, "lateral_friction", value=str(record.friction))
    write_xml(robot, folder / f"object_{record.name}.urdf")


def write_xml(root: ElementTree.Element, path: Path) -> None:
    """Write a model, indented."""
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="unicode", xml_declaration=False)


def model_name(bundle: Bundle) -> str:
    """What a model of a bundle is called."""
    return f"{bundle.manifest.name}-{bundle.manifest.version}"


def numbers(*values: float) -> str:
    """Values as an attribute."""
    return " ".join(f"{value:.9g}" for value in values)

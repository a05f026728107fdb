"""A bundle as MJCF or URDF, for other simulators."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from pipeline.export.form import FRICTION, short_origin
from pipeline.geometry import quaternion_from_matrix
from pipeline.scenes.bundle import Bundle
from sim.physics.mujoco_engine import SKIN, STIFF

COLLISION_FILE, VISUAL_FILE = "collision.obj", "visual.obj"
GROUPS = {"visual": "2", "collision": "3"}
"""MuJoCo's viewers show group 2 and hide group 3."""


def export_mjcf(bundle: Bundle, folder: Path) -> None:
    """Write `scene.xml` with its meshes; spawn poses and goals are sites with x forward and z up.

    MuJoCo replaces meshes by their convex hulls, which would fill a room. The collision mesh is therefore a rigid flex,
    as in `MujocoEngine`: its triangles have a skin, by which the mesh is lowered, so that floors keep their height.
    """
    _write_meshes(bundle, folder)
    model = ElementTree.Element("mujoco", model=_name(bundle))
    ElementTree.SubElement(
        model, "option", gravity=_text(*bundle.manifest.frame.gravity), cone="elliptic", integrator="implicitfast"
    )
    custom = ElementTree.SubElement(model, "custom")
    for name, text in short_origin(bundle).items():
        ElementTree.SubElement(custom, "text", name=name, data=text or "unknown")
    assets = ElementTree.SubElement(model, "asset")
    ElementTree.SubElement(assets, "mesh", name="visual", file=VISUAL_FILE, inertia="shell")
    world = ElementTree.SubElement(model, "worldbody")
    ElementTree.SubElement(world, "light", pos="0 0 2", dir="0 0 -1", directional="true", castshadow="false")
    ElementTree.SubElement(
        world, "geom", name="visual", type="mesh", mesh="visual", contype="0", conaffinity="0", group=GROUPS["visual"]
    )
    flex = ElementTree.SubElement(
        world,
        "flexcomp",
        name="collision",
        type="mesh",
        file=COLLISION_FILE,
        dim="2",
        rigid="true",
        radius=str(SKIN),
        pos=_text(0, 0, -SKIN),
        group=GROUPS["collision"],
    )
    friction = _text(FRICTION, 0.005, 0.0001)  # turning and rolling as MuJoCo's own
    ElementTree.SubElement(flex, "contact", selfcollide="none", friction=friction, solref=_text(*STIFF))
    for kind, poses in (("spawn", bundle.regions.spawn_poses), ("goal", bundle.regions.goals)):
        for number, pose in enumerate(poses):
            position = _text(*pose.position)
            quaternion = _text(*quaternion_from_matrix(pose.world_from_base.rotation))
            ElementTree.SubElement(world, "site", name=f"{kind}_{number}", size="0.02", pos=position, quat=quaternion)
    _write_xml(model, folder / "scene.xml")


def export_urdf(bundle: Bundle, folder: Path) -> None:
    """Write `scene.urdf` with its meshes: one fixed link. Spawn poses and goals are in regions.json only."""
    _write_meshes(bundle, folder)
    robot = ElementTree.Element("robot", name=_name(bundle))
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
    _write_xml(robot, folder / "scene.urdf")


def _write_meshes(bundle: Bundle, folder: Path) -> None:
    import trimesh

    collision, full = bundle.mesh("collision"), bundle.mesh("full")
    for mesh, colors, file in ((collision, None, COLLISION_FILE), (full, full.colors, VISUAL_FILE)):
        trimesh.Trimesh(mesh.vertices, mesh.triangles, vertex_colors=colors, process=False).export(folder / file)


def _write_xml(root: ElementTree.Element, path: Path) -> None:
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="unicode", xml_declaration=False)


def _name(bundle: Bundle) -> str:
    return f"{bundle.manifest.name}-{bundle.manifest.version}"


def _text(*numbers: float) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)

"""What a page shows of a simulation: the shapes of robots, and a task's props."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import F32, I64, Floats
from sim.robots.model import Robot, Shape
from sim.sensors.cameras.props import Props

if TYPE_CHECKING:
    import trimesh
    import viser

Color = tuple[int, int, int]
ROBOT_COLOR, FIRST_COLOR = (240, 120, 30), (60, 120, 240)

PAINT = 0.01
"""Thickness of patches on the floor [m]."""
UPRIGHT = np.array([1.0, 0, 0, 0])


def surface_of(robot: Robot) -> tuple[F32, I64]:
    """The triangles (F, 3, 3) of a robot's shapes [m], each in the frame of its link (F,)."""
    corners, links = [np.zeros((0, 3, 3))], [np.zeros(0, np.int64)]
    for number, link in enumerate(robot.links):
        for shape in link.shapes:
            triangles = np.asarray(shape_mesh(shape).triangles)
            corners.append(shape.link_from_shape.apply(triangles.reshape(-1, 3)).reshape(-1, 3, 3))
            links.append(np.full(len(triangles), number))
    return np.concatenate(corners).astype(np.float32), np.concatenate(links)


def add_robot(
    server: viser.ViserServer, root: str, links: int, surface: tuple[F32, I64], color: Color
) -> list[viser.FrameHandle]:
    """A frame for each of so many links, with what of the surface belongs to it; not yet to be seen."""
    import trimesh

    triangles, link_of = surface
    frames = [server.scene.add_frame(f"{root}/{link}", show_axes=False, visible=False) for link in range(links)]
    for link in np.unique(link_of):
        corners = triangles[link_of == link].reshape(-1, 3)
        mesh = trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)
        add_mesh(server, f"{root}/{link}/surface", mesh, color, np.zeros(3))
    return frames


def add_mesh(
    server: viser.ViserServer, name: str, mesh: trimesh.Trimesh, color: Color, position: Floats, wxyz: Floats = UPRIGHT
) -> viser.MeshHandle:
    """A mesh of one colour, at a pose in its parent's frame [m]."""
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.uint32)
    return server.scene.add_mesh_simple(name, vertices, faces, color=color, wxyz=wxyz, position=position)


def solids_of(props: Props) -> list[tuple[trimesh.Trimesh, Color, Floats]]:
    """A robot's props: each as a mesh around its own centre [m], its colour and that centre; none for no robot."""
    import trimesh

    balls, posts, patches = props.balls, props.posts, props.patches
    flat = np.full(patches.radius.shape, PAINT)
    solids = []
    for radii, heights, centers, colors in (
        (balls.radius, np.zeros(balls.radius.shape), balls.center, balls.color),
        (posts.radius, posts.height, posts.foot + posts.height[..., None] * [0, 0, 0.5], posts.color),
        (patches.radius, flat, patches.center, patches.color),
    ):
        for radius, height, center, color in zip(
            radii.ravel(), heights.ravel(), centers.reshape(-1, 3), colors.reshape(-1, 3), strict=True
        ):
            if radius > 0:
                creation = trimesh.creation
                mesh = creation.cylinder(radius, height) if height else creation.icosphere(2, radius)
                solids.append((mesh, bytes_of(color), center))
    return solids


def bytes_of(color: Floats) -> Color:
    """A colour (3,), 0..1, as viser wants it."""
    red, green, blue = (int(255 * value) for value in color)
    return red, green, blue


def shape_mesh(shape: Shape) -> trimesh.Trimesh:
    """A shape's surface, in its own axes [m]."""
    import trimesh

    size = shape.size
    if shape.kind == "box":
        return trimesh.creation.box(extents=2 * size)
    if shape.kind == "sphere":
        return trimesh.creation.icosphere(2, float(size[0]))
    if shape.kind == "capsule":
        return trimesh.creation.capsule(2 * float(size[1]), float(size[0]))
    if shape.kind == "cylinder":
        return trimesh.creation.cylinder(float(size[0]), 2 * float(size[1]))
    return hull_mesh(shape.vertices)


def hull_mesh(corners: Floats) -> trimesh.Trimesh:
    """The surface around corners (V, 3)."""
    import trimesh

    return trimesh.convex.convex_hull(corners)

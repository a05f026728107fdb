"""Textures: they look like the splat where cameras saw the surface, and like the mesh elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.export.texture import TexturedMesh, textured
from pipeline.geometry import SH_C0, Gaussians, Mesh, Pose
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.progress import Part, parts_of
from pipeline.scenes.bundle import BundleCamera
from tests.export.conftest import SMALL, image, psnr
from tests.synthetic import CAMERA, Room, walk

TEXEL = 0.01
GREY = 180


def painted(room: Room) -> Gaussians:
    """The room's surfaces, densely covered by small Gaussians of its colours."""
    means, _ = sample_surface(room.mesh, 150_000, np.random.default_rng(2))
    sh = (room.color(means.astype(np.float64))[:, None] / 255 - 0.5) / SH_C0
    size = np.full((len(means), 3), np.log(0.012), np.float32)
    turn = np.tile(np.float32([1, 0, 0, 0]), (len(means), 1))
    return Gaussians(means, size, turn, np.full(len(means), 3, np.float32), sh.astype(np.float32))


def views(poses: list[Pose]) -> list[BundleCamera]:
    """Cameras of a bundle."""
    return [BundleCamera(f"{number}.jpg", CAMERA, pose, False, None) for number, pose in enumerate(poses)]


def seen(made: TexturedMesh, pose: Pose) -> np.ndarray:
    """What a camera sees of it (H, W, 3), 0..1, by the definition of texture coordinates."""
    rays = pose.rotate(SMALL.rays()).reshape(-1, 3)
    mesh = Mesh.from_arrays(made.vertices, made.atlas.triangles)
    found = RayCaster(mesh).cast(np.broadcast_to(pose.translation, rays.shape), rays)
    places = pose.translation + rays * found.distance[:, None]
    corners = mesh.corners()[found.triangle].astype(np.float64)
    edges = np.moveaxis(corners[:, 1:] - corners[:, :1], 1, 2)
    shares = np.einsum("nij,nj->ni", np.linalg.pinv(edges), places - corners[:, 0])
    uv = made.atlas.uv[mesh.triangles[found.triangle]].astype(np.float64)
    at = uv[:, 0] + np.einsum("ni,nij->nj", shares, uv[:, 1:] - uv[:, :1])
    columns, rows = (at * made.image.shape[1::-1] - 0.5).astype(np.float32).T.reshape(2, SMALL.height, SMALL.width)
    return cv2.remap(made.image, columns, rows, cv2.INTER_LINEAR) / 255


@pytest.fixture(scope="module")
def made(room: Room) -> TexturedMesh:
    """The grey room, seen through its splat."""
    return textured(room.mesh, room.mesh, painted(room), views(walk(24)), TEXEL)


@pytest.mark.parametrize("pose", walk(5)[:3])
def test_it_looks_like_the_place(room: Room, made: TexturedMesh, pose: Pose):
    """From new places, as the splat and as the true image; nothing of it is turned or mirrored."""
    truth, drawn = room.render(SMALL, pose)[0] / 255, image(painted(room), pose)
    assert psnr(seen(made, pose), drawn) > 22
    assert psnr(seen(made, pose), truth) > psnr(drawn, truth) - 1.5
    assert psnr(seen(replace(made, image=made.image[:, ::-1]), pose), drawn) < 15


def test_what_nobody_sees_is_as_the_mesh(room: Room, made: TexturedMesh):
    """The undersides of the crate and of the steps, which lie on the floor."""
    down = (room.mesh.face_normals()[:, 2] < -0.9) & (room.mesh.corners()[:, :, 2].max(1) < 0.01)
    texels = made.image[np.isin(made.atlas.shows, np.flatnonzero(down))]
    assert len(texels) > 1000
    assert (texels == GREY).all()


def test_without_a_splat_vertices_colour_it(room: Room):
    """Those of the finer mesh that are nearest."""
    fine = sample_surface(room.mesh, 20_000, np.random.default_rng(3))[0]
    colors = room.color(fine.astype(np.float64)).astype(np.uint8)
    finer = replace(Mesh.from_arrays(fine, np.array([[0, 1, 2]])), colors=colors)
    pose = walk(5)[1]
    assert psnr(seen(textured(room.mesh, finer, texel=TEXEL), pose), room.render(SMALL, pose)[0] / 255) > 20


def test_equal_bundles_have_equal_textures(room: Room, made: TexturedMesh):
    """To the bit; progress is told of what takes longest."""
    told = list[Part | None]()
    with parts_of(told.append):
        again: Any = textured(room.mesh, room.mesh, painted(room), views(walk(24)), TEXEL)
    np.testing.assert_array_equal(again.image, made.image)
    choosing, _, painting, _ = map(str, told)
    assert choosing == "choosing cameras for the texture: 24 of 24"
    assert re.fullmatch(r"painting the texture: (\d+) of \1", painting)

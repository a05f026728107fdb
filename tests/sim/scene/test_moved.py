"""What is touched is moved against what is seen: images stay where they were, contacts don't."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

import sim
from pipeline.geometry import Similarity, matrix_from_rotvec
from sim.scene.scene import SimScene
from tests.sim.engines import engines_here

MOVED = Similarity(1.02, matrix_from_rotvec(np.deg2rad([4.0, -2.0, 7.0])), np.array([0.11, -0.23, 0.07]))
"""Nothing of it is symmetric."""


def test_touched_mesh(room_scene: SimScene):
    """Each corner is where the transform says; what is seen keeps its mesh."""
    scene = replace(room_scene, moved_from_world=MOVED)
    expected = 1.02 * room_scene.collision.vertices @ MOVED.rotation.T + MOVED.translation
    np.testing.assert_allclose(scene.touched.vertices, expected, atol=1e-5)
    assert scene.collision is room_scene.collision
    assert room_scene.touched is room_scene.collision


def test_rise_is_where_level_ground_comes_to_lie(room_scene: SimScene):
    """By rays from above on the moved floor."""
    from pipeline.geometry.rays import RayCaster

    scene = replace(room_scene, moved_from_world=MOVED)
    points = np.array([[2.9, 1.2, 0.0], [1.2, 0.7, 0.0], [2.6, 1.5, 0.0]])
    rays = RayCaster(scene.touched).cast(points + np.array([0, 0, 0.6]), np.array([0, 0, -1.0]))
    np.testing.assert_allclose(scene.rise(points), 0.6 - rays.distance, atol=1e-4)
    assert np.ptp(scene.rise(points)) > 0.05
    assert (room_scene.rise(points) == 0).all()


def test_images_stay(room_scene: SimScene):
    """Moved aside and turned, the floor is as high as before: the first images are the same to the bit."""
    aside = Similarity(1.0, matrix_from_rotvec(np.deg2rad([0.0, 0, 7])), np.array([0.11, -0.23, 0.0]))
    images = []
    for moved in (None, aside):
        with closing(sim.make("navigate", [replace(room_scene, moved_from_world=moved)], 3)) as env:
            images.append(env.reset(seed=4)[0]["rgb"])
    np.testing.assert_array_equal(images[0], images[1])
    assert images[0].std() > 10


@pytest.mark.parametrize("engine", engines_here())
def test_contacts_move(room_scene: SimScene, engine: str):
    """Robots begin at the same places, and come to rest 30 mm higher."""
    rest = []
    for moved in (None, Similarity(1.0, np.eye(3), np.array([0.0, 0.0, 0.03]))):
        scene = replace(room_scene, moved_from_world=moved)
        with closing(sim.make("navigate", [scene], 2, engine=engine, cameras=())) as env:
            env.reset(seed=4)
            env.step(env.controller.velocities.actions(*np.zeros((2, 2), np.float32)))
            rest.append(env.engine.read().position)
    np.testing.assert_allclose(rest[1] - rest[0], np.tile([0, 0, 0.03], (2, 1)), atol=2e-3)

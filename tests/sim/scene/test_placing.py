"""Objects from other bundles in a scene: given by reference, put where there is room, at rest, and as the seed says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sim
from pipeline.errors import BundleError, SimError
from pipeline.geometry import Mesh
from pipeline.geometry.rays import RayCaster
from sim.env import SceneEnv
from sim.physics.bodies import RigidBody
from sim.scene.opening import open_scene
from sim.scene.placing import find_places
from sim.scene.scene import SimScene
from tests.objects.furniture import TABLE


@pytest.fixture()
def env(cut_room: Path, parcel: Path) -> SceneEnv:
    """Four rovers; the scene's own boxes, and the parcel."""
    return sim.make("navigate", [cut_room], 4, objects=["all", str(parcel)], seed=0)


def block(size: tuple[float, float, float]) -> RigidBody:
    """A box on its foot."""
    signs = np.stack(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    return RigidBody("block", (signs * size,), 1.0, 0.6)


def test_it_stands_on_the_table(cut_room: Path, parcel: Path):
    """With room around; the scene is another one for records, and its own objects stay."""
    own, scene = open_scene(cut_room, objects=["all"]), open_scene(cut_room, objects=["all", str(parcel)])
    guest = scene.objects[-1]
    assert [one.body.name for one in scene.objects] == [*(one.body.name for one in own.objects), "parcel"]
    assert len(guest.splat()) > 10
    height = TABLE[2]
    assert [pose.translation[2] for pose in guest.places] == pytest.approx([height] * len(guest.places), abs=0.02)
    assert scene.lock.sha256 != own.lock.sha256
    assert scene.lock.reference == own.lock.reference
    again = open_scene(cut_room, objects=["all", str(parcel)])
    assert again.lock == scene.lock
    np.testing.assert_array_equal(again.objects[-1].world_from_body.matrix, guest.world_from_body.matrix)


def test_places_don_t_overlap(hall_scene: SimScene):
    """Of two objects, with each other and with the scene; upright, and on something."""
    bodies = [block((0.2, 0.12, 0.3)), block((0.1, 0.1, 0.15))]
    places = find_places(hall_scene.collision, hall_scene.regions, bodies, "hall")
    assert min(map(len, places)) > 1
    radii = [np.hypot(0.2, 0.12) / 2, np.hypot(0.1, 0.1) / 2]
    spots = [(pose.translation, radius) for found, radius in zip(places, radii, strict=True) for pose in found]
    for number, (spot, radius) in enumerate(spots):
        for other, reach in spots[:number]:
            assert np.linalg.norm((spot - other)[:2]) > radius + reach
    caster = RayCaster(hall_scene.collision)
    for body, found in zip(bodies, places, strict=True):
        for pose in found:
            assert pose.rotation[2, 2] > 0.995
            corners = pose.apply(body.hulls[0])
            assert caster.distances(corners[corners[:, 2] > pose.translation[2] + 0.05].astype(np.float32)).min() > 0.01
            below = caster.cast(pose.translation[None] + np.array([0, 0, 0.05]), np.array([0, 0, -1.0])).distance[0]
            assert below == pytest.approx(0.05, abs=0.01)


def test_without_a_table_it_stands_on_the_floor_near_robots(hall_scene: SimScene):
    """What is too large for the table does, too."""
    (places,) = find_places(hall_scene.collision, hall_scene.regions, [block((0.9, 0.8, 0.5))], "hall")
    starts = np.array([pose.position for pose in hall_scene.regions.spawn_poses])
    for pose in places:
        assert pose.translation[2] == pytest.approx(hall_scene.regions.floor_height, abs=0.01)
        assert np.linalg.norm(starts[:, :2] - pose.translation[:2], axis=1).min() < 2.0


def test_what_has_no_room_is_said(hall_scene: SimScene):
    """Nor what falls over."""
    with pytest.raises(SimError, match="no place for block"):
        find_places(hall_scene.collision, hall_scene.regions, [block((9.0, 9.0, 0.5))], "hall")
    with pytest.raises(SimError, match="objects_tilt"):
        leaning = block((0.1, 0.1, 0.3)).hulls[0] @ np.array([[1, 0, 0], [0, 1, 0], [0.8, 0, 1]])
        find_places(hall_scene.collision, hall_scene.regions, [RigidBody("leaning", (leaning,), 1.0, 0.6)], "hall")
    nothing = Mesh.from_arrays(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    with pytest.raises(SimError, match="stands on something level"):
        find_places(nothing, hall_scene.regions, [block((0.1, 0.1, 0.1))], "hall")


def test_the_seed_says_where_it_stands(env: SceneEnv):
    """Other seeds, and other episodes, other places; it stays there while nothing pushes it."""
    places = np.array([pose.translation for pose in env.scenes[0].objects[-1].places])
    seen = []
    for seed in (3, 3, 4, 5):
        env.reset(seed=seed)
        seen.append(env.engine.read_bodies().position[:, -1].copy())
        assert np.abs(seen[-1][:, None] - places).max(2).min(1).max() < 1e-4
    np.testing.assert_array_equal(seen[0], seen[1])
    if len(places) > 1:
        assert any(not np.array_equal(seen[0], other) for other in seen[2:])
    stays = np.ones(4, bool)
    for _ in range(10):
        _, _, ended, _, _ = env.step(np.zeros((4, env.controller.size), np.float32))
        stays &= ~ended
    assert stays.any()
    np.testing.assert_allclose(env.engine.read_bodies().position[stays, -1], seen[-1][stays], atol=0.003)
    env.close()


def test_it_is_not_in_a_robot(env: SceneEnv):
    """Of several places, those are taken that are apart from the robot's start."""
    places = [pose.translation for pose in env.scenes[0].objects[-1].places]
    robots = np.array([places[0], places[-1], [9.0, 9, 0], [-9.0, 9, 0]])
    drawn = env._loose.at_rest(env.robot, robots, np.random.default_rng(0)).position[:, -1]
    if len(places) > 1:
        assert np.linalg.norm(drawn[:2] - robots[:2], axis=1).min() > 0.05
    env.close()


def test_what_is_no_object_is_said(cut_room: Path, parcel: Path):
    """A place given as an object, an object as a place, and what doesn't exist."""
    with pytest.raises(SimError, match="bundle of one object") as caught:
        open_scene(cut_room, objects=[str(cut_room)])
    assert "a place" in str(caught.value)
    with pytest.raises(SimError, match="robots are in a place") as caught:
        open_scene(parcel)
    assert "--objects parcel@1.0.0" in str(caught.value)
    with pytest.raises(BundleError, match="no bundle"):
        open_scene(cut_room, objects=["sofa@1.0.0"])
    with pytest.raises(SimError, match="cut out"):
        open_scene(cut_room, objects=["sofa"])


def test_it_stands_on_procedural_ground(parcel: Path):
    """Which has no objects of its own."""
    scene = open_scene("terrain:0", objects=[str(parcel)])
    assert len(scene.objects) == 1
    assert scene.objects[0].places

"""What views contradict about free space."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.depth.free_space import find_violations, small

PATCH = (slice(80, 140), slice(120, 180))
CENTRE = (slice(86, 134), slice(126, 174))


@pytest.fixture
def maps(views):
    return [replace(m, sigma=np.full(m.depth.shape, 0.005, np.float32)) for m in views.truth.values()]


def changed(depth_map, factor):
    depth = depth_map.depth.copy()
    depth[PATCH] *= factor
    return replace(depth_map, depth=depth)


def conflicts(maps):
    return find_violations([small(m) for m in maps])


def test_a_rigid_room_has_no_conflicts(maps):
    """Exact maps contradict each other nowhere."""
    found = conflicts(maps)
    assert found.regions == ()
    assert found.report()["pixel_share"] < 0.001
    assert found.remove_from(maps[2]) is maps[2]


def test_somebody_who_walks_by_is_dropped(maps):
    """What stands in one view and is looked through in the others is named and taken out of that view alone."""
    maps[3] = changed(maps[3], 0.5)
    found = conflicts(maps)
    assert [(r["view"], r["kind"]) for r in found.regions] == [("0003", "looked through")]
    assert found.regions[0]["share"] == pytest.approx(60 * 60 / (320 * 240), rel=0.1)
    np.testing.assert_allclose(found.regions[0]["centre"], np.median(maps[3].points()[PATCH], axis=(0, 1)), atol=0.05)
    clean = found.remove_from(maps[3])
    assert not clean.depth[CENTRE].any()
    assert not clean.sigma[CENTRE].any()
    outside = np.ones(clean.depth.shape, bool)
    outside[70:150, 110:190] = False
    np.testing.assert_array_equal(clean.depth[outside], maps[3].depth[outside])


def mirror_pixels(depth_map):
    """The pixels that see a piece of the wall behind the table."""
    x, y, z = np.moveaxis(depth_map.points(), -1, 0)
    return (abs(y - 3) < 0.01) & (x > 1.4) & (x < 2.8) & (z > 0.8) & (z < 1.5)


def with_mirror(room, depth_map):
    """What a sensor measures when that piece is a mirror: the length of the ray to what it sees there."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(room.mesh.vertices, room.mesh.triangles.astype(np.uint32))
    inside, points = mirror_pixels(depth_map), depth_map.points()
    rays = depth_map.world_from_camera.rotate(depth_map.camera.rays()) * np.array([1, -1, 1])
    reflected = np.concatenate([points + 1e-4 * rays, rays], -1).astype(np.float32)[inside]
    beyond = scene.cast_rays(o3d.core.Tensor(reflected))["t_hit"].numpy()  # in units of the ray: depth
    depth = depth_map.depth.copy()
    depth[inside] += beyond
    return replace(depth_map, depth=depth)


def test_a_mirror_s_room_is_dropped(views, maps):
    """Two views see a room behind the wall that the others confirm: it is named and taken out, the wall stays."""
    for i in (3, 4):
        maps[i] = with_mirror(views.room, maps[i])
    found = conflicts(maps)
    assert {(r["view"], r["kind"]) for r in found.regions} == {(f"000{i}", "behind a surface") for i in (3, 4)}
    assert all(region["centre"][1] > 3.2 for region in found.regions)
    for i in (3, 4):
        inside = mirror_pixels(views.truth[f"000{i}"])
        assert (found.remove_from(maps[i]).depth[inside] > 0).mean() < 0.1
        assert (found.remove_from(maps[i]).depth[~inside] > 0).mean() > 0.99
    assert all(found.remove_from(maps[i]) is maps[i] for i in (0, 1, 2, 5, 6))


def test_a_reflection_that_most_views_look_through_falls(maps):
    """A window: two views see the pane, all others what is behind; the pane falls, not the view through it."""
    maps[3], maps[4] = changed(maps[3], 0.7), changed(maps[4], 0.75)
    found = conflicts(maps)
    assert {(r["view"], r["kind"]) for r in found.regions} == {(f"000{i}", "looked through") for i in (3, 4)}


def test_noise_is_no_conflict(maps):
    """Noise that the maps know of makes no regions."""
    rng = np.random.default_rng(0)
    noisy = [
        replace(
            m,
            depth=(m.depth * (1 + rng.normal(0, 0.03, m.depth.shape))).astype(np.float32),
            sigma=(0.03 * m.depth).astype(np.float32),
        )
        for m in maps
    ]
    assert conflicts(noisy).regions == ()


def test_without_maps_there_is_nothing_to_say():
    """No maps, no conflicts."""
    assert find_violations([]).report() == {"pixel_share": 0.0, "views": {}, "suspicious": []}

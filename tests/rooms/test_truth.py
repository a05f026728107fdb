"""The truth of a drawn room: bodies rest on its mesh, and its splat shows it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.check.ground import drop_bodies, measure_floor_holes
from pipeline.geometry import Pose
from pipeline.geometry.rays import RayCaster
from pipeline.raster import contiguous, render
from pipeline.rooms.quality import LENS
from pipeline.rooms.surfaces import EYE_LEVEL
from tests.rooms.conftest import CLEAN, CLIFF, HOLES, clean_room


def test_bodies_rest_on_the_floor(monkeypatch: pytest.MonkeyPatch):
    """None falls through or is thrown out."""
    monkeypatch.setattr("pipeline.check.ground.DROPS", 60)
    made = clean_room(CLEAN)
    dropped = drop_bodies(made.mesh, made.regions)
    assert (dropped.dropped, dropped.fell_through, dropped.thrown_out) == (120, 0, 0)
    assert dropped.largest_error is not None
    assert dropped.largest_error < 0.01


@pytest.mark.parametrize("seed", [CLEAN, HOLES, CLIFF])
def test_the_splat_shows_the_mesh(seed: int):
    """What a robot's depth camera sees of what it may run into lies about a centimetre off the surface."""
    made = clean_room(seed)
    caster, off = RayCaster(made.mesh), []
    for spawn in made.regions.spawn_poses[:3]:
        pose = Pose(made.lookouts[0].rotation, np.array(spawn.position) + np.array([0, 0, 0.26]))
        rendering = render(contiguous(made.splats["full"]), LENS, pose)
        seen = (rendering.alpha > 0.9) & (caster.depth(LENS, pose) > 0)
        points = pose.apply(LENS.rays() * rendering.depth[..., None])[seen].reshape(-1, 3)
        off.append(caster.distances(points[points[:, 2] < EYE_LEVEL]))
    assert np.median(np.concatenate(off)) < 0.015
    assert caster.distances(made.splats["full"].means).max() < 1e-3
    assert made.quality.passed


def test_floor_has_holes_where_it_was_drawn_so():
    """Goals keep off them."""
    made = clean_room(HOLES)
    assert measure_floor_holes(clean_room(CLEAN).mesh, clean_room(CLEAN).regions).hole_area == 0
    places = np.array([goal.position for goal in made.regions.goals])
    below = RayCaster(made.mesh).cast(places + np.array([0, 0, 0.3]), np.array([0, 0, -1.0])).distance
    np.testing.assert_allclose(below, 0.3, atol=0.011)  # a rug may lie there


@pytest.mark.parametrize("seed", [CLEAN, HOLES, CLIFF])
def test_robots_have_room_and_goals(seed: int):
    """Forty goals and eight starts, two of the goals well apart."""
    regions = clean_room(seed).regions
    assert (len(regions.goals), len(regions.spawn_poses)) == (40, 8)
    goals = np.array([goal.position for goal in regions.goals])
    assert np.linalg.norm(goals[:, None] - goals[None], axis=2).max() > 2
    assert min(goal.trust for goal in regions.goals) > 0.9

"""What is wanted of a room, and the poses that are suggested: where nobody looked, with room to stand, no two alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.coaching.advice import SUGGESTIONS, Advice, advise, held_camera
from pipeline.coaching.filmed import Filmed
from pipeline.coaching.wanted import GUESSED, OPENING, UNSEEN, find_wanted, how_well, spread
from pipeline.coaching.words import sentences
from pipeline.geometry import Camera, Mesh, Pose
from pipeline.geometry.rays import RayCaster
from tests.coaching.places import LENS, SIZE, around, filmed_by, looks, whole_room

HALF = (*around(1.2, 2.0), *around(2.0, 1.0), *around(2.0, 3.0))
"""Views of the half of the room before the pillar, some of which look past it."""


@pytest.fixture(scope="module")
def half() -> Filmed:
    """A room of which one corner, beyond the pillar, was never looked into."""
    west = [view for view in HALF if view[1].rotation[0, 2] < 0.3]
    return filmed_by(tuple(west))


@pytest.fixture(scope="module")
def advice(half: Filmed) -> Advice:
    """What is said of it."""
    return advise(half)


def test_openings_lie_where_nobody_looked(half: Filmed):
    """Not along the walls that were filmed, and not where the camera was carried."""
    wanted, space = find_wanted(half, RayCaster(half.mesh))
    opening = wanted.chosen(wanted.kind == OPENING)
    assert opening.area.sum() > 3
    assert np.average(opening.points[:, 0], weights=opening.area) > 2.2
    assert not (wanted.points[:, 0] < 0.2).any()
    assert space.is_free(np.array([pose.translation for _, pose in half.cameras])).all()
    assert not space.is_free(np.array([[5.5, 3.5, 1.0], [99.0, 0.0, 0.0]])).any()


def test_suggestions_look_into_the_unknown(half: Filmed, advice: Advice):
    """The first ones do; from the floor, with room round the person, and less is gained each time."""
    assert 3 <= len(advice.suggestions) <= SUGGESTIONS
    for one in advice.suggestions[:2]:
        assert one.stance.pose.rotation[0, 2] > 0.3  # towards +x
    body = np.array([one.stance.stand + np.array([0, 0, 1.2]) for one in advice.suggestions])
    assert RayCaster(whole_room()).distances(body).min() > 0.15
    worth = [float((one.areas * one.gains.weight).sum()) for one in advice.suggestions]
    assert worth == sorted(worth, reverse=True)
    assert all(one.area == pytest.approx(one.areas.sum()) and one.area > 0 for one in advice.suggestions)
    poses = {(*one.stance.stand, one.stance.height, one.stance.yaw, one.stance.pitch) for one in advice.suggestions}
    assert len(poses) == len(advice.suggestions)


def test_filming_again_shows_the_rest(half: Filmed, advice: Advice):
    """With the suggested views, one each, most of what was missing of the room has been seen."""
    taken = tuple((one.camera.within(160), one.stance.pose) for one in advice.suggestions)
    after, whole = filmed_by((*half.cameras, *taken)), whole_room()
    before, now, all_of_it = (float(mesh.face_areas().sum()) for mesh in (half.mesh, after.mesh, whole))
    assert all_of_it - now < 0.4 * (all_of_it - before)


def test_nothing_is_suggested_where_all_was_seen():
    """A room filmed from many places, with what little is left worth no visit."""
    places = [(x, y) for x in (1.0, 2.2, 4.0, 5.0) for y in (0.8, 3.2)] + [(2.2, 2.0), (4.0, 2.0)]
    everywhere = sum((around(x, y) for x, y in places), ())
    filmed = filmed_by(everywhere)
    found = advise(filmed)
    assert found.suggestions == () and sentences(filmed, found) == []


def test_guessed_surface_is_wanted(half: Filmed):
    """Also where views look at it: a hole that was closed."""
    closed = np.zeros(len(half.mesh.vertices), bool)
    closed[np.linalg.norm(half.mesh.vertices - [0.8, 2.0, 0.0], axis=1) < 0.4] = True
    mesh = Mesh(half.mesh.vertices, half.mesh.triangles, half.mesh.colors, closed)
    wanted, _ = find_wanted(replace(half, mesh=mesh), RayCaster(mesh))
    guessed = wanted.chosen(wanted.kind == GUESSED)
    assert guessed.area.sum() == pytest.approx(np.pi * 0.4**2, rel=0.35)
    assert np.linalg.norm(guessed.points[:, :2] - [0.8, 2.0], axis=1).max() < 0.6


def test_surface_in_no_view_is_wanted():
    """A mesh may have more than its views show, as one of another capture."""
    filmed = replace(filmed_by(around(1.2, 2.0)), mesh=whole_room())
    wanted, _ = find_wanted(filmed, RayCaster(filmed.mesh))
    unseen = wanted.chosen(wanted.kind == UNSEEN)
    assert unseen.area.sum() > 5 and (unseen.seen == 0).all()
    assert ((unseen.weight > 0) & (unseen.weight <= 1)).all()


def test_how_well_falls_with_angle_and_distance():
    """Full from the front, nothing from behind, from too near and from too far."""
    points, normals = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
    values = [
        how_well(points, normals, np.array(eye))[0] for eye in ((0, 0, 1.0), (0, 0, -1.0), (0, 0, 0.1), (0, 0, 6.0))
    ]
    assert values == [1, 0, 0, 0]
    assert how_well(points, normals, np.array([0, 0, 5.0 - 1e-9]))[0] == pytest.approx(0.25)
    assert 0 < how_well(points, normals, np.array([3.0, 0.0, 0.5]))[0] < 0.3


def test_phones_held_upright_have_upright_images():
    """Their images are stored lying: the lens is turned, and the horizon stays level."""
    (lens, pose), *_ = looks(((1, 1, 1.4), (3, 1, 1.4)))
    turned = Pose(pose.rotation @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), pose.translation)
    assert held_camera([(lens, pose)]) == LENS
    assert held_camera([(lens, turned)]) == Camera(120, 160, 120.0, 120.0, 60.0, 80.0)


def test_sentences_say_what_where_and_how(half: Filmed, advice: Advice):
    """One line each, that names its number, an area, the phone's height and a direction on the map."""
    texts = sentences(half, advice)
    assert len(texts) == len(advice.suggestions)
    for number, (text, one) in enumerate(zip(texts, advice.suggestions, strict=True), 1):
        assert f"stand at {number}," in text and f"{one.area:.1f} m² to gain in all" in text and "\n" not in text
        assert ("knee" in text) == (one.stance.height < 1) and text.endswith(" m ahead.")
        assert ("tilted up" in text, "tilted down" in text) == (one.stance.pitch > 0, one.stance.pitch < 0)
    assert any("right of the map" in text for text in texts)


def test_spread_keeps_apart():
    """At most so many, none twice, over all of the floor."""
    x, y = np.meshgrid(np.arange(0, 10, 0.1), np.arange(0, 5, 0.1))
    points = np.column_stack([x.ravel(), y.ravel(), 0 * x.ravel()])
    chosen = spread(points, 40)
    assert 20 <= len(chosen) <= 40 and len(np.unique(chosen, axis=0)) == len(chosen)
    assert (np.ptp(chosen, axis=0)[:2] > SIZE[:2] / 2).all()
    assert len(spread(np.zeros((0, 3)), 5)) == 0

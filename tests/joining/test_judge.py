"""The rule: what is joined unasked, what a person must decide, what is refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.joining import judge as rule
from pipeline.joining.evidence import Evidence, _largest_group
from pipeline.joining.judge import Judgement, Place
from pipeline.joining.links import Group, Link, upright_motion

B: Any = SimpleNamespace(poses=np.eye(4)[None])
SOUND = Evidence(through=0.001, cells=400, pairs=60, again=0.77, bare=0, bare_share=0.0, patch=0)
HERE, THERE = upright_motion(0.3, np.array([1.0, 2.0, 0.1])), upright_motion(2.0, np.array([4.0, 2.0, 0.1]))
RIGHT = Place(HERE, SOUND, frames=20, matches=4000)


def judged(*images: Place, plans: tuple[Place, ...] = ()) -> Judgement:
    return rule._decided(B, images, plans, [place.a_from_b for place in images])


def test_a_sound_place_is_joined():
    """With nothing against it."""
    assert judged(RIGHT).verdict == "joined"


@pytest.mark.parametrize(
    "wrong",
    [{"through": 0.12}, {"again": 0.35}, {"cells": 40}],
    ids=["walls are looked through", "features are not found again", "too little surface"],
)
def test_support_never_saves_a_place(wrong: dict[str, float]):
    """A twin flat had 1694 matches."""
    twin = replace(RIGHT, evidence=replace(SOUND, **wrong), matches=40_000)
    assert judged(twin).verdict == "apart"


def test_too_little_is_told():
    """By surface, or by frames; a place that something contradicts is no such thing."""
    thin = replace(RIGHT, evidence=replace(SOUND, cells=40))
    assert judged(thin).reason.startswith("too little in common: 40 cells")
    assert "contradicted" in judged(replace(thin, evidence=replace(thin.evidence, through=0.1))).reason
    links = tuple(Link(k, 0, HERE, np.zeros((20, 3)), np.zeros((20, 3))) for k in range(3))
    assert rule._too_little([Group(links, HERE)]) == ""
    several = tuple(replace(link, second=number) for number, link in enumerate(links))
    assert "3 frames and 60 matches" in rule._too_little([Group(several, HERE)])


@pytest.mark.parametrize(
    "hint", [{"through": 0.012}, {"bare_share": 0.15}, {"patch": 3}, {"tinted": 3}, {"tint_share": 0.05}, {"far": 20}]
)
def test_look_alikes_are_left_to_a_person(hint: dict[str, float]):
    """What passes all tests and isn't clean."""
    found = judged(replace(RIGHT, evidence=replace(SOUND, **hint)))
    assert found.verdict == "ambiguous"
    assert len(found.places) == 1


def test_a_picture_is_bare_cells_side_by_side():
    """Over edges and corners; cells by themselves are noise."""
    cells = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [9, 9, 9], [5, 0, 0], [5, 2, 0]])
    assert _largest_group(cells) == 3
    assert _largest_group(cells[3:]) == 1
    assert _largest_group(cells[:0]) == 0


def test_two_places_are_ambiguous():
    """Both are kept, unless the second has little for it or something against it."""
    other = Place(THERE, replace(SOUND, through=0.002), frames=10, matches=2500)
    found = judged(RIGHT, other)
    assert (found.verdict, len(found.places)) == ("ambiguous", 2)
    assert judged(RIGHT, replace(other, matches=300)).verdict == "joined"
    assert judged(RIGHT, replace(other, evidence=replace(SOUND, through=0.1))).verdict == "joined"


def test_opposite_views_need_the_floor_plans():
    """Features test nothing there."""
    opposite = replace(RIGHT, evidence=replace(SOUND, pairs=2, again=0.0))
    plan = Place(HERE, SOUND, walls=0.7)
    assert judged(opposite).verdict == "ambiguous"
    assert judged(opposite, plans=(replace(plan, a_from_b=THERE),)).verdict == "ambiguous"
    assert judged(opposite, plans=(plan,)).verdict == "joined"


def test_floor_plans_join_what_colours_confirm():
    """Where images propose nothing there, or another place whose colours differ; two such places are ambiguous."""
    plan = Place(HERE, replace(SOUND, coloured=400), walls=0.4)
    elsewhere = Place(THERE, replace(SOUND, tinted=9), frames=7, matches=700)
    assert judged(plans=(plan,)).verdict == "joined"
    assert judged(elsewhere, plans=(plan,)).places[0] is plan
    assert judged(replace(elsewhere, a_from_b=HERE), plans=(plan,)).verdict == "ambiguous"
    assert judged(plans=(plan, replace(plan, a_from_b=THERE))).verdict == "ambiguous"
    assert judged(plans=(replace(plan, evidence=replace(plan.evidence, tinted=3)),)).verdict == "apart"


def test_floor_plans_alone_join_nothing():
    """They find a place, and can't refuse one."""
    assert judged(plans=(Place(HERE, SOUND, walls=0.9),)).verdict == "ambiguous"
    assert judged().verdict == "apart"

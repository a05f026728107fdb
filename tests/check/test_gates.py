"""The catalog of gates, and the verdicts of those that look at poses, frame and depth images."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from pipeline.align.alignment import Alignment
from pipeline.check.frame import frame_gates, pose_gates
from pipeline.check.gates import GATES, THRESHOLDS, Measured, judged, measure_gates
from pipeline.check.surface import depth_gates, measure_invented, measure_missing
from pipeline.geometry import Camera, Pose, Similarity
from pipeline.geometry.rays import RayCaster
from pipeline.poses.scene import View
from pipeline.regions.regions import AN_OBJECT, Regions
from tests.check.scenes import NO_MESH, checked, verdicts
from tests.mesh.scenes import all_maps, box, built, grid_floor, maps, without
from tests.paths import ROOT

UNITS = {"m²": "m2", "degree": "degrees"}


def test_page_lists_every_gate_as_the_catalog_has_it():
    """Name, comparison, threshold and unit in docs/gates.md."""
    page = (ROOT / "docs" / "gates.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([≤≥]) ([\d.]+) ?(\S*) \|", page, re.MULTILINE)
    said = {
        name: ({"≤": "<=", "≥": ">="}[sign], float(value), UNITS.get(unit, unit)) for name, sign, value, unit in rows
    }
    assert said == {name: (kind.comparison, kind.threshold, kind.unit) for name, kind in GATES.items()}


def test_every_gate_is_explained_and_can_be_measured():
    """Each has a title, a sentence for people and a function, unless the import hands its measurement in."""
    for kind in GATES.values():
        assert kind.title and kind.meaning
        module, _, function = kind.measured_by.partition(":")
        assert callable(getattr(import_module(module), function)) if module else kind.scenes == "imported"


def test_thresholds_can_be_overruled_and_it_shows():
    """A card's threshold counts, and the default stands next to it."""
    gate = judged("coverage", Measured(0.2, "h"), {"coverage": 0.1})
    assert gate.passed
    assert gate.detail["default_threshold"] == THRESHOLDS["coverage"]


def test_an_imported_scene_says_what_could_not_be_measured():
    """Gates that need photos apply to no scene without them; the others are measured or given."""
    scene = replace(checked(), photos=None)
    given = {name: Measured(0.0, "given") for name in ("registration", "overlap", "splat_mesh_depth")}
    given["splat_mesh_depth_p90"] = Measured(0.0, "given")
    gates = {gate.name: gate for gate in measure_gates(scene, {}, given)}
    assert list(gates) == list(GATES)
    assert all(gates[name].passed is None for name, kind in GATES.items() if kind.scenes == "with photos")
    assert gates["registration"].passed and not gates["overlap"].passed
    assert gates["gravity"].passed and gates["floaters"].passed is None and gates["walkable"].passed is False


@pytest.mark.parametrize(("registered", "passed"), [(10, True), (9, True), (8, False), (0, False)])
def test_registered_is_the_share_of_keyframes_with_a_pose(registered, passed):
    """Nine of ten do, eight of ten don't."""
    view = View("v", "", Camera(4, 3, 4, 4, 2, 1.5), Pose.identity(), held_out=False)
    gate = verdicts(pose_gates(checked(views=[view] * registered, keyframes=10)))["registered"]
    assert (gate.value, gate.passed) == (registered / 10, passed)
    assert gate.how == f"{registered} of 10 keyframes have a pose"


@pytest.mark.parametrize(("error", "passed"), [(0.7, True), (1.5, True), (1.6, False), (None, None)])
def test_reprojection_needs_a_map(error, passed):
    """Up to 1.5 px; poses without a map of points have none, and then it does not apply."""
    gate = verdicts(pose_gates(checked(keyframes=1, reprojection=error)))["reprojection"]
    assert (gate.value, gate.passed) == (error, passed)


def test_mesh_is_compared_with_depth_it_never_saw():
    """The rebuilt room passes at its held-out depth images; depth images 5 cm nearer fail; without any, neither."""
    held_out = [m for m in all_maps() if m.held_out]
    nearer = [replace(m, depth=m.depth - 0.05) for m in held_out]
    right, wrong, nothing = (
        verdicts(depth_gates(checked(mesh=built().mesh, held_out_depth=depth)))["mesh_held_out_depth"]
        for depth in (held_out, nearer, [])
    )
    assert (right.passed, wrong.passed, nothing.passed) == (True, False, None)
    assert right.detail["covered"] > 0.9
    assert wrong.value == pytest.approx(0.05, abs=0.003) and wrong.detail["bias"] == pytest.approx(0.05, abs=0.003)
    assert "no depth images" in nothing.how


def test_a_surface_that_is_not_there_fails():
    """A shelf in the air of the rebuilt room, guessed or not; without any surface nothing is known."""
    shelf = grid_floor((1.0, 0.8), (3.0, 2.0), z=1.1)
    guessed = replace(shelf, guessed=np.ones(len(shelf.vertices), bool))
    right, wrong, marked, nothing = (
        verdicts(depth_gates(checked(mesh=mesh, depth=maps())))["invented"]
        for mesh in (built().mesh, built().mesh.joined(shelf), built().mesh.joined(guessed), NO_MESH)
    )
    assert (right.passed, wrong.passed, marked.passed, nothing.passed) == (True, False, False, False)
    assert wrong.detail["area_m2"] == pytest.approx(2.0 * 1.2, rel=0.25)


def test_a_hole_in_what_depth_shows_fails():
    """A patch of the rebuilt room's floor cut out of the mesh for physics; what a mirror shows behind it is no hole."""
    mesh = built().mesh
    right, wrong, nothing = (
        verdicts(depth_gates(checked(mesh=physics, depth=maps())))["missing"]
        for physics in (mesh, without(mesh, (2.0, 1.4), 0.4), NO_MESH)
    )
    assert (right.passed, wrong.passed, nothing.passed) == (True, False, False)
    assert 0.2 < wrong.value < np.pi * 0.4**2
    alone = checked(mesh=without(mesh, (2.0, 1.4), 0.4), regions=Regions.without_floor(0.1, AN_OBJECT), depth=maps())
    assert verdicts(depth_gates(alone))["missing"].passed is None  # what it stood on is no part of an object
    below = [replace(one, depth=1.5 * one.depth) for one in maps()]  # behind every surface: as through a mirror
    assert measure_missing(mesh, below) == 0


def test_what_gloss_mirrors_is_no_free_space():
    """A box on a glossy table is seen again below it; without the box in the mesh the same depth looks through."""
    table, thing = grid_floor((1.0, 0.8), (3.0, 2.0), z=0.8), box((1.0, 1.6, 0.8), (3.0, 2.0, 1.2))
    seen = RayCaster(thing.joined(box((1.0, 1.6, 0.4), (3.0, 2.0, 0.8))))
    depth = [replace(one, depth=seen.depth(one.camera, one.world_from_camera)) for one in maps()]
    through, mirrored = measure_invented(table, depth)[0], measure_invented(table.joined(thing), depth)[0]
    assert through > 0.4
    assert mirrored < 0.1


def test_assumed_scale_fails_and_says_what_to_do():
    """Known gravity and scale pass; an assumed scale is unknown; priors say what would be better."""
    unit, known = Similarity.identity(), verdicts(frame_gates(checked()))
    assert known["gravity"].passed and known["scale"].passed
    assumed = Alignment(unit, ("floor",), 2.0, "assumed", None, True, {})
    gates = verdicts(frame_gates(checked(alignment=assumed)))
    assert gates["gravity"].passed is False and gates["scale"].passed is False
    assert "--known-length" in gates["scale"].how
    by_priors = Alignment(unit, ("floor",), 0.1, "priors", 0.1, True, {})
    assert "usual sizes" in verdicts(frame_gates(checked(alignment=by_priors)))["scale"].how

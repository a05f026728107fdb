"""Builds for commercial use, on machines that have everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import BuildRequest, plan
from pipeline.errors import CardError
from pipeline.gpu_backends.catalog import BACKENDS, GIBI, licence_of
from pipeline.machine import PACKAGES, Gpu, Machine
from pipeline.running.building import Plan
from pipeline.running.card import Card, CardSource
from pipeline.running.licences import LIBRARIES, check_capture
from pipeline.running.stages import LONE_STAGES, STAGES
from tests.synthetic import Room, walk, write_photos

ABLE = Machine(Gpu("NVIDIA H200", 139 * GIBI, 138 * GIBI, (9, 0)), frozenset(PACKAGES))
COMMERCIAL = "facebook/VGGT-1B-Commercial"
FREE = Card(source=CardSource(licence="CC-BY-4.0"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, room: Room) -> Path:
    """Three photos, for which `auto` takes networks where it may."""
    folder = tmp_path_factory.mktemp("captures") / "kitchen"
    write_photos(folder, room, walk(3))
    return folder


@pytest.fixture
def asked(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildRequest:
    """A build for commercial use on a machine with a GPU and all its packages."""
    monkeypatch.setattr("pipeline.running.building.this_machine", lambda _python="": ABLE)
    return BuildRequest(photos, out=tmp_path / "out", licence_profile="commercial")


def backends(planned: Plan) -> dict[str, str]:
    """Of those stages that may run on a GPU."""
    return {one.name: one.backend for one in planned.stages if one.name in ("poses", "depth", "mesh", "splat")}


def test_auto_takes_what_allows_it(asked: BuildRequest):
    """Without the profile all networks run; with it only gsplat, and the plan says why."""
    free = plan(replace(asked, licence_profile=None), FREE)
    assert backends(free) == {"poses": "vggt", "depth": "vggt", "mesh": "nksr", "splat": "gsplat"}
    for planned in (
        plan(asked, FREE),
        plan(replace(asked, licence_profile=None), FREE.changed(licence_profile="commercial")),
    ):
        assert backends(planned) == {"poses": "colmap", "depth": "mvs", "mesh": "tsdf", "splat": "gsplat"}
        why = {stage.name: stage.reason for stage in planned.stages}
        assert (
            "vggt is not known to allow commercial use (VGGT License (no military use) AND CC-BY-NC-4.0)"
            in why["poses"]
        )
        assert "CC-BY-NC-4.0" in why["depth"]
        assert "research and evaluation only" in why["mesh"]


def test_commercial_weights_pass(asked: BuildRequest):
    """Auto takes the network again with them; one that was asked for runs with weights that allow it."""
    request = replace(asked, settings=(f"poses.weights={COMMERCIAL}",))
    assert backends(plan(request, FREE)) == {"poses": "vggt", "depth": "mvs", "mesh": "tsdf", "splat": "gsplat"}
    request = replace(asked, settings=("depth.backend=depth_anything_3", "depth.weights=depth-anything/DA3-BASE"))
    assert backends(plan(request, FREE))["depth"] == "depth_anything_3"


@pytest.mark.parametrize(
    "settings",
    [
        ("mesh.backend=nksr",),
        ("poses.backend=vggt",),
        ("depth.backend=vggt", "depth.weights=my/own"),
        ("depth.backend=depth_anything_3",),
        ("depth.backend=depth_anything_3", "depth.weights=depth-anything/DA3-GIANT-1.1"),
        ("depth.backend=vggt", "depth.weights=depth-anything/DA3-BASE"),
    ],
)
def test_what_was_asked_for_is_refused(asked: BuildRequest, settings: tuple[str, ...]):
    """The error names it, and each way out that it names works."""
    request = replace(asked, settings=settings)
    assert plan(replace(request, licence_profile=None), FREE)
    with pytest.raises(CardError) as error:
        plan(request, FREE)
    assert settings[0] in error.value.found
    ways = [word for word in error.value.remedy.replace(";", "").split() if "=" in word]
    assert ways
    for way in ways:
        assert plan(replace(request, settings=(*settings, way)), FREE)


def test_what_is_chosen_alike_is_built_once(asked: BuildRequest):
    """The profile is no part of a key; the bundle is the same, too."""
    settings = ("poses.backend=colmap", "depth.backend=mvs", "mesh.backend=tsdf")
    request = replace(asked, settings=settings)
    assert [one.key for one in plan(request, FREE).stages] == [
        one.key for one in plan(replace(request, licence_profile=None), FREE).stages
    ]


def test_the_manifest_lists_each_stage_s_licence(asked: BuildRequest):
    """Of our code and its libraries, and of networks and their weights."""
    records = plan(replace(asked, licence_profile=None), FREE).stages[-1].params.model_dump()["stages"]
    licences = {record["name"]: record["licence"] for record in records}
    assert len(licences) == len(STAGES) - 1
    assert all(licences.values())
    assert licences["poses"] == "VGGT License (no military use) AND CC-BY-NC-4.0"
    assert licences["mesh"] == "NVIDIA Source Code License (research and evaluation only) AND CC-BY-SA-4.0"
    assert (licences["splat"], licences["coverage"]) == ("Apache-2.0", "Apache-2.0 AND BSD-2-Clause")


@pytest.mark.parametrize("licence", ["CC-BY-4.0", "CC BY-SA 4.0", "cc0-1.0", "MIT", "Apache-2.0", "Proprietary"])
def test_captures_that_allow_it(licence: str):
    """By a list of licences, and the owner's word."""
    check_capture(licence, None)


@pytest.mark.parametrize(
    ("licence", "found"),
    [
        ("", "nobody says"),
        ("unknown", "nobody says"),
        ("CC-BY-NC-4.0", "forbids it"),
        ("CC BY-NC-SA 4.0", "forbids it"),
        ("cc-by-nc-nd-4.0", "forbids it"),
        ("for friends", "isn't known to allow it"),
        ("MIT AND CC-BY-NC-4.0", "forbids it"),
        ("MIT AND for friends", "isn't known"),
    ],
)
def test_captures_that_do_not(licence: str, found: str):
    """What forbids it, and what nobody knows; the remedy is for each."""
    with pytest.raises(CardError, match=found) as error:
        check_capture(licence, None)
    assert "CC-BY-4.0" in error.value.remedy
    assert ("source.licence" in error.value.remedy) == (found != "forbids it")


def test_a_capture_without_licence_is_refused(asked: BuildRequest):
    """The same build with a card that says it passes."""
    with pytest.raises(CardError, match=r"splatyard scene card"):
        plan(asked)
    assert plan(asked, Card(source=CardSource(licence="proprietary")))


def test_every_library_s_licence_is_known():
    """Of each backend that needs no GPU, and of the GPU's, weights that allow it or none."""
    used = {name for stage in (*STAGES, *LONE_STAGES) for names in stage.libraries.values() for name in names}
    assert used == set(LIBRARIES)
    allowed = {name for name in BACKENDS if licence_of(name).commercial}
    assert allowed == {"gsplat"}

"""Failed episodes as pictures: which are shown, what of them is kept, and for whom there are none."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim.controlled import find_robot
from sim.robots.catalog import PACKAGE
from sim.scene.scene import SceneLock, SimScene
from tests.sim.floors import floor_scene
from tests.train.runs.test_evaluate_run import begun
from train.runs.results import Episode, FloorPlan
from train.scaling import failures
from train.scaling.failures import FailedPlace, Failures, Picture, shown


def picture(scene: str, env: int) -> Picture:
    """Of an episode that crashed."""
    episode = Episode(
        scene=scene,
        seed=999,
        env=env,
        start=(0.5, 1.5, 0.0),
        goal=(1.0, 2.5),
        success=False,
        ended_by="crash",
        steps=10,
        reward=0.0,
        outcomes={"in_sight": True, "entered": False},
        path=((0.5, 1.5), (0.5, 2.0), (0.75, 2.0)),
    )
    return Picture(episode=episode, seconds=2.0, image="")


def test_each_place_is_shown_before_one_is_shown_twice():
    """At most four of one place and twelve of all, in the order of their places."""
    pictures = [picture(scene, env) for env, scene in enumerate("aaaaaabbc")]
    assert [(one.episode.scene, one.episode.env) for one in shown(pictures)] == [
        *(("a", 0), ("b", 6), ("c", 8)),
        *(("a", 1), ("b", 7)),
        *(("a", 2), ("a", 3)),
    ]
    many = [picture(f"room-{env // 5}", env) for env in range(100)]
    assert [one.episode.env for one in shown(many)] == list(range(0, 60, 5))
    assert shown([]) == []


@pytest.fixture
def places(room_scene: SimScene) -> dict[str, list[SimScene]]:
    """Two held-out places, one to test in."""
    names = {"validation": ("attic@1.0.0", "cellar@1.0.0"), "test": ("hall@1.0.0",)}
    return {
        kind: [replace(room_scene, lock=SceneLock(name, "1" * 64, ())) for name in some] for kind, some in names.items()
    }


def test_what_the_robot_saw_and_how_it_came_there(
    tmp_path: Path, room_scene: SimScene, places: dict[str, list[SimScene]], monkeypatch: pytest.MonkeyPatch
):
    """Of whoever learned nothing all episodes end by time; the same again, and as JSON."""
    monkeypatch.setattr(failures, "EPISODES", 6)
    run = begun(tmp_path, room_scene, "sees", {"task.seconds": 1.0})
    found = Failures.of(run, places)
    kinds = {place.reference: place.kind for place in found.places}
    assert kinds["hall@1.0.0"] == "test"
    assert sum(place.failed for place in found.places if place.kind == "validation") >= 5
    for place in found.places:
        assert len(place.pictures) == min(place.failed, 4)
        assert place.plan.marked(place.plan.drivable).any()
        for one in place.pictures:
            image = cv2.imdecode(np.frombuffer(base64.b64decode(one.image), np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            assert image.std() > 1
            assert one.episode.scene == place.reference
            assert one.seconds == pytest.approx(one.episode.steps * 0.2)
    assert Failures.model_validate_json(found.model_dump_json()) == found == Failures.of(run, places)


def test_who_sees_nothing_has_maps(
    tmp_path: Path, room_scene: SimScene, places: dict[str, list[SimScene]], monkeypatch: pytest.MonkeyPatch
):
    """Without an image beside them."""
    monkeypatch.setattr(failures, "EPISODES", 2)
    run = begun(tmp_path, room_scene, "blind", {"task.seconds": 1.0, "policy.encoder": "none"})
    found = Failures.of(run, {"test": places["test"]})
    assert [len(place.pictures) for place in found.places] == [2]
    assert {one.image for place in found.places for one in place.pictures} == {""}


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="example-robot-data is not installed")
def test_arms_go_nowhere(tmp_path: Path, room_scene: SimScene, places: dict[str, list[SimScene]]):
    """No map has anything to show, so nothing is measured."""
    pytest.importorskip("mujoco")
    changes = {"task": "put_cube_on_plate", "robot": "panda", "policy.encoder": "truth"}
    run = begun(tmp_path, room_scene, "arm", changes)
    assert Failures.of(run, {"test": places["test"]}) == Failures()


def place_of(reference: str, *pictures: Picture) -> FailedPlace:
    """A place with pictures, on a floor of its own."""
    plan = FloorPlan.of(floor_scene(np.ones((40, 30), bool)), find_robot("rover")[0])
    return FailedPlace(
        reference=reference, kind="test", plan=plan, episodes=9, failed=len(pictures), pictures=tuple(pictures)
    )

"""Which places train, validate and test: by names alone, told where it matters, never silently empty."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SimError, TrainError
from sim.scene.scene import SceneLock, SimScene
from tests.sim.floors import floor_scene
from train.preset import load_preset
from train.runs.places import HoldOut, Place, Places, check_place, hash_of, opened

NAMES = [f"room-{number:06d}" for number in range(400)]
FIND = load_preset("find")


def places(*references: str) -> list[Place]:
    """Places without anything in them."""
    scenes: list[Any] = [SimpleNamespace(lock=SceneLock(one, one.encode().hex(), ())) for one in references]
    return [Place(scene.lock.reference, scene) for scene in scenes]


def names(of: Any) -> list[str]:
    """References of places."""
    return [place.scene.lock.reference for place in of]


def test_a_share_of_the_places_is_held_out():
    """About as many as asked for, whatever their names."""
    for text, share in (("20%", 0.2), ("0.5", 0.5)):
        assert len(HoldOut.parse(text).chosen(NAMES)) / len(NAMES) == pytest.approx(share, abs=0.06)
    assert HoldOut.parse("").chosen(NAMES) == set()


def test_a_place_stays_on_its_side():
    """When others are added, and whatever the order; hashes are those of every machine."""
    few = HoldOut.parse("20%").chosen(NAMES[:40])
    assert few == HoldOut.parse("20%").chosen(NAMES[::-1]) & set(NAMES[:40])
    assert hash_of("room-000006") == pytest.approx(0.11, abs=0.1)
    assert hash_of("room-000006") == hash_of("room-000006")


def test_a_number_of_places_is_that_number():
    """Those that the smallest shares would take, so that more are those and others."""
    four, nine = (HoldOut.parse(text).chosen(NAMES) for text in ("4", "9"))
    assert (len(four), len(nine)) == (4, 9)
    assert four < nine
    assert HoldOut.parse("500").chosen(NAMES) == set(NAMES)


@pytest.mark.parametrize("text", ["0", "0%", "100%", "1.5", "many", "-3", "nan", "%"])
def test_what_is_no_share_is_refused(text: str):
    """With what would be one."""
    with pytest.raises(TrainError, match="--hold-out 20%"):
        HoldOut.parse(text)


def test_versions_of_a_place_are_on_one_side(caplog: pytest.LogCaptureFixture):
    """And whoever has two is told that they are one place."""
    known = places(*(f"{name}@{version}" for name in ("a", "b", "c", "d") for version in ("1.0.0", "2.0.0")))
    with caplog.at_level(logging.INFO):
        found = Places.divided(known, [], "2")
    assert (len(found.train), len(found.validation)) == (4, 4)
    assert not {place.name for place in found.train} & {place.name for place in found.validation}
    assert "one place, on one side: a@1.0.0, a@2.0.0" in caplog.text
    assert "held out: 4 of 8 scenes validate" in caplog.text


def test_places_to_test_in_are_not_trained_in(caplog: pytest.LogCaptureFixture):
    """Not in another version either; they don't validate, and that is said."""
    found = Places.divided(places("a@1.0.0", "b@1.0.0", "c@1.0.0"), places("a@2.0.0"), "")
    assert (names(found.train), names(found.test)) == (["b@1.0.0", "c@1.0.0"], ["a@2.0.0"])
    assert "left out of training, since it is tested there: a@1.0.0" in caplog.text
    assert set(found.unseen) == {"test"}


@pytest.mark.parametrize(
    ("known", "test", "hold_out", "found"),
    [
        (["a@1"], [], "1", "0 to train in and 1 held out"),
        (
            ["a@1", "a@2"],
            [],
            "1",
            "0 to train in and 2 held out, of 2 scenes .* the others are 1 place, whose versions",
        ),
        (["a@1", "b@1", "c@1"], [], "3", "0 to train in and 3 held out"),
        (["a@1", "b@1"], ["a@1", "b@2"], "", "0 to train in"),
        (["room-000000@1", "room-000001@1"], [], "1%", "2 to train in and 0 held out"),
    ],
)
def test_an_empty_side_is_an_error(known: list[str], test: list[str], hold_out: str, found: str):
    """Before anything is trained."""
    with pytest.raises(TrainError, match=found):
        Places.divided(places(*known), places(*test), hold_out)


@pytest.fixture
def rooms(room_scene: SimScene) -> dict[str, Any]:
    """A good one and some where no episode can begin, by their sources."""
    small = floor_scene(np.ones((3, 3), bool))

    def unfit() -> SimScene:
        raise SimError("a scene needs a floor to start on", found="no spawn pose", remedy="capture the floor too")

    return {"good": lambda: room_scene, "small": lambda: small, "floorless": unfit}


def test_a_place_of_many_without_floor_is_left_out(rooms: dict[str, Any], caplog: pytest.LogCaptureFixture):
    """It is named, with what to do; so is one that has too little of it for the task."""
    found = opened(["floorless", "good", "small"], lambda source: rooms[str(source)](), FIND, "train")
    assert [place.source for place in found] == ["good"]
    assert "found: no spawn pose; capture the floor too" in caplog.text
    assert caplog.text.count("left out: ") == 2


@pytest.mark.parametrize("sources", [["floorless"], ["floorless", "small"]])
def test_without_any_other_it_is_an_error(rooms: dict[str, Any], sources: list[Path | str]):
    """The same as ever."""
    with pytest.raises(SimError, match="a scene needs a floor"):
        opened(sources, lambda source: rooms[str(source)](), FIND, "train")


@pytest.mark.parametrize("task", ["find", "navigate", "search", "explore", "lift"])
def test_places_are_checked_for_any_task(task: str, room_scene: SimScene):
    """By what begins its episodes, with the task's own robot."""
    check_place(room_scene, load_preset(task), "all")


def test_a_robot_that_does_not_fit_is_refused(room_scene: SimScene):
    """A rover has no gripper."""
    with pytest.raises(SimError, match="an arm has a gripper"):
        check_place(room_scene, load_preset("lift", {"robot": "rover"}), "all")

"""Clicks on objects of a bundle's page: named, outlined, cut out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import viser

from flows.object_clicks import NOTHING, ObjectClicks
from pipeline import Bundle
from tests.objects.furniture import BOXES, before_the_cut


def centre(foot: tuple[float, ...], size: tuple[float, ...]) -> np.ndarray:
    """Centre (3,) of a box [m]."""
    return np.array([*foot[:2], foot[2] + size[2] / 2])


EYE = np.array([2.6, 2.1, 1.9])


@pytest.fixture
def server() -> Iterator[viser.ViserServer]:
    """A viser server on a free port."""
    server = viser.ViserServer(host="127.0.0.1", port=18480, verbose=False)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def whole(cut_room: Path) -> Bundle:
    """A furnished room."""
    return Bundle.open(before_the_cut(cut_room))


def test_a_click_names_and_cuts_out(server: viser.ViserServer, whole: Bundle, tmp_path: Path):
    """The crate has its size and an outline; the button writes the version in which it is a body."""
    clicks = ObjectClicks(server, whole, tmp_path)
    middle, size, _ = BOXES["crate"]
    clicks.choose(EYE, centre(middle, size) - EYE)
    assert "box-" in clicks.text.content
    assert "could be moved" in clicks.text.content
    assert clicks.button.visible
    outline = server.scene._handle_from_node_name["/object"]
    assert isinstance(outline, viser.LineSegmentsHandle)
    assert np.ptp(outline.points.reshape(-1, 3), axis=0)[2] == pytest.approx(size[2], abs=0.03)
    name = clicks.text.content.split("**")[1]
    clicks.cut()
    made = Bundle.open(tmp_path / "room" / "1.1.0")
    assert name in {one.record.name for one in made.objects}
    assert "room@1.1.0" in clicks.text.content


def test_the_building_is_no_object(server: viser.ViserServer, whole: Bundle, tmp_path: Path):
    """A wall is nothing, a table can't be moved; strangers are offered no button."""
    clicks = ObjectClicks(server, whole, tmp_path)
    clicks.choose(EYE, np.array([1.0, 0.3, 0.0]))
    assert clicks.text.content == NOTHING
    clicks.cut()
    middle, size, _ = BOXES["parcel on the table"]
    table = np.array([1.9, 1.15, 0.68])
    clicks.choose(EYE, table - EYE)
    assert "part of the building" in clicks.text.content
    assert not clicks.button.visible
    strangers = ObjectClicks(server, whole, None)
    strangers.choose(EYE, centre(middle, size) - EYE)
    assert "could be moved" in strangers.text.content
    assert not strangers.button.visible
    assert not list(tmp_path.iterdir())

"""Palettes of real places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import Bundle
from pipeline.errors import BundleError
from pipeline.rooms.likeness import COLORS, palette_of
from pipeline.rooms.splat import LUMINANCE


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A room whose colours are known, as a bundle."""
    from pipeline.rooms.bundle import write_room
    from pipeline.rooms.paints import Palette
    from pipeline.rooms.recipe import Recipe
    from tests.rooms.conftest import CLEAN

    dark, light = np.tile([0.2, 0.3, 0.5], (3, 1)), np.tile([0.8, 0.7, 0.6], (3, 1))
    things = np.tile([0.7, 0.2, 0.2], (3, 1))
    folder = tmp_path_factory.mktemp("drawn")
    write_room(folder, CLEAN, Recipe(0, Palette(dark, light, things, (0.05, 0.02, 0.05), 0.5), "hall@1.0.0"))
    return Bundle.open(folder)


def test_floor_walls_and_things_are_told_apart(drawn: Bundle):
    """By colour ratios, which light changes little; and the whole is as bright as it is."""
    palette = palette_of(drawn)
    assert palette.floor.shape == palette.walls.shape == palette.things.shape == (COLORS, 3)
    ratios = [np.median(part[:, 0] / part[:, 2]) for part in (palette.floor, palette.walls, palette.things)]
    assert ratios[0] < 0.7 < 1.15 < ratios[1]
    assert ratios[2] > ratios[1]
    assert 0.25 < palette.brightness < 0.75
    assert abs(float(np.median(palette.walls @ LUMINANCE)) - palette.brightness) < 0.3
    assert all(0 < contrast < 0.2 for contrast in palette.contrast)


def test_the_bundle_names_whose_colors_it_has(drawn: Bundle):
    """As a parent, and in its source."""
    assert drawn.manifest.parents == ("hall@1.0.0",)
    assert "painted like hall@1.0.0" in drawn.manifest.provenance.source


def test_a_splat_that_shows_nothing_is_refused(drawn: Bundle, monkeypatch: pytest.MonkeyPatch):
    """With one error."""
    monkeypatch.setattr("pipeline.rooms.likeness.ON_MESH", -1.0)
    with pytest.raises(BundleError, match="a splat shows the mesh"):
        palette_of(drawn)


def test_only_places_have_palettes(drawn: Bundle, monkeypatch: pytest.MonkeyPatch):
    """An object by itself has no floor."""
    monkeypatch.setattr("pipeline.scenes.manifest.Manifest.is_object", property(lambda _: True))
    with pytest.raises(BundleError, match="painted like a place"):
        palette_of(drawn)
    assert isinstance(drawn.root, Path)

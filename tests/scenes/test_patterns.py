"""Scenes by name and by pattern."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import MissingBundleError
from pipeline.scenes.resolver import find_scenes


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundles folder with two flights of stairs, a hall, and what is no bundle."""
    for name in ("stairs-a/1.2.0", "stairs-a/1.10.0", "stairs-b/2.0.0", "hall/1.0.0", "hall/notes", ".work/1.0.0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "stairs-c").write_text("a file")
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("stairs-*@latest", ["stairs-a@1.10.0", "stairs-b@2.0.0"]),
        ("stairs-*", ["stairs-a@1.10.0", "stairs-b@2.0.0"]),
        ("stairs-a@1.*", ["stairs-a@1.2.0", "stairs-a@1.10.0"]),
        ("stairs-a@1.2.0", ["stairs-a@1.2.0"]),
        ("hall", ["hall@1.0.0"]),
        ("*", ["hall@1.0.0", "stairs-a@1.10.0", "stairs-b@2.0.0"]),
        ("hf://someone/scenes/hall@1.0.0", ["hf://someone/scenes/hall@1.0.0"]),
    ],
)
def test_names_and_patterns_give_the_versions_that_are_meant(registry: Path, pattern: str, found: list[str]):
    """Versions are numbers: 1.10.0 is newer than 1.2.0."""
    assert find_scenes([pattern]) == found


def test_each_scene_is_taken_once_in_the_order_of_the_patterns(registry: Path):
    """Folders are taken as they are."""
    folder = str(registry / "hall/1.0.0")
    assert find_scenes(["stairs-b", folder, "stairs-*"]) == ["stairs-b@2.0.0", folder, "stairs-a@1.10.0"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["hall/1.0.0", "stairs-a/1.10.0", "stairs-b/2.0.0"]),
        ("stairs-a", ["stairs-a/1.10.0"]),
        ("stairs-?@1.*", ["stairs-a/1.2.0", "stairs-a/1.10.0"]),
        ("hall/1.0.0", ["hall/1.0.0"]),
    ],
)
def test_another_folder_of_bundles_may_be_named(registry: Path, pattern: str, found: list[str]):
    """Before a name or a pattern: they are then the folders of its bundles."""
    assert find_scenes([f"{registry}/{pattern}"]) == [str(registry / one) for one in found]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("hal", "hall@1.0.0"), ("stairs-a@3.*", "stairs-a@1.2.0, stairs-a@1.10.0"), ("kitchen*", "hall@1.0.0")],
)
def test_what_fits_nothing_is_an_error_that_offers_what_is_near(registry: Path, pattern: str, near: str):
    """Other versions of the name, names like it, or what there is."""
    with pytest.raises(MissingBundleError) as raised:
        find_scenes(["hall", pattern])
    assert pattern in raised.value.found
    assert near in raised.value.remedy


def test_an_empty_bundles_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the command that makes bundles, and the variable that names the folder."""
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(tmp_path))
    with pytest.raises(MissingBundleError, match=rf"(?s){tmp_path}.*splatyard build.*SPLATYARD_BUNDLES"):
        find_scenes(["hall"])

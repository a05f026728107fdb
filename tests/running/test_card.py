"""Scene cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.align.params import KnownLength
from pipeline.errors import CardError
from pipeline.parameters import MAX_FILE_BYTES
from pipeline.regions.params import Area
from pipeline.running.card import Card, load_card, name_from, write_card
from pipeline.running.settings import read_card
from pipeline.stage import Traits
from tests.paths import ROOT

CARD = """
name: fox-1
source: {path: ../fox, url: "https://example.org/fox", author: A. Person, licence: CC-BY-4.0}
description: a stuffed fox
recipe:
  select: {max_keyframes: 60}
scale:
  known_length: {metres: 0.30, image: 0001.jpg, a: [412, 900.5], b: [655, 910]}
areas:
  - {name: ice, polygon: [[0, 0.5], [1, 0], [1, 2]], friction: 0.4}
  - {name: patch, color: "#f2cc1a", cost: 1}
gates: {gravity: 2}
"""


def card_file(folder: Path, text: str) -> Path:
    """A card on disk."""
    path = folder / "card.yaml"
    path.write_text(text)
    return path


def test_card_is_read(tmp_path: Path) -> None:
    """All sections come back typed."""
    card = load_card(card_file(tmp_path, CARD))
    assert (card.name, card.source.path, card.source.licence) == ("fox-1", "../fox", "CC-BY-4.0")
    assert card.recipe == {"select": {"max_keyframes": 60}}
    assert card.scale.known_length == KnownLength(metres=0.30, image="0001.jpg", a=(412.0, 900.5), b=(655.0, 910.0))
    ice, patch = (
        Area(name="ice", polygon=((0, 0.5), (1, 0), (1, 2)), friction=0.4),
        Area(name="patch", color="#f2cc1a", cost=1),
    )
    assert card.areas == (ice, patch)
    assert card.gates == {"gravity": 2.0}


def test_everything_has_a_default(tmp_path: Path) -> None:
    """An empty card is a card."""
    assert load_card(card_file(tmp_path, "{}")) == Card()
    assert Card().scale.known_length is None


@pytest.mark.parametrize(
    ("old", "new", "where", "near"),
    [
        ("description:", "desription:", "card has no key 'desription'", "'description'"),
        ("licence:", "license:", "card.source has no key 'license'", "'licence'"),
        ("known_length:", "know_length:", "card.scale has no key 'know_length'", "'known_length'"),
        ("polygon:", "polygn:", "card.areas.0 has no key 'polygn'", "'polygon'"),
        ("metres:", "meters:", "card.scale.known_length has no key 'meters'", "'metres'"),
        ("select:", "selct:", "recipe has no key 'selct'", "'select'"),
        ("max_keyframes:", "max_keyframe:", "select has no key 'max_keyframe'", "'max_keyframes'"),
        ("gravity:", "gravty:", "gates has no key 'gravty'", "'gravity'"),
    ],
)
def test_unknown_keys_name_the_nearest(old: str, new: str, where: str, near: str, tmp_path: Path) -> None:
    """At every level: which key, where, and what was probably meant."""
    path = card_file(tmp_path, CARD.replace(old, new))
    with pytest.raises(CardError) as error:
        read_card(path)
    assert error.value.rule == where
    assert f"did you mean {near}?" in error.value.remedy
    assert error.value.file == str(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name: Big Hall", "name"),
        ("recipe: [1, 2]", "recipe"),
        ("scale: {camera_height: -1}", "greater than 0"),
        ("scale: {camera_height: .inf}", "camera_height"),
        ("gates: {psnr: high}", "gates.psnr"),
        ("scale: {tag_size: 0}", "tag_size"),
        ("scale: {known_length: {metres: 1, image: a, a: [1, 1], b: [1, 1]}}", "different pixels"),
        ("scale: {known_length: {metres: 1, image: a, a: [1, 1]}}", "known_length.b"),
        ("areas: {name: ice}", "areas"),
        ("areas: [{name: ice, polygon: [[0, 0], [1, 1]]}]", "3 to 1000 corners"),
        ("areas: [{name: ice, polygon: [[0, 0], [1, 1], [.nan, 0]]}]", "finite"),
        ("- a\n- b", "card must be"),
        ("", "card must be"),
    ],
)
def test_wrong_values_are_named(text: str, found: str, tmp_path: Path) -> None:
    """The key, what stood there and why that is wrong."""
    with pytest.raises(CardError, match=r"card\.yaml") as error:
        load_card(card_file(tmp_path, text))
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name: [", "line 1"),
        ("name: a\nname: b", "given twice"),
        ("a: &x [1, 1]\nb: [*x, *x]", "aliases"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[" * 50_000, ""),
        ("\x00", ""),
    ],
)
def test_hostile_or_broken_yaml_is_refused(text: str, found: str, tmp_path: Path) -> None:
    """No aliases, no objects, no repeated keys, no crash."""
    with pytest.raises(CardError, match="valid YAML") as error:
        load_card(card_file(tmp_path, text))
    assert found in error.value.found


def test_large_and_missing_files_are_refused(tmp_path: Path) -> None:
    """An image given as a card, or nothing."""
    with pytest.raises(CardError, match="256 KiB"):
        load_card(card_file(tmp_path, "#" * (MAX_FILE_BYTES + 1)))
    with pytest.raises(CardError, match="No such file"):
        load_card(tmp_path / "none.yaml")
    with pytest.raises(CardError, match="readable file"):
        load_card(tmp_path)


@pytest.mark.parametrize("name", ["kitchen", "Große Küche: 2. OG #1", "no", "'", "12"])
def test_written_card_reads_back(name: str, tmp_path: Path) -> None:
    """Filled in from the capture; only what is commented out has to be decided."""
    traits = Traits("rgbd", 200, has_poses=True, has_depth=True, has_gravity=False, ordered=True)
    text = write_card(Path("scans") / name, traits)
    card = read_card(card_file(tmp_path, text))
    assert card.source.path == str(Path("scans") / name)
    assert card.name == name_from(Path(name).stem)
    assert "200 images, with poses, with depth, without gravity" in text


def test_written_examples_are_valid(tmp_path: Path) -> None:
    """Uncommented, the card's examples are right."""
    text = write_card(Path("fox"), Traits("photos", 50, False, False, False, False))
    assert "the scale is hinted or assumed" in text
    examples = ("# scale:", "#   known", "# areas:", "# sources:", "# links:", "#   - ")
    lines = [line.replace("# ", "", 1) if line.startswith(examples) else line for line in text.splitlines()]
    card = load_card(card_file(tmp_path, "\n".join(lines)))
    assert [area.name for area in card.areas] == ["ice", "patch"]
    assert card.scale.known_length is not None
    assert card.scale.known_length.metres == 0.30
    assert (len(card.sources), len(card.links)) == (2, 1)


def test_names_from_any_text() -> None:
    """ASCII letters stay; the rest becomes dashes; never empty, never too long."""
    assert name_from("Große Küche 2") == "groe-kuche-2"
    assert name_from("日本") == "scene"
    assert name_from("living..room.") == "living.room"
    assert len(name_from("x" * 100)) == 64


def test_the_samples_card_is_right() -> None:
    """The card of `make demo` loads, and its capture is there."""
    path = ROOT / "scene_cards" / "hall.yaml"
    card = read_card(path)
    assert card.source.licence == "CC0-1.0"
    assert (path.parent / (card.source.path or "")).is_dir()

"""Scene cards, recipes and the options that change them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pipeline.align.params import AlignParams, KnownLength
from pipeline.capture.params import CaptureParams, SelectParams
from pipeline.card import (
    MAX_CARD_BYTES,
    Card,
    apply_recipe,
    load_card,
    merge_settings,
    name_from,
    parse_known_length,
    parse_set,
    parse_sheet,
    write_card,
)
from pipeline.errors import CardError
from pipeline.regions.params import Area
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
gates: {psnr: 25}
"""


@dataclass(frozen=True)
class ToyParams:
    """Parameters of every type that stages use."""

    backend: Literal["auto", "cpu"] = "auto"
    count: int = 3
    weight: float = 0.5
    fast: bool = False
    limit: float | None = None
    sizes: tuple[int, ...] = (1, 2)
    title: str = ""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be positive, got {self.count}")


STAGES = {"toy": ToyParams, "select": SelectParams}


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
    assert card.scale.known_length == KnownLength(0.30, "0001.jpg", (412.0, 900.5), (655.0, 910.0))
    ice, patch = Area("ice", ((0, 0.5), (1, 0), (1, 2)), friction=0.4), Area("patch", color="#f2cc1a", cost=1)
    assert card.areas == (ice, patch)
    assert card.gates == {"psnr": 25.0}


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
        ("max_keyframes:", "max_keyframe:", "recipe.select has no key 'max_keyframe'", "'max_keyframes'"),
        ("psnr:", "psrn:", "gates has no key 'psrn'", "'psnr'"),
    ],
)
def test_unknown_keys_name_the_nearest(old: str, new: str, where: str, near: str, tmp_path: Path) -> None:
    """At every level: which key, where, and what was probably meant."""
    path = card_file(tmp_path, CARD.replace(old, new))
    with pytest.raises(CardError) as error:
        load_card(path, params_by_stage=STAGES, gates=["psnr", "ssim"])
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
        ("- a\n- b", "the card"),
        ("", "the card"),
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
    """A picture given as a card, or nothing."""
    with pytest.raises(CardError, match="256 KiB"):
        load_card(card_file(tmp_path, "#" * (MAX_CARD_BYTES + 1)))
    with pytest.raises(CardError, match="No such file"):
        load_card(tmp_path / "none.yaml")
    with pytest.raises(CardError, match="readable file"):
        load_card(tmp_path)


def test_recipe_fills_all_stages() -> None:
    """Stages that the recipe leaves out get their defaults."""
    params = apply_recipe(STAGES, {"toy": {"count": 7, "sizes": [3, 4, 5]}})
    assert params == {"toy": ToyParams(count=7, sizes=(3, 4, 5)), "select": SelectParams()}


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        ("count", "60000", 60000),
        ("weight", "1e-3", 0.001),
        ("weight", "2", 2.0),
        ("fast", "true", True),
        ("limit", "null", None),
        ("limit", "0.25", 0.25),
        ("sizes", "[4, 5]", (4, 5)),
        ("backend", "cpu", "cpu"),
        ("title", "2024", "2024"),
    ],
)
def test_text_takes_the_type_of_its_field(parameter: str, text: str, value: object) -> None:
    """As from --set."""
    got = getattr(apply_recipe(STAGES, merge_settings({}, [f"toy.{parameter}={text}"]))["toy"], parameter)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("parameter", "value", "found"),
    [
        ("count", "many", "'many'"),
        ("count", 1.5, "1.5"),
        ("count", True, "True"),
        ("weight", "yes", "'yes'"),
        ("fast", 17, "17"),
        ("backend", "gpu", "'gpu'"),
        ("sizes", [1, "x"], "'x'"),
        ("count", 0, "count must be positive, got 0"),
    ],
)
def test_values_of_the_wrong_type_are_refused(parameter: str, value: object, found: str) -> None:
    """The stage, the parameter and the value are named."""
    with pytest.raises(CardError, match="toy") as error:
        apply_recipe(STAGES, {"toy": {parameter: value}})
    assert found in error.value.found


def test_choices_are_listed() -> None:
    """What a Literal field takes."""
    with pytest.raises(CardError, match=r"'auto' \| 'cpu'"):
        apply_recipe(STAGES, {"toy": {"backend": "gpu"}})


def test_settings_win_over_the_card() -> None:
    """The last --set wins, other parameters of the stage stay, and the card's recipe is not changed."""
    recipe = {"toy": {"count": 2, "weight": 0.1}}
    merged = merge_settings(recipe, ["toy.count=5", "toy.count=6", "select.max_keyframes=9"])
    assert apply_recipe(STAGES, merged)["toy"] == ToyParams(count=6, weight=0.1)
    assert recipe == {"toy": {"count": 2, "weight": 0.1}}


def test_nested_dataclasses_are_taken_from_mappings() -> None:
    """A known length in the recipe of align."""
    length = {"metres": "0.5", "image": "a.jpg", "a": [1, 2], "b": [3, 4]}
    params = apply_recipe({"align": AlignParams}, {"align": {"known_length": length}})
    assert params["align"].known_length == KnownLength(0.5, "a.jpg", (1.0, 2.0), (3.0, 4.0))


@pytest.mark.parametrize("text", ["splat.gaussians", "gaussians=5", "=5", "splat..x=5", ""])
def test_malformed_settings_show_the_form(text: str) -> None:
    """STAGE.PARAMETER=VALUE."""
    with pytest.raises(CardError, match=r"STAGE\.PARAMETER=VALUE"):
        parse_set(text)


def test_settings_keep_everything_after_the_first_equals_sign() -> None:
    """Values may hold dots and equal signs."""
    assert parse_set("splat.gaussians=60000") == ("splat", "gaussians", "60000")
    assert parse_set("a.b=x=1.5") == ("a", "b", "x=1.5")


def test_known_length_text() -> None:
    """Picture names may hold spaces, colons and @."""
    assert parse_known_length("0.30@0001.jpg:412,900:655,910") == KnownLength(
        0.30, "0001.jpg", (412.0, 900.0), (655.0, 910.0)
    )
    odd = parse_known_length("1.25m@my @ photo:2.jpg: 1.5 , 2 : 3,4")
    assert (odd.metres, odd.image, odd.a, odd.b) == (1.25, "my @ photo:2.jpg", (1.5, 2.0), (3.0, 4.0))


@pytest.mark.parametrize(("text", "sheet"), [("A4 sheet", "A4"), (" a3-Paper", "A3"), ("letter sheet", "letter")])
def test_sheets_are_known_lengths(text: str, sheet: str) -> None:
    """By their format, in any case."""
    assert parse_sheet(text) == sheet


@pytest.mark.parametrize("text", ["A7 sheet", "sheet", "A4", "0.30@A4 sheet:1,2:3,4"])
def test_other_texts_are_no_sheets(text: str) -> None:
    """They are read as two pixels, whose error names the formats."""
    assert parse_sheet(text) is None


@pytest.mark.parametrize(
    "text", ["A7 sheet", "0.3", "0.3@a.jpg", "0.3@a.jpg:1,2", "x@a.jpg:1,2:3,4", "-1@a.jpg:1,2:3,4", "0@a.jpg:1,2:3,4",
             "1@a.jpg:1,2:1,2", "1.2.3@a.jpg:1,2:3,4", "1e999@a.jpg:1,2:3,4"],
)  # fmt: skip
def test_malformed_known_lengths_show_the_form(text: str) -> None:
    """With an example."""
    with pytest.raises(CardError, match=r"0\.30@0001\.jpg:412,900:655,910"):
        parse_known_length(text)


@pytest.mark.parametrize("name", ["kitchen", "Große Küche: 2. OG #1", "no", "'", "12"])
def test_written_card_reads_back(name: str, tmp_path: Path) -> None:
    """Filled in from the capture; only what is commented out has to be decided."""
    traits = Traits("rgbd", 200, has_poses=True, has_depth=True, has_gravity=False, ordered=True)
    text = write_card(Path("scans") / name, traits)
    card = load_card(card_file(tmp_path, text), params_by_stage={"capture": CaptureParams}, gates=[])
    assert card.source.path == str(Path("scans") / name)
    assert card.name == name_from(Path(name).stem)
    assert "200 pictures, with poses, with depth, without gravity" in text


def test_written_examples_are_valid(tmp_path: Path) -> None:
    """Uncommented, the card's examples are right."""
    text = write_card(Path("fox"), Traits("photos", 50, False, False, False, False))
    assert "the scale is hinted or assumed" in text
    examples = ("# scale:", "#   known", "# areas:", "#   - ")
    lines = [line.replace("# ", "", 1) if line.startswith(examples) else line for line in text.splitlines()]
    card = load_card(card_file(tmp_path, "\n".join(lines)))
    assert [area.name for area in card.areas] == ["ice", "patch"]
    assert card.scale.known_length is not None
    assert card.scale.known_length.metres == 0.30


def test_names_from_any_text() -> None:
    """ASCII letters stay; the rest becomes dashes; never empty, never too long."""
    assert name_from("Große Küche 2") == "groe-kuche-2"
    assert name_from("日本") == "scene"
    assert name_from("living..room.") == "living.room"
    assert len(name_from("x" * 100)) == 64


def test_the_samples_card_is_right() -> None:
    """The card of `make demo` loads, and its capture is there."""
    from pipeline.check.gates import THRESHOLDS
    from pipeline.stages import PARAMS

    path = ROOT / "scene_cards" / "hall.yaml"
    card = load_card(path, params_by_stage=PARAMS, gates=THRESHOLDS)
    assert card.source.licence == "CC0-1.0"
    assert (path.parent / (card.source.path or "")).is_dir()

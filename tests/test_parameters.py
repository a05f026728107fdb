"""What a card, or a parameter in one, can't do: start a program, load weights, leave its folder, name an address."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from pipeline import BuildRequest, plan
from pipeline.errors import CardError
from pipeline.machine import Machine
from pipeline.parameters import (
    Interpreter,
    Label,
    Means,
    Settings,
    checked,
    layered,
    machine_settings,
    meanings,
    of_this_machine,
    parse_settings,
    variable,
    with_changes,
    zero_or,
)
from pipeline.running.batch import plan_scene
from pipeline.running.card import Card
from pipeline.running.settings import resolve_params
from pipeline.running.stages import PARAMS
from tests.paths import ROOT
from tests.synthetic import Room, walk, write_photos

CLOSED = (int, float, bool, type(None))
"""Types whose values name nothing."""
MACHINE = [(stage, name) for stage, kind in PARAMS.items() for name in of_this_machine(kind)]


def unexplained(hint: Any, where: str, seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """Places in a type where a text may stand of which nobody says what it is for."""
    if any(isinstance(extra, Means) for extra in getattr(hint, "__metadata__", ())):
        return
    if typing.get_origin(hint) is Literal or hint in CLOSED:
        return
    inner = [part for part in typing.get_args(hint) if part is not ... and not hasattr(part, "annotation")]
    if hasattr(hint, "__metadata__"):  # Annotated with something else, such as a range
        inner = [hint.__origin__]
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        if hint not in seen:
            hints = typing.get_type_hints(hint, include_extras=True)
            for name in hint.model_fields:
                yield from unexplained(hints[name], f"{where}.{name}", seen | {hint})
    elif inner:
        for part in inner:
            yield from unexplained(part, where, seen)
    else:
        yield f"{where}: {hint}"


class Careless(Settings):
    """What the walk must find."""

    python: Interpreter = ""
    script: str = ""
    file: Path | None = None
    nested: tuple[dict[str, Any], ...] = ()
    shown: Label = ""


def test_the_walk_finds_what_nobody_explained():
    """A plain text, a path, and what may be anything; not what says what it is for."""
    found = list(unexplained(Careless, "careless"))
    assert [place.partition(":")[0] for place in found] == [
        "careless.script",
        "careless.file",
        "careless.nested",
        "careless.nested",
    ]


@pytest.mark.parametrize("section", [*PARAMS.values(), Card], ids=lambda kind: kind.__name__)
def test_every_text_is_explained(section):
    """Each parameter of each stage and each field of a card is a number, one of some words, or says what it is for."""
    assert list(unexplained(section, section.__name__)) == []


def test_interpreters_and_weights_are_known():
    """The list that the door is kept by; a new one belongs here and in docs/gpu.md."""
    assert MACHINE == [
        ("poses", "weights"),
        ("poses", "python"),
        ("depth", "weights"),
        ("depth", "python"),
        ("mesh", "python"),
        ("splat", "python"),
    ]


def test_docs_name_their_variables():
    """All of them, on the page about backends."""
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert [variable(*one) for one in MACHINE if f"`{variable(*one)}`" not in page] == []


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A program that leaves a mark when it is run."""
    program = tmp_path / "kitchen" / "setup.sh"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'mark'}'\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(("stage", "name"), MACHINE)
def test_a_card_starts_no_program(stage: str, name: str, mark: Path, tmp_path: Path, room: Room) -> None:
    """Neither planned in a batch, as `--dry-run` and the inbox do, nor given to a build; the error says what to do."""
    write_photos(tmp_path / "photos", room, walk(3))
    card = tmp_path / "card.yaml"
    backend = {"mesh": "nksr", "splat": "gsplat"}.get(stage, "vggt")
    card.write_text(f"source: {{path: photos}}\nrecipe: {{{stage}: {{backend: {backend}, {name}: {mark}}}}}\n")
    scene = plan_scene(card, tmp_path / "out")
    assert not (tmp_path / "mark").exists(), "the card's program ran"
    assert scene.state == "failed" and scene.reason is not None
    assert scene.reason.kind == "CardError"
    assert scene.reason.found.startswith(f"recipe.{stage}.{name}: ")
    assert f"--set {stage}.{name}=" in scene.reason.remedy
    assert variable(stage, name) in scene.reason.remedy
    assert scene.reason.file == str(card)
    with pytest.raises(CardError, match=f"recipe.{stage}.{name}"):
        plan(BuildRequest(tmp_path / "photos", card=card))
    parsed = Card(recipe={stage: {name: str(mark)}})
    with pytest.raises(CardError, match=f"recipe.{stage}.{name}"):  # also one that somebody else has read
        plan(BuildRequest(tmp_path / "photos"), parsed)
    assert not (tmp_path / "mark").exists(), "the card's program ran"


def test_a_card_cannot_take_an_interpreter_away():
    """Not even the empty text: a card has no say in it."""
    with pytest.raises(CardError, match=r"recipe\.mesh\.python"):
        resolve_params(Card(recipe={"mesh": {"python": ""}}))


@pytest.mark.parametrize("name", ["version", "licence", "stages"])
def test_what_the_plan_fills_in_is_nobodys_to_give(name: str, tmp_path: Path, room: Room):
    """It would be replaced in silence."""
    write_photos(tmp_path / "photos", room, walk(3))
    with pytest.raises(CardError, match="the plan fills in the parameters of bundle"):
        plan(BuildRequest(tmp_path / "photos", settings=(f"bundle.{name}=[]",), out=tmp_path / "out"))
    with pytest.raises(CardError, match="the plan fills in the parameters of bundle"):
        resolve_params(Card(recipe={"bundle": {name: []}}))


def test_command_line_and_environment_name_them(tmp_path: Path, room: Room, monkeypatch):
    """By variables named after stage and parameter; what is set on the command line wins."""
    write_photos(tmp_path / "photos", room, walk(3))
    monkeypatch.setenv("SPLATYARD_MESH_PYTHON", "env/python")
    monkeypatch.setenv("SPLATYARD_POSES_WEIGHTS", "facebook/VGGT-1B-Commercial")
    monkeypatch.setenv("SPLATYARD_SPLAT_PYTHON", "")
    monkeypatch.setenv("SPLATYARD_MESH_BACKEND", "poisson")  # no parameter of the machine: says nothing
    assert machine_settings(PARAMS) == ["poses.weights=facebook/VGGT-1B-Commercial", "mesh.python=env/python"]
    asked: list[str] = []
    monkeypatch.setattr("pipeline.running.building.this_machine", lambda python="": asked.append(python) or Machine())
    request = BuildRequest(tmp_path / "photos", out=tmp_path / "out", settings=("depth.python=set/python",))
    params = {stage.name: stage.params for stage in plan(request).stages}
    assert (params["poses"].weights, params["mesh"].python) == ("facebook/VGGT-1B-Commercial", "env/python")
    assert (params["depth"].python, params["mesh"].backend) == ("set/python", "tsdf")
    assert {"env/python", "set/python"} < set(asked)
    request = dataclasses.replace(request, settings=("mesh.python=set/python",))
    assert next(stage.params.python for stage in plan(request).stages if stage.name == "mesh") == "set/python"


def test_meanings_are_those_of_the_fields():
    """By field; those without one are left out."""
    assert meanings(Careless) == {"python": "interpreter", "shown": "label"}


class Toy(Settings):
    """Parameters of every type that stages use."""

    backend: Literal["auto", "cpu"] = "auto"
    count: Annotated[int, Field(ge=1)] = 3
    weight: float = 0.5
    fast: bool = False
    limit: float | None = None
    sizes: tuple[int, ...] = (1, 2)
    title: Label = ""
    size: Annotated[int, zero_or(5, 12)] = 0


def toy(*settings: str, **values: Any) -> Toy:
    """What comes of values, as of a file, and of settings."""
    changes = parse_settings(settings, "toy.count=5", CardError)
    return checked(Toy, with_changes({"toy": values}, changes)["toy"], "toy", CardError)


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
        ("size", "0", 0),
    ],
)
def test_text_takes_the_type_of_its_field(parameter: str, text: str, value: object) -> None:
    """As from --set."""
    got = getattr(toy(f"toy.{parameter}={text}"), parameter)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("parameter", "value", "found"),
    [
        ("count", "many", "'many'"),
        ("count", 1.5, "1.5"),
        ("count", True, "True"),
        ("weight", "yes", "'yes'"),
        ("weight", float("inf"), "inf"),
        ("fast", 17, "17"),
        ("backend", "gpu", "'gpu'"),
        ("sizes", [1, "x"], "'x'"),
        ("count", 0, "0"),
        ("size", 4, "4"),
    ],
)
def test_wrong_values_are_refused(parameter: str, value: object, found: str) -> None:
    """The section, the parameter and the value are named."""
    with pytest.raises(CardError, match=rf"toy\.{parameter}") as error:
        toy(**{parameter: value})
    assert found in error.value.found


def test_choices_and_bounds_are_listed() -> None:
    """What a field takes."""
    with pytest.raises(CardError, match=r"toy\.backend must be 'auto' or 'cpu'"):
        toy(backend="gpu")
    with pytest.raises(CardError, match=r"toy\.count must be greater than or equal to 1"):
        toy(count=0)
    with pytest.raises(CardError, match=r"toy\.size must be 5 to 12, or 0 for automatic"):
        toy(size=4)


def test_the_last_setting_wins() -> None:
    """Other values stay, and what was given is not changed."""
    values = {"toy": {"count": 2, "weight": 0.1}}
    merged = with_changes(
        values, parse_settings(["toy.count=5", "toy.count=6", "other.a.b=x=1.5"], "toy.count=5", CardError)
    )
    assert merged == {"toy": {"count": "6", "weight": 0.1}, "other": {"a": {"b": "x=1.5"}}}
    assert values == {"toy": {"count": 2, "weight": 0.1}}


@pytest.mark.parametrize("text", ["toy.count", "=5", "toy..x=5", "toy.=5", ""])
def test_malformed_settings_show_the_form(text: str) -> None:
    """NAME=VALUE."""
    with pytest.raises(CardError, match=r"toy\.count=5"):
        toy(text)


def test_layers_are_merged_key_by_key() -> None:
    """At every level; what is no mapping is replaced."""
    below, above = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}, {"a": {"c": {"f": 3}}, "e": [2]}
    assert layered([below, above]) == {"a": {"b": 1, "c": {"d": 2, "f": 3}}, "e": [2]}


def test_changed_values_are_checked() -> None:
    """As any."""
    assert Toy(count=4).changed(weight=2) == Toy(count=4, weight=2.0)
    with pytest.raises(ValueError, match="count"):
        Toy().changed(count=0)


DEFAULTS = {
    "capture": "420a42fe51e4",
    "select": "baa58c5bc51c",
    "poses": "b7df89668c40",
    "depth": "4605882c281f",
    "align": "8102a68b677b",
    "points": "0ae340d74877",
    "mesh": "771ce193a8ec",
    "splat": "cba670b233cf",
    "coverage": "e76d92123b46",
    "regions": "cf6f7a023845",
    "check": "58cc145a002d",
}


@pytest.mark.parametrize("stage", PARAMS)
def test_default_parameters_keep_their_keys(stage: str) -> None:
    """A stage runs again for everybody when this changes: say so in the changelog."""
    text = json.dumps(PARAMS[stage](), sort_keys=True, default=lambda settings: settings.content())
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == DEFAULTS[stage]

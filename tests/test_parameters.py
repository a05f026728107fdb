"""What a card, or a parameter in one, can't do: start a program, load weights, leave its folder, name an address."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pipeline import BuildRequest, plan
from pipeline.batch import plan_scene
from pipeline.card import Card, apply_recipe
from pipeline.errors import CardError
from pipeline.machine import Machine
from pipeline.parameters import Interpreter, Label, Means, machine_settings, meanings, of_this_machine, variable
from pipeline.stages import PARAMS
from tests.paths import ROOT
from tests.synthetic import Room, walk, write_photos

CLOSED = (int, float, bool, type(None))
"""Types whose values name nothing."""
MACHINE = [(stage, name) for stage, kind in PARAMS.items() for name in of_this_machine(kind)]


def fields_of(section: type) -> list[str]:
    """Names of a dataclass's or a model's fields."""
    if issubclass(section, BaseModel):
        return list(section.model_fields)
    return [field.name for field in dataclasses.fields(section)]


def unexplained(hint: Any, where: str, seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """Places in a type where a text may stand of which nobody says what it is for."""
    if any(isinstance(extra, Means) for extra in getattr(hint, "__metadata__", ())):
        return
    if typing.get_origin(hint) is Literal or hint in CLOSED:
        return
    inner = [part for part in typing.get_args(hint) if part is not ... and not hasattr(part, "annotation")]
    if hasattr(hint, "__metadata__"):  # Annotated with something else, such as a range
        inner = [hint.__origin__]
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, BaseModel)):
        if hint not in seen:
            hints = typing.get_type_hints(hint, include_extras=True)
            for name in fields_of(hint):
                yield from unexplained(hints[name], f"{where}.{name}", seen | {hint})
    elif inner:
        for part in inner:
            yield from unexplained(part, where, seen)
    else:
        yield f"{where}: {hint}"


@dataclass(frozen=True)
class Careless:
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
        apply_recipe(PARAMS, {"mesh": {"python": ""}})


@pytest.mark.parametrize("name", ["version", "licence", "stages"])
def test_what_the_plan_fills_in_is_nobodys_to_give(name: str, tmp_path: Path, room: Room):
    """It would be replaced in silence."""
    write_photos(tmp_path / "photos", room, walk(3))
    with pytest.raises(CardError, match=rf"bundle\.{name}"):
        plan(BuildRequest(tmp_path / "photos", settings=(f"bundle.{name}=[]",), out=tmp_path / "out"))


def test_command_line_and_environment_name_them(tmp_path: Path, room: Room, monkeypatch):
    """By variables named after stage and parameter; what is set on the command line wins."""
    write_photos(tmp_path / "photos", room, walk(3))
    monkeypatch.setenv("SPLATYARD_MESH_PYTHON", "env/python")
    monkeypatch.setenv("SPLATYARD_POSES_WEIGHTS", "facebook/VGGT-1B-Commercial")
    monkeypatch.setenv("SPLATYARD_SPLAT_PYTHON", "")
    monkeypatch.setenv("SPLATYARD_MESH_BACKEND", "poisson")  # no parameter of the machine: says nothing
    assert machine_settings(PARAMS) == ["poses.weights=facebook/VGGT-1B-Commercial", "mesh.python=env/python"]
    asked: list[str] = []
    monkeypatch.setattr("pipeline.building.this_machine", lambda python="": asked.append(python) or Machine())
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

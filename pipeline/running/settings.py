"""The parameters of all stages: by default, by the card, by the machine's environment and by the user's settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.check.gates import THRESHOLDS
from pipeline.check.params import CheckParams
from pipeline.errors import CardError
from pipeline.parameters import (
    Settings,
    checked,
    layered,
    machine_settings,
    of_this_machine,
    parse_settings,
    require_known,
    variable,
    with_changes,
)
from pipeline.running.card import Card, load_card
from pipeline.running.stages import PARAMS, STAGES


def read_card(file: Path) -> Card:
    """A card whose recipe and gates are those of our stages; errors as of `load_card` and `resolve_params`."""
    card = load_card(file)
    resolve_params(card, file=file)
    return card


def resolve_params(card: Card, settings: Iterable[str] = (), file: Path | None = None) -> dict[str, Settings]:
    """All stages' parameters: default < card < environment (programs and weights) < settings, the last of which wins.

    In a card the recipe wins over the sections `scale`, `areas`, `gates` and `source.origin`. Settings are
    "stage.parameter=value"; options of the command line such as --tag-size stand before those of --set.

    Raises:
        CardError: On an unknown stage, parameter or gate, a value that its parameter does not take, or one in the
            recipe that only the machine's user may give.
    """
    for stage, recipe in card.recipe.items():
        _require_stage(stage, "recipe", file)
        for name in set(recipe) & set(of_this_machine(PARAMS[stage])):
            raise CardError(
                "a card names no program and no weights: those are the machine's",
                found=f"recipe.{stage}.{name}: {recipe[name]!r:.80}",
                remedy=f"take it out; if it is yours, give --set {stage}.{name}=... to `splatyard build`, "
                f"or set the environment variable {variable(stage, name)}",
                file=file,
            )
    changes = parse_settings([*machine_settings(PARAMS), *settings], "splat.gaussians=60000", CardError)
    given = with_changes(layered([card.sections(), card.recipe]), changes)
    for stage in given:
        _require_stage(stage, "--set", None)
    params = {stage: checked(kind, given.get(stage, {}), stage, CardError, file) for stage, kind in PARAMS.items()}
    check = params["check"]
    assert isinstance(check, CheckParams)
    for gate in check.thresholds:
        require_known(gate, THRESHOLDS, "gates", CardError, file)
    return params


def _require_stage(name: str, where: str, file: Path | None) -> None:
    if name in {stage.name for stage in STAGES} - PARAMS.keys():
        raise CardError(
            f"the plan fills in the parameters of {name}",
            found=f"{where}.{name}",
            remedy="leave it out; the card has source, licence and description, --name and --version name the bundle",
            file=file,
        )
    require_known(name, PARAMS, where, CardError, file)

"""What a build is for: the capture, and the backends and weights of its stages, must have licences that allow it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pipeline.errors import CardError
from pipeline.gpu_backends.catalog import BACKENDS, OURS, Licence, licence_of
from pipeline.machine import Machine
from pipeline.parameters import Settings
from pipeline.scenes.licences import UNSAID, may_be_sold, plain_licence
from pipeline.stage import Choice, Stage, Traits

LicenceProfile = Literal["commercial"]
LIBRARIES = {"numba": "BSD-2-Clause", "pycolmap": "BSD-3-Clause", "open3d-cpu": "MIT", "open3d": "MIT"}
"""Licences of what stages without a GPU depend on."""
OWN = "proprietary"
"""What a card says of its owner's own capture."""
WITHOUT = "build without the profile"


def stage_licence(stage: Stage, backend: str, params: Settings) -> Licence:
    """The licence of a GPU backend and its weights; else of our code and the library that it needs."""
    if backend in BACKENDS:
        return licence_of(backend, getattr(params, "weights", ""))
    return Licence(" AND ".join([OURS.text, *(LIBRARIES[name] for name in stage.libraries.get(backend, ())[:1])]))


def check_capture(text: str, card: Path | None) -> None:
    """A CardError unless the capture's licence, an SPDX id or a sentence, is known to allow commercial use."""
    licence = plain_licence(text)
    if may_be_sold(text) or licence == OWN:
        return
    where = "the card" if card else "a card (`splatyard scene card CAPTURE` makes one), and build with --card"
    remedy = (
        f"if it allows that, write source.licence into {where}: an id such as CC-BY-4.0, CC0-1.0 or MIT, or {OWN!r} "
    )
    remedy += "for your own"
    if licence in UNSAID:
        found = "nobody says under which licence the capture is"
    elif "-nc" in licence or "non-commercial" in licence:
        found = f"licence {text.strip()!r:.120}, which forbids it"
        remedy = "ask whose capture it is for another licence, such as CC-BY-4.0, and write that into the card"
    else:
        found = f"licence {text.strip()!r:.120}, which isn't known to allow it"
    raise CardError(
        "with the licence profile commercial a capture's licence allows commercial use",
        found=found,
        remedy=f"{remedy}; or {WITHOUT}",
        file=card,
    )


def licensed_choice(stage: Stage, traits: Traits, params: Settings, machine: Machine) -> Choice:
    """A stage's choice among the backends that allow commercial use with the weights that are set.

    Raises:
        CardError: When another was asked for.
    """
    weights = getattr(params, "weights", "")
    licences = {name: licence_of(name, weights) for name in BACKENDS}
    barred = {
        name: f"{name} is not known to allow commercial use ({licence.text})"
        for name, licence in licences.items()
        if not licence.commercial
    }
    choice = stage.choose(traits, params, replace(machine, barred=barred))
    if choice.backend not in barred:
        return choice
    backend = BACKENDS[choice.backend]
    allowed = [one.repository for one in backend.weights if one.licence.commercial and backend.licence.commercial]
    ways = [f"--set {stage.name}.weights={name}" for name in allowed] + [f"--set {stage.name}.backend=auto"]
    raise CardError(
        "with the licence profile commercial only what allows commercial use runs",
        found=f"{stage.name}.backend={choice.backend}: {barred[choice.backend]}",
        remedy=f"{' or '.join(ways)}; or {WITHOUT}",
    )

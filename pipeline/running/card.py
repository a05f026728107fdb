"""Scene cards: one YAML file per scene with its source, licence, recipe, scale and gates."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from pipeline.align.params import ScaleSources
from pipeline.bundle.params import Movables, OnEarth
from pipeline.capture.params import KEYFRAMES
from pipeline.errors import CardError
from pipeline.joining.params import SameSpot
from pipeline.parameters import Inside, Known, Label, Means, Settings, checked, read_yaml
from pipeline.regions.params import Area
from pipeline.running.licences import LicenceProfile
from pipeline.scenes.manifest import MAX_NAME, NAME
from pipeline.stage import Traits

MOST_SOURCES = 100
"""Captures that a card may name."""


class CardSource(Settings):
    """Where the capture lies and whose it is."""

    path: Inside | None = None
    """Folder or zip, relative to the card."""
    url: Label | None = None
    """Where it was published."""
    author: Label | None = None
    """Who captured it."""
    licence: Label | None = None
    """Terms of use, as an SPDX id or a sentence."""
    origin: Literal["filmed", "rendered", "generated"] | None = None
    """Whether a camera, a renderer or a video model made it."""


class Card(Settings):
    """A scene's card; everything has a default."""

    name: Annotated[Label, Field(pattern=f"^{NAME}$", max_length=MAX_NAME)] | None = None
    """Name of the scene and its bundles: lower-case letters, digits, dot, dash, underscore."""
    source: CardSource = CardSource()
    sources: Annotated[tuple[Inside, ...], Field(max_length=MOST_SOURCES)] = ()
    """In place of source.path: several captures of the place, each a folder or zip, relative to the card."""
    description: Label = ""
    """One line about the scene."""
    links: Annotated[tuple[SameSpot, ...], Field(max_length=100)] = ()
    """Of several captures, pairs of frames that see the same spot: they decide between readings."""
    recipe: Annotated[dict[str, dict[str, Any]], Means("known")] = Field(default_factory=dict)
    """Stage parameters that differ from their defaults."""
    scale: ScaleSources = ScaleSources()
    """What gives the scale; see the align stage."""
    areas: tuple[Area, ...] = ()
    """Parts of the floor with a friction and a cost of their own."""
    gates: dict[Known, float] = Field(default_factory=dict)
    """Thresholds that differ from the gates' defaults."""
    earth: OnEarth | None = None
    """Where one image was taken on the Earth, and which way its camera looked."""
    licence_profile: LicenceProfile | None = None
    """What the bundle is for: only what allows that is used."""
    movables: Movables = ()
    """Objects that the bundle has as bodies of their own."""

    def sections(self) -> dict[str, dict[str, Any]]:
        """The stage parameters that the card gives outside its recipe, by stage."""
        values = {
            "align": self.scale.model_dump(exclude_none=True),
            "regions": {"areas": self.areas} if self.areas else {},
            "check": {"thresholds": self.gates} if self.gates else {},
            "capture": {"origin": self.source.origin} if self.source.origin else {},
        }
        return {stage: given for stage, given in values.items() if given}


def load_card(path: Path) -> Card:
    """Read a card; `pipeline.running.settings.read_card` also checks its recipe and gates.

    Raises:
        CardError: When it can't be read or something in it is wrong; names the key and the nearest right one.
    """
    return checked(Card, read_yaml(path, "a card", CardError), "card", CardError, path)


def name_from(text: str) -> str:
    """A scene name from any text: ASCII, lower-case, with dashes for what names don't have."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", plain))[:MAX_NAME].strip("-._") or "scene"


def write_card(path: Path, probe: Traits) -> str:
    """A filled-in, commented card for the capture at a path, as YAML text."""
    name = name_from(path.resolve().stem)
    quoted = yaml.safe_dump(str(path), allow_unicode=True, width=10_000).splitlines()[0]
    has = ", ".join(
        f"{'with' if present else 'without'} {what}"
        for what, present in (("poses", probe.has_poses), ("depth", probe.has_depth), ("gravity", probe.has_gravity))
    )
    lines = [
        f"# Scene card: a {probe.kind} capture of {probe.frames} images, {has}.",
        f"name: {yaml.safe_dump(name).splitlines()[0]}  # of the bundle: a-z 0-9 . - _",
        "source:",
        f"  path: {quoted}  # folder or zip, relative to this card",
        "  # url: https://...  # where it was published",
        "  # author: ...",
        "  licence: unknown  # who may use the images and for what, such as CC-BY-4.0",
        'description: ""  # what the place is',
        "",
        "# Several captures of one place, in place of source.path, and frames of theirs that see the same spot.",
        "# sources: [ground_floor.zip, stairs.zip]",
        "# links:",
        "#   - {a: ground_floor--0107, b: stairs--0012}",
        "",
        "# Stage parameters that differ from their defaults, as {stage: {parameter: value}}.",
        "recipe: {}",
        "#  select:",
        f"#    max_keyframes: {min(KEYFRAMES, max(3, probe.frames))}",
        "",
    ]
    lines += [
        "# The capture's poses are metric. To overrule them with something measured:"
        if probe.has_poses
        else "# Photos have no scale: without one of these the scale is hinted or assumed, and its gate fails.",
        "# scale:",
        "#   known_length: {metres: 0.30, image: 0001.jpg, a: [412, 900], b: [655, 910]}  # ends in pixels (u, v)",
        "#   sheet: A4  # sheets of paper of this format lie in the images",
        "#   camera_height: 1.45  # median height of the camera over the floor [m]",
        "#   tag_size: 0.16  # side of the black square of printed AprilTag or ArUco tags [m]",
        "",
        "# Parts of the floor with a friction factor and a cost (for tasks that avoid it), by polygon or by colour.",
        "# areas:",
        "#   - {name: ice, polygon: [[0.5, 1.0], [1.5, 1.0], [1.5, 2.2]], friction: 0.1}  # (x, y) [m, world]",
        '#   - {name: patch, color: "#f2cc1a", cost: 1.0}',
        "",
        "# Thresholds of gates that differ from their defaults, as {gate: threshold}.",
        "gates: {}",
        "",
        "# Where one image was taken (WGS 84), and which way its camera looked, from north clockwise.",
        "# earth: {image: IMG_0001.jpg, latitude_deg: 47.3769, longitude_deg: 8.5417, heading_deg: 120}",
        "",
        "# Objects that are bodies of their own, which robots can push: by name, by a point (x, y, z) on them, or all.",
        "# movables: [all]",
    ]
    return "\n".join(lines) + "\n"

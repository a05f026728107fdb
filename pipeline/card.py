"""Scene cards: one YAML a scene with its source, licence, recipe, scale and gates."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import re
import typing
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from pipeline.align.params import SHEETS, KnownLength, SheetFormat
from pipeline.bundle.manifest import MAX_NAME, NAME
from pipeline.errors import CardError
from pipeline.parameters import Inside, Known, Label, Means, meanings, variable
from pipeline.regions.params import Area
from pipeline.stage import Traits

MAX_CARD_BYTES = 256 * 1024
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's error types
KNOWN_LENGTH_FORM = (
    "METRES@PICTURE:U,V:U,V, such as 0.30@0001.jpg:412,900:655,910, "
    f"or a sheet of paper in the pictures: {', '.join(f'{name} sheet' for name in SHEETS)}"
)

Recipe = Mapping[str, Mapping[str, Any]]
Metres = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CardSource(_Section):
    """Where the capture lies and whose it is."""

    path: Inside | None = None
    """Folder or zip, relative to the card."""
    url: Label | None = None
    """Where it was published."""
    author: Label | None = None
    """Who captured it."""
    licence: Label | None = None
    """Terms of use, as an SPDX id or a sentence."""
    origin: Literal["filmed", "generated"] | None = None
    """Whether a camera or a video model made it."""


class CardScale(_Section):
    """What tells a capture's size; several are compared, and the surest is taken."""

    known_length: KnownLength | None = None
    """A length measured at the place and visible in one picture."""
    sheet: SheetFormat | None = None
    """Format of sheets of paper that the pictures show: A3, A4, A5 or letter."""
    camera_height: Metres | None = None
    """Median height of the camera over the floor [m]."""
    camera_height_sigma: Metres | None = None
    """How sure of it [m]; a tenth of it without."""
    tag_size: Metres | None = None
    """Side of the black square of printed AprilTag or ArUco tags [m]."""

    @model_validator(mode="after")
    def _finite_length(self) -> CardScale:
        if self.known_length is not None:
            _finite(self.known_length)
        return self


class Card(_Section):
    """A scene's card; everything has a default."""

    name: Annotated[Label, Field(pattern=f"^{NAME}$", max_length=MAX_NAME)] | None = None
    """Of the scene and its bundles: lower-case letters, digits, dot, dash, underscore."""
    source: CardSource = CardSource()
    description: Label = ""
    """What the place is."""
    recipe: Annotated[dict[str, dict[str, Any]], Means("known")] = {}
    """Stage parameters that differ from their defaults."""
    scale: CardScale = CardScale()
    areas: tuple[Area, ...] = ()
    """Parts of the floor with a friction and a cost of their own."""
    gates: dict[Known, Annotated[float, Field(allow_inf_nan=False)]] = {}
    """Thresholds that differ from the gates' defaults."""


def load_card(
    path: Path, *, params_by_stage: Mapping[str, type] | None = None, gates: Collection[str] | None = None
) -> Card:
    """Read a card.

    Args:
        path: The YAML file.
        params_by_stage: Parameter classes; when given, the recipe is checked against them.
        gates: Names of the gates; when given, the card's are checked against them.

    Raises:
        CardError: When it can't be read or something in it is wrong; names the key and the nearest right one.
    """
    content = _read_yaml(path)
    try:
        card = Card.model_validate(content)
    except ValidationError as error:
        raise _card_error(error, path) from error
    if params_by_stage is not None:
        apply_recipe(params_by_stage, card.recipe, file=path)
    if gates is not None:
        for gate in card.gates:
            _require_known(gate, gates, "gates", path)
    return card


def apply_recipe(
    params_by_stage: Mapping[str, type], recipe: Recipe, settings: Iterable[str] = (), *, file: Path | None = None
) -> dict[str, Any]:
    """Instances of all parameter classes, with the recipe's values in place of the defaults.

    Args:
        params_by_stage: Frozen dataclasses whose fields all have defaults, by stage.
        recipe: A card's {stage: {parameter: value}}; text is converted to the field's type.
        settings: "stage.parameter=value" texts of the machine's user, which win over the recipe.
        file: The card, for messages.

    Raises:
        CardError: On an unknown stage or parameter, a value that its field does not take, or one in the recipe that
            only the machine's user may give.
    """
    for stage, kind in params_by_stage.items():
        _refuse_what_is_the_machines(stage, kind, recipe.get(stage) or {}, file)
    merged = merge_settings(recipe, settings)
    for stage in merged:
        _require_known(stage, params_by_stage, "recipe", file)
    return {stage: _build_params(stage, kind, merged.get(stage) or {}, file) for stage, kind in params_by_stage.items()}


def parse_set(text: str) -> tuple[str, str, str]:
    """(stage, parameter, value as text) of "splat.gaussians=60000".

    Raises:
        CardError: When it has another form.
    """
    match = re.fullmatch(r"([a-z_]+)\.([A-Za-z_]\w*)=(.*)", text.strip(), re.DOTALL)
    if not match:
        raise CardError(
            "--set takes STAGE.PARAMETER=VALUE", found=repr(text), remedy="for example --set splat.gaussians=60000"
        )
    return match[1], match[2], match[3]


def merge_settings(recipe: Recipe, settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The recipe with "stage.parameter=value" texts on top, the last one winning.

    Raises:
        CardError: When a text has another form.
    """
    merged = {stage: dict(values) for stage, values in recipe.items()}
    for stage, parameter, value in map(parse_set, settings):
        merged.setdefault(stage, {})[parameter] = value
    return merged


def parse_known_length(text: str) -> KnownLength:
    """A known length of "0.30@0001.jpg:412,900:655,910".

    Raises:
        CardError: When it has another form or impossible numbers.
    """
    number = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
    pixel = rf"\s*({number})\s*,\s*({number})\s*"
    match = re.fullmatch(rf"({number})\s*m?\s*@(.+):{pixel}:{pixel}", text.strip())
    if not match:
        raise CardError(f"a known length is {KNOWN_LENGTH_FORM}", found=repr(text), remedy="write it in that form")
    metres, image, *pixels = match.groups()
    try:
        u1, v1, u2, v2 = map(float, pixels)
        return _finite(KnownLength(float(metres), image, (u1, v1), (u2, v2)))
    except ValueError as error:
        found = f"{text!r} ({error})"
        raise CardError(f"a known length is {KNOWN_LENGTH_FORM}", found=found, remedy="correct the numbers") from error


def parse_sheet(text: str) -> SheetFormat | None:
    """The format of "A4 sheet" or "letter paper", of those in SHEETS; None where the text says something else."""
    match = re.fullmatch(r"(\w+)[ -](sheet|paper)", text.strip(), re.IGNORECASE)
    return next((name for name in SHEETS if match and match[1].lower() == name.lower()), None)


def name_from(text: str) -> str:
    """A scene name from any text: ASCII, lower-case, with dashes for what names don't have."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", plain))[:MAX_NAME].strip("-._") or "scene"


def write_card(path: Path, probe: Traits) -> str:
    """A filled-in, commented card for the capture at `path`, as YAML text.

    Args:
        path: The capture, as it shall stand in the card.
        probe: What was found in it.
    """
    name = name_from(path.resolve().stem)
    quoted = yaml.safe_dump(str(path), allow_unicode=True, width=10_000).splitlines()[0]
    has = ", ".join(
        f"{'with' if present else 'without'} {what}"
        for what, present in (("poses", probe.has_poses), ("depth", probe.has_depth), ("gravity", probe.has_gravity))
    )
    lines = [
        f"# Scene card: a {probe.kind} capture of {probe.frames} pictures, {has}.",
        f"name: {yaml.safe_dump(name).splitlines()[0]}  # of the bundle: a-z 0-9 . - _",
        "source:",
        f"  path: {quoted}  # folder or zip, relative to this card",
        "  # url: https://...  # where it was published",
        "  # author: ...",
        "  licence: unknown  # who may use the pictures and for what, such as CC-BY-4.0",
        'description: ""  # what the place is',
        "",
        "# Stage parameters that differ from their defaults, as {stage: {parameter: value}}.",
        "recipe: {}",
        "#  select:",
        f"#    max_keyframes: {min(240, max(3, probe.frames))}",
        "",
    ]
    if probe.has_poses:
        lines += ["# The capture's poses are metric. To overrule them with something measured:"]
    else:
        lines += ["# Photos have no scale: without one of these the scale is hinted or assumed, and its gate fails."]
    lines += [
        "# scale:",
        "#   known_length: {metres: 0.30, image: 0001.jpg, a: [412, 900], b: [655, 910]}  # ends in pixels (u, v)",
        "#   sheet: A4  # sheets of paper of this format lie in the pictures",
        "#   camera_height: 1.45  # median height of the camera over the floor [m]",
        "#   tag_size: 0.16  # side of the black square of printed AprilTag or ArUco tags [m]",
        "",
        "# Parts of the floor with a friction (a factor) and a cost (for tasks that avoid it), by place or by colour.",
        "# areas:",
        "#   - {name: ice, polygon: [[0.5, 1.0], [1.5, 1.0], [1.5, 2.2]], friction: 0.1}  # (x, y) [m, world]",
        '#   - {name: patch, color: "#f2cc1a", cost: 1.0}',
        "",
        "# Thresholds of gates that differ from their defaults, as {gate: threshold}.",
        "gates: {}",
    ]
    return "\n".join(lines) + "\n"


class _CardLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also refuses aliases (a small file can stand for a huge one) and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        found = error.strerror or str(error)
        raise CardError("a card must be a readable file", found=found, remedy="check the path", file=path) from error
    if len(data) > MAX_CARD_BYTES:
        limit = f"a card has at most {MAX_CARD_BYTES >> 10} KiB"
        raise CardError(limit, found="more", remedy="name a card, not a capture", file=path)
    try:
        return yaml.load(data, _CardLoader)  # a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        found = " ".join(str(error).split())[:300]
        raise CardError("a card must be valid YAML", found=found, remedy="correct that line", file=path) from error


def _refuse_what_is_the_machines(stage: str, kind: type, values: Mapping[str, Any], file: Path | None) -> None:
    """Cards come from anywhere: what they name is neither run nor loaded."""
    means = meanings(kind) if values else {}
    for name, value in values.items():
        if means.get(name) in ("interpreter", "weights"):
            raise CardError(
                "a card names no program and no weights: those are the machine's",
                found=f"recipe.{stage}.{name}: {value!r:.80}",
                remedy=f"take it out; if it is yours, give --set {stage}.{name}=... to `splatyard build`, "
                f"or set the environment variable {variable(stage, name)}",
                file=file,
            )


def _build_params(stage: str, kind: type, values: Any, file: Path | None) -> Any:
    if not isinstance(values, Mapping):
        rule = f"recipe.{stage} must map parameters to values"
        raise CardError(rule, found=repr(values)[:80], remedy=f"write {stage}: {{parameter: value}}", file=file)
    hints = typing.get_type_hints(kind, include_extras=True) if values else {}  # slow, and rarely needed
    means = meanings(kind) if values else {}
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    converted = {}
    for name, value in values.items():
        _require_known(name, fields, f"recipe.{stage}", file)
        if means.get(name) == "planned":
            raise CardError(
                f"{stage}.{name} is nobody's to give: the plan fills it in",
                found=f"{stage}.{name}={value!r:.80}",
                remedy="leave it out; name, source, licence and description stand in the card",
                file=file,
            )
        converted[name] = _converted(value, hints[name], f"{stage}.{name}", file)
    try:
        return kind(**converted)
    except ValueError as error:
        rule = f"the parameters of {stage} must be possible"
        raise CardError(rule, found=str(error), remedy="change that value", file=file) from error


def _converted(value: Any, hint: Any, name: str, file: Path | None) -> Any:
    """The value in the field's type; text is tried as it is, then as YAML ("[1, 2]", "null")."""
    candidates = [value]
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            candidates.append(yaml.safe_load(value))
    adapter, problem = TypeAdapter(hint), ""
    for candidate in candidates:
        try:
            result = adapter.validate_python(candidate)
        except ValidationError as error:
            problem = problem or "; ".join(_text_of(item) for item in error.errors())
            continue
        if isinstance(candidate, bool) and not isinstance(result, bool):
            problem = f"{candidate} is no number"
            continue
        return result
    raise CardError(
        f"{name} must be of type {_type_name(hint)}", found=f"{value!r} ({problem})", remedy="correct it", file=file
    )


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is Annotated:
        return _type_name(hint.__origin__)
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _require_known(key: Any, known: Collection[str], where: str, file: Path | None) -> None:
    if key in known:
        return
    near = difflib.get_close_matches(str(key), list(known), 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise CardError(
        f"{where} has no key {key!r}", found=f"{where}.{key}", remedy=f"{hint}known: {', '.join(known)}", file=file
    )


def _card_error(error: ValidationError, path: Path) -> CardError:
    """The first problem, unknown keys before all others: a misspelt key is also reported as missing."""
    problems = sorted(error.errors(), key=lambda item: item["type"] not in UNKNOWN_KEY)
    first = problems[0]
    if first["type"] in UNKNOWN_KEY:
        *outer, key = first["loc"]
        where = ".".join(["card", *map(str, outer)])
        try:
            _require_known(key, _keys_at(outer), where, path)
        except CardError as unknown:
            return unknown
    key = ".".join(map(str, first["loc"])) or "the card"
    found = _text_of(first) if first["type"] == "missing" else f"{first['input']!r:.80} ({_text_of(first)})"
    return CardError(f"{key} must be as `splatyard card` writes it", found=found, remedy=f"correct {key}", file=path)


def _keys_at(location: Iterable[int | str]) -> list[str]:
    """The keys of the card's section at a location such as ("scale", "known_length")."""
    section: type = Card
    for part in location:
        if isinstance(part, int):  # of a list, whose elements are all alike
            continue
        hint = typing.get_type_hints(section)[str(part)]
        kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
        section = next(kind for kind in kinds if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))
    if issubclass(section, BaseModel):
        return list(section.model_fields)
    return [field.name for field in dataclasses.fields(section)]


def _finite(known: KnownLength) -> KnownLength:
    numbers = (known.metres, *known.a, *known.b)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"the numbers of a known length must be finite, got {numbers}")
    return known


def _text_of(problem: Any) -> str:
    location = ".".join(map(str, problem["loc"]))
    return f"{location}: {problem['msg']}" if location else str(problem["msg"])

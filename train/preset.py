"""How a policy is trained: task, robot, network, algorithm; one YAML a preset, typed and checked."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import TrainError
from sim.tasks.catalog import TASKS

FOLDER = Path(__file__).parent / "presets"
MAX_BYTES = 64 * 1024
_short = reprlib.Repr()
_short.maxlevel = 2

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VoxelSettings(_Section):
    """The head that tells what is round the robot, a second lesson for what the policy remembers."""

    weight: Positive = 0.5
    """Of its loss."""
    epochs: Count = 1
    """Passes over each iteration's pictures."""


class PolicySettings(_Section):
    """The actor; the critic is a plain network that sees everything."""

    encoder: str = "cnn"
    """Of what it sees, a name of `train.models.encoders`; none for a blind one."""
    sees: Literal["rgb", "depth"] = "rgb"
    """What its camera gives."""
    memory: Literal["none", "gru", "lstm"] = "gru"
    memory_size: Count = 64
    hidden: tuple[Count, ...] = (128,)
    """Neurons of the layers behind the memory."""
    critic: tuple[Count, ...] = (128, 128)
    """Neurons of the critic's layers."""
    first_std: Positive = 1.0
    """Standard deviation of the actions at the beginning."""
    voxels: VoxelSettings | None = None


class PPOSettings(_Section):
    """Proximal policy optimisation, see Schulman et al., 2017."""

    epochs: Count = 3
    batches: Count = 4
    """Mini-batches of an iteration; of whole environments where the policy has a memory."""
    clip: Positive = 0.2
    discount: Share = 0.98
    trace: Share = 0.95
    """Lambda of the generalised advantage estimate."""
    entropy: Annotated[float, Field(ge=0)] = 0.005
    rate: Positive = 1e-3
    """Learning rate at the beginning, and at most; the divergence adapts it."""
    divergence: Positive = 0.015
    """Kullback-Leibler divergence of an update that is aimed at."""
    gradient: Positive = 1.0
    """Largest norm of a gradient."""
    mirror: bool = False
    """Learn from mirrored pictures and actions too."""


class CameraFlaws(_Section):
    """Drawn anew in each episode of training, so that a policy doesn't lean on one camera; none in evaluation."""

    gain: Range = (0.85, 1.15)
    white_balance: Range = (0.95, 1.05)
    mount_shift: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Largest shift of the camera along each axis [m]."""
    mount_turn: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Largest turn of the camera about each axis [rad]."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0


class Preset(_Section):
    """All that a run depends on besides its scenes and its seed."""

    task: str
    robot: str = "rover"
    engine: str = "sapien"
    environments: Count = 128
    steps: Count = 16
    """Of each environment in an iteration."""
    iterations: Count = 60
    checkpoint_every: Count = 20
    """Iterations."""
    scene_sampling: Literal["even", "progress"] = "even"
    """How often scenes are trained in: alike, or by how much is learned in them."""
    camera: CameraFlaws = CameraFlaws()
    policy: PolicySettings = PolicySettings()
    ppo: PPOSettings = PPOSettings()

    @model_validator(mode="after")
    def _fills_batches(self) -> Preset:
        """A mini-batch without an environment has a loss that is no number."""
        unit = self.environments * (1 if self.policy.memory != "none" else self.steps)
        if unit < self.ppo.batches:
            raise ValueError(
                f"ppo.batches must be at most {unit}: with a memory as many as there are environments, else as steps"
            )
        return self


def preset_names() -> list[str]:
    """Of those that come with splatyard."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_preset(name: str, changes: dict[str, Any] | None = None) -> Preset:
    """A preset by its name, by the path of a YAML file, or of a task, which then is trained with what is usual.

    Args:
        name: Which.
        changes: Values by dotted name, such as {"ppo.rate": 3e-4}, that replace the preset's.

    Raises:
        TrainError: When there is none, or a value is wrong.
    """
    path = FOLDER / f"{name}.yaml" if name in preset_names() else Path(name)
    if path.is_file():
        values = _read(path)
    elif name in TASKS:
        values = {"task": name}
    else:
        known = sorted({*preset_names(), *TASKS})
        near = difflib.get_close_matches(name, known, 3, 0.4) or known
        raise TrainError(
            "a preset is a task, one of those that are known, or a YAML file",
            found=repr(name),
            remedy=f"did you mean {', '.join(near)}?",
        )
    return _changed(values, changes or {}, path)


def change_preset(preset: Preset, changes: dict[str, Any], file: Path | str) -> Preset:
    """A preset with other values by dotted name.

    Raises:
        TrainError: When a value is wrong.
    """
    return _changed(preset.model_dump(), changes, file)


def parse_preset(values: dict[str, Any], file: Path | str) -> Preset:
    """A preset of plain values, as they lie in a preset's file or a run's record.

    Raises:
        TrainError: When a key is unknown or a value is wrong.
    """
    try:
        return Preset.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        wrong = f"{key}: {first['msg']} (got {_short.repr(first['input'])})" if key else first["msg"]
        raise TrainError(
            "every value of a preset has a name and a range",
            found=f"no {key} is known" if unknown else wrong,
            remedy=_advice(first["loc"]) if unknown else "change that value",
            file=file,
        ) from error


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Values by dotted name of "ppo.rate=3e-4", as a command line has them.

    Raises:
        TrainError: When one has no equals sign or no YAML behind it.
    """
    changes = {}
    for text in texts:
        key, sign, value = text.partition("=")
        try:
            if not sign or not key:
                raise ValueError(text)
            changes[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise TrainError(
                "--set takes a value's dotted name and the value",
                found=repr(text),
                remedy="such as --set ppo.rate=3e-4",
            ) from error
    return changes


def flat_values(preset: Preset) -> dict[str, Any]:
    """All values by dotted name."""
    flat, waiting = {}, [("", preset.model_dump(mode="json"))]
    while waiting:
        prefix, values = waiting.pop()
        for name, value in values.items():
            if isinstance(value, dict):
                waiting.append((f"{prefix}{name}.", value))
            else:
                flat[prefix + name] = value
    return flat


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            found = f"{path.stat().st_size} bytes"
            raise TrainError(f"a preset has {MAX_BYTES} bytes at most", found=found, remedy="shorten it", file=path)
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        found = " ".join(str(error).split())[:300]
        raise TrainError("a preset is a readable YAML file", found=found, remedy="mend it", file=path) from error
    if not isinstance(values, dict):
        raise TrainError("a preset has keys and values", found=type(values).__name__, remedy="mend it", file=path)
    return values


def _changed(values: dict[str, Any], changes: dict[str, Any], file: Path | str) -> Preset:
    for key, value in changes.items():
        _put(values, key, value)
    return parse_preset(values, file)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = values.get(section)
        values[section] = inner if isinstance(inner, dict) else {}
        values = values[section]
    values[last] = value


def _advice(place: tuple[int | str, ...]) -> str:
    """The names there are where the last part of a place is none, the nearest first of all."""
    fields = Preset.model_fields
    for part in place[:-1]:
        fields = next((kind.model_fields for kind in _models(fields, part)), fields)
    near = difflib.get_close_matches(str(place[-1]), fields, 3, 0.4)
    return f"did you mean {', '.join(near)}?" if near else f"known here: {', '.join(fields)}"


def _models(fields: dict[str, Any], name: int | str) -> list[type[BaseModel]]:
    if name not in fields:
        return []
    kinds = (fields[str(name)].annotation, *getattr(fields[str(name)].annotation, "__args__", ()))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]

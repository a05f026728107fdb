"""How a policy is trained: task, robot, network, algorithm; a preset is one YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import TrainError
from pipeline.parameters import checked, parse_settings, read_yaml, require_known, with_changes
from sim.sensors.ground.settings import MapSettings
from sim.tasks.settings import TaskSettings
from train.settings.algorithms import AlgorithmSettings
from train.settings.encoders import BLIND
from train.settings.parts import ActorSettings, CameraRandomisation, Count, DynamicsRandomisation

FOLDER = Path(__file__).parent / "presets"
WALK = "walk"
"""The task of gaits."""


class Preset(AlgorithmSettings):
    """All that a run depends on, except its scenes and its seed."""

    task: str
    """Name of the task."""
    task_settings: TaskSettings = TaskSettings()
    """Changes of the task; on the command line task.seconds and so on."""
    robot: str = ""
    """Name of the robot, or a URDF or MJCF file; by default the task's own."""
    gait: str = ""
    """Name or file of the gait that carries the robot; empty takes the one that comes with splatyard for it."""
    ground: MapSettings | None = None
    """The depth camera and the odometry by whose map legs know the ground; they know the truth by default."""
    engine: str = "sapien"
    """Physics engine."""
    objects: tuple[str, ...] = ()
    """Objects that were cut out of the bundles and are loose: names, or "all"; and bundles that are objects by
    themselves, such as mug@1.0.0."""
    start_from: str = ""
    """Folder of a run, or eyes (find or FILE.npz), whose networks training begins with; new ones if empty."""
    dynamics: DynamicsRandomisation = DynamicsRandomisation()
    """Randomisation of the physics."""
    num_envs: Count = 128
    """Environments that are simulated at the same time."""
    num_steps_per_env: Count = 16
    """Steps of each environment per iteration."""
    iterations: Count = 60
    """Iterations of the whole training."""
    save_interval: Count = 20
    """Iterations between two checkpoints."""
    evaluate_every: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Iterations between two measurements in places held out of training, which each have a checkpoint: a multiple of
    `save_interval`; 0 for every one."""
    unseen_episodes: Count = 100
    """Episodes of such a measurement."""
    patience: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Measurements in a row without more success than the best one's 95 % interval, after which training ends; 0 for
    never."""
    scene_sampling: Literal["uniform", "learning_progress"] = "uniform"
    """How scenes are drawn: uniformly, or by learning progress."""
    scenes_at_a_time: Count = 16
    """Scenes in which episodes begin at the same time; of more of them, others take their turn every few iterations."""
    cameras: tuple[str, ...] = ()
    """Names of the task's cameras that the policy sees by; all by default."""
    camera: CameraRandomisation = CameraRandomisation()
    """Randomisation of the camera."""
    actors: ActorSettings = ActorSettings()
    """Settings of actors apart from the learner."""

    @property
    def learns_gait(self) -> bool:
        """Whether its policy is a gait: it walks, without memory and without images."""
        return self.task == WALK and self.policy.rnn_type == "none" and self.policy.encoder == BLIND

    @property
    def product(self) -> str:
        """What writes what comes of a run, as `Algorithm.product`; empty for nothing."""
        return "train.legs.gait:save_gait" if self.learns_gait else self.kind.product

    @model_validator(mode="before")
    @classmethod
    def _takes_the_tasks_robot(cls, values: Any) -> Any:
        """The robot of the task, where none is named: a run keeps it."""
        if isinstance(values, dict) and isinstance(values.get("task"), str) and not values.get("robot"):
            from sim.tasks.catalog import TASKS  # with all that tasks compute

            return {**values, "robot": TASKS[values["task"]].robot} if values["task"] in TASKS else values
        return values

    @model_validator(mode="after")
    def _measures_checkpoints(self) -> Self:
        """Check that what is measured is kept."""
        if self.evaluate_every % self.save_interval:
            raise ValueError(f"evaluate_every must be a multiple of save_interval, {self.save_interval}")
        return self

    @model_validator(mode="after")
    def _fills_batches(self) -> Self:
        """Check that no mini-batch is empty: its loss would be NaN."""
        if not self.learning.rollouts:
            return self
        memory = self.policy.rnn_type != "none"
        if self.ppo.use_mirror_batches and memory:
            raise ValueError("ppo.use_mirror_batches is for policies without memory: policy.rnn_type=none")
        limit = self.num_envs * (1 if memory else self.num_steps_per_env)
        if limit < self.ppo.num_mini_batches:
            raise ValueError(
                f"ppo.num_mini_batches must be at most {limit}: num_envs for a recurrent policy, else all steps"
            )
        return self


def preset_names() -> list[str]:
    """Names of the presets that come with splatyard."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_file(name: str) -> Path | None:
    """The file of a preset by its name or path; None for the name of a task without one.

    Raises:
        TrainError: When there is no such preset and no such task.
    """
    path = FOLDER / f"{name}.yaml" if name in preset_names() else Path(name)
    if path.is_file():
        return path
    from sim.tasks.catalog import TASKS

    known = sorted({*preset_names(), *TASKS})
    require_known(name, known, "preset", TrainError, rule=f"there is no preset and no task {name!r}")
    return None


def load_preset(name: str, changes: Mapping[str, object] | None = None) -> Preset:
    """Load a preset.

    Args:
        name: A preset's name, the path of a YAML file, or a task, which then is trained with the defaults.
        changes: Values by dotted name, such as {"ppo.learning_rate": 3e-4}, that replace the preset's.

    Raises:
        TrainError: When there is none, or a value is wrong.
    """
    path = preset_file(name)
    values = read_yaml(path, "a preset", TrainError) if path else {"task": name}
    if not isinstance(values, dict):
        found = type(values).__name__
        raise TrainError("a preset has keys and values", found=found, remedy="correct it", file=path)
    return checked(Preset, _with_changes(values, changes or {}), "preset", TrainError, name)


def _with_changes(values: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """Values of a preset with others on top; those of the task begin with its section's name, or just with task."""
    of_task = {name: f"task_settings.{name.removeprefix('task.')}" for name in changes if name.startswith("task.")}
    return with_changes(values, {of_task.get(name, name): value for name, value in changes.items()})


def change_preset(preset: Preset, changes: Mapping[str, object], file: Path | str) -> Preset:
    """A preset with other values by dotted name.

    Raises:
        TrainError: When a value is wrong.
    """
    return checked(Preset, _with_changes(preset.model_dump(), changes), "preset", TrainError, file)


def pinned(preset: Preset) -> Preset:
    """The preset with the absolute path and the hash of its encoder's file, if it has one that is there."""
    file = Path(preset.policy.encoder_file).expanduser().resolve()
    if not preset.policy.encoder_file or not file.is_file() or preset.policy.encoder_sha256:
        return preset
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    changes = {"encoder_file": str(file), "encoder_sha256": found}
    return preset.model_copy(update={"policy": preset.policy.model_copy(update=changes)})


def parse_changes(texts: Sequence[str]) -> dict[str, str]:
    """Values by dotted name of "ppo.learning_rate=3e-4", as a command line has them.

    Raises:
        TrainError: When one has another form.
    """
    return parse_settings(texts, "ppo.learning_rate=3e-4", TrainError)


def flat_values(preset: Preset) -> dict[str, object]:
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

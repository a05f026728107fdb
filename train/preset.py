"""How a policy is trained: task, robot, network, algorithm; a preset is one YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import TrainError
from pipeline.parameters import Settings, checked, parse_settings, read_yaml, require_known, with_changes
from sim.randomisation import MAX_BASE_HEIGHT, MAX_DISTRACTORS
from sim.tasks.catalog import TASKS, WALK
from sim.tasks.settings import TaskSettings

FOLDER = Path(__file__).parent / "presets"

Algorithm = Literal["ppo", "sac", "rlpd", "bc", "dagger", "iql"]
LEARN_FROM_DEMOS = ("rlpd", "bc", "iql")
WITH_ACTORS = ("sac", "rlpd")
"""Algorithms that learn from whatever steps there are, those of actors elsewhere among them."""
OFFLINE = ("bc", "iql")
"""Algorithms that learn from demonstrations alone; nothing is simulated while they do."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class VoxelSettings(Settings):
    """The head that predicts voxels around the robot, an auxiliary loss for the hidden state."""

    weight: Positive = 0.5
    """Weight of the loss."""
    epochs: Count = 1
    """Passes over each rollout."""


class PolicySettings(Settings):
    """The actor; the critic is an MLP with all observations."""

    encoder: str = "cnn"
    """Encoder of its images, a name in `train.encoders.catalog`; none for a blind policy."""
    encoder_file: str = ""
    """Weights of the encoder gaussian_regressor, a file that `splatyard pretrain-encoder` wrote."""
    encoder_sha256: str = ""
    """Hash of that file when the run began; filled in by itself."""
    modality: Literal["rgb", "depth"] = "rgb"
    """Output of the robot's camera."""
    rnn_type: Literal["none", "gru", "lstm"] = "gru"
    """Memory of the policy; none for a feed-forward one."""
    rnn_hidden_dim: Count = 64
    """Units of the RNN."""
    actor_hidden_dims: tuple[Count, ...] = (128,)
    """Units of each layer after the RNN."""
    critic_hidden_dims: tuple[Count, ...] = (128, 128)
    """Units of each layer of the critic."""
    init_std: Positive = 1.0
    """Initial standard deviation of the actions."""
    std_range: tuple[Positive, Positive] = (0.1, 1.5)
    """Smallest and largest standard deviation of the actions."""
    output_scale: Positive = 1.0
    """Factor of the last layer's initial weights: small for policies that only add to what works already."""
    obs_normalization: bool = False
    """Whether the actor's vectors are normalised by their running mean and deviation; the critic's always are."""
    voxels: VoxelSettings | None = None
    """Auxiliary loss on voxels; null for none."""

    @model_validator(mode="after")
    def _uses_its_file(self) -> Self:
        """Check that no file is named which nobody reads."""
        if self.encoder != "gaussian_regressor" and (self.encoder_file or self.encoder_sha256):
            raise ValueError("encoder_file is for policy.encoder=gaussian_regressor")
        return self


class PPOSettings(Settings):
    """Proximal policy optimisation (Schulman et al., 2017); the names are rsl-rl's."""

    num_learning_epochs: Count = 3
    """Passes over the rollout of an iteration."""
    num_mini_batches: Count = 4
    """Mini-batches per epoch; they hold whole environments if the policy is recurrent."""
    clip_param: Positive = 0.2
    """Clipping range of the probability ratio."""
    gamma: Share = 0.98
    """Discount factor."""
    gae_lambda: Share = 0.95
    """Lambda of generalised advantage estimation."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.005
    """Weight of the entropy bonus."""
    learning_rate: Positive = 1e-3
    """Initial and largest learning rate; it is adapted to the KL divergence."""
    desired_kl: Positive = 0.015
    """Target KL divergence of an update."""
    max_grad_norm: Positive = 1.0
    """Largest norm of the gradient; above it the gradient is scaled down."""
    use_mirror_loss: bool = False
    """Add the auxiliary loss on mirrored images and actions."""
    use_mirror_batches: bool = False
    """Learn from half of each mini-batch in the mirror, left and right exchanged; for policies without memory."""


class SACSettings(Settings):
    """Soft actor-critic (Haarnoja et al., 2018), also with demonstrations (RLPD: Ball et al., 2023)."""

    updates_per_step: Positive = 0.5
    """Updates of the critics for each step of a robot, the update-to-data ratio."""
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 128
    """Steps of a batch; with demonstrations half of them are theirs."""
    replay_size: Annotated[int, Field(ge=1000, le=100_000_000)] = 200_000
    """Newest steps of all robots that are remembered, on disk."""
    random_steps: Annotated[int, Field(ge=0)] = 4000
    """Steps of all robots that act at random before anything is learned."""
    gamma: Share = 0.98
    """Discount factor."""
    learning_rate: Positive = 5e-4
    """Learning rate of all networks."""


class ActorSettings(Settings):
    """Actors that act apart from the learner (`splatyard train --actors N`); each simulates `num_envs` environments."""

    max_staleness: Annotated[int, Field(ge=3, le=1000)] = 8
    """Iterations that the policy of a chunk may be behind, for each of the actors; older chunks are dropped."""
    silent_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """Time in which an actor sends something, its start included; otherwise it is killed and replaced [s]."""
    max_replacements: Annotated[int, Field(ge=1, le=1000)] = 3
    """Replacements of each actor, on average, while none sends anything usable; after more of them training ends."""
    cpus: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """Cores of an actor."""
    memory: Annotated[float, Field(gt=0, le=4096)] = 2.0
    """Memory that is set aside for an actor [GiB]."""


class OfflineSettings(Settings):
    """Learning from what others did or would have done: bc, iql (Kostrikov et al., 2021), and dagger without memory."""

    updates_per_iteration: Count = 200
    """Updates in an iteration."""
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 256
    """Steps of a batch."""
    learning_rate: Positive = 1e-3
    """Learning rate; that of the policy falls to zero along a cosine."""
    gamma: Share = 0.98
    """Discount factor of iql."""
    replay_size: Annotated[int, Field(ge=1000, le=100_000_000)] = 200_000
    """Newest steps of all robots that dagger remembers, on disk."""


class CameraRandomisation(Settings):
    """Ranges drawn for each training episode, so that a policy doesn't rely on one camera; unused in evaluation."""

    gain: Range = (0.85, 1.15)
    """Smallest and largest factor of the brightness."""
    white_balance: Range = (0.95, 1.05)
    """Smallest and largest factor of each colour channel."""
    mount_translation: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Largest offset of the camera along each axis [m]."""
    mount_rotation: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Largest rotation of the camera about each axis [rad]."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Standard deviation of the noise of a pixel [share of white]."""


class DynamicsRandomisation(Settings):
    """Ranges drawn for each training episode, see `sim.randomisation.Randomisation`; unused in evaluation."""

    friction: Range = (1.0, 1.0)
    """Smallest and largest factor of the robot's friction."""
    mass: Range = (1.0, 1.0)
    """Smallest and largest factor of the base's mass."""
    strength: Range = (1.0, 1.0)
    """Smallest and largest factor of the motors' stiffness, damping and largest force."""
    latency: Range = (0.0, 0.0)
    """Shortest and longest delay of an action [s]."""
    push_interval: Range = (0.0, 0.0)
    """Shortest and longest time between two pushes [s]."""
    push_speed: Annotated[float, Field(ge=0)] = 0.0
    """Largest change of the velocity by a push [m/s]."""
    base_height: Annotated[float, Field(ge=0, le=MAX_BASE_HEIGHT)] = 0.0
    """How far an arm's base may be above or below the surface that things lie on [m]."""
    distractors: Annotated[int, Field(ge=0, le=MAX_DISTRACTORS)] = 0
    """Number of things on an arm's table that have nothing to do with its task."""


class Preset(Settings):
    """All that a run depends on, except its scenes and its seed."""

    task: str
    """Name of the task."""
    task_settings: TaskSettings = TaskSettings()
    """Changes of the task; on the command line task.seconds and so on."""
    robot: str = "rover"
    """Name of the robot, or a URDF or MJCF file."""
    gait: str = ""
    """Name or file of the gait that carries the robot; empty takes the one that comes with splatyard for it."""
    engine: str = "sapien"
    """Physics engine."""
    objects: tuple[str, ...] = ()
    """Objects that were cut out of the bundles and are loose: names, or "all"; and bundles that are objects by
    themselves, such as mug@1.0.0."""
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
    scene_sampling: Literal["uniform", "learning_progress"] = "uniform"
    """How scenes are drawn: uniformly, or by learning progress."""
    teacher: str = ""
    """Privileged observation that is the right action, and that the policy learns to output (dagger); "expert" asks
    the task's expert; empty for other algorithms."""
    cameras: tuple[str, ...] = ()
    """Names of the task's cameras that the policy sees by; all by default."""
    camera: CameraRandomisation = CameraRandomisation()
    """Randomisation of the camera."""
    policy: PolicySettings = PolicySettings()
    """Networks."""
    algorithm: Algorithm = "ppo"
    """How the policy learns: by its own steps (ppo), all its past ones (sac), those and demonstrations (rlpd),
    demonstrations alone (bc, iql), or a teacher's answers (dagger)."""
    demos: str = ""
    """Folder of a LeRobot dataset of demonstrations, for rlpd, bc and iql."""
    ppo: PPOSettings = PPOSettings()
    """Settings of ppo, and of dagger with memory."""
    sac: SACSettings = SACSettings()
    """Settings of sac and rlpd."""
    actors: ActorSettings = ActorSettings()
    """Settings of actors apart from the learner."""
    offline: OfflineSettings = OfflineSettings()
    """Settings of bc, iql, and dagger without memory."""

    @property
    def learns_from_rollouts(self) -> bool:
        """Whether rsl-rl trains it, from its newest steps alone: by ppo, or by dagger with memory."""
        return self.algorithm == "ppo" or (self.algorithm == "dagger" and self.policy.rnn_type != "none")

    @property
    def learns_gait(self) -> bool:
        """Whether its policy is a gait: it walks, without memory and without images."""
        return self.task == WALK.name and self.policy.rnn_type == "none" and self.policy.encoder == "none"

    @property
    def rate_setting(self) -> str:
        """Name of the setting that is its algorithm's learning rate."""
        if self.learns_from_rollouts:
            return "ppo.learning_rate"
        return "sac.learning_rate" if self.algorithm in WITH_ACTORS else "offline.learning_rate"

    @property
    def axis(self) -> Literal["steps", "iteration"]:
        """Entry of a curve's rows along which it is drawn: steps of robots, or iterations where none act."""
        return "iteration" if self.algorithm in OFFLINE else "steps"

    @model_validator(mode="before")
    @classmethod
    def _by_algorithm(cls, values: object) -> object:
        """Fill in what the algorithm takes for granted: dagger asks the expert, the others train no memory."""
        if not isinstance(values, dict):
            return values
        name = values.get("algorithm", "dagger" if values.get("teacher") else "ppo")
        if name == "ppo":
            return values
        if name == "dagger":
            return values | {"algorithm": name, "teacher": values.get("teacher") or "expert"}
        policy = values.get("policy", {})
        return values | {"policy": {"rnn_type": "none"} | policy} if isinstance(policy, dict) else values

    @model_validator(mode="after")
    def _suits_algorithm(self) -> Self:
        """Check that nothing is set that the algorithm would ignore, nor anything missing that it needs."""
        name, needs = self.algorithm, self.algorithm in LEARN_FROM_DEMOS
        if needs != bool(self.demos):
            raise ValueError(
                f"{name} learns from demonstrations: --demos FOLDER, a dataset of `splatyard record`"
                if needs
                else f"{name} learns from no demonstrations: leave demos away, or take {', '.join(LEARN_FROM_DEMOS)}"
            )
        if self.learns_from_rollouts:
            return self
        who = "dagger without memory" if name == "dagger" else name
        for key, present in (
            ("teacher", self.teacher and name != "dagger"),
            ("policy.voxels", self.policy.voxels),
            ("policy.rnn_type", self.policy.rnn_type != "none"),
            ("ppo.use_mirror_loss", self.ppo.use_mirror_loss),
            ("ppo.use_mirror_batches", self.ppo.use_mirror_batches),
        ):
            if present:
                raise ValueError(f"{key} is for ppo and dagger; {who} learns without")
        return self

    @model_validator(mode="after")
    def _fills_batches(self) -> Self:
        """Check that no mini-batch is empty: its loss would be NaN."""
        if not self.learns_from_rollouts:
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


def load_preset(name: str, changes: Mapping[str, object] | None = None) -> Preset:
    """Load a preset.

    Args:
        name: A preset's name, the path of a YAML file, or a task, which then is trained with the defaults.
        changes: Values by dotted name, such as {"ppo.learning_rate": 3e-4}, that replace the preset's.

    Raises:
        TrainError: When there is none, or a value is wrong.
    """
    path = FOLDER / f"{name}.yaml" if name in preset_names() else Path(name)
    if path.is_file():
        values = read_yaml(path, "a preset", TrainError)
    else:
        known = sorted({*preset_names(), *TASKS})
        require_known(name, known, "preset", TrainError, rule=f"there is no preset and no task {name!r}")
        values = {"task": name}
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

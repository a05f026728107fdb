"""All algorithms by name: how each learns, what may be set of it, and the class that does it.

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.parameters import Settings
from train.settings.parts import Count, PolicySettings, Positive, Share
from train.settings.schedule import Schedule


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
    """Initial and largest learning rate."""
    schedule: Schedule | Literal["adaptive"] = "adaptive"
    """How the learning rate goes on: adapted to the KL divergence, or from the first one down as training goes on."""
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
    """Initial learning rate of all networks."""
    schedule: Schedule = "constant"
    """How the policy's learning rate goes on as training does."""


class TD3Settings(SACSettings):
    """Twin delayed deterministic policy gradients (Fujimoto et al., 2018), also with demonstrations."""

    exploration: Share = 0.2
    """Standard deviation of the noise on actions, which are within -1 and 1."""
    smoothing: Share = 0.2
    """Standard deviation of the noise on the actions that critics are asked about."""
    smoothing_limit: Share = 0.5
    """Largest such noise."""


class OfflineSettings(Settings):
    """Learning from what others did or would have done: bc, iql (Kostrikov et al., 2021), and dagger without memory."""

    updates_per_iteration: Count = 200
    """Updates in an iteration."""
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 256
    """Steps of a batch."""
    learning_rate: Positive = 1e-3
    """Initial learning rate of all networks."""
    schedule: Schedule = "cosine"
    """How the policy's learning rate goes on as training does."""
    gamma: Share = 0.98
    """Discount factor of iql."""
    replay_size: Annotated[int, Field(ge=1000, le=100_000_000)] = 200_000
    """Newest steps of all robots that dagger remembers, on disk."""
    led: Share = 0.0
    """Share of training in which dagger's teacher and policy drive in turns: only the teacher at first, then less."""


class DetectorSettings(Settings):
    """Learning which parts of an image show the ball; the driver find does the rest."""

    updates_per_step: Count = 2
    """Updates for each step of all robots."""
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 96
    """Images of a batch."""
    learning_rate: Positive = 3e-3
    """Initial learning rate."""
    schedule: Schedule = "cosine"
    """How the learning rate goes on as training does."""
    replay_size: Annotated[int, Field(ge=1000, le=100_000_000)] = 12_000
    """Newest images of all robots that are learned from, on disk."""
    led: Share = 0.25
    """Share of the robots that their teacher leads to the ball, so that it is seen from near."""
    finding: Share = 0.4
    """Share of the robots that drive to what the eyes take for the ball, so that they learn what it isn't; the others
    drive at random."""


@dataclass(frozen=True)
class Learning:
    """A way to learn.

    Attributes:
        learner: "module:Class", an `Agent` whose `of` makes it.
        section: Name of its settings in a preset.
        rollouts: Whether rsl-rl trains it, from its newest steps alone: in several processes if asked, with auxiliary
            losses and mirror images.
    """

    learner: str
    section: str
    rollouts: bool = False


@dataclass(frozen=True)
class Algorithm:
    """An algorithm.

    Attributes:
        plain: How a policy without memory learns.
        recurrent: How one with memory does; None if it can't.
        demos: Whether it learns from demonstrations.
        taught: Whether a teacher's answers are what it learns.
        critic: Whether it has one, for which demonstrations need what only a simulator knows.
        actors: Whether it learns from whatever steps there are, those of actors elsewhere among them.
        offline: Whether nothing is simulated while it learns.
        encoder: The encoder that it, and nobody else, takes; empty for all others.
        given: Values of a preset that it takes for granted where they aren't set.
        aim: "module:function" that makes the observation group that it learns to predict, of a simulation and a
            policy's settings.
        product: "module:function" that writes what comes of a run into its folder, of the run, the simulation, the
            policy and the last row of the curve.
    """

    plain: Learning
    recurrent: Learning | None = None
    demos: Literal["never", "maybe", "always"] = "never"
    taught: bool = False
    critic: bool = True
    actors: bool = False
    offline: bool = False
    encoder: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    aim: str = ""
    product: str = ""


PPO = Learning("train.algorithms.ppo:VisionPPO", "ppo", rollouts=True)
BLIND_TO_THE_PAST = {"policy": {"rnn_type": "none"}}

ALGORITHMS = {
    "ppo": Algorithm(PPO, PPO),
    "sac": Algorithm(Learning("train.algorithms.sac:SAC", "sac"), demos="maybe", actors=True, given=BLIND_TO_THE_PAST),
    "td3": Algorithm(Learning("train.algorithms.td3:TD3", "td3"), demos="maybe", actors=True, given=BLIND_TO_THE_PAST),
    "bc": Algorithm(
        Learning("train.algorithms.offline:Cloning", "offline"),
        demos="always",
        critic=False,
        offline=True,
        given=BLIND_TO_THE_PAST,
    ),
    "iql": Algorithm(
        Learning("train.algorithms.offline:ImplicitQ", "offline"), demos="always", offline=True, given=BLIND_TO_THE_PAST
    ),
    "dagger": Algorithm(
        Learning("train.algorithms.offline:DAgger", "offline"),
        PPO,
        taught=True,
        critic=False,
        given={"teacher": "expert", "ppo": {"schedule": "exponential"}},
    ),
    "detector": Algorithm(
        Learning("train.algorithms.eyes:EyesLearner", "detector"),
        taught=True,
        critic=False,
        encoder="detector",
        given={"teacher": "expert", "policy": {"rnn_type": "none", "encoder": "detector"}},
        aim="train.eyes:shown",
        product="train.runs.eyes:save_eyes",
    ),
}
WITH_DEMOS = {"rlpd": "sac"}
"""Other names of algorithms with demonstrations, in presets and runs of before, too."""
DEFAULT, TAUGHT = "ppo", "dagger"
"""What learns if nothing is said, and if a teacher is named."""


def those_with(trait: str, *values: object) -> str:
    """Names of the algorithms of which a trait has one of these values, true by default: "sac and td3"."""
    wanted = values or (True,)
    names = [name for name, algorithm in ALGORITHMS.items() if getattr(algorithm, trait) in wanted]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


class AlgorithmSettings(Settings):
    """How a policy learns."""

    algorithm: str = DEFAULT
    """How the policy learns: by its own steps (ppo), all its past ones (sac, td3), those and demonstrations (these with
    demos), demonstrations alone (bc, iql), a teacher's answers (dagger), or only to see the ball (detector)."""
    demos: str = ""
    """Folder of a LeRobot dataset of demonstrations."""
    teacher: str = ""
    """Whose action the policy learns to output (dagger): a privileged observation that is the right one; "expert", the
    task's expert; "find" or a file of eyes, the driver that finds a ball; empty for other algorithms."""
    policy: PolicySettings = PolicySettings()
    """Networks."""
    ppo: PPOSettings = PPOSettings()
    """Settings of ppo, and of dagger with memory."""
    sac: SACSettings = SACSettings()
    """Settings of sac."""
    td3: TD3Settings = TD3Settings()
    """Settings of td3."""
    offline: OfflineSettings = OfflineSettings()
    """Settings of bc, iql, and dagger without memory."""
    detector: DetectorSettings = DetectorSettings()
    """Settings of detector."""

    @property
    def kind(self) -> Algorithm:
        """The algorithm."""
        return ALGORITHMS[self.algorithm]

    @property
    def learning(self) -> Learning:
        """How the policy learns, with memory or without."""
        kind = self.kind
        return kind.recurrent if self.policy.rnn_type != "none" and kind.recurrent else kind.plain

    @property
    def learner_settings(self) -> Any:
        """The section of what may be set of that."""
        return getattr(self, self.learning.section)

    @property
    def rate_setting(self) -> str:
        """Name of the setting that is its learning rate."""
        return f"{self.learning.section}.learning_rate"

    @property
    def axis(self) -> Literal["steps", "iteration"]:
        """Entry of a curve's rows along which it is drawn: steps of robots, or iterations where none act."""
        return "iteration" if self.kind.offline else "steps"

    @model_validator(mode="before")
    @classmethod
    def _by_algorithm(cls, values: object) -> object:
        """Fill in what the algorithm takes for granted."""
        if not isinstance(values, dict):
            return values
        name = values.get("algorithm", DEFAULT)
        name = TAUGHT if name == DEFAULT and values.get("teacher") else name
        if name in WITH_DEMOS and not values.get("demos"):
            raise ValueError(
                f"{name} learns from demonstrations: --demos FOLDER, a dataset of `splatyard policy record`"
            )
        name = WITH_DEMOS.get(name, name)
        if name not in ALGORITHMS:
            raise ValueError(f"algorithm is one of {', '.join([*ALGORITHMS, *WITH_DEMOS])}")
        filled = {**values, "algorithm": name}
        for key, value in ALGORITHMS[name].given.items():
            if isinstance(value, dict) and isinstance(own := values.get(key, {}), dict):
                filled[key] = value | own
            elif not values.get(key):
                filled[key] = value
        return filled

    @model_validator(mode="after")
    def _suits_algorithm(self) -> Self:
        """Check that nothing is set that the algorithm would ignore, nor anything missing that it needs."""
        name, kind, learning = self.algorithm, self.kind, self.learning
        if kind.demos == "always" and not self.demos:
            raise ValueError(
                f"{name} learns from demonstrations: --demos FOLDER, a dataset of `splatyard policy record`"
            )
        if kind.demos == "never" and self.demos:
            others = those_with("demos", "maybe", "always")
            raise ValueError(f"{name} learns from no demonstrations: leave demos away, or take {others}")
        for other, one in ALGORITHMS.items():
            if one.encoder and (one.encoder == self.policy.encoder) != (other == name):
                raise ValueError(f"policy.encoder={one.encoder} and algorithm={other} go together")
        if self.policy.eyes != PolicySettings().eyes and not kind.encoder:
            raise ValueError(f"policy.eyes is for {' and '.join(n for n, one in ALGORITHMS.items() if one.encoder)}")
        if learning.rollouts and self.teacher and self.ppo.schedule == "adaptive":
            raise ValueError(f"ppo.schedule=adaptive goes by how far ppo's updates diverge; {name} has none")
        if learning.rollouts:
            return self
        who = f"{name} without memory" if kind.recurrent else name
        for key, present in (
            ("teacher", self.teacher and not kind.taught),
            ("policy.voxels", self.policy.voxels),
            ("policy.rnn_type", self.policy.rnn_type != "none" and not kind.recurrent),
            ("ppo.use_mirror_loss", self.ppo.use_mirror_loss),
            ("ppo.use_mirror_batches", self.ppo.use_mirror_batches),
        ):
            if present:
                raise ValueError(f"{key} is for ppo and dagger; {who} learns without")
        return self

"""How walking robots fare beside their task: their feet, their joints, and what they know of the ground unseen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.types import F32, F64, I64, Mask
from sim.env import SceneEnv
from sim.robots.kinematics import link_poses
from sim.robots.legs import Legs
from sim.robots.state import RobotState, headings
from sim.sensors.ground.ground import FIRM, Ground
from sim.sensors.height_scan import HeightScan
from sim.sensors.sensor import Moment

SLIPS = 0.05
"""A foot that moves so far while it stands slips [m]."""
ELSEWHERE = 0.1
"""A foot that moves so far from one look to the next was put elsewhere [m]."""


class _Feet:
    """Where the feet of an environment's robots are, and which of them stand."""

    def __init__(self, env: SceneEnv) -> None:
        self._env, self._legs = env, Legs(env.robot)
        self._links = [foot.link for foot in self._legs.feet]

    def now(self, state: RobotState) -> tuple[F64, Mask]:
        """Places under the feet (N, F, 3), world axes [m], and whether they stand (N, F)."""
        place = self._legs.positions(link_poses(self._legs.robot, state))
        place[..., 2] -= [foot.radius for foot in self._legs.feet]
        return place, np.linalg.norm(self._env.engine.foot_forces(self._links), axis=-1) > FIRM


class FeetPlane(Ground):
    """The plane through where each foot stood last: what robots know of the ground that see nothing."""

    exact = False

    def __init__(self, env: SceneEnv) -> None:
        grid = env.controller.height_scan
        assert grid, "it walks by a gait"
        super().__init__(HeightScan(env.scenes, grid))
        self._grid, self._feet = grid, _Feet(env)
        self._stood = np.zeros((env.num_envs, 4, 3))

    def reset(self, envs: I64, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Stand where robots (M,) are."""
        self._stood[envs] = self._feet.now(now().state)[0][envs]

    def update(self, now: Callable[[], Moment], rng: np.random.Generator) -> None:
        """Note where feet stand."""
        place, down = self._feet.now(now().state)
        self._stood[down] = place[down]

    def read(self, state: RobotState, scene_of: I64) -> F32:
        """Heights (N, K) relative to the bases [m]."""
        middle = self._stood.mean(1)
        off = self._stood - middle[:, None]
        spread = np.einsum("nfi,nfj->nij", off[..., :2], off[..., :2]) + 1e-6 * np.eye(2)
        slope = np.linalg.solve(spread, np.einsum("nfi,nf->ni", off[..., :2], off[..., 2])[..., None])[..., 0]
        forward = headings(state.quaternion)
        left = forward[:, ::-1] * [-1, 1]
        away = state.position[:, None, :2] - middle[:, None, :2] + self._grid.points @ np.stack([forward, left], 1)
        heights = middle[:, None, 2] + (away * slope[:, None]).sum(-1) - state.position[:, 2:]
        return np.clip(heights, -self._grid.clip, self._grid.clip).astype(np.float32)


class Conduct:
    """Counts feet that slip, and how far joints are beyond their limits, as an environment goes on.

    Attributes:
        steps: Number of times that a foot stood, and was lifted again.
        slips: Of these, how often it moved by more than `SLIPS` meanwhile.
        beyond: The most that a joint was beyond its limits [rad].
    """

    def __init__(self, env: SceneEnv) -> None:
        self._env, self._feet, self._limits = env, _Feet(env), env.robot.limits
        self.steps, self.slips, self.beyond = 0, 0, 0.0
        self._from = np.full((env.num_envs, 4, 2), np.nan)
        self._last = np.full((env.num_envs, 4, 2), np.nan)
        env.watchers.append(self._watch)

    def _watch(self) -> None:
        state = self._env.engine.read()
        place, down = self._feet.now(state)
        low, high = self._limits
        self.beyond = max(self.beyond, float(np.max([state.joint_position - high, low - state.joint_position])))
        moved = np.linalg.norm(place[..., :2] - self._last, axis=-1)
        lifted = ~down & (moved < ELSEWHERE) & np.isfinite(self._from[..., 0])
        self.steps += int(lifted.sum())
        self.slips += int((np.linalg.norm(self._last - self._from, axis=-1)[lifted] > SLIPS).sum())
        begun = down & ~(np.isfinite(self._from[..., 0]) & (moved < ELSEWHERE))
        self._from[begun] = place[begun][:, :2]
        self._from[~down], self._last = np.nan, place[..., :2].copy()

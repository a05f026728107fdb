"""A driver that knows the way: to look at a task, and to see how well it can be done at all."""

from __future__ import annotations

import numpy as np

from pipeline.errors import SimError
from sim.env import SceneEnv
from sim.physics.state import Float
from sim.robots.drive import DifferentialDrive

LOOK_AHEAD = 0.35  # [m]
HEADINGS = np.linspace(-np.pi, np.pi, 24, endpoint=False)
TURN_FIRST = 0.5  # [rad]; with more to turn it stands


class WayFollower:
    """Turns to where the way to the goal gets shortest, then drives; for robots driven by speed and turn.

    Args:
        env: Whose robots it drives.

    Raises:
        SimError: When they are driven in another way.
    """

    def __init__(self, env: SceneEnv) -> None:
        if not isinstance(env.drive, DifferentialDrive):
            raise SimError(
                "the driver who knows the way drives wheels",
                found=f"robot {env.robot.name!r} has legs",
                remedy="take the rover, or --driver random",
            )
        self._env, self._speed = env, env.drive.speed

    def act(self) -> Float:
        """Actions (N, 2) for now."""
        env = self._env
        state = env.engine.read()
        yaw = 2 * np.arctan2(state.quaternion[:, 3], state.quaternion[:, 0])
        heading = yaw[:, None] + HEADINGS
        ahead = state.position[:, None, :2] + LOOK_AHEAD * np.stack([np.cos(heading), np.sin(heading)], -1)
        count = len(HEADINGS)
        left = env.way_left(ahead.reshape(-1, 2), np.repeat(np.arange(env.num_envs), count)).reshape(-1, count)
        turn = HEADINGS[left.argmin(1)]
        forward = np.where(np.abs(turn) < TURN_FIRST, 0.5, 0.0)
        low, high = self._speed
        return np.clip(np.stack([(forward - low) / (high - low) * 2 - 1, 2 * turn], 1), -1, 1).astype(np.float32)

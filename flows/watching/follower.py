"""Visitors of a page look at a robot from behind, inside the place, until they look elsewhere."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from flows.view import start_at
from pipeline.gallery.viewpoint import Viewpoint
from pipeline.types import F64
from sim.chase_camera import Chase
from sim.env import SceneEnv
from sim.robots.state import RobotState

if TYPE_CHECKING:
    import viser

AHEAD = 1.5
"""Distance of what visitors orbit [m]."""
FIELD_OF_VIEW = float(np.deg2rad(60))
"""Vertical [rad]."""
REMEMBERED = 400
"""A browser says with a delay where its visitor looks from: as many places as it was sent to are no look elsewhere."""
ELSEWHERE = 0.02
"""Distance of a place to all of these that is one [m]."""


class Follower:
    """Moves all visitors with a robot; a switch of the page, which turns off when one of them moves the view."""

    def __init__(self, server: viser.ViserServer, env: SceneEnv) -> None:
        self._server, self._chase = server, Chase(env.robot, env.scenes)
        self._box = server.gui.add_checkbox("follow the robot", initial_value=True)
        self._sent: dict[int, deque[F64]] = {}
        self._arrived: set[int] = set()
        self._scene: int | None = None
        self._box.on_update(lambda _event: self._arrived.clear())
        server.on_client_connect(self._meet)

    def _meet(self, visitor: viser.ClientHandle) -> None:
        visitor.camera.on_update(lambda camera: self._looked(visitor.client_id, camera.position))

    def _looked(self, visitor: int, place: F64) -> None:
        """A visitor's browser says where it looks from (3,): elsewhere, once it was where it was sent to, is a wish."""
        sent = list(self._sent.get(visitor, ()))
        if sent and np.linalg.norm(np.array(sent) - place, axis=1).min() < ELSEWHERE:
            self._arrived.add(visitor)
        elif visitor in self._arrived:
            self._box.value = False

    def cut(self) -> None:
        """The robot is somewhere else: go there at once."""
        self._scene = None

    def follow(self, robot: RobotState, scene: int, period: float) -> None:
        """Go where a robot (1,) is, a period [s] after the last time."""
        if not self._box.value:
            return
        began = scene != self._scene
        if began:
            self._chase.cut()
            self._scene = scene
        pose = self._chase.follow(robot, scene, period)
        eye, at = pose[:3, 3], pose[:3, 3] + AHEAD * pose[:3, 2]
        if began:  # for those who come later
            start_at(self._server, Viewpoint((*eye,), (*at,), FIELD_OF_VIEW))
        for visitor, client in self._server.get_clients().items():
            self._sent.setdefault(visitor, deque(maxlen=REMEMBERED)).append(eye)
            with client.atomic():
                client.camera.position, client.camera.look_at = eye, at

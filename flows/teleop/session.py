"""A session: a person drives one robot through episodes, and keeps or discards each."""

from __future__ import annotations

import json

from flows.sim_view import SimPage
from flows.teleop.controls import KEYS, Command, action, legend, moves_of
from flows.teleop.desk import SOCKET, Desk, Status
from flows.teleop.takes import Takes
from pipeline.io.pages import render
from sim.env import SceneEnv
from sim.ranges import seed_of
from train.recording.steps import Take

READY, DRIVING, ENDED = "ready", "driving", "ended"
BEGIN = "Start begins an episode."
CHOOSE = "Keep it, or discard it."


def page_of(env: SceneEnv, frame: str, *, records: bool, nonce: str) -> str:
    """The page, HTML, that shows another in a frame."""
    keys = legend(moves_of(env.controller))
    return render(
        "flows",
        "teleop.html",
        title=f"{env.robot.name}: {env.task.instruction or env.task.name}",
        frame=frame,
        nonce=nonce,
        records=records,
        gripper=env.controller.arm is not None,
        keys=[(key, key.removeprefix("Key").removeprefix("Arrow"), name) for key, name in keys.items()],
        settings=json.dumps({"socket": SOCKET, "keys": list(KEYS)}),
    )


class Session:
    """Drives the robot of an environment of one by what is held at the desk.

    Args:
        env: Environment.
        view: Its page in 3-D, which also keeps the time.
        desk: Of the person.
        takes: Where episodes are kept; None keeps none.
        seed: Of all episodes, each of which has a number of its own, also those of an earlier session.
    """

    def __init__(self, env: SceneEnv, view: SimPage, desk: Desk, takes: Takes | None, seed: int) -> None:
        self._env, self._view, self._desk, self._takes = env, view, desk, takes
        self._seed, self._number = seed, (takes.next if takes else 0) - 1
        moves_of(env.controller)
        self._begin(BEGIN)

    def run(self) -> None:
        """Go on until Ctrl-C."""
        try:
            while True:
                self.tick()
        except KeyboardInterrupt:
            pass

    def tick(self) -> None:
        """One control period: take commands, act, show, wait."""
        for command in self._desk.commands():
            self._obey(command)
        if self._state == DRIVING:
            self._drive()
        if self._state == ENDED:  # the simulation has begun anew, the page still shows the end
            self._view.wait()
        else:
            self._view.update(self._take.seen, {})
        self._desk.status = Status(
            state=self._state,
            text=self._text,
            success=self._take.success,
            seconds=round(self._take.seconds, 2),
            kept=len(self._takes.files) if self._takes else 0,
            shut=self._shut,
        )

    def _obey(self, command: Command) -> None:
        if command == "gripper":
            self._shut = not self._shut
        elif command == "start" and self._state == READY:
            self._state, self._text = DRIVING, ""
        elif command == "discard" and self._state != READY:
            self._begin(f"Discarded. {BEGIN}")
        elif command == "keep" and self._state == ENDED and self._takes:
            self._takes.keep(self._take.demonstration(), self._number)
            self._begin(f"Kept. {BEGIN}")

    def _begin(self, text: str) -> None:
        """Make the next episode ready."""
        self._number += 1
        self._take = Take(self._env, seed_of(self._seed, self._number))
        self._state, self._text, self._shut = READY, text, False

    def _drive(self) -> None:
        """Act for one step."""
        env = self._env
        view = self._view.heading() - float(env.engine.read().planar[0, 2])
        self._take.step(action(self._desk.held(), env.controller, shut=self._shut, view=view))
        if self._take.ended_by:
            what = "Success: the task is done." if self._take.success else f"Ended by: {self._take.ended_by}."
            self._state, self._text = ENDED, f"{what} {CHOOSE if self._takes else 'Discard it to go on.'}"

"""How fast a simulation goes that people watch: in real time, faster or slower, step by step, or not at all for now."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    import viser

Press = Literal["pause", "go on", "step", "reset"]

SPEEDS = (0.1, 4.0, 0.1)
"""Slowest and fastest, as shares of real time, and the slider's step."""
BEHIND = 1.0
"""What can't be calculated in time is caught up on for so long [s]."""
LOOK = 0.05
"""Time between two looks at the buttons while the simulation is paused [s]."""


class Pace:
    """Buttons and a slider of the page, and the wait for the next step by them.

    Args:
        gui: Where they are added.
        period: Time that a step simulates [s].
        shown: Whether buttons and slider are there; else it is real time.
    """

    def __init__(self, gui: viser.GuiApi, period: float, *, shown: bool = True) -> None:
        self._paused = False
        self._period, self._next = period, time.monotonic()
        self._pressed: queue.SimpleQueue[Press] = queue.SimpleQueue()
        self._buttons = gui.add_button_group("", ("pause", "step", "reset"), visible=shown)
        slowest, fastest, step = SPEEDS
        self._speed = gui.add_slider("speed", slowest, fastest, step, 1.0, hint="1 is real time", visible=shown)
        self._buttons.on_click(lambda event: self.press(cast(Press, event.target.value)))

    def press(self, button: Press) -> None:
        """Press a button."""
        self._pressed.put(button)

    def wait(self) -> bool:
        """Wait until the next step is due; returns whether all episodes are to begin anew instead."""
        while self._paused or not self._pressed.empty():
            if self._pressed.empty():
                time.sleep(LOOK)
                continue
            button = self._pressed.get()
            if button != "reset":
                self._pause(button in ("pause", "step"))
            self._next = time.monotonic()
            if button in ("step", "reset"):
                return button == "reset"
        self._next += self._period / self._speed.value
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic() - BEHIND)
        return False

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._buttons.options = ("go on" if paused else "pause", "step", "reset")

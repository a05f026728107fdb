"""How fast a simulation goes that people watch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import viser

from flows.view import stop, viser_server
from flows.watching.pace import Pace

PERIOD = 0.05


@pytest.fixture
def server() -> Iterator[viser.ViserServer]:
    """A viser server on a free port."""
    server = viser_server("127.0.0.1", 0, "test")
    yield server
    stop(server)


def taken(pace: Pace, steps: int) -> float:
    """Time of so many waits [s]."""
    began = time.monotonic()
    for _ in range(steps):
        assert not pace.wait()
    return time.monotonic() - began


def test_steps_take_real_time_or_a_share_of_it(server: viser.ViserServer):
    """20 steps of 0.05 s a second; at half the speed twice that."""
    pace = Pace(server.gui, PERIOD)
    assert taken(pace, 10) >= 10 * PERIOD - 0.01
    pace._speed.value = 0.5
    assert taken(pace, 5) >= 2 * 5 * PERIOD - 0.01


def test_a_paused_simulation_goes_on_by_a_step_or_when_it_is_told(server: viser.ViserServer):
    """A step lets one step pass and no more; another press of pause lets time go on, and says so before."""
    pace = Pace(server.gui, PERIOD)
    passed: list[bool] = []
    pace.press("pause")

    def wait() -> None:
        while len(passed) < 4:
            passed.append(pace.wait())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.4)
    assert passed == []
    assert pace._buttons.options == ("go on", "step", "reset")
    pace.press("step")
    time.sleep(0.4)
    assert passed == [False]
    pace.press("go on")
    thread.join(10)
    assert passed == [False] * 4
    assert pace._buttons.options == ("pause", "step", "reset")


def test_reset_is_told_once_and_leaves_a_pause_as_it_is(server: viser.ViserServer):
    """All episodes begin anew, and stand still if the simulation did."""
    pace = Pace(server.gui, PERIOD)
    pace.press("reset")
    assert [pace.wait(), pace.wait()] == [True, False]
    pace.press("pause")
    pace.press("reset")
    assert pace.wait()
    assert pace._paused


def test_a_page_that_somebody_else_drives_has_no_buttons(server: viser.ViserServer):
    """It goes in real time."""
    pace: Any = Pace(server.gui, PERIOD, shown=False)
    assert (pace._buttons.visible, pace._speed.visible) == (False, False)

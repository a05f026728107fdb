"""What a person's keys, sticks and buttons mean: from what is held on the page to an action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.errors import SimError
from pipeline.types import F32
from sim.control.controller import Controller, Move

Command = Literal["start", "keep", "discard", "gripper"]
KEYS: dict[str, tuple[Move, float]] = {
    "KeyW": ("ahead", 1.0),
    "KeyS": ("ahead", -1.0),
    "KeyA": ("left", 1.0),
    "KeyD": ("left", -1.0),
    "KeyE": ("up", 1.0),
    "KeyQ": ("up", -1.0),
    "KeyJ": ("yaw", 1.0),
    "KeyL": ("yaw", -1.0),
    "KeyI": ("pitch", 1.0),
    "KeyK": ("pitch", -1.0),
    "KeyU": ("roll", -1.0),
    "KeyO": ("roll", 1.0),
    "ArrowUp": ("forward", 1.0),
    "ArrowDown": ("forward", -1.0),
    "ArrowLeft": ("turn", 1.0),
    "ArrowRight": ("turn", -1.0),
}
"""By the key's place on the keyboard, whatever is printed on it."""
STICKS: dict[int, tuple[Move, float]] = {0: ("left", -1.0), 1: ("ahead", -1.0), 2: ("yaw", -1.0), 3: ("up", -1.0)}
"""Axes of the browser's standard gamepad: right and down are 1."""
PADS: dict[int, tuple[Move, float]] = {
    4: ("roll", -1.0),
    5: ("roll", 1.0),
    6: ("pitch", -1.0),
    7: ("pitch", 1.0),
    12: ("forward", 1.0),
    13: ("forward", -1.0),
    14: ("turn", 1.0),
    15: ("turn", -1.0),
}
"""Its buttons: shoulders, triggers and the cross."""
NAMES: dict[Move, tuple[str, str]] = {
    "ahead": ("away", "nearer"),
    "left": ("left", "right"),
    "up": ("up", "down"),
    "roll": ("roll right", "roll left"),
    "pitch": ("pitch down", "pitch up"),
    "yaw": ("turn left", "turn right"),
    "forward": ("forward", "back"),
    "turn": ("wheels left", "wheels right"),
}
"""Of each move, and of the opposite one."""
DEAD = 0.12
"""A stick that is let go is rarely at 0."""


class Held(BaseModel):
    """What a person holds, as the page says it.

    Attributes:
        keys: Keys of the keyboard, or buttons of the page that stand for them.
        axes: Axes of the gamepad.
        buttons: Buttons of the gamepad, how far they are pressed.
        speed: Share of the fastest.
        command: What was clicked since the last message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    keys: Annotated[tuple[Annotated[str, StringConstraints(max_length=32)], ...], Field(max_length=32)] = ()
    axes: Annotated[tuple[Annotated[float, Field(ge=-10, le=10)], ...], Field(max_length=16)] = ()
    buttons: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(max_length=32)] = ()
    speed: Annotated[float, Field(ge=0, le=1)] = 0.3
    command: Command | None = None


NOTHING = Held()


def moves(held: Held) -> dict[Move, float]:
    """How much of each move is asked for, -1 to 1, whatever the robot can do."""
    total = dict.fromkeys(NAMES, 0.0)
    for key in set(held.keys) & KEYS.keys():
        move, sign = KEYS[key]
        total[move] += sign
    for values, meanings in ((held.axes, STICKS), (held.buttons, PADS)):
        for number, (move, sign) in meanings.items():
            if number < len(values) and abs(values[number]) > DEAD:
                total[move] += sign * values[number]
    return {move: min(max(value, -1.0), 1.0) for move, value in total.items()}


def action(held: Held, controller: Controller, *, shut: bool, view: float) -> F32:
    """The action (A,) of a controller that `moves_of` knows.

    Args:
        held: What the person holds.
        controller: Of the robot.
        shut: Whether the gripper is to be shut.
        view: Where the person looks, to the left of where the robot's base does [rad].
    """
    asked: dict[Move, float] = {move: value * held.speed for move, value in moves(held).items()}
    return controller.steer(asked, held.speed, view, shut=shut)


def moves_of(controller: Controller) -> tuple[Move, ...]:
    """The moves of a robot.

    Raises:
        SimError: When a person can't drive it.
    """
    if not controller.moves:
        raise SimError(
            "a person drives end effectors, wheels and gaits",
            found=f"{type(controller).__name__}, {controller.size} numbers an action",
            remedy="another task: --task navigate or --task put_cube_on_plate",
        )
    return controller.moves


def legend(known: Sequence[Move]) -> Mapping[str, str]:
    """What keys do, by key."""
    return {key: NAMES[move][sign < 0] for key, (move, sign) in KEYS.items() if move in known}

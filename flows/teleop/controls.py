"""What a person's keys, sticks and buttons mean: from what is held on the page to an action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.errors import SimError
from pipeline.types import F32
from sim.robots.drive import Drive, VelocityDrive
from sim.robots.hand_drive import FetchDrive, HandDrive, JointSteps

Command = Literal["start", "keep", "discard", "gripper"]
Move = Literal["ahead", "left", "up", "roll", "pitch", "yaw", "forward", "turn"]
"""The first six are the hand's: ahead and left as the viewer sees it, and turns about these; the others the wheels'."""
HAND: tuple[Move, ...] = ("ahead", "left", "up", "roll", "pitch", "yaw")
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


def action(held: Held, drive: Drive, *, shut: bool, view: float) -> F32:
    """The action (A,) of a drive that `moves_of` knows.

    Args:
        held: What the person holds.
        drive: Of the robot.
        shut: Whether the gripper is to be shut.
        view: Where the person looks, to the left of where the robot's base does [rad].
    """
    asked = {move: value * held.speed for move, value in moves(held).items()}
    if not isinstance(drive, HandDrive):
        assert isinstance(drive, VelocityDrive)
        ahead, left = (
            min(max(asked[wheels] + asked[hand], -held.speed), held.speed)
            for wheels, hand in (("forward", "ahead"), ("turn", "left"))
        )
        return _driven(drive, ahead, left)
    cos, sin = np.cos(view), np.sin(view)
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    places, turns = np.array([asked[move] for move in HAND]).reshape(2, 3)
    six = np.concatenate([turned @ places, turned @ turns])
    hand = np.array([*six[list(drive.action.moves)], -1.0 if shut else 1.0], np.float32)
    if isinstance(drive, FetchDrive):
        return np.concatenate([_driven(drive.base, asked["forward"], asked["turn"]), hand])
    return np.clip(hand, -1, 1)


def _driven(drive: VelocityDrive, ahead: float, left: float) -> F32:
    """The action (2,) of wheels or a gait, of shares -1 to 1 of their fastest."""
    slow, fast = drive.speed
    forward = ahead * (fast if ahead > 0 else -slow)
    return drive.actions(np.array([forward]), np.array([left * drive.yaw_rate]))[0]


def moves_of(drive: Drive) -> tuple[Move, ...]:
    """The moves of a robot.

    Raises:
        SimError: When a person can't drive it.
    """
    if isinstance(drive, HandDrive) and not isinstance(drive, JointSteps):
        hand: tuple[Move, ...] = tuple(HAND[number] for number in drive.action.moves)
        return (*hand, "forward", "turn") if isinstance(drive, FetchDrive) else hand
    if isinstance(drive, VelocityDrive):
        return "forward", "turn"
    raise SimError(
        "a person drives hands, wheels and gaits",
        found=f"{type(drive).__name__}, {drive.size} numbers an action",
        remedy="a task with a robot for it: --task navigate --robot rover, or --task put_cube_on_plate --robot panda",
    )


def legend(known: Sequence[Move]) -> Mapping[str, str]:
    """What keys do, by key."""
    return {key: NAMES[move][sign < 0] for key, (move, sign) in KEYS.items() if move in known}

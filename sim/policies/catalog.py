"""Whatever drives robots, by the name that is typed: a script that knows the scene, or a policy from elsewhere."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

from pipeline.errors import SimError
from sim.drivers import DriverName, Policy, find_driver
from sim.env import Observations, SceneEnv
from sim.finding.eyes import EYES, FIND, eyes_named
from sim.policies.observed import checked, observed
from sim.sensors.ground.settings import MapSettings

NAVIGATE, FLIGHTS = "navigate", "flights"
STAIRS = "stairs"
"""The driver that finds its way over stairs, by the map that its robots make of the ground."""
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_driver(name: str) -> bool:
    """Whether it has the form of a driver's name, see `open_driver`; files and servers may be missing."""
    known = name in (*get_args(DriverName), STAIRS) or name.startswith(("ws://", "wss://")) or name.endswith(".onnx")
    return known or bool(eyes_named(name)) or Path(name).is_dir() or bool(FUNCTION.fullmatch(name))


@contextmanager
def open_driver(name: str, env: SceneEnv, seed: int, replan_steps: int = 0) -> Iterator[Policy]:
    """What drives robots, for as long as the context lasts.

    Args:
        name: A script (auto, random, still); find, or the file .npz of eyes for it; stairs; or a policy from
            elsewhere: ws://HOST:PORT of a policy server, a file .onnx, module:function, or a folder with a checkpoint
            of LeRobot's.
        env: Environment of the robots.
        seed: Seed of what is left to chance.
        replan_steps: Actions of a server's answer that are done before it is asked again; 0 for all.

    Raises:
        SimError: When there is no such driver, or it doesn't fit these robots; by the policy, too.
        MachineError: When a package that it needs is missing.
    """
    if name in get_args(DriverName):
        script = find_driver(name, env, seed)  # pyright: ignore[reportArgumentType] - one of these names
        yield lambda _: script()
        return
    with _opened(name, env, seed, replan_steps) as policy:
        yield lambda seen: checked(policy(seen), env, name)


@contextmanager
def _opened(name: str, env: SceneEnv, seed: int, replan_steps: int) -> Iterator[Callable[[Observations], object]]:
    if name.startswith(("ws://", "wss://")):
        from sim.policies.server import PolicyServer, ServedDriver

        with closing(ServedDriver(PolicyServer(name), env, replan_steps)) as served:
            yield served
    elif file := eyes_named(name):
        from sim.policies.finder import finder_with

        yield finder_with(file, env)
    elif name == STAIRS:
        from sim.policies.climber import ClimberDriver

        yield ClimberDriver(env)
    elif name.endswith(".onnx"):
        from sim.policies.onnx_file import OnnxDriver

        yield OnnxDriver(Path(name), env)
    elif Path(name).is_dir():
        from sim.policies.lerobot import LeRobotDriver

        with closing(LeRobotDriver(Path(name), env, seed)) as driver:
            yield driver
    elif FUNCTION.fullmatch(name):
        yield _function(name, env)
    else:
        raise SimError(
            "a driver is auto, random, still, find or stairs, EYES.npz, ws://HOST:PORT, FILE.onnx, module:function or "
            "a folder of LeRobot's",
            found=f"{name!r}",
            remedy="take one of these; docs/policies.md has an example of each",
        )


def task_of(driver: str | None) -> str:
    """The task that is done if none is named."""
    return FIND if driver in EYES else FLIGHTS if driver == STAIRS else NAVIGATE


def sees(driver: str | None) -> bool:
    """Whether a driver looks at what the task's cameras show; scripts don't, and stairs has a camera of its own."""
    return driver not in (*get_args(DriverName), STAIRS)


def ground_of(driver: str | None, asked: str | None = None) -> MapSettings | None:
    """How legs know the ground: as is asked for, or else by a map if the driver goes by it; None is as it is.

    Raises:
        SimError: When there is no such way.
    """
    known = {"truth": None, "map": MapSettings(), "colors": MapSettings(depth_of="colors")}
    asked = asked or ("map" if driver == STAIRS else "truth")
    if asked in known:
        return known[asked]
    if asked.endswith(".npz"):
        return MapSettings(depth_of="colors", eyes=Path(asked))
    raise SimError(
        "legs know the ground as truth, by a map of their depth camera, or by one of colors alone",
        found=f"--ground {asked}",
        remedy="truth, map, colors, or the file EYES.npz of eyes for colors",
    )


def _function(name: str, env: SceneEnv) -> Callable[[Observations], object]:
    """A function of the user's, or an object of a class of theirs; modules of the current folder are found."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SimError(
            "module:function names a function of a module that can be imported",
            found=f"{name!r}: {error}",
            remedy="start splatyard in the module's folder, or set PYTHONPATH",
        ) from error
    finally:
        sys.path.remove("")
    act = found() if isinstance(found, type) else found

    def policy(seen: Observations) -> object:
        now = observed(env, seen)
        return act({**now.named(), "begun": now.begun, "task": now.text})

    return policy

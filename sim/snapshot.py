"""Snapshots: all that an environment's future depends on, as bytes.

What changes during episodes is an array with a row per environment, held by the environment or by an object of this
package that it holds; engines save themselves, and all randomness comes from one generator.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SimError
from sim.physics.state import PhysicsEngine

FORMAT = "splatyard.sim_state"
ENGINE, ABOUT = "engine", "about"
"""Names in the file, in addition to those of the arrays, which contain a dot."""


def pack(env: object, count: int, engine: PhysicsEngine, rng: np.random.Generator, about: dict[str, Any]) -> bytes:
    """The state of an environment, as an npz file without pickles.

    Args:
        env: Environment, with all that it holds.
        count: Number of environments, N.
        engine: Its engine; saved first, since that may change what it does next.
        rng: Its random generator.
        about: Identity of the environment: names and hashes, as JSON.
    """
    world = np.frombuffer(engine.save(), np.uint8)
    arrays = {path: holder[name] for path, holder, name in _rows(env, count, engine)}
    text = json.dumps({"format": FORMAT, **about, "rng": rng.bit_generator.state})
    file = io.BytesIO()
    np.savez(file, **{ENGINE: world, ABOUT: np.frombuffer(text.encode(), np.uint8)}, **arrays)
    return file.getvalue()


def unpack(
    state: bytes, env: object, count: int, engine: PhysicsEngine, rng: np.random.Generator, about: dict[str, Any]
) -> None:
    """Go back to what `pack` returned; the arguments are the same.

    Raises:
        SimError: When it is no such state, or that of another kind of environment.
    """
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as file:
            saved = {name: file[name] for name in file.files}
        found = json.loads(saved.pop(ABOUT).tobytes())
        world, generator = saved.pop(ENGINE).tobytes(), found.pop("rng")
    except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        found = f"{type(error).__name__}: {error}"
        raise SimError("a state is what `save` returned", found=found, remedy="save it again") from error
    expected = json.loads(json.dumps({"format": FORMAT, **about}))
    holders = {path: (holder, name) for path, holder, name in _rows(env, count, engine)}
    shapes = {path: holder[name].shape for path, (holder, name) in holders.items()}
    if found != expected or {path: array.shape for path, array in saved.items()} != shapes:
        other = [name for name in expected if found.get(name) != expected[name]] or ["its settings"]
        raise SimError(
            "a state goes back into an environment like the one it comes from",
            found=f"it differs in {', '.join(other)}",
            remedy="make the environment with the same arguments",
        )
    engine.restore(world)
    rng.bit_generator.state = generator
    # new arrays, not new contents: callers may hold the old ones as observations. Two holders of one array keep one.
    replaced: dict[int, NDArray[Any]] = {}
    for path, (holder, name) in holders.items():
        holder[name] = replaced.setdefault(id(holder[name]), saved[path])


def _rows(env: object, count: int, engine: PhysicsEngine) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Path, holder and name of every array with N rows, the same order for the same kind of environment."""
    known, waiting = {id(engine)}, [("env", vars(env))]
    while waiting:
        path, parts = waiting.pop()
        for name, value in parts.items():
            below = f"{path}.{name}"
            if isinstance(value, np.ndarray):
                if value.shape[:1] == (count,) and value.dtype != object:
                    yield below, parts, name
            elif id(value) not in known:
                known.add(id(value))
                inside = _inside(value)
                if inside is not None:
                    waiting.append((below, inside))


def _inside(value: object) -> dict[str, Any] | None:
    """What one of this package's objects, or a collection of them, holds by name."""
    if isinstance(value, dict):
        return value
    if isinstance(value, tuple):
        return {str(place): part for place, part in enumerate(value)}
    return vars(value) if type(value).__module__.startswith("sim.") and hasattr(value, "__dict__") else None

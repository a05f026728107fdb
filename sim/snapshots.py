"""States of simulations as bytes: saved, and gone back to."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import SimError
from sim.physics.state import PhysicsEngine, packed
from sim.robots.model import Robot
from sim.saved import Saved, arrays_of, set_arrays_of, shapes_of, unpadded
from sim.scene.scene import SimScene
from sim.tasks.task import Task

STATE_FORMAT = "splatyard.sim_state.3"
ENGINE, ABOUT = "engine", "about"
"""Names in a saved state, in addition to those of the arrays."""


def identity(
    task: Task, robot: Robot, engine: PhysicsEngine, scenes: Sequence[SimScene], starts: str, count: int
) -> dict[str, object]:
    """What must be the same of an environment that goes back to a state."""
    return {
        "task": task.name,
        "robot": robot.name,
        "engine": type(engine).__name__,
        "starts": starts,
        "environments": count,
        "scenes": [scene.lock.sha256 for scene in scenes],
    }


@dataclass(frozen=True, eq=False)
class Snapshots:
    """States of an environment, of what says which one it is, its engine, and parts with a row per environment.

    Attributes:
        episodes: Its arrays have no part's name before theirs.
    """

    about: Mapping[str, object]
    engine: PhysicsEngine
    episodes: Saved
    parts: Mapping[str, Saved]

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays that change during episodes, the engine's apart, by their names in a state."""
        return {**self.episodes.arrays(), **arrays_of(self.parts)}

    def written(self, world: bytes, rng: np.random.Generator) -> bytes:
        """A state, with that of the engine, and with all randomness."""
        text = json.dumps({"format": STATE_FORMAT, **self.about, "rng": rng.bit_generator.state})
        about = np.frombuffer(text.encode(), np.uint8)
        return packed({ENGINE: np.frombuffer(world, np.uint8), ABOUT: about, **self.arrays()})

    def restore(self, state: bytes, rng: np.random.Generator) -> None:
        """Go back to what `written` returned.

        Raises:
            SimError: When it is no such state, or one of an environment that was made with other arguments.
        """
        own = self.arrays()
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as file:
                saved = {name: file[name] for name in file.files}
            found = json.loads(saved.pop(ABOUT).tobytes())
            world, generator = saved.pop(ENGINE).tobytes(), found.pop("rng")
            saved = unpadded(saved, own)
        except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            found = f"{type(error).__name__}: {error}"
            raise SimError("a state is what `save` returned", found=found, remedy="save it again") from error
        if found.pop("format", None) != STATE_FORMAT:
            raise SimError(
                "a state goes back into the version of splatyard that saved it",
                found=f"another format than {STATE_FORMAT!r}",
                remedy="begin new episodes; to go on with a training, start it again under another --name",
            )
        if found != self.about or shapes_of(saved) != shapes_of(own):
            other = [name for name in self.about if found.get(name) != self.about[name]] or ["its settings"]
            raise SimError(
                "a state goes back into an environment like the one it comes from",
                found=f"it differs in {', '.join(other)}",
                remedy="make the environment with the same arguments",
            )
        self.engine.restore(world)
        rng.bit_generator.state = generator
        self.episodes.set_arrays(saved)
        set_arrays_of(self.parts, saved)

"""The faults that an audit can name: what each means, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.check.quality import Gate


@dataclass(frozen=True)
class Fault:
    """A kind of fault; `least` is the least limit, below which nothing that robots do depends on it."""

    title: str
    unit: str
    least: float
    remedy: str


FAULTS: dict[str, Fault] = {
    "collider_shifted": Fault(
        "Collision mesh shifted", "m", 0.008,
        "build mesh and splat from one set of poses; for an imported scene, align the mesh again",
    ),
    "collider_turned": Fault(
        "Collision mesh turned", "degrees", 0.2,
        "build mesh and splat from one set of poses; for an imported scene, align the mesh again",
    ),
    "splat_scaled": Fault(
        "Splat of another scale", "", 0.003, "scale splat and mesh together: give the scale when building or importing"
    ),
    "floor_height": Fault(
        "Floor higher or lower than it looks", "m", 0.008, "show the floor from two sides, and build the mesh again"
    ),
    "floor_tilted": Fault(
        "Floor tilted against what it looks like", "degrees", 0.2,
        "show the floor up to all walls, and build the mesh again",
    ),
    "risers": Fault("Risers of another height", "m", 0.004, "film the steps from above and below, and build again"),
    "phantom": Fault(
        "Surface to bump into that can't be seen", "m2", 0.04,
        "film from both sides of it, or cut it out of the mesh",
    ),
    "missing_support": Fault(
        "Level surface that nothing carries", "m2", 0.04, "film it from above, or close the hole in the mesh"
    ),
    "hull": Fault(
        "Hull of an object larger than the object", "m", 0.008, "cut the object out again: splatyard bundle objects"
    ),
    "friction": Fault(
        "Friction of an area other than declared", "", 0.01, "state it in the scene card (areas), and build again"
    ),
}  # fmt: skip
"""By name, in the order in which they are looked for."""

SIGMAS = 3.0
"""What is larger than so many sigmas is no noise."""


@dataclass(frozen=True)
class Finding:
    """One measurement for one kind of fault.

    Attributes:
        name: A key of `FAULTS`.
        value: In its unit; None where it can't be told.
        how: What was measured, or why it wasn't.
        sigma: Of the value, from the bundle's own noise.
        place: (3,) where it is worst [m].
        detail: Further values, plain JSON.
    """

    name: str
    value: float | None
    how: str
    sigma: float = 0.0
    place: tuple[float, float, float] | None = None
    detail: dict[str, object] = field(default_factory=dict)

    @property
    def gate(self) -> Gate:
        """Its verdict: a fault is larger than its least limit and than three sigmas."""
        kind = FAULTS[self.name]
        limit = max(kind.least, SIGMAS * self.sigma)
        return Gate(
            name=self.name,
            title=kind.title,
            value=None if self.value is None else round(self.value, 6),
            unit=kind.unit,
            threshold=round(limit, 6),
            comparison="<=",
            applies=self.value is not None,
            how=self.how,
            detail={**self.detail, "sigma": round(self.sigma, 6), "place": self.place},
        )


def place_of(point: np.ndarray) -> tuple[float, float, float]:
    """A point (3,) as plain numbers [m], to the millimetre."""
    x, y, z = np.round(point, 3).tolist()
    return x, y, z

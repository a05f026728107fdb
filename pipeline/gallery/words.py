"""What gates and metrics mean, for people who have not read the documentation."""

from __future__ import annotations

from pipeline.check.gates import GATES
from pipeline.check.quality import Gate

MEANING = {name: kind.meaning for name, kind in GATES.items()}
"""By the gate's name."""

UNITS = {"m2": "m²", "degrees": "°"}


def metric(value: float | None, unit: str) -> str:
    """A metric with its unit, as short as it is honest."""
    if value is None:
        return "unknown"
    digits = 4 if abs(value) < 0.01 else 3 if abs(value) < 0.1 else 2
    number = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return f"{number} {UNITS.get(unit, unit)}".strip().replace(" °", "°")


def must_be(gate: Gate) -> str:
    """The threshold in words."""
    return f"at {'most' if gate.comparison == '<=' else 'least'} {metric(gate.threshold, gate.unit)}"


def counted(number: int, thing: str) -> str:
    """`1 scene`, `2 scenes`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"

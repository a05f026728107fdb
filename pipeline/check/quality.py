"""Quality: gates with metric, threshold and verdict, as they stand in quality.json."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

QUALITY_FILE = "quality.json"
UNITS = {"m2": "m²", "degrees": "°"}
SMALL = {"m": ("mm", 1e3), "m2": ("cm²", 1e4)}
"""What lengths and areas below a tenth are shown in, and how many of these one is."""


class Gate(BaseModel):
    """One measured promise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str  # identifier, as cards name it
    title: str  # what it says, for people
    value: float | None  # the measured metric; None where it could not be measured
    unit: str
    threshold: float  # what the metric is compared with
    comparison: Literal["<=", ">="]  # whether the metric must be at most or at least the threshold
    applies: bool = True  # whether it could be measured on such a capture; where it can't, `how` says why
    how: str
    detail: dict[str, object] = {}  # further metrics

    @property
    def passed(self) -> bool | None:
        """The verdict, always recomputed from the metric; None where it was not measured."""
        if not self.applies:
            return None
        if self.value is None:
            return False
        return self.value <= self.threshold if self.comparison == "<=" else self.value >= self.threshold


class Quality(BaseModel):
    """All gates of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gates: tuple[Gate, ...]  # in the order in which people want to read them
    metrics: dict[str, object] = {}  # further measurements without a threshold

    @property
    def passed(self) -> bool:
        """Whether no gate fails."""
        return all(gate.passed is not False for gate in self.gates)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the gates that fail."""
        return tuple(gate.name for gate in self.gates if gate.passed is False)

    def gate(self, name: str) -> Gate:
        """The gate of that name.

        Raises:
            KeyError: When there is none.
        """
        for gate in self.gates:
            if gate.name == name:
                return gate
        raise KeyError(f"no gate {name!r}; there are {[gate.name for gate in self.gates]}")

    def save(self, folder: Path) -> None:
        """Write `quality.json`."""
        (folder / QUALITY_FILE).write_text(self.model_dump_json(indent=1))

    @staticmethod
    def load(folder: Path) -> Quality:
        """Read what `save` wrote."""
        return Quality.model_validate_json((folder / QUALITY_FILE).read_text())


def metric_text(value: float | None, unit: str) -> str:
    """A metric with its unit and as many digits as matter."""
    if value is None:
        return "unknown"
    if unit in SMALL and 0 < abs(value) < 0.1:
        unit, factor = SMALL[unit]
        value *= factor
        digits = 1 if abs(value) < 10 else 0
    else:
        digits = 4 if abs(value) < 0.01 else 3 if abs(value) < 0.1 else 2
    number = f"{value:.{digits}f}"
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {UNITS.get(unit, unit)}".strip().replace(" °", "°")

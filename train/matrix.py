"""How policies do in scenes that they weren't trained in: runs against scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from train.results import Results
from train.statistics import Interval


@dataclass(frozen=True)
class Cell:
    """A policy in a scene.

    Attributes:
        success: Under no control.
        trained: Whether it was trained there; then it began at held-out places.
    """

    success: Interval
    trained: bool


@dataclass(frozen=True)
class Matrix:
    """Success by run and scene.

    Attributes:
        task: Of all.
        runs: Their names.
        scenes: name@version of each.
        cells: A row for each run, a column for each scene.
    """

    task: str
    runs: tuple[str, ...]
    scenes: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @staticmethod
    def of(results: Sequence[Results]) -> Matrix:
        """Of evaluations of runs with one task, all in the same scenes.

        Raises:
            ValueError: When tasks or scenes differ.
        """
        kinds = {(one.task, tuple((scene.reference, scene.sha256) for scene in one.scenes)) for one in results}
        if len(kinds) != 1:
            raise ValueError(f"evaluations of one task in the same scenes are needed, got {kinds}")
        scenes = tuple(scene.reference for scene in results[0].scenes)
        cells = tuple(
            tuple(Cell(one.evaluations[0].success(scene.reference), scene.starts == "held_out") for scene in one.scenes)
            for one in results
        )
        return Matrix(results[0].task, tuple(one.run for one in results), scenes, cells)

    def texts(self) -> list[list[str]]:
        """A row of texts for each run: its name, then its success in each scene, marked where it was trained."""
        return [
            [run, *(f"{cell.success}{' *' if cell.trained else ''}" for cell in row)]
            for run, row in zip(self.runs, self.cells, strict=True)
        ]

    def json(self) -> str:
        """For programs."""
        values: dict[str, Any] = {"schema_version": 1, **asdict(self)}
        return json.dumps(values, indent=1)

    def markdown(self) -> str:
        """A table; a star where a policy was trained."""
        head = ["run", *self.scenes]
        rows = [head, ["---"] * len(head), *self.texts()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"

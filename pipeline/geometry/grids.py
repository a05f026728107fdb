"""Grids of different sizes in one array, without padding: one doesn't make the others larger. And maps that move on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.types import F32, I64

Cell = TypeVar("Cell", bound=np.generic)


class Grids(Generic[Cell]):
    """G grids of shapes (X, Y) of their own; what a cell holds has one shape in all of them.

    `grids[g]` is grid g (X, Y), a view; `grids[g, i, j]` are the cells (...) at rows i and columns j (...) of grids
    g (...), which must lie in these.

    Attributes:
        values: (K, ...) all cells, grid by grid and row by row.
        shape: (G, 2) of the grids.
        first: (G,) where each begins in `values`.

    Raises:
        ValueError: When there are not as many cells as the shapes have.
    """

    def __init__(self, values: NDArray[Cell], shape: I64) -> None:
        sizes = shape.prod(1)
        if (shape < 0).any() or sizes.sum() != len(values):
            raise ValueError(f"grids of {sizes.sum()} cells in all, and {len(values)} cells")
        self.values, self.shape, self.first = values, shape, np.cumsum(sizes) - sizes

    @staticmethod
    def of(grids: Iterable[NDArray[Cell]]) -> Grids[Cell]:
        """Grids (X, Y, ...), at least one."""
        some = list(grids)
        shape = np.array([grid.shape[:2] for grid in some], np.int64)
        return Grids(np.concatenate([grid.reshape(-1, *grid.shape[2:]) for grid in some]), shape)

    def like(self, values: NDArray[Any]) -> Grids[Any]:
        """Grids of the same shapes with other cells (K, ...)."""
        return Grids(values, self.shape)

    def map(self, function: Callable[..., NDArray[Any]], *others: Iterable[Any]) -> Grids[Any]:
        """What a function makes of each grid, with the item of each of the others that belongs to it."""
        return Grids.of(function(*one) for one in zip(self, *others, strict=True))

    def with_grids(self, rows: I64, grids: Sequence[NDArray[Cell]]) -> Grids[Cell]:
        """Other grids in the place of those of rows (M,): these, if all keep their shape, or new ones."""
        if all(np.array_equal(self.shape[row], grid.shape[:2]) for row, grid in zip(rows, grids, strict=True)):
            for row, grid in zip(rows, grids, strict=True):
                self[row][:] = grid
            return self
        some = list(self)
        for row, grid in zip(rows, grids, strict=True):
            some[row] = grid
        return Grids.of(some)

    def __len__(self) -> int:
        return len(self.shape)

    def __iter__(self) -> Iterator[NDArray[Cell]]:
        return (self[grid] for grid in range(len(self)))

    def __getitem__(self, index: int | np.integer | tuple[Any, Any, Any]) -> NDArray[Cell]:
        if isinstance(index, tuple):
            grid, row, column = index
            return self.values[self.first[grid] + row * self.shape[grid, 1] + column]
        first, (rows, columns) = self.first[index], self.shape[index]
        cells = self.values[first : first + rows * columns]
        return cells.reshape(rows, columns, *cells.shape[1:])


def moved_on(grid: F32, rows: int, columns: int, nothing: float) -> F32:
    """A map (X, Y) that begins so many cells farther on; cells that come in are `nothing`."""
    result, (width, depth) = np.full_like(grid, nothing), grid.shape
    if abs(rows) < width and abs(columns) < depth:
        kept = grid[max(0, rows) : width + rows, max(0, columns) : depth + columns]
        result[max(0, -rows) : width - rows, max(0, -columns) : depth - columns] = kept
    return result

"""Weights of small networks that need no PyTorch: NAME.npz, and NAME.json, the card, with the hash of the weights."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import SimError
from pipeline.io.arrays import arrays_of_npz
from pipeline.io.files import read_plain, write_whole


class WeightsCard(BaseModel):
    """What is known of all weights.

    Attributes:
        sha256: Of the weights' file.
        licence: Of what they were made of.
        seed: Of the training.
        scenes: Where they were trained.
        metrics: Measured after training, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    licence: str = ""
    seed: int
    scenes: tuple[str, ...]
    metrics: dict[str, float]


Card = TypeVar("Card", bound=WeightsCard)


def read_weights(
    file: Path, kind: type[Card], needed: Sequence[str], optional: Sequence[str] = (), *, limit: int
) -> tuple[Card, dict[str, np.ndarray]]:
    """The card and the named arrays of weights, each file of at most `limit` bytes, packed or not.

    Raises:
        OSError: When a file can't be read.
        ValueError: When the files are damaged, don't belong together, or a number isn't finite.
    """
    card = kind.model_validate_json(read_plain(file.with_suffix(".json"), limit))
    if hashlib.sha256(read_plain(file, limit)).hexdigest() != card.sha256:
        raise ValueError("its hash is not that of its card")
    arrays = arrays_of_npz(file, needed, optional, limit=limit)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("a weight is not finite")
    return card, arrays


@contextmanager
def weights_errors(rule: str, remedy: str, file: Path) -> Iterator[None]:
    """Say what is wrong with weights that are read in the context.

    Raises:
        SimError: When files are missing, damaged or don't belong together.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, ValidationError) as error:
        found = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise SimError(rule, found=found, remedy=remedy, file=file) from error


def write_weights(file: Path, card: WeightsCard, arrays: Mapping[str, np.ndarray]) -> None:
    """Write weights and card, each whole or not at all; the card's hash is computed here."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    content = buffer.getvalue()
    write_whole(file, content, sync=True, alone=True)
    whole = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    write_whole(file.with_suffix(".json"), whole.model_dump_json(indent=1) + "\n", sync=True, alone=True)

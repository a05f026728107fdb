"""NumPy files from others: numbers come back, anything else doesn't."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.capture.npy import array_of_npy
from pipeline.capture.pictures import BadPictureError


def npy(values: np.ndarray, **options: bool) -> bytes:
    """As `numpy.save` writes it."""
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["<u2", "<f4", ">f8", "u1"])
def test_numbers_come_back(kind: str, rng: np.random.Generator) -> None:
    """Row by row and column by column, any byte order."""
    values = rng.integers(0, 200, (5, 7)).astype(kind)
    for order in (values, np.asfortranarray(values)):
        read = array_of_npy(npy(order))
        assert read.dtype == np.dtype(kind)
        np.testing.assert_array_equal(read, values)


def test_objects_and_broken_files_are_refused() -> None:
    """Nothing is unpickled, nothing is read beyond the end."""
    good = npy(np.ones((4, 4), np.float32))
    objects = npy(np.array([{"a": 1}], object), allow_pickle=True)
    for data in (objects, good[:-3], good[:20], b"", b"PK", npy(np.zeros((0, 3)))):
        with pytest.raises(BadPictureError):
            array_of_npy(data)


def test_many_threads_read_at_once() -> None:
    """Headers are parsed one at a time."""
    data = [npy(np.full((3, k + 1), k, np.uint16)) for k in range(200)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(array_of_npy, data))
    assert [values.shape[1] - 1 for values in read] == [int(values[0, 0]) for values in read] == list(range(200))

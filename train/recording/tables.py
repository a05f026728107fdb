"""Parquet tables of others: what a file unpacks to is compared with what it should hold before it is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.io.files import plain

if TYPE_CHECKING:
    from pyarrow import DataType
    from pyarrow.parquet import ParquetFile

NUMBER_BYTES, GROUP_BYTES = 16, 2**16
"""Most bytes of a number unpacked, with its levels, and of what else a column has in a row group."""
TEXT_BYTES = 2**24
"""Most bytes of a column of texts, unpacked; equal ones are unpacked once."""


def read_numbers(path: Path, shapes: Mapping[str, tuple[int, ...]], rows: int) -> dict[str, np.ndarray]:
    """Columns of numbers of a table that has at most that many rows, (N, *shape) by name in the file's own types.

    A row's shape is () for a number, (K,) for a list of fixed size, (H, W) for one of lists of fixed size.

    Raises:
        OSError: When it is no plain file, or damaged.
        ValueError: When it has more rows, or a column isn't of such numbers; pyarrow's errors are of this class.
        LookupError: When it has no such column.
    """
    with _opened(path, rows) as file:
        for name, shape in shapes.items():
            _check_numbers(file.schema_arrow.field(name).type, name, shape)
            numbers = file.metadata.num_rows * max(math.prod(shape), 1)
            size = NUMBER_BYTES * numbers + GROUP_BYTES * file.num_row_groups
            _check_size(file, name, numbers, size)
        table = file.read(columns=list(shapes))
    arrays = dict[str, np.ndarray]()
    for name, shape in shapes.items():
        values = table[name].combine_chunks()
        if values.null_count:
            raise ValueError(f"{name} has empty rows")
        for _ in shape:
            values = values.flatten()
        arrays[name] = values.to_numpy(zero_copy_only=False).reshape(len(table), *shape)
    return arrays


def read_texts(path: Path, number: str, text: str, rows: int) -> dict[int, str]:
    """Texts by their numbers: two columns of a table that has at most that many rows.

    Raises:
        OSError: As `read_numbers`; so are the others.
    """
    from pyarrow import types

    numbers = read_numbers(path, {number: ()}, rows)[number]
    with _opened(path, rows, [text]) as file:
        _check_size(file, text, rows, TEXT_BYTES)
        found = file.read(columns=[text])[text].combine_chunks()
    kind = found.type.value_type if types.is_dictionary(found.type) else found.type
    if kind == found.type or not (types.is_string(kind) or types.is_large_string(kind)) or found.null_count:
        raise ValueError(f"{text} is of type {found.type}")
    known = found.dictionary.to_pylist()
    return dict(zip(numbers.tolist(), [known[at] for at in found.indices.to_pylist()], strict=True))


@contextmanager
def _opened(path: Path, rows: int, texts: Sequence[str] = ()) -> Iterator[ParquetFile]:
    """A file of at most that many rows; texts are to be read once each."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(plain(path), read_dictionary=list(texts)) as file:
        groups = sum(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        if groups != file.metadata.num_rows:
            raise ValueError(f"{groups} rows instead of {file.metadata.num_rows}")
        if groups > rows:
            raise ValueError(f"{groups} rows, more than {rows}")
        yield file


def _check_numbers(kind: DataType, name: str, shape: tuple[int, ...]) -> None:
    from pyarrow import types

    inner = kind
    for size in shape:
        if not types.is_fixed_size_list(inner) or inner.list_size != size:
            raise ValueError(f"{name} is of type {kind}")
        inner = inner.value_type
    if not (types.is_floating(inner) or types.is_integer(inner) or types.is_boolean(inner)):
        raise ValueError(f"{name} is of type {kind}")


def _check_size(file: ParquetFile, name: str, values: int, size: int) -> None:
    """Check what a column's parts hold in all row groups, by what the file says of them."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    parts = [part for part in columns if part.path_in_schema == name or part.path_in_schema.startswith(f"{name}.list.")]
    if (found := sum(part.num_values for part in parts)) > values:
        raise ValueError(f"{name} has {found} numbers instead of {values}")
    if (found := sum(part.total_uncompressed_size for part in parts)) > size:
        raise ValueError(f"{name} unpacks to {found} bytes, more than {size}")

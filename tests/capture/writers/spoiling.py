"""What goes wrong with captures on their way: each function gives one that spoils a capture's folder in place."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

Spoil = Callable[[Path], object]
Rows = list[list[str]]

TEXT = b"Sorry, this file is not available any more.\n"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x02\xff"


def found(folder: Path, pattern: str) -> list[Path]:
    """Files that match, sorted; there are some."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    assert files, pattern
    return files


def content(pattern: str, data: bytes = TEXT) -> Spoil:
    """Something else under the right name."""
    return lambda folder: [file.write_bytes(data) for file in found(folder, pattern)]


def missing(pattern: str, every: int = 1) -> Spoil:
    """Each so-manieth file, from the second on, is not there."""
    return lambda folder: [file.unlink() for file in found(folder, pattern)[1::every]]


def halved(pattern: str) -> Spoil:
    """The largest file ends in its middle."""

    def spoil(folder: Path) -> None:
        file = max(found(folder, pattern), key=lambda path: path.stat().st_size)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return spoil


def resized(pattern: str, width: int, height: int) -> Spoil:
    """The second half of the images is of another device, of another size."""

    def spoil(folder: Path) -> None:
        files = found(folder, pattern)
        for file in files[len(files) // 2 :]:
            cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), (width, height)))

    return spoil


def replaced(pattern: str, old: str, new: str) -> Spoil:
    """A regular expression is replaced, once a file."""

    def spoil(folder: Path) -> None:
        for file in found(folder, pattern):
            text, count = re.subn(old, new, file.read_text(), count=1)
            assert count, file
            file.write_text(text)

    return spoil


def values(pattern: str, change: Callable[[Any, int], object]) -> Spoil:
    """JSON files that `change` (content, number of the file) has changed."""

    def spoil(folder: Path) -> None:
        for number, file in enumerate(found(folder, pattern)):
            data = json.loads(file.read_text())
            change(data, number)
            file.write_text(json.dumps(data))

    return spoil


def rows(pattern: str, change: Callable[[Rows], object], separator: str = " ", head: int = 0) -> Spoil:
    """A table whose rows, without comments and the first `head` lines, `change` has changed."""

    def spoil(folder: Path) -> None:
        for file in found(folder, pattern):
            lines = file.read_text().splitlines()
            first = [line for i, line in enumerate(lines) if i < head or line.startswith("#")]
            table = [re.split(f"{separator} *", line.strip()) for line in lines if line not in first]
            change(table)
            file.write_text("\n".join([*first, *(separator.join(row) for row in table)]) + "\n")

    return spoil


def swapped(table: Rows) -> None:
    """Time runs backwards between two rows."""
    table[4], table[5] = table[5], table[4]


def time_back(table: Rows) -> None:
    """The fifth row's time is before the first's."""
    table[4][0] = f"{float(table[0][0]) - 1}"


def later(seconds: float, units: float = 1.0) -> Callable[[Rows], None]:
    """The clock of the first column is so many seconds ahead."""

    def change(table: Rows) -> None:
        for row in table:
            ahead = round(seconds * units) + int(row[0]) if units > 1 else seconds + float(row[0])
            row[0] = f"{ahead}"

    return change


def scaled(first: int, last: int, row: int = 4) -> Callable[[Rows], None]:
    """A row's numbers from one column to another are a third larger."""

    def change(table: Rows) -> None:
        table[row][first : last + 1] = [f"{1.3 * float(value)}" for value in table[row][first : last + 1]]

    return change


def stuck(first: int, last: int) -> Callable[[Rows], None]:
    """All rows have the first one's numbers from one column to another."""

    def change(table: Rows) -> None:
        for row in table:
            row[first : last + 1] = table[0][first : last + 1]

    return change


def twice(folder: Path) -> None:
    """The capture lies next to a copy of itself."""
    inside = list(folder.iterdir())
    (folder / "first").mkdir()
    for path in inside:
        path.rename(folder / "first" / path.name)
    shutil.copytree(folder / "first", folder / "second")


def copied(name: str) -> Spoil:
    """A folder of the capture lies next to a copy of itself."""
    return lambda folder: shutil.copytree(folder / name, folder / f"copy of {name}")


def both(*spoils: Spoil) -> Spoil:
    """One after the other."""
    return lambda folder: [spoil(folder) for spoil in spoils]


def as_text(folder: Path) -> None:
    """A COLMAP model's text instead of its binary files, a line an image and none for its points."""
    import pycolmap

    model = folder / "sparse/0"
    pycolmap.Reconstruction(str(model)).write_text(str(model))
    for file in model.glob("*.bin"):
        file.unlink()


def messages(change: Callable[[str, Any, int], object]) -> Spoil:
    """A bag whose messages `change` (topic, message, number in the topic) has changed."""
    from rosbags.highlevel import AnyReader

    from tests.capture.writers.rosbag import bag_writer

    def spoil(folder: Path) -> None:
        bag = folder / "walk"
        with AnyReader([bag]) as reader:
            kept = [(c.topic, c.msgtype, at, reader.deserialize(raw, c.msgtype)) for c, at, raw in reader.messages()]
        shutil.rmtree(bag)
        counts: dict[str, int] = {}
        with bag_writer(bag, "mcap") as writer:
            for topic, kind, at, message in kept:
                counts[topic] = counts.get(topic, -1) + 1
                change(topic, message, counts[topic])
                writer.put(topic, kind, message, at * 1e-9)

    return spoil


def array(path: str, change: Callable[[Any], Any]) -> Spoil:
    """A zarr array of which `change` has made another one."""
    from pipeline.capture.bags.zarr import open_array
    from pipeline.capture.source import open_source
    from tests.capture.writers.grandtour import write_array

    def spoil(folder: Path) -> None:
        with open_source(folder) as source:
            stored = open_array(source, path).all()
        shutil.rmtree(folder / path)
        write_array(folder / path, change(stored), (3, *stored.shape[1:]))

    return spoil

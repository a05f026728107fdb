"""What happens to files on their way, drawn by hypothesis: changes to a capture's folder.

`Change("number", "metadata", 0.37, 0)` says all that is needed to do it again: `apply(folder, [Change(...)])`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "-1",
    "0",
    "1e-320",
    "300000",
    str(2**63),
    "9" * 400,
    "",
    "abc",
    "٣",
    "1,5",
)
NAMES = (
    "ünï çødé 日本.{}",
    "000000.{}",
    "-1.{}",
    "99999999999999999999.{}",
    "a b\tc\n.{}",
    "x" * 200 + ".{}",
    "{}",
    "UPPER.{}",
)
VALUES: tuple[Any, ...] = (
    None,
    [],
    {},
    "x",
    float("nan"),
    1e308,
    -1,
    0,
    True,
    2**70,
    [[]] * 3,
    "9" * 5000,
    {"a": None},
)
HUGE = (9 << 20, 300 << 20, 600 << 20)
"""Sizes that files are blown up to, with zeros."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Change:
    """One change: its name in `CHANGES`, the file, and two numbers that say where and what."""

    name: str
    file: str
    where: float
    what: int


def changes(folder: Path) -> st.SearchStrategy[list[Change]]:
    """One to three changes to a capture; of many files of a kind the first, the last and one in the middle."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        groups.setdefault((Path(name).parent.as_posix(), path.suffix), []).append(name)
    files = st.one_of([st.sampled_from([names[0], names[len(names) // 2], names[-1]]) for names in groups.values()])
    one = st.builds(Change, st.sampled_from(sorted(CHANGES)), files, st.floats(0, 1, width=16), st.integers(0, 63))
    return st.lists(one, min_size=1, max_size=3)


def apply(folder: Path, done: Sequence[Change]) -> None:
    """Do the changes; those whose file an earlier one took away do nothing."""
    for change in done:
        file = folder / change.file
        if file.is_file() and not file.is_symlink():
            CHANGES[change.name](file, change.where, change.what)


def _write(file: Path, data: bytes) -> None:
    """Replace a file, which may be a hard link to the original."""
    file.unlink()
    file.write_bytes(data)


def _place(data: Sequence[Any], where: float) -> int:
    return min(int(where * len(data)), max(len(data) - 1, 0))


def _cut(file: Path, where: float, what: int) -> None:
    data = file.read_bytes()
    _write(file, data[: _place(data, where)] if what else b"")


def _bytes(file: Path, where: float, what: int) -> None:
    data = bytearray(file.read_bytes())
    at = _place(data, where if what % 2 else where * min(1.0, 200 / max(len(data), 1)))  # half of them in the header
    data[at : at + 1 + what % 8] = (b"\xff" if what % 3 else b"\0") * (1 + what % 8)
    _write(file, bytes(data))


def _inserted(file: Path, where: float, what: int) -> None:
    data = file.read_bytes()
    at = _place(data, where)
    _write(file, data[:at] + bytes([what]) * (1 + what) + data[at:])


def _number(file: Path, where: float, what: int) -> None:
    text = file.read_bytes().decode("latin-1")
    found = list(_NUMBER.finditer(text[: 1 << 20]))
    if found:
        match = found[_place(found, where)]
        text = text[: match.start()] + NUMBERS[what % len(NUMBERS)].encode().decode("latin-1") + text[match.end() :]
        _write(file, text.encode("latin-1"))


def _lines(file: Path, where: float, what: int) -> None:
    lines = file.read_bytes().split(b"\n")
    at = _place(lines, where)
    forms: list[Callable[[], list[bytes]]] = [
        lambda: lines[:at] + lines[at + 1 :],
        lambda: lines[: at + 1] + lines[at:],
        lambda: lines[::-1],
        lambda: lines[at:] + lines[:at],
        lambda: lines[:at],
        lambda: [b""] * 50 + lines,
        lambda: [*lines[:at], lines[at] * 3, *lines[at + 1 :]],
        lambda: [b"\xef\xbb\xbf" + lines[0], *(line + b"\r" for line in lines[1:])],
    ]
    _write(file, b"\n".join(forms[what % len(forms)]()))


def _json(file: Path, where: float, what: int) -> None:
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return _lines(file, where, what)
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in entries:
            places.append((value, key))
            visit(inner)

    visit(content)
    if places:
        holder, key = places[_place(places, where)]
        if what % 4:
            holder[key] = VALUES[what % len(VALUES)]
        else:
            del holder[key]
    return _write(file, json.dumps(content).encode())


def _image_size(file: Path, where: float, what: int) -> None:
    """A PNG or JPEG whose header claims another size."""
    data = bytearray(file.read_bytes())
    side = (1, 7, 4096, 60_000, 2**31 - 1)[what % 5]
    if data[:4] == b"\x89PNG":
        data[16:20] = data[20:24] = side.to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    elif (at := data.find(b"\xff\xc0")) >= 0:
        data[at + 5 : at + 7] = data[at + 7 : at + 9] = min(side, 65535).to_bytes(2, "big")
    _write(file, bytes(data))


def _other_image(file: Path, where: float, what: int) -> None:
    """An image of another form under the same name."""
    modes = ("1", "L", "LA", "P", "RGBA", "I;16", "CMYK", "RGB")
    image = Image.new(modes[what % len(modes)], ((1, 1), (160, 120), (3, 2000))[what % 3])
    file.unlink()
    image.save(file, "TIFF" if image.mode == "CMYK" else "PNG")


def _renamed(file: Path, where: float, what: int) -> None:
    name = NAMES[what % len(NAMES)].format(file.suffix.lstrip(".") or "txt")
    target = file.with_name(name)
    if not target.exists():
        file.rename(target)


def _copied(file: Path, where: float, what: int) -> None:
    forms = (
        f"{file.stem} (1){file.suffix}",
        f"copy{file.suffix}",
        f"{file.name}.bak",
        f"0{file.name}",
        file.name.upper(),
    )
    target = file.with_name(forms[what % len(forms)])
    if not target.exists():
        shutil.copy(file, target)


def _taken_from(file: Path, where: float, what: int) -> None:
    """Has the content of another file of its folder."""
    others = sorted(path for path in file.parent.rglob("*") if path.is_file() and not path.is_symlink())
    _write(file, others[_place(others, where)].read_bytes())


def _huge(file: Path, where: float, what: int) -> None:
    data = file.read_bytes()
    _write(file, data)
    os.truncate(file, HUGE[(0, 0, 1, 0, 0, 2)[what % 6]])


def _special(file: Path, where: float, what: int) -> None:
    """A pipe, a link to nowhere, to itself, to a device, or a folder under the file's name."""
    file.unlink()
    forms = (
        lambda: os.mkfifo(file),
        lambda: file.symlink_to("nowhere"),
        lambda: file.symlink_to(file.name),
        lambda: file.symlink_to("/dev/zero"),
        file.mkdir,
    )
    forms[what % len(forms)]()


def _moved(file: Path, where: float, what: int) -> None:
    folder = file.parent / ("inner", "ä", "__MACOSX", "masks", "images", "deep/er/and/deep/er")[what % 6]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / file.name).exists():
        file.rename(folder / file.name)


def _missing(file: Path, where: float, what: int) -> None:
    """It, or all of its kind, or its folder."""
    if what % 4 == 0:
        for other in sorted(file.parent.glob(f"*{file.suffix}")):
            if other.is_file():
                other.unlink()
    elif what % 8 == 1:
        shutil.rmtree(file.parent)
    else:
        file.unlink()


CHANGES: dict[str, Callable[[Path, float, int], object]] = {
    "missing": _missing,
    "cut": _cut,
    "bytes": _bytes,
    "inserted": _inserted,
    "number": _number,
    "lines": _lines,
    "json": _json,
    "image size": _image_size,
    "other image": _other_image,
    "renamed": _renamed,
    "copied": _copied,
    "taken from": _taken_from,
    "huge": _huge,
    "special": _special,
    "moved": _moved,
}
"""What can happen to a file."""

"""NumPy files of others: what they say of themselves is compared with their size before anything is read."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.io.arrays import BadArrayError, array_of_npy, arrays_of_npz

LIMIT = 2**20


def header(shape: tuple[int, ...], descr: str = "<f4", more: bytes = b"") -> bytes:
    """An .npy file that says it has such an array, and what really follows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + more


def npz(path: Path, members: dict[str, bytes], *, packed: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_arrays_come_back(tmp_path: Path, rng: np.random.Generator):
    """By name, in this machine's byte order, to be written to; what else there is stays unread."""
    grid, flags = rng.normal(size=(4, 7)).astype(">f8"), rng.random((4, 7)) > 0.5
    np.savez(tmp_path / "a.npz", grid=np.asfortranarray(grid), flags=flags, one=np.array(0.5), other=np.ones(9))
    arrays = arrays_of_npz(tmp_path / "a.npz", ("grid", "flags", "one"), ("absent",), limit=LIMIT)
    assert arrays.keys() == {"grid", "flags", "one"} and float(arrays["one"]) == 0.5
    np.testing.assert_array_equal(arrays["grid"], grid)
    np.testing.assert_array_equal(arrays["flags"], flags)
    assert arrays["grid"].dtype == np.float64 and arrays["flags"].dtype == bool and arrays["grid"].flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        header((10**5, 10**5, 2)),  # 74 GiB
        header((2**62, 2**62), more=bytes(64)),
        header((-2, -3), more=bytes(24)),
        header((3,), "|O", bytes(24)),
        header((1,), "|V1000000000"),
        header((3,), "<U4", bytes(48)),
        header((2, 2), more=bytes(15)),
        b"\x93NUMPY\x01\x00\x76\x27" + b"(" * 10102,
        b"PK\x03\x04",
        b"",
    ],
    ids=["74 GiB", "overflow", "negative", "objects", "void", "text", "truncated", "nested", "other", "empty"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_promised_and_not_there_is_refused(tmp_path: Path, content: bytes, packed: bool):
    """Before there is room made for it."""
    path = npz(tmp_path / "a.npz", {"a.npy": content}, packed=packed)
    tracemalloc.start()
    with pytest.raises(BadArrayError):
        arrays_of_npz(path, ("a",), limit=LIMIT)
    with pytest.raises(BadArrayError):
        array_of_npy(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * LIMIT


def test_a_bomb_is_refused(tmp_path: Path):
    """50 MB of zeros in 50 kB; together counts, too."""
    array = header((12_500_000,), more=bytes(50_000_000))
    path = npz(tmp_path / "a.npz", {"a.npy": array}, packed=True)
    assert path.stat().st_size < 100_000
    with pytest.raises(BadArrayError, match="are allowed"):
        arrays_of_npz(path, ("a",), limit=LIMIT)
    half = header((LIMIT // 8,), more=bytes(LIMIT // 2))
    both = npz(tmp_path / "b.npz", {"a.npy": half, "b.npy": half}, packed=True)
    with pytest.raises(BadArrayError, match="are allowed"):
        arrays_of_npz(both, ("a", "b"), limit=LIMIT)


def test_a_damaged_archive_is_refused(tmp_path: Path, rng: np.random.Generator):
    """Wherever a byte is another one: what is read is what was written, or nothing."""
    values = rng.normal(size=30)
    np.savez_compressed(tmp_path / "a.npz", a=values)
    good = (tmp_path / "a.npz").read_bytes()
    for place in range(0, len(good), 3):
        (tmp_path / "b.npz").write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        try:
            read = arrays_of_npz(tmp_path / "b.npz", ("a",), limit=LIMIT)
        except BadArrayError:
            continue
        np.testing.assert_array_equal(read["a"], values)

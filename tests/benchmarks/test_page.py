"""Pages of benchmarks, and their index."""

from __future__ import annotations

from pathlib import Path

from benchmarks.page import INDEX, Row, section, update_page


def test_pages_are_written_and_counted(tmp_path: Path):
    """Those that are given; the index lists all, with how many bars each reaches."""
    rows = [Row("a", 1, "m", "<=", 2), Row("b", 3, "m", "<=", 2), Row("c", 5, "s")]
    update_page({"hall, AVX2": section("hall, AVX2", "make bench", "About.", rows)}, tmp_path)
    update_page({"Long: walks": section("Long: walks", "make long", "About.", rows[2:])}, tmp_path)
    page = (tmp_path / "hall-avx2.md").read_text()
    assert page.startswith("# hall, AVX2\n\nAbout. `make bench`\n\n| metric |")
    assert "| b | 3 m | ≤ 2 m | **not reached** |" in page
    assert (tmp_path / INDEX).read_text().splitlines()[-2:] == [
        "| [hall, AVX2](hall-avx2.md) | 1 | 1 |",
        "| [Long: walks](long-walks.md) |  |  |",
    ]

"""What the readers of finished poses share."""

from __future__ import annotations

import time

from pipeline.capture.reconstructions.posed import found_by_ends, plain


def test_paths_are_found_by_their_longest_ends() -> None:
    """Of two folders with equal names the one that a path names; a name alone where no folder fits."""
    listed = ["D:/scan/left/0.jpg", "D:/scan/right/0.jpg", "D:/scan/right/1.jpg"]
    names = ["photos/left/0.jpg", "photos/right/0.jpg", "photos/right/1.jpg", "small/right/1.jpg", "notes.txt"]
    assert found_by_ends(listed, names) == {
        "photos/": dict(zip(listed, names, strict=False)),
        "small/": {listed[2]: "small/right/1.jpg"},
    }
    assert found_by_ends(listed, ["0.jpg", "1.jpg"]) == {"": {listed[2]: "1.jpg"}}  # 0.jpg may be either
    assert found_by_ends(["a/0.jpg", "1.jpg"], ["a/0.jpg", "1.jpg"]) == {"": {"a/0.jpg": "a/0.jpg", "1.jpg": "1.jpg"}}
    assert found_by_ends([], names) == found_by_ends(listed, []) == {}


def test_hostile_paths_take_no_time() -> None:
    """Thousands of parts, in lists and on disk."""
    start = time.process_time()
    assert found_by_ends([f"{'a/' * 500}{i}" for i in range(2000)], ["b/" * 30_000 + "c"]) == {}
    assert time.process_time() - start < 5


def test_plain() -> None:
    """Separators of Windows, and parts that lead nowhere."""
    assert plain("D:\\scan\\.\\images\\\\0.jpg") == "D:/scan/images/0.jpg"
    assert plain("./images/0.jpg") == "images/0.jpg"

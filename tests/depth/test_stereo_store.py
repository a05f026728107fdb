"""What stereo keeps on disk."""

import numpy as np
import pytest

from pipeline.depth.stereo_store import StereoStore


def test_what_was_kept_is_found_again_by_another_run(tmp_path):
    """Kind and view tell arrays apart."""
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    StereoStore(tmp_path / "store").keep("matched", 3, first)
    StereoStore(tmp_path / "store").keep("matched", 4, 2 * first)
    again = StereoStore(tmp_path / "store")
    np.testing.assert_array_equal(again.load("matched", 3), first)
    np.testing.assert_array_equal(again.load("matched", 4), 2 * first)
    assert not again.has("refined", 3)


def test_a_half_written_array_does_not_count(tmp_path, monkeypatch):
    """A kill while writing leaves nothing that the next run would take."""

    def killed(file, values):
        file.write(b"half")
        raise KeyboardInterrupt

    store = StereoStore(tmp_path / "store")
    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        store.keep("matched", 3, np.zeros(4))
    assert not store.has("matched", 3)


def test_removing_leaves_nothing(tmp_path):
    """The folder goes with all that is in it."""
    store = StereoStore(tmp_path / "store")
    store.keep("matched", 0, np.zeros(4))
    store.remove()
    assert not list(tmp_path.iterdir())

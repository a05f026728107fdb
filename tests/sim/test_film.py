"""A film of what robots see."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from sim.film import ENLARGED, SHOWN, Film, tiled


def pictures(count: int, brightness: int) -> np.ndarray:
    """Of 8 x 12 pixels, each of its own grey."""
    greys = brightness + 12 * np.arange(count)
    return np.broadcast_to(greys[:, None, None, None], (count, 8, 12, 3)).astype(np.uint8)


def test_pictures_lie_in_rows():
    """Five of them in two rows of three; the last place is black."""
    page = tiled(pictures(5, 50))
    assert page.shape == (16, 36, 3)
    places = page.reshape(2, 8, 3, 12, 3).swapaxes(1, 2).reshape(6, -1)
    assert (places == np.array([50, 62, 74, 86, 98, 0])[:, None]).all()


def test_a_film_plays_as_fast_as_it_was_lived(tmp_path: Path):
    """As many pictures as steps, at their rate, enlarged; of many robots, the first."""
    film = Film(tmp_path / "new" / "film.mp4", rate=5)
    for step in range(12):
        film.look({"rgb": pictures(20, 5 * step)})
    film.close()
    with av.open(str(tmp_path / "new" / "film.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == 5
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(frames) == 12
    assert frames[0].shape == (4 * 8 * ENLARGED, 4 * 12 * ENLARGED, 3)
    for step, frame in enumerate(frames):
        places = frame.reshape(4, 8 * ENLARGED, 4, 12 * ENLARGED, 3).mean((1, 3, 4)).ravel()
        np.testing.assert_allclose(places, 5 * step + 12 * np.arange(SHOWN), atol=4)

"""A film of what robots see."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import SimError
from sim.cameras.chase import LENS
from sim.env import SceneEnv
from sim.episodes import Ending
from sim.film import ENLARGED, HOLD, PANEL, SHOWN, Film, FollowFilm, Movie, pictures_of, tiled
from sim.robots.catalog import find_robot
from sim.scene import SimScene
from sim.tasks.navigate import NAVIGATE


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
        film.look({"rgb": pictures(20, 5 * step)}, {})
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


def frames_of(path: Path) -> tuple[list[np.ndarray], float]:
    """All pictures (H, W, 3) of a film, and how many there are a second."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)], float(stream.average_rate or 0)


@pytest.fixture
def env(room_scene: SimScene):
    """Two robots in the room."""
    robot, drive = find_robot("rover")
    made = SceneEnv(NAVIGATE, [room_scene], robot, drive, 2, seed=5)
    yield made
    made.close()


def test_a_film_follows_the_first_robot(env: SceneEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a display; five pictures a step of 0.2 s, the way the robot goes, beside what its camera saw."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    seen, _ = env.reset(seed=5)
    first = seen["rgb"][0].astype(int)
    film = FollowFilm(env, tmp_path / "film.mp4", "a test")
    film.look(seen, {})
    for _ in range(2):
        seen, *_ = env.step(np.array([[0.2, 0.5], [-1.0, -1.0]], np.float32))
        film.look(seen, {1: Ending("crash", False)})  # not the one that is followed
    film.close()
    frames, rate = frames_of(tmp_path / "film.mp4")
    assert rate == 25
    assert len(frames) == 2 * 5
    assert frames[0].shape == (LENS.height, LENS.width + PANEL, 3)
    height, width = first.shape[:2]
    beside = frames[0][: height * PANEL // width, LENS.width :]
    small = beside.reshape(height, PANEL // width, width, PANEL // width, 3).mean((1, 3))
    assert np.abs(small - first).mean() < 6
    assert np.abs(small - seen["rgb"][0]).mean() > 12
    views = [frame[:, : LENS.width].astype(int) for frame in frames]
    assert all(np.abs(one - other).mean() > 0.5 for one, other in pairwise(views))


@pytest.mark.parametrize(("by", "channel"), [("goal", 1), ("crash", 0)])
def test_a_film_says_how_an_episode_ended(env: SceneEnv, tmp_path: Path, by: str, channel: int):
    """The last place is held for a second, the outcome in green or red; the next episode is filmed from its start."""
    seen, _ = env.reset(seed=5)
    film = FollowFilm(env, tmp_path / "film.mp4", "a test")
    film.look(seen, {})
    seen, _ = env.reset(seed=8)
    film.look(seen, {0: Ending(by, channel == 1)})
    fresh = FollowFilm(env, tmp_path / "fresh.mp4", "a test")
    fresh.look(seen, {})
    seen, *_ = env.step(np.zeros((2, 2), np.float32))
    for one in (film, fresh):
        one.look(seen, {})
        one.close()
    (frames, rate), (anew, _) = (frames_of(tmp_path / name) for name in ("film.mp4", "fresh.mp4"))
    assert len(frames) == HOLD * rate + 5
    for number, there in ((0, True), (-1, False)):
        text = frames[number][300:, LENS.width :].astype(int)
        colored = text[..., channel] > np.delete(text, channel, 2).max(-1) + 50
        assert (colored.sum() > 20) == there
    views = [frame[:, : LENS.width].astype(int) for frame in (frames[-5], anew[0], frames[0])]
    assert np.abs(views[0] - views[1]).mean() < 6
    assert np.abs(views[0] - views[2]).mean() > 20


def test_depths_are_shown_in_grey():
    """Near things bright, what is unknown black; colours come first, and the blind have nothing to show."""
    depth = np.array([[[0.0, 1.0], [2.5, 9.0]]], np.float32)
    shown = pictures_of({"velocity": np.zeros((1, 3), np.float32), "depth": depth})
    assert shown is not None
    assert shown.shape == (1, 2, 2, 3)
    assert shown[0, ..., 0].tolist() == [[0, 204], [127, 0]]
    rgb = pictures(1, 50)
    assert pictures_of({"depth": depth, "rgb": rgb}) is rgb
    assert pictures_of({"velocity": np.zeros((1, 3), np.float32)}) is None


def test_a_film_is_an_mp4(tmp_path: Path):
    """Anything else is refused, with a name that would do."""
    with pytest.raises(SimError, match=r"out\.mp4"):
        Movie(tmp_path / "out.gif", 5)

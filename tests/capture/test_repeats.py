"""Copies, bursts and photos from one spot are left out; photos of a walk never are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.capture.repeats import Shot, find_repeats, shot_of
from pipeline.geometry import Pose, matrix_from_rotvec
from tests.paths import FOX, REDKITCHEN, needs_real
from tests.synthetic import CAMERA, Room, look_at, walk

STAND = look_at(np.array([2.6, 0.9, 1.3]), np.array([1.2, 2.2, 0.7]), roll_deg=4)
Take = Callable[..., Shot]


@pytest.fixture
def take(room: Room, tmp_path: Path) -> Take:
    """A function that takes a photo: a turn [deg] and a step to the right [m] away from where one stands."""
    rng = np.random.default_rng(5)

    def run(
        file: str,
        *,
        turn: float = 0.0,
        step: float = 0.0,
        time: float | None = None,
        camera: str = "A",
        blur: float = 0,
    ) -> Shot:
        turned = STAND.rotation @ matrix_from_rotvec(np.deg2rad([0.3 * turn, turn, 0.0]))
        pose = Pose(turned, STAND.translation + step * STAND.rotation[:, 0])
        rgb = room.render(CAMERA, pose)[0] + rng.normal(0, 2, (CAMERA.height, CAMERA.width, 3))
        image = Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
        image.save(tmp_path / file, quality=95)
        return shot_of(Image.open(tmp_path / file), file, tmp_path / file, camera, time)

    return run


def test_the_sharpest_of_a_burst_stays(take: Take) -> None:
    """Hands tremble by half a degree within a second; what lies later or is another camera's stays."""
    shots = [
        take("0.jpg", time=10.0, blur=0.8),
        take("1.jpg", time=10.2, turn=0.4),
        take("2.jpg", time=10.4, turn=-0.5, blur=1.2),
        take("3.jpg", time=11.5, turn=0.5),
        take("4.jpg", time=10.3, turn=0.3, camera="B"),
    ]
    reason = "of one burst with a sharper one: 1.jpg"
    assert find_repeats(shots) == {0: reason, 2: reason}


def test_steps_within_a_second_stay(take: Take) -> None:
    """Two centimetres to the side move the picture by as little as trembling does, but show depth."""
    assert find_repeats([take(f"{i}.jpg", time=10 + 0.2 * i, step=0.02 * i) for i in range(4)]) == {}


@pytest.mark.parametrize(
    ("names", "burst"),
    [
        (("IMG_1_BURST001.jpg", "IMG_1_BURST002.jpg"), True),
        (("0IMG_0_BURST20240229120000123_COVER.jpg", "1IMG_1_BURST20240229120000123.jpg"), True),
        (("IMG_1_BURST001.jpg", "IMG_2_BURST002.jpg"), False),
        (("IMG_1.jpg", "IMG_2.jpg"), False),
    ],
)
def test_names_tell_bursts_without_times(take: Take, names: tuple[str, str], burst: bool) -> None:
    """The same stamp of time, or the same name before the word."""
    shots = [take(names[0], blur=0.5), take(names[1], turn=0.4)]
    assert list(find_repeats(shots)) == ([0] if burst else [])


def test_from_one_spot(take: Take) -> None:
    """From a tripod one photo stays whenever it was taken; a thousandth of a turn more is another photo."""
    shots = [take("0.jpg", time=0.0), take("1.jpg", time=900.0, blur=0.6), take("2.jpg", turn=0.5, time=1800.0)]
    assert find_repeats(shots) == {1: "shows the same as another: 0.jpg"}


def test_copies_under_other_names(take: Take, tmp_path: Path) -> None:
    """Of equal pixels the shorter name stays, of a smaller copy that lost its EXIF the original."""
    original = take("b.jpg", camera="A")
    twin = shot_of(Image.open(original.picture), "b (1).jpg", original.picture, "A", None)
    assert find_repeats([twin, original]) == {0: "the same picture as another: b.jpg"}
    shots = []
    for file, size, quality, camera in (("sent.jpg", (640, 480), 60, ""), ("whole.jpg", (960, 720), 95, "A")):
        Image.open(original.picture).resize(size, Image.Resampling.BICUBIC).save(tmp_path / file, quality=quality)
        shots.append(shot_of(Image.open(tmp_path / file), file, tmp_path / file, camera, None))
    assert find_repeats([*shots, take("c.jpg", step=0.2)]) == {0: "shows the same as another: whole.jpg"}


def test_a_walk_stays_whole(room: Room, tmp_path: Path) -> None:
    """Even of a slow one, whose photos lie two in a second and 3 cm apart."""
    shots = []
    for i, pose in enumerate(walk(200)[:8]):
        path = tmp_path / f"{i}.png"
        Image.fromarray(room.render(CAMERA, pose)[0]).save(path)
        shots.append(shot_of(Image.open(path), path.name, path, "A", 0.5 * i))
    assert find_repeats(shots) == {}


@needs_real
@pytest.mark.real
@pytest.mark.parametrize(("files", "most"), [(FOX.glob("*.jpg"), 0), (REDKITCHEN.glob("*.color.jpg"), 4)])
def test_real_walks_stay_even_as_if_taken_at_once(files: list[Path], most: int) -> None:
    """All of 50 photos of a walk; of a depth camera's 200 pictures those between which it only turned may go."""
    shots = [shot_of(Image.open(file), file.name, file, "A", 0.0) for file in sorted(files)]
    assert len(shots) >= 50
    assert len(find_repeats(shots)) <= most

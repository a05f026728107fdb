"""Scale and up from positions by satellites: right, and as sure as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.align.gps import GpsFit, fit_gps
from pipeline.capture.model import Capture, Frame
from pipeline.geometry import Camera, Pose, Similarity, matrix_from_rotvec
from pipeline.poses.scene import View

SCENE_FROM_EARTH = Similarity(0.37, matrix_from_rotvec([0.9, -0.5, 0.3]), [2.0, 1.0, -3.0])
CAMERA = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)


def flight(seed: int, size: float, sigma: tuple[float, float], wrong: int = 0) -> GpsFit:
    """A grid of 5 x 6 photos over `size` by 0.7 `size` [m], with noise, and drift of 0.35 sigma RMS an axis."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.linspace(0, size, 6), np.linspace(0, 0.7 * size, 5)), -1).reshape(-1, 2)
    truth = np.column_stack([grid, 30 + rng.normal(0, 0.05 * size, len(grid))])
    steps = np.linspace(-(3**0.5), 3**0.5, len(grid))[:, None] * rng.normal(size=3)
    spread = np.array([sigma[0], sigma[0], sigma[1]])
    measured = truth + spread * (0.25 * rng.normal(size=truth.shape) + 0.35 * steps)
    measured[rng.permutation(len(grid))[:wrong]] += [5 * size, -9 * size, size]
    frames, views = [], []
    for number, (at, gps) in enumerate(zip(truth, measured, strict=True)):
        frames.append(Frame(f"{number}.jpg", "", CAMERA, "exif", gps=gps - measured.mean(0), gps_sigma=sigma))
        pose = Pose(np.eye(3), SCENE_FROM_EARTH.apply(at[None])[0])
        views.append(View(f"{number}.jpg", "", CAMERA, pose, False))
    return fit_gps(Capture(Path(), "photos", tuple(frames), False), views)


def offs(fit: GpsFit) -> tuple[float, float]:
    """Errors of scale and up in sigmas."""
    assert fit.scale is not None
    assert fit.scale.sigma is not None
    assert fit.up is not None
    up = SCENE_FROM_EARTH.rotation @ [0, 0, 1.0]
    tilt = np.rad2deg(np.arccos(np.clip(fit.up.up @ up, -1, 1)))
    return np.log(fit.scale.value * SCENE_FROM_EARTH.scale) / fit.scale.sigma, tilt / fit.up.sigma_deg


@pytest.mark.parametrize(("sigma", "size"), [((3.0, 5.0), 90.0), ((0.015, 0.03), 20.0)])
def test_sigmas_are_honest(sigma: tuple[float, float], size: float) -> None:
    """Over 60 flights with noise and drift, of plain receivers and of RTK."""
    found = np.array([offs(flight(seed, size, sigma)) for seed in range(60)])
    assert 0.3 < np.sqrt((found[:, 0] ** 2).mean()) < 1.3
    assert 0.3 < np.sqrt((found[:, 1] ** 2).mean() / 2) < 1.3  # a tilt has two axes
    assert np.abs(found).max() < 4


def test_north_is_where_the_flight_says() -> None:
    """Within a few degrees, in the scene's frame."""
    north = flight(0, 90.0, (3.0, 5.0)).north
    assert north is not None
    assert north @ SCENE_FROM_EARTH.rotation @ [0, 1.0, 0] > np.cos(np.deg2rad(5))


def test_sigmas_of_videos_are_honest() -> None:
    """A walk of 100 s round a yard of 40 m, three positions a second, whose errors change in half a minute."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        times = np.arange(300) / 3
        angle = 2 * np.pi * times / times[-1]
        truth = np.column_stack([20 * np.cos(angle), 14 * np.sin(angle), 0.4 * np.sin(3 * angle)])
        error, sigma = rng.normal(0, [3.0, 3.0, 5.0]), np.array([3.0, 3.0, 5.0])
        measured = []
        for at in truth:
            measured.append(at + error)
            error = error * np.exp(-1 / 90) + sigma * rng.normal(0, (1 - np.exp(-2 / 90)) ** 0.5, 3)
        named = [f"{number}.jpg" for number in range(len(times))]
        rows = list(zip(named, measured, times, truth, strict=True))
        frames = [Frame(n, "", CAMERA, "guessed", time=t, gps=gps, gps_sigma=(3.0, 5.0)) for n, gps, t, _ in rows]
        poses = [Pose(np.eye(3), SCENE_FROM_EARTH.apply(at[None])[0]) for *_, at in rows]
        views = [View(name, "", CAMERA, pose, False) for name, pose in zip(named, poses, strict=True)]
        scale = fit_gps(Capture(Path(), "video", tuple(frames), True), views).scale
        assert scale is not None
        assert scale.sigma is not None
        found.append(np.log(scale.value * SCENE_FROM_EARTH.scale) / scale.sigma)
    assert 0.3 < np.sqrt(np.mean(np.square(found))) < 1.3


def test_wrong_positions_are_left_out() -> None:
    """Three of thirty, kilometres away."""
    assert max(map(abs, offs(flight(0, 90, (3.0, 5.0), wrong=3)))) < 3


def test_a_room_is_too_small() -> None:
    """Positions of phones indoors say nothing; nor do a few photos."""
    assert flight(1, 4, (3.0, 5.0)) == GpsFit()
    fit = fit_gps(Capture(Path(), "photos", (), False), [])
    assert fit == GpsFit()

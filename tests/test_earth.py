"""Places on the Earth, against points in Earth-centred coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bundle.params import OnEarth
from pipeline.bundle.stage import earth_by_gps, earth_of
from pipeline.capture.metadata import GpsPosition, from_middle, location_of
from pipeline.capture.model import Capture, Frame
from pipeline.earth import ECCENTRICITY, EQUATOR, Earth
from pipeline.errors import CardError
from pipeline.geometry import Pose
from pipeline.poses.scene import View
from pipeline.types import F64
from tests.synthetic import CAMERA

HERE = Earth(latitude_deg=47.3, longitude_deg=179.9999, altitude_m=400.0, heading_deg=110.0)


def centred(earth: Earth) -> F64:
    """From the Earth's middle [m]: the closed formula of the ellipsoid."""
    latitude, longitude = np.deg2rad([earth.latitude_deg, earth.longitude_deg])
    height = earth.altitude_m or 0.0
    radius = EQUATOR / np.sqrt(1 - (ECCENTRICITY * np.sin(latitude)) ** 2)
    level = (radius + height) * np.cos(latitude)
    axis = (radius * (1 - ECCENTRICITY**2) + height) * np.sin(latitude)
    return np.array([level * np.cos(longitude), level * np.sin(longitude), axis])


def test_headings_run_from_north_clockwise():
    """An x axis to the east has north on its left."""
    east = HERE.model_copy(update={"heading_deg": 90.0})
    assert east.north == pytest.approx((0, 1, 0), abs=1e-12)
    moved = east.moved((0, 300.0, -5.0), 20.0)
    assert moved.latitude_deg > east.latitude_deg
    assert moved.altitude_m == 395.0
    assert moved.heading_deg == pytest.approx(70)
    beyond = east.moved((300.0, 0, 0), 0.0)
    assert -180 <= beyond.longitude_deg < -179.99


@given(st.floats(-60, 60), st.floats(-180, 180), st.tuples(*[st.floats(-150, 150)] * 2, st.floats(-30, 30)))
def test_metres_are_metres(latitude: float, heading: float, shift: tuple[float, float, float]):
    """Both along the ground and as seen from north, by the ellipsoid's own points."""
    start = Earth(latitude_deg=latitude, longitude_deg=8.0, altitude_m=100.0, heading_deg=heading)
    there = start.moved(shift, 33.0)
    gone = centred(there) - centred(start)
    assert np.linalg.norm(gone) == pytest.approx(np.linalg.norm(shift), abs=0.01)
    to_north = centred(start.moved([10.0 * part for part in start.north], 0.0)) - centred(start)
    assert gone @ to_north / 10 == pytest.approx(np.dot(shift, start.north), abs=0.02)


def view(name: str, heading: float, down: float, position: tuple[float, float, float]) -> View:
    """A camera that looks that far from the world's y axis, clockwise [deg], and that far down."""
    a, d = np.deg2rad([heading, down])
    ahead = np.array([np.sin(a) * np.cos(d), np.cos(a) * np.cos(d), -np.sin(d)])
    right = np.array([np.cos(a), -np.sin(a), 0.0])
    pose = Pose(np.stack([right, np.cross(ahead, right), ahead], 1), np.array(position))
    return View(name, name, CAMERA, pose, held_out=False)


def test_one_image_places_the_scene():
    """Its position and heading, however it is tilted; the frame's y axis is north here, turned by 25 degrees."""
    views = [view("0001.jpg", 10.0, 5.0, (1, 2, 3)), view("0002.jpg", -60.0, 30.0, (-40.0, 7.0, 1.5))]
    true = Earth(latitude_deg=-33.0, longitude_deg=151.0, altitude_m=20.0, heading_deg=115.0)  # y looks to 25
    camera = true.moved(views[1].world_from_camera.translation.tolist(), 0.0)
    for name in ("0002", "0002.jpg"):
        said = OnEarth(**camera.model_dump() | {"heading_deg": 25.0 - 60.0}, image=name)
        found = earth_of(said, views)
        assert found.model_dump() == pytest.approx(true.model_dump(), abs=1e-9)
    assert earth_of(OnEarth(**true.model_dump()), views) == true


@pytest.mark.parametrize(("image", "found"), [("0003", "no keyframe"), ("0002", "looks down")])
def test_an_image_must_tell_where_it_looks(image: str, found: str):
    """Of those that are there."""
    views = [view("0001.jpg", 0, 0, (0, 0, 0)), view("0002.jpg", 0, 85.0, (0, 0, 0))]
    with pytest.raises(CardError) as error:
        earth_of(OnEarth(**HERE.model_dump(), image=image), views)
    assert found in error.value.found


@pytest.mark.parametrize("kept", [True, False])
def test_photos_positions_place_the_scene(kept: bool, rng: np.random.Generator):
    """As surely as they say, over the date line; and only where the location may be kept."""
    true = HERE.model_copy(update={"heading_deg": -70.0})
    at = rng.uniform([-40, -30, 0], [60, 30, 20], (40, 3))
    placed = [true.moved(one.tolist(), 0.0) for one in at]
    measured = np.array([[one.latitude_deg, one.longitude_deg, one.altitude_m] for one in placed])
    measured += rng.normal(size=measured.shape) * [2e-6, 3e-6, 0.3]
    positions: list[GpsPosition] = [(one[0], one[1], one[2]) for one in measured.tolist()]
    views = [view(f"{n}.jpg", 9.0 * n, 5.0, (x, y, z)) for n, (x, y, z) in enumerate(at.tolist())]
    frames = [
        Frame(one.name, "", CAMERA, "exif", gps=metres, gps_sigma=(0.5, 1.0))
        for one, metres in zip(views, from_middle(positions), strict=True)
    ]
    capture = Capture(Path(), "photos", tuple(frames), False, location=location_of(positions) if kept else None)
    found = earth_by_gps(capture, views)
    if not kept:
        assert found is None
        return
    assert found is not None
    assert found.position_sigma_m == pytest.approx(0.5, abs=0.05)
    assert np.linalg.norm(centred(found) - centred(true)) < 1.0
    turned = (found.heading_deg - true.heading_deg + 180) % 360 - 180
    assert found.heading_sigma_deg is not None
    assert abs(turned) < 3 * found.heading_sigma_deg < 3.0
    assert earth_by_gps(capture, views[:5]) is None

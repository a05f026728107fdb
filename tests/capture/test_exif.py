"""What photos say of themselves: camera, time, place. Focal lengths are tested with the pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.capture.exif import Exif, exif_of, location_of
from tests.capture.conftest import asymmetric
from tests.capture.test_pictures import encoded, with_tags

MAKE, MODEL, LENS, FOCAL, EQUIVALENT, ZOOM = 0x010F, 0x0110, 0xA434, 0x920A, 0xA405, 0xA404
TAKEN, FRACTION = 0x9003, 0x9291


def read(tags: dict[int, object], camera: dict[int, object], gps: dict[int, object] | None = None) -> Exif:
    """As a photo with these tags is read."""
    exif = with_tags(tags, camera)
    exif.get_ifd(0x8825).update(gps or {})
    return exif_of(Image.open(io.BytesIO(encoded(asymmetric(), "JPEG", exif))))


@pytest.mark.parametrize(
    ("tags", "camera", "name"),
    [
        (
            {MAKE: "Apple", MODEL: "iPhone 13"},
            {LENS: "back 5.7mm", FOCAL: 5.7, EQUIVALENT: 26},
            "Apple iPhone 13 back 5.7mm",
        ),
        ({MAKE: "Canon", MODEL: "Canon EOS R6"}, {FOCAL: 35.0, EQUIVALENT: 35}, "Canon EOS R6 35 mm"),
        ({MAKE: "samsung", MODEL: "SM-G991B"}, {FOCAL: 1.84, EQUIVALENT: 13}, "samsung SM-G991B 1.8 mm"),
        ({MODEL: "Cam"}, {LENS: "zoom lens", FOCAL: 104.0}, "Cam zoom lens 100 mm"),
        ({MODEL: "Pixel 7"}, {FOCAL: 6.81, EQUIVALENT: 24, ZOOM: 2.0}, "Pixel 7 6.8 mm zoom 2"),
        ({MODEL: "  bad\x1b[31m\nname \x00"}, {}, "bad [31m name"),
        ({}, {}, ""),
    ],
)
def test_camera_by_make_model_lens_and_zoom(tags: dict[int, object], camera: dict[int, object], name: str) -> None:
    """Lenses of one phone have other names or focal lengths; nothing unprintable gets through."""
    assert read(tags, camera).camera == name


def test_time_with_its_fraction() -> None:
    """Seconds with what SubSecTime adds; a broken date is none."""
    first = read({}, {TAKEN: "2024:02:29 23:59:59", FRACTION: "045"}).taken
    second = read({}, {TAKEN: "2024:03:01 00:00:01"}).taken
    assert first is not None
    assert second is not None
    assert second - first == pytest.approx(2 - 0.045, abs=1e-6)
    assert read({}, {TAKEN: "0000:00:00 00:00:00"}).taken is None


def test_place_has_signs() -> None:
    """South and west are negative, and so is what lies below the sea."""
    gps: dict[int, object] = {1: "S", 2: (33.0, 30.0, 36.0), 3: "W", 4: (70.0, 15.0, 0.0), 5: b"\x01", 6: 12.5}
    assert read({}, {}, gps).place == pytest.approx((-33.51, -70.25, -12.5))
    assert read({}, {}, {1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}).place is None
    assert read({}, {}, {2: 7}).place is None


def test_location_is_the_median_also_across_the_date_line() -> None:
    """One photo that is far off moves nothing; the spread is in metres, altitudes that are missing don't count."""
    places = [(60.0, 179.9999, 10.0), (60.0, -179.9999, np.nan), (60.0001, 180.0, 14.0), (10.0, 20.0, 9000.0)]
    found = location_of(places)
    assert found is not None
    assert (found.latitude_deg, abs(found.longitude_deg), found.altitude_m) == (
        60.0,
        pytest.approx(180, abs=1e-4),
        14.0,
    )
    assert 5 < found.spread_m < 12
    assert found.pictures == 4
    assert location_of([]) is None

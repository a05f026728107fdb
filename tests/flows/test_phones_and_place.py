"""Photos of two phones that know where they were taken, from files to a bundle."""

from __future__ import annotations

import pytest
from PIL import Image

from pipeline import BuildRequest, Bundle, build
from tests.capture.test_images import encoded, with_tags
from tests.flows.test_end_to_end import TINY
from tests.synthetic import CAMERA, Room, walk


@pytest.mark.slow
def test_the_bundle_tells_the_place_only_in_its_manifest(room: Room, tmp_path) -> None:
    """The manifest has the median of the places; no file of work folder or bundle holds what EXIF said."""
    (tmp_path / "photos").mkdir()
    for i, pose in enumerate(walk(18)):
        exif = with_tags({0x010F: "Acme", 0x0110: f"secret {i % 2}"}, {0xA405: 26})
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 36.0 + 0.1 * i), 3: "E", 4: (18.0, 30.0, 0.0)})
        data = encoded(Image.fromarray(room.render(CAMERA, pose)[0]), "JPEG", exif, quality=95)
        (tmp_path / "photos" / f"{i:04d}.jpg").write_bytes(data)
    settings = (*TINY, "capture.keep_gps=true")
    result = build(BuildRequest(tmp_path / "photos", name="room", out=tmp_path / "out", settings=settings))
    assert result.bundle is not None
    bundle = Bundle.open(result.bundle)
    assert len(bundle.cameras) >= 16
    location = bundle.manifest.provenance.location
    assert location is not None
    assert location.latitude_deg == pytest.approx(-(33 + 30 / 60 + 36.85 / 3600))
    assert (location.longitude_deg, location.altitude_m, location.images) == (pytest.approx(18.5), None, 18)
    images = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".jpg", ".png", ".html", ".ply")]
    assert len(images) > 36
    assert not [path for path in images if b"Exif" in path.read_bytes() or b"secret" in path.read_bytes()]

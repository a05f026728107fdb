"""The sentence that tells how a build comes to its geometry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.align.params import AlignParams
from pipeline.stage import Traits
from pipeline.way import way_of

PHONE = Traits("polycam", 68, has_poses=True, has_depth=True, has_gravity=True, ordered=True, has_scale=True)
PHOTOS = Traits("photos", 50, has_poses=False, has_depth=False, has_gravity=False, ordered=False)


def test_a_phone_scan():
    """All four come from its sensors."""
    assert way_of(PHONE, {"poses": "refined", "depth": "combined", "align": "cpu"}, AlignParams()) == (
        "68 pictures of a polycam capture, the source's poses, refined on the pictures, the sensor's depth combined "
        "with stereo, gravity from the sensor, floor, walls and plumb lines, scale from the sensor"
    )


def test_pictures_that_are_listed_and_not_there_are_counted():
    """The plan says what the build will leave out."""
    way = way_of(replace(PHONE, missing=("1.jpg", "2.jpg")), {}, AlignParams())
    assert way == "68 pictures of a polycam capture (2 more are listed, but not there)"


@pytest.mark.parametrize(
    ("align", "scale"),
    [
        (
            AlignParams(),
            "scale hinted by usual sizes or assumed (its gate will fail: give --known-length or --tag-size)",
        ),
        (AlignParams(sheet="A4"), "scale from A4 sheets"),
        (AlignParams(tag_size=0.16), "scale from the tags' size"),
        (AlignParams(tag_size=0.16, camera_height=1.5), "scale from the surest of the tags' size, the camera's height"),
    ],
)
def test_photos(align, scale):
    """Nothing but pictures: what gives the scale is said."""
    way = way_of(PHOTOS, {"poses": "colmap", "depth": "mvs", "align": "cpu"}, align)
    assert (
        "poses from the pictures, depth by stereo from the pictures, gravity from floor, walls and plumb lines" in way
    )
    assert way.endswith(scale)


def test_a_build_that_ends_early_says_less():
    """Until depth: nothing of gravity."""
    way = way_of(PHONE, {"poses": "sensor", "depth": "sensor"}, AlignParams())
    assert way.endswith("the source's poses as they are, the sensor's depth")

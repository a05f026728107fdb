"""What gives the scale, also as text."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.align.params import AlignParams, KnownLength, scale_settings


def test_known_length_from_a_mapping():
    """As in a card; numbers may be text."""
    length = {"metres": "0.5", "image": "a.jpg", "a": [1, 2], "b": [3, 4]}
    assert AlignParams.model_validate({"known_length": length}).known_length == KnownLength(
        metres=0.5, image="a.jpg", a=(1.0, 2.0), b=(3.0, 4.0)
    )


def test_known_length_from_text():
    """Image names may hold spaces, colons and @."""
    assert KnownLength.model_validate("0.30@0001.jpg:412,900:655,910") == KnownLength(
        metres=0.30, image="0001.jpg", a=(412.0, 900.0), b=(655.0, 910.0)
    )
    odd = KnownLength.model_validate("1.25m@my @ photo:2.jpg: 1.5 , 2 : 3,4")
    assert (odd.metres, odd.image, odd.a, odd.b) == (1.25, "my @ photo:2.jpg", (1.5, 2.0), (3.0, 4.0))


@pytest.mark.parametrize(("text", "sheet"), [("A4 sheet", "A4"), (" a3-Paper", "A3"), ("letter sheet", "letter")])
def test_sheets_are_known_lengths(text: str, sheet: str):
    """By their format, in any case."""
    align = AlignParams.model_validate({"known_length": text})
    assert (align.known_length, align.sheet) == (None, sheet)


def test_an_image_may_be_named_like_a_sheet():
    """It is no sheet then."""
    align = AlignParams.model_validate({"known_length": "0.30@A4 sheet:1,2:3,4"})
    assert align.sheet is None
    assert align.known_length is not None


@pytest.mark.parametrize(
    "text", ["A7 sheet", "sheet", "A4", "0.3", "0.3@a.jpg", "0.3@a.jpg:1,2", "x@a.jpg:1,2:3,4"]
)  # fmt: skip
def test_malformed_known_lengths_show_the_form(text: str):
    """With an example and the formats of sheets."""
    with pytest.raises(ValidationError, match=r"0\.30@0001\.jpg:412,900:655,910.*A4 sheet"):
        AlignParams.model_validate({"known_length": text})


@pytest.mark.parametrize(
    "text", ["-1@a.jpg:1,2:3,4", "0@a.jpg:1,2:3,4", "1@a.jpg:1,2:1,2", "1.2.3@a.jpg:1,2:3,4", "1e999@a.jpg:1,2:3,4"]
)
def test_impossible_known_lengths_are_refused(text: str):
    """Lengths that are not positive and finite, and two equal pixels."""
    with pytest.raises(ValidationError, match="known_length"):
        AlignParams.model_validate({"known_length": text})


def test_a_scale_on_the_command_line_replaces_the_cards():
    """All sources are reset first; without any, nothing is."""
    assert scale_settings(known_length=None, tag_size=None) == ()
    settings = scale_settings(known_length=None, tag_size=0.16)
    assert settings[-1] == "align.tag_size=0.16"
    assert "align.known_length=null" in settings
    assert "align.camera_height_sigma=null" in settings

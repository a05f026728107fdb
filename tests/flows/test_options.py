"""What options of several commands take."""

from __future__ import annotations

import pytest

from flows.cli.options import seconds, size


@pytest.mark.parametrize(("text", "same"), [("4G", 2**32), ("1.5g", 3 * 2**29), ("500MiB", 500 * 2**20), ("7", 7)])
def test_sizes(text, same):
    """Units are powers of 1024."""
    assert size(text) == same


@pytest.mark.parametrize("text", ["0", "-1G", "4X", "G", ""])
def test_what_is_no_size(text):
    """Is refused."""
    with pytest.raises(ValueError):
        size(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_what_is_no_time(text):
    """Is refused."""
    with pytest.raises(ValueError):
        seconds(text)

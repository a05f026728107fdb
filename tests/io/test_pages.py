"""Pages from templates."""

from __future__ import annotations

from email.message import Message

import pytest

from pipeline.io import pages


@pytest.mark.parametrize(
    ("stated", "address"),
    [
        ([], ""),
        (["Homepage, javascript:alert(1)"], ""),
        (["Documentation, https://docs.example.org", "Homepage, https://example.org/yard"], "https://example.org/yard"),
    ],
)
def test_project_address_is_what_the_package_states(monkeypatch, stated, address):
    """A web page, or none."""
    package = Message()
    for line in stated:
        package["Project-URL"] = line
    monkeypatch.setattr(pages.metadata, "metadata", lambda _name: package)
    assert pages.project_address() == address

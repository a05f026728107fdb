"""What licences allow, as far as their text tells."""

from __future__ import annotations

import re

UNSAID = {"", "-", "?", "unknown", "none", "noassertion", "n/a", "tbd", "todo"}
OPEN = re.compile(
    r"cc0(-1\.0)?|public-domain|pddl-1\.0|odc-by-1\.0|odbl-1\.0|cdla-(permissive|sharing)-\d\.\d"
    r"|cc-by(-nc)?(-sa)?-[1-4]\.\d|mit|isc|unlicense|apache-2\.0|bsd-[23]-clause"
)
"""Licences, as lower-case SPDX ids, under which anybody may pass on what was made from a capture."""


def plain_licence(text: str) -> str:
    """As it is compared: "CC BY 4.0" is "cc-by-4.0"."""
    return re.sub(r"[\s_]+", "-", text.strip().lower())


def may_be_public(text: str) -> bool:
    """Whether anybody may pass on what was made from the capture."""
    return OPEN.fullmatch(plain_licence(text)) is not None


def may_be_sold(text: str) -> bool:
    """Whether licences, joined by AND, are known to allow anybody commercial use."""
    return all(may_be_public(part) and "-nc" not in plain_licence(part) for part in text.split(" AND "))

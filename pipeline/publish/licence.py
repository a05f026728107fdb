"""What the licence of a capture allows to be done with the bundle made from it."""

from __future__ import annotations

import re

from pipeline.errors import BundleError

UNSAID = {"", "-", "?", "unknown", "none", "noassertion", "n/a", "tbd", "todo"}
OPEN = re.compile(
    r"cc0(-1\.0)?|public-domain|pddl-1\.0|odc-by-1\.0|odbl-1\.0|cdla-(permissive|sharing)-\d\.\d"
    r"|cc-by(-nc)?(-sa)?-[1-4]\.\d|mit|isc|unlicense|apache-2\.0|bsd-[23]-clause"
)
"""Licences, as lower-case SPDX ids, under which anybody may pass on what was made from a capture."""
NO_DERIVATIVES = re.compile(r"cc-by(-nc)?-nd\b.*|.*no[ -]?deriv.*")


def plain_licence(text: str) -> str:
    """As it is compared: "CC BY 4.0" is "cc-by-4.0"."""
    return re.sub(r"[\s_]+", "-", text.strip().lower())


def may_be_public(text: str) -> bool:
    """Whether anybody may pass on what was made from the capture."""
    return OPEN.fullmatch(plain_licence(text)) is not None


def check_licence(text: str, *, public: bool) -> None:
    """That a bundle may be published.

    Args:
        text: The licence of its capture: an SPDX id, or a sentence.
        public: Whether anybody will be able to get it.

    Raises:
        BundleError: When it may not, and why.
    """
    licence = plain_licence(text)
    if licence in UNSAID:
        raise BundleError(
            "what is published says under which licence its capture is",
            found=f"licence {text.strip() or 'unknown'!r}",
            remedy="write source.licence into the scene card, such as CC-BY-4.0, or 'proprietary' for what stays "
            "yours, and build again with --card: only the last stage runs",
        )
    if public and not may_be_public(text):
        reason = "forbids to pass on what was made from it" if NO_DERIVATIVES.fullmatch(licence) else "isn't known to"
        reason += "" if reason.startswith("forbids") else " allow passing on what was made from it"
        raise BundleError(
            "what everybody may get has a licence that allows it",
            found=f"licence {text.strip()!r:.120}, which {reason}",
            remedy="publish it without --public, to a registry that only you and yours read; or ask whose capture it "
            "is for an open licence, such as CC-BY-4.0",
        )

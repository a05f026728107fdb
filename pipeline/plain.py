"""Text of others as a terminal and a log may have it: no escapes, no control characters, no turned directions."""

from __future__ import annotations

KEPT = "\n\t"


def plain(text: str) -> str:
    """The text with everything that isn't printable, line breaks and tabs apart, written as Python writes it."""
    if text.isprintable():
        return text
    return "".join(_plain(one) for one in text)


def _plain(one: str) -> str:
    if one.isprintable() or one in KEPT:
        return one
    return " " if one.isspace() and one > "\x7f" else one.encode("unicode_escape", "surrogatepass").decode("ascii")

"""Text of others in Markdown: viser's pages and Prefect's show raw HTML and remote images in it, so none comes through.

viser doesn't sanitise what it renders (viser/client/src/rehypeRawDom.ts), and a script there speaks as the page does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import LiteralString
from urllib.parse import quote

MARKS = re.compile(r"(?P<mark>[\\`*_{}\[\]<>&#~|!@]|:(?=//)|(?<=[wW])\.)|^(?P<list>\d*)(?=[-+=.)](?:[-= ]|$))")
"""What has a meaning in Markdown, anywhere or as a block's first letter (CommonMark 0.31, 2.4).

GitHub's tables, strikes, and bare addresses, which take backslashes that come after their begin as their own.
"""
IN_ADDRESSES = ":/?#@!$&+,;=%~"
UNBROKEN = "\N{NO-BREAK SPACE}"


class Markdown(str):
    """A text in which nothing of others is more than text; only functions below make one."""

    __slots__ = ()


def markdown(form: LiteralString, *texts: str) -> Markdown:
    """A form of our own, with other texts in place of its {}: as they are, on one line, if they are no Markdown yet."""
    return Markdown(form.format(*(text if isinstance(text, Markdown) else _shown(text) for text in texts)))


def code(text: str) -> Markdown:
    """A text as code, on one line; backslashes have no effect there, so it has no backticks, nor bars for tables."""
    return Markdown(f"`{_one_line(text).replace('`', chr(39)).replace('|', '/') or ' '}`")


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Markdown:
    """A table; columns that start with ">" are right-aligned."""
    names = [markdown("{}", column.removeprefix(">")) for column in columns]
    rules = ["---:" if column.startswith(">") else "---" for column in columns]
    cells = ([markdown("{}", cell) for cell in row] for row in rows)
    return Markdown("\n".join(f"| {' | '.join(row)} |" for row in (names, rules, *cells)))


def joined(parts: Iterable[Markdown], between: LiteralString = "\n\n") -> Markdown:
    """Parts below each other."""
    return Markdown(between.join(parts))


def target(address: str) -> Markdown:
    """Where a link of ours leads, or an image's data: without what would end it."""
    return Markdown(quote(address, safe=IN_ADDRESSES))


def _shown(text: str) -> str:
    return MARKS.sub(r"\g<list>\\\g<mark>", _one_line(text))


def _one_line(text: str) -> str:
    """Without line breaks, control characters and reversed directions; what must not be wrapped stays together."""
    return re.sub(" +", " ", "".join(one if one.isprintable() or one == UNBROKEN else " " for one in text)).strip(" ")

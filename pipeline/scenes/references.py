"""Versions of scenes and references to them: one grammar for all who name a bundle."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import BundleError
from pipeline.scenes.manifest import NAME

LATEST = "latest"
PREFIX = "registry:"
HUB = "hf://"
_NUMBER = r"(?:0|[1-9]\d{0,5})"
VERSION = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})")
RANGE = re.compile(rf"{LATEST}|\^?{_NUMBER}(?:\.{_NUMBER}){{0,2}}")
REFERENCE = re.compile(rf"(?:(?P<address>.*[^/])/)?(?P<name>{NAME})(?:@(?P<range>{RANGE.pattern}))?")

Change = Literal["major", "minor", "patch"]


@dataclass(frozen=True, order=True)
class Version:
    """major.minor.patch of a bundle."""

    major: int
    minor: int
    patch: int

    @staticmethod
    def parse(text: str) -> Version:
        """Parse "1.2.3".

        Raises:
            BundleError: When it is anything else, such as "1.2" or "01.2.3".
        """
        match = VERSION.fullmatch(text)
        if not match:
            raise BundleError(
                "a version is major.minor.patch, numbers without leading zeros",
                found=repr(text),
                remedy="such as 1.0.0: build it with another --version",
            )
        return Version(*map(int, match.groups()))

    def next(self, change: Change) -> Version:
        """The first version after this one for a change."""
        return {
            "major": Version(self.major + 1, 0, 0),
            "minor": Version(self.major, self.minor + 1, 0),
            "patch": Version(self.major, self.minor, self.patch + 1),
        }[change]

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Reference:
    """Which bundle somebody means: `[address/]name[@range]`.

    Attributes:
        address: The registry's; empty if none is named.
        name: The scene's name.
        range: "latest", a version, or a range: "1" and "1.2" are the newest that begin so, "^1.2" is the newest from
            1.2.0 on with the same major number.
    """

    address: str
    name: str
    range: str

    @staticmethod
    def parse(text: str) -> Reference:
        """Parse "hall", "hall@1", "hall@^1.2", "hall@1.2.0", "hall@latest", or these after "s3://bucket/yard/".

        Raises:
            BundleError: When it is none of these.
        """
        match = REFERENCE.fullmatch(text)
        if not match:
            raise BundleError(
                "a bundle is named by name, name@version or name@range, after the registry's address if need be",
                found=repr(text),
                remedy="such as hall, hall@1.2.0, hall@^1.2, hall@latest, registry:./yard/hall@1.2.0 or "
                "hf://owner/repository/hall; names are lower-case letters, digits, dot, dash and underscore",
            )
        return Reference(match["address"] or "", match["name"], match["range"] or LATEST)

    @property
    def exact(self) -> bool:
        """Whether it can only mean one version."""
        return VERSION.fullmatch(self.range) is not None

    def matches(self, version: Version) -> bool:
        """Whether a version lies in the range."""
        if self.range == LATEST:
            return True
        numbers = tuple(map(int, self.range.removeprefix("^").split(".")))
        given = (version.major, version.minor, version.patch)
        if self.range.startswith("^"):
            return given[0] == numbers[0] and given >= numbers
        return given[: len(numbers)] == numbers

    def newest(self, versions: Iterable[Version]) -> Version | None:
        """The newest version in the range, or None."""
        return max(filter(self.matches, versions), default=None)

    def __str__(self) -> str:
        name = f"{self.name}@{self.range}"
        return f"{self.address}/{name}" if self.address else name


def is_address(text: str) -> bool:
    """Whether a text begins as a registry's address does, and not as a folder's or a name."""
    return text.startswith(PREFIX) or "://" in text


def may_be_published(text: str) -> bool:
    """Whether a text is a reference that a bundle may have once it is published; a folder's path is none."""
    match = REFERENCE.fullmatch(text)
    return match is not None and (match["address"] is None or is_address(text))

"""Versions of bundles: how they are named, which one a range means, and what a new one must be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.bundle.manifest import NAME, Manifest
from pipeline.errors import BundleError

LATEST = "latest"
_NUMBER = r"(?:0|[1-9]\d{0,5})"
VERSION = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})")
WANTED = re.compile(rf"{LATEST}|\^?{_NUMBER}(?:\.{_NUMBER}){{0,2}}")
REFERENCE = re.compile(rf"(?:(?P<address>.*[^/])/)?(?P<name>{NAME})(?:@(?P<wanted>{WANTED.pattern}))?")
GEOMETRY = ("mesh.ply", "collision.ply")

Change = Literal["major", "minor", "patch"]
CHANGES: tuple[Change, ...] = ("major", "minor", "patch")


@dataclass(frozen=True, order=True)
class Version:
    """major.minor.patch of a bundle."""

    major: int
    minor: int
    patch: int

    @staticmethod
    def parse(text: str) -> Version:
        """Of "1.2.3".

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
    """Which bundle somebody means: `[address/]name[@wanted]`.

    Attributes:
        address: Of the registry; empty where none is named.
        name: Of the scene.
        wanted: "latest", a version, or a range: "1" and "1.2" are the newest that begin so, "^1.2" is the newest from
            1.2.0 on with the same major number.
    """

    address: str
    name: str
    wanted: str

    @staticmethod
    def parse(text: str) -> Reference:
        """Of "hall", "hall@1", "hall@^1.2", "hall@1.2.0", "hall@latest", or these after "s3://bucket/yard/".

        Raises:
            BundleError: When it is nothing of that.
        """
        match = REFERENCE.fullmatch(text)
        if not match:
            raise BundleError(
                "a bundle is named by name, name@version or name@range, after the registry's address if need be",
                found=repr(text),
                remedy="such as hall, hall@1.2.0, hall@^1.2, hall@latest, registry:./yard/hall@1.2.0 or "
                "hf://owner/repository/hall; names are lower-case letters, digits, dot, dash and underscore",
            )
        return Reference(match["address"] or "", match["name"], match["wanted"] or LATEST)

    @property
    def exact(self) -> bool:
        """Whether it can only mean one version."""
        return VERSION.fullmatch(self.wanted) is not None

    def fits(self, version: Version) -> bool:
        """Whether a version is one that it means."""
        if self.wanted == LATEST:
            return True
        numbers = tuple(map(int, self.wanted.removeprefix("^").split(".")))
        given = (version.major, version.minor, version.patch)
        if self.wanted.startswith("^"):
            return given[0] == numbers[0] and given >= numbers
        return given[: len(numbers)] == numbers

    def newest(self, versions: Iterable[Version]) -> Version | None:
        """The newest that it means, or None."""
        return max(filter(self.fits, versions), default=None)

    def at(self, version: Version) -> str:
        """The reference to that version alone."""
        return f"{self.address}/{self.name}@{version}" if self.address else f"{self.name}@{version}"

    def __str__(self) -> str:
        name = f"{self.name}@{self.wanted}"
        return f"{self.address}/{name}" if self.address else name


def local_versions(scene: Path) -> list[Version]:
    """Of a scene's folder in a bundles folder, the oldest first."""
    folders = [path.name for path in scene.glob("*") if path.is_dir()]
    return sorted(Version.parse(name) for name in folders if VERSION.fullmatch(name))


def needed_change(before: Manifest, after: Manifest) -> tuple[Change, str]:
    """What a new version must be, and what makes it so.

    A robot's way through a place depends on mesh and frame: another one is a major change. Another splat is a minor
    one: what cameras see. Anything else is a patch.
    """
    if _axes(before) != _axes(after):
        return "major", "the frame changed"
    moved = [name for name in GEOMETRY if before.files.get(name) != after.files.get(name)]
    if moved:
        return "major", f"{' and '.join(moved)} changed"
    levels = sorted(before.splats.keys() | after.splats.keys())
    painted = [level for level in levels if _level(before, level) != _level(after, level)]
    if painted:
        return "minor", f"the splat changed ({', '.join(painted)})"
    return "patch", "mesh, frame and splat are the same"


def made_change(before: Version, after: Version) -> Change:
    """What a newer version says that it is."""
    if after.major != before.major:
        return "major"
    return "minor" if after.minor != before.minor else "patch"


def check_change(before: Manifest, after: Manifest) -> Change:
    """What a newer version is to an older one of the same scene.

    Raises:
        BundleError: When its number says less than what changed.
    """
    needed, why = needed_change(before, after)
    older, newer = Version.parse(before.version), Version.parse(after.version)
    made = made_change(older, newer)
    if CHANGES.index(made) > CHANGES.index(needed):
        raise BundleError(
            "a version's number says what changed: frame or mesh major, splat minor, anything else patch",
            found=f"{after.name}@{after.version} is a {made} version after {before.version}, but {why}",
            remedy=f"build it as --version {older.next(needed)} or later",
        )
    return made


def _axes(manifest: Manifest) -> tuple[object, ...]:
    frame = manifest.frame
    return (frame.up, frame.unit, frame.camera_axes, frame.gravity)


def _level(manifest: Manifest, level: str) -> object:
    splat = manifest.splats.get(level)
    return splat and (splat, manifest.files.get(splat.file))

"""Things of a task that cameras see: balls, posts, and paint on the floor."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64] | NDArray[np.bool_] | slice
Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Balls:
    """K balls in the place of each of N robots.

    Attributes:
        center: (N, K, 3), world frame [m].
        radius: (N, K) [m]; 0 draws nothing.
        color: (N, K, 3), 0..1.
    """

    center: Array
    radius: Array
    color: Array

    @staticmethod
    def none(count: int) -> Balls:
        """For so many robots."""
        return Balls(*_nothing(count))


@dataclass(frozen=True, eq=False)
class Posts:
    """K upright cylinders in the place of each of N robots.

    Attributes:
        foot: (N, K, 3) middle of the lower end, world frame [m].
        radius: (N, K) [m]; 0 draws nothing.
        height: (N, K) [m].
        color: (N, K, 3), 0..1.
    """

    foot: Array
    radius: Array
    height: Array
    color: Array

    @staticmethod
    def none(count: int) -> Posts:
        """For so many robots."""
        foot, radius, color = _nothing(count)
        return Posts(foot, radius, radius, color)


@dataclass(frozen=True, eq=False)
class Patches:
    """K round patches of paint on the floor of each of N robots.

    Attributes:
        center: (N, K, 3), world frame; z is the height of the floor [m].
        radius: (N, K) [m]; 0 draws nothing.
        color: (N, K, 3), 0..1.
    """

    center: Array
    radius: Array
    color: Array

    @staticmethod
    def none(count: int) -> Patches:
        """For so many robots."""
        return Patches(*_nothing(count))


Kind = TypeVar("Kind", Balls, Posts, Patches)


@dataclass(frozen=True, eq=False)
class Things:
    """What a task puts into the place of each of N robots; each robot sees its own.

    Attributes:
        balls: Balls.
        posts: Upright cylinders.
        patches: Paint on the floor.
    """

    balls: Balls
    posts: Posts
    patches: Patches

    def __getitem__(self, robots: Rows) -> Things:
        """Those of the chosen robots."""
        return Things(_chosen(self.balls, robots), _chosen(self.posts, robots), _chosen(self.patches, robots))

    @staticmethod
    def none(count: int) -> Things:
        """For so many robots."""
        return Things(Balls.none(count), Posts.none(count), Patches.none(count))


def _chosen(kind: Kind, robots: Rows) -> Kind:
    return type(kind)(*(getattr(kind, field.name)[robots] for field in fields(kind)))


def _nothing(count: int) -> tuple[Array, Array, Array]:
    return np.zeros((count, 0, 3)), np.zeros((count, 0)), np.zeros((count, 0, 3))

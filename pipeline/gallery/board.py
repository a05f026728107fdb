"""What the gallery's leaderboard shows: results of policies in suites, as plain texts and shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """A line: a policy, or a scripted driver for comparison.

    Attributes:
        policy: Hash of the policy; "" of a scripted driver.
        results: Hash of its results; "" of a scripted driver.
        share: Success with its interval: low, value, high, 0..1.
        success: The same in words.
        difference: Its success minus the highest of a policy, from the same conditions, with its interval; "" if it is
            that one.
        score_difference: The same of the mean score.
        verdict: Whether the difference in success is told from none.
        version: Of splatyard, that made the results.
    """

    name: str
    about: str
    policy: str
    results: str
    share: tuple[float, float, float]
    success: str
    score: str
    difference: str
    score_difference: str
    verdict: str
    version: str


@dataclass(frozen=True)
class Board:
    """Results from the initial conditions of a suite in a physics engine, best first.

    Attributes:
        suite: Hash of the suite.
        bundles: Hashes of the bundles' manifests, by reference.
        files: Content of the files that the results can be reproduced with, by their paths below the site.
    """

    suite: str
    task: str
    robot: str
    engine: str
    episodes: int
    bundles: Mapping[str, str]
    standings: tuple[Standing, ...]
    files: Mapping[str, str]

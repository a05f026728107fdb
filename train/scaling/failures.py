"""Where a policy fails in places never trained in: what it saw at the end and the way it had come, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import zip_longest

from pydantic import BaseModel, ConfigDict

from sim.env import Observations
from sim.scene.scene import SimScene
from sim.video import images_of
from train.environment import make_env
from train.runs import checkpoint
from train.runs.evaluation import SEED, evaluate, png_text
from train.runs.results import Episode, FloorPlan
from train.runs.run import Run

FILE = "failures.json"
MAX_BYTES = 64 * 2**20
EPISODES = 12
"""Episodes that are looked at, in the places of each kind."""
OF_A_PLACE, IN_ALL = 4, 12
"""Most pictures of one place, and most of all."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Picture(_Record):
    """A failed episode.

    Attributes:
        seconds: How long it took.
        image: What the robot's cameras showed before its last action, a PNG in base64; empty without cameras.
    """

    episode: Episode
    seconds: float
    image: str


class FailedPlace(_Record):
    """A place with failed episodes, some of them as pictures.

    Attributes:
        kind: What the place is for.
        episodes: How many there were.
        failed: How many of them failed.
    """

    reference: str
    kind: str
    plan: FloorPlan
    episodes: int
    failed: int
    pictures: tuple[Picture, ...]


class Failures(_Record):
    """The whole of failures.json in a run's folder: where its policy fails; nowhere for robots that go nowhere."""

    places: tuple[FailedPlace, ...] = ()

    @staticmethod
    def of(run: Run, places: Mapping[str, Sequence[SimScene]], device: str = "cpu") -> Failures:
        """Let a run's policy act in places by what they are for, in a few episodes of each kind, always the same.

        Raises:
            TrainError: When the run has no checkpoint.
        """
        tried = [one for kind, scenes in places.items() for one in _tried(run, scenes, kind, device)]
        chosen = shown([picture for place in tried for picture in place.pictures])
        pictured = [
            place.model_copy(update={"pictures": tuple(found)})
            for place in tried
            if (found := [picture for picture in place.pictures if picture in chosen])
        ]
        return Failures(places=tuple(pictured))


def _tried(run: Run, scenes: Sequence[SimScene], kind: str, device: str) -> list[FailedPlace]:
    """Scenes in which episodes failed, with pictures of all these."""
    env = make_env(run.preset, scenes, num_envs=EPISODES, seed=SEED, starts="all", device=device)
    pictures = list[Picture]()
    with closing(env):
        robot, period = env.env.robot, env.env.task.control_period
        if robot.fixed_base:
            return []

        def watch(episode: Episode, seen: Observations) -> None:
            images = images_of(seen)
            image = "" if images is None else png_text(images[episode.env])
            if not episode.success:
                pictures.append(Picture(episode=episode, seconds=episode.steps * period, image=image))

        actor = checkpoint.load_policy(run, env, device=device).get_policy()
        found = evaluate(actor, env, EPISODES, about=f"episodes for pictures, {kind}", watch=watch)
    return [
        FailedPlace(
            reference=(name := scene.lock.reference),
            kind=kind,
            plan=FloorPlan.of(scene, robot),
            episodes=len(found.of(name)),
            pictures=tuple(failed),
            failed=len(failed),
        )
        for scene in scenes
        if (failed := [picture for picture in pictures if picture.episode.scene == scene.lock.reference])
    ]


def shown(pictures: Sequence[Picture]) -> list[Picture]:
    """Those that a page has room for: the first of each scene, then the second, up to the most."""
    by_scene = dict[str, list[Picture]]()
    for picture in pictures:
        by_scene.setdefault(picture.episode.scene, []).append(picture)
    turns = zip_longest(*(some[:OF_A_PLACE] for some in by_scene.values()))
    return [picture for turn in turns for picture in turn if picture][:IN_ALL]

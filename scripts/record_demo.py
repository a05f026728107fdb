"""Make what comes along for `splatyard demo` anew: the bundle, and runs of the robots in it.

    splatyard build scene_cards/samples/hall --card scene_cards/demo.yaml --out /tmp/demo
    python scripts/record_demo.py /tmp/demo/demo/1.0.0

The runs are the first minute of `splatyard sim demo --driver find --envs 1`, whatever happens in it.
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

import sim
from flows.demo.page import BUNDLE, GO2, HERE, ROVER, VERSION
from flows.demo.recording import Recording
from flows.watching.shapes import surface_of
from pipeline import Bundle
from pipeline.geometry import quaternion_from_matrix
from pipeline.geometry.rays import RayCaster
from sim.drivers import EpisodeResult, run_episodes
from sim.env import Observations, SceneEnv
from sim.policies.catalog import open_driver
from sim.robots.catalog import load
from sim.robots.kinematics import link_poses
from sim.video import VideoWriter, images_of

SECONDS = 60
RATE = 25
"""About how many moments a second are kept."""
EYE_LEVEL = 0.5
"""How far the view is above the camera of the capture that it is taken from [m]: a phone is held low."""


class Recorder:
    """Keeps what moves, and films what the robot sees."""

    def __init__(self, env: SceneEnv, film: VideoWriter) -> None:
        self._env, self._film = env, film
        self.links: list[np.ndarray] = []
        self.balls: list[np.ndarray] = []
        self.results: list[tuple[int, int]] = []
        self._found = self._over = 0
        self.times = 0
        env.watchers.append(self._watch)

    def _watch(self) -> None:
        poses = link_poses(self._env.robot, self._env.engine.read()[:1])[0]
        self.links.append(np.hstack([poses[:, :3, 3], quaternion_from_matrix(poses[:, :3, :3])]))
        balls = self._env.props().balls
        self.balls.append(np.hstack([balls.center[0], balls.radius[0][:, None], balls.color[0]]))
        self.results.append((self._found, self._over))

    def update(self, seen: Observations, ended: Mapping[int, EpisodeResult]) -> None:
        """Film what is seen; count what ended."""
        for result in ended.values():
            self._over += 1
            self._found += result.success
        images = images_of(seen)
        assert images is not None
        self._film.add(images[0])
        self.times += 1

    def close(self) -> None:
        """Look no more."""
        self._env.watchers.remove(self._watch)


def view_of(bundle: Bundle, track: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where one sees most of a track (T, 3) from: above a camera of the capture; and the track's middle."""
    caster = RayCaster(bundle.mesh("collision"))
    track = track[::10] + np.array([0, 0, 0.2])
    at = np.append(np.median(track[:, :2], 0), 0.3)

    def seen(eye: np.ndarray) -> float:
        ways = track - eye
        far = np.linalg.norm(ways, axis=1)
        forward = (at - eye) / np.linalg.norm(at - eye)
        inside = ways @ forward > far * np.cos(0.5)
        free = caster.cast(np.tile(eye, (len(track), 1)), ways / far[:, None]).distance > far - 0.1
        return float((inside & free & (far > 1)).mean())

    eyes = [one.world_from_camera.translation + np.array([0, 0, EYE_LEVEL]) for one in bundle.cameras]
    return max(eyes, key=seen), at


def record(bundle: Bundle, robot: str) -> None:
    """Record a minute of a robot."""
    with closing(sim.make("find", [str(bundle.root)], 1, robot=robot, seed=0)) as env:
        period = env.task.control_period
        with closing(VideoWriter(HERE / f"{robot}.mp4", 1 / period, {"crf": "20"})) as film:
            recorder = Recorder(env, film)
            with closing(recorder), open_driver("find", env, 0, 0) as driver:
                run_episodes(env, round(SECONDS / period), 0, driver, [recorder])
    links, results = np.array(recorder.links), np.array(recorder.results)
    rate = len(links) / (recorder.times * period)
    keep = slice(None, None, max(1, round(rate / RATE)))
    eye, at = view_of(bundle, links[:, 0, :3])
    Recording(
        bundle.manifest.provenance.build_key,
        rate / keep.step,
        links[keep].astype(np.float32),
        np.array(recorder.balls)[keep].astype(np.float32),
        *results[keep].T,
        *(surface_of(load(ROVER)) if robot == ROVER else (np.zeros((0, 3, 3), np.float32), np.zeros(0, np.int64))),
        eye.astype(np.float32),
        at.astype(np.float32),
    ).save(HERE / f"{robot}.npz")


if __name__ == "__main__":
    source = Path(sys.argv[1])
    with tarfile.open(HERE / BUNDLE, "w:xz", preset=9) as packed:
        packed.add(source, VERSION)
    for name in (GO2, ROVER):
        record(Bundle.open(source), name)

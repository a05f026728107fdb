"""Pairs of captures drawn anew that must be joined, and pairs that must not: twins, mirrored, look-alikes, strangers.

    python benchmarks/joining.py SEED ...          measure and print; every seed is a place
    python benchmarks/joining.py SEED ... --write  write the page in docs/benchmarks

Each place has two rooms at a corridor that one walk leads through, and two others that look alike but for their
pictures. Captures are parts of walks of their own, with other steps, headings and exposure, as a phone would record
them: noise, drift, gravity to 0.15 degrees, a world of their own. A twin has the same walls, floors and paint to the
pixel, other furniture and other pictures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.building import Building, Space, draw_building  # noqa: E402
from benchmarks.moved_room import moved_room  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.room_renderer import RenderedRoom, to_srgb  # noqa: E402
from benchmarks.rooms import Room  # noqa: E402
from pipeline.capture.model import Capture, Frame  # noqa: E402
from pipeline.geometry import Camera, Pose, matrix_from_rotvec  # noqa: E402
from pipeline.joining.judge import Judgement  # noqa: E402
from pipeline.joining.submap import Submap, submap_of  # noqa: E402
from pipeline.joining.together import together  # noqa: E402
from pipeline.types import F64, Mask  # noqa: E402
from scene_cards.samples.hall_sensor import noisy_depth, noisy_poses  # noqa: E402
from scene_cards.samples.hall_walk import camera_pose  # noqa: E402

TITLE = "Joining"
PHONE, LIDAR = Camera(320, 240, 240.0, 240.0, 160.8, 119.4), Camera(128, 96, 96.0, 96.0, 64.3, 47.7)
STEP, TURN_DEG = 0.3, 15.0
"""From one frame to the next [m, degrees]."""
SMOOTH = 0.5
"""A walker looks where the way leads within that length [m]."""
ASIDE_DEG, EYE, PITCH_DEG = 15.0, 1.42, -12.0
"""Headings off the way [degrees], height of the phone [m], and how far it looks down [degrees]."""
LENGTH = 32
"""Frames of a capture, at most."""
OVERLAPS = {"overlap of 15 frames": 15, "overlap of 5 frames": 5}
REVERSE = "reverse direction"
RIGHT = (*OVERLAPS, REVERSE)
MOVED = "things moved in between"
WRONG = ("twins", "mirrored", "look-alike rooms", "strangers")
LIGHT = 0.85, 0.85, 0.83
"""From everywhere: lamps take long to bake, and features hardly change with them."""
DRIFT, TILT_DEG = 2.0, 0.15
"""Of poses, as a multiple of 1 cm and 0.25 degrees; and of gravity."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A capture as what others are found in, and where its world is: truth_from_upright (4, 4)."""

    submap: Submap
    truth_from_upright: F64


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a pair: of which kind, the verdict, and the error [cm, degrees] of its first place."""

    kind: str
    seed: int
    judgement: Judgement
    error: tuple[float, float] | None
    seconds: float

    @property
    def result(self) -> str:
        """Such as "joined rightly"."""
        if self.judgement.verdict != "joined":
            return self.judgement.verdict
        right = self.kind in (*RIGHT, MOVED) and self.error is not None and self.error[0] < 50 and self.error[1] < 5
        return "joined rightly" if right else "joined wrongly"


def film(room: Room, rng: np.random.Generator, *, back: bool = False) -> tuple[F64, F64]:
    """Poses (N, 4, 4) of a walk along a room's way, once, from camera; and the way up to each [m], of the whole."""
    corners = np.array(room.walk[::-1] if back else room.walk, np.float64)
    length = np.r_[0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))]
    fine = np.arange(0, length[-1], 0.02)
    width = round(SMOOTH / 0.02)
    kernel = np.hanning(2 * width + 1) / np.hanning(2 * width + 1).sum()
    way = np.stack([np.interp(fine, length, corners[:, k]) for k in range(3)], 1)
    for axis in range(2):
        way[:, axis] += np.interp(fine, fine[::100], rng.normal(0, 0.06, len(fine[::100])))
    padded = np.pad(way, ((width, width), (0, 0)), mode="edge")
    way = np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in range(3)], 1).astype(np.float64)
    ahead = np.gradient(way[:, :2], axis=0)
    heading = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
    aside = np.deg2rad(rng.uniform(-ASIDE_DEG, ASIDE_DEG))
    pace = np.maximum(0.02 / STEP, np.abs(np.gradient(heading)) / np.deg2rad(TURN_DEG))
    count = np.cumsum(pace)
    taken = np.searchsorted(count, np.arange(count[0], count[-1]) + rng.uniform(0, 1)).clip(0, len(way) - 1)
    poses = []
    for k in taken:
        place = way[k] + np.array([0, 0, EYE]) + rng.normal(0, 0.02, 3)
        wave = np.deg2rad([10, 7]) * np.sin(0.9 * fine[k] + np.array([0.0, 1.5]))
        turn = heading[k] + aside + wave[0] + rng.normal(0, 0.04)
        poses.append(camera_pose(place, turn, np.deg2rad(PITCH_DEG) + wave[1], rng.normal(0, 0.03)))
    along = fine[taken]
    return np.array(poses), fine[-1] - along if back else along


def record(drawn: RenderedRoom, poses: F64, name: str, folder: Path, rng: np.random.Generator) -> Recorded:
    """The capture of these poses (N, 4, 4), in a world of its own."""
    root = folder / name
    for part in ("images", "depth", "confidence"):
        (root / part).mkdir(parents=True)
    tilt, yaw = np.deg2rad(TILT_DEG) * rng.standard_normal(2), rng.uniform(-np.pi, np.pi)
    world_from_truth = Pose(matrix_from_rotvec([*tilt, 0]) @ matrix_from_rotvec([0, 0, yaw]), rng.uniform(-4, 4, 3))
    gain, frames = rng.uniform(0.7, 1.2), list[Frame]()
    for number, (true, given) in enumerate(zip(poses, noisy_poses(poses, rng, DRIFT), strict=True)):
        pose, file = Pose.from_matrix(true), f"{number:04d}.png"
        light = gain * to_srgb(drawn.image(PHONE, pose, 1)) + 2.0 * rng.standard_normal((PHONE.height, PHONE.width, 3))
        cv2.imwrite(str(root / "images" / file), light.clip(0, 255).round().astype(np.uint8)[..., ::-1])
        for part, image in zip(("depth", "confidence"), noisy_depth(*drawn.depth(LIDAR, pose), rng), strict=True):
            cv2.imwrite(str(root / part / file), image)
        frames.append(
            Frame(
                file[:-4],
                f"images/{file}",
                PHONE,
                "given",
                time=0.4 * number,
                world_from_camera=world_from_truth @ Pose.from_matrix(given),
                depth=f"depth/{file}",
                depth_camera=LIDAR,
                confidence=f"confidence/{file}",
            )
        )
    up = np.array([0.0, 0.0, 1.0])
    capture = Capture(root, "drawn", tuple(frames), True, up_in_world=up, up_sigma_deg=0.3, scale_sigma=0.01)
    submap = submap_of(name, capture, threads=1)
    upright_from_world = np.eye(4)
    upright_from_world[:3, :3] = submap.upright_from_world
    return Recorded(submap, world_from_truth.inverse().matrix @ upright_from_world.T)


def mirrored(room: Room) -> Room:
    """The same in a mirror: left is right."""
    flip = np.array([-1.0, 1.0, 1.0])
    faces = [
        replace(face, corner=flip * (face.corner + face.along), along=-flip * face.along, across=flip * face.across)
        for face in room.faces
    ]
    return replace(room, faces=faces, walk=[(-x, y, z) for x, y, z in room.walk])


class Place:
    """The captures of a place, of its twin and of its mirror image, by name."""

    def __init__(self, seed: int, folder: Path) -> None:
        """Draw and film it; images lie in the folder."""
        self.seed, self._folder, self._rng = seed, folder / str(seed), np.random.default_rng([seed, 46])
        building, twin = (self._building(things) for things in (0, 1))
        walked = building.walks["floor 0 north"]
        drawn = _rendered(walked)
        poses, along = film(walked, self._rng)
        self._cut = float(self._rng.uniform(0.4, 0.6)) * along[-1]
        self.captures = {"first": self._record(drawn, poses[along < self._cut][-LENGTH:], "first")}
        for name, count in OVERLAPS.items():
            self.captures[name] = self._record(drawn, self._after(walked, count), name)
        poses, along = film(walked, self._rng, back=True)
        ends = along[along > self._cut].min() if (along > self._cut).any() else self._cut
        back = poses[(along > ends - OVERLAPS["overlap of 15 frames"] * STEP) & (along < ends + 9.0)]
        self.captures[REVERSE] = self._record(drawn, back[-LENGTH:], REVERSE)
        self._film_rooms(building, drawn)
        for name, room in (("twins", twin.walks["floor 0 north"]), ("mirrored", mirrored(walked))):
            self.captures[name] = self._record(_rendered(room), self._after(room, 15), name)

    def _building(self, things: int) -> Building:
        return draw_building(self.seed, floors=1, south=2, north=2, frames=100, things=things)

    def _after(self, room: Room, overlap: int) -> F64:
        """Another walk, which begins so many frames before the first one's end."""
        poses, along = film(room, self._rng)
        start = int(np.searchsorted(along, self._cut)) - overlap
        return poses[max(0, start) : max(0, start) + LENGTH]

    def _film_rooms(self, building: Building, drawn: RenderedRoom) -> None:
        """One of the rooms that look alike, and the other by another walk, each by itself."""
        for name in building.alike:
            space = next(space for space in building.spaces if space.name == name)
            poses, _ = film(building.walks["floor 0 south"], self._rng)
            self.captures[name] = self._record(drawn, poses[_inside(poses[:, :3, 3], space)], name)
        self.alike = building.alike

    def _record(self, drawn: RenderedRoom, poses: F64, name: str) -> Recorded:
        return record(drawn, poses, name.replace(" ", "-"), self._folder, self._rng)

    def pairs(self) -> list[tuple[str, Recorded, Recorded]]:
        """Of the place itself, by their kind."""
        first, (one, other) = self.captures["first"], (self.captures[name] for name in self.alike)
        found = [(kind, first, self.captures[kind]) for kind in (*RIGHT, "twins", "mirrored")]
        back = self.captures[REVERSE]
        return [*found, ("twins", self.captures["twins"], back), ("look-alike rooms", one, other)]


def _rendered(room: Room) -> RenderedRoom:
    return RenderedRoom(replace(room, lamps=[], ambient=LIGHT))


def _inside(points: F64, space: Space) -> Mask:
    return np.all((points > np.array(space.low)) & (points < np.array(space.high)), axis=1)


def judged(kind: str, seed: int, one: Recorded, other: Recorded) -> Outcome:
    """What becomes of a pair by itself."""
    before = time.process_time()
    found = together([one.submap, other.submap], {}, np.random.default_rng(0)).judgements[0, 1]
    error = None
    if found.places:
        true = np.linalg.inv(one.truth_from_upright) @ other.truth_from_upright
        middle = np.append(other.submap.poses[:, :3, 3].mean(0), 1)
        off = found.places[0].a_from_b
        turn = np.arccos(np.clip((np.trace(off[:3, :3].T @ true[:3, :3]) - 1) / 2, -1, 1))
        error = 100 * float(np.linalg.norm((off @ middle - true @ middle)[:3])), float(np.rad2deg(turn))
    return Outcome(kind, seed, found, error, time.process_time() - before)


def measure(seeds: Sequence[int], folder: Path) -> list[Outcome]:
    """All pairs of places of these seeds, and of each place with the one before it."""
    outcomes, before = list[Outcome](), None
    for seed in seeds:
        started = time.process_time()
        place = Place(seed, folder)
        print(f"place {seed}: drawn and filmed in {time.process_time() - started:.0f} CPU-s", flush=True)
        pairs = place.pairs()
        if before is not None:
            strangers = (("first", OVERLAPS), ("twins", ("first", place.alike[0])))
            pairs += [("strangers", before.captures[a], place.captures[b]) for a, bs in strangers for b in [*bs][:2]]
        for kind, one, other in pairs:
            outcomes.append(judged(kind, seed, one, other))
            print(line(outcomes[-1]), flush=True)
        before = place
    return outcomes


def line(outcome: Outcome) -> str:
    """What became of a pair, and by what."""
    text = f"{outcome.seed} {outcome.kind}: {outcome.result}, {outcome.judgement.reason}"
    for place in outcome.judgement.places[:1]:
        e = place.evidence
        text += f"; {place.frames} frames, {place.matches} matches, walls {place.walls:.2f}, through {e.through:.4f}, "
        text += f"cells {e.cells}, pairs {e.pairs}, again {e.again:.2f}, "
        text += f"bare {e.bare} ({e.bare_share:.3f}, {e.patch} side by side), "
        text += f"coloured {e.coloured}, other {e.tint_share:.4f} ({e.tinted} side by side), far {e.far}"
    off = "" if outcome.error is None else f"; off {outcome.error[0]:.1f} cm, {outcome.error[1]:.2f} deg"
    return f"{text}{off}; {outcome.seconds:.1f} CPU-s"


def moved_things(seed: int, folder: Path) -> Outcome:
    """A room in which a door, a drawer, a carton and a crate moved between two captures."""
    rng, recorded = np.random.default_rng([seed, 47]), list[Recorded]()
    for later in (False, True):
        room = moved_room(later=later)
        poses, _ = film(room, rng)
        recorded.append(record(_rendered(room), poses[:LENGTH], room.name, folder / "moved", rng))
    return judged(MOVED, seed, *recorded)


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """What must be reached."""
    wrong = [one for one in outcomes if one.result == "joined wrongly"]
    rows = [Row(f"wrong joins, of {len(outcomes)} pairs", len(wrong), "", "<=", 0)]
    for kind, least in zip(RIGHT, (1.0, 0.8, 0.8), strict=True):
        results = [one.result for one in outcomes if one.kind == kind]
        share = results.count("joined rightly") / len(results)
        rows.append(Row(f"{kind}: joined unasked, of {len(results)}", 100 * share, "%", ">=", 100 * least))
    right = [one for one in outcomes if one.result == "joined rightly"]
    errors = np.array([one.error for one in right])
    if len(right):
        rows.append(Row("error of right joins, median", float(np.median(errors[:, 0])), "cm"))
        rows.append(Row("error of right joins, largest", float(errors[:, 0].max()), "cm"))
        rows.append(Row("turn of right joins, median", float(np.median(errors[:, 1])), "deg"))
    rows.append(Row("time of a pair, median", float(np.median([one.seconds for one in outcomes])), "CPU-s"))
    return rows


def page(outcomes: Sequence[Outcome], seeds: Sequence[int]) -> str:
    """The page in Markdown."""
    results = ("joined rightly", "joined wrongly", "ambiguous", "apart")
    table = ["", f"| pairs | {' | '.join(results)} |", f"| --- |{' ---: |' * len(results)}"]
    for kind in (*RIGHT, MOVED, *WRONG):
        counts = Counter(one.result for one in outcomes if one.kind == kind)
        table.append(f"| {kind} | {' | '.join(str(counts[result] or '') for result in results)} |")
    text = (
        f"Captures of {len(seeds)} places drawn anew, {LENGTH} frames each, in pairs. All have a phone's noise and "
        f"drift, and a world of their own; twins, mirrored places and look-alike rooms have the same paint to the "
        "pixel. The error is that of the second capture's middle, its own drift of 2 cm included. Twins are joined "
        "wrongly where nothing differs in what both captures see of the corridor. The rule's numbers for colours were "
        "set on places 401 to 406."
    )
    command = f"python benchmarks/joining.py {' '.join(map(str, seeds))} --write"
    return section(TITLE, command, text, rows_of(outcomes), *table)


def main() -> int:
    """Measure, print, and write the page if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [moved_things(asked.seeds[0], Path(folder)), *measure(asked.seeds, Path(folder))]
    for row in rows_of(outcomes):
        print(row.line())
    if asked.write:
        update_page({TITLE: page(outcomes, asked.seeds)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

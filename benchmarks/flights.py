"""Measure legs on staircases that were drawn anew: led and told up or down only, by maps, and with eyes spoilt.

    python benchmarks/flights.py                   go2 by the truth, by riser, in both engines; then the driver stairs
    python benchmarks/flights.py --only gait       the first alone
    python benchmarks/flights.py --scene BUNDLE    the driver in a place with stairs, too
    python benchmarks/flights.py --only colors --rooms 'ROOM/*' --scene BUNDLE    by colours alone
    python benchmarks/flights.py --write           write the pages of docs/benchmarks

Staircases have 4 to 7 steps of 10 to 20 cm with treads of 22 to 32 cm: a third each between walls, open, or turned by
90 degrees on a landing. Robots begin 0.5 to 3 m before the first edge, up to 0.3 m aside and 40 degrees askew. It
counts who stands 0.45 m beyond the last edge; who gets no farther for four seconds is stuck.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import sim  # noqa: E402
from benchmarks.page import Row, section, update_page  # noqa: E402
from benchmarks.walkers import SLIPS, Conduct, FeetPlane  # noqa: E402
from pipeline.scenes.resolver import find_scenes  # noqa: E402
from pipeline.types import F32, I64  # noqa: E402
from sim.climbing.climber import SPEED  # noqa: E402
from sim.climbing.stairs import find_stairs  # noqa: E402
from sim.drivers import Policy  # noqa: E402
from sim.env import SceneEnv  # noqa: E402
from sim.policies.catalog import open_driver  # noqa: E402
from sim.scene.opening import open_scene  # noqa: E402
from sim.scene.terrain import Flight  # noqa: E402
from sim.sensors.cameras.settings import DepthNoise, Output  # noqa: E402
from sim.sensors.ground.ground import DepthCamera  # noqa: E402
from sim.sensors.ground.settings import MapSettings  # noqa: E402
from sim.sensors.sensor import Moment  # noqa: E402
from train.legs.flights import FlightResult, walk_flights  # noqa: E402
from train.runs.results import wilson  # noqa: E402

ROBOTS = 100
SEEDS = (20, 21, 22, 23)
"""Of staircases."""
RISERS = {14: 98, 16: 95, 18: 85, 20: 60}
"""Heights of steps [cm], and the least share that gets over [%]."""
ENGINES = {"mujoco-worlds": SEEDS, "sapien": SEEDS[:2]}
"""Seeds for each riser, by engine."""
FAULTY = MapSettings(
    period=(0.1, 0.1),
    latency=(0.1, 0.1),
    noise=DepthNoise(noise=0.008, step=0.012, edge_loss=0.75, range=(0.25, 3.0)),
    drift=0.03,
    tilt=0.012,
)
"""Twice the noise, more holes, 10 Hz, 100 ms late, a drift of 3 %, and a tilt of 0.7 degrees."""


class Spoilt:
    """Cameras whose images are changed as they arrive."""

    def __init__(self, rig: DepthCamera, change: Callable[[np.ndarray, F32], tuple[np.ndarray, F32]]) -> None:
        self._rig, self._change, self.mount = rig, change, rig.mount

    def reset(self, envs: I64, rng: np.random.Generator) -> None:
        """Begin episodes in environments (M,)."""
        self._rig.reset(envs, rng)

    def arrived(self, now: Moment, rng: np.random.Generator) -> tuple[Mapping[Output, np.ndarray], F32]:
        """Last images, and their age (N,) [s]."""
        frames, age = self._rig.arrived(now, rng)
        ((output, images),) = frames.items()
        images, age = self._change(images, age)
        return {output: images}, age


def frozen() -> Callable[[np.ndarray, F32], tuple[np.ndarray, F32]]:
    """The first image stays, and seems to be new."""
    first = list[np.ndarray]()

    def change(images: np.ndarray, age: F32) -> tuple[np.ndarray, F32]:
        if not first:
            first.append(images.copy())
        return first[0], age

    return change


SPOILT: dict[str, Callable[[], Callable[[np.ndarray, F32], tuple[np.ndarray, F32]]]] = {
    "images of another robot": lambda: lambda images, age: (np.roll(images, 1, 0), age),
    "the first image only": frozen,
    "blind: the ground that the feet touched": lambda: lambda images, age: (np.zeros_like(images), age),
}


PLANE = "blind: the plane through its feet"


@contextmanager
def straight_on(env: SceneEnv) -> Iterator[Policy]:
    """A driver that goes on as it stands."""
    velocities = env.controller.velocities
    assert velocities, "a gait takes speeds"
    actions = velocities.actions(np.full(env.num_envs, SPEED), np.zeros(env.num_envs))
    yield lambda _: actions


def measured(
    driver: str,
    scenes: Sequence[str],
    engine: str,
    ground: MapSettings | None,
    spoil: str = "",
    look_on: Callable[[SceneEnv], object] = lambda env: None,
) -> FlightResult:
    """Robots on the staircases of a scene, twice as many on those of several."""
    count = ROBOTS * min(2, len(scenes))
    env = sim.make("flights", scenes, count, robot="go2", engine=engine, cameras=(), ground=ground, seed=0)
    believed = env.senses.ground.mapped
    if ground is None and spoil:
        env.senses.ground = FeetPlane(env)
    elif spoil and believed:
        believed.rig = Spoilt(believed.rig, SPOILT[spoil]())  # type: ignore[assignment]
    look_on(env)
    opened = straight_on(env) if driver == "straight on" else open_driver(driver, env, 0)
    with opened as policy:
        result = walk_flights(env, policy, seed=0)
    env.close()
    return result


def joined(results: list[FlightResult]) -> FlightResult:
    """Several measurements as one."""
    flights = tuple(flight for result in results for flight in result.flights)
    return FlightResult(
        flights, np.concatenate([one.over for one in results]), np.concatenate([one.fell for one in results])
    )


def row(name: str, result: FlightResult, target: float | None = None) -> Row:
    """A share with its interval and the share that fell."""
    over, count = int(result.over.sum()), len(result.over)
    share = wilson(over, count)
    about = f"of {count} [{100 * share.low:.0f}, {100 * share.high:.0f}], {100 * result.fell.mean():.0f} % fell"
    sign = ">=" if target is not None else None
    return Row(f"{name}: over, {about}", 100 * share.value, "%", sign, target)


def of_gait() -> list[Row]:
    """The gait by the truth, led along the middle, by engine, riser and way."""
    found = list[Row]()
    for engine, seeds in ENGINES.items():
        for riser, target in RISERS.items():
            conducts = list[Conduct]()
            result = joined(
                [
                    measured(
                        "auto",
                        [f"terrain:{seed}:flights:{riser}"],
                        engine,
                        None,
                        look_on=lambda env, conducts=conducts: conducts.append(Conduct(env)),
                    )
                    for seed in seeds
                ]
            )
            for way in ("up", "down"):
                part = result.of(lambda flight, way=way: flight.way == way)
                found.append(row(f"{engine}, steps of {riser} cm, {way}", part, target))
            slips, steps = (sum(getattr(one, name) for one in conducts) for name in ("slips", "steps"))
            name, slipped = f"{engine}, steps of {riser} cm", f"feet that slip over {100 * SLIPS:.0f} cm, of {steps}"
            found.append(Row(f"{name}: {slipped}", 100 * slips / steps, "%", "<=", 2))
            beyond = max(one.beyond for one in conducts)
            found.append(Row(f"{name}: joints beyond their limits", beyond, "rad", "<=", 0))
            print(f"{engine} {riser} cm done", flush=True)
    return found


PARTS: dict[str, Callable[[Flight], bool]] = {
    "up": lambda flight: flight.way == "up",
    "down": lambda flight: flight.way == "down",
    "turned": lambda flight: flight.kind == "turned",
    "steps below 15.5 cm": lambda flight: flight.riser < 0.155,
}


LEAST = {"turned": 75.0}


def of_driver(scene: str | None) -> list[Row]:
    """Staircases with steps of 10 to 20 cm, led and told the way only, by maps of several kinds."""
    cases: list[tuple[str, str, MapSettings | None, str, float | None]] = [
        ("led, the truth", "auto", None, "", None),
        ("led, map", "auto", MapSettings(), "", None),
        *((f"led, {spoilt}", "auto", MapSettings(), spoilt, None) for spoilt in SPOILT),
        (f"led, {PLANE}", "auto", None, PLANE, None),
        ("told the way, map", "stairs", MapSettings(), "", 85),
        ("told the way, ideal camera and odometry", "stairs", MapSettings(noise=None, drift=0), "", None),
        ("told the way, faulty map", "stairs", FAULTY, "", None),
        ("told the way, images of another robot", "stairs", MapSettings(), "images of another robot", None),
        ("told the way, the first image only", "stairs", MapSettings(), "the first image only", None),
        ("straight on, map", "straight on", MapSettings(), "", None),
        ("straight on, blind", "straight on", MapSettings(), "blind: the ground that the feet touched", None),
        (f"straight on, {PLANE}", "straight on", None, PLANE, None),
    ]
    found = list[Row]()
    for name, driver, ground, spoil, target in cases:
        begun = time.process_time()
        results = [measured(driver, [f"terrain:{seed}:flights"], "mujoco-worlds", ground, spoil) for seed in SEEDS[:2]]
        result, spent = joined(results), time.process_time() - begun
        found.append(row(name, result, target))
        if target:
            found += [row(f"{name}, {part}", result.of(those), LEAST.get(part)) for part, those in PARTS.items()]
            found.append(Row(f"{name}: CPU time of an episode", spent / len(result.over), "CPU-s"))
        print(f"{name} done", flush=True)
    if scene:
        for name, driver, ground in (("led, the truth", "auto", None), ("told the way, map", "stairs", MapSettings())):
            result = measured(driver, [scene], "sapien", ground)
            found.append(row(f"the scene, sapien, {name}", result, 92 if ground else None))
    return found


def of_colors(rooms: Sequence[str], scene: str | None, eyes: Path | None) -> list[Row]:
    """Rooms with stairs that were never trained in, as splats: told the way, by colours alone, and beside others."""
    colors = MapSettings(depth_of="colors", eyes=eyes)
    cases: list[tuple[str, str, MapSettings | None, str, float | None]] = [
        ("led, the truth", "auto", None, "", None),
        ("told the way, map of a depth camera", "stairs", MapSettings(), "", None),
        ("told the way, colours alone", "stairs", colors, "", 75),
        *((f"told the way, colours, {one}", "stairs", colors, one, None) for one in list(SPOILT)[:2]),
        ("led, colours alone", "auto", colors, "", None),
        ("led, blind: the ground that the feet touched", "auto", colors, list(SPOILT)[2], None),
    ]
    found = list[Row]()
    for name, driver, ground, spoil, target in cases:
        result = measured(driver, rooms, "sapien", ground, spoil)
        found.append(row(name, result, target))
        if target:
            found += [row(f"{name}, {part}", result.of(PARTS[part])) for part in ("up", "down")]
        print(f"{name} done", flush=True)
    if scene:
        found.append(row("the scene, told the way, colours alone", measured("stairs", [scene], "sapien", colors), 70))
    return found


def with_stairs(rooms: Sequence[str]) -> list[str]:
    """Rooms in which there is room before and behind stairs."""
    return [room for room in rooms if find_stairs(open_scene(room).regions)]


def main() -> None:
    """Measure, and write with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("gait", "driver", "colors"))
    parser.add_argument("--rooms", help="rooms of `splatyard scene rooms 24 --with stairs --seed 1000`, for colors")
    parser.add_argument("--eyes", type=Path, help="others than those that come along")
    parser.add_argument("--scene", help="a place with stairs")
    parser.add_argument("--write", action="store_true", help="write the pages of docs/benchmarks")
    options = parser.parse_args()
    command, sections = "python benchmarks/flights.py --scene BUNDLE", dict[str, str]()
    if options.only in (None, "gait"):
        text = "go2 on staircases drawn anew (treads of 22 to 32 cm), by the truth, led along the middle at 0.4 m/s."
        sections["stairs: gait"] = section("stairs: gait", command, text, of_gait())
    if options.only in (None, "driver"):
        text = "Steps of 10 to 20 cm, half of them down, a third turned; nothing was learned or tuned on these seeds."
        sections["stairs: driver"] = section("stairs: driver", command, text, of_driver(options.scene))
    if options.only == "colors":
        rooms = with_stairs(find_scenes((options.rooms,)))
        text = f"{len(rooms)} rooms with stairs, none of which was trained in, in sapien, up and down."
        rows = of_colors(rooms, options.scene, options.eyes)
        sections["stairs: colors"] = section("stairs: colors", f"{command} --only colors --rooms 'ROOM/*'", text, rows)
    print("\n".join(sections.values()))
    if options.write:
        update_page(sections)


if __name__ == "__main__":
    main()

"""Robots in bundles: simulate, teleoperate and benchmark them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flows.cli import tables
from flows.cli.command import (
    AllowFailed,
    Arg,
    Device,
    Driver,
    Engine,
    Gait,
    Ground,
    Port,
    ReplanSteps,
    Robot,
    SceneName,
    SceneNames,
    Seed,
    command,
    seconds,
)
from pipeline.io.files import counted

if TYPE_CHECKING:
    import viser

    from sim.drivers import Viewer
    from sim.env import SceneEnv

Task = Annotated[str, Arg("task; `splatyard policy tasks` lists all")]
Objects = Annotated[
    tuple[str, ...],
    Arg("name of an extracted object, all, or an object bundle; repeatable", "NAME"),
]


@command()
def tasks(
    name: Annotated[str | None, Arg("show observations, rewards and terminations of this task", "TASK")] = None,
) -> int:
    """List the tasks, or show the terms of one.

    A reward's weight is what a value of 1 is worth, per event or per second. `splatyard train` changes weights by --set
    task.rewards.NAME.weight=NUMBER, parameters by --set task.parameters.NAME=NUMBER, and the time limit by --set
    task.seconds=NUMBER.

    Examples:
        splatyard policy tasks
        splatyard policy tasks navigate
    """
    from sim.tasks.catalog import TASKS, find_task
    from sim.tasks.task import about

    if name is None:
        rows = [(task.name, f"{task.seconds:g}", f"{task.control_period:g}", task.goal) for task in TASKS.values()]
        tables.table("tasks", ["task", ">time limit [s]", ">control period [s]", "success"], rows)
        return 0
    task = find_task(name)
    tables.say(f"{name}: control period {task.control_period:g} s, time limit {task.seconds:g} s. {task.goal}")
    observed = [
        (key, str(term.size), f"{term.noise:g}", "critic" if term.privileged else "all", about(term.function))
        for key, term in task.observations.items()
    ]
    tables.table("observations", ["name", ">size", ">noise", "for", "meaning"], observed)
    rewards = [(key, f"{term.weight:g}", term.per, about(term.function)) for key, term in task.rewards.items()]
    tables.table("rewards", ["name", ">weight", "per", "meaning"], rewards)
    ends = [(key, about(term)) for key, term in task.terminations.items()]
    tables.table("terminations", ["name", "when"], ends)
    numbers = [(key, f"{one.value:g}", one.meaning) for key, one in task.parameters.items()]
    tables.table("parameters", ["name", ">default", "meaning"], numbers)
    return 0


@command()
def sim(
    bundles: SceneNames,
    *,
    task: Annotated[str | None, Arg("task; default: find for driver find, flights for stairs, else navigate")] = None,
    robot: Robot = "",
    gait: Gait = None,
    ground: Ground = None,
    engine: Engine = "sapien",
    device: Device = "cpu",
    envs: Annotated[int | None, Arg("number of robots; default: 16, or 1 with --view", "N")] = None,
    seconds: Annotated[float, Arg("simulated time", "S")] = 30.0,
    seed: Seed = 0,
    driver: Driver = "auto",
    replan_steps: ReplanSteps = None,
    view: Annotated[bool, Arg("watch it live in the browser, until Ctrl-C")] = False,
    port: Port = 8080,
    video: Annotated[Path | None, Arg("write a video of the camera images", "FILE.mp4")] = None,
    follow: Annotated[bool, Arg("with --video: also show the first robot from behind")] = False,
    objects: Objects = (),
    allow_failed: AllowFailed = False,
) -> int:
    """Simulate robots that do a task in a bundle.

    Puts robots into bundles, drives them by a script or policy, and reports how the episodes ended. --view opens a page
    with the robots in the splat and their camera images, with buttons to pause, step and reset; --video writes a video.

    Examples:
        splatyard sim bundles/hall/1.0.0 --envs 16 --seconds 30
        splatyard sim hall@1.0.0 --view
        splatyard sim hall --driver find --view
        splatyard sim hall --driver stairs --view
        splatyard sim hall --driver stairs --task levels --view
        splatyard sim hall --task avoid --video avoid.mp4 --envs 4
        splatyard sim hall --task explore --video explore.mp4 --follow --envs 1
        splatyard sim hall --task climb --view
        splatyard sim hall --robot my_robot.urdf --driver random
        splatyard sim hall --task put_cube_on_plate --driver ws://127.0.0.1:8000 --replan-steps 5
        splatyard sim hall --task put_cube_on_plate --view
        splatyard sim hall@1.1.0 --objects all --video push.mp4 --follow --envs 1
        splatyard sim hall --objects mug@1.0.0 --view
    """
    from sim.drivers import run_episodes
    from sim.policies.catalog import ground_of, open_driver, task_of

    task = task or task_of(driver)
    config = {"engine": engine, "device": device, "seed": seed, "allow_failed": allow_failed}
    with ExitStack() as open_things:
        page = open_things.enter_context(open_page(f"{robot or task} in {', '.join(bundles)}", port)) if view else None
        count = envs or (1 if page else 16)
        env = _made(task, bundles, count, robot, gait, objects, ground=ground_of(driver, ground), **config)
        open_things.enter_context(closing(env))
        viewers = _viewers(open_things, env, page, video, f"driver: {driver}" if follow else "")
        policy = open_things.enter_context(open_driver(driver, env, seed, replan_steps or 0))
        steps = None if view else round(seconds / env.task.control_period)
        counter = open_things.enter_context(_counted(steps))
        ended = run_episodes(env, steps, seed, policy, [*viewers, *counter])
    tables.show_endings(task, ended)
    if video:
        tables.say(f"video      {tables.quoted(tables.shown(video))}")
    return 0


def _made(
    task: str, bundles: Sequence[str], envs: int, robot: str, gait: str | None, objects: Sequence[str], **config: Any
) -> SceneEnv:
    """Robots in bundles, see `sim.make`."""
    tables.begin(f"loading {counted(envs, 'robot')} for {task} in {', '.join(bundles)}")
    from sim import make

    return make(task, bundles, envs, robot=robot, gait=gait or "", objects=objects, **config)


@contextmanager
def _counted(steps: int | None) -> Iterator[list[Viewer]]:
    """Shows how many of so many steps are done; nothing of a simulation without an end."""
    if steps is None:
        yield []
        return
    from pipeline.progress import bar

    with bar(steps, "simulating") as shown:
        yield [_Counter(shown.update)]


@dataclass(frozen=True)
class _Counter:
    """Calls a function at each step."""

    step: Callable[[], object]

    def update(self, seen: object, ended: object) -> None:
        """Count one more."""
        self.step()

    def close(self) -> None:
        """Nothing is open."""


def _viewers(
    open_things: ExitStack, env: SceneEnv, page: viser.ViserServer | None, video: Path | None, title: str
) -> list[Viewer]:
    """What shows robots on a page and in a film, as far as they are asked for; they are closed with other things.

    The film is of the first robot from behind if it has a title, or else of what all cameras see.
    """
    viewers: list[Viewer] = []
    if page:
        from flows.sim_view import SimPage

        viewers.append(SimPage(env, page))
    if video:
        from sim.video import CameraVideo, ChaseVideo

        film = ChaseVideo(env, video, title) if title else CameraVideo(video, 1 / env.task.control_period)
        viewers.append(open_things.enter_context(closing(film)))
    return viewers


@contextmanager
def open_page(what: str, port: int) -> Iterator[viser.ViserServer]:
    """A page for robots, before they are loaded; says where it is."""
    from flows.sim_view import serve_sim
    from flows.view import address_of, stop

    server = serve_sim(port, what)
    try:
        tables.say(f"{address_of(server)} shows {what} as soon as it is loaded; Ctrl-C ends it")
        yield server
    finally:
        stop(server)


@command()
def teleop(
    bundle: SceneName,
    *,
    task: Task = "put_cube_on_plate",
    robot: Robot = "",
    gait: Gait = None,
    lerobot: Annotated[
        Path | None, Arg("folder for the dataset of kept episodes, new or of an earlier session", "DIR")
    ] = None,
    seconds: Annotated[float, Arg("time limit of an episode", "S", seconds)] = 60.0,
    engine: Engine = "sapien",
    device: Device = "cpu",
    seed: Seed = 0,
    port: Port = 8080,
    objects: Objects = (),
    allow_failed: AllowFailed = False,
) -> int:
    """Teleoperate a robot in the browser, and record demonstrations.

    A page shows the robot in the splat and its camera images. Keys, a gamepad or buttons move the end effector and the
    gripper of an arm, or drive wheels and legs. Press Start to begin an episode; it ends when the task succeeds or
    fails. Keep or discard it. Ctrl-C ends the session and writes kept episodes as a LeRobot dataset (version 3.0). Kept
    episodes survive a kill; the next session with the same dataset appends to them.

    Examples:
        splatyard policy teleop hall --task put_cube_on_plate --lerobot my_demos
        splatyard policy teleop hall --task navigate --robot go2
        splatyard policy teleop hall --task fetch --lerobot fetch_demos --seconds 120
    """
    from flows.sim_view import SimPage, serve_sim
    from flows.teleop.desk import Desk
    from flows.teleop.session import Session, page_of
    from flows.teleop.takes import open_takes
    from flows.view import address_of
    from train.recording.steps import about_of

    config = {"engine": engine, "device": device, "seed": seed, "allow_failed": allow_failed}
    env = _made(task, [bundle], 1, robot, gait, objects, **config, starts="train", seconds=seconds)
    with ExitStack() as open_things:
        open_things.enter_context(closing(env))
        about = about_of(env, env.reset(seed=seed)[0])
        takes = open_things.enter_context(open_takes(lerobot, about)) if lerobot else None
        with closing(SimPage(env, serve_sim(port + 1, env.robot.name), driven=False)) as view:
            frame = address_of(view.server)

            def page(nonce: str) -> str:
                return page_of(env, frame, records=takes is not None, nonce=nonce)

            with closing(Desk(port, page, frame)) as desk:
                session = Session(env, view, desk, takes, seed)
                tables.say(f"teleop     {desk.address} until Ctrl-C")
                session.run()
        if takes and takes.files:
            kept = len(takes.files)
            tables.say(f"kept       {counted(kept, 'episode')}, {takes.write()} of them successful")
            tables.say(f"dataset    {tables.quoted(tables.shown(takes.dataset))}")
    return 0


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if min(counts) < 1:
        raise ValueError(text)
    return counts


@command()
def bench(
    what: Annotated[Literal["sim"], Arg("what to measure")],
    bundles: SceneNames,
    *,
    task: Task = "navigate",
    robot: Robot = "",
    gait: Gait = None,
    engine: Engine = "sapien",
    device: Device = "cpu",
    envs: Annotated[tuple[int, ...], Arg("numbers of environments", "N,N", _counts)] = (1, 16, 64),
    steps: Annotated[int, Arg("control steps per measurement", "N")] = 50,
    objects: Objects = (),
    allow_failed: AllowFailed = False,
) -> int:
    """Measure simulation speed on this machine.

    Steps robots with random actions. Reports environment steps and images per second, and the CPU time of a step by
    physics, cameras and the rest.

    Examples:
        splatyard policy bench sim bundles/hall/1.0.0
        splatyard policy bench sim hall kitchen@2.1.0 --envs 1,16,64 --steps 100
        splatyard policy bench sim hall --engine mujoco
        splatyard policy bench sim hall --device cuda --envs 4096
    """
    from sim.bench import measure
    from sim.tasks.catalog import find_task

    rows, robot = [], robot or find_task(task).robot
    for count in envs:
        env = _made(task, bundles, count, robot, gait, objects, engine=engine, device=device, allow_failed=allow_failed)
        speed = measure(env, steps)
        env.close()
        rates, parts = (speed.steps_per_second, speed.images_per_second), (speed.physics, speed.cameras, speed.rest)
        rows.append((str(count), *(f"{value:.0f}" for value in rates), *(f"{value:.3f}" for value in parts)))
    columns = ["environments", "steps/s", "images/s", "physics [CPU-ms]", "cameras [CPU-ms]", "rest [CPU-ms]"]
    title = f"{task}, {robot}, {engine}, images on {device}; CPU-ms per step"
    tables.table(title, columns, rows)
    return 0

"""Robots in bundles: to look at, and how fast they are simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from flows.cli import tables
from flows.cli.command import (
    AllowFailed,
    Arg,
    Device,
    Driver,
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

Task = Annotated[str, Arg("the task")]
Objects = Annotated[
    tuple[str, ...],
    Arg("one that was cut out of the bundle, or all, or a bundle that is an object by itself; may be repeated", "NAME"),
]


@command()
def tasks(
    name: Annotated[str | None, Arg("a task: what it observes, and what it is rewarded for", "TASK")] = None,
) -> int:
    """What robots can do: all tasks, or the terms of one.

    Weights of rewards are what a value of 1 is worth, each time that it happens or by the second; `splatyard train`
    changes them by --set task.rewards.NAME.weight=NUMBER, parameters by --set task.parameters.NAME=NUMBER, and the time
    limit by --set task.seconds=NUMBER.

    Examples:
        splatyard tasks
        splatyard tasks navigate
    """
    from sim.tasks.catalog import TASKS, find_task
    from sim.tasks.task import about

    if name is None:
        rows = [(task.name, f"{task.seconds:g}", f"{task.control_period:g}", task.goal) for task in TASKS.values()]
        tables.table("tasks", ["task", ">at most [s]", ">action every [s]", "success"], rows)
        return 0
    task = find_task(name)
    tables.say(f"{name}: an action every {task.control_period:g} s, for at most {task.seconds:g} s. {task.goal}")
    observed = [
        (key, str(term.size), f"{term.noise:g}", "critic" if term.privileged else "all", about(term.function))
        for key, term in task.observations.items()
    ]
    tables.table("observations", ["name", ">size", ">noise", "for", "what it is"], observed)
    rewards = [(key, f"{term.weight:g}", term.per, about(term.function)) for key, term in task.rewards.items()]
    tables.table("rewards", ["name", ">weight", "per", "of what"], rewards)
    ends = [(key, about(term)) for key, term in task.terminations.items()]
    tables.table("ends", ["name", "when"], ends)
    numbers = [(key, f"{one.value:g}", one.meaning) for key, one in task.parameters.items()]
    tables.table("parameters", ["name", ">is", "what it is"], numbers)
    return 0


@command()
def sim(
    bundles: SceneNames,
    *,
    task: Annotated[
        str | None, Arg("the task; by default the driver's: find, flights for stairs, else navigate")
    ] = None,
    robot: Robot = "rover",
    gait: Gait = None,
    ground: Ground = None,
    engine: Annotated[str, Arg("the physics: sapien, mujoco, isaacgym or sapien-gpu")] = "sapien",
    device: Device = "cpu",
    envs: Annotated[int | None, Arg("robots; default: 16, or 1 with --view", "N")] = None,
    seconds: Annotated[float, Arg("simulated time")] = 30.0,
    seed: Seed = 0,
    driver: Driver = "auto",
    replan_steps: ReplanSteps = None,
    view: Annotated[bool, Arg("look on in the browser, until Ctrl-C")] = False,
    port: Port = 8080,
    video: Annotated[Path | None, Arg("write what the cameras see", "FILE.mp4")] = None,
    follow: Annotated[bool, Arg("--video films the first robot from behind, too")] = False,
    objects: Objects = (),
    allow_failed: AllowFailed = False,
) -> int:
    """Let robots do a task in a bundle.

    Puts robots into bundles and lets them do a task, wheeled ones driven along the shortest path; says how it went.
    With --view a page in the browser shows the robots in the splat and what their cameras see, in real time, with
    buttons for time; with --video it is filmed.

    Examples:
        splatyard sim bundles/hall/1.0.0 --envs 16 --seconds 30
        splatyard sim hall@1.0.0 --view
        splatyard sim hall --driver find --view
        splatyard sim hall --robot go2 --driver stairs --view
        splatyard sim hall --task avoid --video avoid.mp4 --envs 4
        splatyard sim hall --task explore --video explore.mp4 --follow --envs 1
        splatyard sim hall --task climb --robot go2 --view
        splatyard sim hall --robot my_robot.urdf --driver random
        splatyard sim hall --task put_cube_on_plate --robot panda --driver ws://127.0.0.1:8000 --replan-steps 5
        splatyard sim hall --task put_cube_on_plate --robot panda --view
        splatyard sim hall@1.1.0 --objects all --video push.mp4 --follow --envs 1
        splatyard sim hall --objects mug@1.0.0 --view
    """
    from sim.drivers import run_episodes
    from sim.policies.catalog import ground_of, open_driver, task_of

    task = task or task_of(driver)
    config = {"engine": engine, "device": device, "seed": seed, "allow_failed": allow_failed}
    with ExitStack() as open_things:
        page = open_things.enter_context(open_page(f"{robot} in {', '.join(bundles)}", port)) if view else None
        count, known = envs or (1 if page else 16), ground_of(driver, ground)
        env = _made(task, bundles, count, robot, gait, objects, ground=known, **config)
        open_things.enter_context(closing(env))
        viewers = _viewers(open_things, env, page, video, f"driver: {driver}" if follow else "")
        policy = open_things.enter_context(open_driver(driver, env, seed, replan_steps or 0))
        ended = run_episodes(env, None if view else round(seconds / env.task.control_period), seed, policy, viewers)
    tables.show_endings(task, ended)
    if video:
        tables.say(f"video {tables.quoted(tables.shown(video))}")
    return 0


def _made(
    task: str, bundles: Sequence[str], envs: int, robot: str, gait: str | None, objects: Sequence[str], **config: Any
) -> SceneEnv:
    """Robots in bundles, see `sim.make`."""
    from sim import make

    return make(task, bundles, envs, robot=robot, gait=gait or "", objects=objects, **config)


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
    from flows.sim_view import address_of, serve_sim
    from flows.view import stop

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
    robot: Robot = "panda",
    gait: Gait = None,
    lerobot: Annotated[Path | None, Arg("a new folder for the dataset of what is kept", "DIR")] = None,
    seconds: Annotated[float, Arg("time limit of an episode; people are slower than experts", "S", seconds)] = 60.0,
    engine: Annotated[str, Arg("the physics: sapien, mujoco, isaacgym or sapien-gpu")] = "sapien",
    device: Device = "cpu",
    seed: Seed = 0,
    port: Port = 8080,
    objects: Objects = (),
    allow_failed: AllowFailed = False,
) -> int:
    """Drive a robot by keyboard or gamepad, in the browser, and record what goes well.

    A page shows the robot in the splat and what its cameras see. Keys, a gamepad or the page's buttons move an arm's
    hand and its gripper, or drive wheels and gaits. An episode begins by Start and ends when the task is done or has
    failed; then it is kept or discarded. Ctrl-C ends the session and writes what was kept as a LeRobot dataset
    (version 3.0); kept episodes outlive a kill, the next session with the same dataset goes on from them.

    Examples:
        splatyard teleop hall --task put_cube_on_plate --lerobot my_demos
        splatyard teleop hall --task navigate --robot rover
        splatyard teleop hall --task fetch --robot fetcher --lerobot fetch_demos --seconds 120
    """
    from flows.sim_view import SimPage, address_of, serve_sim
    from flows.teleop.desk import Desk
    from flows.teleop.session import Session, page_of
    from flows.teleop.takes import open_takes
    from train.encoders.groups import Images
    from train.environment import TrainEnv
    from train.recording.imitation import about_of

    tables.say(f"loading {robot} in {bundle} ...")
    config = {"engine": engine, "device": device, "seed": seed, "allow_failed": allow_failed}
    made = _made(task, [bundle], 1, robot, gait, objects, **config, starts="train", seconds=seconds)
    with ExitStack() as open_things:
        env = TrainEnv(open_things.enter_context(closing(made)), [Images("rgb")], seed=seed)
        takes = open_things.enter_context(open_takes(lerobot, about_of(env))) if lerobot else None
        with closing(SimPage(made, serve_sim(port + 1, robot), driven=False)) as view:
            frame = address_of(view.server)

            def page(nonce: str) -> str:
                return page_of(made, frame, records=takes is not None, nonce=nonce)

            with closing(Desk(port, page, frame)) as desk:
                session = Session(env, view, desk, takes, seed)
                tables.say(f"{desk.address} drives the robot; Ctrl-C ends it")
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
    what: Annotated[Literal["sim"], Arg("the simulation")],
    bundles: SceneNames,
    *,
    task: Task = "navigate",
    robot: Robot = "rover",
    gait: Gait = None,
    engine: Annotated[str, Arg("sapien, mujoco, isaacgym or sapien-gpu")] = "sapien",
    device: Device = "cpu",
    envs: Annotated[tuple[int, ...], Arg("environments to try", "N,N", _counts)] = (1, 16, 64),
    steps: Annotated[int, Arg("control steps", "N")] = 50,
    objects: Objects = (),
    allow_failed: AllowFailed = False,
) -> int:
    """How fast a bundle simulates on this machine.

    Steps robots with random actions through bundles and says how many environment steps and images there are a
    second, and how many CPU-milliseconds of a step physics, cameras and all the rest take.

    Examples:
        splatyard bench sim bundles/hall/1.0.0
        splatyard bench sim hall kitchen@2.1.0 --envs 1,16,64 --steps 100
        splatyard bench sim hall --engine mujoco
        splatyard bench sim hall --device cuda --envs 4096
    """
    from sim.bench import measure

    rows = []
    for count in envs:
        env = _made(task, bundles, count, robot, gait, objects, engine=engine, device=device, allow_failed=allow_failed)
        speed = measure(env, steps)
        env.close()
        rates, parts = (speed.steps_per_second, speed.images_per_second), (speed.physics, speed.cameras, speed.rest)
        rows.append((str(count), *(f"{value:.0f}" for value in rates), *(f"{value:.3f}" for value in parts)))
    columns = ["environments", "steps/s", "images/s", "physics [CPU-ms]", "cameras [CPU-ms]", "rest [CPU-ms]"]
    title = f"{task}, {robot}, {engine}, images on {device}; CPU-ms a step"
    tables.table(title, columns, rows)
    return 0

"""Trained policies: how good they are, at work, listed, compared, and recorded for others to imitate."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from flows.cli import tables
from flows.cli.command import (
    AllowFailed,
    Arg,
    Checkpoint,
    Device,
    Gait,
    Ground,
    Port,
    ReplanSteps,
    Robot,
    RunName,
    Runs,
    Scenes,
    asked,
    command,
    count,
)
from flows.cli.simulate import open_page

if TYPE_CHECKING:
    from train.runs.results import Line, Results
    from train.runs.run import Run

Ablation = Literal["none", "shuffled", "frozen", "black"]
VIDEO_EPISODES = 5
EpisodeSeed = Annotated[int, Arg("of the episodes")]


def _ablations(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(["none", *text.split(",")]))
    if not set(names) <= set(get_args(Ablation)):
        raise ValueError(text)
    return names


@dataclass(frozen=True, kw_only=True)
class _Driving:
    """What one asks for a driver and its robots."""

    driver: Annotated[
        str | None, Arg("instead of a run; as for `splatyard sim`, also policies from elsewhere", "DRIVER")
    ] = None
    replan_steps: ReplanSteps = None
    task: Annotated[str | None, Arg("with --driver; by default its own: find, flights for stairs, else navigate")] = (
        None
    )
    robot: Robot = "rover"
    gait: Gait = None
    ground: Ground = None
    scenes: Scenes = ()
    runs: Runs = Path("runs")
    seed: EpisodeSeed = 0
    device: Device = "cpu"
    allow_failed: AllowFailed = False


@command("eval")
@dataclass(frozen=True)
class Evaluate(_Driving):
    """How good a trained policy is, with intervals and ablations.

    Lets the policy of a run act without exploration: in the scenes that it was trained in from starts that were
    held out, in others from any. Says how many episodes succeed, with 95 % intervals, with right images and with
    spoilt ones, and writes evaluation.json and report.html into the run's folder. With --matrix it sets several
    runs against several scenes and writes matrix.json and matrix.md. With --driver a policy from elsewhere acts, or a
    script, from starts that are held out of what `splatyard record` writes.

    Examples:
        splatyard eval navigate-hall-1
        splatyard eval navigate-hall-1 --scene kitchen@2.1.0 --episodes 500
        splatyard eval navigate-hall-1 --blind navigate-hall-2           # next to one that was trained without sight
        splatyard eval navigate-hall-1 --checkpoint 000040 --ablations none,black
        splatyard eval navigate-hall-1 navigate-kitchen-1 --matrix --scene hall@1.0.0 --scene kitchen@2.1.0
        splatyard eval --driver ws://127.0.0.1:8000 --scene hall --task put_cube_on_plate --robot panda
        splatyard eval --driver stairs --robot go2 --scene hall           # by the height of steps, up and down apart
    """

    names: Annotated[tuple[str, ...], Arg("a run's name or folder", "RUN")] = ()
    _: KW_ONLY
    episodes: Annotated[int | None, Arg("in each scene; default: 200, of more than ten scenes fewer", "N")] = None
    ablations: Annotated[
        tuple[Ablation, ...], Arg("what is done to images: none, shuffled, frozen, black", "NAME,NAME", _ablations)
    ] = ("none", "shuffled", "frozen")
    blind: Annotated[str | None, Arg("one that was trained alike without sight", "RUN")] = None
    checkpoint: Checkpoint = None
    matrix: Annotated[bool, Arg("all runs in all scenes")] = False
    out: Annotated[Path, Arg("folder for --matrix", "DIR")] = Path("matrix")
    seed: EpisodeSeed = 999

    def run(self) -> int:
        """Evaluate."""
        from train.runs.requests import EvaluationRequest

        request = asked(EvaluationRequest, self)
        if self.driver:
            _show(f"{self.driver}, {request.task_name}; 95 % intervals", request.of_driver())
        elif self.matrix:
            matrix = request.of_all()
            tables.table(f"{matrix.task}: success (* trained there)", ["run", *matrix.scenes], matrix.texts())
            for file in matrix.write(self.out):
                tables.say(f"written    {tables.quoted(file)}")
        else:
            _show_results(*request.of_run())
        return 0


def _show_results(results: Results, *written: Path) -> None:
    _show(f"{results.run}, {results.task}, checkpoint {results.checkpoint}; 95 % intervals", results.lines())
    if results.stopped_early:
        resume = f"splatyard train --resume {tables.quoted(tables.shown(written[0].parent))}"
        tables.say(f"stopped early: {results.stopped_early}; {resume} continues it")
    for file in written:
        tables.say(f"written    {tables.quoted(tables.shown(file))}")


def _show(title: str, lines: Sequence[Line]) -> None:
    rows = [
        (line.ablation, line.scene, *map(str, line.shares.values()), str(line.episodes), line.ended) for line in lines
    ]
    columns = ["ablation", "scene", *(f">{name}" for name in lines[0].shares), ">episodes", "ended by"]
    tables.table(title, columns, rows)


@command()
def play(
    run_name: RunName,
    *,
    runs: Runs = Path("runs"),
    view: Annotated[bool, Arg("look on in the browser, until Ctrl-C", one_of="where it is shown")] = False,
    video: Annotated[Path | None, Arg("write a film", "FILE.mp4", one_of="where it is shown")] = None,
    scene: Annotated[str | None, Arg("a folder, name@version or name; default: the run's first", "BUNDLE")] = None,
    episodes: Annotated[
        int | None, Arg(f"default: {VIDEO_EPISODES} for a film, no end for the page", "N", count)
    ] = None,
    seed: EpisodeSeed = 0,
    starts: Annotated[Literal["held_out", "train", "all"], Arg("where episodes begin")] = "held_out",
    checkpoint: Checkpoint = None,
    port: Port = 8080,
    allow_failed: AllowFailed = False,
) -> int:
    """Look at a trained policy at work.

    Lets the policy of a run drive a robot, without exploration, in the run's first scene or in another one. With
    --view a page in the browser shows the robot in the splat and what its camera sees; with --video a film is
    written: the robot from behind and above, next to what its camera sees. No display is needed for either.

    Examples:
        splatyard play navigate-hall-1 --view
        splatyard play navigate-hall-1 --video out.mp4 --episodes 3
        splatyard play navigate-hall-1 --video out.mp4 --scene kitchen@2.1.0 --starts all --seed 7
    """
    from train.distributed import use_one_thread
    from train.runs.checkpoint import file_of
    from train.runs.play import open_play, play, write_video
    from train.runs.run import Run

    use_one_thread()
    run = Run.open(run_name, runs)
    file = file_of(run, checkpoint)
    if video:
        count = episodes or VIDEO_EPISODES
        ended = write_video(
            run, video, scene, episodes=count, seed=seed, starts=starts, allow_failed=allow_failed, file=file
        )
    else:
        from flows.sim_view import SimPage

        with open_page(run.name, port) as page:
            env, policy = open_play(run, scene, seed=seed, starts=starts, allow_failed=allow_failed, file=file)
            with closing(env):
                ended = play(env, policy, [SimPage(env.env, page)], episodes)
    tables.show_endings(run.preset.task, ended)
    if video:
        tables.say(f"written    {tables.quoted(video)}")
    return 0


@command("runs")
def list_runs(*, runs: Runs = Path("runs")) -> int:
    """List what was trained.

    Lists all runs of a folder, the newest first: where they train, how far they came, their success at the end - of
    the last 200 episodes of training, by the policy that explores - success in places held out of training, and the
    evaluated success, with 95 % intervals.

    Examples:
        splatyard runs
        splatyard runs --runs elsewhere/runs
    """
    from train.runs.run import list_runs

    listed = list_runs(runs)
    if not listed:
        tables.say(f"no runs in {tables.quoted(runs)}; splatyard train makes them")
        return 0
    now = datetime.datetime.now(datetime.UTC)
    columns = ["run", "task", "robot", "scenes", ">iterations", ">success", "held-out places", "evaluated", ">age"]
    rows = [_run_row(run, tables.age(now - run.record.started)) for run in listed]
    tables.table(f"runs in {tables.quoted(runs)}", columns, rows)
    return 0


def _run_row(run: Run, age: str) -> tuple[tables.Part, ...]:
    from pipeline.errors import TrainError
    from train.runs.compare import progress

    try:
        told: tuple[tables.Part, ...] = progress(run)
    except TrainError as error:
        told = "-", "-", "-", (error.found, "red")
    scenes = ", ".join(lock.reference for lock in run.locks[:3]) + (", …" if len(run.locks) > 3 else "")
    return run.name, run.preset.task, run.preset.robot, scenes, *told, age


@command()
def compare(
    names: Annotated[tuple[str, ...], Arg("a run's name or folder", "RUN")],
    *,
    runs: Runs = Path("runs"),
    image: Annotated[Path | None, Arg("write success against steps", "FILE.svg")] = None,
) -> int:
    """What differs between runs.

    Shows what differs between runs - presets, scenes, seed, versions, machine - and their metrics side by side;
    with --image also their curves of success.

    Examples:
        splatyard compare navigate-hall-1 blind
        splatyard compare navigate-hall-1 navigate-hall-2 navigate-hall-3 --image seeds.svg
    """
    from train.files import write_atomically
    from train.runs import compare
    from train.runs.run import Run

    opened = [Run.read(name, runs) for name in names]
    names = tuple(run.name for run in opened)
    if other := compare.differences(opened):
        tables.table("what differs", ["", *names], [(name, *values) for name, values in other.items()])
    else:
        tables.say("their records show no difference")
    tables.side_by_side("metrics", [f">{name}" for name in names], [compare.metrics(run) for run in opened])
    if image:
        write_atomically(image, compare.image(opened).encode())
        tables.say(f"image      {tables.quoted(image)}")
    return 0


@command("compare-terrains")
def compare_terrains(
    gaits: Annotated[
        tuple[str, ...], Arg("a run of `walk` or `climb`, by name or folder; or a gait's name or file", "RUN")
    ],
    *,
    runs: Runs = Path("runs"),
    robot: Annotated[str | None, Arg("a name, or a URDF or MJCF file; default: the gait's")] = None,
    engine: Annotated[str, Arg("the physics: mujoco-worlds, or sapien with all the robot's shapes")] = "mujoco-worlds",
    envs: Annotated[int, Arg("robots on each kind of ground", "N", count)] = 64,
    seed: EpisodeSeed = 0,
    page: Annotated[Path | None, Arg("also draw how they step: when feet stand, speeds, torques", "FILE.html")] = None,
) -> int:
    """How well gaits walk on flat ground, and over stairs, ramps, rubble and gaps.

    On flat ground robots follow commands for 20 s: errors are those of the mean velocity over 4 s. Everywhere else they
    walk to the top: shown is how many get there, and how many fall. A run of `climb` walks by what its camera sees, on
    flat ground and over short, steep and tall stairs, with right images and with spoilt ones, in the engine of its run.

    Examples:
        splatyard compare-terrains walk-go2-1 --page walk-go2-1.html
        splatyard compare-terrains go2 walk-go2-1 --envs 200
        splatyard compare-terrains go2 --engine sapien
        splatyard compare-terrains climb-hall-1 climb-hall-2           # the second one trained blind, say
    """
    from train.files import write_atomically
    from train.legs.stepping import page_of
    from train.legs.terrains import climbed, find_gait, find_seeing, rows

    if seeing := find_seeing(gaits, runs):
        columns = {column: shares for run in seeing.values() for column, shares in climbed(run, envs, seed).items()}
        tables.side_by_side(f"{envs} robots on each ground", [*columns], [*columns.values()])
    found = [(name, find_gait(name, runs)) for name in gaits if name not in seeing]
    if not found:
        return 0
    if page:
        write_atomically(page, page_of(found, robot, engine, seed).encode())
    columns = [rows(gait, robot or gait.card.robot, engine, envs, seed) for _, gait in found]
    tables.side_by_side(f"{envs} robots, {engine}", [name for name, _ in found], columns)
    return 0


@command("record")
@dataclass(frozen=True)
class Record(_Driving):
    """Record how a policy or a driver does a task, as a LeRobot dataset.

    Lets the policy of a run, or a driver who knows the way, do a task, and writes images, what the robot knew,
    actions and rewards of whole episodes as a LeRobot dataset (version 3.0), from which others learn by imitation.
    Episodes begin at poses to train at; those held out stay unseen. Failures are recorded too: next.success tells
    them apart. All cameras are recorded; the task's text is its instruction, if it has one, or else its name.

    Examples:
        splatyard record navigate-hall-1 --lerobot hall_demos --episodes 100
        splatyard record --driver auto --scene hall@1.0.0 --task avoid --lerobot avoid_demos --episodes 50
        splatyard record --driver auto --scene hall --task lift --robot panda --lerobot lift_demos
        splatyard record --driver auto --scene hall --lerobot demos --depth              # for policies that see depth
    """

    run_name: Annotated[str | None, Arg("a run's name or folder", "RUN")] = None
    _: KW_ONLY
    lerobot: Annotated[Path, Arg("a new folder for the dataset", "DIR")]
    episodes: Annotated[int, Arg("", "N")] = 100
    depth: Annotated[bool, Arg("with --driver: depth images, too; of a run, what its policy sees is recorded")] = False

    def run(self) -> int:
        """Record."""
        from tqdm import tqdm

        from train.runs.requests import RecordRequest

        request = asked(RecordRequest, self)
        with request.open() as record, tqdm(total=self.episodes, unit=" episodes", disable=None) as bar:
            successful = record(lambda _: bar.update())
        tables.say(f"recorded   {self.episodes} episodes, {successful} of them successful")
        tables.say(f"dataset    {tables.quoted(self.lerobot)}")
        return 0

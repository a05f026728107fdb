"""Trained policies: evaluate, play, list, compare and record them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import closing
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from flows.cli import tables
from flows.cli.command import (
    BUNDLE_HELP,
    AllowFailed,
    Arg,
    AsJson,
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
    gaits_exist,
    runs_exist,
)
from flows.cli.simulate import open_page

if TYPE_CHECKING:
    from train.runs.results import Line, Results
    from train.runs.run import Run

Ablation = Literal["none", "shuffled", "frozen", "black"]
VIDEO_EPISODES = 5
EpisodeSeed = Annotated[int, Arg("random seed of the episodes")]


def _ablations(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(["none", *text.split(",")]))
    if not set(names) <= set(get_args(Ablation)):
        raise ValueError(text)
    return names


@dataclass(frozen=True, kw_only=True)
class _Driving:
    """What one asks for a driver and its robots."""

    driver: Annotated[str | None, Arg("evaluate this instead of a run: any driver of `splatyard sim`", "DRIVER")] = None
    replan_steps: ReplanSteps = None
    task: Annotated[str | None, Arg("task of --driver; default: find for find, flights for stairs, else navigate")] = (
        None
    )
    robot: Robot = ""
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
    """Evaluate a policy: success with intervals, ablations and a report.

    Runs the policy without exploration: from held-out starts in its training scenes, from any start in other scenes.
    Reports success with 95 % intervals, with normal and with ablated images, and writes evaluation.json and report.html
    to the run's folder. --matrix evaluates several runs in several scenes and writes matrix.json and matrix.md.
    --driver evaluates an external policy or a script, from starts that `splatyard policy record` never uses.

    Examples:
        splatyard eval navigate-hall-1
        splatyard eval navigate-hall-1 --scene kitchen@2.1.0 --episodes 500
        splatyard eval navigate-hall-1 --blind navigate-hall-2           # compared with a policy without images
        splatyard eval navigate-hall-1 --checkpoint 000040 --ablations none,black
        splatyard eval navigate-hall-1 navigate-kitchen-1 --matrix --scene hall@1.0.0 --scene kitchen@2.1.0
        splatyard eval --driver ws://127.0.0.1:8000 --scene hall --task put_cube_on_plate
        splatyard eval --driver stairs --scene hall           # by step height, up and down
    """

    names: Annotated[tuple[str, ...], Arg("name or folder of a run", "RUN")] = ()
    _: KW_ONLY
    episodes: Annotated[int | None, Arg("episodes per scene; default: 200, fewer with more than ten scenes", "N")] = (
        None
    )
    ablations: Annotated[
        tuple[Ablation, ...], Arg("image ablations: none, shuffled, frozen, black", "NAME,NAME", _ablations)
    ] = ("none", "shuffled", "frozen")
    blind: Annotated[str | None, Arg("run to compare with: the same training without images", "RUN")] = None
    checkpoint: Checkpoint = None
    matrix: Annotated[bool, Arg("evaluate all runs in all scenes")] = False
    out: Annotated[Path, Arg("output folder of --matrix", "DIR")] = Path("matrix")
    seed: EpisodeSeed = 999
    as_json: AsJson = False

    def run(self) -> int:
        """Evaluate."""
        runs_exist([*self.names, *([self.blind] if self.blind else [])], self.runs)
        tables.begin(f"loading {self.driver or ', '.join(self.names) or 'the policy'}")
        from train.runs.requests import EvaluationRequest

        request = asked(EvaluationRequest, self)
        if self.matrix and not self.driver:
            matrix = request.of_all()
            files = [*matrix.write(self.out)]
            if self.as_json:
                tables.show_json({**vars(matrix), "written": files})
                return 0
            tables.table(f"{matrix.task}: success (* trained there)", ["run", *matrix.scenes], matrix.texts())
            for file in files:
                tables.say(f"written    {tables.quoted(file)}")
        elif self.driver:
            lines = request.of_driver()
            if self.as_json:
                tables.show_json({"driver": self.driver, "task": request.task_name, "results": lines})
            else:
                _show(f"{self.driver}, {request.task_name}; 95 % intervals", lines)
        else:
            results, *files = request.of_run()
            if self.as_json:
                about = results.model_dump(include={"run", "task", "checkpoint", "iteration", "stopped_early"})
                tables.show_json({**about, "results": results.lines(), "written": files})
            else:
                _show_results(results, *files)
        return 0


def _show_results(results: Results, *written: Path) -> None:
    _show(f"{results.run}, {results.task}, checkpoint {results.checkpoint}; 95 % intervals", results.lines())
    if results.stopped_early:
        resume = f"splatyard train --resume {tables.quoted(tables.shown(written[0].parent))}"
        tables.say(f"stopped early: {results.stopped_early}; {resume} resumes it")
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
    view: Annotated[bool, Arg("watch it live in the browser, until Ctrl-C", one_of="where it is shown")] = False,
    video: Annotated[Path | None, Arg("write a video", "FILE.mp4", one_of="where it is shown")] = None,
    scene: Annotated[str | None, Arg(f"{BUNDLE_HELP}; default: the run's first scene", "BUNDLE")] = None,
    episodes: Annotated[
        int | None, Arg(f"default: {VIDEO_EPISODES} with --video, endless with --view", "N", count)
    ] = None,
    seed: EpisodeSeed = 0,
    starts: Annotated[Literal["held_out", "train", "all"], Arg("where episodes start")] = "held_out",
    checkpoint: Checkpoint = None,
    port: Port = 8080,
    allow_failed: AllowFailed = False,
) -> int:
    """Watch a trained policy, live or as a video.

    Runs the policy without exploration in the run's first scene or in another one. --view opens a page with the robot
    in the splat and its camera image. --video writes a video of the robot from behind and above, next to its camera
    image. Neither needs a display.

    Examples:
        splatyard policy play navigate-hall-1 --view
        splatyard policy play navigate-hall-1 --video out.mp4 --episodes 3
        splatyard policy play navigate-hall-1 --video out.mp4 --scene kitchen@2.1.0 --starts all --seed 7
    """
    runs_exist([run_name], runs)
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
def list_runs(*, runs: Runs = Path("runs"), as_json: AsJson = False) -> int:
    """List training runs.

    Lists the runs of a folder, newest first: scenes, iterations, success in the last 200 training episodes (with
    exploration), success in held-out scenes, and evaluated success with 95 % intervals.

    Examples:
        splatyard policy runs
        splatyard policy runs --runs elsewhere/runs
    """
    from train.runs.folders import run_files

    listed: list[Run] = []
    if run_files(runs):
        from train.runs.run import list_runs

        listed = list_runs(runs)
    if as_json:
        tables.show_json([*map(_run_values, listed)])
        return 0
    if not listed:
        tables.say(f"no runs in {tables.quoted(runs)}; start one with splatyard train")
        return 0
    now = datetime.datetime.now(datetime.UTC)
    columns = ["run", "task", "robot", "scenes", ">iterations", ">success", "held-out scenes", "evaluated", ">age"]
    rows = [_run_row(run, tables.age(now - run.record.started)) for run in listed]
    tables.table(f"runs in {tables.quoted(runs)}", columns, rows)
    return 0


def _run_values(run: Run) -> dict[str, object]:
    from pipeline.errors import TrainError
    from train.runs.compare import progress_values

    known: dict[str, object] = {"name": run.name, "folder": run.folder, "task": run.preset.task}
    known |= {"robot": run.preset.robot, "scenes": [lock.reference for lock in run.locks]}
    known["started"] = run.record.started
    try:
        return known | progress_values(run)
    except TrainError as error:
        return known | {"error": error.found}


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
    names: Annotated[tuple[str, ...], Arg("name or folder of a run", "RUN")],
    *,
    runs: Runs = Path("runs"),
    image: Annotated[Path | None, Arg("plot success over steps", "FILE.svg")] = None,
) -> int:
    """Compare training runs.

    Shows the differences in preset, scenes, seed, versions and machine, and the metrics side by side. --image plots
    their success curves.

    Examples:
        splatyard policy compare navigate-hall-1 blind
        splatyard policy compare navigate-hall-1 navigate-hall-2 navigate-hall-3 --image seeds.svg
    """
    runs_exist(names, runs)
    from train.files import write_atomically
    from train.runs import compare
    from train.runs.run import Run

    opened = [Run.read(name, runs) for name in names]
    names = tuple(run.name for run in opened)
    if other := compare.differences(opened):
        tables.table("differences", ["", *names], [(name, *values) for name, values in other.items()])
    else:
        tables.say("the runs have the same settings")
    tables.side_by_side("metrics", [f">{name}" for name in names], [compare.metrics(run) for run in opened])
    if image:
        write_atomically(image, compare.image(opened).encode())
        tables.say(f"image      {tables.quoted(image)}")
    return 0


@command("compare-terrains")
def compare_terrains(
    gaits: Annotated[tuple[str, ...], Arg("run of walk or climb (name or folder), or a gait (name or file)", "RUN")],
    *,
    runs: Runs = Path("runs"),
    robot: Annotated[str | None, Arg("robot name, or a URDF or MJCF file; default: the gait's")] = None,
    engine: Annotated[
        str, Arg("physics engine: mujoco-worlds, or sapien with all collision shapes of the robot")
    ] = "mujoco-worlds",
    envs: Annotated[int, Arg("robots per terrain", "N", count)] = 64,
    seed: EpisodeSeed = 0,
    page: Annotated[Path | None, Arg("write a page of footfalls, speeds and torques", "FILE.html")] = None,
) -> int:
    """Compare gaits on flat ground, stairs, ramps, rubble and gaps.

    On flat ground, robots follow velocity commands for 20 s; the error is that of the mean velocity over 4 s. On other
    terrains they walk to the top; the table shows how many arrive and how many fall. Runs of climb use their camera, on
    flat ground and on short, steep and tall stairs, with normal and with ablated images, in the engine of the run.

    Examples:
        splatyard policy compare-terrains walk-go2-1 --page walk-go2-1.html
        splatyard policy compare-terrains go2 walk-go2-1 --envs 200
        splatyard policy compare-terrains go2 --engine sapien
        splatyard policy compare-terrains climb-hall-1 climb-hall-2           # such as with and without images
    """
    gaits_exist(gaits, runs)
    from train.files import write_atomically
    from train.legs.stepping import page_of
    from train.legs.terrains import climbed, find_gait, find_seeing, rows

    if seeing := find_seeing(gaits, runs):
        columns = {column: shares for run in seeing.values() for column, shares in climbed(run, envs, seed).items()}
        tables.side_by_side(f"{envs} robots per terrain", [*columns], [*columns.values()])
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
    """Record demonstrations of a policy or driver as a LeRobot dataset.

    Runs the policy of a run, or a driver, and writes images, robot state, actions and rewards of whole episodes as a
    LeRobot dataset (version 3.0) for imitation learning. Episodes start at training poses; held-out poses stay unseen.
    Failed episodes are recorded too, marked by next.success. All cameras are recorded. The task text is the task's
    instruction, or its name.

    Examples:
        splatyard policy record navigate-hall-1 --lerobot hall_demos --episodes 100
        splatyard policy record --driver auto --scene hall@1.0.0 --task avoid --lerobot avoid_demos --episodes 50
        splatyard policy record --driver auto --scene hall --task lift --lerobot lift_demos
        splatyard policy record --driver auto --scene hall --lerobot demos --depth              # with depth images
    """

    run_name: Annotated[str | None, Arg("name or folder of a run", "RUN")] = None
    _: KW_ONLY
    lerobot: Annotated[Path, Arg("new folder for the dataset", "DIR")]
    episodes: Annotated[int, Arg("episodes to record", "N")] = 100
    depth: Annotated[bool, Arg("record depth images too; only with --driver")] = False

    def run(self) -> int:
        """Record."""
        runs_exist([self.run_name] if self.run_name else [], self.runs)
        tables.begin(f"loading {self.driver or self.run_name or 'the policy'}")
        from pipeline.progress import bar
        from train.runs.requests import RecordRequest

        request = asked(RecordRequest, self)
        with request.open() as record, bar(self.episodes, "recorded episodes") as shown:
            successful = record(lambda _: shown.update())
        tables.say(f"recorded   {self.episodes} episodes, {successful} of them successful")
        tables.say(f"dataset    {tables.quoted(self.lerobot)}")
        return 0

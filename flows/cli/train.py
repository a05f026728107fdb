"""Training: policies, and networks that policies use."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flows.cli import tables
from flows.cli.command import (
    AllowFailed,
    Arg,
    Gait,
    HoldOut,
    Runs,
    Scenes,
    Test,
    asked,
    command,
    count,
    runs_exist,
    scenes_exist,
)
from flows.cli.training import INTERRUPTED, TrainingLine, interruptible

if TYPE_CHECKING:
    from train.actors.trainer import ActorPlan
    from train.distributed import Nodes
    from train.fitting import Watch
    from train.request import TrainRequest
    from train.runs.places import Places
    from train.runs.run import Run


@command("train")
@dataclass(frozen=True)
class Train:
    """Train a policy in bundles.

    Trains a vision policy by PPO or another algorithm in one bundle or many. The run's folder in runs/ holds settings
    and scenes (run.json), the training curve, TensorBoard files and checkpoints. Ctrl-C saves a checkpoint and ends;
    --resume continues from it, exactly as if never interrupted.

    Examples:
        splatyard train navigate --scene hall@1.0.0
        splatyard train navigate --scene hall --seed 1 --iterations 150
        splatyard train navigate --scene hall --set ppo.learning_rate=5e-4 --set policy.encoder=none --name blind
        splatyard train put_cube_on_plate --scene hall --algorithm rlpd --demos put_demos
        splatyard train put_cube_on_plate --scene hall --algorithm rlpd --demos put_demos --actors 8
        splatyard train find --scene 'yard/*' --hold-out 20% --test hall     # also success in unseen scenes
        splatyard train climb --scene hall --set policy.modality=rgb
        splatyard train climb-joints --scene 'stairs-*@latest' --device cuda --num-gpus 4
        splatyard train navigate --scene hall --nodes 4 --rendezvous 10.0.0.1:29500     # on four machines
        splatyard train find --scene 'yard/*'                           # find a ball in unseen scenes
        splatyard train find --scene kitchen --from find                # fine-tune it in one scene
        splatyard train my_preset.yaml --scene hall --log wandb
        splatyard train --resume navigate-hall-1 --iterations 200
    """

    what: Annotated[str | None, Arg("task, preset, or a preset's YAML file", "TASK")] = None
    _: KW_ONLY
    scenes: Scenes = ()
    start_from: Annotated[
        str | None,
        Arg("start with the networks of this run, of find, or of a file .npz", "RUN", flag="--from"),
    ] = None
    hold_out: HoldOut = None
    test: Test = ()
    preset: Annotated[str | None, Arg("preset name or file, if it isn't the task's")] = None
    robot: Annotated[str | None, Arg("robot name, or a URDF or MJCF file; default: the preset's")] = None
    gait: Gait = None
    algorithm: Annotated[
        str | None, Arg("learning algorithm, such as sac; a wrong name lists all; default: the preset's", "NAME")
    ] = None
    demos: Annotated[Path | None, Arg("LeRobot dataset of demonstrations to learn from", "DIR")] = None
    settings: Annotated[
        tuple[str, ...],
        Arg("set a preset value, such as ppo.learning_rate=5e-4; repeatable", "KEY=VALUE", flag="--set"),
    ] = ()
    iterations: Annotated[int | None, Arg("total iterations; default: the preset's", "N", count)] = None
    minutes: Annotated[float | None, Arg("time limit in minutes", "M")] = None
    seed: Annotated[int | None, Arg("random seed; default: 0")] = None
    device: Annotated[str | None, Arg("device for networks and images: cpu, cuda, cuda:1; default: cpu")] = None
    num_gpus: Annotated[int | None, Arg("train in N processes, each on its own device", "N", count)] = None
    nodes: Annotated[
        int | None, Arg("train on up to N machines: run the same command on each, in a shared folder", "N", count)
    ] = None
    rendezvous: Annotated[str | None, Arg("with --nodes: address of one of the machines", "HOST:PORT")] = None
    actors: Annotated[int | None, Arg("collect steps with N Ray actors; for off-policy algorithms", "N", count)] = None
    ray_address: Annotated[
        str | None, Arg("auto or HOST:PORT of a running Ray cluster; default: start one here", "ADDRESS")
    ] = None
    name: Annotated[
        str | None, Arg("name of the run; default: <task>-<scene>-<number>, with --nodes <task>-<host>-<port>")
    ] = None
    runs: Runs = Path("runs")
    resume: Annotated[str | None, Arg("resume this run, by name or folder", "RUN")] = None
    log: Annotated[tuple[str, ...], Arg("log to wandb or mlflow too; repeatable", "NAME")] = ()
    evaluate: Annotated[int | None, Arg("evaluate before and after the training, in N episodes", "N", count)] = None
    allow_failed: AllowFailed = False

    def run(self) -> int:
        """Run the command."""
        runs_exist([self.resume] if self.resume else [], self.runs)
        if self.nodes:  # before torch is imported, which tells of each machine that leaves by stacks of C++
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from train.preset import preset_file

        if named := self.preset or self.what:
            preset_file(named)  # refused before torch is imported
        from pipeline.errors import SplatyardError
        from train.distributed import launch, launched

        nodes = self._nodes()
        run, places = self._request().open()
        if launched():
            return self._train(run, places)
        record = run.record
        if nodes or record.processes > 1:
            code = launch("flows.cli:main", self._for_each_process(run), record.processes, record.device, nodes)
        else:
            try:
                code = self._train(run, places)
            except SplatyardError:
                if not self.resume:
                    run.discard()
                raise
        if self.evaluate and code == 0:
            _evaluate(run, self.evaluate)
        return code

    def _nodes(self) -> Nodes | None:
        """Machines that train together, if any."""
        from pipeline.errors import TrainError
        from train.distributed import Nodes

        if self.nodes is None and self.rendezvous is None:
            return None
        if self.nodes is None or self.rendezvous is None or self.actors:
            found = f"--nodes {self.nodes}, --rendezvous {self.rendezvous}, --actors {self.actors}"
            remedy = "--nodes 4 --rendezvous 10.0.0.1:29500"
            raise TrainError("machines that train together meet at one of them", found=found, remedy=remedy)
        return Nodes.at(self.nodes, self.rendezvous)

    def _request(self) -> TrainRequest:
        """What is asked for."""
        from train.request import TrainRequest

        others = {"processes": self.num_gpus, "meets_at": self.rendezvous or "", "actors": self._plan()}
        return asked(TrainRequest, self, **others)

    def _plan(self) -> ActorPlan | None:
        """Actors apart from the learner, if any."""
        from pipeline.errors import TrainError

        if self.actors is None:
            if self.ray_address is not None:
                found = f"--ray-address {self.ray_address} alone"
                raise TrainError("actors act at a Ray address", found=found, remedy="add --actors 8")
            return None
        from train.actors.trainer import ActorPlan

        return ActorPlan(self.actors, self.ray_address or "")

    def _for_each_process(self, run: Run) -> list[str]:
        """The command line of processes that train a run together."""
        arguments = ["train", "--resume", str(run.folder.resolve())]
        for option in ("iterations", "minutes", "nodes", "rendezvous"):
            if getattr(self, option) is not None:
                arguments += [f"--{option}", str(getattr(self, option))]
        arguments += [f"--scene={scene}" for scene in self.scenes] + [f"--test={scene}" for scene in self.test]
        arguments += [f"--log={name}" for name in self.log]
        return arguments + ["--allow-failed"] * self.allow_failed

    def _train(self, run: Run, places: Places) -> int:
        from train.distributed import first, processes_of_this_run
        from train.session import train_run

        iterations = self.iterations or run.preset.iterations
        writes = first(processes_of_this_run())
        folder = tables.quoted(tables.shown(run.folder))
        if writes:
            tables.say(f"run        {folder}")
        try:
            line = TrainingLine(iterations, self.minutes, shows=writes)
            with interruptible() as interrupted, contextlib.closing(line):
                done = train_run(
                    run,
                    places.scenes,
                    iterations=iterations,
                    minutes=self.minutes,
                    loggers=self.log,
                    watch=line.show,
                    stop=interrupted,
                    actors=self._plan(),
                    nodes=bool(self.nodes),
                    unseen=places.unseen,
                )
        except KeyboardInterrupt:
            resume = f"splatyard train --resume {folder}"
            print(f"\ninterrupted; resume from the last checkpoint with {resume}", file=sys.stderr)
            return INTERRUPTED
        except RuntimeError as error:
            if not self.nodes:
                raise
            told = str(error).strip().partition("\n")[0][:200]
            print(f"a machine or process left; training continues from the last checkpoint ({told})", file=sys.stderr)
            return 1
        if writes and not (self.nodes and interrupted()):
            _report(run, folder, done, iterations)
        return INTERRUPTED if interrupted() else 0


def _evaluate(run: Run, episodes: int) -> None:
    """Success from held-out starts, of the untrained policy and of the trained one."""
    from train.runs import checkpoint
    from train.runs.evaluation import evaluate_run

    files = checkpoint.files(run.checkpoints)
    for name, file in (("before", files[0]), ("after", files[-1])):
        results = evaluate_run(run, episodes=episodes, ablations=("none",), file=file, allow_failed=True)
        tables.say(f"{name:<10} success {results.evaluations[0].success()} in {episodes} episodes per scene")


def _report(run: Run, folder: str, done: int, iterations: int) -> None:
    """Where everything is, and what to do next."""
    from train.runs.eyes import EYES_FILE
    from train.settings.parts import find_encoder

    rows = run.curve.read()
    success = rows[-1].get("success") if rows else None
    ending = "no episode has ended yet" if success is None else f"{success:.0%} success in the last episodes"
    ending = "nothing was simulated" if run.preset.kind.offline else f"{ending}, with exploration"
    tables.say(f"trained    {done} iterations; {ending}")
    ending = run.ending
    if ending and ending.early:
        tables.say(("stopped early", "yellow"), f"  {ending.early}; the planned training was not completed")
    more = f" --iterations {2 * iterations}" if done >= iterations else ""
    lines = {
        "resume": f"splatyard train --resume {folder}{more}",
        "measure": f"splatyard eval {folder}",
        "look": f"splatyard policy play {folder} --view",
    }
    if find_encoder(run.preset.policy).exported:
        lines["export"] = f"splatyard bundle export {folder} --onnx policy.onnx"
    if (run.folder / EYES_FILE).is_file():
        lines["drive"] = f"splatyard sim SCENE --task find --driver {folder}/{EYES_FILE} --view"
    lines["curves"] = f"tensorboard --logdir {folder}/tensorboard"
    for name, line in lines.items():
        tables.say(f"{name:<10} {line}")


@contextlib.contextmanager
def _batches(iterations: int) -> Iterator[Watch]:
    """A bar of batches, told by what it yields."""
    from tqdm import tqdm

    with tqdm(total=iterations, unit=" batches", disable=None) as bar:

        def watch(iteration: int, loss: float) -> None:
            bar.update(iteration - bar.n)
            bar.set_postfix_str(f"loss {loss:.3f}")

        yield watch


@command("pretrain-encoder", resumes=True)
def pretrain_encoder(
    *,
    scenes: Annotated[
        tuple[str, ...],
        Arg(
            "bundle or pattern to train on; repeatable",
            "BUNDLE",
            flag="--scene",
            formerly="--scenes",
            check=scenes_exist,
        ),
    ],
    out: Annotated[Path, Arg("file for the weights, safetensors", "FILE")],
    iterations: Annotated[int, Arg("batches of 16 pairs of views", "N", count)] = 2500,
    seed: Annotated[int, Arg("random seed of views and weights")] = 0,
    test: Test = (),
) -> int:
    """Pretrain an image encoder that predicts Gaussians.

    Trains a network that predicts Gaussians from one image, so that they reproduce another view of the same bundle.
    Policies use them as tokens with --set policy.encoder=gaussian_regressor. Reports the quality in each scene and
    draws input view, target view and prediction. Run the same command again to resume; at most a minute is lost.

    Examples:
        splatyard policy pretrain-encoder --scene 'lab-*' --out gaussians.safetensors
        splatyard policy pretrain-encoder --scene hall --test kitchen --out gaussians.safetensors
        splatyard train navigate --scene hall --set policy.encoder=gaussian_regressor --set policy.encoder_file=FILE
    """
    from pipeline.scenes.bundle import Bundle
    from pipeline.scenes.resolver import find_scenes
    from train.pretraining import measure, pretrain

    known, more = find_scenes(scenes), find_scenes(test)
    bundles = {name: Bundle.open(name) for name in (*known, *more)}
    with _batches(iterations) as watch:
        network = pretrain([bundles[name] for name in known], out, iterations, seed, watch)
    rows = list[tuple[str, ...]]()
    for name, bundle in bundles.items():
        picture = out.with_name(f"{out.stem}-{bundle.manifest.name}-{bundle.manifest.version}.png")
        found = measure(network, bundle, picture)
        figures = f"{found.novel:.1f}", f"{found.shared:.1f}", f"{found.copied:.1f}", f"{found.depth:.1%}"
        rows.append((bundle.manifest.reference, "trained on" if name in known else "new", *figures, str(picture)))
    columns = ["scene", "", "target view [dB]", "overlap [dB]", "copied input [dB]", "depth error", "picture"]
    tables.table("prediction from one image", columns, rows)
    tables.say(f"weights    {tables.quoted(out)}")
    return 0


@command("pretrain-ground", resumes=True)
def pretrain_ground(
    *,
    scenes: Annotated[
        tuple[str, ...],
        Arg(
            "bundle or pattern with stairs to train on; repeatable",
            "BUNDLE",
            flag="--scene",
            formerly="--scenes",
            check=scenes_exist,
        ),
    ],
    out: Annotated[Path, Arg("file for the weights", "EYES.npz")],
    iterations: Annotated[int, Arg("batches of 64 images", "N", count)] = 4500,
    seed: Annotated[int, Arg("random seed of images and weights")] = 0,
    robot: Annotated[str, Arg("legged robot: a name, or a URDF or MJCF file")] = "go2",
    test: Test = (),
) -> int:
    """Pretrain a network that predicts ground depth from RGB.

    Renders images of the robot's camera on and around stairs, with true depth, and trains a small network on them, in
    about 20 minutes on one core. Reports the errors in the test scenes. Run the same command again to resume; at most a
    minute is lost.

    Examples:
        splatyard policy pretrain-ground --scene 'stairs/*' --test 'more/*' --out eyes.npz
        splatyard scene rooms 96 --with stairs --out stairs                   # training scenes; other seeds for tests
        splatyard eval --driver stairs --ground eyes.npz --scene 'more/*'
    """
    from pipeline.scenes.resolver import find_scenes
    from sim.robots.catalog import load
    from sim.scene.opening import open_scene
    from sim.sensors.ground.eyes import GroundEyes
    from train.ground.learning import learn, measure, note

    walker = load(robot)
    with _batches(iterations) as watch:
        learn([open_scene(name) for name in find_scenes(scenes)], walker, out, iterations, seed, watch)
    if test:
        found = measure(GroundEyes(out), [open_scene(name) for name in find_scenes(test)], walker)
        note(out, found)
        figures = f"{found.said:.0%}", f"{found.depth:.1%}", f"{100 * found.height:.1f} cm"
        edges = f"{found.nearer:.0%}", f"{found.farther:.0%}"
        columns = ["depth predicted", "depth error", "height error", "steps 5 cm too near", "5 cm too far"]
        tables.table("in the test scenes", columns, [(*figures, *edges)])
    tables.say(f"weights    {tables.quoted(out)}")
    return 0

"""Training: a policy that sees, from published bundles."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flows.cli import tables
from flows.cli.command import AllowFailed, Arg, Gait, HoldOut, Runs, Scenes, Test, asked, command, count, runs_exist
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

    Trains a policy that sees, by PPO or another algorithm, in one bundle or many, and keeps all of it in a folder
    below runs/: what was trained, how and where (run.json), the curve, TensorBoard's files and checkpoints. Ctrl-C
    ends it with a checkpoint; --resume continues as if it had never stopped.

    Examples:
        splatyard train navigate --scene hall@1.0.0
        splatyard train navigate --scene hall --seed 1 --iterations 150
        splatyard train navigate --scene hall --set ppo.learning_rate=5e-4 --set policy.encoder=none --name blind
        splatyard train put_cube_on_plate --scene hall --algorithm rlpd --demos put_demos
        splatyard train put_cube_on_plate --scene hall --algorithm rlpd --demos put_demos --actors 8
        splatyard train find --scene 'yard/*' --hold-out 20% --test hall     # success where it never trains, too
        splatyard train climb --scene hall --set policy.modality=rgb
        splatyard train climb-joints --scene 'stairs-*@latest' --device cuda --num-gpus 4
        splatyard train navigate --scene hall --nodes 4 --rendezvous 10.0.0.1:29500     # the same on four machines
        splatyard train find --scene 'yard/*'                           # a ball in places never seen
        splatyard train find --scene kitchen --from find                # the same, at home in one place
        splatyard train my_preset.yaml --scene hall --log wandb
        splatyard train --resume navigate-hall-1 --iterations 200
    """

    what: Annotated[str | None, Arg("a task, a preset's name, or a preset's YAML file", "TASK")] = None
    _: KW_ONLY
    scenes: Scenes = ()
    start_from: Annotated[
        str | None,
        Arg("begin with the networks of a run, or of eyes: find, or FILE.npz", "RUN", flag="--from"),
    ] = None
    hold_out: HoldOut = None
    test: Test = ()
    preset: Annotated[str | None, Arg("its name or file, where it isn't that of the task")] = None
    robot: Annotated[str | None, Arg("a name, or a URDF or MJCF file; default: the preset's")] = None
    gait: Gait = None
    algorithm: Annotated[
        str | None, Arg("how it learns, such as sac; one that doesn't exist lists all; default: the preset's", "NAME")
    ] = None
    demos: Annotated[Path | None, Arg("a LeRobot dataset of demonstrations, if it learns from any", "DIR")] = None
    settings: Annotated[
        tuple[str, ...],
        Arg("one value of the preset, such as ppo.learning_rate=5e-4; may be repeated", "KEY=VALUE", flag="--set"),
    ] = ()
    iterations: Annotated[int | None, Arg("in all; default: the preset's", "N", count)] = None
    minutes: Annotated[float | None, Arg("a time limit: stop early, and say so", "M")] = None
    seed: Annotated[int | None, Arg("random seed; default: 0")] = None
    device: Annotated[str | None, Arg("for network and images: cpu, cuda, cuda:1; default: cpu")] = None
    num_gpus: Annotated[int | None, Arg("train in N processes, each with a device", "N", count)] = None
    nodes: Annotated[
        int | None, Arg("train with up to N machines, on all of which the same command runs, in one folder", "N", count)
    ] = None
    rendezvous: Annotated[str | None, Arg("where they meet: one of them, and a port", "HOST:PORT")] = None
    actors: Annotated[
        int | None, Arg("let N actors act on Ray, apart from the learner, where it learns from past steps", "N", count)
    ] = None
    ray_address: Annotated[
        str | None, Arg("auto or HOST:PORT of a running Ray cluster; default: one is started here", "ADDRESS")
    ] = None
    name: Annotated[
        str | None, Arg("of the run; default: <task>-<scene>-<number>, with --nodes <task>-<host>-<port>")
    ] = None
    runs: Runs = Path("runs")
    resume: Annotated[str | None, Arg("resume a run: its name or its folder", "RUN")] = None
    log: Annotated[tuple[str, ...], Arg("besides TensorBoard: wandb, mlflow; may be repeated", "NAME")] = ()
    evaluate: Annotated[int | None, Arg("episodes to show success by, before and after", "N", count)] = None
    allow_failed: AllowFailed = False

    def run(self) -> int:
        """Run the command."""
        runs_exist([self.resume] if self.resume else [], self.runs)
        if self.nodes:  # before torch is imported, which tells of each machine that leaves by stacks of C++
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
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
            print(f"\ninterrupted; resume from its last checkpoint with {resume}", file=sys.stderr)
            return INTERRUPTED
        except RuntimeError as error:
            if not self.nodes:
                raise
            told = str(error).strip().partition("\n")[0][:200]
            print(f"a machine or a process left; its last checkpoint is continued ({told})", file=sys.stderr)
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
        tables.say(f"{name:<10} success {results.evaluations[0].success()} in {episodes} episodes a scene")


def _report(run: Run, folder: str, done: int, iterations: int) -> None:
    """Where everything is, and what to do next."""
    from train.runs.eyes import EYES_FILE
    from train.settings.parts import find_encoder

    rows = run.curve.read()
    success = rows[-1].get("success") if rows else None
    ending = "no episode has ended yet" if success is None else f"{success:.0%} of its last episodes were successes"
    ending = "nothing was simulated" if run.preset.kind.offline else f"{ending}, by the policy that explores"
    tables.say(f"trained    {done} iterations; {ending}: `eval` measures it")
    ending = run.ending
    if ending and ending.early:
        tables.say(("stopped early", "yellow"), f"  {ending.early}; what it reached is not what it was planned to")
    more = f" --iterations {2 * iterations}" if done >= iterations else ""
    lines = {
        "resume": f"splatyard train --resume {folder}{more}",
        "measure": f"splatyard eval {folder}",
        "look": f"splatyard play {folder} --view",
    }
    if find_encoder(run.preset.policy).exported:
        lines["export"] = f"splatyard export {folder} --onnx policy.onnx"
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


@command("pretrain-encoder")
def pretrain_encoder(
    *,
    scenes: Annotated[tuple[str, ...], Arg("bundle to take views of; may be repeated", "SCENE", flag="--scenes")],
    out: Annotated[Path, Arg("file of safetensors for the weights", "FILE")],
    iterations: Annotated[int, Arg("batches of 16 pairs of views", "N", count)] = 2500,
    seed: Annotated[int, Arg("of views and weights")] = 0,
    test: Annotated[tuple[str, ...], Arg("bundle to show it by, too; may be repeated", "SCENE")] = (),
) -> int:
    """Train an encoder from images to Gaussians.

    Trains a network that makes Gaussians of one image, on pairs of views of bundles: the Gaussians of one view are to
    look like the other. Policies read them as tokens by --set policy.encoder=gaussian_regressor. Says how well it
    does in each scene, and draws it: what it sees, another view, and its own idea of that. Ctrl-C or a kill loses a
    minute: the same command goes on.

    Examples:
        splatyard pretrain-encoder --scenes 'lab-*' --out gaussians.safetensors
        splatyard pretrain-encoder --scenes hall --test kitchen --out gaussians.safetensors
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
    columns = ["scene", "", "other view [dB]", "where both see", "by the first view [dB]", "depth off", "picture"]
    tables.table("what it makes of one image", columns, rows)
    tables.say(f"weights    {tables.quoted(out)}")
    return 0


@command("pretrain-ground")
def pretrain_ground(
    *,
    scenes: Annotated[tuple[str, ...], Arg("bundle with stairs; may be repeated", "SCENE", flag="--scenes")],
    out: Annotated[Path, Arg("file of weights", "EYES.npz")],
    iterations: Annotated[int, Arg("batches of 64 images", "N", count)] = 4500,
    seed: Annotated[int, Arg("of images and weights")] = 0,
    robot: Annotated[str, Arg("a name, or a URDF or MJCF file, of one that walks")] = "go2",
    test: Annotated[tuple[str, ...], Arg("bundle to measure them in, too; may be repeated", "SCENE")] = (),
) -> int:
    """Train eyes that see how far away the ground is, by colours alone.

    Draws images as the robot's camera takes them on stairs and around them, with true depths, and trains a small
    network on them, in about 20 minutes of one core. Says how far off it is in each scene that tests it. Ctrl-C or a
    kill loses a minute: the same command goes on.

    Examples:
        splatyard pretrain-ground --scenes 'stairs/*' --test 'more/*' --out eyes.npz
        splatyard rooms 96 --with stairs --out stairs                   # to learn in; others to test in by --seed
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
        columns = ["depths said", "off", "heights off", "steps nearer by 5 cm", "farther"]
        tables.table("what they make of new places", columns, [(*figures, *edges)])
    tables.say(f"weights    {tables.quoted(out)}")
    return 0

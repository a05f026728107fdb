"""Training a run to its end: iterate, log, save."""

from __future__ import annotations

import logging
import pkgutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from torch import distributed

from pipeline.errors import TrainError
from sim.scene.scene import SimScene
from train.distributed import Processes, agreed, first, processes_of_this_run, together, use_one_thread
from train.runs import checkpoint
from train.runs.loggers import open_loggers
from train.runs.record import EndedBy, Ending
from train.runs.run import Run
from train.runs.start import begin_with
from train.runs.trainer import Trainer
from train.runs.unseen import UnseenTests

if TYPE_CHECKING:
    from train.actors.trainer import ActorPlan

logger = logging.getLogger(__name__)

Tell = Callable[[dict[str, float]], None]


def train_run(
    run: Run,
    scenes: Sequence[SimScene],
    *,
    iterations: int,
    minutes: float | None = None,
    loggers: Sequence[str] = (),
    watch: Tell | None = None,
    stop: Callable[[], bool] = lambda: False,
    actors: ActorPlan | None = None,
    nodes: bool = False,
    unseen: Mapping[str, Sequence[SimScene]] = MappingProxyType({}),
) -> int:
    """Train a run, or continue it from its newest checkpoint as if it had never stopped.

    That is exact to the bit at a checkpoint it would have saved anyway; a stop between two adds one, and after each
    checkpoint SAPIEN continues in a new world, whose contacts differ in the last digits.

    Args:
        run: Run to train.
        scenes: The scenes of its record, opened.
        iterations: Total number of iterations.
        minutes: Time limit: training stops early after that, and records it. Nothing else depends on the clock.
        loggers: Loggers in addition to TensorBoard, see `train.runs.loggers`.
        watch: Called with the curve's row of each iteration.
        stop: Called after each iteration; if true, training ends with a checkpoint.
        actors: Actors that act apart from the learner; none by default. With them nothing is exact to the bit.
        nodes: Whether machines train together, which come and go: each iteration ends with a checkpoint, from which any
            number of processes continues. Those that were not there begin new episodes.
        unseen: The scenes of its record that it never trains in, opened, by what they are for.

    Returns:
        Number of iterations done.

    Raises:
        TrainError: When training diverges or a checkpoint can't be written (both name the last good one),
            when scenes or checkpoint are not the run's, when another process trains it, or when Ray or its actors fail.
        SimError: When the scenes don't suit the task or the robot.
    """
    run.check_scenes([one.lock for one in scenes], {kind: [one.lock for one in of] for kind, of in unseen.items()})
    if actors:
        actors.check(run.preset, run.record.processes)
    use_one_thread()
    processes = processes_of_this_run()
    writes = first(processes)
    with ExitStack() as stack:
        device = stack.enter_context(together(run.record.device, processes))
        if writes:
            stack.enter_context(run.busy())
        trainer, begin = _trainer(run, scenes, device, processes, actors)
        stack.callback(trainer.env.close)
        seconds = _resume(run, trainer, processes, nodes=nodes)
        stack.enter_context(begin)
        tell = stack.enter_context(_telling(run, trainer, loggers, watch) if writes else nullcontext(lambda _: None))
        tests = UnseenTests(run, unseen if writes else {})
        begun = _Begun(run, trainer, processes, seconds, tell, tests)
        by = _train(begun, iterations=iterations, minutes=minutes, stop=stop, nodes=nodes)
        if writes:
            _end(run, trainer, Ending(reached=trainer.iteration, planned=iterations, by=by, minutes=minutes))
        return trainer.iteration


def _trainer(
    run: Run, scenes: Sequence[SimScene], device: str, processes: Processes | None, actors: ActorPlan | None
) -> tuple[Trainer, AbstractContextManager[None]]:
    """A run's trainer, and what it is in while it iterates."""
    settings = {"seed": run.record.seed, "folder": run.folder, "device": device}
    if actors is None:
        return Trainer(run.preset, scenes, **settings, processes=processes), nullcontext()
    from train.actors.trainer import ActorTrainer

    trainer = ActorTrainer(run.preset, scenes, **settings)
    return trainer, trainer.on_ray(actors)


@contextmanager
def _telling(run: Run, trainer: Trainer, loggers: Sequence[str], watch: Tell | None) -> Iterator[Tell]:
    """Note that a run continues; yields what each iteration's row is told to."""
    run.end(None)
    with open_loggers(run, loggers, getattr(trainer, run.preset.axis)) as log:

        def tell(row: dict[str, float]) -> None:
            run.curve.append(row)
            log(row)
            if watch:
                watch(row)

        yield tell


class _Begun(NamedTuple):
    """A training that iterates now, after so many seconds of it."""

    run: Run
    trainer: Trainer
    processes: Processes | None
    seconds: float
    tell: Tell
    tests: UnseenTests


def _train(begun: _Begun, *, iterations: int, minutes: float | None, stop: Callable[[], bool], nodes: bool) -> EndedBy:
    """Iterate and save; returns what ended it."""
    run, trainer, processes, seconds, tell, tests = begun
    start = time.monotonic()
    while trainer.iteration < iterations:
        before, steps = time.monotonic(), trainer.steps
        row = _iterate(run, trainer)
        row["steps_per_second"] = (trainer.steps - steps) / (time.monotonic() - before)
        spent, done = time.monotonic() - start, trainer.iteration >= iterations
        over = minutes is not None and spent >= 60 * minutes
        row["seconds"] = seconds + spent
        row |= tests.row(trainer, row, last=done or over)
        tell(row)
        asked = agreed(stop(), processes)
        late, enough = agreed(over, processes), agreed(tests.no_better, processes)
        if done or asked or late or enough or nodes or trainer.iteration % run.preset.save_interval == 0:
            _keep(run, trainer, row["seconds"], processes, tests.best)
        if (asked or late or enough) and not done:
            return "request" if asked else "minutes" if late else "patience"
    return "iterations"


def _end(run: Run, trainer: Trainer, ending: Ending) -> None:
    """Write down how training ended, and what came of it for those who have no PyTorch."""
    run.end(ending)
    rows = run.curve.read() if run.preset.product else []
    if rows:  # those of earlier processes, if there was nothing left to train
        pkgutil.resolve_name(run.preset.product)(run, trainer.env.env, trainer.agent.get_policy(), rows[-1])


def _resume(run: Run, trainer: Trainer, processes: Processes | None, *, nodes: bool) -> float:
    """Continue from the newest checkpoint, or save an initial one; returns the seconds of training so far."""
    found = checkpoint.newest(run.checkpoints)
    if found is None:
        if run.preset.start_from:
            begin_with(trainer.agent, run.preset.start_from)
        _keep(run, trainer, 0.0, processes)
        return 0.0
    path, state = found
    parts, count = state.get("processes", []), processes["world_size"] if processes else 0
    if len(parts) != count and not nodes:
        raise TrainError(
            "a run continues with as many processes as it began with",
            found=" instead of ".join(f"{number} together" if number else "1 alone" for number in (count, len(parts))),
            remedy=f"give --num-gpus {len(parts) or 1}; if machines began it, --nodes 1 --rendezvous 127.0.0.1:29500",
            file=path,
        )
    try:
        trainer.restore(_own_part(state, trainer, processes))
    except TrainError as error:
        raise TrainError(error.rule, found=error.found, remedy=error.remedy, file=path) from error
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise checkpoint.unreadable(path, error) from error
    if first(processes):
        run.curve.cut(trainer.iteration)
    logger.info("training continues after iteration %d, from %s", trainer.iteration, path)
    return float(state.get("seconds", 0.0))


def _own_part(state: checkpoint.Checkpoint, trainer: Trainer, processes: Processes | None) -> checkpoint.Checkpoint:
    """What this process continues from: one that was not there begins new episodes."""
    if processes is None:
        return state
    parts, rank = state.get("processes", []), processes["global_rank"]
    if rank < len(parts):
        return {**state, **parts[rank]}
    begun, others = trainer.state(), (parts or [state])[0]
    state = {**state, "curriculum": others["curriculum"], "memories": begun["memories"], "random": begun["random"]}
    return {**state, "environment": [], "episode_stats": []}


def _iterate(run: Run, trainer: Trainer) -> dict[str, float]:
    try:
        return trainer.iterate()
    except TrainError as error:
        good = checkpoint.files(run.checkpoints)[-1]
        raise TrainError(
            error.rule,
            found=f"{error.found} (iteration {trainer.iteration})",
            remedy=f"the last good checkpoint is {good}; {error.remedy}",
            file=run.folder,
        ) from error


def _keep(run: Run, trainer: Trainer, seconds: float, processes: Processes | None, best: int | None = None) -> None:
    """Save a checkpoint; the networks of all processes are equal, their simulations differ."""
    state: Mapping[str, object] = {**trainer.state(), "seconds": seconds}
    if processes:
        own = {name: state[name] for name in checkpoint.ProcessState.__annotations__}
        parts: list[object] = [None] * processes["world_size"]
        distributed.gather_object(own, parts if first(processes) else None)
        state = {name: value for name, value in state.items() if name not in own} | {"processes": parts}
    if first(processes):
        checkpoint.save(run.checkpoints, state, best)

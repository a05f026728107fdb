"""What differs between runs: settings, metrics, and success across scenes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from train.files import write_atomically
from train.preset import flat_values
from train.runs.report import line_chart
from train.runs.results import FILE, WINDOW, Interval, Results, read_results
from train.runs.run import Run
from train.runs.scores import KINDS, VALIDATION, best_of, scores

METRICS, OUTCOME = ("success", "reward", "length"), "outcome/"
"""Final metrics of a curve to show; outcomes by their prefix."""
ENDED = {"minutes": "time limit", "request": "interrupted", "patience": "no better"}
"""What ended trainings early, in a word."""
REACHED = (0.5, 0.8, 0.9)
"""Success rates; the number of steps until they were reached is shown."""


def settings(run: Run) -> dict[str, str]:
    """Settings of a run, by name."""
    record = run.record
    scenes = [f"{lock.reference} ({lock.sha256[:12]})" for lock in run.locks]
    return {
        **{key: str(value) for key, value in sorted(flat_values(run.preset).items())},
        "scenes": ", ".join(scenes),
        "seed": str(record.seed),
        "device": record.device,
        "processes": str(record.processes),
        "commit": record.commit,
        **{f"package {name}": version for name, version in record.packages.items()},
        **{f"machine {name}": value for name, value in record.machine.items()},
    }


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Settings that differ, by name: a text for each run, "-" if missing."""
    all_settings = [settings(run) for run in runs]
    names = dict.fromkeys(itertools.chain.from_iterable(all_settings))
    rows = {name: [values.get(name, "-") for values in all_settings] for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def metrics(run: Run) -> dict[str, str]:
    """Metrics of a run, by name: at the end of its curve, steps to success rates, and of its evaluation."""
    rows = run.curve.read()
    if not rows:
        return {"iterations": "0"}
    last = rows[-1]
    shown = {
        "iterations": f"{last['iteration']:.0f}",
        "steps": f"{last['steps']:.0f}",
        "minutes": f"{last['seconds'] / 60:.1f}",
    }
    for name in last:
        if name in METRICS or name.startswith(OUTCOME):
            shown[f"{name.removeprefix(OUTCOME)}, last {WINDOW} episodes"] = f"{last[name]:.3g}"
    complete = [row for row in rows if row.get("episodes", WINDOW) >= WINDOW]  # the first to end are the shortest
    for share in REACHED:
        steps = next((row["steps"] for row in complete if row.get("success", 0) >= share), None)
        shown[f"steps to {share:.0%} success"] = "-" if steps is None else f"{steps:.0f}"
    shown |= {f"never trained in, {kind}": text for kind, text in unseen(rows).items()}
    return shown | {f"evaluated, {name}": str(share) for name, share in evaluated(run).items()}


def progress(run: Run) -> tuple[str, str, str, str]:
    """How far a run came, its success at the end, in held-out places, and in its evaluation; "-" where there is none.

    Raises:
        TrainError: When its curve, its ending or its evaluation is damaged.
    """
    rows = run.curve.read()
    last = rows[-1] if rows else {"iteration": 0}
    share = evaluated(run).get("none")
    ending = run.ending
    early = ending and ending.early
    done = f"{last['iteration']:.0f}/{ending.planned if ending and early else run.preset.iterations}"
    done += f" ({ENDED[ending.by]})" if ending and early else ""
    own = f"{last['success']:.0%}" if "success" in last else "-"
    return done, own, unseen(rows).get(VALIDATION, "-"), "-" if share is None else str(share)


def progress_values(run: Run) -> dict[str, object]:
    """As `progress`, in numbers; None where there is none.

    Raises:
        TrainError: When its curve, its ending or its evaluation is damaged.
    """
    rows = run.curve.read()
    last, held_out, ending = rows[-1] if rows else {}, scores(rows, VALIDATION), run.ending
    return {
        "iteration": int(last.get("iteration", 0)),
        "iterations": ending.planned if ending and ending.early else run.preset.iterations,
        "stopped_early": ending.early if ending else "",
        "training_success": last.get("success"),
        "held_out_success": held_out[-1].success if held_out else None,
        "evaluated": evaluated(run),
    }


def unseen(rows: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Success in places never trained in, by what they are for: the newest of a curve, and the best checkpoint's."""
    texts = {}
    for kind in KINDS:
        found = scores(rows, kind)
        best = best_of(found) if kind == VALIDATION else None
        more = f", best {best.success.value:.0%} at {best.iteration:06d}" if best else ""
        texts |= {kind: f"{found[-1].success}{more}"} if found else {}
    return texts


def evaluated(run: Run) -> dict[str, Interval]:
    """Success rates of the run's evaluation, by ablation; empty without one.

    Raises:
        TrainError: When the evaluation is damaged.
    """
    if not (run.folder / FILE).exists():
        return {}
    return {name: evaluation.success() for name, evaluation in read_results(run.folder / FILE).labelled()}


def image(runs: Sequence[Run]) -> str:
    """Chart of success against steps of all runs (SVG)."""
    curves = [
        (run.name, [(row["steps"], row["success"]) for row in run.curve.read() if "success" in row]) for run in runs
    ]
    chart = line_chart(f"success of the last {WINDOW} episodes", curves, across="steps of training", bounds=(0, 1))
    return chart.replace(">", ' style="background: white; color: black">', 1) + "\n"


@dataclass(frozen=True)
class Cell:
    """A policy in a scene.

    Attributes:
        success: Success rate without ablation.
        trained: Whether it was trained there; then it started on the held-out floor.
    """

    success: Interval
    trained: bool


@dataclass(frozen=True)
class Matrix:
    """Success by run and scene.

    Attributes:
        cells: A row for each run, a column for each scene.
    """

    task: str
    runs: tuple[str, ...]
    scenes: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @staticmethod
    def of(results: Sequence[Results]) -> Matrix:
        """Of evaluations of runs with one task, all in the same scenes.

        Raises:
            ValueError: When tasks or scenes differ.
        """
        kinds = {(one.task, tuple((scene.reference, scene.sha256) for scene in one.scenes)) for one in results}
        if len(kinds) != 1:
            raise ValueError(f"evaluations of one task in the same scenes are needed, got {kinds}")
        scenes = tuple(scene.reference for scene in results[0].scenes)
        cells = tuple(
            tuple(Cell(one.evaluations[0].success(scene.reference), scene.starts == "held_out") for scene in one.scenes)
            for one in results
        )
        return Matrix(results[0].task, tuple(one.run for one in results), scenes, cells)

    def texts(self) -> list[list[str]]:
        """A row of texts for each run: its name, then its success in each scene, marked where it was trained."""
        return [
            [run, *(f"{cell.success}{' *' if cell.trained else ''}" for cell in row)]
            for run, row in zip(self.runs, self.cells, strict=True)
        ]

    def json(self) -> str:
        """For programs."""
        return json.dumps({"schema_version": 1, **asdict(self)}, indent=1)

    def markdown(self) -> str:
        """A table; a star where a policy was trained."""
        head = ["run", *self.scenes]
        rows = [head, ["---"] * len(head), *self.texts()]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"

    def write(self, folder: Path) -> Iterator[Path]:
        """Write matrix.json and matrix.md into a folder, which is made; each file is yielded once it is there.

        Raises:
            TrainError: When there is no room or no permission.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("matrix.json", self.json()), ("matrix.md", self.markdown())):
            write_atomically(folder / name, text.encode())
            yield folder / name

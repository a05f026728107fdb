"""Policies in a suite, in real simulations: exactly its conditions, ranks, reproduction, the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from pipeline.errors import TrainError
from sim.scene.scene import SimScene
from tests.train.suites.conftest import EPISODES, noisy
from train.suites.contestants import scripted
from train.suites.ladder import LADDER
from train.suites.making import fingerprint
from train.suites.real import read_trials, reality
from train.suites.results import SuiteResults, compared, differences, read_results, write_results
from train.suites.running import open_scenes, run_suite
from train.suites.suite import Suite, read_suite


def solved(results: SuiteResults) -> int:
    return sum(attempt.episode.success for attempt in results.attempts)


def test_ranks_of_policies_of_known_quality(ladder: dict[float, SuiteResults]):
    """Less noise scores higher, four of four; the best is better than the worst beyond the interval."""
    means = [float(np.mean([attempt.score for attempt in results.attempts])) for results in ladder.values()]
    assert means == sorted(means, reverse=True) and len({*means}) == 4
    assert solved(ladder[0.0]) == EPISODES
    (line,) = compared(ladder[0.0], ladder[1.0])
    assert line.success.low > 0 and line.worse == 0 and line.better == EPISODES - solved(ladder[1.0])
    assert compared(ladder[1.0], ladder[0.0])[0].success.high < 0


def test_episodes_begin_where_the_suite_says(suite: Suite, ladder: dict[float, SuiteResults]):
    """Each in its own place, whoever drives."""
    for results in ladder.values():
        for condition, attempt in zip(suite.scenes[0].conditions, results.attempts, strict=True):
            assert attempt.condition == condition.id and attempt.level == condition.level
            assert attempt.episode.start == pytest.approx(condition.start, abs=2e-3)
            assert attempt.episode.goal == pytest.approx(condition.goal, abs=2e-3)
            assert attempt.episode.way is not None
            assert attempt.episode.way[0] == pytest.approx(condition.way, abs=2e-3)


def test_conditions_do_not_depend_on_how_many_drive(suite: Suite, scenes: dict[str, SimScene], ladder):
    """Five at a time begin as all at once do, and who knows the way ends alike."""
    few = suite.model_copy(update={"robots": 5})
    results = run_suite(few, scenes, scripted("noise0.0", noisy(0.0)))
    for one, other in zip(results.attempts, ladder[0.0].attempts, strict=True):
        assert (one.episode.start, one.episode.goal) == (other.episode.start, other.episode.goal)
        assert one.score == other.score


def test_results_are_reproduced_bit_for_bit(suite: Suite, scenes: dict[str, SimScene], ladder, tmp_path: Path):
    """Also of who acts at random, by way of the file; what differs is named."""
    published = read_results(write_results(ladder[0.75], tmp_path))
    again = run_suite(suite, scenes, scripted("noise0.75", noisy(0.75)))
    assert again.sha256 == published.sha256 and differences(published, again) == []
    other = differences(published, ladder[1.0])
    assert other and "room-empty-" in other[-1]


def test_another_way_of_drawing_is_noticed(suite: Suite, scenes: dict[str, SimScene]):
    """A version of splatyard that draws other conditions from the same seeds would measure something else."""
    (scene,) = suite.scenes
    one = scene.conditions[0]
    moved = one.model_copy(update={"start": (one.start[0] + 0.01, *one.start[1:])})
    changed = scene.model_copy(update={"conditions": (moved, *scene.conditions[1:])})
    with pytest.raises(TrainError, match="begin where it says"):
        run_suite(suite.model_copy(update={"scenes": (changed,)}), scenes, scripted("still", LADDER["still"]))


def test_another_bundle_is_refused(suite: Suite, yard: Path, bundles: Path):
    """Though it has the same name."""
    (scene,) = suite.scenes
    other = suite.model_copy(update={"scenes": (scene.model_copy(update={"sha256": "1" * 64}),)})
    with pytest.raises(TrainError, match="exactly the bundles"):
        open_scenes(other)


@pytest.mark.slow
def test_the_fingerprint_is_a_ladder(suite: Suite, scenes: dict[str, SimScene]):
    """Who knows everything solves all, who stands still nothing; each has a score for each condition."""
    rungs = {rung.driver: rung for rung in fingerprint(suite, scenes)}
    assert [*rungs] == [*LADDER]
    assert {len(rung.scores) for rung in rungs.values()} == {EPISODES}
    assert {*rungs["privileged"].scores.values()} == {5} and {*rungs["still"].scores.values()} == {0}


def written(file: Path, rows: list[str]) -> Path:
    file.write_text("policy,condition,scene,success\n" + "\n".join(rows) + "\n")
    return file


def test_reality_of_known_policies(ladder: dict[float, SuiteResults], tmp_path: Path):
    """Real trials that are the simulated ones agree in everything; such of a worse robot show the bias."""
    rows = [
        f"{results.policy.name},{attempt.condition},,{int(attempt.episode.success)}"
        for results in ladder.values()
        for attempt in results.attempts
    ]
    results = [*ladder.values()]
    found = reality(results, read_trials(written(tmp_path / "same.csv", rows), results[0]))
    (line,) = found.agreement
    assert line.policies == 4 and line.r == pytest.approx(1) and line.mmrv == 0 and line.bias == 0
    assert all(point.bias.low < 0 < point.bias.high for point in found.points)
    assert all("real trials from the suite's conditions" in one.why_not for one in found.forecasts)
    never = written(tmp_path / "never.csv", [f"noise0.0,,room,{n == 0:d}" for n in range(8)])
    found = reality(results, read_trials(never, results[0]))
    assert found.points[0].bias.value == pytest.approx(1 - 1 / 8) and found.points[0].bias.low > 0.4
    assert found.agreement[0].r is None and "1 of 3 policies" in found.agreement[0].why_not
    with pytest.raises(TrainError, match="policies that were simulated"):
        reality(results, read_trials(written(tmp_path / "c.csv", ["other,,room,1"]), results[0]))


STRANGE = {
    "no column": ("name,success\na,1\n", "no column policy"),
    "empty": ("policy,success\n", "0 rows"),
    "a number": ("policy,scene,success\na,room,0.5\n", "row 2"),
    "no policy": ("policy,scene,success\n,room,1\n", "row 2"),
    "no scene": ("policy,scene,success\na,attic,1\n", "no scene"),
    "no condition": ("policy,condition,success\na,room-empty-9999,1\n", "no condition"),
    "a contradiction": ("policy,condition,scene,success\na,room-empty-0001,attic,1\n", "no scene"),
    "binary": ("policy,scene,success\na,room,\x00\n", "row 2|line contains NUL"),
    "short": ("policy,scene,success\na\n", "row 2"),
    "a quote": ('policy,scene,success\n"a,room,1\n', "CSV"),
    "a long field": ("policy,scene,success\n" + "a" * 200_000 + ",room,1\n", "field larger|row 2"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_real_results_are_refused(ladder: dict[float, SuiteResults], tmp_path: Path, name: str):
    """With one error that names the row."""
    text, found = STRANGE[name]
    (tmp_path / "real.csv").write_text(text)
    with pytest.raises(TrainError, match=found):
        read_trials(tmp_path / "real.csv", ladder[0.0])


def test_strange_results_are_refused(ladder: dict[float, SuiteResults], tmp_path: Path):
    """A changed score, a path to nowhere, none at all."""
    file = write_results(ladder[1.0], tmp_path)
    whole = json.loads(file.read_text())

    def refused(change: str, found: str) -> None:
        values = json.loads(json.dumps(whole))
        exec(change, {"first": values["attempts"][0], "values": values})
        file.write_text(json.dumps(values))
        with pytest.raises(TrainError, match=found):
            read_results(file)

    refused("first['score'] = 4 - first['score'] if first['score'] < 4 else 0", "something else|scores 5")
    refused("first['score'], first['episode']['success'] = 5, False", "scores 5")
    refused("first['episode']['path'] = []", "has a path")
    refused("first['episode']['path'] = [[1e300, 0]]", "within")
    refused("values['bundles'] = {'room@1.0.0': 'x'}", "bundles")


@pytest.mark.slow
def test_the_commands(bundles: Path, here: Path, capsys: pytest.CaptureFixture[str]):
    """A suite, two drivers, their comparison with real trials, and published results that are checked."""
    assert main(["policy", "suite", "room", "--episodes", "4", "--out", "suite"]) == 0
    suite = read_suite(here / "suite")
    assert f"sha256 {suite.sha256}" in capsys.readouterr().out
    for name in ("privileged", "blind"):
        line = ["evaluate", "--suite", "suite", "--driver", name, "--out", name, "--films", str(int(name == "blind"))]
        assert main(line) == 0
    assert "fingerprint in sapien" in capsys.readouterr().out
    page = (here / "blind" / "report.html").read_text()
    (film,) = (here / "blind" / "films").iterdir()
    assert film.name in page and str(suite.sha256) in page and page.count('<svg class="map"') == 1
    written(here / "real.csv", [f"{name},,room,{n % 2}" for name in ("privileged", "blind") for n in range(5)])
    both = ["policy", "evaluate", "--suite", "suite", "--against", "privileged", "--against", "blind"]
    assert main([*both, "--real", "real.csv", "--out", "both"]) == 0
    printed = capsys.readouterr().out
    assert "privileged - blind" in printed and "2 of 3 policies" in printed
    assert "2 of 3 policies" in (here / "both" / "report.html").read_text()
    again = ["evaluate", "--suite", "suite", "--driver", "blind", "--films", "0", "--check"]
    assert main([*again, "blind/results.json"]) == 0
    assert main([*again, "privileged/results.json"]) == 1
    assert "came out differently" in capsys.readouterr().out

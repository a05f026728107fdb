"""The gallery's leaderboard: made of results by the real code, and of nothing whose hashes don't fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from pipeline.errors import TrainError
from tests.gallery.yard import SCRIPT
from tests.train.suites.conftest import EPISODES
from train.suites.board import boards_of
from train.suites.results import SuiteResults, check_fit, read_results, write_results
from train.suites.suite import Rung, Suite, read_suite, write_suite

HASHES = {0.0: "a" * 64, 0.5: "b" * 64, 0.75: "c" * 64, 1.0: "d" * 64}
PAGE = "leaderboard.html"


def of_a_file(results: SuiteResults, sha256: str | None, **changed: Any) -> SuiteResults:
    """The results as if the policy were a file with this hash."""
    policy = results.policy.model_copy(update={"sha256": sha256, **changed})
    results = results.model_copy(update={"policy": policy})
    return results.model_copy(update={"sha256": results.digest()})


@pytest.fixture
def published(suite: Suite, ladder: dict[float, SuiteResults], tmp_path: Path) -> Path:
    """A folder with the suite, whose fingerprint has one driver, and the results of four policies."""
    folder = tmp_path / "published"
    scores = {attempt.condition: attempt.score for attempt in ladder[1.0].attempts}
    rung = Rung(driver="random", about="random actions", engine="sapien", scores=scores)
    write_suite(suite.model_copy(update={"fingerprint": (rung,)}), folder / "suite")
    for share, sha256 in HASHES.items():
        write_results(of_a_file(ladder[share], sha256), folder / "results" / str(share))
    return folder


def test_policies_stand_by_what_they_reached(published: Path, ladder: dict[float, SuiteResults]):
    """Best first; only what the paired interval tells apart is called worse; the driver stands among them."""
    (board,), left_out = boards_of(published)
    assert left_out == {} and board.episodes == EPISODES
    lines = {line.name: line for line in board.standings}
    assert [*lines] == ["noise0.0", "noise0.5", "noise0.75", "noise1.0", "random"]
    assert lines["noise0.0"].verdict == "highest" and lines["noise1.0"].verdict == "worse" == lines["random"].verdict
    for line in board.standings[1:]:
        high = float(line.difference.split()[-1].rstrip("]"))
        assert line.verdict == ("worse" if high < 0 else "not told apart")
    assert lines["noise0.0"].success.startswith(f"{EPISODES} of {EPISODES}: 100.0 %")
    assert lines["random"].policy == lines["random"].results == "" and lines["noise0.5"].policy == "b" * 64


def test_close_policies_are_not_told_apart(suite: Suite, ladder: dict[float, SuiteResults], tmp_path: Path):
    """One solved condition less of twelve says nothing."""
    best = of_a_file(ladder[0.0], "a" * 64)
    first, *others = best.attempts
    episode = first.episode.model_copy(update={"success": False, "way": (2.0, 2.0)})
    missed = first.model_copy(update={"episode": episode, "score": 0})
    close = of_a_file(best.model_copy(update={"attempts": (missed, *others)}), "b" * 64, name="close")
    write_suite(suite, tmp_path)
    write_results(best, tmp_path / "one")
    write_results(close, tmp_path / "other")
    (board,), left_out = boards_of(tmp_path)
    assert left_out == {} and [line.verdict for line in board.standings] == ["highest", "not told apart"]
    assert board.standings[1].difference.startswith("-0.083 [-")
    with pytest.raises(TrainError, match="within one suite"):
        check_fit(suite.model_copy(update={"seed": 1}), best)


def test_what_the_page_links_to_reproduces_it(published: Path, ladder: dict[float, SuiteResults], tmp_path: Path):
    """The files beside it are the suite and the results, without the floors of their scenes, and make the same page."""
    (board,), _ = boards_of(published)
    for name, content in board.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert read_suite(tmp_path / "suites" / board.suite).digest() == board.suite
    best = read_results(tmp_path / "suites" / board.suite / board.standings[0].results)
    assert best.attempts == ladder[0.0].attempts and best.plans == {}
    assert boards_of(tmp_path / "suites") == ([board], {})


def hashed(values: dict[str, Any]) -> str:
    """The file's text with a hash that fits whatever it says now."""
    results = SuiteResults.model_validate(values)
    return results.model_copy(update={"sha256": results.digest()}).model_dump_json()


def first(values: dict[str, Any]) -> dict[str, Any]:
    return values["attempts"][0]


REFUSED: dict[str, Any] = {
    "no hash": (lambda v: v.pop("sha256"), "its hash is of something else"),
    "a wrong hash": (lambda v: v.update(sha256="1" * 64), "its hash is of something else"),
    "a hash that is none": (lambda v: v.update(sha256="../../x"), "sha256"),
    "no policy's hash": (lambda v: v["policy"].update(sha256=None), "its policy has no hash"),
    "a long name": (lambda v: v["policy"].update(name="n" * 10**7), "at most 200 characters"),
    "not a number": (lambda v: first(v)["episode"].update(reward=float("nan")), "finite"),
    "an endless way": (lambda v: first(v)["episode"].update(way=[1.0, float("inf")]), "finite"),
    "another suite": (lambda v: v.update(suite="2" * 64), "its suite isn't there"),
    "another bundle": (lambda v: v["bundles"].update({"room@1.0.0": "3" * 64}), "hashes of other bundles"),
    "a condition less": (lambda v: v["attempts"].pop(), "other initial conditions"),
    "a condition twice": (lambda v: v["attempts"].append(v["attempts"][0]), "other initial conditions"),
    "an easier start": (lambda v: first(v)["episode"]["start"].__setitem__(0, 0.0), "begins elsewhere"),
    "an easier goal": (lambda v: first(v)["episode"].update(goal=None), "begins elsewhere"),
    "a better score": (lambda v: first(v).update(score=4), "by the rubric"),
}
UNHASHED = ("no hash", "a wrong hash", "a hash that is none", "a long name", "not a number", "an endless way")


@pytest.mark.parametrize("name", REFUSED)
def test_results_that_do_not_fit_are_left_out(suite: Suite, ladder: dict[float, SuiteResults], tmp_path: Path, name):
    """Each with a reason, also when their own hash was made to fit; the others stay."""
    change, found = REFUSED[name]
    write_suite(suite, tmp_path)
    write_results(of_a_file(ladder[0.0], "a" * 64), tmp_path / "good")
    file = write_results(of_a_file(ladder[1.0], "d" * 64), tmp_path / "bad")
    values = json.loads(file.read_text())
    first(values)["episode"]["success"] = False
    first(values)["score"] = suite.score(ladder[1.0].attempts[0].episode.model_copy(update={"success": False}))
    change(values)
    file.write_text(json.dumps(values) if name in UNHASHED else hashed(values))
    (board,), left_out = boards_of(tmp_path)
    assert [line.name for line in board.standings] == ["noise0.0"]
    assert [*left_out] == ["bad/results.json"] and found in left_out["bad/results.json"]
    assert len(left_out["bad/results.json"]) < 400


def test_strange_suites(published: Path):
    """One with a driver that has no scores, one with another fingerprint; no results, no suite."""
    values = json.loads((published / "suite" / "suite.json").read_text())
    other = published / "x" / "suite.json"
    other.parent.mkdir()
    other.write_text(json.dumps({**values, "fingerprint": [{**values["fingerprint"][0], "scores": {}}]}))
    assert "a score for each condition" in boards_of(published)[1]["x/suite.json"]
    other.write_text(json.dumps({**values, "fingerprint": []}))
    assert "fingerprint" in boards_of(published)[1]["x/suite.json"]
    with pytest.raises(TrainError, match=r"no results\.json"):
        boards_of(published / "suite")
    boards, left_out = boards_of(published / "results")
    assert boards == [] and {*left_out.values()} == {"its suite isn't there"} and len(left_out) == len(HASHES)


def test_too_many_results(published: Path, monkeypatch: pytest.MonkeyPatch):
    """What is beyond the bounds isn't read."""
    monkeypatch.setattr("train.suites.board.MAX_FILES", 3)
    (board,), left_out = boards_of(published)
    assert len(board.standings) == 4 and len(left_out) == 1
    monkeypatch.setattr("train.suites.board.MAX_BYTES", 100)
    assert boards_of(published)[0] == []


def test_the_command(published: Path, yard: Path, ladder, tmp_path: Path, monkeypatch, capsys):
    """A page with others' texts as text, in a site whose scenes aren't drawn here; without results it is gone."""
    name = f"{SCRIPT}\u202e\n"
    write_results(of_a_file(ladder[0.5], "e" * 64, name=name, about=name), published / "hostile")
    write_results(ladder[1.0], published / "script")
    monkeypatch.setattr("pipeline.gallery.site.draw_all", lambda *_: [])
    site, line = tmp_path / "site", ["registry", "gallery", "--registry", str(yard), "--out", str(tmp_path / "site")]
    assert main([*line, "--results", str(published)]) == 1
    assert "left out   script/results.json: its policy has no hash" in capsys.readouterr().out
    page = (site / PAGE).read_text()
    assert "&lt;script&gt;" in page and SCRIPT not in page and "\u202e" not in page
    assert "not in this gallery" in page and page.count("not told apart<span>") + page.count("worse<span>") == 5
    (folder,) = (site / "suites").iterdir()
    assert len([*folder.iterdir()]) == 6 and f'href="suites/{folder.name}/suite.json"' in page
    assert f'href="{PAGE}"' in (site / "index.html").read_text()
    assert main(line) == 0
    assert sorted(file.name for file in site.glob("*.html")) == ["index.html"] and not (site / "suites").exists()
    assert PAGE not in (site / "index.html").read_text()

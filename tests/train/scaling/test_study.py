"""Success over the number of places: which are trained in, what is concluded, what a page shows of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import TrainError
from sim.scene.scene import SceneLock
from tests.train.scaling.test_failures import picture, place_of
from train.preset import load_preset
from train.runs.places import Place, Places
from train.runs.results import wilson
from train.runs.run import Run
from train.scaling.curve import Point, ScalingCurve, Slope
from train.scaling.failures import Failures
from train.scaling.page import page_of
from train.scaling.study import Study


def places(*names: str) -> list[Place]:
    """Places without anything in them."""
    scenes: list[Any] = [SimpleNamespace(lock=SceneLock(f"{name}@1.0.0", "0" * 64, ())) for name in names]
    return [Place(scene.lock.reference, scene) for scene in scenes]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Twenty places to train in, two held out."""
    known = Places(places(*(f"room-{number}" for number in range(20))), places("a", "b"))
    preset = load_preset("find", {"iterations": 30})
    return Study.of(preset, known, [8, 1, 4], episodes=50, seeds=2, out=tmp_path, hold_out="2")


def test_fewer_places_are_among_more(study: Study):
    """Other ones for another seed; the held-out ones are the same for all."""
    for seed in range(2):
        one, four, eight = ({place.name for place in study.chosen(count, seed).train} for count in study.counts)
        assert (len(one), len(four), len(eight)) == (1, 4, 8)
        assert one < four < eight
    assert study.chosen(8, 0).train != study.chosen(8, 1).train
    assert study.chosen(4, 1).validation == study.places.validation
    assert list(study.trainings()) == [(1, 0), (4, 0), (8, 0), (1, 1), (4, 1), (8, 1)]


def test_each_training_is_measured_at_its_end(study: Study):
    """After as many iterations as the preset has, whatever its checkpoints."""
    preset = study.preset
    assert (preset.evaluate_every, preset.unseen_episodes, preset.patience) == (40, 50, 0)
    assert preset.iterations == 30


def test_more_places_than_there_are(study: Study):
    """One error, before anything is trained."""
    with pytest.raises(TrainError, match=r"20 to train in and 2 held out; --counts 4,64"):
        Study.of(study.preset, study.places, [4, 64], episodes=50, seeds=2, out=study.out, hold_out="2")


def curve_of(shares: dict[int, list[float]]) -> ScalingCurve:
    """Success in held-out places by number of places and seed, of 100 episodes each."""
    controls = {"shuffled": wilson(3, 100)}
    points = [
        Point(
            count,
            seed,
            f"find-{count}-seed-{seed}",
            wilson(90, 100),
            {"validation": wilson(round(100 * share), 100)},
            controls if count == max(shares) else {},
        )
        for count, found in shares.items()
        for seed, share in enumerate(found)
    ]
    return ScalingCurve("find", "cnn", 60, 4096, {"validation": ["<a>@1.0.0"]}, tuple(points))


def test_the_slope_is_that_of_least_squares():
    """Per doubling, with Student's interval; compared with SciPy's own."""
    from scipy import stats

    shares = {1: [0.1, 0.2], 4: [0.35, 0.3], 16: [0.5, 0.62]}
    slope = curve_of(shares).slope("validation")
    assert slope
    x = [np.log2(count) for count, found in shares.items() for _ in found]
    expected: Any = stats.linregress(x, [share for found in shares.values() for share in found])
    assert slope.value == pytest.approx(expected.slope)
    assert slope.high - slope.value == pytest.approx(stats.t.ppf(0.975, 4) * expected.stderr)
    assert str(Slope(0.1, -0.02, 0.22)) == "+10.0 points [-2.0, +22.0]"


def test_without_enough_points_there_is_no_slope():
    """Nor for controls, which are measured at one number of places."""
    assert Slope.of([(1, 0.2), (4, 0.4)]) is None
    assert Slope.of([(4, 0.2), (4, 0.4), (4, 0.3)]) is None
    assert curve_of({1: [0.1, 0.2], 4: [0.3, 0.4]}).slope("shuffled") is None


def test_table_and_file_say_the_same():
    """Pooled episodes with Wilson's interval; a dash where nothing was measured."""
    curve = curve_of({1: [0.1, 0.2], 4: [0.3, 0.5]})
    assert curve.rows()[0] == ["1", str(wilson(180, 200)), str(wilson(30, 200)), "-"]
    assert curve.rows()[1] == ["4", str(wilson(180, 200)), str(wilson(80, 200)), str(wilson(6, 200))]
    assert curve.rows()[2][0] == "each doubling"
    file = json.loads(curve.json())
    assert file["pooled"]["validation"]["4"]["successes"] == 80
    assert file["slopes"]["validation"]["value"] == pytest.approx(0.125)
    assert file["slopes"]["shuffled"] is None


def test_the_page_shows_each_training():
    """A ring each, a disc for all seeds together; names from files stay text."""
    page = page_of(curve_of({1: [0.1, 0.2], 4: [0.3, 0.5]}), Failures())
    assert page.count('r="4.5"') == 4 + 4 + 2  # own places, held-out ones, one control
    assert page.count('class="line"') == 3
    assert "<a>" not in page
    assert "find-4-seed-1" in page
    assert "Where it fails" not in page
    assert page_of(curve_of({4: [0.3]}), Failures()).count('class="line"') == 3


def test_the_page_shows_failures():
    """An image beside a map, with what ended it; in words of its own, and nothing is fetched from elsewhere."""
    seen = picture("<b>@1.0.0", 3).model_copy(update={"image": "aGVsbG8="})
    found = Failures(places=(place_of("<b>@1.0.0", seen, picture("<b>@1.0.0", 4)),))
    page = page_of(curve_of({1: [0.1], 4: [0.3]}), found)
    assert "&lt;b&gt;@1.0.0 (places to test in): 2 of 9 failed" in page
    assert page.count("Ended by crash after 2.0 s and 0.8 m (in sight)") == 2
    assert page.count('class="map"') == page.count('class="goal"') == 2
    assert page.count("data:image/png;base64,aGVsbG8=") == 1
    assert set(re.findall(r'(?:src|href)="([^"]{5})', page)) == {"data:"}


def test_failures_are_looked_for_once(study: Study, monkeypatch: pytest.MonkeyPatch):
    """Those of the run of most places and the first seed; what is written down is taken, what isn't is made."""
    lock = SceneLock("a@1.0.0", "0" * 64, ())
    run = Run.create(study.out / "runs", study.preset, [lock], ["a"], 0, name="find-8-seed-0")
    found = Failures(places=(place_of("b@1.0.0", picture("b@1.0.0", 4)),))
    monkeypatch.setattr(Failures, "of", lambda run, places, device: found)
    assert study.failures() == found
    monkeypatch.setattr(Failures, "of", lambda run, places, device: Failures())
    assert study.failures() == found
    (run.folder / "failures.json").write_text("{}x")
    with pytest.raises(TrainError, match="delete it: it is measured again"):
        study.failures()

"""`splatyard policy record`: who drives, where, and what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet
import pytest

from flows.cli import main
from sim.robots.catalog import PACKAGE
from sim.scene.floors import held_out
from sim.scene.opening import open_scene
from tests.bundles import floor_of, make_bundle
from tests.synthetic import Room
from train.preset import load_preset
from train.recording import imitation
from train.runs.run import Run
from train.session import train_run

TINY = {
    "num_envs": 2,
    "num_steps_per_env": 2,
    "ppo.num_mini_batches": 2,
    "policy.rnn_hidden_dim": 8,
    "policy.actor_hidden_dims": [8],
    "policy.critic_hidden_dims": [8],
}


@pytest.fixture
def bundle(tmp_path: Path, room: Room) -> Path:
    """The room."""
    return make_bundle(tmp_path, room, regions=floor_of(room))


def actions(folder: Path) -> np.ndarray:
    table = pyarrow.parquet.read_table(folder / "data/chunk-000/file-000.parquet")
    return np.array(table["action"].to_pylist(), np.float32)


def test_a_driver_is_recorded_at_places_to_train_at(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Places that are held out for measuring stay unseen; the driver who knows the way mostly gets there."""
    began: list[np.ndarray] = []
    rollout = imitation._rollout

    def look(env, *rest):
        began.append(env.env.engine.read().position[:, :2].copy())
        return rollout(env, *rest)

    monkeypatch.setattr(imitation, "_rollout", look)
    out = tmp_path / "demos"
    assert main(["record", "--driver", "auto", "--scene", str(bundle), "--lerobot", str(out), "--episodes", "6"]) == 0
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["total_episodes"], info["robot_type"], info["fps"]) == (6, "rover", 5)
    assert not held_out(began[0]).any()
    ends = pyarrow.parquet.read_table(out / "data/chunk-000/file-000.parquet")["next.success"].to_pylist()
    assert sum(ends) >= 4
    assert f"6 episodes, {sum(ends)} of them successful" in capsys.readouterr().out


def test_a_policy_is_recorded(bundle: Path, tmp_path: Path):
    """It acts by its mean: the same seed gives the same dataset, another another one."""
    preset = load_preset("navigate", TINY)
    scene = open_scene(bundle)
    run = Run.create(tmp_path / "runs", preset, [scene.lock], [bundle], 0, name="new")
    train_run(run, [scene], iterations=0)
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        words = ["record", str(run.folder), "--lerobot", str(tmp_path / name), "--episodes", "2", "--seed", seed]
        assert main(words) == 0
    np.testing.assert_array_equal(actions(tmp_path / "one"), actions(tmp_path / "again"))
    one, other = actions(tmp_path / "one"), actions(tmp_path / "other")
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_a_function_is_recorded_and_evaluated(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """By its name, from the current folder: what it did is what was recorded; standing still, it never gets there."""
    (tmp_path / "their_still.py").write_text(
        "import numpy as np\n\ndef act(observed):\n    return np.tile([-0.25, 0.125], (len(observed['begun']), 1))\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["--driver", "their_still:act", "--scene", str(bundle), "--episodes", "2"]
    assert main(["record", "--lerobot", "demos", *words]) == 0
    assert (actions(tmp_path / "demos") == [-0.25, 0.125]).all()
    assert main(["eval", *words]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "their_still:act, navigate" in told
    assert "room@1.0.0" in told
    assert "0.0 %" in told
    assert main(["sim", str(bundle), "--driver", "their_still:act", "--envs", "1", "--seconds", "1"]) == 0


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["some-run", "--driver", "auto"], "instead of RUN"),
        ([], "instead of RUN"),
        (["--driver", "auto"], "--scene BUNDLE"),
        (["--driver", "policies", "--scene", "room"], "docs/policies.md"),
        (["--driver", "ws://127.0.0.1:9", "--scene", "room"], "start it"),
    ],
)
def test_a_wrong_evaluation_says_what_to_do(words: list[str], remedy: str, bundle: Path, capsys, monkeypatch):
    """A run and a driver, neither, no scene, no such driver, nobody there."""
    monkeypatch.setenv("SPLATYARD_BUNDLES", str(bundle.parents[1]))
    monkeypatch.setattr("flows.cli.policies.runs_exist", lambda *_: None)  # as if they did
    assert main(["eval", *words]) == 2
    assert remedy in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ([], "--driver auto --scene BUNDLE"),
        (["some-run", "--driver", "auto"], "--driver auto --scene BUNDLE"),
        (["--driver", "auto"], "--scene BUNDLE"),
        (["some-run", "--episodes", "0"], "--episodes 100"),
        (["no-run"], "splatyard train"),
        (["some-run", "--depth"], "leave it away"),
    ],
)
def test_a_wrong_command_says_what_to_do(
    words: list[str], remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """And writes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.cli.policies.runs_exist", lambda *_: None)  # as if they did
    assert main(["record", "--lerobot", "demos", *words]) == 2
    assert remedy in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="example-robot-data is not installed")
def test_an_arm_is_recorded_by_both_cameras(bundle: Path, tmp_path: Path):
    """With what it was told to do as the task's text, and with depths on demand."""
    out = tmp_path / "demos"
    words = ["--task", "put_cube_on_plate", "--robot", "panda", "--scene", str(bundle), "--episodes", "1"]
    assert main(["record", "--driver", "auto", "--lerobot", str(out), "--depth", *words]) == 0
    info = json.loads((out / "meta/info.json").read_text())
    films = [name for name, of in info["features"].items() if of["dtype"] == "video"]
    depths = pyarrow.parquet.read_table(out / "data/chunk-000/file-000.parquet")["observation.images.wrist_depth"]
    first = np.array(depths.to_pylist(), np.float32)[0]
    assert first.shape == (64, 64)
    assert 0.02 < first[first > 0].min() < 0.1 < first.max() < 5  # fingers, and what is behind them
    assert films == ["observation.images.third", "observation.images.wrist"]
    assert (info["robot_type"], info["fps"]) == ("panda", 20)
    for name in films:
        with av.open(out / f"videos/{name}/chunk-000/file-000.mp4") as film:
            images = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert len(images) == info["total_frames"]
        assert images[0].shape == (64, 64, 3)
    told = pyarrow.parquet.read_table(out / "meta/tasks.parquet")["task"].to_pylist()
    assert told == ["pick up the cube and put it on the plate"]

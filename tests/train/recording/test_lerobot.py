"""What LeRobot reads: vectors, films, statistics and places of episodes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet
import pytest

from pipeline.errors import BusyError, MachineError, TrainError
from train.recording import lerobot
from train.recording.lerobot import Demonstration, new_dataset

LENGTHS = (5, 3, 8)
ABOUT = {
    "rate": 5,
    "robot": "rover",
    "task": "find the ball",
    "state": ["speed", "turn", "bump"],
    "environment": ["goal", "path"],
    "action": ["forward", "left"],
    "cameras": {"front": (36, 64), "wrist": (21, 33)},
}


def demonstrations(seed: int = 4) -> list[Demonstration]:
    """Smooth images, each of another hue and slope; the wrist's have odd sizes."""
    rng = np.random.default_rng(seed)
    made = []
    for steps in LENGTHS:
        images = {}
        for name, (height, width) in ABOUT["cameras"].items():
            down, across = np.mgrid[0:height, 0:width] / (height, width)[0]
            slopes = rng.uniform(20, 70, (steps, 3, 2))
            shades = slopes[..., 0, None, None] * down + slopes[..., 1, None, None] * across
            base = rng.uniform(0, 60, (steps, 3, 1, 1))
            images[name] = (base + shades).astype(np.uint8).transpose(0, 2, 3, 1)
        numbers = rng.normal(size=(steps, 8)).astype(np.float32)
        vectors = np.split(numbers[:, :7], [3, 5], axis=1)
        made.append(Demonstration(images, *vectors, numbers[:, 7], bool(steps > 4), bool(steps < 4)))
    return made


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Of all three."""
    with new_dataset(tmp_path / "hall", **ABOUT) as writer:
        for one in demonstrations():
            writer.add(one)
    return tmp_path / "hall"


def rows(path: Path) -> list[dict]:
    return pyarrow.parquet.read_table(path).to_pylist()


def test_every_step_is_a_row(dataset: Path):
    """In the order of episodes and time, with the numbers bit for bit."""
    table = pyarrow.parquet.read_table(dataset / "data/chunk-000/file-000.parquet")
    steps = table.to_pydict()
    made = demonstrations()
    np.testing.assert_array_equal(np.float32(steps["observation.state"]), np.concatenate([one.state for one in made]))
    known = np.float32(steps["observation.environment_state"])
    np.testing.assert_array_equal(known, np.concatenate([one.environment for one in made]))
    np.testing.assert_array_equal(np.float32(steps["action"]), np.concatenate([one.action for one in made]))
    np.testing.assert_array_equal(np.float32(steps["next.reward"]), np.concatenate([one.reward for one in made]))
    assert steps["index"] == list(range(16))
    assert steps["episode_index"] == [0] * 5 + [1] * 3 + [2] * 8
    assert steps["frame_index"] == [*range(5), *range(3), *range(8)]
    np.testing.assert_allclose(steps["timestamp"], np.array(steps["frame_index"]) / 5, rtol=1e-6)
    assert np.flatnonzero(steps["next.done"]).tolist() == [4, 7, 15]
    assert np.flatnonzero(steps["next.success"]).tolist() == [4, 15]
    assert set(steps["task_index"]) == {0}


def test_types_are_those_that_info_names(dataset: Path):
    """Vectors are lists of one length, whose numbers have names."""
    features = json.loads((dataset / "meta/info.json").read_text())["features"]
    schema = pyarrow.parquet.read_schema(dataset / "data/chunk-000/file-000.parquet")
    assert set(features) == {*schema.names, "observation.images.front", "observation.images.wrist"}
    for field in schema:
        of = features[field.name]
        wanted = of["dtype"].replace("float32", "float")
        kind = str(field.type)
        assert kind in (wanted, f"fixed_size_list<element: {wanted}>[{of['shape'][0]}]"), field
        assert ("fixed_size_list" in kind) == (of["names"] is not None)
    assert features["action"]["names"] == ["forward", "left"]
    assert features["observation.images.wrist"]["shape"] == [21, 33, 3]


def test_depths_are_arrays(tmp_path: Path):
    """In metres to the bit, rows by rows, and no films; they have no statistics."""
    made = demonstrations()[1]
    depth = np.random.default_rng(7).uniform(0, 5, (3, 21, 33)).astype(np.float32)
    about = {**ABOUT, "cameras": {**ABOUT["cameras"], "wrist_depth": (21, 33)}}
    with new_dataset(tmp_path / "hall", **about) as writer:
        writer.add(replace(made, images={"wrist_depth": depth, **made.images}))
    name = "observation.images.wrist_depth"
    info = json.loads((tmp_path / "hall/meta/info.json").read_text())
    assert info["features"][name] == {"dtype": "float32", "shape": [21, 33], "names": ["height", "width"]}
    found = pyarrow.parquet.read_table(tmp_path / "hall/data/chunk-000/file-000.parquet")
    np.testing.assert_array_equal(np.array(found[name].to_pylist(), np.float32), depth)
    np.testing.assert_array_equal(np.array(found["action"].to_pylist(), np.float32), made.action)
    assert not (tmp_path / "hall/videos" / name).exists()
    assert name not in json.loads((tmp_path / "hall/meta/stats.json").read_text())


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_films_show_each_step_at_its_time(dataset: Path, camera: str):
    """The image at from_timestamp + timestamp is that step's, but for what H.264 loses."""
    with av.open(dataset / f"videos/observation.images.{camera}/chunk-000/file-000.mp4") as film:
        found = {float(frame.time): frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)}
    assert len(found) == 16
    name = f"videos/observation.images.{camera}"
    for episode, row in zip(demonstrations(), rows(dataset / "meta/episodes/chunk-000/file-000.parquet"), strict=True):
        begin, end = row[f"{name}/from_timestamp"], row[f"{name}/to_timestamp"]
        assert end - begin == pytest.approx(row["length"] / 5)
        for step, image in enumerate(episode.images[camera]):
            time = min(found, key=lambda at, wanted=begin + step / 5: abs(at - wanted))
            assert time == pytest.approx(begin + step / 5, abs=1e-4)
            assert np.abs(found[time] - image).mean() < 2.5  # neighbours in time differ by 20 and more


def test_a_film_begins_anew_at_every_second_image(dataset: Path):
    """Training reads images in any order: little has to be decoded before each."""
    with av.open(dataset / "videos/observation.images.front/chunk-000/file-000.mp4") as film:
        keys = [packet.is_keyframe for packet in film.demux(video=0) if packet.size]
    assert keys[::2] == [True] * 8


def test_episodes_tell_where_their_steps_are(dataset: Path):
    """From the first to behind the last, in the only file."""
    found = rows(dataset / "meta/episodes/chunk-000/file-000.parquet")
    assert [row["length"] for row in found] == list(LENGTHS)
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in found] == [(0, 5), (5, 8), (8, 16)]
    assert [row["tasks"] for row in found] == [["find the ball"]] * 3
    assert {row["data/chunk_index"] + row["data/file_index"] for row in found} == {0}


def test_the_task_names_its_row(dataset: Path):
    """For pandas, with which LeRobot reads it, the text is the index."""
    table = pyarrow.parquet.read_table(dataset / "meta/tasks.parquet")
    assert table.to_pydict() == {"task_index": [0], "task": ["find the ball"]}
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_info_counts(dataset: Path):
    """Version, rate and totals."""
    info = json.loads((dataset / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["fps"], info["total_episodes"], info["total_frames"], info["total_tasks"]) == (5, 3, 16, 1)
    assert info["splits"] == {"train": "0:3"}
    assert info["video_path"].format(video_key="observation.images.front", chunk_index=0, file_index=0) == (
        "videos/observation.images.front/chunk-000/file-000.mp4"
    )


def test_statistics_are_those_of_all_steps(dataset: Path):
    """Of each number of a vector, and of each channel of all pixels from 0 to 1."""
    found = json.loads((dataset / "meta/stats.json").read_text())
    made = demonstrations()
    check(found["observation.state"], np.concatenate([one.state for one in made]), 16)
    check(found["next.reward"], np.concatenate([one.reward for one in made])[:, None], 16)
    for camera in ABOUT["cameras"]:
        pixels = np.concatenate([one.images[camera].reshape(-1, 3) for one in made]) / 255
        of = found[f"observation.images.{camera}"]
        assert np.shape(of["mean"]) == (3, 1, 1)
        check({name: np.ravel(value) for name, value in of.items()}, pixels, 16, step=1 / 255)


def test_each_episode_has_its_own_statistics(dataset: Path):
    """For merging datasets."""
    row = rows(dataset / "meta/episodes/chunk-000/file-000.parquet")[1]
    of = {name.rpartition("/")[2]: value for name, value in row.items() if name.startswith("stats/action/")}
    check(of, demonstrations()[1].action, 3)
    pixels = demonstrations()[1].images["wrist"].reshape(-1, 3) / 255
    name = "stats/observation.images.wrist/mean"
    np.testing.assert_allclose(np.ravel(row[name]), pixels.mean(0))


def check(found: dict, values: np.ndarray, count: int, step: float = 0.0) -> None:
    """Against numpy; quantiles of stepped values may be a step off, for numpy looks between them."""
    for name, wanted in (("min", values.min(0)), ("max", values.max(0)), ("mean", values.mean(0))):
        np.testing.assert_allclose(found[name], wanted, atol=1e-6)
    np.testing.assert_allclose(found["std"], values.astype(float).std(0), atol=1e-6)
    for name in ("q01", "q10", "q50", "q90", "q99"):
        wanted = np.quantile(values.astype(float), int(name[1:]) / 100, axis=0)
        np.testing.assert_allclose(found[name], wanted, atol=step + 1e-6)
    assert found["count"] == [count]


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path):
    """Whatever is in it."""
    (tmp_path / "hall").mkdir()
    with pytest.raises(TrainError, match="new folder"), new_dataset(tmp_path / "hall", **ABOUT):
        pass
    assert list((tmp_path / "hall").iterdir()) == []


def test_a_recording_that_breaks_off_leaves_nothing(tmp_path: Path):
    """Neither half a dataset nor what it was written into."""
    with pytest.raises(KeyboardInterrupt), new_dataset(tmp_path / "hall", **ABOUT) as writer:
        writer.add(demonstrations()[0])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_half_is_removed(tmp_path: Path):
    """By whoever writes the same dataset next; what a process writes now is left alone."""
    folder, ready = tmp_path / "hall", tmp_path / "ready"
    script = (
        "import time, pathlib\n"
        "from train.recording.lerobot import new_dataset\n"
        f"with new_dataset(pathlib.Path({str(folder)!r}), **{ABOUT!r}):\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"
        "    time.sleep(600)\n"
    )
    writing = subprocess.Popen([sys.executable, "-c", script])
    while not ready.exists():
        assert writing.poll() is None
        time.sleep(0.05)
    with pytest.raises(BusyError, match=r"(?s)one process writes a dataset.*another"), new_dataset(folder, **ABOUT):
        pass
    writing.kill()
    writing.wait()
    ready.unlink()
    assert len(list(tmp_path.iterdir())) == 2
    with new_dataset(folder, **ABOUT) as writer:
        writer.add(demonstrations()[0])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_is_an_error_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And nothing is left of it."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lerobot, "_image_statistics", full)
    with pytest.raises(MachineError, match="no space left"), new_dataset(tmp_path / "hall", **ABOUT) as writer:
        writer.add(demonstrations()[0])
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It comes with an extra of its own."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError, match="record"), new_dataset(tmp_path / "hall", **ABOUT):
        pass
    assert list(tmp_path.iterdir()) == []

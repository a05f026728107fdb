"""Demonstrations as a LeRobot dataset, version 3.0: vectors and depths in Parquet, images in MP4, and an index.

Format: https://huggingface.co/docs/lerobot/lerobot-dataset-v3, and the code of lerobot 0.4 to 0.6, which read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from pipeline.errors import TrainError, install
from pipeline.io.results import partial_result, writing_alone
from pipeline.types import F32, F64, I64, U8
from sim.libraries import load
from sim.video import VideoWriter, pixel_format

STATE, ACTION = "observation.state", "action"
ENVIRONMENT = "observation.environment_state"
"""What a simulator knows in addition, under the name that LeRobot has for it."""
TRUNCATED = "next.truncated"
"""Where a time limit ended an episode, which would have gone on; as `next.done` it is true of last steps alone."""
DEPTH = "_depth"
"""Ending of the name of a camera's depths; LeRobot 0.4 has no depth images, but arrays of two dimensions."""
CHUNK = "chunk-000/file-000"
"""There is one file of each kind; LeRobot allows more, so that none gets too large for its hub."""
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
ENCODING = {"g": "2", "crf": "17"}
"""Every second image is a keyframe, as in LeRobot's own datasets: training reads single images; rate 17 looks like the
original."""
NUMBERS = {
    "next.reward": "float32",
    "next.done": "bool",
    TRUNCATED: "bool",
    "next.success": "bool",
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Type of each scalar feature."""

Statistics = dict[str, list]


@dataclass(frozen=True, eq=False)
class Demonstration:
    """An episode with T steps.

    Attributes:
        images: Images by name, (T, H, W, 3) uint8; depths, whose names end with `DEPTH`, (T, H, W) float32 [m], 0 =
            unknown.
        state: (T, S) float32 vectors before each action.
        environment: (T, E) float32, what a simulator knows then.
        action: (T, A) float32.
        reward: (T,) float32 for each action.
        truncated: Whether its time limit ended it.
    """

    images: Mapping[str, np.ndarray]
    state: F32
    environment: F32
    action: F32
    reward: F32
    success: bool
    truncated: bool


class About(TypedDict):
    """What all demonstrations of a dataset have in common.

    Attributes:
        rate: Steps per second.
        state: Name of each element of the state.
        environment: Name of each element of what a simulator knows.
        action: Name of each element of an action.
        cameras: Height and width of the images by name [px].
    """

    rate: int
    robot: str
    task: str
    state: Sequence[str]
    environment: Sequence[str]
    action: Sequence[str]
    cameras: Mapping[str, tuple[int, int]]


class DatasetWriter:
    """Writes demonstrations into an empty folder one by one."""

    def __init__(self, folder: Path, **about: Unpack[About]) -> None:
        rule, remedy = "a LeRobot dataset needs pyarrow", install("record")
        self._arrow, self._parquet = (load(name, rule, remedy) for name in ("pyarrow", "pyarrow.parquet"))
        self._folder, self._rate, self._robot, self._task = folder, about["rate"], about["robot"], about["task"]
        named = {STATE: about["state"], ENVIRONMENT: about["environment"], ACTION: about["action"]}
        self._names = {name: list(of) for name, of in named.items()}
        sizes = about["cameras"]
        self._sizes = {camera: size for camera, size in sizes.items() if not camera.endswith(DEPTH)}
        self._depths = {feature(name): size for name, size in sizes.items() if name.endswith(DEPTH)}
        self._videos = {
            camera: VideoWriter(folder / "videos" / feature(camera) / f"{CHUNK}.mp4", self._rate, ENCODING)
            for camera in self._sizes
        }
        vectors = [(name, self._arrow.list_(self._arrow.float32(), len(of))) for name, of in self._names.items()]
        vectors += [
            (name, self._arrow.list_(self._arrow.list_(self._arrow.float32(), width), height))
            for name, (height, width) in self._depths.items()
        ]
        numbers = [(name, self._arrow.type_for_alias(kind)) for name, kind in NUMBERS.items()]
        self._schema = self._arrow.schema([*vectors, *numbers])
        self._data = self._parquet.ParquetWriter(_made(folder / "data" / f"{CHUNK}.parquet"), self._schema)
        self._episodes: list[dict[str, object]] = []
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in (*self._names, *NUMBERS)}
        self._histogram = {camera: np.zeros((3, 256), np.int64) for camera in self._sizes}
        self._frames = 0

    def add(self, episode: Demonstration) -> None:
        """Append an episode."""
        steps, first = len(episode.action), self._frames
        here = np.arange(steps)
        last = here == steps - 1
        columns: dict[str, np.ndarray] = {
            STATE: episode.state,
            ENVIRONMENT: episode.environment,
            ACTION: episode.action,
            "next.reward": episode.reward,
            "next.done": last,
            TRUNCATED: last & episode.truncated,
            "next.success": last & episode.success,
            "timestamp": (here / self._rate).astype(np.float32),
            "frame_index": here,
            "episode_index": np.full(steps, len(self._episodes)),
            "index": first + here,
            "task_index": np.zeros(steps, np.int64),
        }
        depths = {feature(name): values for name, values in episode.images.items() if name.endswith(DEPTH)}
        recorded = columns | depths
        arrays = [self._array(recorded[field.name], field.type) for field in self._schema]
        self._data.write_table(self._arrow.table(arrays, self._schema))
        statistics = {name: _statistics(values) for name, values in columns.items()}
        for name, values in columns.items():
            self._columns[name].append(values)
        row: dict[str, object] = {
            "episode_index": len(self._episodes),
            "tasks": [self._task],
            "length": steps,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": first,
            "dataset_to_index": first + steps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for camera, video in self._videos.items():
            images = episode.images[camera]
            for image in images:
                video.add(image)
            histogram = _histogram(images)
            self._histogram[camera] += histogram
            statistics[feature(camera)] = _image_statistics(histogram, steps)
            prefix = f"videos/{feature(camera)}"
            row |= {f"{prefix}/chunk_index": 0, f"{prefix}/file_index": 0}
            row |= {
                f"{prefix}/from_timestamp": first / self._rate,
                f"{prefix}/to_timestamp": (first + steps) / self._rate,
            }
        row |= {f"stats/{name}/{what}": value for name, of in statistics.items() for what, value in of.items()}
        self._episodes.append(row)
        self._frames += steps

    def write_metadata(self) -> None:
        """Write what makes the dataset complete, once its files are closed."""
        meta = self._folder / "meta"
        table = self._arrow.Table.from_pylist(self._episodes)
        self._parquet.write_table(table, _made(meta / "episodes" / f"{CHUNK}.parquet"))
        self._write_tasks(meta / "tasks.parquet")
        statistics = {name: _statistics(np.concatenate(values)) for name, values in self._columns.items()}
        for camera, histogram in self._histogram.items():
            statistics[feature(camera)] = _image_statistics(histogram, self._frames)
        (meta / "stats.json").write_text(json.dumps(statistics, indent=1), encoding="utf-8")
        (meta / "info.json").write_text(json.dumps(self._info(), indent=1), encoding="utf-8")

    def close(self) -> None:
        """Close all files."""
        self._data.close()
        for video in self._videos.values():
            video.close()

    def _array(self, values: np.ndarray, kind: Any) -> Any:
        """An Arrow array of that type."""
        if values.ndim == 1:
            return self._arrow.array(values, kind)
        parts = self._array(values.reshape(-1, *values.shape[2:]), kind.value_type)
        return self._arrow.FixedSizeListArray.from_arrays(parts, type=kind)

    def _write_tasks(self, file: Path) -> None:
        """Write tasks and their numbers; the text is pandas' index, as LeRobot expects it."""
        columns = [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": of, "metadata": None}
            for name, kind, of in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ]
        about = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
        table = self._arrow.table({"task_index": [0], "task": [self._task]})
        self._parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(about)}), file)

    def _info(self) -> dict[str, object]:
        features: dict[str, dict[str, object]] = {
            feature(camera): {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": "h264",
                    "video.pix_fmt": pixel_format(height, width),
                    "video.is_depth_map": False,
                    "video.fps": self._rate,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
            for camera, (height, width) in self._sizes.items()
        }
        for name, names in self._names.items():
            features[name] = {"dtype": "float32", "shape": [len(names)], "names": names}
        for name, size in self._depths.items():
            features[name] = {"dtype": "float32", "shape": list(size), "names": ["height", "width"]}
        for name, kind in NUMBERS.items():
            features[name] = {"dtype": kind, "shape": [1], "names": None}
        file = "chunk-{chunk_index:03d}/file-{file_index:03d}"
        return {
            "codebase_version": "v3.0",
            "robot_type": self._robot,
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": 1,
            "chunks_size": 1000,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._rate,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": f"data/{file}.parquet",
            "video_path": f"videos/{{video_key}}/{file}.mp4" if self._videos else None,
            "features": features,
        }


@contextmanager
def new_dataset(folder: Path, **about: Unpack[About]) -> Iterator[DatasetWriter]:
    """A writer of a dataset whose folder appears only when it is complete; what a kill left half is removed.

    Raises:
        TrainError: When the folder exists.
        BusyError: When another process writes the same dataset.
        MachineError: When pyarrow is not installed, the folder can't be written, or the disk is full.
    """
    with writing_alone(folder, "a dataset"):
        if folder.exists():
            raise TrainError(
                "a dataset is written into a new folder", found="it exists", remedy="name another", file=folder
            )
        with partial_result(folder) as partial:
            writer = DatasetWriter(partial, **about)
            try:
                yield writer
            finally:
                writer.close()
            writer.write_metadata()


def feature(camera: str) -> str:
    """Name of the feature that has a camera's images."""
    return f"observation.images.{camera}"


def _statistics(values: np.ndarray) -> Statistics:
    """Statistics of each column of values (T, K) or (T,)."""
    columns = values.reshape(len(values), -1).astype(np.float64)
    moments = columns.min(0), columns.max(0), columns.mean(0), columns.std(0)
    return _named(len(values), *moments, *(np.quantile(columns, q, axis=0) for q in QUANTILES))


def _named(count: int, *values: F64) -> Statistics:
    """Least, largest, mean, standard deviation and quantiles by name, with the number of cases."""
    names = ("min", "max", "mean", "std", *(f"q{round(100 * q):02d}" for q in QUANTILES))
    return {name: of.tolist() for name, of in zip(names, values, strict=True)} | {"count": [count]}


def _histogram(images: U8) -> I64:
    """Histogram of each channel (3, 256)."""
    values = images.reshape(-1, 3).astype(np.int64) + 256 * np.arange(3)
    return np.bincount(values.ravel(), minlength=768).reshape(3, 256)


def _image_statistics(histogram: I64, frames: int) -> Statistics:
    """Statistics of each channel (3, 1, 1), colours from 0 to 1."""
    levels, count = np.arange(256) / 255, histogram.sum(1)
    mean = histogram @ levels / count
    below = histogram.cumsum(1) / count[:, None]
    values = (
        levels[(histogram > 0).argmax(1)],
        levels[255 - (histogram[:, ::-1] > 0).argmax(1)],
        mean,
        np.sqrt((histogram * (levels - mean[:, None]) ** 2).sum(1) / count),
        *(levels[(below >= q).argmax(1)] for q in QUANTILES),
    )
    return _named(frames, *(value.reshape(3, 1, 1) for value in values))


def _made(path: Path) -> Path:
    """The path, with its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

"""Policies in ONNX files, good ones and others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.errors import SimError
from sim.policies import onnx_file
from sim.policies.onnx_file import OnnxDriver
from tests.sim.policies.robots import robots, seen

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
Shapes = Mapping[str, tuple[int, Sequence[int | str]]]


def model(
    path: Path, nodes: list[onnx.NodeProto], inputs: Shapes, outputs: Shapes, weights: list[onnx.TensorProto]
) -> Path:
    """A file with this graph."""
    described = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in of.items()]
        for of in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "policy", *described, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(made.SerializeToString())
    return path


def counting(path: Path, memory: Sequence[int | str] = (1, 1)) -> Path:
    """Its action is the pose's first number, and how many steps it has counted, tenths of each."""
    nodes = [
        helper.make_node("Add", ["count_in", "one"], ["count_out"]),
        helper.make_node("ReduceMax", ["count_out"], ["count"], axes=[0, 1]),
        helper.make_node("Slice", ["pose", "first", "second", "axis"], ["x"]),
        helper.make_node("Concat", ["x", "count"], ["both"], axis=1),
        helper.make_node("Mul", ["both", "tenth"], ["action"]),
    ]
    weights = [
        helper.make_tensor("one", FLOAT, [1, 1], [1.0]),
        helper.make_tensor("tenth", FLOAT, [1, 1], [0.1]),
        *(
            helper.make_tensor(name, TensorProto.INT64, [1], [value])
            for name, value in (("first", 0), ("second", 1), ("axis", 1))
        ),
    ]
    outputs = {"count_out": (FLOAT, memory), "action": (FLOAT, (1, 2))}
    return model(path, nodes, {"pose": (FLOAT, (1, 3)), "count_in": (FLOAT, memory)}, outputs, weights)


def test_each_robot_has_its_own_memory(tmp_path: Path):
    """Which begins again with its episode."""
    env = robots([True, True])
    driver = OnnxDriver(counting(tmp_path / "a.onnx"), env)
    np.testing.assert_allclose(driver(seen(2)), [[0.025, 0.1], [0.125, 0.1]], rtol=1e-6)
    env.now.seconds[:] = 0.2
    np.testing.assert_allclose(driver(seen(2)), [[0.025, 0.2], [0.125, 0.2]], rtol=1e-6)
    env.now.seconds[0] = 0
    np.testing.assert_allclose(driver(seen(2)), [[0.025, 0.1], [0.125, 0.3]], rtol=1e-6)


def test_inputs_may_be_named_as_datasets_name_them(tmp_path: Path):
    """Then images have channels first, between 0 and 1; the simulator's own are as its cameras give them."""
    nodes = [
        helper.make_node("Slice", ["observation.images.wrist", "from", "to"], ["green"]),
        helper.make_node("ReduceMax", ["green"], ["brightest"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["third_rgb"], ["colours"], to=FLOAT),
        helper.make_node("ReduceMean", ["colours"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Concat", ["brightest", "mean"], ["action"], axis=0),
    ]
    weights = [
        helper.make_tensor("from", TensorProto.INT64, [2], [0, 1]),
        helper.make_tensor("to", TensorProto.INT64, [2], [1, 2]),
    ]
    inputs = {
        "observation.images.wrist": (FLOAT, (1, 3, "height", "width")),
        "third_rgb": (UINT8, (1, 2, 3, 3)),
    }
    path = model(tmp_path / "a.onnx", nodes, inputs, {"action": (FLOAT, (2,))}, weights)
    given = seen(2)
    expected = [[given["wrist_rgb"][row][..., 1].max() / 255, given["third_rgb"][row].mean()] for row in range(2)]
    np.testing.assert_allclose(OnnxDriver(path, robots([True, True]))(given), expected, rtol=1e-6)


def passing(path: Path, name: str, kind: int, shape: Sequence[int | str]) -> Path:
    """Its action is its input."""
    nodes = [helper.make_node("Cast", [name], ["action"], to=FLOAT)]
    return model(path, nodes, {name: (kind, shape)}, {"action": (FLOAT, shape)}, [])


@pytest.mark.parametrize(
    ("name", "kind", "shape", "found"),
    [
        ("depth", FLOAT, (1, 2, 3), "'depth'; there are observation.environment_state"),
        ("pose", FLOAT, (1, 4), r"pose \(4,\); this robot has \(3,\)"),
        ("pose", FLOAT, (1, 3, 1), "this robot has"),
        ("observation.images.third", FLOAT, (1, 2, 3, 3), r"this robot has \(3, 2, 3\)"),
        ("pose", TensorProto.STRING, (1, 3), "string"),
        ("pose", FLOAT, (4, 3), "Got: 1 Expected: 4"),
    ],
)
def test_what_the_robot_does_not_observe_is_refused(
    name: str, kind: int, shape: tuple[int, ...], found: str, tmp_path: Path
):
    """With what it does."""
    path = passing(tmp_path / "a.onnx", name, kind, shape)
    with pytest.raises(SimError, match=found):
        OnnxDriver(path, robots([True]))(seen(1))


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "No such file"), (b"", "No graph"), (b"garbage", "rotobuf"), ("folder", "a folder instead of a file")],
)
def test_what_is_no_such_file_is_refused(content: bytes | str | None, found: str, tmp_path: Path):
    """Garbage, nothing, a folder."""
    path = tmp_path / "a.onnx"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(SimError, match=found):
        OnnxDriver(path, robots([True]))


def posed(path: Path, nodes: list[onnx.NodeProto], **weights: Sequence[int]) -> Path:
    """A file whose input is a pose, with whole numbers as its weights."""
    numbers = [helper.make_tensor(name, TensorProto.INT64, [len(of)], of) for name, of in weights.items()]
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return model(path, nodes, {"pose": (FLOAT, (1, 3))}, {"action": (FLOAT, (1, 3))}, [*numbers, yes])


def endless(path: Path, *, constant: bool) -> Path:
    """Its loop goes on for ever, over its input or over what is constant, which a start could compute."""
    described = [
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, kind, shape in (("n", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("x", FLOAT, [1, 3]))
        ],
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, kind, shape in (("go_on", TensorProto.BOOL, []), ("y", FLOAT, [1, 3]))
        ],
    ]
    steps = [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["x"], ["y"])]
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node(
            "Loop",
            ["", "yes", "zeros" if constant else "pose"],
            ["last"],
            body=helper.make_graph(steps, "b", *described),
        ),
        helper.make_node("Add", ["last", "pose"], ["action"]),
    ]
    return posed(path, nodes, size=[1, 3])


@pytest.mark.parametrize("constant", [False, True])
def test_a_file_that_does_not_end_is_left(constant: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After the time that an action may take; what is constant is computed then, too."""
    monkeypatch.setattr(onnx_file, "ACTION_SECONDS", 0.2)
    driver = OnnxDriver(endless(tmp_path / "a.onnx", constant=constant), robots([True]))
    with pytest.raises(SimError, match=r"no answer within 0\.2 s"):
        driver(seen(1))


def large(path: Path, size: list[int]) -> Path:
    """It adds up numbers, as many as that."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "pose"], ["action"]),
    ]
    return posed(path, nodes, size=size)


def alien(path: Path) -> Path:
    """An operator of somebody's own library, named with codes that colour a terminal."""
    return posed(path, [helper.make_node("\x1b[31mRun", ["pose"], ["action"], domain="evil")])


def pipe(path: Path) -> Path:
    """Nobody writes into it."""
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: large(path, [2**34]), "Available memory"),
        (lambda path: large(path, [2**20, 2**20]), "Available memory|overflow"),
        (lambda path: large(path, [-5]), "negative|invalid|Can't|ShapeInference"),
        (alien, "evil|domain"),
        (pipe, "a pipe instead of a file"),
    ],
)
def test_hostile_files_are_refused(make: Callable[[Path], Path], found: str, tmp_path: Path):
    """Beyond the memory that they may take, of code that they name, not a file at all."""
    with pytest.raises(SimError, match=found) as raised:
        OnnxDriver(make(tmp_path / "a.onnx"), robots([True]))(seen(1))
    assert len(raised.value.found) <= 300 and "\n" not in raised.value.found


@pytest.mark.parametrize("memory", [(2**20, 2**20), (1, 0)])
def test_a_memory_without_bounds_is_refused(memory: tuple[int, int], tmp_path: Path):
    """Before anything is allocated."""
    with pytest.raises(SimError, match="count_in"):
        OnnxDriver(counting(tmp_path / "a.onnx", memory), robots([True]))


@pytest.mark.parametrize("place", ["other.bin", "../other.bin", "/etc/hostname"])
def test_other_files_are_not_read(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever a file says of where its weights lie, and wherever it is run."""
    folder = tmp_path / "inner"
    folder.mkdir()
    for path in (folder / "other.bin", tmp_path / "other.bin"):
        path.write_bytes(np.array([3, 4, 5], np.float32).tobytes())
    monkeypatch.chdir(folder)
    weight = TensorProto(name="w", data_type=FLOAT, dims=[1, 3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("length", "12")):
        weight.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Add", ["pose", "w"], ["action"])]
    path = model(folder / "a.onnx", nodes, {"pose": (FLOAT, (1, 3))}, {"action": (FLOAT, (1, 3))}, [weight])
    with pytest.raises(SimError):
        OnnxDriver(path, robots([True], 3))(seen(1))


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of any content."""
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 100)
    with pytest.raises(SimError, match="bytes"):
        OnnxDriver(counting(tmp_path / "a.onnx"), robots([True]))

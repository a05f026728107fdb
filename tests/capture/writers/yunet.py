"""A model of YuNet's form that takes pure green for a face: OpenCV's detector runs it as it runs the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
SIDE = 32
"""Of the box that it gives for each green cell of 32 x 32 pixels [px]."""


def write_green_yunet(path: Path) -> Path:
    """Write the model: per stride scores, boxes and landmarks of every cell, zero but for scores of the largest."""
    nodes, outputs = [], []
    weights = np.array([-1, 1, -1], np.float32).reshape(1, 3, 1, 1) / 200  # BGR
    constants = {
        "weights": weights,
        "low": np.float32(0),
        "high": np.float32(1),
        "zero": np.float32(0),
        "half": np.float32(0.5),
        "shape": np.array([1, -1, 1]),
    }
    for stride in STRIDES:
        name = str(stride)
        last = "weights" if stride == STRIDES[-1] else "none"
        nodes += [
            helper.make_node(
                "AveragePool", ["input"], [f"pool{name}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            helper.make_node("Conv", [f"pool{name}", last], [f"green{name}"]),
            helper.make_node("Clip", [f"green{name}", "low", "high"], [f"score{name}"]),
            helper.make_node("Reshape", [f"score{name}", "shape"], [f"cls_{name}"]),
            helper.make_node("Reshape", [f"score{name}", "shape"], [f"obj_{name}"]),
            helper.make_node("Mul", [f"cls_{name}", "zero"], [f"nothing{name}"]),
            helper.make_node("Add", [f"nothing{name}", "half"], [f"middle{name}"]),
            helper.make_node("Concat", [f"middle{name}"] * 2 + [f"nothing{name}"] * 2, [f"bbox_{name}"], axis=2),
            helper.make_node("Concat", [f"nothing{name}"] * 10, [f"kps_{name}"], axis=2),
        ]
    constants["none"] = np.zeros_like(weights)
    for part, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in STRIDES:
            cells = (320 // stride) ** 2
            outputs.append(helper.make_tensor_value_info(f"{part}_{stride}", TensorProto.FLOAT, [1, cells, width]))
    graph = helper.make_graph(
        nodes,
        "green",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path

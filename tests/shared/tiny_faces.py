"""Face detectors in miniature, with the inputs and outputs of the real files: a face is a block of 8 x 8 pure red pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE_PX = 64
CELLS = SIDE_PX // 8


def write_yunet(file: Path) -> Path:
    """BGR in 0..255; cls, obj, bbox and kps for strides 8, 16 and 32. Only the finest one finds something."""
    nodes = [
        *_redness(channel=2, scale=255),
        helper.make_node("Reshape", ["red", "column"], ["cls_8"]),
        helper.make_node("Identity", ["cls_8"], ["obj_8"]),
    ]
    constants = {"column": np.array([1, CELLS**2, 1], np.int64)}
    # Half a cell right and down of the cell's corner, and as wide and high as one stride: log(1).
    constants["bbox_8 value"] = np.tile(np.array([0.5, 0.5, 0, 0], np.float32), (1, CELLS**2, 1))
    outputs = [("cls_8", 1), ("obj_8", 1)]
    for part, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            name = f"{part}_{stride}"
            if (name, width) in outputs:
                continue
            constants.setdefault(f"{name} value", np.zeros((1, (SIDE_PX // stride) ** 2, width), np.float32))
            nodes.append(helper.make_node("Identity", [f"{name} value"], [name]))
            outputs.append((name, width))
    return _write(file, nodes, constants, [name for name, _ in outputs])


def write_yolo(file: Path) -> Path:
    """RGB in 0..1; one output [1, 5, n]: middle, size and score of a box."""
    middles = (np.arange(CELLS, dtype=np.float32) + 0.5) * 8
    boxes = np.stack([np.tile(middles, CELLS), np.repeat(middles, CELLS), np.full(CELLS**2, 8.0), np.full(CELLS**2, 8.0)])[None].astype(np.float32)
    nodes = [
        *_redness(channel=0, scale=1),
        helper.make_node("Reshape", ["red", "row"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    return _write(file, nodes, {"boxes": boxes, "row": np.array([1, 1, CELLS**2], np.int64)}, ["output0"])


def _redness(channel: int, scale: float) -> list[onnx.NodeProto]:
    """`red`: [1, 1, CELLS, CELLS], 1 where a cell is pure red, 0 or less where it has as much of another colour."""
    weight = np.full((1, 3, 8, 8), -1 / 64 / scale, np.float32)
    weight[:, channel] = 1 / 64 / scale
    value = numpy_helper.from_array(weight)
    return [
        helper.make_node("Constant", [], ["weight"], value=value),
        helper.make_node("Conv", ["input", "weight"], ["red"], kernel_shape=[8, 8], strides=[8, 8]),
    ]


def _write(file: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], outputs: list[str]) -> Path:
    graph = helper.make_graph(
        nodes,
        "faces",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(inferred, str(file))
    return file

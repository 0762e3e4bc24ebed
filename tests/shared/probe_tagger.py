"""Taggers in the WD format whose every output is one pixel value, so that each step of the preprocessing shows in the scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

Row = tuple[str, int]
CHANNELS = {"blue": 0, "green": 1, "red": 2}


def write_probe(
    file: Path,
    pixels: Sequence[tuple[int, int, str]],
    *,
    side_px: int | str,
    batch: int | str,
    layout: str,
    dtype: str,
    scale: float,
    num_outputs: int | str,
) -> None:
    """Output i = value of the pixel (y, x, channel name) i / 255 * scale; the model expects blue, green, red, 0 to 255."""
    side = side_px if isinstance(side_px, int) else 448
    flat = [(y * side + x) * 3 + CHANNELS[channel] if layout == "NHWC" else (CHANNELS[channel] * side + y) * side + x for y, x, channel in pixels]
    element = onnx.TensorProto.FLOAT16 if dtype == "float16" else onnx.TensorProto.FLOAT
    shape = [batch, side_px, side_px, 3] if layout == "NHWC" else [batch, 3, side_px, side_px]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
            onnx.helper.make_node("Gather", ["flat", "indices"], ["picked"], axis=1),
            onnx.helper.make_node("Mul", ["picked", "factor"], ["scores"]),
        ],
        "probe",
        [onnx.helper.make_tensor_value_info("pixels", element, shape)],
        [onnx.helper.make_tensor_value_info("scores", element, [batch, num_outputs])],
        [
            onnx.numpy_helper.from_array(np.array(flat, np.int64), "indices"),
            onnx.numpy_helper.from_array(np.array(scale / 255, dtype), "factor"),
        ],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(file))


def write_labels(file: Path, rows: Sequence[Row]) -> None:
    lines = ["tag_id,name,category,count", *(f"{i},{name},{category},{1000 - i}" for i, (name, category) in enumerate(rows))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")

"""Tiny taggers as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from probe_tagger import Row, write_labels, write_probe


@pytest.fixture
def make_tagger(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tagger folder and returns it: one output for each (y, x, channel)."""

    def make(
        pixels: Sequence[tuple[int, int, str]],
        *,
        rows: Sequence[Row] | None = None,
        name: str = "probe",
        side_px: int | str = 8,
        batch: int | str = "N",
        layout: str = "NHWC",
        dtype: str = "float32",
        scale: float = 1.0,
        num_outputs: int | str | None = None,
    ) -> Path:
        folder = tmp_path / "wd_taggers" / name
        folder.mkdir(parents=True)
        write_labels(folder / "selected_tags.csv", rows or [(f"tag_{i}", 0) for i in range(len(pixels))])
        count = len(pixels) if num_outputs is None else num_outputs
        write_probe(folder / "model.onnx", pixels, side_px=side_px, batch=batch, layout=layout, dtype=dtype, scale=scale, num_outputs=count)
        return folder

    return make


@pytest.fixture(name="write_labels")
def _write_labels() -> Callable[[Path, Sequence[Row]], None]:
    return write_labels

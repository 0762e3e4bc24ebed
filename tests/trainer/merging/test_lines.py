from __future__ import annotations

from pathlib import Path

import pytest

from athanor.trainer.errors import AthanorError
from athanor.trainer.merging.additions import Addition
from athanor.trainer.merging.lines import read_additions


def test_a_line_is_a_file_and_one_strength_or_two():
    text = "style.safetensors: 0.8\n# a remark\n\n风格 b.safetensors:-.5, 0\nC:\\loras\\x.safetensors\nD:/y.safetensors: 2"
    assert read_additions(text) == (
        Addition(Path("style.safetensors"), 0.8, 0.8),
        Addition(Path("风格 b.safetensors"), -0.5, 0.0),
        Addition(Path("C:\\loras\\x.safetensors")),
        Addition(Path("D:/y.safetensors"), 2.0, 2.0),
    )
    assert read_additions("a", lambda name: Path("loras") / name) == (Addition(Path("loras/a")),)


@pytest.mark.parametrize("line", ["a.safetensors: much", "a: 1, 2, 3", "a: 1 2"])
def test_what_is_no_strength_is_told(line):
    with pytest.raises(AthanorError, match="is not a strength"):
        read_additions(line)

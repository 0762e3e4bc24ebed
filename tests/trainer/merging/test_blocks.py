from __future__ import annotations

import pytest

from athanor.trainer.errors import AthanorError
from athanor.trainer.merging.blocks import read_block_weights

UP, DOWN = "up_blocks_1_attentions_0_proj_in", "down_blocks_0_attentions_1_to_q"


def test_a_part_of_the_name_or_a_pattern_and_the_last_that_fits():
    weights = read_block_weights("up_blocks: 0.5\n\n# a remark\n*to_q : 0  # none of it\ndown_blocks.0: -1\n")
    assert weights.factor(UP) == 0.5
    assert weights.factor(DOWN) == -1
    assert weights.factor("mid_block_attentions_0_to_q") == 0
    assert weights.factor("mid_block_attentions_0_to_k") == 1
    assert weights.unused(frozenset({UP})) == ("*to_q", "*down_blocks_0*")


@pytest.mark.parametrize("line", ["up_blocks", "up_blocks: much", ": 1", "up_blocks: nan", "up_blocks: inf"])
def test_what_is_not_understood_is_told(line):
    with pytest.raises(AthanorError, match=r"Block weights: .* is not understood"):
        read_block_weights(f"mid: 1\n{line}")

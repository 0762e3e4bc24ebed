"""The merged file's change of each weight is the weighted sum of the files' changes."""

from __future__ import annotations

import pytest
import torch

from athanor.trainer.adapters.attached import kind_of
from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.layers import grouped
from athanor.trainer.merging.blocks import BlockWeights, read_block_weights
from athanor.trainer.merging.layers import Part, merge_layers
from athanor.trainer.merging.resize import Limit
from athanor.trainer.merging.vectors import merge_vectors

EXACT, ALL = Limit(), BlockWeights()
LINEAR, CONV = "lora_unet_mid_block_attentions_0_to_q", "lora_unet_mid_block_resnets_0_conv1"
SHAPES = {LINEAR: (16, 12), CONV: (10, 6, 3, 3)}


def lora(seed: int, rank: int, alpha: float | None = 2.0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        f"{LINEAR}.lora_up.weight": torch.randn(16, rank, generator=draw),
        f"{LINEAR}.lora_down.weight": torch.randn(rank, 12, generator=draw),
        f"{CONV}.lora_up.weight": torch.randn(10, rank, 1, 1, generator=draw),
        f"{CONV}.lora_down.weight": torch.randn(rank, 6, 3, 3, generator=draw),
    }
    return tensors if alpha is None else {**tensors, f"{LINEAR}.alpha": torch.tensor(alpha), f"{CONV}.alpha": torch.tensor(alpha)}


def changes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    weights = {name: torch.randn(shape, generator=torch.Generator().manual_seed(9)) for name, shape in SHAPES.items()}
    return {name: kind_of({name: held}, "it")[1].change(held, weights[name]) for name, held in grouped(tensors).items()}


def test_loras_of_different_ranks_and_alphas_are_summed_exactly():
    files, weights = [lora(1, 2), lora(2, 3, alpha=6.0), lora(3, 4, alpha=None)], [0.5, -1.0, 0.25]
    merged = merge_layers([Part(str(i), file, weight) for i, (file, weight) in enumerate(zip(files, weights, strict=True))], ALL, EXACT)
    assert merged.ranks == (9, 9) and merged.kept == 1.0
    found = changes(merged.tensors)
    for name in SHAPES:
        expected = sum(weight * changes(file)[name] for file, weight in zip(files, weights, strict=True))
        assert torch.allclose(found[name], expected, atol=1e-5)


def test_one_file_alone_is_made_smaller_and_says_what_it_keeps():
    file = lora(4, 4)
    merged = merge_layers([Part("a", file, 1.0)], ALL, Limit(rank=2))
    assert merged.ranks == (2, 2) and 0 < merged.kept < 1
    for name, change in changes(merged.tensors).items():
        whole = changes(file)[name]
        lost = 1 - float((change - whole).norm() ** 2 / whole.norm() ** 2)
        assert lost >= merged.kept - 1e-5


def test_blocks_are_weighted_and_those_of_zero_are_left_out():
    file = lora(5, 2)
    merged = merge_layers([Part("a", file, 1.0)], read_block_weights("resnets: 0\nattentions: 0.5"), EXACT)
    assert torch.allclose(changes(merged.tensors)[LINEAR], 0.5 * changes(file)[LINEAR], atol=1e-6)
    assert not any(key.startswith(CONV) for key in merged.tensors)


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_other_products_become_loras_of_the_same_change(kind):
    draw = torch.Generator().manual_seed(6)
    held = {
        "loha": {"hada_w1_a": (16, 2), "hada_w1_b": (2, 12), "hada_w2_a": (16, 2), "hada_w2_b": (2, 12)},
        "lokr": {"lokr_w1": (4, 3), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)},
    }[kind]
    file = {f"{LINEAR}.{suffix}": torch.randn(shape, generator=draw) for suffix, shape in held.items()} | {f"{LINEAR}.alpha": torch.tensor(1.0)}
    other = {key: tensor for key, tensor in lora(7, 2).items() if key.startswith(LINEAR)}
    merged = merge_layers([Part("a", file, 0.7), Part("b", other, 0.3)], ALL, EXACT)
    assert "lora_up.weight" in {key.removeprefix(f"{LINEAR}.") for key in merged.tensors}
    expected = 0.7 * changes(file)[LINEAR] + 0.3 * changes(other)[LINEAR]
    assert torch.allclose(changes(merged.tensors)[LINEAR], expected, atol=1e-4)


CONVOLUTIONS = {
    "tucker lora": {"lora_up.weight": (10, 3, 1, 1), "lora_mid.weight": (3, 2, 3, 3), "lora_down.weight": (2, 6, 1, 1)},
    "flat loha": {"hada_w1_a": (10, 2), "hada_w1_b": (2, 54), "hada_w2_a": (10, 2), "hada_w2_b": (2, 54)},
    "tucker loha": {
        **{"hada_w1_a": (2, 10), "hada_w1_b": (2, 6), "hada_t1": (2, 2, 3, 3)},
        **{"hada_w2_a": (2, 10), "hada_w2_b": (2, 6), "hada_t2": (2, 2, 3, 3)},
    },
    "whole lokr": {"lokr_w1": (2, 3), "lokr_w2": (5, 2, 3, 3)},
    "flat lokr": {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 3), "lokr_w2_a": (5, 2), "lokr_w2_b": (2, 18)},
    "tucker lokr": {"lokr_w1": (2, 3), "lokr_w2_a": (2, 5), "lokr_w2_b": (2, 2), "lokr_t2": (2, 2, 3, 3)},
}


@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_convolutions_of_every_form_are_summed_with_a_locon(form):
    draw = torch.Generator().manual_seed(8)
    file = {f"{CONV}.{suffix}": torch.randn(shape, generator=draw) for suffix, shape in CONVOLUTIONS[form].items()} | {
        f"{CONV}.alpha": torch.tensor(1.5)
    }
    other = {key: tensor for key, tensor in lora(7, 2).items() if key.startswith(CONV)}
    merged = merge_layers([Part("a", file, 0.7), Part("b", other, 0.3)], ALL, EXACT)
    assert merged.kept == pytest.approx(1.0) and merged.tensors[f"{CONV}.lora_down.weight"].shape[1:] == (6, 3, 3)
    expected = 0.7 * changes(file)[CONV] + 0.3 * changes(other)[CONV]
    assert expected.shape == SHAPES[CONV] and torch.allclose(changes(merged.tensors)[CONV], expected, atol=2e-4)
    alone = merge_layers([Part("a", file, 0.7)], ALL, EXACT)
    assert torch.allclose(changes(alone.tensors)[CONV], 0.7 * changes(file)[CONV], atol=2e-4)


def test_ia3_stays_ia3():
    files = [
        {f"{LINEAR}.weight": torch.randn(16, generator=torch.Generator().manual_seed(i)), f"{LINEAR}.on_input": torch.tensor(0.0)} for i in (1, 2)
    ]
    merged = merge_layers([Part("a", files[0], 2.0), Part("b", files[1], -1.0)], ALL, EXACT)
    assert torch.allclose(changes(merged.tensors)[LINEAR], 2 * changes(files[0])[LINEAR] - changes(files[1])[LINEAR], atol=1e-5)
    assert merged.ranks == ()


def test_spellings_of_one_layer_meet():
    first = {key: tensor for key, tensor in lora(1, 2).items() if key.startswith(LINEAR)}
    dotted = {"unet.mid_block.attentions.0.to.q" + key.removeprefix(LINEAR): tensor for key, tensor in first.items()}
    merged = merge_layers([Part("a", first, 0.5), Part("b", dotted, 0.5)], ALL, EXACT)
    assert {key.rsplit(".lora", 1)[0] for key in merged.tensors if ".lora" in key} == {LINEAR}
    assert torch.allclose(changes(merged.tensors)[LINEAR], changes(first)[LINEAR], atol=1e-6)


DORA = {**lora(1, 2), f"{LINEAR}.dora_scale": torch.ones(16, 1)}
IA3 = {f"{LINEAR}.weight": torch.zeros(16), f"{LINEAR}.on_input": torch.tensor(0.0)}
LARGER = {f"{LINEAR}.lora_up.weight": torch.zeros(20, 2), f"{LINEAR}.lora_down.weight": torch.zeros(2, 12)}


@pytest.mark.parametrize(
    ("other", "blocks", "message"),
    [
        (DORA, "", "b is a DoRA .* Apply Epoch, or all into a model's file with Merge Into Checkpoint"),
        (IA3, "", "is an IA³, which scales what the base does in b and something else in a"),
        (LARGER, "", r"is \(16, 12\) in a and \(20, 12\) in b; merge files that were trained on one family"),
        ({"weight": torch.zeros(2)}, "", "b holds no layer of an adapter"),
        (lora(2, 2), "blocks_7: 1", "'blocks_7' is part of no layer's name; the names are like mid_block_attentions_0_to_q"),
        (lora(2, 2), "mid: 0", "Nothing is left to merge"),
    ],
)
def test_what_has_no_sum_is_told(other, blocks, message):
    with pytest.raises(AthanorError, match=message):
        merge_layers([Part("a", lora(1, 2), 0.5), Part("b", other, 0.5)], read_block_weights(blocks), EXACT)


def test_vectors_are_summed_and_others_refused():
    first, second = {"clip_l": torch.ones(2, 4), "clip_g": torch.zeros(2, 6)}, {"clip_l": torch.full((2, 4), 3.0), "clip_g": torch.ones(2, 6)}
    merged = merge_vectors([Part("a", first, 0.25), Part("b", second, 0.75)])
    assert torch.equal(merged["clip_l"], torch.full((2, 4), 2.5)) and torch.equal(merged["clip_g"], torch.full((2, 6), 0.75))
    with pytest.raises(AthanorError, match=r"clip_g are \(2, 6\) in a and None in b"):
        merge_vectors([Part("a", first, 0.5), Part("b", {"clip_l": torch.ones(2, 4)}, 0.5)])
